//! When a connection that works is ended all the same, in order.

use std::time::Duration;

use model::spec::ListenerSpec;
use model::{Instant, Rng};

/// How old a client's connection becomes, and how many requests it may carry. Neither ends it in
/// the middle of anything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retirement {
    pub(crate) at: Instant,
    requests_left: u64,
}

impl Retirement {
    /// Of a connection that was accepted then. What changes of the listener later is for others.
    pub(crate) fn new(accepted_at: Instant, spec: &ListenerSpec, rng: &mut Rng) -> Self {
        let age = spec.timeouts.connection_age;
        Self {
            at: age.map_or(Instant::FAR_FUTURE, |age| accepted_at + less_a_tenth(age, rng)),
            requests_left: spec.limits.requests_per_connection.unwrap_or(u64::MAX),
        }
    }

    /// Of what carries one request.
    pub(crate) fn never() -> Self {
        Self { at: Instant::FAR_FUTURE, requests_left: u64::MAX }
    }

    /// A request came.
    pub(crate) fn count(&mut self) {
        self.requests_left = self.requests_left.saturating_sub(1);
    }

    /// Should what goes on now be the last?
    pub(crate) fn is_due(&self, now: impl FnOnce() -> Instant) -> bool {
        self.requests_left == 0 || (self.at != Instant::FAR_FUTURE && self.at <= now())
    }
}

/// The age of one connection of many: up to a tenth less by chance, so that those that were made
/// together do not end together.
pub(crate) fn less_a_tenth(age: Duration, rng: &mut Rng) -> Duration {
    let tenth = u64::try_from(age.as_nanos() / 10).unwrap_or(u64::MAX);
    age.saturating_sub(Duration::from_nanos(rng.below(tenth.max(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_request_and_the_last_tenth() {
        let mut retirement = Retirement { at: Instant::FAR_FUTURE, requests_left: 2 };
        let now = || Instant::ZERO;
        retirement.count();
        assert!(!retirement.is_due(now));
        retirement.count();
        assert!(retirement.is_due(now));
        retirement.count();
        assert!(retirement.is_due(now) && !Retirement::never().is_due(now));
        let mut rng = Rng::from_seed(7);
        let ages: Vec<u64> = (0..1000)
            .map(|_| less_a_tenth(Duration::from_secs(1000), &mut rng).as_secs())
            .collect();
        assert!(ages.iter().all(|age| (900..=1000).contains(age)));
        assert!(ages.iter().any(|age| *age < 910) && ages.iter().any(|age| *age > 990));
    }
}
