//! What several policies learn of an endpoint in the same way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use model::Instant;

use crate::Candidate;

/// The weight of one answer in a mean of answers: that of TCP's smoothed round-trip time
/// (RFC 6298 section 2), as in [`model::Load`].
pub(crate) const GAIN: f64 = 0.125;

/// The share of successes counts as no less, so that a broken endpoint costs a thousand times
/// as much and not infinitely much: when all are broken, they must still compare.
pub(crate) const SUCCESS_MIN: f64 = 0.0316;

/// From this share of failures on, a failed request counts as all failing: what an endpoint
/// regained by waiting is lost again.
pub(crate) const FAILING_AGAIN: f64 = 0.25;

/// What is left after `age` times the decay: e^-age by its first terms, exact to the bit on every
/// machine, where the library's exponential function is not.
pub(crate) fn kept(age: f64) -> f64 {
    1.0 / (1.0 + age + age * age / 2.0)
}

/// Microseconds; never 0, which is "never".
pub(crate) fn micros(now: Instant) -> u64 {
    now.as_nanos() / 1000 + 1
}

/// One for each endpoint, by identity: kept when other endpoints come and go, and forgotten when
/// their own does. Locked only while a picker is prepared.
pub(crate) struct ByIdentity<T>(Mutex<BTreeMap<u64, Arc<T>>>);

impl<T> Default for ByIdentity<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Default> ByIdentity<T> {
    /// In the order of the candidates.
    pub(crate) fn of(&self, candidates: &[Candidate]) -> Vec<Arc<T>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *kept);
        let known = |candidate: &Candidate| before.remove(&candidate.identity_hash);
        let all: Vec<Arc<T>> =
            candidates.iter().map(known).map(Option::unwrap_or_default).collect();
        let identities = candidates.iter().map(|candidate| candidate.identity_hash);
        kept.extend(identities.zip(all.iter().cloned()));
        all
    }
}

/// The share of recent requests that failed, which time forgives. Two workers may overwrite each
/// other's report: harmless for an estimate.
#[derive(Default)]
pub(crate) struct Failing {
    /// Bits of an `f64`.
    share: AtomicU64,
    at_us: AtomicU64,
}

impl Failing {
    pub(crate) fn report(&self, failed: bool, now_us: u64, decay_us: f64) {
        // The usual case writes nothing.
        if !failed && self.share.load(Relaxed) == 0 {
            return;
        }
        let before = self.share(now_us, decay_us);
        let share = match failed {
            true if before >= FAILING_AGAIN => 1.0,
            true => before + (1.0 - before) * GAIN,
            false if before < FORGIVEN => 0.0,
            false => before * (1.0 - GAIN),
        };
        self.share.store(share.to_bits(), Relaxed);
        self.at_us.store(now_us, Relaxed);
    }

    fn share(&self, now_us: u64, decay_us: f64) -> f64 {
        let share = f64::from_bits(self.share.load(Relaxed));
        if share == 0.0 {
            return 0.0;
        }
        share * kept(now_us.saturating_sub(self.at_us.load(Relaxed)) as f64 / decay_us)
    }

    /// What an endpoint is worth: the square of the share of its requests that succeed. 1 if all
    /// do, a quarter if half do, a thousandth if none does.
    pub(crate) fn worth(&self, now_us: u64, decay_us: f64) -> f64 {
        let success = (1.0 - self.share(now_us, decay_us)).max(SUCCESS_MIN);
        success * success
    }
}

/// A smaller share is none.
const FORGIVEN: f64 = 0.001;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_cost_more_than_their_share_and_are_forgiven() {
        let decay = 1e6;
        let failing = Failing::default();
        assert_eq!(failing.worth(1, decay), 1.0);
        failing.report(true, 1, decay);
        assert!((0.76..0.77).contains(&failing.worth(1, decay)), "a rare one costs little");
        (0..3).for_each(|_| failing.report(true, 1, decay));
        assert!(failing.worth(1, decay) < 0.0011);
        // Forgiven by time, and lost again at once.
        assert!(failing.worth(1_000_001, decay) > 0.3);
        failing.report(true, 1_000_001, decay);
        assert!(failing.worth(1_000_001, decay) < 0.0011);
        // Or by answers.
        (0..60).for_each(|_| failing.report(false, 1_000_001, decay));
        assert_eq!(failing.worth(1_000_001, decay), 1.0);
    }

    #[test]
    fn what_is_known_follows_the_identity() {
        let all: ByIdentity<AtomicU64> = ByIdentity::default();
        let candidates = |hashes: &[u64]| -> Vec<Candidate> {
            let candidate = |hash: &u64| Candidate { weight: 1, zone: None, identity_hash: *hash };
            hashes.iter().map(candidate).collect()
        };
        all.of(&candidates(&[1, 2]))[1].store(7, Relaxed);
        assert_eq!(all.of(&candidates(&[2, 3]))[0].load(Relaxed), 7);
        assert_eq!(all.of(&candidates(&[3])).len(), 1);
        assert_eq!(all.of(&candidates(&[2]))[0].load(Relaxed), 0, "it was away");
    }
}
