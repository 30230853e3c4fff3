//! Which of the balancers that share a store orders: one at a time, and another one if it is gone.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How often who has the lease says that it is still there.
pub(crate) const BEAT: Duration = Duration::from_secs(3);
/// A lease that did not change for so long is nobody's any more. Each balancer measures it by its
/// own clock, so that clocks need not agree.
pub(crate) const LAPSE: Duration = Duration::from_secs(15);

/// As it stands in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) owner: String,
    pub(crate) beat: u64,
}

/// What one balancer has seen of the lease of others.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    seen: Option<(Lease, Duration)>,
}

impl Watched {
    /// Whether the lease, as it stands in the store now, may be taken. `now`: on a clock that only
    /// goes forward.
    pub(crate) fn is_free(&mut self, lease: Option<&Lease>, now: Duration) -> bool {
        let Some(lease) = lease else {
            self.seen = None;
            return true;
        };
        match &self.seen {
            Some((seen, since)) if seen == lease => now.saturating_sub(*since) >= LAPSE,
            _ => {
                self.seen = Some((lease.clone(), now));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(owner: &str, beat: u64) -> Lease {
        Lease { owner: owner.into(), beat }
    }

    #[test]
    fn a_lease_is_free_once_it_stood_still() {
        let mut watched = Watched::default();
        let at = |seconds| Duration::from_secs(seconds);
        for (lease, now, free) in [
            (None, 100, true),
            (Some(lease("a", 1)), 100, false),
            (Some(lease("a", 1)), 114, false),
            // A sign of life begins it anew,
            (Some(lease("a", 2)), 114, false),
            (Some(lease("a", 2)), 128, false),
            (Some(lease("a", 2)), 129, true),
            // and so does another owner.
            (Some(lease("b", 2)), 129, false),
            (None, 130, true),
            (Some(lease("b", 2)), 200, false),
        ] {
            assert_eq!(watched.is_free(lease.as_ref(), at(now)), free, "{lease:?} at {now}");
        }
    }
}
