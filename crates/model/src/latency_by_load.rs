use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::Instant;

/// What requests took lately, by what was in flight when they began: the answer to "how long at
/// such a load?", as Prequal's servers give it (Wydrowski et al., NSDI 2024, section 4) from recent
/// latencies at or near that load. Shared by all workers without a lock; 264 bytes.
#[derive(Debug, Default)]
pub struct LatencyByLoad {
    /// For each range of loads the mean of its last latencies, packed; 0: none yet.
    means: [AtomicU64; RANGES],
    /// A bit for each range that has one: most have none.
    filled: AtomicU32,
}

/// Loads up to 7 by themselves, and then four ranges for each doubling, up to 512 and more.
const RANGES: usize = 32;

/// The weight of a latency in the mean, one in so many. The paper takes the median of the last
/// ones; a mean needs one number.
const GAIN: u64 = 4;

/// What is younger goes before what is nearer. What is older begins a mean anew.
const RECENT: Duration = Duration::from_secs(1);

impl LatencyByLoad {
    /// A request that began while so many others were in flight took so long.
    pub fn add(&self, in_flight: u32, latency: Duration, now: Instant) {
        let range = range(in_flight);
        let Some(slot) = self.means.get(range) else { return };
        let latency = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_MAX);
        let latency = latency.clamp(1, LATENCY_MAX);
        let packed = slot.load(Relaxed);
        let mean = if packed == 0 || age(packed, now) > RECENT_TICKS {
            latency
        } else {
            (mean(packed) * (GAIN - 1) + latency).div_ceil(GAIN)
        };
        // Two workers may overwrite each other's sample, which is harmless for a mean.
        slot.store(mean << TICKS_BITS | ticks(now), Relaxed);
        if packed == 0 {
            self.filled.fetch_or(1 << range, Relaxed);
        }
    }

    /// Whether nothing was ever added.
    pub fn is_empty(&self) -> bool {
        self.filled.load(Relaxed) == 0
    }

    /// What a request takes at this load; `None` if nothing was added for as long as `memory`,
    /// which is therefore how long an endpoint that was found slow, and got nothing since, is held
    /// to be so.
    pub fn at(&self, in_flight: u32, now: Instant, memory: Duration) -> Option<Duration> {
        let mut left = self.filled.load(Relaxed);
        if left == 0 {
            return None;
        }
        let memory = u64::try_from(memory.as_nanos()).unwrap_or(u64::MAX) / TICK_NANOS;
        let here = range(in_flight);
        let mut old = None;
        while left != 0 {
            let range = nearest(left, here);
            left &= !(1 << range);
            let packed = self.means[range].load(Relaxed);
            let age = age(packed, now);
            if age <= RECENT_TICKS.min(memory) {
                return Some(Duration::from_micros(mean(packed)));
            }
            if age <= memory && old.is_none() {
                old = Some(Duration::from_micros(mean(packed)));
            }
        }
        old
    }
}

/// Of the ranges in `set`, which is not empty, the nearest; the lower one of two.
fn nearest(set: u32, here: usize) -> usize {
    let upto = u32::MAX >> (RANGES - 1 - here);
    let (below, above) = (set & upto, set & !upto);
    if below == 0 {
        return above.trailing_zeros() as usize;
    }
    let lower = below.ilog2() as usize;
    let higher = above.trailing_zeros() as usize;
    if above != 0 && higher - here < here - lower { higher } else { lower }
}

fn range(in_flight: u32) -> usize {
    if in_flight < 8 {
        return in_flight as usize;
    }
    let doublings = in_flight.ilog2();
    let quarter = (in_flight >> (doublings - 2)) & 3;
    (8 + (doublings - 3) as usize * 4 + quarter as usize).min(RANGES - 1)
}

/// 40 bits of microseconds and 24 of time.
const TICKS_BITS: u32 = 24;
const TICKS_MASK: u64 = (1 << TICKS_BITS) - 1;
const LATENCY_MAX: u64 = (1 << (64 - TICKS_BITS)) - 1;

/// Time counts in sixteenths of a second: it comes round after twelve days.
const TICKS_PER_SECOND: u64 = 16;
const TICK_NANOS: u64 = 1_000_000_000 / TICKS_PER_SECOND;
const RECENT_TICKS: u64 = RECENT.as_secs() * TICKS_PER_SECOND;

fn mean(packed: u64) -> u64 {
    packed >> TICKS_BITS
}

fn age(packed: u64, now: Instant) -> u64 {
    ticks(now).wrapping_sub(packed) & TICKS_MASK
}

fn ticks(now: Instant) -> u64 {
    (now.as_nanos() / TICK_NANOS) & TICKS_MASK
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u32) -> Instant {
        Instant::ZERO + MS * ms
    }

    #[test]
    fn the_mean_at_the_nearest_load_counts() {
        let seen = LatencyByLoad::default();
        assert_eq!((seen.at(3, at(0), 5000 * MS), seen.is_empty()), (None, true));
        for in_flight in [0, 3, 12] {
            seen.add(in_flight, MS * (in_flight + 1) * 10, at(1000));
        }
        for (in_flight, expected) in [(0, 10), (1, 10), (2, 40), (3, 40), (13, 130), (900, 130)] {
            assert_eq!(seen.at(in_flight, at(1000), 5000 * MS), Some(MS * expected), "{in_flight}");
        }
        seen.add(3, MS * 80, at(1000));
        assert_eq!(seen.at(3, at(1000), 5000 * MS), Some(MS * 50));
        // What is recent goes before what is near, and begins the mean anew.
        seen.add(12, MS * 200, at(2200));
        assert_eq!(seen.at(3, at(2200), 5000 * MS), Some(MS * 200));
        assert!(!seen.is_empty());
    }

    #[test]
    fn what_is_old_is_forgotten_and_what_is_beyond_bounds_is_clamped() {
        let seen = LatencyByLoad::default();
        seen.add(2, 10 * MS, at(1000));
        assert_eq!(seen.at(2, at(6000), 5000 * MS), Some(10 * MS));
        assert_eq!(seen.at(2, at(6100), 5000 * MS), None);
        seen.add(u32::MAX, Duration::MAX, at(6200));
        assert_eq!(seen.at(0, at(6200), 5000 * MS), Some(Duration::from_micros(LATENCY_MAX)));
        seen.add(0, Duration::ZERO, at(6200));
        assert_eq!(seen.at(0, at(6200), 5000 * MS), Some(Duration::from_micros(1)));
    }

    #[test]
    fn ranges_get_wider() {
        let ranges: Vec<usize> = (0..600).map(range).collect();
        assert!(ranges.is_sorted() && ranges[599] == RANGES - 1);
        for load in [7, 8, 10, 63, 64, 447] {
            assert!(range(load + load / 4 + 1) > range(load), "{load}");
        }
        assert_eq!((range(9), range(10), range(511), range(u32::MAX)), (8, 9, 31, 31));
    }
}
