use std::time::Duration;

use model::Rng;

/// The first wait; long enough that a replica which exits at once does not burn a core.
const FIRST: Duration = Duration::from_millis(100);
/// No wait is longer (before jitter), so that a repaired replica is back within seconds.
const LONGEST: Duration = Duration::from_secs(10);
/// A replica that lived so long was well: the next failure starts anew.
const WELL_AFTER: Duration = Duration::from_secs(30);

/// How long to wait before a replica is started again: 100 ms, doubled each time up to 10 s, each
/// with up to a fifth more at random so that replicas which fell together do not rise together.
pub(crate) struct Backoff {
    next: Duration,
    rng: Rng,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self { next: FIRST, rng: Rng::from_seed(seed) }
    }

    /// The wait after a life of the length `lived`.
    pub(crate) fn after(&mut self, lived: Duration) -> Duration {
        if lived >= WELL_AFTER {
            self.next = FIRST;
        }
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait.mul_f64(1.0 + self.rng.unit() / 5.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_a_bound_and_a_long_life_resets() {
        let mut backoff = Backoff::new(1);
        for expected_ms in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
            let wait = backoff.after(Duration::ZERO).as_millis();
            assert!((expected_ms..=expected_ms * 6 / 5).contains(&wait), "{expected_ms} {wait}");
        }
        assert!(backoff.after(WELL_AFTER) < FIRST * 2);
    }
}
