use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::Instant;

/// What requests took lately, by what was in flight when they began: the answer to "how long at
/// such a load?", as Prequal's servers give it (Wydrowski et al., NSDI 2024, section 4): the
/// median of the recent latencies at or near that load. Shared by all workers without a lock;
/// 136 bytes.
#[derive(Debug, Default)]
pub struct LatencyByLoad {
    /// The last ones, packed; 0: none yet.
    samples: [AtomicU64; SAMPLES],
    next: AtomicU32,
}

/// So many are remembered.
const SAMPLES: usize = 16;

/// The median is of so many: those whose load was nearest.
const NEAREST: usize = 5;

/// What is older says nothing of now. It is also how long an endpoint that was found slow, and
/// got nothing since, is held to be so.
const MEMORY: Duration = Duration::from_secs(5);

impl LatencyByLoad {
    /// A request that began while so many others were in flight took so long.
    pub fn add(&self, in_flight: u32, latency: Duration, now: Instant) {
        let index = self.next.fetch_add(1, Relaxed) as usize % SAMPLES;
        let sample = Sample { in_flight, latency_us: micros(latency), at: ticks(now) };
        self.samples[index].store(sample.pack(), Relaxed);
    }

    /// Whether anything was ever added.
    pub fn is_empty(&self) -> bool {
        self.next.load(Relaxed) == 0
    }

    /// What a request takes at this load; `None` if nothing was added in the last five seconds.
    pub fn at(&self, in_flight: u32, now: Instant) -> Option<Duration> {
        // By distance in load, and the later first.
        let mut nearest = [(u32::MAX, u32::MAX, 0); NEAREST];
        let mut count = 0;
        for sample in &self.samples {
            let Some(sample) = Sample::unpack(sample.load(Relaxed)) else { continue };
            // Modulo 2^24, as they are kept.
            let age = ticks(now).wrapping_sub(sample.at) & TICKS_MASK;
            if age > MEMORY_TICKS {
                continue;
            }
            let entry = (sample.in_flight.abs_diff(in_flight), age, sample.latency_us);
            let place = nearest.iter().position(|other| entry < *other);
            if let Some(place) = place {
                nearest[place..].rotate_right(1);
                nearest[place] = entry;
                count = (count + 1).min(NEAREST);
            }
        }
        let mut latencies = nearest.map(|(_, _, latency)| latency);
        let latencies = &mut latencies[..count];
        latencies.sort_unstable();
        let median = *latencies.get(count / 2)?;
        Some(Duration::from_micros(median.into()))
    }
}

/// 12 bits of load, 28 of latency, 24 of time.
#[derive(Clone, Copy)]
struct Sample {
    in_flight: u32,
    latency_us: u32,
    at: u32,
}

const LATENCY_BITS: u32 = 28;
const TICKS_BITS: u32 = 24;
const IN_FLIGHT_MAX: u32 = (1 << (64 - LATENCY_BITS - TICKS_BITS)) - 1;
const LATENCY_MASK: u32 = (1 << LATENCY_BITS) - 1;
const TICKS_MASK: u32 = (1 << TICKS_BITS) - 1;

/// Time counts in sixteenths of a second: it comes round after twelve days.
const TICKS_PER_SECOND: u64 = 16;
const MEMORY_TICKS: u32 = (MEMORY.as_secs() * TICKS_PER_SECOND) as u32;

impl Sample {
    /// Never 0, since no latency is.
    fn pack(self) -> u64 {
        u64::from(self.in_flight.min(IN_FLIGHT_MAX)) << (LATENCY_BITS + TICKS_BITS)
            | u64::from(self.latency_us.clamp(1, LATENCY_MASK)) << TICKS_BITS
            | u64::from(self.at & TICKS_MASK)
    }

    fn unpack(packed: u64) -> Option<Self> {
        (packed != 0).then_some(Self {
            in_flight: (packed >> (LATENCY_BITS + TICKS_BITS)) as u32,
            latency_us: (packed >> TICKS_BITS) as u32 & LATENCY_MASK,
            at: packed as u32 & TICKS_MASK,
        })
    }
}

fn ticks(now: Instant) -> u32 {
    (now.as_nanos() / (1_000_000_000 / TICKS_PER_SECOND)) as u32
}

fn micros(latency: Duration) -> u32 {
    u32::try_from(latency.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u32) -> Instant {
        Instant::ZERO + MS * ms
    }

    #[test]
    fn the_median_of_the_nearest_loads_counts() {
        let seen = LatencyByLoad::default();
        assert_eq!((seen.at(3, at(0)), seen.is_empty()), (None, true));
        for in_flight in 0..8 {
            seen.add(in_flight, MS * (in_flight + 1) * 10, at(1000));
        }
        assert_eq!(seen.at(4, at(1000)), Some(MS * 50));
        assert_eq!(seen.at(0, at(1000)), Some(MS * 30));
        assert_eq!(seen.at(1000, at(1000)), Some(MS * 60));
        // One outlier changes nothing.
        seen.add(4, MS * 9000, at(1000));
        assert_eq!(seen.at(4, at(1000)), Some(MS * 50));
    }

    #[test]
    fn what_is_old_is_forgotten_and_what_is_beyond_bounds_is_clamped() {
        let seen = LatencyByLoad::default();
        seen.add(2, 10 * MS, at(1000));
        assert_eq!(seen.at(2, at(6000)), Some(10 * MS));
        assert_eq!(seen.at(2, at(6100)), None);
        seen.add(u32::MAX, Duration::from_secs(10_000), at(6200));
        assert_eq!(seen.at(0, at(6200)), Some(Duration::from_micros(LATENCY_MASK.into())));
        seen.add(0, Duration::ZERO, at(6200));
        assert_eq!(seen.at(0, at(6200)), Some(Duration::from_micros(LATENCY_MASK.into())));
        for _ in 0..SAMPLES {
            seen.add(0, Duration::ZERO, at(6300));
        }
        assert_eq!(seen.at(0, at(6300)), Some(Duration::from_micros(1)));
    }
}
