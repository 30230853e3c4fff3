use std::array;
use std::cell::Cell;
use std::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Relaxed},
};

use model::Instant;

/// How many requests may be retries: a share of the requests of about the last ten seconds, and
/// a few more, so that retries do not turn an overload into a collapse (Google, "Site Reliability
/// Engineering", chapter 21; Finagle's retry budget).
///
/// All workers count requests, so the counters are in shards; retries are rare and are counted
/// in one place. Constant time, no lock. Two workers that ask at the same moment may both get the
/// last one.
pub(crate) struct RetryBudget {
    requests: [Shard; SHARDS],
    retries: Shard,
    /// A budget of its own, from the same requests.
    hedges: Shard,
}

/// Enough that the workers of most machines each have their own; more workers share.
const SHARDS: usize = 16;

/// The window: the current second and the nine before.
const SECONDS: u64 = 10;

#[derive(Default)]
#[repr(align(128))]
struct Shard {
    /// One per second of the window, by the second modulo [`SECONDS`]: the second in the upper
    /// half, the count of it in the lower.
    seconds: [AtomicU64; SECONDS as usize],
}

impl RetryBudget {
    pub(crate) fn new() -> Self {
        Self {
            requests: array::from_fn(|_| Shard::default()),
            retries: Shard::default(),
            hedges: Shard::default(),
        }
    }

    /// One request began (not a retry).
    pub(crate) fn count_request(&self, now: Instant) {
        self.requests[shard()].add(second(now));
    }

    /// Whether one more retry is within `share` of the requests and `rate_min` a second; if so,
    /// it is counted.
    pub(crate) fn admit(&self, share: f64, rate_min: u32, now: Instant) -> bool {
        let admitted = self.allows(&self.retries, share, rate_min, second(now));
        if admitted {
            self.retries.add(second(now));
        }
        admitted
    }

    /// Whether one more hedge is within `share` of the requests. It is not counted yet.
    pub(crate) fn allows_hedge(&self, share: f64, now: Instant) -> bool {
        self.allows(&self.hedges, share, 0, second(now))
    }

    pub(crate) fn count_hedge(&self, now: Instant) {
        self.hedges.add(second(now));
    }

    fn allows(&self, used: &Shard, share: f64, rate_min: u32, second: u64) -> bool {
        let requests: u64 = self.requests.iter().map(|shard| shard.sum(second)).sum();
        let allowed = share * requests as f64 + f64::from(rate_min) * SECONDS as f64;
        (used.sum(second) as f64) < allowed
    }
}

impl Shard {
    fn add(&self, second: u64) {
        let cell = &self.seconds[(second % SECONDS) as usize];
        let seen = cell.load(Relaxed);
        // Another thread may begin the same second at the same time: then its count goes on. A
        // count that lands in the wrong second by a thread that was stopped in between is a
        // miscount of one.
        if seen >> 32 != second & MASK
            && cell.compare_exchange(seen, (second & MASK) << 32 | 1, AcqRel, Relaxed).is_ok()
        {
            return;
        }
        cell.fetch_add(1, Relaxed);
    }

    fn sum(&self, second: u64) -> u64 {
        let in_window = |value: &u64| (second.wrapping_sub(value >> 32) & MASK) < SECONDS;
        self.seconds.iter().map(|cell| cell.load(Relaxed)).filter(in_window).map(|v| v & MASK).sum()
    }
}

const MASK: u64 = u32::MAX as u64;

/// One more than the clock's second, so that no second is zero, which stands for an empty cell.
fn second(now: Instant) -> u64 {
    now.as_nanos() / 1_000_000_000 + SECONDS
}

/// Threads take shards in turn as they first ask. Which one a thread has changes no result.
pub(crate) fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    MINE.with(|mine| {
        if mine.get() == usize::MAX {
            mine.set(NEXT.fetch_add(1, Relaxed) % SHARDS);
        }
        mine.get()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn admitted(budget: &RetryBudget, share: f64, rate_min: u32, now: Instant) -> u32 {
        (0..10_000).take_while(|_| budget.admit(share, rate_min, now)).count() as u32
    }

    #[test]
    fn a_share_of_the_last_ten_seconds_and_a_minimum() {
        for start in [0, 3, 1_000_000_000] {
            let budget = RetryBudget::new();
            let at = |second: u64| Instant::from_nanos((start + second) * 1_000_000_000);
            assert_eq!(admitted(&budget, 0.2, 0, at(0)), 0, "no request, no retry");
            for second in 0..10 {
                (0..100).for_each(|_| budget.count_request(at(second)));
            }
            assert_eq!(admitted(&budget, 0.2, 0, at(9)), 200);
            assert_eq!(admitted(&budget, 0.2, 3, at(9)), 30);
            // Half of the requests are too old now; so they are all retries' basis is 500.
            assert_eq!(admitted(&budget, 0.2, 3, at(14)), 0);
            assert_eq!(admitted(&budget, 0.2, 3, at(19)), 30, "all is forgotten");
            assert_eq!(admitted(&budget, 0.2, 3, at(500)), 30);
        }
    }

    #[test]
    fn hedges_have_a_budget_of_their_own() {
        let budget = RetryBudget::new();
        let now = Instant::from_nanos(3_000_000_000);
        (0..100).for_each(|_| budget.count_request(now));
        assert_eq!(admitted(&budget, 0.2, 0, now), 20);
        for _ in 0..5 {
            assert!(budget.allows_hedge(0.05, now), "whatever was retried");
            assert!(budget.allows_hedge(0.05, now), "asking counts nothing");
            budget.count_hedge(now);
        }
        assert!(!budget.allows_hedge(0.05, now));
        assert!(!budget.allows_hedge(0.0, now));
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the test is about threads")]
    fn threads_lose_no_count() {
        let budget = RetryBudget::new();
        let now = Instant::ZERO + Duration::from_secs(7);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..25_000).for_each(|_| budget.count_request(now)));
            }
        });
        assert_eq!(admitted(&budget, 0.01, 0, now), 1000);
    }
}
