use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use model::Instant;

/// When endpoints were asked last, so that they are asked again after a quiet time. All workers
/// note it and one place is written, so it is written seldom.
pub(super) struct Asked {
    /// In nanoseconds; out by a sixteenth of the idle time at most.
    at: AtomicU64,
    idle: Duration,
    precision: u64,
}

impl Asked {
    pub(super) fn new(idle: Duration) -> Self {
        let precision = u64::try_from(idle.as_nanos() / 16).unwrap_or(u64::MAX);
        Self { at: AtomicU64::new(0), idle, precision }
    }

    pub(super) fn note(&self, now: Instant) {
        let before = self.at.load(Relaxed);
        if now.as_nanos().saturating_sub(before) >= self.precision {
            self.at.store(now.as_nanos(), Relaxed);
        }
    }

    /// When nothing was asked for so long, unless something is until then.
    pub(super) fn idle_at(&self) -> Instant {
        Instant::from_nanos(self.at.load(Relaxed)) + self.idle
    }
}
