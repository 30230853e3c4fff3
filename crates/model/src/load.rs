use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::time::Duration;

use crate::{Instant, Outcome, Report, Utilization};

/// The live counters of one endpoint, shared by all workers, alone on its cache lines.
/// The data path bumps them; policies read them; nothing here decides.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Load {
    in_flight: AtomicU32,
    failures_in_a_row: AtomicU32,
    /// Exponentially weighted mean of latency (weight 1/8, as TCP's smoothed round-trip time,
    /// RFC 6298 section 2), in microseconds; 0 while nothing was measured.
    latency_us: AtomicU64,
    picks: AtomicU64,
    failures: AtomicU64,
    /// As `failures_in_a_row`, with answers of 500 and above.
    errors_in_a_row: AtomicU32,
    successes: AtomicU64,
    /// Successes that were reported without a latency.
    unmeasured: AtomicU64,
    /// Of all others, in microseconds.
    latency_sum_us: AtomicU64,
    /// Nanoseconds of the moment until which it asked to be left alone; 0: it did not.
    rests_until: AtomicU64,
    /// What it last said of its resources, packed; and when, in nanoseconds; 0: never.
    utilization: AtomicU64,
    utilized_at: AtomicU64,
}

/// What an endpoint's reports add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub failures: u64,
    pub successes: u64,
    /// Successes with a latency, and the sum of these.
    pub measured: u64,
    pub latency_sum_us: u64,
}

impl Tally {
    /// What was added since `earlier`.
    pub fn since(&self, earlier: &Tally) -> Tally {
        Tally {
            failures: self.failures.saturating_sub(earlier.failures),
            successes: self.successes.saturating_sub(earlier.successes),
            measured: self.measured.saturating_sub(earlier.measured),
            latency_sum_us: self.latency_sum_us.saturating_sub(earlier.latency_sum_us),
        }
    }

    pub fn requests(&self) -> u64 {
        self.failures + self.successes
    }

    pub fn mean_latency(&self) -> Option<Duration> {
        self.latency_sum_us.checked_div(self.measured).map(Duration::from_micros)
    }
}

impl Load {
    // Sequentially consistent, as is `begin`: whoever marks an endpoint as leaving and then reads
    // zero here knows that nothing begins there any more (`service::Pick`). On x86-64 both cost
    // the same as relaxed ones.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(SeqCst)
    }
    pub fn failures_in_a_row(&self) -> u32 {
        self.failures_in_a_row.load(Relaxed)
    }
    pub fn latency(&self) -> Option<Duration> {
        match self.latency_us.load(Relaxed) {
            0 => None,
            us => Some(Duration::from_micros(us)),
        }
    }
    /// Picks since the endpoint was first seen.
    pub fn picks(&self) -> u64 {
        self.picks.load(Relaxed)
    }
    /// Reports that spoke against the endpoint since it was first seen.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Failures since the last success, answers of 500 and above included.
    pub fn errors_in_a_row(&self) -> u32 {
        self.errors_in_a_row.load(Relaxed)
    }
    /// All that was reported since the endpoint was first seen, for whoever compares two moments.
    /// Workers go on counting meanwhile, so the numbers may be off by what is just being reported.
    pub fn tally(&self) -> Tally {
        let successes = self.successes.load(Relaxed);
        Tally {
            failures: self.failures.load(Relaxed),
            successes,
            measured: successes.saturating_sub(self.unmeasured.load(Relaxed)),
            latency_sum_us: self.latency_sum_us.load(Relaxed),
        }
    }

    /// It asked to be left alone, and the time for which it did is not over.
    pub fn is_resting(&self, now: Instant) -> bool {
        now.as_nanos() < self.rests_until.load(Relaxed)
    }
    /// What it last said of its resources, and when.
    pub fn utilization(&self) -> Option<(Utilization, Instant)> {
        match self.utilized_at.load(Relaxed) {
            0 => None,
            at => Some((unpack(self.utilization.load(Relaxed)), Instant::from_nanos(at))),
        }
    }

    /// What it says of its resources by whatever way: an answer, a check, statistics.
    pub fn utilize(&self, utilization: Utilization, now: Instant) {
        self.utilization.store(pack(utilization), Relaxed);
        self.utilized_at.store(now.as_nanos().max(1), Relaxed);
    }

    /// One more request or connection is under way.
    pub fn begin(&self) {
        self.begin_behind();
    }

    /// As [`Load::begin`]. Answers how many there were before.
    pub fn begin_behind(&self) -> u32 {
        self.picks.fetch_add(1, Relaxed);
        self.in_flight.fetch_add(1, SeqCst)
    }

    /// As [`Load::begin`], if that makes no more than `most`. Answers how many that makes.
    pub fn try_begin(&self, most: u32) -> Option<u32> {
        let more = |count: u32| (count < most).then_some(count + 1);
        let before = self.in_flight.fetch_update(SeqCst, SeqCst, more).ok()?;
        self.picks.fetch_add(1, Relaxed);
        Some(before + 1)
    }

    /// One that `begin` counted is over. Answers how many failures in a row that makes. An answer
    /// of 500 or above is a failure, but says that the endpoint can be reached: it neither
    /// lengthens nor ends the row.
    pub fn end(&self, report: &Report) -> u32 {
        let Report { now, outcome, latency, retry_after, utilization, .. } = *report;
        let before = self.in_flight.fetch_sub(1, SeqCst);
        debug_assert!(before > 0, "an endpoint ended more requests than it began");
        if let Some(utilization) = utilization {
            self.utilize(utilization, now);
        }
        if let Some(rest) = retry_after {
            self.rests_until.store((now + rest.min(REST_MAX)).as_nanos(), Relaxed);
        }
        if outcome.is_failure() {
            self.failures.fetch_add(1, Relaxed);
            self.errors_in_a_row.fetch_add(1, Relaxed);
            if outcome == Outcome::ServerError {
                return 0;
            }
            return self.failures_in_a_row.fetch_add(1, Relaxed) + 1;
        }
        if outcome == Outcome::Success {
            self.successes.fetch_add(1, Relaxed);
            if self.errors_in_a_row.load(Relaxed) != 0 {
                self.errors_in_a_row.store(0, Relaxed);
            }
            if self.failures_in_a_row.load(Relaxed) != 0 {
                self.failures_in_a_row.store(0, Relaxed);
            }
            match latency {
                Some(latency) => self.observe(latency),
                None => {
                    self.unmeasured.fetch_add(1, Relaxed);
                }
            }
        }
        0
    }

    /// Forget the failures in a row: the endpoint was proven well by other means.
    pub fn forgive(&self) {
        self.failures_in_a_row.store(0, Relaxed);
    }

    /// The same for errors in a row.
    pub fn forgive_errors(&self) {
        self.errors_in_a_row.store(0, Relaxed);
    }

    // Two workers may overwrite each other's sample: a lost sample of a mean is harmless,
    // a compare-and-swap loop on the hot path is not.
    fn observe(&self, latency: Duration) {
        let sample = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX >> 8).max(1);
        self.latency_sum_us.fetch_add(sample, Relaxed);
        let mean = self.latency_us.load(Relaxed);
        let next = if mean == 0 { sample } else { (mean * 7 + sample).div_ceil(8) };
        self.latency_us.store(next, Relaxed);
    }
}

/// No endpoint is left alone for longer than this, whatever it asks for.
const REST_MAX: Duration = Duration::from_secs(60);

/// Three times sixteen bits and which of them are there.
fn pack(utilization: Utilization) -> u64 {
    let Utilization { cpu, memory, application } = utilization;
    [cpu, memory, application].into_iter().enumerate().fold(0, |packed, (index, value)| {
        let value = value.map_or(0, |value| u64::from(value) | 1 << (48 - 16 * index + index));
        packed | value << (16 * index)
    })
}

fn unpack(packed: u64) -> Utilization {
    let part =
        |index: usize| (packed >> (48 + index) & 1 == 1).then_some((packed >> (16 * index)) as u16);
    Utilization { cpu: part(0), memory: part(1), application: part(2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcome: Outcome) -> Report {
        Report::new(Instant::ZERO, outcome)
    }

    #[test]
    fn no_more_begin_than_the_most() {
        let load = Load::default();
        assert_eq!([0, 2, 2, 2].map(|most| load.try_begin(most)), [None, Some(1), Some(2), None]);
        load.end(&report(Outcome::Success));
        assert_eq!((load.try_begin(2), load.in_flight(), load.picks()), (Some(2), 2, 3));
    }

    #[test]
    fn what_an_endpoint_says_of_itself_is_kept() {
        let load = Load::default();
        assert_eq!(load.utilization(), None);
        let at = Instant::from_nanos(7);
        for index in 0..8u32 {
            let part = |bit: u32, value| (index >> bit & 1 == 1).then_some(value);
            let said =
                Utilization { cpu: part(0, 65_535), memory: part(1, 0), application: part(2, 999) };
            load.utilize(said, at);
            assert_eq!(load.utilization(), Some((said, at)));
        }
        load.begin();
        let rest = Some(Duration::from_secs(1));
        load.end(&Report { retry_after: rest, ..report(Outcome::ServerError) });
        assert!(load.is_resting(at) && !load.is_resting(at + Duration::from_secs(1)));
    }

    #[test]
    fn failures_in_a_row_grow_and_a_success_clears_them() {
        let load = Load::default();
        for expected in 1..=3 {
            load.begin();
            assert_eq!(load.end(&report(Outcome::Broken)), expected);
        }
        load.begin();
        assert_eq!(load.end(&report(Outcome::Abandoned)), 0);
        assert_eq!(load.failures_in_a_row(), 3);
        load.begin();
        assert_eq!(load.end(&report(Outcome::Success).after(Some(Duration::from_micros(80)))), 0);
        assert_eq!((load.failures_in_a_row(), load.in_flight()), (0, 0));
        load.begin();
        assert_eq!(load.end(&report(Outcome::ServerError)), 0, "it can be reached");
        assert_eq!((load.failures_in_a_row(), load.errors_in_a_row()), (0, 1));
        load.begin();
        load.end(&report(Outcome::Success));
        assert_eq!(load.errors_in_a_row(), 0);
        let tally = Tally { failures: 4, successes: 2, measured: 1, latency_sum_us: 80 };
        assert_eq!(load.tally(), tally);
        let later = Tally { failures: 5, successes: 6, measured: 5, latency_sum_us: 480 };
        let since = later.since(&tally);
        assert_eq!((since.requests(), since.mean_latency()), (5, Some(Duration::from_micros(100))));
        assert_eq!(Tally::default().mean_latency(), None);
        assert_eq!(load.latency(), Some(Duration::from_micros(80)));
    }
}
