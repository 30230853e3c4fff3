//! `peak_ewma`: the endpoint that is expected to answer soonest, of two drawn by chance.
//!
//! For requests, when endpoints differ in speed or one may turn slow at any time. An endpoint's
//! cost is its latency times what it has in flight (and half a request, as in `least_request`),
//! for its weight. The latency is an average that believes bad news at once and good news slowly
//! (Finagle's "peak exponentially weighted moving average"; Linkerd balances by it): a slower
//! measurement replaces it, a faster one pulls it down over `decay`. Without news it decays
//! towards zero, so that an endpoint that was avoided is tried again.
//!
//! Five things differ from Finagle:
//! * **Failing fast does not pay.** An endpoint that answers errors at once is neither quick nor
//!   idle. The cost is divided by the square of the share of its requests that succeed (one in
//!   eight failing: 1.3 times; half: 4 times; all: a thousand times), so that a rare error moves
//!   little, and a broken endpoint gets a probe now and then. A failing probe ends the trust that
//!   it had regained by waiting.
//! * **Silence counts.** While requests are in flight and none ends, the time since the last one
//!   ended is a measurement too: a replica that hangs is seen before its first time-out.
//! * **One that is well again comes back soon.** An endpoint that was avoided for `decay` is given
//!   one request as soon as it is drawn; and an answer forgets bad news that is older than `decay`.
//!   (Decay alone would keep one that was a hundred times slower out for four times as long.)
//! * **Retry-After is honoured.** An endpoint that asked to be left alone is, unless all that can be
//!   drawn did.
//! * **Idle endpoints whose latencies are alike share by weight**, in place of all going to the
//!   one that is a microsecond faster.
//!
//! An endpoint without any measurement yet is preferred while idle and avoided while busy, so
//! that it gets one request at a time until the first is answered. Streams that report no latency
//! are balanced as by `least_request`. Constant time.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use std::time::Duration;

use model::vocabulary::{OptionDefault, OptionInfo, OptionKind, PolicyInfo};
use model::{Instant, Load, Rng};

use crate::drawn::{CHOICES_MAX, Drawn};
use crate::learnt::{ByIdentity, FAILING_AGAIN, GAIN, SUCCESS_MIN, kept, micros};
use crate::policies::PolicyEntry;
use crate::{Candidate, PickRequest, Picker, Policy};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    info: PolicyInfo {
        name: "peak_ewma",
        summary: "the soonest expected answer, by latency, in flight and failures, of two drawn",
        options: &[
            OptionInfo {
                name: "choices",
                summary: "how many endpoints are drawn and compared",
                kind: OptionKind::Integer { min: 2, max: CHOICES_MAX as u64 },
                default: OptionDefault::Integer(2),
            },
            OptionInfo {
                name: "decay",
                summary: "how long a slow or failed answer is remembered (to about a third)",
                kind: OptionKind::Duration,
                default: OptionDefault::Duration(Duration::from_secs(10)),
            },
        ],
    },
    make: |options| {
        Box::new(PeakEwma {
            choices: options.integer("choices") as usize,
            decay: options.duration("decay"),
            estimates: ByIdentity::default(),
        })
    },
};

/// The shortest time between two updates of an estimate: below it nothing is learnt that would
/// be worth a write that all workers see.
const UPDATE_PAUSE_US: u64 = 1000;

/// The latency of a busy endpoint that never answered well, in microseconds: 1 s, more than any
/// that is worth waiting for. (Finagle's is "as large as can be"; this one can be outgrown.)
const UNKNOWN_US: f64 = 1_000_000.0;

/// Idle endpoints whose latencies differ by less than this factor are alike.
const ALIKE: f64 = 1.25;

struct PeakEwma {
    choices: usize,
    decay: Duration,
    estimates: ByIdentity<Estimate>,
}

impl Policy for PeakEwma {
    fn prepare(&self, candidates: &[Candidate], _: &mut Rng) -> Box<dyn Picker> {
        Box::new(PeakEwmaPicker {
            decay_us: self.decay.as_micros().max(1) as f64,
            drawn: Drawn::new(candidates, self.choices),
            weights: candidates.iter().map(|candidate| candidate.weight.max(1)).collect(),
            estimates: self.estimates.of(candidates),
        })
    }
}

struct PeakEwmaPicker {
    decay_us: f64,
    drawn: Drawn,
    /// By position, as `estimates`.
    weights: Vec<u16>,
    estimates: Vec<Arc<Estimate>>,
}

impl Picker for PeakEwmaPicker {
    fn pick(&self, request: &PickRequest<'_>, loads: &[Arc<Load>], rng: &mut Rng) -> Option<u32> {
        let mut best: Option<Contender> = None;
        let mut avoided: Option<Contender> = None;
        self.drawn.show(request, loads, rng, |position| {
            let Some(next) = self.contender(position, request.now, loads) else { return };
            // The first of those that are alike wins: it was drawn in proportion to the weights.
            let worse = match best {
                Some(leader) if next.is_like(leader) => return,
                Some(leader) if leader.cost() <= next.cost() => Some(next),
                leader => best.replace(next).and(leader),
            };
            avoided = avoided.or(worse.filter(|worse| worse.due));
        });
        // What was avoided for so long that nothing is known of it any more.
        let probe = avoided.filter(|avoided| {
            let estimate = &self.estimates[avoided.position as usize];
            estimate.is_taken(micros(request.now), self.decay_us)
        });
        let best = probe.or(best).map(|best| best.position);
        best.or_else(|| self.drawn.usable().after(rng.next_u64(), request.exclude))
    }
}

impl PeakEwmaPicker {
    fn contender(&self, position: u32, now: Instant, loads: &[Arc<Load>]) -> Option<Contender> {
        let index = position as usize;
        let load = loads.get(index)?;
        let in_flight = load.in_flight();
        let view = self.estimates.get(index)?.look(load, in_flight, now, self.decay_us);
        let latency = match view.latency_us {
            // Not yet known to be slow: try it, once at a time.
            None if in_flight == 0 && view.failing < GAIN / 8.0 => 0.0,
            None => UNKNOWN_US,
            Some(latency) => latency,
        };
        let success = (1.0 - view.failing).max(SUCCESS_MIN);
        let weight = *self.weights.get(index)?;
        let due = in_flight == 0 && view.avoided;
        let latency = latency / (success * success);
        Some(Contender { position, in_flight, weight, latency, due })
    }
}

#[derive(Clone, Copy)]
struct Contender {
    position: u32,
    in_flight: u32,
    weight: u16,
    /// As the failures make it look, in microseconds.
    latency: f64,
    /// If it is avoided again, it has been for too long.
    due: bool,
}

impl Contender {
    fn cost(self) -> f64 {
        self.latency * (f64::from(self.in_flight) + 0.5) / f64::from(self.weight)
    }

    /// Is there nothing to choose between them but their weights?
    fn is_like(self, other: Contender) -> bool {
        let idle = self.in_flight == 0 && other.in_flight == 0;
        if idle {
            self.latency <= other.latency * ALIKE && other.latency <= self.latency * ALIKE
        } else {
            self.cost() == other.cost()
        }
    }
}

/// What is known of one endpoint beyond its counters. Whoever moves `updated_us` on writes the
/// rest; readers may see a part of it a moment later, which is harmless for an estimate.
#[derive(Default)]
#[repr(align(64))]
struct Estimate {
    /// 0: never.
    updated_us: AtomicU64,
    /// Bits of an `f64`, in microseconds.
    peak: AtomicU64,
    /// Bits of an `f64`: the share of recent requests that failed.
    failing: AtomicU64,
    /// The endpoint's counters and mean at the last update.
    mean_us: AtomicU64,
    ended: AtomicU64,
    failures: AtomicU64,
    /// When a request last ended, or the endpoint was last idle.
    quiet_since_us: AtomicU64,
    /// When a request was last seen to have ended, or was given as a probe.
    tried_us: AtomicU64,
    /// When the peak was last reached: the last bad news.
    peaked_us: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct View {
    /// `None`: nothing was measured yet.
    latency_us: Option<f64>,
    failing: f64,
    /// Nothing was asked of it for `decay`.
    avoided: bool,
}

impl Estimate {
    fn look(&self, load: &Load, in_flight: u32, now: Instant, decay_us: f64) -> View {
        let now_us = micros(now);
        let updated_us = self.updated_us.load(Acquire);
        let is_due = updated_us == 0 || now_us >= updated_us.saturating_add(UPDATE_PAUSE_US);
        if is_due && self.updated_us.compare_exchange(updated_us, now_us, AcqRel, Relaxed).is_ok() {
            self.update(load, in_flight, updated_us, now_us, decay_us);
        }
        View {
            latency_us: load.latency().map(|_| f64::from_bits(self.peak.load(Relaxed))),
            failing: f64::from_bits(self.failing.load(Relaxed)),
            avoided: is_past(self.tried_us.load(Relaxed), now_us, decay_us),
        }
    }

    /// Of several workers at once, one may.
    fn is_taken(&self, now_us: u64, decay_us: f64) -> bool {
        let tried_us = self.tried_us.load(Relaxed);
        is_past(tried_us, now_us, decay_us)
            && self.tried_us.compare_exchange(tried_us, now_us, Relaxed, Relaxed).is_ok()
    }

    fn update(&self, load: &Load, in_flight: u32, updated_us: u64, now_us: u64, decay_us: f64) {
        let mean_us = load.latency().map_or(0, |mean| mean.as_micros() as u64);
        let mean_before = self.mean_us.swap(mean_us, Relaxed);
        let failures = load.failures();
        let ended = load.picks().saturating_sub(u64::from(in_flight));
        let new_failures = failures.saturating_sub(self.failures.swap(failures, Relaxed));
        let new_ended = ended.saturating_sub(self.ended.swap(ended, Relaxed));
        if updated_us == 0 {
            // Counters of an earlier life say nothing of now; the mean is all there is.
            self.peak.store((mean_us as f64).to_bits(), Relaxed);
            for since in [&self.quiet_since_us, &self.tried_us, &self.peaked_us] {
                since.store(now_us, Relaxed);
            }
            return;
        }
        if new_ended > 0 || in_flight == 0 {
            self.quiet_since_us.store(now_us, Relaxed);
        }
        if new_ended > 0 {
            self.tried_us.store(now_us, Relaxed);
        }
        let silent_us = now_us.saturating_sub(self.quiet_since_us.load(Relaxed)) as f64;
        let kept = kept((now_us - updated_us) as f64 / decay_us);

        let answered = new_ended.saturating_sub(new_failures);
        let measured = newly_measured(mean_before, mean_us, answered);
        let peak = f64::from_bits(self.peak.load(Relaxed));
        let eased = peak * kept + measured * (1.0 - kept);
        let news = measured.max(silent_us);
        let forgets = answered > 0 && is_past(self.peaked_us.load(Relaxed), now_us, decay_us);
        if forgets || news >= eased {
            self.peaked_us.store(now_us, Relaxed);
        }
        let next = if forgets { news } else { eased.max(news) };
        self.peak.store(next.to_bits(), Relaxed);

        let failing = f64::from_bits(self.failing.load(Relaxed)) * kept;
        let failing = failing_after(failing, new_ended, new_failures);
        self.failing.store(failing.to_bits(), Relaxed);
    }
}

fn is_past(since_us: u64, now_us: u64, decay_us: f64) -> bool {
    now_us.saturating_sub(since_us) as f64 >= decay_us
}

/// The mean of the `answered` last latencies, in microseconds, by how they moved the mean of all,
/// in which each has the weight of 1/8; 0 if there is none. A slow past must not pass for a new
/// measurement: that mean alone would bring a recovered endpoint back only after tens of probes.
fn newly_measured(mean_before: u64, mean: u64, answered: u64) -> f64 {
    if answered == 0 || mean_before == 0 {
        return if answered == 0 { 0.0 } else { mean as f64 };
    }
    let left = left_after(answered);
    ((mean as f64 - mean_before as f64 * left) / (1.0 - left)).max(1.0)
}

/// The weight of what was before, after so many answers of weight 1/8 each. Beyond 64 of them it
/// is less than 0.0002.
fn left_after(answers: u64) -> f64 {
    (0..answers.min(64)).fold(1.0, |left, _| left * (1.0 - GAIN))
}

/// The share of failures after `ended` more requests, of which `failures` failed.
fn failing_after(before: f64, ended: u64, failures: u64) -> f64 {
    if ended == 0 && failures == 0 {
        return before;
    }
    let ended = ended.max(failures);
    // It had failed often enough to be avoided, and still fails.
    if failures == ended && before >= FAILING_AGAIN {
        return 1.0;
    }
    let left = left_after(ended);
    before * left + failures as f64 / ended as f64 * (1.0 - left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Outcome, Report};

    const MS: Duration = Duration::from_millis(1);

    /// A small closed world: requests come at a fixed pace; what each endpoint does with one
    /// started at a moment is given by `serve`.
    fn run(
        weights: &[u16],
        requests: u32,
        every: Duration,
        serve: impl Fn(u32, Instant) -> (Outcome, Duration),
    ) -> Vec<u32> {
        let candidates: Vec<Candidate> = (1u64..)
            .zip(weights)
            .map(|(hash, weight)| Candidate { weight: *weight, zone: None, identity_hash: hash })
            .collect();
        let loads: Vec<Arc<Load>> = weights.iter().map(|_| Arc::default()).collect();
        let mut rng = Rng::from_seed(11);
        let policy = ENTRY.build(&[]);
        let mut picker = policy.prepare(&candidates, &mut rng);
        let mut open: Vec<(Instant, u32, Outcome, Duration)> = Vec::new();
        let mut counts = vec![0; weights.len()];
        let mut now = Instant::ZERO;
        for request in 0..requests {
            now += every;
            open.retain(|(at, position, outcome, latency)| {
                if *at <= now {
                    loads[*position as usize]
                        .end(&Report::new(Instant::ZERO, *outcome).after(Some(*latency)));
                }
                *at > now
            });
            if request % 1000 == 999 {
                // What was learnt must outlive a change of endpoints.
                picker = policy.prepare(&candidates, &mut rng);
            }
            let pick = PickRequest { now, key: None, exclude: &[] };
            let position = picker.pick(&pick, &loads, &mut rng).unwrap();
            counts[position as usize] += 1;
            loads[position as usize].begin();
            let (outcome, latency) = serve(position, now);
            open.push((now + latency, position, outcome, latency));
        }
        counts
    }

    #[test]
    fn one_that_fails_fast_is_not_preferred() {
        for outcome in [Outcome::ServerError, Outcome::ConnectFailed, Outcome::Broken] {
            for count in [2, 5] {
                let counts = run(&vec![1; count], 60_000, MS, |position, _| match position {
                    0 => (outcome, MS / 10),
                    _ => (Outcome::Success, MS * 5),
                });
                // A minute at 1,000 a second: one in a thousand.
                assert!((1..60).contains(&counts[0]), "{outcome:?}: {counts:?}");
            }
        }
    }

    #[test]
    fn one_that_turns_slow_is_left_alone_and_taken_back() {
        // The experiment of issue 3: 2 s for 30 s, and clients leave after 1 s.
        let second = Duration::from_secs(1);
        let slow = |now: Instant| {
            let age = now.since(Instant::ZERO);
            age > 10 * second && age < 40 * second
        };
        let lost = std::cell::Cell::new(0);
        let late = std::cell::Cell::new(0);
        run(&[1; 10], 160_000, MS, |position, now| {
            if position == 0 && slow(now) {
                lost.set(lost.get() + 1);
                return (Outcome::Abandoned, second);
            }
            if position == 0 && now.since(Instant::ZERO) > 150 * second {
                late.set(late.get() + 1);
            }
            (Outcome::Success, MS * 5)
        });
        assert!(lost.get() <= 30, "{} of 30,000 lost: more than one in a thousand", lost.get());
        assert!(late.get() > 500, "{} of 10,000: it was not taken back", late.get());
    }

    #[test]
    fn after_slow_answers_one_good_one_is_enough() {
        let late = std::cell::Cell::new(0);
        run(&[1; 10], 120_000, MS, |position, now| {
            let seconds = now.since(Instant::ZERO).as_secs();
            if position == 0 && seconds >= 110 {
                late.set(late.get() + 1);
            }
            let slow = position == 0 && (10..40).contains(&seconds);
            (Outcome::Success, if slow { MS * 2000 } else { MS * 5 })
        });
        assert!(late.get() > 500, "{} of 10,000: it was not taken back", late.get());
        let near = |measured: f64, expected: f64| (measured - expected).abs() < expected / 100.0;
        assert!(near(newly_measured(8000, 9000, 1), 16_000.0));
        assert!(near(newly_measured(8000, 7875, 2), 7467.0));
        assert!(near(newly_measured(0, 500, 1), 500.0));
        assert_eq!(newly_measured(500, 500, 0), 0.0);
    }

    #[test]
    fn rare_errors_move_little_and_weights_hold() {
        let calls = std::cell::Cell::new(0);
        let counts = run(&[1, 2, 1, 4], 80_000, MS, |position, _| {
            calls.set(calls.get() + 1);
            let failed = position == 2 && calls.get() % 100 == 0;
            (if failed { Outcome::ServerError } else { Outcome::Success }, MS * 20)
        });
        for (count, expected) in counts.iter().zip([10_000, 20_000, 10_000, 40_000]) {
            assert!(count.abs_diff(expected) < expected / 5, "{counts:?}");
        }
    }

    #[test]
    fn one_that_is_well_again_has_its_share_after_a_decay_and_a_half() {
        let second = Duration::from_secs(1);
        for (every, abandoned) in [(MS, true), (MS, false), (MS * 5, true), (MS * 20, false)] {
            let (lost, back) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
            let requests = (80 * second).as_micros() / every.as_micros();
            run(&[1; 10], requests as u32, every, |position, now| {
                let at = now.since(Instant::ZERO);
                if position != 0 || at < 10 * second {
                    return (Outcome::Success, MS * 5);
                }
                if at < 40 * second {
                    lost.set(lost.get() + 1);
                    let outcome = if abandoned { Outcome::Abandoned } else { Outcome::Success };
                    return (outcome, if abandoned { second } else { 2 * second });
                }
                if at > 55 * second {
                    back.set(back.get() + 1);
                }
                (Outcome::Success, MS * 5)
            });
            let fair = (25 * second).as_micros() / every.as_micros() / 10;
            let label = format!("{every:?}, {abandoned}: {lost:?} lost, {back:?} of {fair}");
            assert!(back.get() * 10 > fair * 7 && back.get() * 10 < fair * 13, "{label}");
            // Some at first, and one in eleven or twelve seconds.
            assert!(lost.get() < 12, "{label}");
        }
    }

    #[test]
    fn one_that_rests_is_left_alone_unless_all_that_were_drawn_do() {
        for count in [2, 5] {
            let loads: Vec<Arc<Load>> = (0..count).map(|_| Arc::default()).collect();
            let candidates = vec![Candidate { weight: 1, zone: None, identity_hash: 0 }; count];
            let mut rng = Rng::from_seed(1);
            let picker = ENTRY.build(&[]).prepare(&candidates, &mut rng);
            let rest = |position: usize| {
                let report = Report::new(Instant::ZERO, Outcome::ServerError);
                loads[position].begin();
                loads[position].end(&Report { retry_after: Some(MS), ..report });
            };
            let mut pick = |now| {
                let request = PickRequest { now, key: None, exclude: &[] };
                picker.pick(&request, &loads, &mut rng)
            };
            rest(0);
            (0..3).for_each(|_| loads[1].begin());
            assert!((0..100).all(|_| pick(Instant::ZERO) != Some(0)));
            assert!((0..100).any(|_| pick(Instant::ZERO + MS) == Some(0)), "the time is over");
            (1..count).for_each(rest);
            assert!((0..100).all(|_| pick(Instant::ZERO).is_some()));
        }
    }

    #[test]
    fn faster_ones_get_more() {
        let counts = run(&[1; 4], 40_000, MS, |position, _| {
            (Outcome::Success, if position < 2 { MS * 10 } else { MS * 40 })
        });
        assert!(counts[0] > 2 * counts[2] && counts[1] > 2 * counts[3], "{counts:?}");
        assert!(counts[2] > 500 && counts[3] > 500, "the slow ones are used: {counts:?}");
    }

    #[test]
    fn an_unmeasured_one_gets_one_at_a_time() {
        let loads: Vec<Arc<Load>> = (0..2).map(|_| Arc::default()).collect();
        loads[0].begin();
        loads[0].end(&Report::new(Instant::ZERO, Outcome::Success).after(Some(MS)));
        let candidates = vec![Candidate { weight: 1, zone: None, identity_hash: 0 }; 2];
        let mut rng = Rng::from_seed(1);
        let picker = ENTRY.build(&[]).prepare(&candidates, &mut rng);
        let request = PickRequest { now: Instant::ZERO, key: None, exclude: &[] };
        assert_eq!(picker.pick(&request, &loads, &mut rng), Some(1));
        loads[1].begin();
        assert_eq!(picker.pick(&request, &loads, &mut rng), Some(0));
    }
}
