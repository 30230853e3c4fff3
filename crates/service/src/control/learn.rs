//! Limits that are learnt from latency.
//!
//! Requests that an endpoint cannot serve at once queue inside it, and its latency grows with
//! every further one, while its throughput does not. So the limit follows the gradient between
//! what an answer takes when little is under way and what it takes now, as in the "gradient2"
//! limit of Netflix's concurrency-limits (<https://github.com/Netflix/concurrency-limits>), with
//! the headroom of Envoy's adaptive concurrency filter, the square root of the limit. Where
//! latency grows in proportion to what is in flight, this settles at about half as much again as
//! the endpoint can serve at once, and at half as much again of its latency.
//!
//! Two things are different. The baseline of gradient2 is an average of all samples, so that it
//! creeps up as long as an overload lasts, and the limit with it. Here it follows samples that
//! were taken while less than half of the limit was in use, and every faster one. What stays slow
//! for a minute with as little under way as can be has become slower for good, and its latency is
//! the new baseline. And a limit moves only when it was in use: latency that changes while little
//! is under way has other reasons.

use std::time::Duration;

use model::Instant;
use model::spec::{ConcurrencySpec, ServiceLimitSpec};

use super::Control;
use crate::limit::{Sample, UNLIMITED};
use crate::member::Member;

/// How often limits are reconsidered: often enough to be down to a tenth within six seconds, and
/// hundreds of answers apart for those who are busy.
const EVERY: Duration = Duration::from_millis(250);

/// Answers that a sample needs; until they are there, it goes on. Their mean is then off by a
/// third at worst, where latencies are distributed exponentially.
const ANSWERS_MIN: u64 = 10;

/// At first the limit may double in a step, before smoothing, until latency answers it for the
/// first time. It begins at its minimum, since a baseline that was taken in an overload would be
/// kept.
const START: f64 = 2.0;

/// Latency may be so many times the baseline before the limit shrinks (gradient2's default).
const TOLERANCE: f64 = 1.5;

/// A limit is at most halved in one step, before smoothing.
const GRADIENT_MIN: f64 = 0.5;

/// The share of each step that is taken (gradient2's default).
const SMOOTHING: f64 = 0.2;

/// The share of a sample in the baseline, if it was taken at leisure or is faster.
const BASELINE_SHARE: f64 = 0.125;

/// A limit that is halved as often as can be still grows by its square root, and so comes no lower
/// than this, however long latency is.
const LOWEST: f64 = 4.0;

/// After so many samples in a row at the lowest limit, a minute, the baseline is what they say.
const LOWEST_SAMPLES: u32 = 240;

/// What was learnt of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Learner {
    min: f64,
    max: f64,
    limit: f64,
    /// Mean latency in microseconds while little is under way; `None` before the first sample.
    baseline_us: Option<f64>,
    /// Latency never grew yet.
    starts: bool,
    /// Samples in a row that found the limit as low as it can be.
    lowest: u32,
}

impl Learner {
    fn new(min: u32, max: u32) -> Self {
        let (min, max) = (f64::from(min), f64::from(max));
        Self { min, max, limit: min, baseline_us: None, starts: true, lowest: 0 }
    }

    fn limit(&self) -> u32 {
        self.limit as u32
    }

    fn learn(&mut self, sample: &Sample) {
        let latency_us = (sample.latency_us as f64 / sample.answers.max(1) as f64).max(1.0);
        let used = f64::from(sample.peak) * 2.0 >= self.limit;
        let baseline = self.baseline_us.get_or_insert(latency_us);
        let gradient = TOLERANCE * *baseline / latency_us;
        if latency_us < *baseline || !used {
            *baseline += BASELINE_SHARE * (latency_us - *baseline);
        }
        let is_lowest = used && gradient < 1.0 && self.limit < self.min.max(LOWEST) * 1.05;
        self.lowest = if is_lowest { self.lowest + 1 } else { 0 };
        if self.lowest >= LOWEST_SAMPLES {
            *baseline = latency_us;
            self.lowest = 0;
        }
        if used {
            self.starts &= gradient >= 1.0;
            let next = match self.starts {
                true => self.limit * START,
                false => self.limit * gradient.clamp(GRADIENT_MIN, 1.0) + self.limit.sqrt(),
            };
            self.limit += SMOOTHING * (next - self.limit);
            self.limit = self.limit.clamp(self.min, self.max);
        }
    }
}

impl Control {
    /// How often, if anything is learnt.
    pub(super) fn learns_every(&self) -> Option<Duration> {
        let learns = matches!(self.spec.limits.concurrency, Some(ConcurrencySpec::Learnt { .. }));
        (learns && !self.closed).then_some(EVERY)
    }

    /// Of a new endpoint.
    pub(super) fn learner(&self) -> Option<Learner> {
        match self.spec.limits.concurrency {
            Some(ConcurrencySpec::Learnt { min, max }) => Some(Learner::new(min, max)),
            _ => None,
        }
    }

    /// After a change of the specification. What was learnt is kept within new bounds.
    pub(super) fn set_limits(&mut self) {
        let fresh = self.learner();
        for member in self.members.values_mut() {
            member.learner = fresh.map(|fresh| match member.learner {
                Some(learner) => Learner {
                    limit: learner.limit.clamp(fresh.min, fresh.max),
                    baseline_us: learner.baseline_us,
                    starts: learner.starts,
                    lowest: 0,
                    ..fresh
                },
                None => fresh,
            });
            member.set_limit(&self.spec.limits);
        }
    }

    /// From what the counters say, of each endpoint that had enough to do.
    pub(super) fn learn(&mut self, now: Instant) {
        // Others may tick more often.
        if now.since(self.learnt_at) < EVERY {
            return;
        }
        self.learnt_at = now;
        for member in self.members.values_mut() {
            let Some(learner) = &mut member.learner else { continue };
            let Some(sample) = member.handle.limit.sample(ANSWERS_MIN) else { continue };
            let before = learner.limit();
            learner.learn(&sample);
            self.pending.room |= learner.limit() > before;
            member.set_limit(&self.spec.limits);
        }
    }
}

impl Member {
    pub(super) fn set_limit(&self, limits: &ServiceLimitSpec) {
        let most = match (limits.concurrency, &self.learner) {
            (Some(ConcurrencySpec::Fixed(most)), _) => most,
            (Some(ConcurrencySpec::Learnt { .. }), Some(learner)) => learner.limit(),
            _ => UNLIMITED,
        };
        self.handle.limit.set(most, self.learner.is_some());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An endpoint that serves so many at once, each in so many microseconds, and always has as
    /// much to do as its limit lets in, up to `offered`.
    fn steps(
        learner: &mut Learner,
        steps: usize,
        threads: f64,
        takes_us: f64,
        offered: f64,
    ) -> f64 {
        let mut latency_us = 0.0;
        for _ in 0..steps {
            let in_flight = learner.limit.floor().min(offered);
            latency_us = takes_us * (in_flight / threads).max(1.0);
            let sample = Sample {
                answers: 100,
                latency_us: (100.0 * latency_us) as u64,
                peak: in_flight as u32,
            };
            learner.learn(&sample);
        }
        latency_us / takes_us
    }

    #[test]
    fn it_finds_what_an_endpoint_can_bear_and_keeps_its_latency() {
        for threads in [2.0, 10.0, 100.0] {
            let mut learner = Learner::new(1, 1000);
            // An hour of overload.
            let slowed = steps(&mut learner, 4 * 3600, threads, 10_000.0, 1e6);
            let limit = learner.limit;
            assert!(limit >= threads && limit < 1.5 * threads + 15.0, "{threads}: {limit}");
            // Headroom weighs more where there is little to begin with.
            assert!(slowed < 1.5 + 5.0 / threads.sqrt(), "{threads}: {slowed}");
        }
    }

    #[test]
    fn a_brown_out_cuts_it_down_and_its_end_brings_it_back() {
        let mut learner = Learner::new(4, 1000);
        steps(&mut learner, 400, 100.0, 10_000.0, 40.0);
        let well = learner.limit;
        steps(&mut learner, 40, 10.0, 100_000.0, 1e6);
        let brown = learner.limit;
        assert!(brown < 12.0, "{well} -> {brown}");
        steps(&mut learner, 400, 100.0, 10_000.0, 1e6);
        assert!(learner.limit > 100.0, "{brown} -> {}", learner.limit);
    }

    #[test]
    fn it_moves_only_when_it_is_used_and_within_its_bounds() {
        let mut learner = Learner::new(4, 30);
        steps(&mut learner, 100, 1000.0, 10_000.0, 5.0);
        assert!((10..=12).contains(&learner.limit()), "{learner:?}: five were in use");
        steps(&mut learner, 100, 1000.0, 10_000.0, 1e6);
        assert_eq!(learner.limit(), 30);
        steps(&mut learner, 200, 1.0, 1e6, 1e6);
        assert_eq!(learner.limit(), 4);
    }

    #[test]
    fn an_endpoint_that_stays_slower_is_taken_as_it_is() {
        let mut learner = Learner::new(4, 1000);
        steps(&mut learner, 400, 100.0, 10_000.0, 40.0);
        steps(&mut learner, 200, 100.0, 100_000.0, 1e6);
        let at_first = learner.limit;
        steps(&mut learner, 4 * 1800, 100.0, 100_000.0, 1e6);
        assert!(at_first < 12.0 && learner.limit > 100.0, "{at_first} -> {}", learner.limit);
    }
}
