use std::collections::BTreeSet;
use std::sync::Arc;

use health::{Checker, State};
use model::status::{EndpointState, EndpointStatus};
use model::{Endpoint, EndpointId, Instant, Weight};

use crate::EndpointHandle;
use crate::control::Learner;

/// One endpoint as the control side knows it.
pub(crate) struct Member {
    pub(crate) endpoint: Endpoint,
    /// An operator's, in place of the endpoint's own.
    pub(crate) weight: Option<Weight>,
    pub(crate) standing: Standing,
    pub(crate) checker: Checker,
    pub(crate) handle: Arc<EndpointHandle>,
    /// Its entry in `Control::timers`, if it is not the far future.
    pub(crate) timer: Instant,
    /// If its limit is learnt.
    pub(crate) learner: Option<Learner>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Listed,
    /// Listed, and drained by an operator.
    Drained,
    /// Removed, but the best that there is until a new endpoint is proven.
    Standby {
        until: Instant,
    },
}

impl Member {
    /// Neither drained nor out. One that stands by was so when it was removed.
    pub(crate) fn is_healthy(&self) -> bool {
        self.standing != Standing::Drained && self.checker.state() == State::Healthy
    }

    pub(crate) fn weight(&self) -> Weight {
        self.weight.unwrap_or(self.endpoint.weight)
    }

    /// Checks show it well: what traffic held against it before is settled.
    pub(crate) fn proven(&self) {
        self.handle.load.forgive();
        self.handle.judged();
    }

    pub(crate) fn identity_hash(&self) -> u64 {
        identity_hash(&self.endpoint.id)
    }

    /// Moves its entry among the timers; [`Instant::FAR_FUTURE`]: it has none.
    pub(crate) fn set_timer(&mut self, timers: &mut BTreeSet<(Instant, u64)>, at: Instant) {
        if self.timer == at {
            return;
        }
        let key = self.handle.key;
        timers.remove(&(self.timer, key));
        if at != Instant::FAR_FUTURE {
            timers.insert((at, key));
        }
        self.timer = at;
    }

    pub(crate) fn status(&self) -> EndpointStatus {
        let checked = self.checker.reason();
        let (state, reason) = match (self.standing, self.checker.state()) {
            (Standing::Drained, _) => (EndpointState::Draining, format!("drained; {checked}")),
            (Standing::Standby { .. }, _) => {
                let reason = "removed; serves until a new endpoint is proven".to_owned();
                (EndpointState::Draining, reason)
            }
            (Standing::Listed, State::Unproven) => (EndpointState::Unproven, checked.to_string()),
            (Standing::Listed, State::Healthy) => (EndpointState::Healthy, checked.to_string()),
            (Standing::Listed, State::Unhealthy) => (EndpointState::Unhealthy, checked.to_string()),
        };
        let load = &self.handle.load;
        EndpointStatus {
            id: self.endpoint.id.to_string(),
            address: self.endpoint.address,
            weight: self.weight().0,
            priority: self.endpoint.priority,
            zone: self.endpoint.zone.as_ref().map(|zone| zone.to_string()),
            state,
            reason,
            in_flight: load.in_flight(),
            limit: self.handle.limit(),
            queued: self.handle.limit.queued(),
            requests: load.picks(),
            failures: load.failures(),
            latency_us: load.latency().map(|mean| mean.as_micros() as u64),
        }
    }
}

/// Places an endpoint for hash policies, the same in every process and version: FNV-1a of the id
/// (Fowler, Noll and Vo, 64 bits), then the mixing steps of SplitMix64, as FNV alone leaves the
/// upper bits of similar ids similar.
fn identity_hash(id: &EndpointId) -> u64 {
    let fnv = id.as_str().bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
