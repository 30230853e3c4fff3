use std::time::Duration;

use model::Rng;

/// An engine that was restarted is back within a second or two.
const FIRST: Duration = Duration::from_millis(100);
/// So that one that returns after hours is noticed within seconds.
const LONGEST: Duration = Duration::from_secs(5);

/// How long to wait before the next attempt: 100 ms, doubled each time up to 5 s, each with up to
/// a half more by chance, so that many balancers do not all come at once.
pub struct Backoff {
    next: Duration,
    rng: Rng,
}

impl Backoff {
    pub fn new(seed: u64) -> Self {
        Self { next: FIRST, rng: Rng::from_seed(seed) }
    }

    /// How long to wait now.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait.mul_f64(1.0 + self.rng.unit() / 2.0)
    }

    /// It worked: the next failure begins anew.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_a_bound() {
        let mut backoff = Backoff::new(1);
        for expected_ms in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let wait = backoff.wait().as_millis();
            assert!((expected_ms..=expected_ms * 3 / 2).contains(&wait), "{expected_ms} {wait}");
        }
        backoff.reset();
        assert!(backoff.wait() <= FIRST * 2);
    }
}
