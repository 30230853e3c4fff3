use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::Instant;

/// The process's monotonic clock, as the crates below the shell know time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: std::time::Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        // A minute of head room, so that `now` less a short time never saturates at zero.
        let now = std::time::Instant::now();
        Self { start: now.checked_sub(Duration::from_secs(60)).unwrap_or(now) }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The same moment for the runtime's timers.
    pub(crate) fn runtime(&self, at: Instant) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.start + Duration::from_nanos(at.as_nanos()))
    }
}

/// Milliseconds since 1970, for logs.
pub(crate) fn unix_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
