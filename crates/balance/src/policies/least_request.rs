//! `least_request`: the endpoint with the fewest requests and connections in flight for its
//! weight, among two drawn by chance, or among all.
//!
//! For when requests or endpoints differ in speed, and for long-lived connections (`full`).
//! Comparing two random choices is almost as good as comparing all, in constant time, and does
//! not make several balancers rush to the same idle endpoint at once (Mitzenmacher, "The power
//! of two choices in randomized load balancing", IEEE TPDS 2001).
//!
//! Loads are compared as (in flight + 1/2) / weight: as in Sainte-Laguë's method of sharing out
//! seats, this favours neither small nor large weights, where (in flight + 1) would keep the
//! small ones short. Idle endpoints are all equally good, and ties go by chance in proportion to
//! the weights, so that the weights also hold while the service is idle. (HAProxy's `leastconn`
//! treats idle servers alike for the same reason.)
//!
//! An endpoint that asked to be left alone (`Retry-After`) is, unless all that were compared did.

use std::sync::Arc;

use model::vocabulary::{OptionDefault, OptionInfo, OptionKind, PolicyInfo};
use model::{Instant, Load, Rng};

use crate::alias::AliasTable;
use crate::policies::PolicyEntry;
use crate::usable::Usable;
use crate::{Candidate, PickRequest, Picker, Policy};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    info: PolicyInfo {
        name: "least_request",
        summary: "the fewest in flight for its weight, of two drawn by chance or of all",
        options: &[
            OptionInfo {
                name: "choices",
                summary: "how many endpoints are drawn and compared",
                kind: OptionKind::Integer { min: 2, max: CHOICES_MAX as u64 },
                default: OptionDefault::Integer(2),
            },
            OptionInfo {
                name: "full",
                summary: "compare all endpoints: exact, but its cost grows with their number",
                kind: OptionKind::Bool,
                default: OptionDefault::Bool(false),
            },
        ],
    },
    make: |options| {
        Box::new(LeastRequest {
            choices: options.integer("choices") as usize,
            full: options.boolean("full"),
        })
    },
};

/// More choices than this gain nothing over two that could be measured, and `full` is there.
const CHOICES_MAX: usize = 16;

/// Draws per wanted choice: repeated and excluded ones are drawn again, but not for ever.
const DRAWS_PER_CHOICE: usize = 4;

/// What `least_connections` is: the same comparison, always of all endpoints.
pub(super) fn of_all() -> Box<dyn Policy> {
    Box::new(LeastRequest { choices: 2, full: true })
}

#[derive(Clone, Copy)]
struct LeastRequest {
    choices: usize,
    full: bool,
}

impl Policy for LeastRequest {
    fn prepare(&self, candidates: &[Candidate], _: &mut Rng) -> Box<dyn Picker> {
        let usable = Usable::of(candidates);
        let table = AliasTable::new(&usable);
        let weights = candidates.iter().map(|candidate| candidate.weight.max(1)).collect();
        // Comparing all of a few is no dearer than drawing distinct ones by chance.
        let full = self.full || usable.len() <= self.choices;
        Box::new(LeastRequestPicker { choices: self.choices, full, usable, table, weights })
    }
}

struct LeastRequestPicker {
    choices: usize,
    full: bool,
    usable: Usable,
    table: AliasTable,
    /// By position.
    weights: Vec<u16>,
}

impl Picker for LeastRequestPicker {
    fn pick(&self, request: &PickRequest<'_>, loads: &[Arc<Load>], rng: &mut Rng) -> Option<u32> {
        let best = if self.full {
            self.best_of_all(request, loads, rng)
        } else {
            self.best_of_drawn(request, loads, rng)
        };
        best.or_else(|| self.usable.after(rng.next_u64(), request.exclude))
    }
}

impl LeastRequestPicker {
    /// One that rests only if all do: most of the time nobody does, and then one look is enough.
    fn best_of_all(
        &self,
        request: &PickRequest<'_>,
        loads: &[Arc<Load>],
        rng: &mut Rng,
    ) -> Option<u32> {
        let best = self.least_of(request, loads, rng, |_| true)?;
        if !rests(best, request.now, loads) {
            return Some(best);
        }
        let is_ready = |position| !rests(position, request.now, loads);
        self.least_of(request, loads, rng, is_ready).or(Some(best))
    }

    fn least_of(
        &self,
        request: &PickRequest<'_>,
        loads: &[Arc<Load>],
        rng: &mut Rng,
        is_wanted: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let mut best: Option<Contender> = None;
        let mut tied_weight = 0;
        for (position, weight) in self.usable.entries() {
            if request.exclude.contains(position) || !is_wanted(*position) {
                continue;
            }
            let next = Contender::new(*position, *weight, loads);
            match best.map(|best| next.compare(best)) {
                None | Some(std::cmp::Ordering::Less) => {
                    best = Some(next);
                    tied_weight = u64::from(*weight);
                }
                // Each of the tied ends up chosen in proportion to its weight.
                Some(std::cmp::Ordering::Equal) => {
                    tied_weight += u64::from(*weight);
                    if rng.below(tied_weight) < u64::from(*weight) {
                        best = Some(next);
                    }
                }
                Some(std::cmp::Ordering::Greater) => {}
            }
        }
        best.map(|best| best.position)
    }

    fn best_of_drawn(
        &self,
        request: &PickRequest<'_>,
        loads: &[Arc<Load>],
        rng: &mut Rng,
    ) -> Option<u32> {
        let mut drawn = [0; CHOICES_MAX];
        let mut count = 0;
        let mut best: Option<Contender> = None;
        // It asked to be left alone: whoever did not is better.
        let mut best_rests = false;
        for _ in 0..self.choices * DRAWS_PER_CHOICE {
            let position = self.table.draw(rng)?;
            if drawn[..count].contains(&position) || request.exclude.contains(&position) {
                continue;
            }
            drawn[count] = position;
            count += 1;
            // The first drawn wins a tie: it was drawn in proportion to the weights.
            let next = Contender::new(position, self.weights[position as usize], loads);
            let next_rests = rests(position, request.now, loads);
            let is_better = best.is_none_or(|best| match next_rests == best_rests {
                true => next.compare(best).is_lt(),
                false => best_rests,
            });
            if is_better {
                (best, best_rests) = (Some(next), next_rests);
            }
            if count == self.choices {
                break;
            }
        }
        best.map(|best| best.position)
    }
}

fn rests(position: u32, now: Instant, loads: &[Arc<Load>]) -> bool {
    loads.get(position as usize).is_some_and(|load| load.is_resting(now))
}

#[derive(Clone, Copy)]
struct Contender {
    position: u32,
    weight: u16,
    /// Twice what it has in flight, plus one; 0 while idle.
    load: u64,
}

impl Contender {
    fn new(position: u32, weight: u16, loads: &[Arc<Load>]) -> Self {
        let in_flight = loads.get(position as usize).map_or(0, |load| load.in_flight());
        let load = if in_flight == 0 { 0 } else { u64::from(in_flight) * 2 + 1 };
        Self { position, weight, load }
    }

    /// Which of the two has less to do for its weight, without dividing.
    fn compare(self, other: Contender) -> std::cmp::Ordering {
        let (ours, theirs) =
            (self.load * u64::from(other.weight), other.load * u64::from(self.weight));
        ours.cmp(&theirs)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::vocabulary::OptionValue;

    use super::*;
    use model::{Outcome, Report};

    /// Which positions can be picked when these are in flight.
    fn check(
        options: &[(&str, OptionValue)],
        weights: &[u16],
        in_flight: &[u32],
        possible: &[u32],
    ) {
        let options: Vec<(String, OptionValue)> =
            options.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let candidates: Vec<Candidate> = weights
            .iter()
            .map(|weight| Candidate { weight: *weight, zone: None, identity_hash: 0 })
            .collect();
        let loads: Vec<Arc<Load>> = in_flight.iter().map(|_| Arc::default()).collect();
        for (load, count) in loads.iter().zip(in_flight) {
            (0..*count).for_each(|_| load.begin());
        }
        let mut rng = Rng::from_seed(1);
        let picker = ENTRY.build(&options).prepare(&candidates, &mut rng);
        let request = PickRequest { now: Instant::ZERO, key: None, exclude: &[] };
        let mut seen: Vec<u32> =
            (0..1000).filter_map(|_| picker.pick(&request, &loads, &mut rng)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, possible, "{weights:?} with {in_flight:?} in flight");
    }

    #[test]
    fn the_least_loaded_for_its_weight_wins_and_ties_go_by_chance() {
        let full = [("full", OptionValue::Bool(true))];
        check(&full, &[1, 1, 1], &[2, 1, 2], &[1]);
        check(&full, &[1, 1, 1], &[1, 2, 1], &[0, 2]);
        check(&full, &[1, 3, 1], &[2, 6, 2], &[1]);
        check(&full, &[1, 3, 1], &[2, 8, 2], &[0, 2]);
        check(&full, &[1, 3, 1], &[2, 7, 2], &[0, 1, 2]);
        check(&full, &[1, 3, 1], &[0, 0, 0], &[0, 1, 2]);
        check(&full, &[0, 3, 1], &[0, 7, 4], &[1]);
    }

    #[test]
    fn of_two_drawn_the_most_loaded_never_wins() {
        check(&[], &[1, 1, 1], &[5, 1, 2], &[1, 2]);
        check(&[], &[1, 1], &[5, 1], &[1]);
        check(&[("choices", OptionValue::Integer(3))], &[1, 1, 1], &[5, 1, 2], &[1]);
    }

    #[test]
    fn who_rests_is_left_alone_unless_all_do() {
        let second = Duration::from_secs(1);
        for options in [&[][..], &[("full".to_owned(), OptionValue::Bool(true))]] {
            let candidates = vec![Candidate { weight: 1, zone: None, identity_hash: 0 }; 4];
            let loads: Vec<Arc<Load>> = (0..4).map(|_| Arc::default()).collect();
            let mut rng = Rng::from_seed(1);
            let picker = ENTRY.build(options).prepare(&candidates, &mut rng);
            let rest = |position: usize| {
                loads[position].begin();
                let report = Report::new(Instant::ZERO, Outcome::ServerError);
                loads[position].end(&Report { retry_after: Some(second), ..report });
            };
            // Who does not rest has the most to do.
            (0..9).for_each(|_| loads[3].begin());
            (0..3).for_each(rest);
            let mut picks = |at: Duration, exclude: &[u32]| {
                let request = PickRequest { now: Instant::ZERO + at, key: None, exclude };
                let mut picks = [0; 4];
                for _ in 0..1000 {
                    picks[picker.pick(&request, &loads, &mut rng).unwrap() as usize] += 1;
                }
                picks
            };
            let resting = picks(second / 2, &[]);
            // Two draws may both rest: a half of them at three of four.
            assert!(resting[3] > if options.is_empty() { 400 } else { 999 }, "{resting:?}");
            let all = picks(second / 2, &[3]);
            assert!(all[..3].iter().all(|count| *count > 200), "{all:?}");
            let later = picks(second, &[]);
            assert!(later[..3].iter().all(|count| *count > 200) && later[3] == 0, "{later:?}");
        }
    }
}
