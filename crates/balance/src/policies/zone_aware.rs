//! `zone_aware`: the fewest in flight for its weight, of two of the own zone drawn by chance, until
//! that zone is much busier than the others.
//!
//! For services that stand in several places (racks, data centres, zones of a cloud), where what
//! goes elsewhere costs time and money. `zone` is where this balancer stands; endpoints say where
//! they stand by their own `zone`. Without it, or when no endpoint is in it, the policy is
//! `least_request`.
//!
//! Two endpoints of the own zone are drawn and the less busy one is taken, and two of the others; a
//! request goes elsewhere when the near one has `spill` times as many in flight for its weight as
//! the far one would have with one more: with the default of 4, up to four in flight at each
//! endpoint stay near while the others are idle, and up to eight while those have one each. So what spills is what the near zone has too much of at this moment, measured and not
//! planned: an outage of half the zone, a burst, or too few endpoints there. It comes back by
//! itself. (Envoy's and Kubernetes' zone-aware routing plan shares from the number of endpoints
//! instead, and overload a small zone when the clients' zones differ from the endpoints'.)
//!
//! Weights are counted in terms of the average weight, so that `spill` does not depend on whether
//! they are written as 1 or as 100. An endpoint that asked to be left alone (`Retry-After`) is,
//! unless all that were drawn did: then others go before it, near or far. Constant time.

use std::sync::Arc;

use model::vocabulary::{OptionDefault, OptionInfo, OptionKind, PolicyInfo};
use model::{Instant, Load, Rng};

use crate::drawn::Drawn;
use crate::policies::PolicyEntry;
use crate::usable::Usable;
use crate::{Candidate, PickRequest, Picker, Policy};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    info: PolicyInfo {
        name: "zone_aware",
        summary: "the fewest in flight of two of the own zone, or elsewhere when that is too busy",
        options: &[
            OptionInfo {
                name: "zone",
                summary: "where this balancer stands; `none`: nowhere",
                kind: OptionKind::Text,
                default: OptionDefault::Text(NOWHERE),
            },
            OptionInfo {
                name: "spill",
                summary: "how many times as busy as elsewhere the own zone may be",
                kind: OptionKind::Float { min: 1.0, max: 1000.0 },
                default: OptionDefault::Float(4.0),
            },
        ],
    },
    make: |options| {
        let zone = options.text("zone");
        Box::new(ZoneAware {
            zone: Some(zone.to_owned()).filter(|zone| zone != NOWHERE),
            spill: options.float("spill"),
        })
    },
};

/// The name of no zone.
const NOWHERE: &str = "none";

/// As many as `least_request` draws.
const CHOICES: usize = 2;

struct ZoneAware {
    zone: Option<String>,
    spill: f64,
}

impl Policy for ZoneAware {
    fn prepare(&self, candidates: &[Candidate], _: &mut Rng) -> Box<dyn Picker> {
        let usable = Usable::of(candidates);
        let total: f64 = usable.entries().iter().map(|(_, weight)| f64::from(*weight)).sum();
        let average = total / usable.len().max(1) as f64;
        let weight = |candidate: &Candidate| f64::from(candidate.weight.max(1)) / average;
        let is_near = |position: &u32| {
            let zone = candidates[*position as usize].zone.as_deref();
            zone.is_some() && zone == self.zone.as_deref()
        };
        let (near, far) = usable.split(is_near);
        Box::new(ZoneAwarePicker {
            spill: self.spill,
            near: Drawn::among(near, CHOICES),
            far: Drawn::among(far, CHOICES),
            weights: candidates.iter().map(weight).collect(),
        })
    }
}

struct ZoneAwarePicker {
    spill: f64,
    near: Drawn,
    far: Drawn,
    /// By position, in terms of the average.
    weights: Vec<f64>,
}

impl Picker for ZoneAwarePicker {
    fn pick(&self, request: &PickRequest<'_>, loads: &[Arc<Load>], rng: &mut Rng) -> Option<u32> {
        let near = self.best(&self.near, request, loads, rng);
        let stays = |near: &Contender| {
            // With so little to do nothing spills, whatever is elsewhere.
            !near.rests && near.load < self.spill
        };
        if let Some(near) = near.filter(stays) {
            return Some(near.position);
        }
        let far = self.best(&self.far, request, loads, rng);
        let best = match (near, far) {
            (Some(near), Some(far)) if near.rests != far.rests => {
                Some(if near.rests { far } else { near })
            }
            (Some(near), Some(far)) if near.load >= self.spill * (far.load + 1.0) => Some(far),
            (near, far) => near.or(far),
        };
        let any =
            |zone: &Drawn, rng: &mut Rng| zone.usable().after(rng.next_u64(), request.exclude);
        let is_new = |position: &u32| !request.exclude.contains(position);
        best.map(|best| best.position)
            .or_else(|| any(&self.near, rng).filter(is_new))
            .or_else(|| any(&self.far, rng).filter(is_new))
            .or_else(|| any(&self.near, rng))
            .or_else(|| any(&self.far, rng))
    }
}

impl ZoneAwarePicker {
    fn best(
        &self,
        zone: &Drawn,
        request: &PickRequest<'_>,
        loads: &[Arc<Load>],
        rng: &mut Rng,
    ) -> Option<Contender> {
        let mut best: Option<Contender> = None;
        zone.show(request, loads, rng, |position| {
            // The first drawn wins a tie: it was drawn in proportion to the weights.
            let next = self.contender(position, request.now, loads);
            if best.is_none_or(|best| next.rank < best.rank) {
                best = Some(next);
            }
        });
        best
    }

    fn contender(&self, position: u32, now: Instant, loads: &[Arc<Load>]) -> Contender {
        let index = position as usize;
        let load = loads.get(index);
        let in_flight = load.map_or(0, |load| load.in_flight());
        let weight = self.weights.get(index).copied().unwrap_or(1.0);
        let in_flight = f64::from(in_flight);
        Contender {
            position,
            rests: load.is_some_and(|load| load.is_resting(now)),
            load: in_flight / weight,
            rank: if in_flight == 0.0 { 0.0 } else { (in_flight + 0.5) / weight },
        }
    }
}

#[derive(Clone, Copy)]
struct Contender {
    position: u32,
    rests: bool,
    /// In flight for its weight.
    load: f64,
    /// The same with half a request, as in `least_request`; 0 while idle.
    rank: f64,
}

#[cfg(test)]
mod tests {
    use model::vocabulary::OptionValue;

    use super::*;
    use model::{Outcome, Report};
    use std::time::Duration;

    struct World {
        picker: Box<dyn Picker>,
        loads: Vec<Arc<Load>>,
        rng: Rng,
    }

    impl World {
        /// Zones by letters, `-` for none; this balancer stands in zone `a`.
        fn new(zones: &str, weight: u16, options: &[(&str, OptionValue)]) -> Self {
            let candidates: Vec<Candidate> = zones
                .chars()
                .map(|zone| Candidate {
                    weight,
                    zone: (zone != '-').then(|| zone.to_string().into()),
                    identity_hash: 0,
                })
                .collect();
            let mut all = vec![("zone".to_owned(), OptionValue::Text("a".into()))];
            all.extend(options.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
            let mut rng = Rng::from_seed(5);
            let picker = ENTRY.build(&all).prepare(&candidates, &mut rng);
            Self { picker, loads: candidates.iter().map(|_| Arc::default()).collect(), rng }
        }

        fn pick(&mut self, exclude: &[u32]) -> usize {
            let request = PickRequest { now: Instant::ZERO, key: None, exclude };
            self.picker.pick(&request, &self.loads, &mut self.rng).unwrap() as usize
        }

        /// Gives so many, none of which ends, and says how many each has.
        fn fill(&mut self, picks: usize) -> Vec<u32> {
            for _ in 0..picks {
                let position = self.pick(&[]);
                self.loads[position].begin();
            }
            self.loads.iter().map(|load| load.in_flight()).collect()
        }
    }

    #[test]
    fn near_ones_are_preferred_until_they_are_much_busier() {
        for weight in [1, 100] {
            assert_eq!(World::new("aab-", weight, &[]).fill(8), [4, 4, 0, 0]);
            assert_eq!(World::new("aab-", weight, &[]).fill(10), [4, 4, 1, 1]);
            assert_eq!(World::new("aab-", weight, &[]).fill(18), [8, 8, 1, 1]);
            let filled = World::new("aabbbb", weight, &[]).fill(1200);
            let near: u32 = filled[..2].iter().sum();
            // Four times as many at each: two thirds.
            assert!(near.abs_diff(800) < 20, "{filled:?}");
            let spill = [("spill", OptionValue::Float(1.0))];
            let filled = World::new("aabb", weight, &spill).fill(400);
            assert!(filled.iter().all(|count| count.abs_diff(100) <= 3), "{filled:?}");
        }
    }

    #[test]
    fn within_the_zone_the_less_busy_of_two_and_weights() {
        let mut world = World::new("aab", 1, &[]);
        (0..3).for_each(|_| world.loads[0].begin());
        assert!((0..100).all(|_| world.pick(&[]) == 1));
    }

    #[test]
    fn without_a_near_one_it_goes_elsewhere() {
        let filled = World::new("bc-", 1, &[]).fill(300);
        assert!(filled.iter().all(|count| count.abs_diff(100) < 3), "{filled:?}");
        let none = [("zone", OptionValue::Text("none".into()))];
        let filled = World::new("ab", 1, &none).fill(100);
        assert!(filled[0].abs_diff(50) < 3, "of no zone");
        let mut world = World::new("aab", 1, &[]);
        assert!((0..100).all(|_| world.pick(&[0, 1]) == 2), "near ones were tried");
        assert!((0..100).all(|_| world.pick(&[0, 2]) == 1));
        assert!((0..100).all(|_| world.pick(&[0, 1, 2]) < 2), "all were tried");
    }

    #[test]
    fn one_that_rests_is_left_alone_unless_all_do() {
        let mut world = World::new("aab", 1, &[]);
        let rest = Some(Duration::from_secs(1));
        let report = Report { retry_after: rest, ..Report::new(Instant::ZERO, Outcome::Success) };
        for (resting, possible) in [(0, &[1][..]), (1, &[2]), (2, &[0, 1])] {
            world.loads[resting].begin();
            world.loads[resting].end(&report);
            assert!((0..100).all(|_| possible.contains(&world.pick(&[]))), "{resting}");
        }
    }
}
