//! `resource`: the endpoint with the most headroom, by what endpoints say of their own resources,
//! of two drawn by chance.
//!
//! For when requests cost so differently, or machines do so much else, that requests in flight and
//! latencies say little: encoding, queries, models, several services on one machine. An endpoint
//! says how much of its CPU, its memory, or its application's own measure is in use, with its
//! answers (a header or trailer in the ORCA format: Open Request Cost Aggregation, which gRPC and
//! Envoy know), by a health agent, or by container statistics; what counts is the scarcest of
//! them (the application's measure goes before the CPU).
//!
//! * **The choice** is that of `least_request`, by (in flight + 1/2) / (weight x headroom), where
//!   headroom is the part that is not in use. So requests in flight follow the headroom, and
//!   between two reports not everybody runs to the same endpoint: each request that is given to it
//!   makes it dearer. Idle ones whose headroom is nearly the same share by weight. From 95 % on
//!   headroom falls with the square of utilization, so that those who report more than all
//!   still compare.
//! * **What is older than `stale`**, or was never said, counts as the average of what the others
//!   say. Endpoints that say nothing at all are balanced as by `least_request`.
//! * **Failing fast does not pay**: one that answers errors has idle resources. The headroom is
//!   multiplied by the square of the share of requests that succeed, as in `peak_ewma`, and
//!   failures are forgiven over `stale`. (gRPC's and Envoy's `weighted_round_robin`, gRFC A58, adds
//!   errors to the utilization instead, which is not enough where an idle endpoint goes before a
//!   busy one.)
//! * An endpoint that asked to be left alone (`Retry-After`) is, unless all that were drawn did.
//!
//! Constant time. Two choices among stale reports, rather than the best of all: Mitzenmacher, "How
//! useful is old information?", IEEE TPDS 2000.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use model::vocabulary::{OptionDefault, OptionInfo, OptionKind, PolicyInfo};
use model::{Instant, Load, Outcome, Report, Rng};

use crate::drawn::{CHOICES_MAX, Drawn};
use crate::learnt::{ByIdentity, Failing, micros};
use crate::policies::PolicyEntry;
use crate::{Candidate, PickRequest, Picker, Policy, Tracker};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    info: PolicyInfo {
        name: "resource",
        summary: "the most headroom by what endpoints say of themselves, of two drawn by chance",
        options: &[
            OptionInfo {
                name: "choices",
                summary: "how many endpoints are drawn and compared",
                kind: OptionKind::Integer { min: 2, max: CHOICES_MAX as u64 },
                default: OptionDefault::Integer(2),
            },
            OptionInfo {
                name: "stale",
                summary: "what was said longer ago counts as not known",
                kind: OptionKind::Duration,
                default: OptionDefault::Duration(Duration::from_secs(10)),
            },
        ],
    },
    make: |options| {
        Box::new(Resource {
            choices: options.integer("choices") as usize,
            stale: options.duration("stale"),
            average: Arc::default(),
            failing: ByIdentity::default(),
        })
    },
};

/// Idle endpoints whose headroom differs by less than this factor are alike.
const ALIKE: f64 = 1.25;

/// From this utilization on headroom is no difference any more.
const NEARLY_ALL: f64 = 0.95;

struct Resource {
    choices: usize,
    stale: Duration,
    average: Arc<Average>,
    failing: ByIdentity<Failing>,
}

impl Policy for Resource {
    fn prepare(&self, candidates: &[Candidate], _: &mut Rng) -> Box<dyn Picker> {
        Box::new(ResourcePicker {
            stale: self.stale,
            stale_us: self.stale.as_micros().max(1) as f64,
            drawn: Drawn::new(candidates, self.choices),
            weights: candidates.iter().map(|candidate| candidate.weight.max(1)).collect(),
            average: self.average.clone(),
            failing: self.failing.of(candidates),
        })
    }
}

struct ResourcePicker {
    stale: Duration,
    stale_us: f64,
    drawn: Drawn,
    /// By position, as `failing`.
    weights: Vec<u16>,
    average: Arc<Average>,
    failing: Vec<Arc<Failing>>,
}

impl Picker for ResourcePicker {
    fn pick(&self, request: &PickRequest<'_>, loads: &[Arc<Load>], rng: &mut Rng) -> Option<u32> {
        let mut best: Option<Contender> = None;
        self.drawn.show(request, loads, rng, |position| {
            // The first of those that are alike wins: it was drawn in proportion to the weights.
            let next = self.contender(position, request.now, loads);
            if best.is_none_or(|best| next.is_better(best)) {
                best = Some(next);
            }
        });
        let best = best.map(|best| best.position);
        best.or_else(|| self.drawn.usable().after(rng.next_u64(), request.exclude))
    }

    fn tracker(&self, position: u32) -> Option<Arc<dyn Tracker>> {
        let failing = self.failing.get(position as usize)?.clone();
        Some(Arc::new(ResourceTracker { failing, stale_us: self.stale_us }))
    }
}

impl ResourcePicker {
    fn contender(&self, position: u32, now: Instant, loads: &[Arc<Load>]) -> Contender {
        let index = position as usize;
        let load = loads.get(index);
        let said = load.and_then(|load| load.utilization());
        let said = said.filter(|(_, at)| now.since(*at) <= self.stale);
        let used = said.and_then(|(utilization, _)| utilization.scarcest());
        let used = match used {
            Some(used) => {
                let used = f64::from(used) / 1000.0;
                self.average.learn(used, micros(now));
                used
            }
            None => self.average.used(),
        };
        let worth = self.failing.get(index).map_or(1.0, |f| f.worth(micros(now), self.stale_us));
        Contender {
            position,
            in_flight: load.map_or(0, |load| load.in_flight()),
            headroom: headroom(used) * worth,
            weight: f64::from(self.weights.get(index).copied().unwrap_or(1)),
        }
    }
}

/// 1 when nothing is in use; never 0.
fn headroom(used: f64) -> f64 {
    if used <= NEARLY_ALL {
        return 1.0 - used;
    }
    let over = NEARLY_ALL / used;
    (1.0 - NEARLY_ALL) * over * over
}

#[derive(Clone, Copy)]
struct Contender {
    position: u32,
    in_flight: u32,
    headroom: f64,
    weight: f64,
}

impl Contender {
    fn is_better(self, other: Contender) -> bool {
        if self.in_flight == 0 && other.in_flight == 0 {
            return self.headroom > other.headroom * ALIKE;
        }
        self.cost() < other.cost()
    }

    fn cost(self) -> f64 {
        (f64::from(self.in_flight) + 0.5) / (self.weight * self.headroom)
    }
}

/// Of all that endpoints say, by those that were drawn.
#[derive(Default)]
#[repr(align(128))]
struct Average {
    /// Bits of an `f64`.
    used: AtomicU64,
    /// 0: never.
    learnt_us: AtomicU64,
}

impl Average {
    fn used(&self) -> f64 {
        f64::from_bits(self.used.load(Relaxed))
    }

    fn learn(&self, used: f64, now_us: u64) {
        let learnt_us = self.learnt_us.load(Relaxed);
        // More often nothing is learnt that would be worth a write that all workers see.
        if learnt_us != 0 && now_us < learnt_us + LEARN_PAUSE_US {
            return;
        }
        let mean = self.used();
        let next = if learnt_us == 0 { used } else { mean + (used - mean) * LEARN_GAIN };
        self.used.store(next.to_bits(), Relaxed);
        self.learnt_us.store(now_us, Relaxed);
    }
}

const LEARN_PAUSE_US: u64 = 1000;

/// Of some twenty endpoints drawn.
const LEARN_GAIN: f64 = 0.05;

struct ResourceTracker {
    failing: Arc<Failing>,
    stale_us: f64,
}

impl Tracker for ResourceTracker {
    fn report(&self, report: &Report) {
        if report.outcome != Outcome::Abandoned {
            self.failing.report(report.outcome.is_failure(), micros(report.now), self.stale_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Utilization;

    const S: Duration = Duration::from_secs(1);

    struct World {
        picker: Box<dyn Picker>,
        loads: Vec<Arc<Load>>,
        rng: Rng,
        now: Instant,
    }

    impl World {
        /// What is in use of each, in thousandths.
        fn new(used: &[Option<u16>]) -> Self {
            let mut rng = Rng::from_seed(5);
            let candidate = |hash| Candidate { weight: 1, zone: None, identity_hash: hash };
            let candidates: Vec<Candidate> = (0..used.len() as u64).map(candidate).collect();
            let now = Instant::ZERO + S;
            let loads: Vec<Arc<Load>> = used.iter().map(|_| Arc::default()).collect();
            for (load, used) in loads.iter().zip(used) {
                if used.is_some() {
                    load.utilize(Utilization { cpu: *used, ..Utilization::default() }, now);
                }
            }
            let picker = ENTRY.build(&[]).prepare(&candidates, &mut rng);
            Self { picker, loads, rng, now }
        }

        fn pick(&mut self) -> usize {
            let request = PickRequest { now: self.now, key: None, exclude: &[] };
            self.picker.pick(&request, &self.loads, &mut self.rng).unwrap() as usize
        }

        fn counts(&mut self, picks: usize) -> Vec<usize> {
            let mut counts = vec![0; self.loads.len()];
            (0..picks).for_each(|_| counts[self.pick()] += 1);
            counts
        }

        /// Gives so many, none of which ends, and says how many each has.
        fn fill(&mut self, picks: usize) -> Vec<u32> {
            for _ in 0..picks {
                let position = self.pick();
                self.loads[position].begin();
            }
            self.loads.iter().map(|load| load.in_flight()).collect()
        }
    }

    #[test]
    fn in_flight_follows_headroom() {
        let filled = World::new(&[Some(200), Some(600)]).fill(300);
        assert_eq!(filled, [200, 100]);
        let filled = World::new(&[Some(200), Some(200), Some(600), Some(900)]).fill(2100);
        for (count, expected) in filled.iter().zip([800u32, 800, 400, 100]) {
            assert!(count.abs_diff(expected) <= 20, "{filled:?}");
        }
        // More than all still compares.
        let filled = World::new(&[Some(1000), Some(2000)]).fill(500);
        assert_eq!(filled, [400, 100]);
    }

    #[test]
    fn idle_ones_that_are_alike_share_and_those_with_less_are_spared() {
        let counts = World::new(&[Some(200), Some(300), Some(900)]).counts(3000);
        assert!(counts[0] > 1200 && counts[1] > 1200 && counts[2] == 0, "{counts:?}");
    }

    #[test]
    fn what_is_unknown_or_stale_is_average() {
        let mut world = World::new(&[None, None]);
        let counts = world.counts(2000);
        assert!(counts.iter().all(|count| *count > 800), "{counts:?}");
        let filled = World::new(&[None, Some(500), Some(500)]).fill(300);
        assert_eq!(filled, [100, 100, 100]);
        let mut world = World::new(&[Some(900), Some(100)]);
        world.now += S * 10;
        assert_eq!(world.counts(100), [0, 100]);
        let now = world.now;
        world.loads[1].utilize(Utilization { cpu: Some(100), ..Utilization::default() }, now);
        // The first one's word is too old: what is known is the other's.
        for _ in 0..200 {
            world.now += Duration::from_millis(5);
            world.pick();
        }
        let counts = world.counts(2000);
        assert!(counts.iter().all(|count| *count > 800), "{counts:?}");
    }

    #[test]
    fn one_that_fails_fast_is_spared_though_its_resources_are_idle() {
        let mut world = World::new(&[Some(50), Some(700), Some(700)]);
        for _ in 0..100 {
            let report = Report::new(world.now, Outcome::ServerError);
            world.picker.tracker(0).unwrap().report(&report);
        }
        assert_eq!(world.counts(1000)[0], 0);
        assert!(world.fill(200)[0] <= 1);
        // Time forgives.
        let mut world = World::new(&[Some(50), Some(50)]);
        let report = Report::new(world.now, Outcome::ServerError);
        (0..100).for_each(|_| world.picker.tracker(0).unwrap().report(&report));
        world.now += S * 60;
        assert!(world.counts(1000)[0] > 300);
    }

    #[test]
    fn one_that_rests_is_left_alone_unless_all_do() {
        let mut world = World::new(&[Some(100), Some(800)]);
        let report = Report::new(world.now, Outcome::Success);
        let rest = Report { retry_after: Some(S), ..report };
        world.loads[0].begin();
        world.loads[0].end(&rest);
        assert_eq!(world.counts(100), [0, 100]);
        world.loads[1].begin();
        world.loads[1].end(&rest);
        assert!(world.counts(100).iter().all(|count| *count > 20));
    }
}
