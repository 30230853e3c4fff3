use std::collections::BTreeSet;
use std::sync::Arc;

use health::{Checker, Outlier, Ramp, State};
use model::status::{EndpointState, EndpointStatus, UtilizationStatus};
use model::{Endpoint, EndpointId, Instant, Utilization, Weight};

use crate::EndpointHandle;
use crate::control::Learner;

/// One endpoint as the control side knows it.
pub(crate) struct Member {
    pub(crate) endpoint: Endpoint,
    /// An operator's, in place of the endpoint's own.
    pub(crate) weight: Option<Weight>,
    pub(crate) standing: Standing,
    pub(crate) told: Told,
    pub(crate) checker: Checker,
    pub(crate) outlier: Outlier,
    /// On its way to its share.
    pub(crate) ramp: Option<Ramp>,
    /// As of the last snapshot.
    pub(crate) role: Role,
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

/// What its agent says, until it says something else.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// Of its weight, 0 to 25,600.
    pub(crate) percent: u16,
    /// Out of service, and why.
    pub(crate) down: Option<String>,
}

impl Told {
    pub(crate) const NOTHING: Told = Told { percent: 100, down: None };
}

/// What a member was to the last snapshot.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Role {
    /// It was healthy: if it is again in the next, it did not just begin to serve.
    pub(crate) was_healthy: bool,
    /// Ill, and used all the same.
    pub(crate) in_panic: bool,
    /// How far its slow start is, in percent of whoever is furthest; `None`: over.
    pub(crate) ramp: Option<u8>,
    /// Successes when its ramp last made a step.
    pub(crate) successes: u64,
}

impl Member {
    /// Neither drained nor out nor ejected. One that stands by was so when it was removed.
    pub(crate) fn is_healthy(&self) -> bool {
        self.standing != Standing::Drained && self.is_well() && !self.outlier.is_ejected()
    }

    /// Its checks pass, and its agent has nothing against it.
    pub(crate) fn is_well(&self) -> bool {
        self.checker.state() == State::Healthy && self.told.down.is_none()
    }

    /// Neither drained nor out, whether or not it is ejected.
    pub(crate) fn is_listed_and_checked(&self) -> bool {
        self.standing == Standing::Listed && self.is_well()
    }

    /// Listed, healthy, and with a weight: others may be left out as long as there is such a one.
    pub(crate) fn can_serve(&self) -> bool {
        self.standing == Standing::Listed && self.is_healthy() && self.weight().0 > 0
    }

    /// Zero if its agent says so.
    pub(crate) fn weight(&self) -> Weight {
        match self.told.percent {
            0 => Weight(0),
            _ => self.weight.unwrap_or(self.endpoint.weight),
        }
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

    pub(crate) fn status(&self, now: Instant) -> EndpointStatus {
        let checked = self.checker.reason();
        let (state, mut reason) = match (self.standing, self.checker.state()) {
            (Standing::Drained, _) => (EndpointState::Draining, format!("drained; {checked}")),
            (Standing::Standby { .. }, _) => {
                let reason = "removed; serves until a new endpoint is proven".to_owned();
                (EndpointState::Draining, reason)
            }
            (Standing::Listed, State::Unproven) => (EndpointState::Unproven, checked.to_string()),
            (Standing::Listed, State::Healthy) => {
                match (&self.told.down, self.outlier.describe(now)) {
                    (Some(said), _) => (EndpointState::Unhealthy, format!("its agent: {said}")),
                    (None, Some(evidence)) => (EndpointState::Ejected, evidence),
                    (None, None) => (EndpointState::Healthy, checked.to_string()),
                }
            }
            (Standing::Listed, State::Unhealthy) => (EndpointState::Unhealthy, checked.to_string()),
        };
        if state == EndpointState::Healthy && self.outlier.is_on_probation() {
            reason.push_str("; was ejected, on probation");
        }
        if let Some(ramp) = self.role.ramp {
            reason.push_str(&format!("; slow start {ramp} %"));
        }
        if self.told.percent != 100 {
            reason.push_str(&format!("; its agent: {} % of the weight", self.told.percent));
        }
        if self.role.in_panic {
            reason.push_str("; used in panic");
        }
        let load = &self.handle.load;
        let tally = load.tally();
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
            measured: tally.measured,
            latency_sum_us: tally.latency_sum_us,
            resting: load.is_resting(now),
            utilization: load.utilization().map(|(utilization, _)| told(utilization)),
        }
    }
}

fn told(Utilization { cpu, memory, application }: Utilization) -> UtilizationStatus {
    let share = |thousandths: Option<u16>| thousandths.map(|value| f64::from(value) / 1000.0);
    UtilizationStatus { cpu: share(cpu), memory: share(memory), application: share(application) }
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
