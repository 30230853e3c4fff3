use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::time::Duration;

use crate::Outcome;

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

    /// One more request or connection is under way.
    pub fn begin(&self) {
        self.in_flight.fetch_add(1, SeqCst);
        self.picks.fetch_add(1, Relaxed);
    }

    /// One that `begin` counted is over. Answers how many failures in a row that makes. An answer
    /// of 500 or above is a failure, but says that the endpoint can be reached: it neither
    /// lengthens nor ends the row.
    pub fn end(&self, outcome: Outcome, latency: Option<Duration>) -> u32 {
        let before = self.in_flight.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "an endpoint ended more requests than it began");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_grow_and_a_success_clears_them() {
        let load = Load::default();
        for expected in 1..=3 {
            load.begin();
            assert_eq!(load.end(Outcome::Broken, None), expected);
        }
        load.begin();
        assert_eq!(load.end(Outcome::Abandoned, None), 0);
        assert_eq!(load.failures_in_a_row(), 3);
        load.begin();
        assert_eq!(load.end(Outcome::Success, Some(Duration::from_micros(80))), 0);
        assert_eq!((load.failures_in_a_row(), load.in_flight()), (0, 0));
        assert_eq!(load.latency(), Some(Duration::from_micros(80)));
    }
}
