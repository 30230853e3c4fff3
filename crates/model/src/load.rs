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
    /// Nanoseconds of the moment until which it asked to be left alone; 0: it did not.
    rests_until: AtomicU64,
    /// What it last said of its resources, packed; and when, in nanoseconds; 0: never.
    utilization: AtomicU64,
    utilized_at: AtomicU64,
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
        self.in_flight.fetch_add(1, SeqCst);
        self.picks.fetch_add(1, Relaxed);
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
            if outcome == Outcome::ServerError {
                return 0;
            }
            return self.failures_in_a_row.fetch_add(1, Relaxed) + 1;
        }
        if outcome == Outcome::Success {
            if self.failures_in_a_row.load(Relaxed) != 0 {
                self.failures_in_a_row.store(0, Relaxed);
            }
            if let Some(latency) = latency {
                self.observe(latency);
            }
        }
        0
    }

    /// Forget the failures in a row: the endpoint was proven well by other means.
    pub fn forgive(&self) {
        self.failures_in_a_row.store(0, Relaxed);
    }

    // Two workers may overwrite each other's sample: a lost sample of a mean is harmless,
    // a compare-and-swap loop on the hot path is not.
    fn observe(&self, latency: Duration) {
        let sample = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX >> 8).max(1);
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
        assert_eq!(load.latency(), Some(Duration::from_micros(80)));
    }
}
