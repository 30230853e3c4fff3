//! The life of a request: attempts, time-outs and retries, as the proxy goes about them
//! (`proxy/src/http1/forward.rs`).
//!
//! A failed connection is tried elsewhere as long as attempts are left, without the budget. A
//! reset, a time-out or a status is tried elsewhere if the service's `retry.on` says so and the
//! budget admits it. A client that gives up says nothing about the endpoint, which serves the
//! request to its end all the same.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use model::spec::scenario::Traffic;
use model::spec::{PRIORITY_DEFAULT, PRIORITY_MAX, RetryCondition};
use model::{Instant, Outcome, Report};
use service::{Acquired, Claim, EndpointHandle, Pick, Session, Waiting};

use crate::distribution::{exponential, stream};
use crate::hedge::Held;
use crate::queue::{Answer, Event};
use crate::report::Ending;
use crate::server::{Arrival, Job, Offer, PROBE, REFUSAL, Work};
use crate::simulation::Simulation;

/// A slot for a request; used again when that is over.
#[derive(Default)]
pub(crate) struct Request {
    live: bool,
    pub(crate) client: u32,
    pub(crate) balancer: u32,
    serial: u32,
    pub(crate) number: u64,
    pub(crate) user: usize,
    /// What it says of its session, if the service keeps any.
    pub(crate) session: Option<Session>,
    /// It went, or waits, where its session is.
    resumed: bool,
    /// How long it is known to take.
    takes: Option<Duration>,
    pub(crate) key: Option<u64>,
    started: Instant,
    pub(crate) attempts: u32,
    attempts_left: u32,
    pub(crate) tried: Vec<u64>,
    pub(crate) first: Option<Flight>,
    /// Its hedge.
    pub(crate) second: Option<Flight>,
    pub(crate) held: Option<Held>,
    priority: u8,
    /// Its place in the queue.
    waiting: Option<Place>,
}

/// A place in a queue, and how the request ends if nothing comes of it.
struct Place {
    waiting: Waiting,
    last: Ending,
    serial: u32,
}

/// An attempt under way.
pub(crate) struct Flight {
    pub(crate) pick: Pick,
    pub(crate) server: u32,
    pub(crate) since: Instant,
    pub(crate) serial: u32,
    /// On the session, which it may begin here.
    _claim: Option<Claim>,
}

impl Request {
    pub(crate) fn flights(&self) -> impl Iterator<Item = &Flight> {
        self.first.iter().chain(&self.second)
    }

    /// Whose it is: the key of the client, apart from those of other groups.
    pub(crate) fn named(&self) -> u64 {
        u64::from(self.client) << 32 | self.user as u64
    }

    fn take_place(&mut self, serial: u32) -> Option<Place> {
        let waits = self.waiting.as_ref().is_some_and(|place| place.serial == serial);
        if self.live && waits { self.waiting.take() } else { None }
    }
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
        let mut user = rng.below(u64::from(spec.keys.max(1))) as usize;
        let mut takes = None;
        if let Traffic::Recorded(recording) = &spec.traffic
            && let Some(arrival) = recording.arrivals.get(client.count as usize - 1)
        {
            user = arrival.user as usize;
            takes = recording.durations.then(|| Duration::from_micros(arrival.took_us.into()));
        }
        let settings = self.balancers[balancer as usize].service.settings();
        let named = u64::from(index) << 32 | user as u64;
        let key = settings.key().map(|_| stream(0, REQUEST, named).next_u64());
        let session = settings.sessions().zip(client.homes.get(user));
        let session = session.and_then(|(sessions, home)| home.session(sessions, named));
        let by_priority = settings.queue.as_ref().is_some_and(|queue| queue.priority.is_some());
        let priority = match by_priority {
            true => rng.below(u64::from(PRIORITY_MAX) + 1) as u8,
            false => PRIORITY_DEFAULT,
        };
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
            number,
            user,
            session,
            resumed: false,
            takes,
            key,
            started: self.now,
            attempts: 0,
            attempts_left,
            tried: std::mem::take(&mut request.tried),
            first: None,
            second: None,
            held: None,
            priority,
            waiting: None,
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
        let (service, priority) = (&balancer.service, request.priority);
        let resumed = request.session.and_then(|s| service.acquire_session(s, &asked, priority));
        let is_resumed = resumed.is_some();
        let acquired =
            resumed.unwrap_or_else(|| service.acquire(&asked, priority, &mut balancer.rng));
        request.resumed = is_resumed;
        match acquired {
            Acquired::Picked(pick) => {
                let handle = pick.endpoint().clone();
                self.begin(slot, pick);
                self.take_notes(index);
                self.invariants.compare(self.now, index, &handle);
            }
            Acquired::Waits(waiting) => self.wait(slot, waiting, last),
            Acquired::Full(_) if last == Ending::NoEndpoint => self.over(slot, Ending::Full),
            Acquired::Full(_) | Acquired::NoEndpoint => self.over(slot, last),
        }
    }

    /// It has a place in the queue.
    fn wait(&mut self, slot: u32, waiting: Waiting, last: Ending) {
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        let request = &mut self.requests[slot as usize];
        let index = request.balancer;
        let balancer = &self.balancers[index as usize];
        let fresh = request.tried.is_empty() && !request.resumed;
        let waits = (slot, request.priority, fresh);
        let timeout = balancer.service.settings().queue.as_ref().map(|queue| queue.timeout);
        request.waiting = Some(Place { waiting, last, serial });
        self.invariants.waits(self.now, index, waits);
        let waker = balancer.waker(slot, serial);
        if let Some(Place { waiting, .. }) = &mut self.requests[slot as usize].waiting {
            // Its turn cannot have come yet: nothing has happened since.
            let polled = Pin::new(waiting).poll(&mut Context::from_waker(&waker));
            debug_assert!(polled.is_pending(), "what waits was not told");
        }
        let at = self.now + timeout.unwrap_or_default();
        self.queue.add(at, Event::QueueTimeout { slot, serial });
        self.take_notes(index);
    }

    /// It was told that its wait is over. Answers the endpoint that it got.
    pub(crate) fn turn(&mut self, slot: u32, serial: u32) -> Option<Arc<EndpointHandle>> {
        let request = &mut self.requests[slot as usize];
        let Place { mut waiting, last, .. } = request.take_place(serial)?;
        let index = request.balancer;
        let polled = Pin::new(&mut waiting).poll(&mut Context::from_waker(Waker::noop()));
        self.invariants.turned(self.now, index, slot, polled.is_ready());
        match polled {
            Poll::Ready(Some(pick)) => {
                self.recorder.waited(self.now.since(waiting.since()));
                let handle = pick.endpoint().clone();
                self.begin(slot, pick);
                Some(handle)
            }
            Poll::Ready(None) | Poll::Pending => {
                self.over(slot, last);
                None
            }
        }
    }

    pub(crate) fn queue_timeout(&mut self, slot: u32, serial: u32) {
        let request = &mut self.requests[slot as usize];
        let Some(Place { waiting, last, .. }) = request.take_place(serial) else { return };
        let index = request.balancer;
        self.invariants.left(index, slot);
        let balancer = &mut self.balancers[index as usize];
        let asked = service::Request { now: self.now, key: request.key, exclude: &request.tried };
        match balancer.service.overdue(waiting, &asked, &mut balancer.rng) {
            Some(pick) => self.begin(slot, pick),
            None if last == Ending::NoEndpoint => self.over(slot, Ending::QueueTimeout),
            None => self.over(slot, last),
        }
        self.take_notes(index);
    }

    /// It has an endpoint.
    fn begin(&mut self, slot: u32, pick: Pick) {
        let request = &mut self.requests[slot as usize];
        request.attempts += 1;
        let number = request.number << 4 | u64::from(request.attempts);
        let server = self.send(slot, pick, number, false);
        self.keep_place(slot, server);
    }

    /// Sends the request to the endpoint that was picked, which it answers.
    pub(crate) fn send(&mut self, slot: u32, pick: Pick, number: u64, is_second: bool) -> u32 {
        let server = crate::server::index_of(pick.endpoint().address);
        let request = &mut self.requests[slot as usize];
        let index = request.balancer;
        let service = &self.balancers[index as usize].service;
        let (endpoint, resumed) = (pick.endpoint(), request.resumed && !is_second);
        let place = (index, server);
        self.invariants.picked(self.now, place, (endpoint, resumed), service, &self.servers);
        let asked = service::Request { now: self.now, key: None, exclude: &request.tried };
        let claims = request.session.filter(|_| !is_second);
        let claim = claims.and_then(|session| service.claim(session, endpoint, &asked));
        let is_retry = is_second || request.attempts > 1;
        self.invariants.placed(self.now, (index, server), request.key, is_retry, &self.servers);
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        let mut job = Job::new(slot, serial, number, self.now);
        (job.user, job.takes) = (request.named(), request.takes);
        let flight = Flight { pick, server, since: self.now, serial, _claim: claim };
        let place = if is_second { &mut request.second } else { &mut request.first };
        *place = Some(flight);
        self.note(u64::from(server));
        self.offer(server, job, is_second);
        server
    }

    fn offer(&mut self, server: u32, job: Job, is_second: bool) {
        let Job { slot, serial, .. } = job;
        let group = self.servers[server as usize].group;
        self.recorder.picked(group);
        let mut rng = stream(self.seed, JOB, job.number);
        let spec = &self.scenario.endpoints[group];
        let offer = self.servers[server as usize].offer(job, self.now, spec, &mut rng);
        self.probe(self.requests[slot as usize].balancer);
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
        if !is_second {
            self.expect_hedge(slot, serial, self.now);
        }
    }

    /// Endpoints whom the balancer's policy wants to ask answer how they are now, and that is heard
    /// a moment later.
    pub(crate) fn probe(&mut self, index: u32) {
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
        let Some(since) = self.waiting_since(slot, serial) else { return };
        let latency = Some(self.now.since(since));
        match answer {
            Answer::Success => {
                self.keep_session(slot, serial);
                if self.end_attempt(slot, serial, Outcome::Success, latency) {
                    let balancer = self.requests[slot as usize].balancer;
                    self.balancers[balancer as usize].service.count_hedge_won();
                }
                self.cancel(slot);
                self.over(slot, Ending::Success);
            }
            Answer::ServerError => {
                let is_second = self.end_attempt(slot, serial, Outcome::ServerError, latency);
                let wanted = RetryCondition::Status(SERVER_ERROR);
                self.failed(slot, is_second, Ending::ServerError, Some(wanted));
            }
            Answer::Reset => self.reset(slot, serial, Outcome::Broken),
        }
    }

    fn waiting_since(&self, slot: u32, serial: u32) -> Option<Instant> {
        let request = &self.requests[slot as usize];
        let flight = request.flights().find(|flight| flight.serial == serial)?;
        request.live.then_some(flight.since)
    }

    fn reset(&mut self, slot: u32, serial: u32, outcome: Outcome) {
        let is_second = self.end_attempt(slot, serial, outcome, None);
        self.failed(slot, is_second, Ending::Reset, Some(RetryCondition::Reset));
    }

    /// The connection failed (`connected`: after it was made).
    pub(crate) fn broke(&mut self, slot: u32, serial: u32, connected: bool) {
        if self.waiting_since(slot, serial).is_none() {
            return;
        }
        if connected {
            self.reset(slot, serial, Outcome::Broken);
        } else {
            let is_second = self.end_attempt(slot, serial, Outcome::ConnectFailed, None);
            self.failed(slot, is_second, Ending::Connect, None);
        }
    }

    pub(crate) fn first_byte_timeout(&mut self, slot: u32, serial: u32) {
        if self.waiting_since(slot, serial).is_some() {
            let is_second = self.end_attempt(slot, serial, Outcome::TimedOut, None);
            let wanted = Some(RetryCondition::FirstByteTimeout);
            self.failed(slot, is_second, Ending::Timeout, wanted);
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
        let index = request.balancer;
        if let Some(place) = self.requests[slot as usize].waiting.take() {
            self.invariants.left(index, slot);
            drop(place);
            self.take_notes(index);
        }
        let request = &self.requests[slot as usize];
        if let Some(serial) = request.first.as_ref().map(|flight| flight.serial) {
            self.end_attempt(slot, serial, outcome, None);
        }
        if let Some(second) = &self.requests[slot as usize].second {
            self.end_attempt(slot, second.serial, Outcome::Abandoned, None);
        }
        self.over(slot, ending);
    }

    /// The grace of an endpoint that leaves is over: what it still has is cut, and goes to another
    /// one as after a reset.
    pub(crate) fn cut(&mut self, balancer: u32, server: u32) {
        let mut handle = None;
        let mut flights = Vec::new();
        for (slot, request) in (0..).zip(&self.requests) {
            for flight in request.flights() {
                let endpoint = flight.pick.endpoint();
                let is_over = endpoint.close_at().is_some_and(|at| at <= self.now);
                if request.balancer == balancer && flight.server == server && is_over {
                    handle = Some(endpoint.clone());
                    flights.push((slot, flight.serial));
                }
            }
        }
        for (slot, serial) in flights {
            self.reset(slot, serial, Outcome::Abandoned);
        }
        if let Some(handle) = handle {
            self.invariants.cut(self.now, &handle);
        }
    }

    /// An endpoint lost all that it had: whoever waits finds the connection reset.
    pub(crate) fn reset_all_at(&mut self, server: u32) {
        for (slot, request) in (0..).zip(&self.requests) {
            for flight in request.flights().filter(|flight| flight.server == server) {
                let event = Event::Broke { slot, serial: flight.serial, connected: true };
                self.queue.add(self.now + REFUSAL, event);
            }
        }
    }

    /// Answers whether it was a hedge.
    pub(crate) fn end_attempt(
        &mut self,
        slot: u32,
        serial: u32,
        outcome: Outcome,
        latency: Option<Duration>,
    ) -> bool {
        let request = &mut self.requests[slot as usize];
        let is_second = request.second.as_ref().is_some_and(|flight| flight.serial == serial);
        let place = if is_second { &mut request.second } else { &mut request.first };
        let Some(Flight { pick, server, _claim, .. }) = place.take() else { return is_second };
        let handle = pick.endpoint().clone();
        request.tried.push(handle.key);
        let balancer = request.balancer;
        let answered = matches!(outcome, Outcome::Success | Outcome::ServerError);
        let utilization = self.servers[server as usize].utilization(self.now);
        let report = Report::new(self.now, outcome).after(latency);
        pick.report(&Report { utilization: utilization.filter(|_| answered), ..report });
        self.invariants.reported(self.now, (balancer, server), &handle);
        // What it leaves may have gone to who waits.
        self.take_notes(balancer);
        self.invariants.compare(self.now, balancer, &handle);
        is_second
    }

    /// Another attempt if one is left and allowed; `condition`: that of a retry that needs the
    /// budget.
    pub(crate) fn again(&mut self, slot: u32, ending: Ending, condition: Option<RetryCondition>) {
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
