//! Carries out health checks: the sockets to the state machines in `service`.
//!
//! For: asking each watched service what is due, running it, and handing the result back.
//! Never: judging. What a result means is for `service` to say.
//! Start with [`drive`]; [`check::run`] is one check, over HTTP/2 in `multiplexed`. `question` asks what policies want to know.

mod agent;
mod check;
mod multiplexed;
pub(crate) mod question;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use model::{AgentReply, EndpointId, Instant, ServiceName};
use service::{DueCheck, Service};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::listener::Target;
use crate::upstream::Secure;
use check::Verdict;

/// Checks that run at the same time, questions to agents among them. At the default interval (2 s) that is enough for 1,000
/// endpoints that never answer, and for tens of thousands that do.
const RUNNING_MAX: usize = 1024;
/// A service that is still due after it was asked is not asked again sooner.
const POLL_INTERVAL_MIN: Duration = Duration::from_millis(5);
/// Between two warnings that checks fail on our side.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// What the control side tells the driver.
pub(crate) enum ProbeEvent {
    /// Check this service's endpoints from now on, in place of one of the same name.
    Watch(Arc<Target>),
    Forget(ServiceName),
    /// Requests to the endpoint failed in a row.
    Suspect(ServiceName, EndpointId),
    /// Endpoints changed, or something became due earlier.
    Changed(ServiceName),
}

/// Runs the checks of all watched services, until the other end of `events` is gone.
pub(crate) async fn drive(clock: Clock, mut events: UnboundedReceiver<ProbeEvent>) {
    let mut driver = Driver {
        clock,
        services: HashMap::new(),
        agenda: BTreeSet::new(),
        queue: VecDeque::new(),
        queued: HashMap::new(),
        running: JoinSet::new(),
        warned: None,
    };
    loop {
        let now = clock.now();
        driver.poll_services(now);
        driver.start_checks();
        let next = driver.agenda.first().map_or(Instant::FAR_FUTURE, |(deadline, _)| *deadline);
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => driver.handle_event(event),
                None => return,
            },
            Some(finished) = driver.running.join_next() => match finished {
                Ok(finished) => driver.handle_finished(finished),
                Err(e) => tracing::error!("a health check ended without a result: {e}"),
            },
            () = tokio::time::sleep_until(clock.runtime(next)),
                if next != Instant::FAR_FUTURE => {}
        }
    }
}

struct Driver {
    clock: Clock,
    services: HashMap<ServiceName, Watched>,
    /// When each service wants to be asked next: a service costs only when it is due.
    agenda: BTreeSet<(Instant, ServiceName)>,
    /// Checks that wait for their turn, in order.
    queue: VecDeque<CheckKey>,
    /// What they are. A check that waited so long that it became due again is there once.
    queued: HashMap<CheckKey, (Arc<Service>, DueCheck)>,
    running: JoinSet<Finished>,
    warned: Option<Instant>,
}

type CheckKey = (ServiceName, EndpointId);

struct Watched {
    service: Arc<Service>,
    target: Arc<Target>,
    /// Its place in the agenda; [`Instant::FAR_FUTURE`]: none.
    deadline: Instant,
}

struct Finished {
    service: Arc<Service>,
    endpoint: EndpointId,
    learnt: Learnt,
}

enum Learnt {
    Verdict {
        generation: u64,
        verdict: Verdict,
    },
    /// What the agent says, if it says anything.
    Reply(Option<AgentReply>),
}

impl Driver {
    /// Asks the services that are due for their checks.
    fn poll_services(&mut self, now: Instant) {
        while let Some((deadline, _)) = self.agenda.first()
            && *deadline <= now
            && let Some((_, name)) = self.agenda.pop_first()
        {
            let Some(watched) = self.services.get_mut(&name) else { continue };
            watched.deadline = Instant::FAR_FUTURE;
            let service = watched.service.clone();
            for due in service.due_checks(now) {
                let key = (name.clone(), due.endpoint.clone());
                if self.queued.insert(key.clone(), (service.clone(), due)).is_none() {
                    self.queue.push_back(key);
                }
            }
            self.schedule(&name, now + POLL_INTERVAL_MIN);
        }
    }

    /// Notes when the service wants to be asked next, which is not before `earliest`.
    fn schedule(&mut self, name: &ServiceName, earliest: Instant) {
        let Some(watched) = self.services.get_mut(name) else { return };
        let deadline = match watched.service.poll_timeout() {
            None | Some(Instant::FAR_FUTURE) => Instant::FAR_FUTURE,
            Some(deadline) => deadline.max(earliest),
        };
        if watched.deadline == deadline {
            return;
        }
        if watched.deadline != Instant::FAR_FUTURE {
            self.agenda.remove(&(watched.deadline, name.clone()));
        }
        watched.deadline = deadline;
        if deadline != Instant::FAR_FUTURE {
            self.agenda.insert((deadline, name.clone()));
        }
    }

    fn start_checks(&mut self) {
        while self.running.len() < RUNNING_MAX {
            let Some(key) = self.queue.pop_front() else { return };
            let Some((service, due)) = self.queued.remove(&key) else { continue };
            let watched = self.services.get(&key.0);
            let Some(watched) = watched.filter(|w| Arc::ptr_eq(&w.service, &service)) else {
                continue;
            };
            let secure = Secure::clone(&watched.target.secure.load());
            let protocol = service.settings().protocol;
            let DueCheck { endpoint, address, generation, spec } = due;
            if let Some(agent) = spec.agent.clone() {
                let (service, endpoint, spec) = (service.clone(), endpoint.clone(), spec.clone());
                self.running.spawn(async move {
                    let reply = agent::ask(&agent, &spec, address).await;
                    Finished { service, endpoint, learnt: Learnt::Reply(reply) }
                });
            }
            self.running.spawn(async move {
                let verdict = check::run(&spec, address, &secure, protocol).await;
                Finished { service, endpoint, learnt: Learnt::Verdict { generation, verdict } }
            });
        }
    }

    fn handle_event(&mut self, event: ProbeEvent) {
        match event {
            ProbeEvent::Watch(target) => {
                let service = target.service.clone();
                let name = service.name().clone();
                self.forget(&name);
                let watched = Watched { service, target, deadline: Instant::FAR_FUTURE };
                self.services.insert(name.clone(), watched);
                self.schedule(&name, Instant::ZERO);
            }
            ProbeEvent::Forget(name) => self.forget(&name),
            ProbeEvent::Suspect(name, endpoint) => {
                if let Some(watched) = self.services.get(&name) {
                    watched.service.handle_suspect(&endpoint, self.clock.now());
                    self.schedule(&name, Instant::ZERO);
                }
            }
            ProbeEvent::Changed(name) => self.schedule(&name, Instant::ZERO),
        }
    }

    fn forget(&mut self, name: &ServiceName) {
        if let Some(watched) = self.services.remove(name) {
            self.agenda.remove(&(watched.deadline, name.clone()));
        }
    }

    fn handle_finished(&mut self, finished: Finished) {
        let now = self.clock.now();
        let (generation, verdict) = match finished.learnt {
            Learnt::Verdict { generation, verdict } => (generation, verdict),
            Learnt::Reply(None) => return,
            Learnt::Reply(Some(reply)) => {
                finished.service.handle_agent(&finished.endpoint, reply, now);
                self.schedule(&finished.service.name().clone(), Instant::ZERO);
                return;
            }
        };
        let result = match verdict {
            Verdict::Passed => Ok(()),
            Verdict::Failed(reason) => Err(reason),
            Verdict::NotRun(e) => {
                // It says nothing about the endpoint. The service, which hears nothing of this
                // check, takes it for lost and asks for another.
                if self.warned.is_none_or(|warned| now.since(warned) >= WARN_EVERY) {
                    self.warned = Some(now);
                    let (service, endpoint) = (finished.service.name(), &finished.endpoint);
                    tracing::warn!("health check of {service}/{endpoint} cannot be run: {e}");
                }
                return;
            }
        };
        finished.service.handle_check(&finished.endpoint, generation, result, now);
        self.schedule(&finished.service.name().clone(), Instant::ZERO);
    }
}

#[cfg(test)]
mod tests;
