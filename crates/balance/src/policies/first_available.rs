//! `first_available`: fill the endpoints in order, each up to its limit.
//!
//! For when fewer endpoints in use are better than evenly used ones: licences or machines that
//! are paid while they work, caches that should stay warm, scaling in by letting the last ones
//! run idle. The order is the one in which the endpoints were first seen, so for static endpoints
//! that of the configuration. An endpoint of weight `w` takes `limit` times `w` at once; when all
//! are full, the least loaded for its weight goes beyond, since a limit that refuses is a matter
//! of the service, not of a policy. (HAProxy's `balance first` with `maxconn`.)
//!
//! Weights are sizes here, not shares. A pick looks at the full ones before the first that is not.

use std::sync::Arc;

use model::vocabulary::{OptionDefault, OptionInfo, OptionKind, PolicyInfo};
use model::{Load, Rng};

use crate::policies::PolicyEntry;
use crate::usable::Usable;
use crate::{Candidate, PickRequest, Picker, Policy};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    info: PolicyInfo {
        name: "first_available",
        summary: "fill the endpoints in order, each up to a limit in flight",
        options: &[OptionInfo {
            name: "limit",
            summary: "in flight per unit of weight, before the next endpoint is used",
            kind: OptionKind::Integer { min: 1, max: LIMIT_MAX as u64 },
            default: OptionDefault::Integer(100),
        }],
    },
    make: |options| Box::new(FirstAvailable { limit: options.integer("limit") as u32 }),
};

/// More in flight than a process has descriptors for.
const LIMIT_MAX: u32 = 1_000_000;

struct FirstAvailable {
    limit: u32,
}

impl Policy for FirstAvailable {
    fn prepare(&self, candidates: &[Candidate], _: &mut Rng) -> Box<dyn Picker> {
        self.picker(candidates, 1)
    }

    fn prepare_scaled(&self, candidates: &[Candidate], scale: u16, _: &mut Rng) -> Box<dyn Picker> {
        self.picker(candidates, scale)
    }
}

impl FirstAvailable {
    fn picker(&self, candidates: &[Candidate], scale: u16) -> Box<dyn Picker> {
        let (limit, scale) = (self.limit, scale.max(1));
        Box::new(FirstAvailablePicker { limit, scale, usable: Usable::of(candidates) })
    }
}

struct FirstAvailablePicker {
    limit: u32,
    /// Weights are in so many parts of a unit.
    scale: u16,
    usable: Usable,
}

impl Picker for FirstAvailablePicker {
    fn pick(&self, request: &PickRequest<'_>, loads: &[Arc<Load>], _: &mut Rng) -> Option<u32> {
        let mut least: Option<(u32, u64, u64)> = None;
        for (position, weight) in self.usable.entries() {
            if request.exclude.contains(position) {
                continue;
            }
            let load = loads.get(*position as usize);
            let in_flight = u64::from(load.map_or(0, |load| load.in_flight()));
            let weight = u64::from(*weight);
            if in_flight * u64::from(self.scale) < u64::from(self.limit) * weight {
                return Some(*position);
            }
            if least.is_none_or(|(_, load, of)| in_flight * of < load * weight) {
                least = Some((*position, in_flight, weight));
            }
        }
        match least {
            Some((position, ..)) => Some(position),
            None => self.usable.after(0, request.exclude),
        }
    }
}

#[cfg(test)]
mod tests {
    use model::vocabulary::OptionValue;

    use super::*;
    use model::Instant;

    fn check(limit: u64, weights: &[u16], in_flight: &[u32], exclude: &[u32], expected: u32) {
        let candidate = |weight: &u16| Candidate { weight: *weight, zone: None, identity_hash: 0 };
        let candidates: Vec<Candidate> = weights.iter().map(candidate).collect();
        let loads: Vec<Arc<Load>> = in_flight.iter().map(|_| Arc::default()).collect();
        for (load, count) in loads.iter().zip(in_flight) {
            (0..*count).for_each(|_| load.begin());
        }
        let mut rng = Rng::from_seed(1);
        let options = [("limit".to_owned(), OptionValue::Integer(limit))];
        let picker = ENTRY.build(&options).prepare(&candidates, &mut rng);
        let request = PickRequest { now: Instant::ZERO, key: None, exclude };
        let picked = picker.pick(&request, &loads, &mut rng);
        assert_eq!(picked, Some(expected), "{weights:?} with {in_flight:?} in flight");
    }

    #[test]
    fn the_first_that_is_not_full_and_beyond_the_limit_the_least_loaded() {
        check(2, &[1, 1, 1], &[0, 0, 0], &[], 0);
        check(2, &[1, 1, 1], &[1, 0, 0], &[], 0);
        check(2, &[1, 1, 1], &[2, 1, 0], &[], 1);
        check(2, &[1, 1, 1], &[1, 2, 0], &[0], 2);
        check(2, &[0, 3, 1], &[0, 5, 0], &[], 1);
        check(2, &[1, 1, 1], &[4, 2, 3], &[], 1);
        check(2, &[1, 3, 1], &[4, 7, 3], &[], 1);
        check(2, &[1, 3, 1], &[4, 7, 3], &[1], 2);
    }
}
