//! Self-preservation: when most instances fall silent at once, it is the network or the registry
//! that failed, and not they.
//!
//! The rule is Eureka's (Netflix, `PeerAwareInstanceRegistryImpl.isLeaseExpirationEnabled`, with
//! `renewalPercentThreshold`): while fewer heartbeats come than this share of those expected, no
//! instance is removed for its silence. Eureka counts heartbeats of the last minute against a
//! number that it computes anew every quarter of an hour; here each instance is held against its
//! own interval, so that the rule is right from the first heartbeat on and for every mixture of
//! TTLs: an instance is *late* once it was not heard of for half of its TTL, which is one and a
//! half of its intervals. At the moment at which the first of those that fell silent together
//! would leave, all of them are late.

use std::time::Duration;

use model::Instant;

/// When silence is not believed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PreservationRule {
    /// With fewer than this share of the instances on time, those that are silent stay. 0: never.
    /// Default 0.5; Eureka's is 0.85, where the loss of one instance of five begins it.
    pub renewals_min: f64,
    /// With fewer instances than this there is no "most": each leaves after its TTL. Default 3.
    pub instances_min: usize,
    /// Silence that lasts so long is believed after all. Default 1 h.
    pub hold_max: Duration,
}

impl Default for PreservationRule {
    fn default() -> Self {
        Self { renewals_min: 0.5, instances_min: 3, hold_max: Duration::from_secs(3600) }
    }
}

/// Whether silence is believed now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preservation {
    /// Since when it is not, while it is not.
    pub since: Option<Instant>,
    /// How often that began.
    pub begun: u64,
}

impl Preservation {
    /// Looked at when instances are due to leave and every now and then until it ends; answers
    /// whether they stay.
    pub(crate) fn judge(
        &mut self,
        rule: &PreservationRule,
        all: usize,
        late: usize,
        now: Instant,
    ) -> bool {
        let on_time = all.saturating_sub(late) as f64;
        let few = all >= rule.instances_min && on_time < rule.renewals_min * all as f64;
        match self.since {
            _ if !few => self.since = None,
            None => {
                self.since = Some(now);
                self.begun += 1;
            }
            Some(_) => {}
        }
        self.since.is_some_and(|since| now.since(since) < rule.hold_max)
    }
}
