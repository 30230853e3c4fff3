//! `random`: each pick is independent, in proportion to the weights.
//!
//! For when many balancers share the same endpoints and must not march in step, or as the
//! baseline to compare others with: it needs no shared state at all. Its queues are longer than
//! those of `round_robin` or `least_request` at the same load. Constant time (alias method).

use std::sync::Arc;

use model::vocabulary::PolicyInfo;
use model::{Load, Rng};

use crate::alias::AliasTable;
use crate::policies::PolicyEntry;
use crate::usable::Usable;
use crate::{Candidate, PickRequest, Picker, Policy};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    info: PolicyInfo {
        name: "random",
        summary: "by chance, in proportion to the weights",
        options: &[],
    },
    make: |_| Box::new(Random),
};

/// Draws that may hit an excluded position before any other is taken: with half of the weight
/// excluded, one request in 256 then falls back to the next one in order.
const DRAWS_MAX: usize = 8;

struct Random;

impl Policy for Random {
    fn prepare(&self, candidates: &[Candidate], _: &mut Rng) -> Box<dyn Picker> {
        let usable = Usable::of(candidates);
        Box::new(RandomPicker { table: AliasTable::new(&usable), usable })
    }
}

struct RandomPicker {
    table: AliasTable,
    usable: Usable,
}

impl Picker for RandomPicker {
    fn pick(&self, request: &PickRequest<'_>, _: &[Arc<Load>], rng: &mut Rng) -> Option<u32> {
        for _ in 0..DRAWS_MAX {
            let position = self.table.draw(rng)?;
            if !request.exclude.contains(&position) {
                return Some(position);
            }
        }
        self.usable.after(rng.next_u64(), request.exclude)
    }
}
