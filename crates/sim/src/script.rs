//! What the scenario does to endpoints and clients.

use std::time::Duration;

use model::spec::scenario::{Action, Fault};

use crate::queue::Event;
use crate::simulation::Simulation;

/// What an event did.
#[derive(Clone, Default)]
pub(crate) struct Played {
    /// The endpoints that a fault befell, or those that a roll-out replaces.
    pub(crate) servers: Vec<u32>,
}

/// A process that was taken out of service ends so long after the last balancer's grace.
const STOP_DELAY: Duration = Duration::from_secs(1);

impl Simulation<'_> {
    pub(crate) fn begin_event(&mut self, event: u32) {
        match self.scenario.events[event as usize].action {
            Action::Fault { group, count, fault } => {
                let count = count.map_or(usize::MAX, |count| count as usize);
                let servers: Vec<u32> = self.members[group].iter().copied().take(count).collect();
                for server in &servers {
                    self.afflict(event, *server, fault);
                }
                self.played[event as usize].servers = servers;
            }
            Action::Scale { group, count } => self.scale(group, count as usize),
            Action::Replace { group, .. } => {
                self.played[event as usize].servers = self.members[group].clone();
                self.replace(event, 0);
            }
            Action::Burst { group, factor } => self.set_factor(group, |now| now * factor),
        }
    }

    pub(crate) fn end_event(&mut self, event: u32) {
        match self.scenario.events[event as usize].action {
            Action::Fault { fault, .. } => {
                for server in std::mem::take(&mut self.played[event as usize].servers) {
                    self.recover(event, server, fault);
                }
            }
            Action::Burst { group, factor } => self.set_factor(group, |now| now / factor),
            Action::Scale { group, .. } => {
                let count = self.scenario.endpoints[group].count as usize;
                self.scale(group, count);
            }
            Action::Replace { .. } => {}
        }
    }

    fn afflict(&mut self, event: u32, server: u32, fault: Fault) {
        if fault == Fault::Drain {
            return self.drain(server, true);
        }
        let loses = self.servers[server as usize].afflict(event, fault);
        if loses && fault == Fault::Crash {
            self.reset_all_at(server);
        }
    }

    fn recover(&mut self, event: u32, server: u32, fault: Fault) {
        if fault == Fault::Drain {
            return self.drain(server, false);
        }
        if self.servers[server as usize].recover(event) {
            self.boot(server);
        }
    }

    fn drain(&mut self, server: u32, drained: bool) {
        let id = self.servers[server as usize].id.clone();
        for balancer in 0..self.balancers.len() as u32 {
            let service = &self.balancers[balancer as usize].service;
            let done = match drained {
                true => service.drain(id.as_str(), self.now),
                false => service.undrain(id.as_str(), self.now),
            };
            // A balancer may not know of it yet, or no longer.
            if done.is_ok() {
                self.invariants.drained(balancer, server, drained);
            }
            self.heed(balancer);
        }
    }

    fn boot(&mut self, server: u32) {
        let state = &mut self.servers[server as usize];
        state.boot();
        let boots = state.boots;
        let boot = self.scenario.endpoints[state.group].boot;
        self.queue.add(self.now + boot, Event::Booted { server, boots });
    }

    fn scale(&mut self, group: usize, count: usize) {
        while self.members[group].len() < count {
            let server = self.start_server(group);
            self.boot(server);
        }
        let leaving = self.members[group].split_off(count);
        leaving.into_iter().for_each(|server| self.stop_later(server));
        self.publish_endpoints(self.scenario.stale);
    }

    /// One step of a roll-out: the next one starts, and the one before it leaves.
    pub(crate) fn replace(&mut self, event: u32, step: u32) {
        let Action::Replace { group, pace } = self.scenario.events[event as usize].action else {
            return;
        };
        let old = &self.played[event as usize].servers;
        let next = old.get(step as usize).copied();
        let former = step.checked_sub(1).and_then(|step| old.get(step as usize).copied());
        if let Some(former) = former
            && let Some(position) = self.members[group].iter().position(|m| *m == former)
        {
            self.members[group].remove(position);
            self.stop_later(former);
        }
        if next.is_some() {
            let server = self.start_server(group);
            self.boot(server);
            self.queue.add(self.now + pace, Event::Replace { event, step: step + 1 });
        }
        self.publish_endpoints(self.scenario.stale);
    }

    /// It leaves the lists now; the process ends when nobody may use it any more.
    fn stop_later(&mut self, server: u32) {
        let known = self.scenario.stale * self.balancers.len() as u32;
        let after = known + self.scenario.service.drain_grace + STOP_DELAY;
        self.queue.add(self.now + after, Event::Stop { server });
    }

    fn set_factor(&mut self, group: usize, change: impl Fn(f64) -> f64) {
        let client = &mut self.clients[group];
        client.factor = change(client.factor);
        client.epoch += 1;
        self.next_arrival(group as u32, self.now);
    }
}
