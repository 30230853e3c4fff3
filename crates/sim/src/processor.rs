use std::time::Duration;

use model::Instant;

/// How much of its threads an endpoint has used lately: busy threads over threads, as a mean whose
/// memory fades. Who queues has no thread, so it is 1 at most.
pub(crate) struct Processor {
    /// `None`: as many as are wanted, so that no share of them is in use.
    threads: Option<u32>,
    busy: u32,
    /// The mean, as it was `at`.
    mean: f64,
    at: Instant,
}

/// Of what was so long ago, 1/e still counts: about what applications report, which read their CPU
/// time once a second.
const MEMORY: Duration = Duration::from_secs(1);

impl Processor {
    pub(crate) fn new(threads: Option<u32>) -> Self {
        Self { threads, busy: 0, mean: 0.0, at: Instant::ZERO }
    }

    pub(crate) fn set_busy(&mut self, busy: u32, now: Instant) {
        if let Some(threads) = self.threads {
            (self.mean, self.at) = (self.mean(threads, now), now);
            self.busy = busy;
        }
    }

    /// A new process has used nothing yet.
    pub(crate) fn restart(&mut self) {
        *self = Self::new(self.threads);
    }

    /// In thousandths of all threads.
    pub(crate) fn utilization(&self, now: Instant) -> Option<u16> {
        let threads = self.threads?;
        // At most 1000: no thread is busy twice.
        Some((self.mean(threads, now) * 1000.0).round() as u16)
    }

    fn mean(&self, threads: u32, now: Instant) -> f64 {
        let left = (-now.since(self.at).as_secs_f64() / MEMORY.as_secs_f64()).exp();
        let present = f64::from(self.busy) / f64::from(threads.max(1));
        self.mean * left + present * (1.0 - left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_threads_with_a_memory() {
        let at = |ms: u64| Instant::ZERO + Duration::from_millis(ms);
        let mut processor = Processor::new(Some(4));
        assert_eq!(processor.utilization(at(0)), Some(0));
        processor.set_busy(2, at(0));
        // 1 - 1/e of the half that is busy; then nearly all of it.
        assert_eq!(
            [0, 1000, 9000].map(|ms| processor.utilization(at(ms))),
            [0, 316, 500].map(Some)
        );
        processor.set_busy(4, at(9000));
        assert_eq!(processor.utilization(at(19_000)), Some(1000));
        processor.set_busy(0, at(19_000));
        assert_eq!(processor.utilization(at(20_000)), Some(368));
        processor.restart();
        assert_eq!(processor.utilization(at(20_000)), Some(0));
        assert_eq!(Processor::new(None).utilization(at(0)), None);
    }
}
