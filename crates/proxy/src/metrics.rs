//! Counters: one shard per worker, written by that worker alone, added up when asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use model::status::{ListenerMetrics, ServiceMetrics};

/// A counter with one writer: a load and a store, no locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }
    pub(crate) fn sub(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(count), Relaxed);
    }
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one worker counted on one listener.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ListenerShard {
    pub(crate) open: Counter,
    /// Connections that other workers handed to this one, and that it has not taken in yet.
    handed: AtomicU64,
    pub(crate) connections: Counter,
    pub(crate) refused: Counter,
    pub(crate) malformed: Counter,
    pub(crate) handshakes: Counter,
    pub(crate) handshakes_failed: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    responses: [Counter; 6],
}

impl ListenerShard {
    /// Connections that its worker has, or is about to have.
    pub(crate) fn load(&self) -> u64 {
        self.open.value() + self.handed.load(Relaxed)
    }

    /// Another worker hands one over.
    pub(crate) fn hand(&self) {
        self.handed.fetch_add(1, Relaxed);
    }

    /// What was handed over is taken in.
    pub(crate) fn take_in(&self) {
        self.handed.fetch_sub(1, Relaxed);
    }

    /// `status` 0: ended by a reset.
    pub(crate) fn response(&self, status: u16) {
        self.responses[usize::from(status / 100).min(5)].add(1);
    }

    pub(crate) fn add_to(&self, sum: &mut ListenerMetrics) {
        sum.connections_open += self.open.value();
        sum.connections += self.connections.value();
        sum.refused += self.refused.value();
        sum.malformed += self.malformed.value();
        sum.handshakes += self.handshakes.value();
        sum.handshakes_failed += self.handshakes_failed.value();
        sum.downstream_bytes_in += self.bytes_in.value();
        sum.downstream_bytes_out += self.bytes_out.value();
        for (total, count) in sum.responses.iter_mut().zip(&self.responses) {
            *total += count.value();
        }
    }
}

/// Four buckets per power of two of microseconds, up to about 70 minutes: at most 25 % wide.
const BUCKETS: usize = 4 * 32;

/// Latencies of one service as one worker saw them.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Latencies {
    buckets: [Counter; BUCKETS],
    sum_us: Counter,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            buckets: [const { Counter(AtomicU64::new(0)) }; BUCKETS],
            sum_us: Counter::default(),
        }
    }
}

impl Latencies {
    pub(crate) fn observe(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(us)].add(1);
        self.sum_us.add(us);
    }
}

fn bucket(us: u64) -> usize {
    if us < 4 {
        return us as usize; // less than 4
    }
    let exponent = us.ilog2();
    let quarter = (us >> (exponent - 2)) & 3;
    ((exponent as usize - 1) * 4 + quarter as usize).min(BUCKETS - 1)
}

/// The largest value that falls into bucket `index`.
fn bucket_bound(index: usize) -> u64 {
    if index < 4 {
        return index as u64;
    }
    if index == BUCKETS - 1 {
        return u64::MAX;
    }
    let (exponent, quarter) = (index / 4 + 1, (index % 4) as u64);
    (1 << exponent) + ((quarter + 1) << (exponent - 2)) - 1
}

/// The latencies of one service, a shard per worker.
pub(crate) fn sum_latencies(name: &str, shards: &[Latencies]) -> ServiceMetrics {
    let mut latency_us = Vec::new();
    for index in 0..BUCKETS {
        let count = shards.iter().map(|s| s.buckets[index].value()).sum::<u64>();
        if count > 0 {
            latency_us.push((bucket_bound(index), count));
        }
    }
    ServiceMetrics {
        name: name.to_owned(),
        latency_us,
        latency_us_sum: shards.iter().map(|s| s.sum_us.value()).sum(),
    }
}

/// One shard per worker.
pub(crate) fn shards<T: Default>(workers: usize) -> Arc<[T]> {
    (0..workers).map(|_| T::default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_at_or_below_its_bound_and_above_the_one_before() {
        for us in (0..5000).chain([1 << 20, (1 << 31) + 7, u64::MAX]) {
            let index = bucket(us);
            assert!(us <= bucket_bound(index), "{us} in {index}");
            assert!(index == 0 || us > bucket_bound(index - 1), "{us} in {index}");
        }
    }
}
