//! `response_time`: by chance, in proportion to how quickly endpoints answer, and to their weights.
//!
//! For requests, when endpoints differ in speed for long: machines of several generations, one in
//! another place. An endpoint whose answers take twice the time gets half the requests, so that all
//! have about equally many in flight. Nothing is compared, everything is drawn: there is no herd
//! that runs to the fastest, and the others stay measured. (The idea is that of nginx Plus'
//! `least_time`, which takes the one that is best at the moment, and of HAProxy's `fastest` agents.)
//! For one that turns slow within seconds, `peak_ewma` is the better choice: it sees what is in
//! flight, and leaves such an endpoint nearly alone, where this policy goes on giving it its share.
//!
//! * **The time** is the mean of successful answers to their first byte, in which each counts for
//!   an eighth, or more if those before it are old: what is a `decay` old counts for less than half.
//!   Answers to probes count alike, where something probes.
//! * **Silence counts.** While requests are in flight and none is answered, the time since that was
//!   first seen is a measurement too; and when a request ends by a time-out, or by a client that
//!   gave up, that time is taken for an answer.
//! * **Failing fast does not pay.** The share is multiplied by the square of the share of requests
//!   that succeed (half failing: a quarter; all: a thousandth), until time forgives, over `decay`.
//! * **What is not known is average.** A new endpoint gets its weight's share. One that was not
//!   measured for `decay`, since it was so slow or nobody asks, is believed less and less over
//!   another `decay`: it comes back to an average share, one request at a time.
//! * An endpoint that asked to be left alone (`Retry-After`) is, unless all did.
//!
//! Of up to 16 endpoints each has exactly that share. Of more, `choices` are drawn by weight, and
//! one of these by speed, in constant time: slow ones then get a little more than their exact share.
//! Streams that report no latency are shared by weight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use model::vocabulary::{OptionDefault, OptionInfo, OptionKind, PolicyInfo};
use model::{Instant, Load, Outcome, ProbeAnswer, Report, Rng};

use crate::alias::AliasTable;
use crate::learnt::{ByIdentity, Failing, GAIN, kept, micros};
use crate::policies::PolicyEntry;
use crate::usable::Usable;
use crate::{Candidate, PickRequest, Picker, Policy, Tracker};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    info: PolicyInfo {
        name: "response_time",
        summary: "by chance, in proportion to weight and speed: half as quick, half as many",
        options: &[
            OptionInfo {
                name: "choices",
                summary: "of more than 16 endpoints, how many are drawn and weighed up",
                kind: OptionKind::Integer { min: 2, max: FEW as u64 },
                default: OptionDefault::Integer(8),
            },
            OptionInfo {
                name: "decay",
                summary: "how long an answer or a failure is remembered",
                kind: OptionKind::Duration,
                default: OptionDefault::Duration(Duration::from_secs(5)),
            },
        ],
    },
    make: |options| {
        Box::new(ResponseTime {
            choices: options.integer("choices") as usize,
            decay: options.duration("decay"),
            estimates: ByIdentity::default(),
        })
    },
};

/// So many are all looked at.
const FEW: usize = 16;

/// Draws per wanted choice: excluded ones are drawn again, but not for ever.
const DRAWS_PER_CHOICE: usize = 4;

struct ResponseTime {
    choices: usize,
    decay: Duration,
    estimates: ByIdentity<Estimate>,
}

impl Policy for ResponseTime {
    fn prepare(&self, candidates: &[Candidate], _: &mut Rng) -> Box<dyn Picker> {
        let usable = Usable::of(candidates);
        Box::new(ResponseTimePicker {
            choices: self.choices,
            decay_us: self.decay.as_micros().max(1) as f64,
            table: AliasTable::new(&usable),
            usable,
            estimates: self.estimates.of(candidates),
        })
    }
}

struct ResponseTimePicker {
    choices: usize,
    decay_us: f64,
    usable: Usable,
    table: AliasTable,
    /// By position.
    estimates: Vec<Arc<Estimate>>,
}

impl Picker for ResponseTimePicker {
    fn pick(&self, request: &PickRequest<'_>, loads: &[Arc<Load>], rng: &mut Rng) -> Option<u32> {
        let mut lots = Lots::default();
        if self.usable.len() <= FEW {
            for (position, weight) in self.usable.entries() {
                self.add(&mut lots, *position, *weight, request, loads);
            }
        } else {
            for _ in 0..self.choices * DRAWS_PER_CHOICE {
                // Repetitions are as they should be: so each keeps its weight's share.
                let position = self.table.draw(rng)?;
                self.add(&mut lots, position, 1, request, loads);
                if lots.count == self.choices {
                    break;
                }
            }
        }
        let drawn = lots.draw(rng).or(lots.resting);
        drawn.or_else(|| self.usable.after(rng.next_u64(), request.exclude))
    }

    fn tracker(&self, position: u32) -> Option<Arc<dyn Tracker>> {
        let estimate = self.estimates.get(position as usize)?.clone();
        Some(Arc::new(ResponseTimeTracker { estimate, decay_us: self.decay_us }))
    }
}

impl ResponseTimePicker {
    fn add(
        &self,
        lots: &mut Lots,
        position: u32,
        weight: u16,
        request: &PickRequest<'_>,
        loads: &[Arc<Load>],
    ) {
        if request.exclude.contains(&position) {
            return;
        }
        let index = position as usize;
        let (Some(load), Some(estimate)) = (loads.get(index), self.estimates.get(index)) else {
            return;
        };
        if load.is_resting(request.now) {
            lots.resting.get_or_insert(position);
            return;
        }
        let view = estimate.look(load.in_flight(), request.now, self.decay_us);
        lots.add(Lot { position, weight: f64::from(weight), view });
    }
}

/// Those among which chance decides.
#[derive(Default)]
struct Lots {
    lots: [Lot; FEW],
    count: usize,
    /// One that would have been among them.
    resting: Option<u32>,
}

#[derive(Clone, Copy, Default)]
struct Lot {
    position: u32,
    weight: f64,
    view: View,
}

/// What is known of an endpoint at this moment.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
struct View {
    /// Answers per microsecond, if one was measured.
    speed: f64,
    /// How much of that still holds: 0 (nothing is known) to 1.
    known: f64,
    /// More than this its speed cannot be; infinite while it is not silent.
    speed_max: f64,
    /// For its failures: 1 without any.
    worth: f64,
}

impl Lots {
    fn add(&mut self, lot: Lot) {
        if let Some(place) = self.lots.get_mut(self.count) {
            *place = lot;
            self.count += 1;
        }
    }

    fn draw(&mut self, rng: &mut Rng) -> Option<u32> {
        let lots = &mut self.lots[..self.count];
        let (mut speeds, mut knowns) = (0.0, 0.0);
        for Lot { weight, view, .. } in &*lots {
            speeds += view.speed * view.known * weight;
            knowns += view.known * weight;
        }
        let average = if knowns > 0.0 { speeds / knowns } else { 0.0 };
        let mut total = 0.0;
        for Lot { weight, view, .. } in &mut *lots {
            let speed = if knowns > 0.0 {
                let believed = view.speed * view.known + average * (1.0 - view.known);
                believed.min(view.speed_max)
            } else {
                // Nothing to compare a silence with: these may be streams.
                1.0
            };
            *weight *= speed * view.worth;
            total += *weight;
        }
        let mut left = rng.unit() * total;
        for lot in &*lots {
            left -= lot.weight;
            if left < 0.0 {
                return Some(lot.position);
            }
        }
        // What rounding left over.
        lots.last().map(|lot| lot.position)
    }
}

/// What is known of one endpoint. Workers may overwrite each other's measurement: harmless for an
/// estimate.
#[derive(Default)]
#[repr(align(64))]
struct Estimate {
    /// Bits of an `f64`, in microseconds; 0: nothing was measured yet.
    mean_us: AtomicU64,
    measured_us: AtomicU64,
    /// When it was first seen busy since it was idle, or a request was last answered; 0: it was not.
    silent_since_us: AtomicU64,
    failing: Failing,
}

impl Estimate {
    fn look(&self, in_flight: u32, now: Instant, decay_us: f64) -> View {
        let now_us = micros(now);
        let mean = f64::from_bits(self.mean_us.load(Relaxed));
        let since = self.silent_since_us.load(Relaxed);
        let mut speed_max = f64::INFINITY;
        if in_flight == 0 {
            if since != 0 {
                self.silent_since_us.store(0, Relaxed);
            }
        } else if since == 0 {
            self.silent_since_us.store(now_us, Relaxed);
        } else {
            let silent = now_us.saturating_sub(since);
            if silent > 0 {
                speed_max = 1.0 / silent as f64;
            }
        }
        let worth = self.failing.worth(now_us, decay_us);
        if mean <= 0.0 {
            return View { speed: 0.0, known: 0.0, speed_max, worth };
        }
        let age = now_us.saturating_sub(self.measured_us.load(Relaxed)) as f64 / decay_us;
        // While one is under way, it is what will be known.
        let known = if age > 1.0 && in_flight == 0 { kept(age - 1.0) } else { 1.0 };
        View { speed: 1.0 / mean, known, speed_max, worth }
    }

    fn observe(&self, sample_us: f64, now_us: u64, decay_us: f64) {
        let mean = f64::from_bits(self.mean_us.load(Relaxed));
        let age = now_us.saturating_sub(self.measured_us.load(Relaxed)) as f64 / decay_us;
        let gain = if mean > 0.0 { GAIN.max(1.0 - kept(age)) } else { 1.0 };
        let mean = mean + (sample_us.max(1.0) - mean) * gain;
        self.mean_us.store(mean.to_bits(), Relaxed);
        self.measured_us.store(now_us, Relaxed);
    }

    fn report(&self, report: &Report, decay_us: f64) {
        let now_us = micros(report.now);
        let since = self.silent_since_us.load(Relaxed);
        // Waiting in vain ends no silence.
        let answered = !matches!(report.outcome, Outcome::Abandoned | Outcome::TimedOut);
        if since != 0 && answered {
            self.silent_since_us.store(0, Relaxed);
        }
        if report.outcome != Outcome::Abandoned {
            self.failing.report(report.outcome.is_failure(), now_us, decay_us);
        }
        match (report.outcome, report.latency) {
            (Outcome::Success, Some(latency)) => {
                self.observe(latency.as_micros() as f64, now_us, decay_us);
            }
            (Outcome::Abandoned | Outcome::TimedOut, _) if since != 0 => {
                let mean = f64::from_bits(self.mean_us.load(Relaxed));
                let waited = now_us.saturating_sub(since) as f64;
                // Less would say nothing, and of streams nothing was measured.
                if mean > 0.0 && waited > mean {
                    self.observe(waited, now_us, decay_us);
                }
            }
            _ => {}
        }
    }
}

struct ResponseTimeTracker {
    estimate: Arc<Estimate>,
    decay_us: f64,
}

impl Tracker for ResponseTimeTracker {
    fn report(&self, report: &Report) {
        self.estimate.report(report, self.decay_us);
    }

    fn probed(&self, answer: &ProbeAnswer) {
        let latency = answer.latency.as_micros() as f64;
        self.estimate.observe(latency, micros(answer.now), self.decay_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Endpoints that answer one request after the other, each after its time.
    struct World {
        picker: Box<dyn Picker>,
        loads: Vec<Arc<Load>>,
        rng: Rng,
        now: Instant,
    }

    impl World {
        fn new(weights: &[u16]) -> Self {
            let candidates: Vec<Candidate> = (1u64..)
                .zip(weights)
                .map(|(hash, weight)| Candidate {
                    weight: *weight,
                    zone: None,
                    identity_hash: hash,
                })
                .collect();
            let mut rng = Rng::from_seed(5);
            let picker = ENTRY.build(&[]).prepare(&candidates, &mut rng);
            let loads = weights.iter().map(|_| Arc::default()).collect();
            Self { picker, loads, rng, now: Instant::ZERO + MS }
        }

        fn pick(&mut self) -> usize {
            let request = PickRequest { now: self.now, key: None, exclude: &[] };
            self.picker.pick(&request, &self.loads, &mut self.rng).unwrap() as usize
        }

        fn report(&mut self, position: usize, report: Report) {
            self.loads[position].end(&report);
            self.picker.tracker(position as u32).unwrap().report(&report);
        }

        /// Requests one by one, each `every`; the clock does not wait for their answers.
        fn run(
            &mut self,
            requests: u32,
            every: Duration,
            serve: impl Fn(usize) -> (Outcome, Duration),
        ) -> Vec<u32> {
            let mut counts = vec![0; self.loads.len()];
            for _ in 0..requests {
                self.now += every;
                let position = self.pick();
                counts[position] += 1;
                self.loads[position].begin();
                let (outcome, latency) = serve(position);
                self.report(position, Report::new(self.now, outcome).after(Some(latency)));
            }
            counts
        }
    }

    fn check(counts: &[u32], shares: &[f64]) {
        let (total, parts): (u32, f64) = (counts.iter().sum(), shares.iter().sum());
        for (count, share) in counts.iter().zip(shares) {
            let expected = f64::from(total) * share / parts;
            let off = (f64::from(*count) - expected).abs();
            assert!(off < expected * 0.1 + f64::from(total) * 0.005, "{counts:?} for {shares:?}");
        }
    }

    #[test]
    fn shares_are_weight_by_time() {
        let mut world = World::new(&[1, 1, 3]);
        let counts = world.run(30_000, MS, |at| (Outcome::Success, MS * [10, 20, 40][at]));
        check(&counts, &[1.0 / 10.0, 1.0 / 20.0, 3.0 / 40.0]);
        // Of more than are all looked at: nearly.
        let mut world = World::new(&[1; 40]);
        let time = |at| if at < 20 { MS * 10 } else { MS * 20 };
        let counts = world.run(80_000, MS, |at| (Outcome::Success, time(at)));
        check(&[counts[..20].iter().sum(), counts[20..].iter().sum()], &[0.655, 0.345]);
    }

    #[test]
    fn one_that_fails_fast_is_not_preferred() {
        for outcome in [Outcome::ServerError, Outcome::ConnectFailed, Outcome::Broken] {
            let mut world = World::new(&[1; 5]);
            let counts = world.run(60_000, MS, |at| match at {
                0 => (outcome, MS / 10),
                _ => (Outcome::Success, MS * 5),
            });
            assert!((1..200).contains(&counts[0]), "{outcome:?}: {counts:?}");
        }
    }

    #[test]
    fn a_new_one_is_average_and_probes_count() {
        let mut world = World::new(&[1; 3]);
        for (at, latency) in [(0, MS * 10), (1, MS * 10)] {
            world.loads[at].begin();
            world.report(at, Report::new(world.now, Outcome::Success).after(Some(latency)));
        }
        let mut counts = [0; 3];
        (0..30_000).for_each(|_| counts[world.pick()] += 1);
        check(&counts, &[1.0, 1.0, 1.0]);
        let answer = ProbeAnswer { now: world.now, in_flight: 0, latency: MS * 40 };
        world.picker.tracker(2).unwrap().probed(&answer);
        let mut counts = [0; 3];
        (0..30_000).for_each(|_| counts[world.pick()] += 1);
        check(&counts, &[4.0, 4.0, 1.0]);
    }

    #[test]
    fn one_that_was_slow_comes_back_within_four_decays() {
        for every in [MS, MS * 5, MS * 50, MS * 500] {
            let mut world = World::new(&[1; 5]);
            let second = Duration::from_secs(1);
            let requests = |time: Duration| (time.as_micros() / every.as_micros()) as u32;
            world.run(requests(20 * second), every, |_| (Outcome::Success, MS * 20));
            let slow = |at| (Outcome::Success, if at == 0 { MS * 2000 } else { MS * 20 });
            let counts = world.run(requests(60 * second), every, slow);
            assert!(counts[0] * 20 < counts[1] || every > MS * 50, "{every:?}: {counts:?}");
            world.run(requests(20 * second), every, |_| (Outcome::Success, MS * 20));
            let counts = world.run(requests(300 * second), every, |_| (Outcome::Success, MS * 20));
            check(&[counts[0], counts[1..].iter().sum()], &[1.0, 4.0]);
        }
    }

    #[test]
    fn silence_is_a_measurement_and_waiting_in_vain_too() {
        let mut world = World::new(&[1; 2]);
        world.run(1000, MS, |_| (Outcome::Success, MS * 10));
        world.loads[0].begin();
        world.pick();
        world.now += MS * 990;
        let mut counts = [0; 2];
        (0..10_000).for_each(|_| counts[world.pick()] += 1);
        check(&counts, &[1.0 / 990.0, 1.0 / 10.0]);
        let before = world.loads[0].latency();
        world.report(0, Report::new(world.now, Outcome::Abandoned));
        assert_eq!(world.loads[0].latency(), before);
        let mut counts = [0; 2];
        (0..10_000).for_each(|_| counts[world.pick()] += 1);
        assert!(counts[0] * 8 < counts[1], "{counts:?}");
    }

    #[test]
    fn one_that_rests_is_left_alone_unless_all_do() {
        let mut world = World::new(&[1; 3]);
        let rest =
            Report { retry_after: Some(MS * 100), ..Report::new(world.now, Outcome::Success) };
        world.loads[1].begin();
        world.report(1, rest);
        assert!((0..1000).all(|_| world.pick() != 1));
        for at in [0, 2] {
            world.loads[at].begin();
            world.report(at, rest);
        }
        world.pick();
        world.now += MS * 100;
        assert!((0..1000).any(|_| world.pick() == 1));
    }
}
