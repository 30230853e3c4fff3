//! The life of a request: attempts, time-outs and retries, as the proxy goes about them
//! (`proxy/src/http1/forward.rs`).
//!
//! A failed connection is tried elsewhere as long as attempts are left, without the budget. A
//! reset, a time-out or a status is tried elsewhere if the service's `retry.on` says so and the
//! budget admits it. A client that gives up says nothing about the endpoint, which serves the
//! request to its end all the same.

use std::time::Duration;

use model::spec::RetryCondition;
use model::spec::scenario::Traffic;
use model::{Instant, Outcome, Report};
use service::Pick;

use crate::distribution::{exponential, stream};
use crate::queue::{Answer, Event};
use crate::report::Ending;
use crate::server::{Arrival, Job, Offer, PROBE, REFUSAL, Work};
use crate::simulation::Simulation;

/// A slot for a request; used again when that is over.
#[derive(Default)]
pub(crate) struct Request {
    live: bool,
    client: u32,
    balancer: u32,
    /// Of the request, and of the present attempt.
    serial: u32,
    attempt: u32,
    number: u64,
    user: usize,
    key: Option<u64>,
    started: Instant,
    attempts: u32,
    attempts_left: u32,
    tried: Vec<u64>,
    pick: Option<(Pick, u32, Instant)>,
}

/// Kinds of streams of chance.
const REQUEST: u64 = 17;
const JOB: u64 = 18;

/// A user sends again no sooner than this after an answer, however fast it came.
const TURNAROUND: Duration = Duration::from_micros(100);

/// The status of an endpoint's own failures.
const SERVER_ERROR: u16 = 500;

impl Simulation<'_> {
    /// A client sends a request.
    pub(crate) fn ask(&mut self, index: u32) {
        if self.now >= self.end {
            return;
        }
        let client = &mut self.clients[index as usize];
        client.count += 1;
        let number = u64::from(index) << 40 | client.count;
        let spec = &self.scenario.clients[index as usize];
        let mut rng = stream(self.seed, REQUEST, number);
        let balancer = rng.below(self.balancers.len() as u64) as u32;
        let user = rng.below(u64::from(spec.keys.max(1))) as usize;
        let settings = self.balancers[balancer as usize].service.settings();
        let named = u64::from(index) << 32 | user as u64;
        let key = settings.key().map(|_| stream(0, REQUEST, named).next_u64());
        let attempts_left = settings.retry.attempts;
        let total = settings.total_timeout;
        drop(settings);
        self.serial = self.serial.wrapping_add(1);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.requests.push(Request::default());
            self.requests.len() as u32 - 1
        });
        let request = &mut self.requests[slot as usize];
        request.tried.clear();
        *request = Request {
            live: true,
            client: index,
            balancer,
            serial: self.serial,
            attempt: 0,
            number,
            user,
            key,
            started: self.now,
            attempts: 0,
            attempts_left,
            tried: std::mem::take(&mut request.tried),
            pick: None,
        };
        self.under_way += 1;
        if let Some(deadline) = spec.timeout.into_iter().chain(total).min() {
            let event = Event::Deadline { slot, serial: self.serial };
            self.queue.add(self.now + deadline, event);
        }
        self.invariants.requested(self.now, balancer);
        self.attempt(slot, Ending::NoEndpoint);
    }

    /// The next attempt; `last` is how the request ends if there is no endpoint.
    fn attempt(&mut self, slot: u32, last: Ending) {
        let request = &mut self.requests[slot as usize];
        let index = request.balancer;
        let balancer = &mut self.balancers[index as usize];
        let asked = service::Request { now: self.now, key: request.key, exclude: &request.tried };
        let Some(pick) = balancer.service.pick(&asked, &mut balancer.rng) else {
            return self.over(slot, last);
        };
        let server = crate::server::index_of(pick.endpoint().address);
        self.invariants.picked(
            self.now,
            (index, server),
            pick.endpoint(),
            &balancer.service,
            &self.servers,
        );
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        request.attempt = serial;
        request.attempts += 1;
        let number = request.number << 4 | u64::from(request.attempts);
        let job = Job::new(slot, serial, number, self.now);
        request.pick = Some((pick, server, self.now));
        self.note(u64::from(server));
        self.keep_place(slot, server);
        let group = self.servers[server as usize].group;
        self.recorder.picked(group);
        let mut rng = stream(self.seed, JOB, job.number);
        let spec = &self.scenario.endpoints[group];
        let offer = self.servers[server as usize].offer(job, self.now, spec, &mut rng);
        self.probe(index);
        match offer {
            Offer::Serves(work) => self.serve(server, &work),
            Offer::Queues => {}
            Offer::Refuses { connected } => {
                let event = Event::Broke { slot, serial, connected };
                return self.queue.add(self.now + REFUSAL, event);
            }
            Offer::Silent => {
                let event = Event::ConnectTimeout { slot, serial };
                let after = self.scenario.service.connect_timeout;
                return self.queue.add(self.now + after, event);
            }
        }
        // Nothing is lost if the client's patience ends before.
        let at = self.now + self.scenario.service.first_byte_timeout;
        let request = &self.requests[slot as usize];
        let patience = self.scenario.clients[request.client as usize].timeout;
        if patience.is_none_or(|patience| request.started + patience > at) {
            self.queue.add(at, Event::FirstByteTimeout { slot, serial });
        }
    }

    /// Endpoints whom the balancer's policy wants to ask answer how they are now, and that is heard
    /// a moment later.
    fn probe(&mut self, index: u32) {
        let balancer = &mut self.balancers[index as usize];
        for endpoint in balancer.take_probes() {
            let server = crate::server::index_of(endpoint.address);
            balancer.expect(endpoint, self.servers[server as usize].probe(self.now));
            self.queue.add(self.now + PROBE, Event::Probed { balancer: index, server });
        }
    }

    /// For policies that hash: whether the key went elsewhere the last time.
    fn keep_place(&mut self, slot: u32, server: u32) {
        let request = &self.requests[slot as usize];
        let places = &mut self.clients[request.client as usize].places;
        if let Some(place) = places.get_mut(request.user)
            && request.attempts == 1
        {
            self.recorder.keyed += 1;
            self.recorder.moved += u64::from(*place != 0 && *place != server + 1);
            *place = server + 1;
        }
    }

    fn serve(&mut self, server: u32, work: &Work) {
        let epoch = self.servers[server as usize].epoch;
        let Work { job: Job { slot, serial, arrival, .. }, takes, answer } = *work;
        let event = Event::Finish { server, epoch, slot, serial, answer, arrival };
        self.queue.add(self.now + takes, event);
    }

    /// An endpoint is done with a request, whether or not anybody still waits for it. Answers
    /// whether it is the one that it was when it began.
    pub(crate) fn served(
        &mut self,
        server: u32,
        epoch: u32,
        answer: Answer,
        arrival: Arrival,
    ) -> bool {
        let state = &mut self.servers[server as usize];
        if state.epoch != epoch {
            return false;
        }
        if let Some(job) = state.finish(arrival, answer, self.now) {
            let mut rng = stream(self.seed, JOB, job.number);
            let spec = &self.scenario.endpoints[state.group];
            let work = state.work(job, self.now, spec, &mut rng);
            self.serve(server, &work);
        }
        true
    }

    /// An answer comes.
    pub(crate) fn finished(&mut self, slot: u32, serial: u32, answer: Answer) {
        if !self.is_waiting(slot, serial) {
            return;
        }
        match answer {
            Answer::Success => {
                self.end_attempt(slot, Outcome::Success, true);
                self.over(slot, Ending::Success);
            }
            Answer::ServerError => {
                self.end_attempt(slot, Outcome::ServerError, true);
                let wanted = RetryCondition::Status(SERVER_ERROR);
                self.again(slot, Ending::ServerError, Some(wanted));
            }
            Answer::Reset => {
                self.end_attempt(slot, Outcome::Broken, false);
                self.again(slot, Ending::Reset, Some(RetryCondition::Reset));
            }
        }
    }

    fn is_waiting(&self, slot: u32, serial: u32) -> bool {
        let request = &self.requests[slot as usize];
        request.live && request.attempt == serial && request.pick.is_some()
    }

    /// The connection failed (`connected`: after it was made).
    pub(crate) fn broke(&mut self, slot: u32, serial: u32, connected: bool) {
        if !self.is_waiting(slot, serial) {
            return;
        }
        if connected {
            self.end_attempt(slot, Outcome::Broken, false);
            self.again(slot, Ending::Reset, Some(RetryCondition::Reset));
        } else {
            self.end_attempt(slot, Outcome::ConnectFailed, false);
            self.again(slot, Ending::Connect, None);
        }
    }

    pub(crate) fn first_byte_timeout(&mut self, slot: u32, serial: u32) {
        if self.is_waiting(slot, serial) {
            self.end_attempt(slot, Outcome::TimedOut, false);
            self.again(slot, Ending::Timeout, Some(RetryCondition::FirstByteTimeout));
        }
    }

    /// The client's patience, or the service's total time, is at its end.
    pub(crate) fn deadline(&mut self, slot: u32, serial: u32) {
        let request = &self.requests[slot as usize];
        if !request.live || request.serial != serial {
            return;
        }
        let patience = self.scenario.clients[request.client as usize].timeout;
        let total = self.scenario.service.total_timeout;
        let (outcome, ending) = match (patience, total) {
            (Some(patience), Some(total)) if total < patience => {
                (Outcome::TimedOut, Ending::Timeout)
            }
            (None, Some(_)) => (Outcome::TimedOut, Ending::Timeout),
            _ => (Outcome::Abandoned, Ending::ClientTimeout),
        };
        self.end_attempt(slot, outcome, false);
        self.over(slot, ending);
    }

    /// The grace of an endpoint that leaves is over: what it still has is cut, and goes to another
    /// one as after a reset.
    pub(crate) fn cut(&mut self, balancer: u32, server: u32) {
        let concerned = |slot: &u32| {
            let request = &self.requests[*slot as usize];
            let pick = request.pick.as_ref();
            request.balancer == balancer
                && pick.is_some_and(|(pick, at, _)| {
                    *at == server && pick.endpoint().close_at().is_some_and(|at| at <= self.now)
                })
        };
        let slots: Vec<u32> = (0..self.requests.len() as u32).filter(concerned).collect();
        let handle = slots.first().and_then(|slot| {
            let pick = self.requests[*slot as usize].pick.as_ref();
            pick.map(|(pick, ..)| pick.endpoint().clone())
        });
        for slot in slots {
            self.end_attempt(slot, Outcome::Abandoned, false);
            self.again(slot, Ending::Reset, Some(RetryCondition::Reset));
        }
        if let Some(handle) = handle {
            self.invariants.cut(self.now, &handle);
        }
    }

    /// An endpoint lost all that it had: whoever waits finds the connection reset.
    pub(crate) fn reset_all_at(&mut self, server: u32) {
        for (slot, request) in (0..).zip(&self.requests) {
            if request.pick.as_ref().is_some_and(|(_, at, _)| *at == server) {
                let event = Event::Broke { slot, serial: request.attempt, connected: true };
                self.queue.add(self.now + REFUSAL, event);
            }
        }
    }

    fn end_attempt(&mut self, slot: u32, outcome: Outcome, answered: bool) {
        let request = &mut self.requests[slot as usize];
        let Some((pick, server, since)) = request.pick.take() else { return };
        let handle = pick.endpoint().clone();
        request.tried.push(handle.key);
        let balancer = request.balancer;
        let latency = answered.then(|| self.now.since(since));
        pick.report(&Report::new(self.now, outcome).after(latency));
        self.invariants.reported(self.now, (balancer, server), &handle);
        if outcome.is_failure() {
            self.take_notes(balancer);
        }
    }

    /// Another attempt if one is left and allowed; `condition`: that of a retry that needs the
    /// budget.
    fn again(&mut self, slot: u32, ending: Ending, condition: Option<RetryCondition>) {
        let request = &mut self.requests[slot as usize];
        if request.attempts_left == 0 {
            return self.over(slot, ending);
        }
        if let Some(condition) = condition {
            if !self.scenario.service.retry.on.contains(&condition) {
                return self.over(slot, ending);
            }
            let balancer = request.balancer;
            let admitted = self.balancers[balancer as usize].service.admit_retry(self.now);
            self.invariants.retried(self.now, balancer, admitted);
            if !admitted {
                return self.over(slot, ending);
            }
        }
        self.requests[slot as usize].attempts_left -= 1;
        self.attempt(slot, ending);
    }

    fn over(&mut self, slot: u32, ending: Ending) {
        let request = &mut self.requests[slot as usize];
        request.live = false;
        self.free.push(slot);
        self.under_way -= 1;
        self.recorder.ended(ending, self.now.since(request.started));
        let index = request.client;
        let client = &mut self.clients[index as usize];
        if let Traffic::Closed { think, .. } = self.scenario.clients[index as usize].traffic {
            let pause = exponential(think, &mut client.rng).max(TURNAROUND);
            self.queue.add(self.now + pause, Event::Ask { client: index });
        }
    }
}
