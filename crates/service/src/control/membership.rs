//! Who the endpoints are: the list from discovery, taken as a difference, and what operators say.

use std::time::Duration;

use health::{Checker, Outlier};
use model::{AgentReply, AgentStanding, Endpoint, EndpointId, Instant, Weight};

use super::{Control, Stale};
use crate::member::{Member, Role, Standing, Told};
use crate::{EndpointHandle, UnknownEndpoint};

/// New endpoints whose first check starts at once; further ones follow in batches of as many, so
/// that 10,000 new endpoints do not mean 10,000 connections in one moment.
const FIRST_CHECKS: usize = 64;

/// Between two such batches: 6,400 first checks a second.
const FIRST_CHECKS_PAUSE: Duration = Duration::from_millis(10);

impl Control {
    pub(crate) fn set_endpoints(&mut self, endpoints: Vec<Endpoint>, now: Instant) {
        if self.closed {
            return;
        }
        let before = std::mem::take(&mut self.listed);
        let mut created = 0;
        for endpoint in endpoints {
            if self.listed.contains_key(&endpoint.id) {
                continue;
            }
            let id = endpoint.id.clone();
            let former = before.get(&id).copied();
            let key = match self.same_as(&endpoint, former) {
                Some(key) => self.keep(key, endpoint),
                None => {
                    let weight = former.and_then(|key| self.members.get(&key)?.weight);
                    let batch = (created / FIRST_CHECKS) as u32;
                    created += 1;
                    self.create(endpoint, weight, now, now + FIRST_CHECKS_PAUSE * batch)
                }
            };
            self.listed.insert(id, key);
        }
        for (id, key) in before {
            if self.listed.get(&id) != Some(&key) {
                self.remove(key, now);
            }
        }
    }

    /// The member that is this endpoint: the listed one of its id, or one that stands by.
    fn same_as(&self, endpoint: &Endpoint, listed: Option<u64>) -> Option<u64> {
        let same = |key: &u64| {
            self.members.get(key).is_some_and(|member| {
                member.endpoint.id == endpoint.id && member.endpoint.address == endpoint.address
            })
        };
        listed.filter(same).or_else(|| self.standby.get(&endpoint.id).copied().filter(same))
    }

    fn keep(&mut self, key: u64, endpoint: Endpoint) -> u64 {
        let Some(member) = self.members.get_mut(&key) else { return key };
        if matches!(member.standing, Standing::Standby { .. }) {
            self.standby.remove(&endpoint.id);
            member.standing = Standing::Listed;
            member.set_timer(&mut self.timers, member.checker.poll_timeout());
            self.pending.stale = Stale::Now;
            self.pending.changed = true;
        }
        if member.endpoint != endpoint {
            member.endpoint = endpoint;
            self.pending.stale = Stale::Now;
        }
        key
    }

    fn create(
        &mut self,
        endpoint: Endpoint,
        weight: Option<Weight>,
        now: Instant,
        first_check: Instant,
    ) -> u64 {
        let handle =
            EndpointHandle::new(endpoint.id.clone(), endpoint.address, self.origin.clone());
        let key = handle.key;
        let checker = Checker::new(self.health.clone(), first_check, self.checkers << 32);
        self.checkers += 1;
        let timer = Instant::FAR_FUTURE;
        let standing = Standing::Listed;
        let learner = self.learner();
        let mut member = Member {
            endpoint,
            weight,
            standing,
            told: Told::NOTHING,
            checker,
            outlier: Outlier::new(now),
            ramp: None,
            role: Role::default(),
            handle,
            timer,
            learner,
        };
        member.set_limit(&self.spec.limits);
        member.set_timer(&mut self.timers, member.checker.poll_timeout());
        self.members.insert(key, member);
        self.pending.stale = Stale::Now;
        self.pending.changed = true;
        key
    }

    /// No longer listed. Whether a healthy one stands by or leaves is seen when all is settled.
    fn remove(&mut self, key: u64, now: Instant) {
        let Some(member) = self.members.get_mut(&key) else { return };
        if member.is_healthy() {
            let until = now + self.spec.drain_grace;
            member.standing = Standing::Standby { until };
            member.set_timer(&mut self.timers, until);
            let former = self.standby.insert(member.endpoint.id.clone(), key);
            if let Some(former) = former {
                self.forget(former);
            }
        } else {
            self.forget(key);
        }
        self.pending.stale = Stale::Now;
        self.pending.changed = true;
    }

    pub(super) fn forget(&mut self, key: u64) {
        if let Some(mut member) = self.members.remove(&key) {
            if self.standby.get(&member.endpoint.id) == Some(&key) {
                self.standby.remove(&member.endpoint.id);
            }
            member.set_timer(&mut self.timers, Instant::FAR_FUTURE);
            self.ejected.retain(|(_, ejected)| *ejected != key);
            self.ramping.remove(&key);
            member.handle.keep_sessions(false);
            self.pending.leaving.push(member.handle);
        }
    }

    /// One whose sessions were ended gets them back only when it is undrained.
    pub(crate) fn drain(&mut self, id: &str, keep_sessions: bool) -> Result<(), UnknownEndpoint> {
        let member = self.member_mut(id)?;
        if !keep_sessions && member.handle.keeps_sessions() {
            member.handle.keep_sessions(false);
            // So that those who wait there for their turn are told.
            self.pending.stale = Stale::Now;
        }
        let member = self.member_mut(id)?;
        if member.standing != Standing::Drained {
            member.standing = Standing::Drained;
            member.handle.keep_sessions(keep_sessions);
            let handle = member.handle.clone();
            self.pending.leaving.push(handle);
            self.pending.stale = Stale::Now;
            self.pending.changed = true;
        }
        Ok(())
    }

    pub(crate) fn undrain(&mut self, id: &str) -> Result<(), UnknownEndpoint> {
        let member = self.member_mut(id)?;
        if member.standing == Standing::Drained {
            member.standing = Standing::Listed;
            member.handle.stay();
            member.handle.keep_sessions(false);
            let handle = member.handle.clone();
            self.pending.staying.push(handle);
            self.pending.stale = Stale::Now;
            self.pending.changed = true;
        }
        Ok(())
    }

    pub(crate) fn set_weight(
        &mut self,
        id: &str,
        weight: Option<Weight>,
    ) -> Result<(), UnknownEndpoint> {
        let member = self.member_mut(id)?;
        if member.weight != weight {
            member.weight = weight;
            self.pending.stale = Stale::Now;
            self.pending.changed = true;
        }
        Ok(())
    }

    /// What it does not say stays as it was.
    pub(crate) fn handle_agent(&mut self, id: &EndpointId, reply: AgentReply, now: Instant) {
        let Ok(member) = self.member_mut(id.as_str()) else { return };
        let before = member.told.clone();
        match reply.standing {
            None => {}
            Some(AgentStanding::Up) => member.told.down = None,
            Some(AgentStanding::Down(why)) => member.told.down = Some(why),
        }
        if let Some(percent) = reply.percent {
            member.told.percent = percent;
        }
        if let Some(utilization) = reply.utilization {
            member.handle.load.utilize(utilization, now);
        }
        if member.told != before {
            if before.down.is_some() && member.is_well() {
                member.proven();
            }
            self.pending.stale = Stale::Now;
            self.pending.changed = true;
        }
    }

    fn member_mut(&mut self, id: &str) -> Result<&mut Member, UnknownEndpoint> {
        let key = self.listed.get(id);
        key.and_then(|key| self.members.get_mut(key)).ok_or_else(|| UnknownEndpoint(id.into()))
    }
}
