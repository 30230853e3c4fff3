use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use model::{Instant, LatencyByLoad, Outcome, ProbeAnswer, Report};

/// What is known of one endpoint. Two workers may overwrite each other's change, which loses a
/// sample of many.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Estimate {
    /// Its last answer: requests in flight and the grade of the latency, 32 bits each.
    answer: AtomicU64,
    /// The share of its requests that failed lately, as an `f32`, and the millisecond of which that
    /// holds; 0 if none failed.
    failing: AtomicU64,
    /// What we measured ourselves, for estimates.
    pub(super) measured: LatencyByLoad,
}

/// The weight of one request in the share of failures.
const GAIN: f32 = 0.125;

/// An endpoint with a greater share of failures is avoided. Three in a row make more.
const FAILING: f32 = 0.25;

/// If one fails while the share is still so much, the endpoint is as broken as it was: what it
/// regained by waiting is lost again.
const FAILING_AGAIN: f32 = 0.2;

/// A share below this is none.
const NEGLIGIBLE: f32 = 0.01;

const ONE_IN_FLIGHT: u64 = 1 << 32;

impl Estimate {
    pub(super) fn answer(&self, answer: &ProbeAnswer) {
        let latency = u32::try_from(answer.latency.as_micros()).unwrap_or(u32::MAX);
        // Room for uses to count up.
        let in_flight = answer.in_flight.min(u32::MAX / 2);
        self.answer.store(u64::from(in_flight) << 32 | u64::from(grade(latency)), Relaxed);
    }

    /// Requests in flight, those that came by our own uses of the answer included, and the grade of
    /// the latency.
    pub(super) fn known(&self) -> (u32, u32) {
        let answer = self.answer.load(Relaxed);
        ((answer >> 32) as u32, answer as u32)
    }

    /// One more is in flight there than it said.
    pub(super) fn used(&self) {
        self.answer.fetch_add(ONE_IN_FLIGHT, Relaxed);
    }

    #[inline]
    pub(super) fn is_failing(&self, now: Instant, decay: Duration) -> bool {
        let packed = self.failing.load(Relaxed);
        // Mostly none has failed, and that is all that there is to do for it.
        packed != 0 && share(packed, now, decay) > FAILING
    }

    /// A request ended; `measure`: its latency is wanted.
    pub(super) fn report(&self, report: &Report, decay: Duration, measure: bool) {
        let packed = self.failing.load(Relaxed);
        if report.outcome.is_failure() {
            let before = share(packed, report.now, decay);
            let after = if before >= FAILING_AGAIN { 1.0 } else { before + (1.0 - before) * GAIN };
            self.failing.store(pack(after, report.now), Relaxed);
        } else if packed != 0 && report.outcome == Outcome::Success {
            let after = share(packed, report.now, decay) * (1.0 - GAIN);
            let packed = if after < NEGLIGIBLE { 0 } else { pack(after, report.now) };
            self.failing.store(packed, Relaxed);
        }
        if measure {
            self.measure(report, decay);
        }
    }

    fn measure(&self, report: &Report, memory: Duration) {
        let latency = match (report.outcome, report.latency) {
            (Outcome::Success, latency) => latency,
            // It took longer than this, if it answers in a time at all and is no stream.
            (Outcome::TimedOut | Outcome::Abandoned, _) if !self.measured.is_empty() => {
                let usual = self.measured.at(report.in_flight, report.now, memory);
                Some(report.lasted).filter(|lasted| usual.is_none_or(|usual| *lasted > usual))
            }
            _ => None,
        };
        if let Some(latency) = latency {
            self.measured.add(report.in_flight, latency, report.now);
        }
    }
}

/// Latencies that a measurement does not tell apart are alike: there are two grades for each
/// doubling. (The paper compares them exactly. Means of few requests differ by more than a grade by
/// chance, and going after that makes queues and ignores weights.)
fn grade(latency_us: u32) -> u32 {
    if latency_us < 2 {
        return latency_us;
    }
    let doublings = latency_us.ilog2();
    doublings * 2 + (latency_us >> (doublings - 1) & 1)
}

fn pack(share: f32, now: Instant) -> u64 {
    u64::from(share.to_bits()) << 32 | u64::from(milliseconds(now))
}

/// What is left of the share: e^-age by its first terms, which is the same on every machine.
#[inline(never)]
fn share(packed: u64, now: Instant, decay: Duration) -> f32 {
    if packed == 0 {
        return 0.0;
    }
    let age_ms = milliseconds(now).wrapping_sub(packed as u32);
    // A report of a moment ago may come after one of now.
    let age_ms = if age_ms > u32::MAX / 2 { 0 } else { age_ms };
    let age = age_ms as f32 / (decay.as_secs_f32() * 1000.0);
    f32::from_bits((packed >> 32) as u32) / (1.0 + age + age * age / 2.0)
}

/// Comes round after 49 days.
fn milliseconds(now: Instant) -> u32 {
    (now.as_nanos() / 1_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECAY: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn failures_are_remembered_until_they_decay() {
        let estimate = Estimate::default();
        let end = |outcome, second| {
            estimate.report(&Report::new(at(second), outcome), DECAY, false);
            estimate.is_failing(at(second), DECAY)
        };
        assert!(!end(Outcome::Broken, 0) && !end(Outcome::Abandoned, 0));
        assert!(!end(Outcome::ServerError, 0) && end(Outcome::TimedOut, 0));
        assert!(end(Outcome::Broken, 1), "and again: all is lost");
        assert!(estimate.is_failing(at(14), DECAY));
        assert!(!estimate.is_failing(at(20), DECAY));
        assert!(!end(Outcome::Success, 20));
        assert!(end(Outcome::Broken, 20), "the memory outlasts one success");
        // In the long run one in ten is not failing.
        let rare = Estimate::default();
        for round in 0..1000u64 {
            let outcome = if round % 10 == 0 { Outcome::Broken } else { Outcome::Success };
            rare.report(&Report::new(at(30), outcome), DECAY, false);
            assert!(!rare.is_failing(at(30), DECAY), "{round}");
        }
    }

    #[test]
    fn a_use_counts_as_one_more_in_flight() {
        let estimate = Estimate::default();
        let latency = Duration::from_millis(3);
        estimate.answer(&ProbeAnswer { now: at(3), in_flight: u32::MAX, latency });
        estimate.used();
        assert_eq!(estimate.known(), (u32::MAX / 2 + 1, grade(3000)));
        estimate.answer(&ProbeAnswer { now: at(4), in_flight: 2, latency: Duration::MAX });
        estimate.used();
        assert_eq!(estimate.known(), (3, grade(u32::MAX)));
    }

    #[test]
    fn latencies_of_a_grade_are_alike() {
        let grades = [0, 1, 2, 3, 4, 5, 6, 8, 1000, 1024, 1535, 1536, u32::MAX].map(grade);
        assert_eq!(grades, [0, 1, 2, 3, 4, 4, 5, 6, 19, 20, 20, 21, 63]);
    }

    #[test]
    fn what_never_answered_counts_with_the_time_it_was_waited_for() {
        let estimate = Estimate::default();
        let second = Duration::from_secs(1);
        let given_up = Report { lasted: second, ..Report::new(at(9), Outcome::Abandoned) };
        estimate.report(&given_up, DECAY, true);
        assert_eq!(estimate.measured.at(0, at(9), DECAY), None, "a stream");
        let answered = Report::new(at(9), Outcome::Success).after(Some(second / 100));
        estimate.report(&answered, DECAY, true);
        estimate.report(&Report { lasted: second / 200, ..given_up }, DECAY, true);
        assert_eq!(estimate.measured.at(0, at(9), DECAY), Some(second / 100));
        for _ in 0..3 {
            estimate.report(&given_up, DECAY, true);
        }
        assert!(estimate.measured.at(0, at(9), DECAY).unwrap() > second / 2);
    }
}
