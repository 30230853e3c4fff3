use std::time::Duration;

/// Counts durations in buckets whose width is at most 1/256 of their value (log-linear, as in
/// HdrHistogram by Gil Tene), so that a percentile is known to 0.4 %.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u32>,
    total: u64,
    most: u64,
}

/// Buckets for each power of two, as a power of two.
const PRECISION: u32 = 8;

impl Histogram {
    pub(crate) fn new() -> Self {
        // Nanoseconds of 64 bits; one row of buckets for each power of two.
        Self { counts: vec![0; ((65 - PRECISION) << PRECISION) as usize], total: 0, most: 0 }
    }

    pub(crate) fn add(&mut self, value: Duration) {
        let nanos = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
        self.most = self.most.max(nanos);
    }

    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
        self.most = 0;
    }

    /// The value that this share of all is at or below (the upper end of its bucket, or
    /// the greatest of all); zero if
    /// there are none.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = ((share * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return Duration::from_nanos(upper_end(bucket).min(self.most));
            }
        }
        Duration::ZERO
    }
}

fn bucket(nanos: u64) -> usize {
    let shift = (64 - nanos.leading_zeros()).saturating_sub(PRECISION + 1);
    ((shift << PRECISION) + (nanos >> shift) as u32) as usize
}

fn upper_end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let row = bucket >> PRECISION;
    if row < 2 {
        return bucket;
    }
    let shift = row - 1;
    let first = bucket - (shift << PRECISION);
    (first << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_value_closely() {
        for nanos in (0..2000).chain([1 << 20, (1 << 40) + 12_345, u64::MAX >> 1, u64::MAX]) {
            let end = upper_end(bucket(nanos));
            assert!(end >= nanos && end - nanos <= nanos / 256, "{nanos}: {end}");
        }
    }

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);
        (1..=1000).for_each(|ms| histogram.add(Duration::from_millis(ms)));
        for (share, ms) in [(0.0, 1.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let got = histogram.quantile(share).as_secs_f64() * 1000.0;
            assert!((got / ms - 1.0f64).abs() < 0.004, "{share}: {got}");
        }
    }
}
