use std::array;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Relaxed},
};
use std::time::Duration;

use model::Instant;

use crate::budget::shard;

/// How long a service's endpoints took of late until their answers began, as a histogram that all
/// workers write to: constant time, no lock, no allocation.
///
/// Old samples go by slices: each covers [`SLICE`], the oldest is emptied and used again, and a
/// quantile is that of all slices together, so of the last 10 to 15 s. Only answers are samples.
/// An attempt that was cancelled had lasted long, too; but if that counted, a replica that stalls
/// would raise the quantile until nothing was hedged any more, just when hedges are needed.
pub(crate) struct Quantiles {
    slices: [Slice; SLICES],
    /// When the kept quantile was worked out, in ticks, in the upper half; the quantile's bucket
    /// and one more in the lower, 0: too few samples.
    kept: AtomicU64,
}

struct Slice {
    /// Which stretch of time it now counts, plus one; 0: none yet.
    number: AtomicU64,
    shards: [Shard; SHARDS],
}

#[repr(align(128))]
struct Shard([AtomicU32; BUCKETS]);

const SLICE: Duration = Duration::from_secs(5);
const SLICES: usize = 3;

/// Fewer than those of the budget: a row of buckets is long enough that two workers seldom meet
/// in one line of the cache.
const SHARDS: usize = 4;

/// The quantile is worked out anew after so long, by whoever asks first: some thousand loads.
const KEEP: Duration = Duration::from_millis(100);

/// With fewer, a quantile is anecdote: of 50, the 95th percentile is the third from the top.
const SAMPLES_MIN: u64 = 50;

/// Eight buckets for each power of two microseconds (log-linear, as in HdrHistogram by Gil Tene):
/// a bucket is at most an eighth of its value wide.
const PRECISION: u32 = 3;
/// Up to 2^27 us, some two minutes; what took longer counts as that.
const BUCKETS: usize = ((27 - PRECISION + 1) << PRECISION) as usize;

impl Quantiles {
    pub(crate) fn new() -> Box<Self> {
        let zeros = |_| Shard(array::from_fn(|_| AtomicU32::new(0)));
        let slice = |_| Slice { number: AtomicU64::new(0), shards: array::from_fn(zeros) };
        Box::new(Self { slices: array::from_fn(slice), kept: AtomicU64::new(0) })
    }

    /// An answer began after `latency`.
    pub(crate) fn observe(&self, latency: Duration, now: Instant) {
        let number = now.as_nanos() / SLICE.as_nanos() as u64 + 1;
        let slice = &self.slices[(number % SLICES as u64) as usize];
        let seen = slice.number.load(Relaxed);
        if seen != number {
            // A worker that is late by a slice does not bring it back.
            if seen > number {
                return;
            }
            // Samples that others count while it is emptied may be lost: a few in five seconds.
            if slice.number.compare_exchange(seen, number, AcqRel, Relaxed).is_ok() {
                let counts = slice.shards.iter().flat_map(|shard| &shard.0);
                counts.for_each(|count| count.store(0, Relaxed));
            }
        }
        slice.shards[shard() % SHARDS].0[bucket(latency)].fetch_add(1, Relaxed);
    }

    /// The latency that this share of the samples is at or below; `None` if there are too few.
    /// As it was up to a tenth of a second ago.
    pub(crate) fn quantile(&self, share: f64, now: Instant) -> Option<Duration> {
        let tick = (now.as_nanos() / KEEP.as_nanos() as u64) & u64::from(u32::MAX);
        let kept = self.kept.load(Relaxed);
        let bucket = if kept >> 32 == tick && tick != 0 {
            kept as u32
        } else {
            let bucket = self.find(share, now).map_or(0, |bucket| bucket as u32 + 1);
            self.kept.store(tick << 32 | u64::from(bucket), Relaxed);
            bucket
        };
        bucket.checked_sub(1).map(|bucket| upper_end(bucket as usize))
    }

    /// Forgets the quantile that was worked out last: another one is asked for from now on.
    pub(crate) fn forget(&self) {
        self.kept.store(0, Relaxed);
    }

    fn find(&self, share: f64, now: Instant) -> Option<usize> {
        let number = now.as_nanos() / SLICE.as_nanos() as u64 + 1;
        let mut counts = [0u64; BUCKETS];
        for slice in &self.slices {
            if slice.number.load(Relaxed) + SLICES as u64 > number {
                for shard in &slice.shards {
                    for (sum, count) in counts.iter_mut().zip(&shard.0) {
                        *sum += u64::from(count.load(Relaxed));
                    }
                }
            }
        }
        let total: u64 = counts.iter().sum();
        if total < SAMPLES_MIN {
            return None;
        }
        let rank = ((share * total as f64).ceil() as u64).clamp(1, total);
        let mut seen = 0;
        counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })
    }
}

fn bucket(latency: Duration) -> usize {
    let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    let shift = (64 - us.leading_zeros()).saturating_sub(PRECISION + 1);
    let bucket = (u64::from(shift) << PRECISION) + (us >> shift);
    (bucket as usize).min(BUCKETS - 1)
}

/// The longest latency of the bucket, and a microsecond: whoever waits so long has waited longer.
fn upper_end(bucket: usize) -> Duration {
    let (row, first) = (bucket >> PRECISION, bucket & ((1 << PRECISION) - 1));
    let us = match row.checked_sub(1) {
        None => first as u64 + 1,
        Some(shift) => (first as u64 + (1 << PRECISION) + 1) << shift,
    };
    Duration::from_micros(us)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Instant {
        Instant::ZERO + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_bucket_holds_its_value_closely() {
        for us in (0..3000).chain([1 << 20, 99_999_999]) {
            let latency = Duration::from_micros(us);
            let end = upper_end(bucket(latency)).as_micros() as u64;
            assert!(end > us && end - us <= us / 8 + 1, "{us}: {end}");
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
        assert_eq!(bucket(Duration::from_micros((1 << 27) - 1)), BUCKETS - 1);
    }

    #[test]
    fn quantiles_of_the_last_seconds() {
        let quantiles = Quantiles::new();
        assert_eq!(quantiles.quantile(0.95, at(1.0)), None);
        for ms in 1..=49 {
            quantiles.observe(Duration::from_millis(ms), at(1.1));
        }
        assert_eq!(quantiles.quantile(0.95, at(1.1)), None, "too few");
        for ms in 50..=1000 {
            quantiles.observe(Duration::from_millis(ms), at(1.1));
        }
        assert_eq!(quantiles.quantile(0.95, at(1.19)), None, "kept for a moment");
        for (share, ms, second) in [(0.5, 500.0, 1.2), (0.95, 950.0, 4.0), (0.99, 990.0, 9.9)] {
            let got = quantiles.quantile(share, at(second)).unwrap().as_secs_f64() * 1000.0;
            assert!((0.0..0.125).contains(&(got / ms - 1.0f64)), "{share}: {got}");
        }
        let before = quantiles.quantile(0.5, at(9.95));
        quantiles.forget();
        assert_ne!(quantiles.quantile(0.5, at(9.95)), before, "it was the 99th percentile");
        for _ in 0..950 {
            quantiles.observe(Duration::from_micros(100), at(10.0));
        }
        let got = quantiles.quantile(0.95, at(14.9)).unwrap();
        assert!(got > Duration::from_millis(800), "the old ones still count: {got:?}");
        let got = quantiles.quantile(0.95, at(15.0)).unwrap();
        assert!(got < Duration::from_micros(115), "and are gone a slice later: {got:?}");
        assert_eq!(quantiles.quantile(0.95, at(25.0)), None);
        (0..100).for_each(|_| quantiles.observe(Duration::from_secs(1), at(1.0)));
        assert_eq!(quantiles.quantile(0.95, at(25.1)), None, "these come too late");
    }
}
