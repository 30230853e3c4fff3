//! Which members are eligible, and how that becomes visible: one snapshot for all that changed.

use health::State;
use model::{EndpointId, Instant};

use super::eligible::{Eligible, Seat, eligible};
use super::{Control, MEMBERS_EAGER, Notices, PUBLISH_PAUSE, Pending, Stale};
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
        if !self.serving && (self.expects(), self.is_asleep()) != (self.expected, self.asleep) {
            pending.stale = Stale::Now;
        }
        if pending.stale == Stale::Soon && self.members.len() > MEMBERS_EAGER && self.serving {
            let at = self.published_at + PUBLISH_PAUSE * self.members.len() as u32;
            if at > now {
                self.publish_at = Some(at);
                pending.stale = Stale::No;
            }
        }
        if pending.stale != Stale::No {
            self.readmit_needed(now);
            self.settle_standby(now);
            self.begin_ramps(now);
            pending.leaving.append(&mut self.pending.leaving);
            let snapshot = self.snapshot();
            publish(snapshot.with_sessions(self.session_map()));
            self.published_at = now;
            self.publish_at = None;
            self.set_tick(now);
        }
        let close_at = now + self.spec.drain_grace;
        for handle in &pending.leaving {
            handle.leave(close_at);
        }
        let Pending { leaving, staying, changed, room, .. } = pending;
        Notices { leaving, staying, changed, room }
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
        let Eligible { keys, panics } = self.eligible();
        self.panics = panics;
        for (key, member) in &mut self.members {
            let used = panics && keys.binary_search(key).is_ok();
            member.role.in_panic = used && !member.is_healthy();
        }
        self.serving = !keys.is_empty();
        let (candidates, scale) = self.candidates(&keys);
        let (limits, queue) = (&self.spec.limits, self.spec.queue.as_ref());
        if keys.is_empty() {
            // The sessions of drained endpoints go on, within their limits.
            (self.expected, self.asleep) = (self.expects(), self.is_asleep());
            let empty = match &self.spec.wake {
                Some(wake) if self.expected => {
                    Snapshot::empty().holding(limits, queue, wake, self.asleep)
                }
                _ => Snapshot::empty().with_limits(limits, queue, &[]),
            };
            return empty.expecting(self.expected);
        }
        let members = keys.iter().filter_map(|key| self.members.get(key));
        let endpoints = members.map(|member| member.handle.clone()).collect();
        let picker = self.policy.prepare_scaled(&candidates, scale, &mut self.rng);
        let path = probe_path(&self.spec.policy);
        Snapshot::new(endpoints, picker, path).with_limits(limits, queue, &candidates)
    }

    /// Whether endpoints are on their way: replicas of ours are wanted, one that is listed has yet to
    /// pass its first check, or there is none, and one will be started for who asks. One that passed, and then failed, is not: nobody knows when it comes
    /// back, if ever.
    fn expects(&self) -> bool {
        let unproven = |member: &Member| {
            member.standing == Standing::Listed && member.checker.state() == State::Unproven
        };
        !self.closed && (self.wanted || self.is_asleep() || self.members.values().any(unproven))
    }

    /// Listed ones if any is healthy, or else those that stand by, or else, in panic, listed ones.
    fn eligible(&self) -> Eligible {
        let seats = |wanted: fn(&Member) -> bool| -> Vec<Seat> {
            let members = self.members.iter().filter(|(_, member)| wanted(member));
            let seat = |(key, member): (&u64, &Member)| Seat {
                key: *key,
                identity_hash: member.identity_hash(),
                priority: member.endpoint.priority,
                weight: member.weight().0,
                healthy: member.is_healthy(),
            };
            members.map(seat).collect()
        };
        let listed = seats(|member| {
            member.standing == Standing::Listed && member.checker.state() != State::Unproven
        });
        if !listed.iter().any(|seat| seat.healthy) {
            let standby = seats(|member| {
                matches!(member.standing, Standing::Standby { .. }) && member.is_healthy()
            });
            if !standby.is_empty() {
                return eligible(&standby, &self.spec, self.balancer);
            }
        }
        eligible(&listed, &self.spec, self.balancer)
    }

    /// Healthy ones of any priority; drained ones, whose handles say until when; those that stand
    /// by, which leave as soon as they are not needed; in panic, all that are used.
    fn session_map(&mut self) -> SessionMap {
        let Some(sessions) = &self.sessions else { return SessionMap::default() };
        let healthy = self
            .members
            .values()
            .filter(|m| m.role.in_panic || (m.is_well() && !m.outlier.is_ejected()));
        // One of the same id and another address, which stands by, comes after the listed one.
        let (mut listed, standby): (Vec<&Member>, Vec<&Member>) =
            healthy.partition(|m| !matches!(m.standing, Standing::Standby { .. }));
        listed.extend(standby);
        let handles: Vec<_> = listed.into_iter().map(|member| member.handle.clone()).collect();
        // One that is unhealthy now may come back, and finds its sessions of before.
        let in_use =
            |id: &EndpointId| self.listed.contains_key(id) || self.standby.contains_key(id);
        SessionMap::new(sessions, &handles, &mut self.slots, in_use)
    }
}
