//! Which members are eligible, and how that becomes visible: one snapshot for all that changed.

use balance::Candidate;
use health::State;
use model::Instant;

use super::{Control, MEMBERS_EAGER, Notices, PUBLISH_PAUSE, Stale};
use crate::member::{Member, Standing};
use crate::session::SessionMap;
use crate::settings::probe_path;
use crate::snapshot::Snapshot;

impl Control {
    /// Makes what changed visible: publishes a snapshot if the last one is out of date, and only
    /// then marks those that leave, so that a worker that meets one of them finds the new
    /// snapshot when it looks again.
    pub(crate) fn settle(&mut self, now: Instant, publish: impl FnOnce(Snapshot)) -> Notices {
        let mut pending = std::mem::take(&mut self.pending);
        if pending.stale == Stale::Soon && self.members.len() > MEMBERS_EAGER && self.serving {
            let at = self.published_at + PUBLISH_PAUSE * self.members.len() as u32;
            if at > now {
                self.publish_at = Some(at);
                pending.stale = Stale::No;
            }
        }
        if pending.stale != Stale::No {
            self.settle_standby(now);
            pending.leaving.append(&mut self.pending.leaving);
            let sessions = self.session_map();
            publish(self.snapshot().with_sessions(sessions));
            self.published_at = now;
            self.publish_at = None;
        }
        let close_at = now + self.spec.drain_grace;
        for handle in &pending.leaving {
            handle.leave(close_at);
        }
        Notices { leaving: pending.leaving, staying: pending.staying, changed: pending.changed }
    }

    /// Those that stand by leave as soon as a listed endpoint is healthy, or none is about to be.
    fn settle_standby(&mut self, now: Instant) {
        if self.standby.is_empty() {
            return;
        }
        let listed = || self.members.values().filter(|m| m.standing == Standing::Listed);
        let needed = !listed().any(Member::is_healthy)
            && listed().any(|member| member.checker.state() == State::Unproven);
        for key in self.standby.values().copied().collect::<Vec<u64>>() {
            let over = self.members.get(&key).is_none_or(
                |member| !matches!(member.standing, Standing::Standby { until } if until > now),
            );
            if over || !needed {
                self.forget(key);
            }
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        let serves = |member: &&Member, standby: bool| {
            member.is_healthy()
                && match member.standing {
                    Standing::Listed => !standby,
                    Standing::Standby { .. } => standby,
                    Standing::Drained => false,
                }
        };
        let level = |standby: bool| {
            let healthy = self.members.values().filter(|member| serves(member, standby));
            let lowest = healthy.map(|member| member.endpoint.priority).min()?;
            Some((lowest, standby))
        };
        let Some((priority, standby)) = level(false).or_else(|| level(true)) else {
            self.serving = false;
            return Snapshot::empty();
        };
        let mut endpoints = Vec::new();
        let mut candidates = Vec::new();
        for member in self.members.values() {
            if member.endpoint.priority == priority && serves(&member, standby) {
                endpoints.push(member.handle.clone());
                candidates.push(Candidate {
                    weight: member.weight().0,
                    zone: member.endpoint.zone.clone(),
                    identity_hash: member.identity_hash(),
                });
            }
        }
        self.serving = true;
        let picker = self.policy.prepare(&candidates, &mut self.rng);
        Snapshot::new(endpoints, picker, probe_path(&self.spec.policy))
    }

    /// Healthy ones of any priority; drained ones, whose handles say until when; those that stand
    /// by, which leave as soon as they are not needed.
    fn session_map(&self) -> SessionMap {
        let Some(sessions) = &self.sessions else { return SessionMap::default() };
        let healthy = self.members.values().filter(|m| m.checker.state() == State::Healthy);
        let entry = |m: &Member| (sessions.token(&m.endpoint.id), m.handle.clone());
        // One of the same id and another address, which stands by, comes after the listed one.
        let (mut listed, standby): (Vec<&Member>, Vec<&Member>) =
            healthy.partition(|m| !matches!(m.standing, Standing::Standby { .. }));
        listed.extend(standby);
        SessionMap::new(listed.into_iter().map(entry).collect())
    }
}
