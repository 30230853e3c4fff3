//! A service under thousands of random operations, against invariants that hold at every step.
//! A failure prints the seed that it needs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::spec::{EndpointSource, HealthKind, OutlierSpec, ServiceSpec, SlowStartSpec};
use model::status::{EndpointState, EndpointStatus, ServiceStatus};
use model::{Endpoint, EndpointId, Instant, Outcome, Report, Rng, ServiceName, Weight};
use service::{DueCheck, EndpointHandle, Events, Pick, Request, Service};

#[derive(Default)]
struct Recorder {
    suspects: Mutex<Vec<EndpointId>>,
    leaving: Mutex<Vec<Arc<EndpointHandle>>>,
}

impl Events for Recorder {
    fn suspect(&self, _: &ServiceName, endpoint: &EndpointId) {
        self.suspects.lock().unwrap().push(endpoint.clone());
    }
    fn staying(&self, _: &ServiceName, endpoint: &Arc<EndpointHandle>) {
        assert!(!endpoint.is_leaving());
    }
    fn leaving(&self, _: &ServiceName, endpoint: &Arc<EndpointHandle>) {
        self.leaving.lock().unwrap().push(endpoint.clone());
    }
    fn changed(&self, _: &ServiceName) {}
}

struct World {
    service: Arc<Service>,
    recorder: Arc<Recorder>,
    spec: ServiceSpec,
    rng: Rng,
    now: Instant,
    /// Every endpoint ever seen, by key, with the picks of it that were made.
    seen: BTreeMap<u64, (Arc<EndpointHandle>, u64)>,
    open: Vec<Pick>,
    checks: Vec<DueCheck>,
    drained: Vec<EndpointId>,
}

const POLICIES: [&str; 3] = ["round_robin", "random", "least_request"];

fn endpoints(rng: &mut Rng) -> Vec<Endpoint> {
    (0..rng.below(7))
        .map(|_| {
            let number = rng.below(8) as u16;
            // Mostly the same address, sometimes moved.
            let port = 1 + number + 100 * u16::from(rng.below(10) == 0);
            Endpoint {
                id: format!("e{number}").as_str().into(),
                address: SocketAddr::from(([127, 0, 0, 1], port)),
                weight: Weight([0, 1, 1, 2, 7][rng.below(5) as usize]),
                zone: None,
                priority: (rng.below(6) == 0).into(),
            }
        })
        .collect()
}

/// Outliers, slow start, panic, failover and subsets, each by chance.
fn change_rules(spec: &mut ServiceSpec, rng: &mut Rng) {
    let mut maybe = |of: u64| rng.below(of) == 0;
    spec.outlier = maybe(2).then(|| OutlierSpec {
        consecutive: if maybe(4) { None } else { Some(1) },
        requests_min: 3,
        interval: Duration::from_millis(500),
        ejection: Duration::from_secs(1),
        ejection_max: Duration::from_secs(5),
        share_max: if maybe(4) { 0.0 } else { 0.4 },
        ..OutlierSpec::default()
    });
    spec.slow_start = maybe(2).then(|| SlowStartSpec::new(Duration::from_secs(3)));
    spec.panic = maybe(2).then_some(0.5);
    spec.failover_below = if maybe(3) { 0.7 } else { 0.0 };
    spec.subset = maybe(4).then_some(2);
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::from_seed(seed);
        let mut spec = ServiceSpec::new("web".into());
        spec.source = EndpointSource::Static(endpoints(&mut rng));
        spec.policy.name = POLICIES[rng.below(3) as usize].into();
        change_rules(&mut spec, &mut rng);
        let recorder = Arc::new(Recorder::default());
        let now = Instant::from_nanos(rng.below(1 << 40));
        let service = Service::new(&spec, recorder.clone(), now, seed);
        let (seen, open, checks, drained) = Default::default();
        Self { service, recorder, spec, rng, now, seen, open, checks, drained }
    }

    fn some_id(&mut self) -> EndpointId {
        format!("e{}", self.rng.below(8)).as_str().into()
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..40 => self.pick(),
            40..65 => self.report(),
            65..70 => self.now += Duration::from_millis(self.rng.below(3000)),
            70..75 => self.checks.extend(self.service.due_checks(self.now)),
            75..85 => self.finish_check(),
            85..88 => self.handle_suspects(),
            88..91 => self.set_endpoints(),
            91..93 => {
                let id = self.some_id();
                if self.service.drain(id.as_str(), self.now).is_ok() {
                    self.drained.push(id);
                }
            }
            93..95 => {
                let id = self.some_id();
                if self.service.undrain(id.as_str(), self.now).is_ok() {
                    self.drained.retain(|drained| *drained != id);
                }
            }
            95..97 => {
                let (id, weight) = (self.some_id(), self.rng.below(4) as u16);
                let weight = (weight < 3).then_some(Weight(weight));
                let _ = self.service.set_weight(id.as_str(), weight, self.now);
            }
            _ => self.update(),
        }
    }

    fn pick(&mut self) {
        let eligible = self.service.eligible();
        let exclude: Vec<u64> = (0..self.rng.below(3))
            .filter_map(|_| {
                let index = self.rng.below(eligible.len() as u64) as usize;
                eligible.get(index).map(|endpoint| endpoint.key)
            })
            .collect();
        let request = Request { now: self.now, key: Some(self.rng.next_u64()), exclude: &exclude };
        let Some(pick) = self.service.pick(&request, &mut self.rng) else {
            assert!(eligible.is_empty(), "something was eligible, but nothing was picked");
            return;
        };
        let endpoint = pick.endpoint();
        assert!(eligible.iter().any(|eligible| eligible.key == endpoint.key), "not eligible");
        assert!(!endpoint.is_leaving(), "a leaving one was picked");
        let entry = self.seen.entry(endpoint.key).or_insert_with(|| (endpoint.clone(), 0));
        entry.1 += 1;
        self.open.push(pick);
    }

    fn report(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let index = self.rng.below(self.open.len() as u64) as usize;
        let pick = self.open.swap_remove(index);
        let latency = Some(Duration::from_micros(self.rng.below(10_000)));
        match self.rng.below(8) {
            0 => drop(pick),
            1..4 => pick.report(&Report::new(Instant::ZERO, Outcome::Success).after(latency)),
            4 => pick.report(&Report::new(Instant::ZERO, Outcome::ServerError).after(latency)),
            5 => pick.report(&Report::new(Instant::ZERO, Outcome::Broken)),
            6 => pick.report(&Report::new(Instant::ZERO, Outcome::TimedOut)),
            _ => pick.report(&Report::new(Instant::ZERO, Outcome::ConnectFailed)),
        }
    }

    fn finish_check(&mut self) {
        if self.checks.is_empty() {
            return;
        }
        let index = self.rng.below(self.checks.len() as u64) as usize;
        let check = self.checks.swap_remove(index);
        let result =
            if self.rng.below(3) == 0 { Err("connection refused".to_owned()) } else { Ok(()) };
        self.service.handle_check(&check.endpoint, check.generation, result, self.now);
    }

    fn handle_suspects(&mut self) {
        let suspects = std::mem::take(&mut *self.recorder.suspects.lock().unwrap());
        for id in suspects {
            let before = self.service.healthy();
            self.service.handle_suspect(&id, self.now);
            let healthy = self.service.healthy();
            assert!(before == 0 || healthy > 0, "suspicion took the last one");
            assert!(healthy == 0 || !self.service.eligible().is_empty());
        }
    }

    fn set_endpoints(&mut self) {
        let next = endpoints(&mut self.rng);
        let before: BTreeMap<EndpointId, _> = (0..8)
            .filter_map(|n| self.service.endpoint(&format!("e{n}")))
            .map(|endpoint| (endpoint.id.clone(), (endpoint.key, endpoint.load.picks())))
            .collect();
        let addresses: BTreeMap<u64, SocketAddr> = (0..8)
            .filter_map(|n| self.service.endpoint(&format!("e{n}")))
            .map(|endpoint| (endpoint.key, endpoint.address))
            .collect();
        self.service.set_endpoints(next.clone(), self.now);
        for (id, (key, picks)) in before {
            let first = next.iter().find(|endpoint| endpoint.id == id);
            let after = self.service.endpoint(id.as_str());
            assert_eq!(first.is_some(), after.is_some());
            if let (Some(first), Some(after)) = (first, after)
                && first.address == addresses[&key]
            {
                assert_eq!((after.key, after.load.picks()), (key, picks), "it did not change");
            }
        }
        let service = &self.service;
        self.drained.retain(|id| service.endpoint(id.as_str()).is_some_and(|e| e.is_leaving()));
    }

    fn update(&mut self) {
        match self.rng.below(5) {
            4 => change_rules(&mut self.spec, &mut self.rng),
            0 => self.spec.policy.name = POLICIES[self.rng.below(3) as usize].into(),
            1 => self.spec.health.unhealthy_after = 1 + self.rng.below(4) as u32,
            2 => {
                let off = self.rng.below(4) == 0;
                self.spec.health.kind = if off { HealthKind::Off } else { HealthKind::Tcp };
            }
            _ => self.spec.drain_grace = Duration::from_millis(self.rng.below(5000)),
        }
        self.service.update(&self.spec, self.now);
    }

    fn verify_rules(&self, status: &ServiceStatus, eligible: usize) {
        let count = |states: &[EndpointState]| {
            status.endpoints.iter().filter(|status| states.contains(&status.state)).count()
        };
        let ejected = count(&[EndpointState::Ejected]);
        let drained = |status: &EndpointStatus| status.state == EndpointState::Draining;
        let listed = status.endpoints.iter().filter(|status| !drained(status)).count();
        match &self.spec.outlier {
            None => assert_eq!(ejected, 0),
            Some(outlier) if outlier.share_max == 0.0 => {}
            Some(outlier) => {
                let most = ((outlier.share_max * listed as f64) as usize).max(1);
                assert!(ejected <= most, "{ejected} of {listed}: {:?}", status.endpoints);
            }
        }
        let well = count(&[EndpointState::Healthy]);
        assert!(ejected == 0 || well > 0, "the last one: {:?}", status.endpoints);
        assert!(well == 0 || eligible > 0);
        let proven = well + ejected + count(&[EndpointState::Unhealthy]);
        match self.spec.panic {
            None => assert!(!status.panic),
            // With one priority there is no doubt of what it is a share of.
            Some(panic) if status.endpoints.iter().all(|status| status.priority == 0) => {
                let few =
                    if proven <= 3 { well == 0 } else { (well as f64) < panic * proven as f64 };
                let standby = well == 0 && status.endpoints.iter().any(drained);
                assert!(status.panic == (few && proven > 0) || standby, "{:?}", status.endpoints);
            }
            Some(_) => {}
        }
        if let Some(subset) = self.spec.subset {
            assert!(eligible <= subset as usize);
        }
    }

    fn verify(&self) {
        let eligible = self.service.eligible();
        let status = self.service.status();
        let allowed = |state| match state {
            EndpointState::Healthy | EndpointState::Draining => true,
            EndpointState::Unhealthy | EndpointState::Ejected => status.panic,
            EndpointState::Unproven => false,
        };
        for endpoint in &eligible {
            let named = status.endpoints.iter().any(|status| {
                status.id == endpoint.id.as_str()
                    && status.address == endpoint.address
                    && allowed(status.state)
            });
            assert!(named && !endpoint.is_leaving(), "{} is eligible", endpoint.id);
        }
        self.verify_rules(&status, eligible.len());
        for id in &self.drained {
            let handle = self.service.endpoint(id.as_str());
            let leaving = handle.as_ref().is_some_and(|handle| handle.is_leaving());
            assert!(leaving, "{id} is drained: {handle:?}, {:?}", status.endpoints);
        }
        let mut open: BTreeMap<u64, u32> = BTreeMap::new();
        self.open.iter().for_each(|pick| *open.entry(pick.endpoint().key).or_default() += 1);
        for (key, (endpoint, picks)) in &self.seen {
            assert_eq!(endpoint.in_flight(), open.get(key).copied().unwrap_or(0));
            assert_eq!(endpoint.load.picks(), *picks, "a pick is counted once");
        }
    }
}

#[test]
fn invariants_hold_under_random_operations() {
    let (mut ejections, mut panics) = (0, 0);
    for seed in 0..300 {
        let run = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(seed);
            for _ in 0..400 {
                world.step();
                world.verify();
                panics += usize::from(world.service.status().panic);
            }
            let counts = world.service.status().ejections;
            ejections += counts.consecutive + counts.error_rate + counts.latency;
            let (service, now) = (world.service.clone(), world.now);
            service.close(now);
            world.drained.clear();
            world
                .open
                .drain(..)
                .for_each(|pick| pick.report(&Report::new(Instant::ZERO, Outcome::Success)));
            world.verify();
            assert!(service.eligible().is_empty() && service.poll_timeout().is_none());
            for (endpoint, _) in world.seen.values() {
                assert_eq!(endpoint.in_flight(), 0);
                assert!(endpoint.is_leaving(), "all left");
            }
            let leaving = world.recorder.leaving.lock().unwrap();
            assert!(world.seen.keys().all(|key| leaving.iter().any(|left| left.key == *key)));
        }));
        if let Err(panic) = run {
            eprintln!("failing seed: {seed}");
            std::panic::resume_unwind(panic);
        }
    }
    assert!(ejections > 100 && panics > 300, "{ejections} ejections, {panics} steps in panic");
}
