use std::sync::Arc;

use crate::alias::AliasTable;
use crate::usable::Usable;
use crate::{Candidate, PickRequest};
use model::{Load, Rng};

/// The most that are compared: more gain nothing over two that could be measured.
pub(crate) const CHOICES_MAX: usize = 16;

/// Draws per wanted choice: repeated and excluded ones are drawn again, but not for ever.
const DRAWS_PER_CHOICE: usize = 4;

/// A few candidates to compare, drawn by chance in proportion to their weights.
pub(crate) struct Drawn {
    usable: Usable,
    table: AliasTable,
    choices: usize,
}

impl Drawn {
    pub(crate) fn new(candidates: &[Candidate], choices: usize) -> Self {
        let usable = Usable::of(candidates);
        Self::among(usable, choices)
    }

    pub(crate) fn among(usable: Usable, choices: usize) -> Self {
        Self { table: AliasTable::new(&usable), usable, choices: choices.min(CHOICES_MAX) }
    }

    pub(crate) fn usable(&self) -> &Usable {
        &self.usable
    }

    /// Shows `look` so many different ones, none of them excluded, the first drawn first. One that
    /// asked to be left alone is shown only if no other was found. Where there are no more than
    /// choices, it is all of them, from one drawn by weight on: comparing all of a few is no dearer
    /// than drawing distinct ones.
    pub(crate) fn show(
        &self,
        request: &PickRequest<'_>,
        loads: &[Arc<Load>],
        rng: &mut Rng,
        mut look: impl FnMut(u32),
    ) {
        let rests = |position: u32| {
            loads.get(position as usize).is_some_and(|load| load.is_resting(request.now))
        };
        let mut resting = None;
        let mut seen = [0; CHOICES_MAX];
        let mut count = 0;
        for _ in 0..self.choices * DRAWS_PER_CHOICE {
            let Some(position) = self.table.draw(rng) else { return };
            if seen[..count].contains(&position) || request.exclude.contains(&position) {
                continue;
            }
            if rests(position) {
                resting = resting.or(Some(position));
                continue;
            }
            look(position);
            seen[count] = position;
            count += 1;
            if count == self.choices.min(self.usable.len()) {
                return;
            }
        }
        if self.usable.len() <= self.choices {
            // Light ones may not have been drawn.
            for (position, _) in self.usable.entries() {
                if !seen[..count].contains(position) && !request.exclude.contains(position) {
                    if rests(*position) {
                        resting = resting.or(Some(*position));
                    } else {
                        look(*position);
                        count += 1;
                    }
                }
            }
        }
        if count == 0 {
            resting.into_iter().for_each(look);
        }
    }
}
