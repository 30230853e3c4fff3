use std::collections::BTreeMap;
use std::time::Duration;

use model::spec::scenario::{Action, Fault, Scenario, Traffic};
use model::spec::{EndpointSource, HealthKind, PolicySpec, ServiceSpec};
use model::status::EjectionCounts;
use model::{Endpoint, EndpointId, Instant, Rng};
use service::Service;

use crate::balancer::{Balancer, Note};
use crate::distribution::{exponential, stream};
use crate::invariants::Invariants;
use crate::queue::{Event, History, Queue};
use crate::report::{EndpointReport, Recorder, Report};
use crate::request::Request;
use crate::script::Played;
use crate::server::Server;
use crate::session::Home;

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Of the clients' time: 0 to 1.
    pub share: f64,
    pub requests: u64,
}

/// Plays `scenario` with this policy and seed, and tells of its progress about a hundred times.
pub fn run(
    scenario: &Scenario,
    policy: &PolicySpec,
    seed: u64,
    progress: &mut dyn FnMut(Progress),
) -> Report {
    let mut simulation = Simulation::new(scenario, policy, seed);
    simulation.play(progress);
    simulation.report()
}

pub(crate) struct Simulation<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) seed: u64,
    pub(crate) now: Instant,
    /// When clients begin: until then endpoints are found healthy.
    pub(crate) begin: Instant,
    pub(crate) end: Instant,
    pub(crate) queue: Queue,
    history: History,
    events: u64,
    pub(crate) balancers: Vec<Balancer>,
    pub(crate) servers: Vec<Server>,
    ids: BTreeMap<EndpointId, u32>,
    /// For each group, the servers that are in it now, in the order of their start.
    pub(crate) members: Vec<Vec<u32>>,
    /// How many servers each group ever had: they are named by it.
    started: Vec<u32>,
    /// Which servers there were after each change.
    pub(crate) versions: Vec<Vec<u32>>,
    /// What each event of the scenario did, so that it can be undone.
    pub(crate) played: Vec<Played>,
    pub(crate) clients: Vec<Client>,
    pub(crate) requests: Vec<Request>,
    pub(crate) free: Vec<u32>,
    pub(crate) under_way: usize,
    pub(crate) serial: u32,
    pub(crate) recorder: Recorder,
    pub(crate) invariants: Invariants,
    sample_every: Duration,
}

pub(crate) struct Client {
    pub(crate) rng: Rng,
    pub(crate) factor: f64,
    pub(crate) epoch: u32,
    /// Requests so far.
    pub(crate) count: u64,
    /// By key, the endpoint that it went to last, plus one; empty if the policy hashes nothing.
    pub(crate) places: Vec<u32>,
    /// By key; empty without affinity.
    pub(crate) homes: Vec<Home>,
}

/// Kinds of streams of chance; those of balancers are in `balancer.rs`.
const CLIENT: u64 = 16;
const ANTAGONISTS: u64 = 19;

/// Until the control side takes up a suspicion.
const CONTROL_DELAY: Duration = Duration::from_micros(100);

/// First checks of many endpoints go out in batches (`service`): 64 each 10 ms; then a snapshot
/// of many may be put off.
const LEAD_MIN: Duration = Duration::from_secs(1);
const LEAD_EACH: Duration = Duration::from_micros(200);

const SAMPLES: u32 = 100;
const SAMPLE_MIN: Duration = Duration::from_millis(100);

impl<'a> Simulation<'a> {
    fn new(scenario: &'a Scenario, policy: &PolicySpec, seed: u64) -> Self {
        let count: u32 = scenario.endpoints.iter().map(|group| group.count).sum();
        let begin = Instant::ZERO + LEAD_MIN + LEAD_EACH * count;
        let end = begin + scenario.duration;
        let mut spec = scenario.service.clone();
        spec.policy = policy.clone();
        spec.source = EndpointSource::Static(Vec::new());
        let balancers = (0..u64::from(scenario.balancers.max(1)))
            .map(|index| Balancer::new(&spec, seed, index))
            .collect::<Vec<_>>();
        let hashes = balancers[0].service.settings().key().is_some();
        let client = |(index, group): (u64, &model::spec::scenario::ClientGroup)| Client {
            rng: stream(seed, CLIENT, index),
            factor: 1.0,
            epoch: 0,
            count: 0,
            places: if hashes { vec![0; group.keys as usize] } else { Vec::new() },
            homes: match spec.affinity {
                Some(_) => vec![Home::default(); group.keys as usize],
                None => Vec::new(),
            },
        };
        let priorities = scenario
            .endpoints
            .iter()
            .flat_map(|group| (0..group.count).map(|number| group.member(number).priority));
        let priority = priorities.min().unwrap_or(0);
        let mut simulation = Self {
            scenario,
            seed,
            now: Instant::ZERO,
            begin,
            end,
            queue: Queue::default(),
            history: History::default(),
            events: 0,
            invariants: Invariants::new(&spec, balancers.len(), priority, begin),
            balancers,
            servers: Vec::new(),
            ids: BTreeMap::new(),
            members: vec![Vec::new(); scenario.endpoints.len()],
            started: vec![0; scenario.endpoints.len()],
            versions: Vec::new(),
            played: vec![Played::default(); scenario.events.len()],
            clients: (0..).zip(&scenario.clients).map(client).collect(),
            requests: Vec::new(),
            free: Vec::new(),
            under_way: 0,
            serial: 0,
            recorder: Recorder::new(scenario.endpoints.len()),
            sample_every: (scenario.duration / SAMPLES).max(SAMPLE_MIN),
        };
        simulation.set_out(&spec);
        simulation
    }

    /// What is known from the start.
    fn set_out(&mut self, spec: &ServiceSpec) {
        for (group, endpoints) in self.scenario.endpoints.iter().enumerate() {
            (0..endpoints.count).for_each(|_| {
                self.start_server(group);
            });
        }
        self.publish_endpoints(Duration::ZERO);
        for (index, client) in (0..).zip(&self.scenario.clients) {
            match client.traffic {
                Traffic::Open { .. } | Traffic::Recorded(_) => self.next_arrival(index, self.begin),
                Traffic::Closed { users, think } => {
                    for _ in 0..users {
                        let pause = exponential(think, &mut self.clients[index as usize].rng);
                        self.queue.add(self.begin + pause, Event::Ask { client: index });
                    }
                }
            }
        }
        for (index, event) in (0..).zip(&self.scenario.events) {
            let at = self.begin + event.at;
            self.queue.add(at, Event::Begin { event: index });
            if let Some(lasts) = event.lasts {
                self.queue.add(at + lasts, Event::End { event: index });
            }
        }
        if let Some(calm) = self.calm_at(spec) {
            self.queue.add(calm, Event::Calm);
        }
        self.queue.add(self.begin + self.sample_every, Event::Sample);
    }

    /// When the last fault is over, and checks had the time to notice.
    fn calm_at(&self, spec: &ServiceSpec) -> Option<Instant> {
        let boot = self.scenario.endpoints.iter().map(|group| group.boot).max()?;
        let started: u32 = self.scenario.endpoints.iter().map(|group| group.count).max()?;
        let over = |event: &model::spec::scenario::ScenarioEvent| {
            let lasts = match event.action {
                Action::Replace { pace, .. } => pace * (started + 1),
                _ => event.lasts.unwrap_or_default(),
            };
            event.at + lasts
        };
        let last = self.scenario.events.iter().map(over).max().unwrap_or_default();
        let checks = match spec.health.kind {
            HealthKind::Off => Duration::ZERO,
            // Intervals are up to a tenth longer.
            _ => {
                spec.health.timeout
                    + spec.health.interval * (spec.health.healthy_after + 2) * 11 / 10
            }
        };
        let learnt = self.scenario.stale * self.scenario.balancers;
        // What was ejected last comes back, and gets to its share.
        let ejected = spec
            .outlier
            .as_ref()
            .map_or(Duration::ZERO, |outlier| outlier.ejection_max + outlier.interval * 11);
        let slow = spec.slow_start.as_ref();
        let ramp = slow.map_or(Duration::ZERO, |slow_start| {
            slow_start.window * if slow_start.hold_above.is_some() { 5 } else { 1 }
        });
        let after = checks + boot + learnt + ejected + ramp;
        let calm = self.begin + last + after + Duration::from_secs(1);
        (calm < self.end).then_some(calm)
    }

    fn play(&mut self, progress: &mut dyn FnMut(Progress)) {
        while let Some((at, event)) = self.queue.next() {
            if at >= self.end && self.under_way == 0 {
                break;
            }
            debug_assert!(at >= self.now, "the clock went back");
            self.now = at;
            self.events += 1;
            self.history.event(at, &event);
            if event == Event::Sample {
                let share =
                    at.since(self.begin).as_secs_f64() / self.scenario.duration.as_secs_f64();
                let requests = self.recorder.requests;
                progress(Progress { share: share.min(1.0), requests });
            }
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrive { client, epoch } => {
                if self.clients[client as usize].epoch == epoch {
                    self.ask(client);
                    self.next_arrival(client, self.now);
                }
            }
            Event::Ask { client } => self.ask(client),
            Event::Finish { server, epoch, slot, serial, answer, arrival } => {
                if self.served(server, epoch, answer, arrival) {
                    self.finished(slot, serial, answer);
                }
            }
            Event::Broke { slot, serial, connected } => self.broke(slot, serial, connected),
            Event::ConnectTimeout { slot, serial } => self.broke(slot, serial, false),
            Event::FirstByteTimeout { slot, serial } => self.first_byte_timeout(slot, serial),
            Event::Hedge { slot, serial } => self.hedge(slot, serial),
            Event::Deadline { slot, serial } => self.deadline(slot, serial),
            Event::QueueTimeout { slot, serial } => self.queue_timeout(slot, serial),
            Event::Poll { balancer } => self.poll(balancer),
            Event::Checked { balancer, server, generation, passed } => {
                self.checked(balancer, server, generation, passed);
            }
            Event::Probed { balancer, .. } => self.balancers[balancer as usize].hear(self.now),
            Event::Antagonize { server } => self.antagonize(server),
            Event::Judge { balancer, server } => self.judge(balancer, server),
            Event::Cut { balancer, server } => self.cut(balancer, server),
            Event::Discover { balancer, version } => self.discover(balancer, version),
            Event::Begin { event } => self.begin_event(event),
            Event::End { event } => self.end_event(event),
            Event::Replace { event, step } => self.replace(event, step),
            Event::Booted { server, boots } => {
                let spec = &self.scenario.endpoints[self.servers[server as usize].group];
                let server = &mut self.servers[server as usize];
                if server.boots == boots {
                    server.booted(self.now, spec);
                }
            }
            Event::Stop { server } => {
                self.servers[server as usize].stop();
                self.reset_all_at(server);
            }
            Event::Calm => self.invariants.becalmed(),
            Event::Sample => {
                self.recorder.sample(self.now, self.begin);
                if self.now < self.end {
                    self.queue.add(self.now + self.sample_every, Event::Sample);
                }
            }
        }
    }

    pub(crate) fn next_arrival(&mut self, index: u32, after: Instant) {
        let client = &mut self.clients[index as usize];
        let at = match &self.scenario.clients[index as usize].traffic {
            Traffic::Open { rate } if rate * client.factor > 0.0 => {
                let mean = Duration::from_secs_f64(1.0 / (rate * client.factor));
                after + exponential(mean, &mut client.rng)
            }
            Traffic::Recorded(recording) => {
                let Some(next) = recording.arrivals.get(client.count as usize) else { return };
                let after = Duration::from_micros((next.at_us as f64 / recording.speed) as u64);
                if after >= self.scenario.duration {
                    return;
                }
                self.begin + after
            }
            Traffic::Open { .. } | Traffic::Closed { .. } => return,
        };
        if at < self.end {
            self.queue.add(at, Event::Arrive { client: index, epoch: client.epoch });
        }
    }

    /// A new server of a group, which nobody knows of yet.
    pub(crate) fn start_server(&mut self, group: usize) -> u32 {
        let spec = &self.scenario.endpoints[group];
        let number = self.started[group];
        self.started[group] += 1;
        let id = EndpointId::new(format!("{}-{}", spec.name, self.started[group]));
        let index = self.servers.len() as u32;
        self.servers.push(Server::new(id.clone(), group, number, spec));
        self.ids.insert(id, index);
        self.members[group].push(index);
        self.antagonize(index);
        index
    }

    /// What else runs on an endpoint's machine takes more or less of it, and will again, as long as
    /// clients send.
    fn antagonize(&mut self, index: u32) {
        let server = &mut self.servers[index as usize];
        if let Some(antagonists) = &self.scenario.endpoints[server.group].antagonists {
            let mut rng = stream(self.seed, ANTAGONISTS, u64::from(index) << 40 | server.changes);
            let at = self.now + server.antagonize(antagonists, &mut rng);
            if at < self.end {
                self.queue.add(at, Event::Antagonize { server: index });
            }
        }
    }

    /// All balancers learn of the present servers, one after the other.
    pub(crate) fn publish_endpoints(&mut self, delay: Duration) {
        let version = self.versions.len() as u32;
        self.versions.push(self.members.concat());
        for balancer in 0..self.balancers.len() as u32 {
            let at = self.now + delay * balancer;
            self.queue.add(at, Event::Discover { balancer, version });
        }
    }

    fn discover(&mut self, balancer: u32, version: u32) {
        let version = &self.versions[version as usize];
        let endpoint = |index: &u32| -> Endpoint {
            let server = &self.servers[*index as usize];
            server.endpoint(*index)
        };
        let endpoints = version.iter().map(endpoint).collect();
        self.invariants.listed(balancer, version);
        self.balancers[balancer as usize].service.set_endpoints(endpoints, self.now);
        self.heed(balancer);
    }

    /// Health checks that are due are made.
    fn poll(&mut self, index: u32) {
        let balancer = &mut self.balancers[index as usize];
        if balancer.poll_at != self.now {
            return;
        }
        balancer.poll_at = Instant::FAR_FUTURE;
        for due in balancer.service.due_checks(self.now) {
            let server = crate::server::index_of(due.address);
            let by_request = matches!(due.spec.kind, HealthKind::Http { .. });
            let server_state = &self.servers[server as usize];
            let (after, passed) = server_state.check(
                by_request,
                due.spec.timeout,
                self.now,
                &self.scenario.endpoints[server_state.group],
                &mut balancer.check_rng,
            );
            let generation = due.generation;
            let event = Event::Checked { balancer: index, server, generation, passed };
            self.queue.add(self.now + after, event);
        }
        self.heed(index);
    }

    fn checked(&mut self, balancer: u32, server: u32, generation: u64, passed: bool) {
        self.invariants.checked(self.now, balancer, server, passed);
        let result = if passed { Ok(()) } else { Err("the check failed".to_owned()) };
        let service = &self.balancers[balancer as usize].service;
        service.handle_check(&self.servers[server as usize].id, generation, result, self.now);
        self.heed(balancer);
    }

    fn judge(&mut self, balancer: u32, server: u32) {
        let service = &self.balancers[balancer as usize].service;
        let id = &self.servers[server as usize].id;
        let well = self.invariants.well(balancer);
        let before = service.is_healthy(id.as_str());
        service.handle_suspect(id, self.now);
        if before && !service.is_healthy(id.as_str()) {
            if !service.ejected().iter().any(|ejected| ejected.id == *id) {
                self.invariants.suspected(self.now, balancer, server);
            }
            if well <= 1 {
                let id = id.clone();
                self.invariants.violated(self.now, || format!("suspicion took {id}, the last one"));
            }
        }
        self.heed(balancer);
    }

    /// After each call of a service: sees to what it told, and to when it is due next.
    pub(crate) fn heed(&mut self, index: u32) {
        if self.scenario.service.outlier.is_some() {
            let ejected = self.balancers[index as usize].service.ejected();
            let ejected: Vec<u32> =
                ejected.iter().map(|handle| crate::server::index_of(handle.address)).collect();
            self.invariants.ejected(self.now, index, &ejected);
        }
        self.take_notes(index);
        // A policy may ask after a quiet time, and not only when it picks.
        self.probe(index);
        let balancer = &mut self.balancers[index as usize];
        let at = balancer.service.poll_timeout().unwrap_or(Instant::FAR_FUTURE).max(self.now);
        if at < balancer.poll_at && at != Instant::FAR_FUTURE {
            balancer.poll_at = at;
            self.queue.add(at, Event::Poll { balancer: index });
        }
    }

    pub(crate) fn take_notes(&mut self, balancer: u32) {
        let mut turned = Vec::new();
        for note in self.balancers[balancer as usize].take_notes() {
            match note {
                Note::Suspect(id) => {
                    if let Some(server) = self.ids.get(id.as_str()) {
                        let event = Event::Judge { balancer, server: *server };
                        self.queue.add(self.now + CONTROL_DELAY, event);
                    }
                }
                Note::Leaving(handle) => {
                    let server = crate::server::index_of(handle.address);
                    if let Some(at) = handle.close_at() {
                        // One that was drained before it was removed keeps its first deadline.
                        self.queue.add(at.max(self.now), Event::Cut { balancer, server });
                    }
                }
                Note::Turn { slot, serial } => turned.extend(self.turn(slot, serial)),
            }
        }
        // Those that were told in one moment were handed their places in one moment, too.
        for handle in turned {
            self.invariants.compare(self.now, balancer, &handle);
        }
        let service = &self.balancers[balancer as usize].service;
        self.invariants.idle(self.now, balancer, service);
    }

    /// A word of what was decided, for the hash of the run.
    pub(crate) fn note(&mut self, word: u64) {
        self.history.add(word);
    }

    fn report(mut self) -> Report {
        self.recorder.sample(self.now, self.begin);
        let services: Vec<_> = self.balancers.iter().map(|b| b.service.clone()).collect();
        let services: Vec<&Service> = services.iter().map(|service| &**service).collect();
        let (mut retries, mut retries_denied, mut ejections) = (0, 0, 0);
        let (mut hedges, mut hedges_denied, mut hedges_won) = (0, 0, 0);
        let picks: Vec<u64> =
            (0..self.servers.len() as u32).map(|server| self.invariants.picks(server)).collect();
        for service in &services {
            let status = service.status();
            retries += status.retries;
            retries_denied += status.retries_denied;
            let EjectionCounts { consecutive, error_rate, latency } = status.ejections;
            ejections += consecutive + error_rate + latency;
            hedges += status.hedges;
            hedges_denied += status.hedges_denied;
            hedges_won += status.hedges_won;
        }
        let policy = services[0].settings().policy.name.clone();
        let recorder = &self.recorder;
        let moved = (recorder.keyed > 0).then(|| recorder.moved as f64 / recorder.keyed as f64);
        let reported = |(server, picks): (&Server, &u64)| EndpointReport {
            id: server.id.to_string(),
            weight: server.weight,
            picks: *picks,
        };
        let endpoints = self.servers.iter().zip(&picks).map(reported).collect();
        // A policy that fills endpoints in order owes nothing to the last ones, and one that stays
        // in its zone nothing to the others. One that asks who is quickest owes nothing to a group
        // that is many times as slow by itself. Sessions stay where they are.
        let is_local = |(name, _): &(String, _)| name == "zone";
        let spreads = policy != "first_available"
            && self.scenario.service.affinity.is_none()
            && (policy != "prequal" || self.scenario.endpoints.len() == 1)
            && !services[0].settings().policy.options.iter().any(is_local);
        let exempt = self.still_afflicted();
        let imbalance = self.imbalance(&picks);
        let violations =
            self.invariants.finish(self.now, &services, &self.servers, &exempt, spreads);
        Report {
            policy,
            seed: self.seed,
            requests: recorder.requests,
            succeeded: recorder.succeeded,
            p50_ms: recorder.quantile_ms(0.5),
            p99_ms: recorder.quantile_ms(0.99),
            p999_ms: recorder.quantile_ms(0.999),
            queue_p99_ms: recorder.queue_p99_ms(),
            errors: recorder.errors,
            retries,
            retries_denied,
            ejections,
            hedges,
            hedges_denied,
            hedges_won,
            imbalance,
            moved,
            sessions: self.scenario.service.affinity.is_some().then_some(recorder.sessions),
            endpoints,
            groups: self.scenario.endpoints.iter().map(|group| group.name.clone()).collect(),
            samples: recorder.samples.clone(),
            events: self.events,
            hash: format!("{:016x}", self.history.0),
            violations,
        }
    }

    /// Servers with a fault that has no end.
    fn still_afflicted(&self) -> Vec<u32> {
        let mut servers = Vec::new();
        for (event, played) in self.scenario.events.iter().zip(&self.played) {
            if let (None, Action::Fault { fault, .. }) = (event.lasts, &event.action) {
                // These do not keep an endpoint from being healthy.
                if !matches!(fault, Fault::ChecksPass) {
                    servers.extend(&played.servers);
                }
            }
        }
        servers
    }

    fn imbalance(&self, picks: &[u64]) -> f64 {
        let mut last = self.members.concat();
        last.sort_unstable();
        let stayed: Vec<u32> = self.versions[0]
            .iter()
            .copied()
            .filter(|index| last.binary_search(index).is_ok())
            .collect();
        let servers = || stayed.iter().map(|index| &self.servers[*index as usize]);
        let Some(priority) = servers().map(|server| server.priority).min() else { return 1.0 };
        let (mut most, mut total, mut weights) = (0.0f64, 0.0, 0.0);
        for index in &stayed {
            let server = &self.servers[*index as usize];
            if server.priority == priority && server.weight > 0 {
                let (count, weight) = (picks[*index as usize] as f64, f64::from(server.weight));
                most = most.max(count / weight);
                total += count;
                weights += weight;
            }
        }
        if total == 0.0 { 1.0 } else { most / (total / weights) }
    }
}
