//! The data path beside a control side that never rests, and the data path's allocations: none.
#![allow(unsafe_code, reason = "counting allocations needs an allocator of our own")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::time::Duration;

use model::spec::{
    AffinitySpec, ConcurrencySpec, EndpointSource, HealthKind, HedgeSpec, QueueSpec,
    ServiceLimitSpec, ServiceSpec, SessionTableSpec,
};
use model::{Endpoint, Instant, Outcome, Report, Rng};
use service::{Acquired, EndpointHandle, NoEvents, Request, Service};

/// Counts the allocations of the current thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is handed to the system's allocator; counting touches a thread-local of a
// type without destructor, which allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's contract is ours.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is ours.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const POLICIES: [&str; 3] = ["round_robin", "random", "least_request"];

fn endpoints(ports: std::ops::Range<u16>) -> Vec<Endpoint> {
    ports.map(|port| Endpoint::at(SocketAddr::from(([127, 0, 0, 1], port)))).collect()
}

fn service(policy: &str, ports: std::ops::Range<u16>) -> Arc<Service> {
    Service::new(&spec(policy, ports), Arc::new(NoEvents), Instant::ZERO, 1)
}

fn spec(policy: &str, ports: std::ops::Range<u16>) -> ServiceSpec {
    let mut spec = ServiceSpec::new("web".into());
    spec.source = EndpointSource::Static(endpoints(ports));
    spec.policy.name = policy.into();
    spec.health.kind = HealthKind::Off;
    spec.hedge = Some(HedgeSpec { budget: 1.0, ..HedgeSpec::default() });
    spec.affinity = Some(AffinitySpec::Rewrite {
        name: "SID".into(),
        secret: None,
        table: SessionTableSpec::default(),
    });
    spec
}

#[test]
fn pick_report_retry_and_resume_do_not_allocate() {
    for policy in POLICIES {
        let service = service(policy, 1..100);
        let mut rng = Rng::from_seed(1);
        let mut attempt = |round: u64| {
            let now = Instant::from_nanos(round * 1_000_000);
            let first = Request { now, key: Some(round), exclude: &[] };
            let pick = service.pick(&first, &mut rng).unwrap();
            let tried = [pick.endpoint().key];
            assert!(service.hedge_after(now).is_some() || round < 200);
            drop(service.hedge(&Request { exclude: &tried, ..first }, &mut rng).unwrap());
            pick.report(&Report::new(Instant::ZERO, Outcome::ServerError));
            assert!(service.settings().retry.attempts > 0);
            service.admit_retry(now);
            let again = Request { exclude: &tried, ..first };
            let pick = service.pick(&again, &mut rng).unwrap();
            assert_ne!(pick.endpoint().key, tried[0]);
            let endpoint = pick.endpoint().clone();
            pick.report(&Report::new(now, Outcome::Success).after(Some(Duration::from_micros(80))));
            let settings = service.settings();
            let sessions = settings.sessions().unwrap();
            let token = sessions.token(&endpoint.id);
            let pick = service.resume(token.into(), &first).unwrap();
            assert_eq!(pick.endpoint().key, endpoint.key);
            pick.report(&Report::new(Instant::ZERO, Outcome::Success));
            // Of more values than the table has room for.
            let session = sessions.of_value(&(round * 1000).to_le_bytes()).unwrap();
            assert!(service.resume(session, &first).is_none());
            let claim = service.claim(session, &endpoint, &first).unwrap();
            service.learn(session, &endpoint, &first);
            drop(claim);
            let pick = service.resume(session, &first).unwrap();
            assert_eq!(pick.endpoint().key, endpoint.key);
            pick.report(&Report::new(Instant::ZERO, Outcome::Success));
        };
        // Each thread makes itself known to arc-swap once.
        attempt(0);
        let before = ALLOCATIONS.get();
        (1..1000).for_each(attempt);
        assert_eq!(ALLOCATIONS.get(), before, "{policy}");
    }
}

/// With a limit and a queue nothing is allocated either, as long as nobody waits.
#[test]
fn acquiring_within_limits_does_not_allocate() {
    for policy in POLICIES {
        for concurrency in [ConcurrencySpec::Fixed(1), ConcurrencySpec::LEARNT] {
            let mut spec = spec(policy, 1..100);
            let concurrency = Some(concurrency);
            spec.limits = ServiceLimitSpec { concurrency, requests: Some(1000), retries: Some(10) };
            spec.queue = Some(QueueSpec::default());
            let service = Service::new(&spec, Arc::new(NoEvents), Instant::ZERO, 1);
            let mut rng = Rng::from_seed(1);
            let mut attempt = |round: u64| {
                let now = Instant::from_nanos(round * 1_000_000);
                let first = Request { now, key: Some(round), exclude: &[] };
                let Acquired::Picked(pick) = service.acquire(&first, 5, &mut rng) else { panic!() };
                let again = Request { exclude: &[pick.endpoint().key], ..first };
                let Acquired::Picked(other) = service.acquire(&again, 5, &mut rng) else {
                    panic!()
                };
                let settings = service.settings();
                let token = settings.sessions().unwrap().token(&other.endpoint().id);
                drop(other);
                let resumed = service.acquire_session(token.into(), &first, 5);
                let Some(Acquired::Picked(resumed)) = resumed else { panic!() };
                let took = Some(Duration::from_micros(80));
                resumed.report(&Report::new(now, Outcome::Success).after(took));
                pick.report(&Report::new(now, Outcome::Success).after(took));
            };
            attempt(0);
            let before = ALLOCATIONS.get();
            (1..1000).for_each(attempt);
            assert_eq!(ALLOCATIONS.get(), before, "{policy}");
        }
    }
}

/// Two workers pick while endpoints change 10,000 times. Ports 1 to 3 always stay, so something
/// can always be picked; what was drained and seen idle gets nothing more.
#[test]
#[allow(clippy::disallowed_methods, reason = "the test is about threads")]
fn workers_and_the_control_side_do_not_disturb_each_other() {
    for (policy, changes) in POLICIES.into_iter().zip([10_000, 1000, 1000]) {
        let service = service(policy, 1..8);
        let done = AtomicBool::new(false);
        // By port: the key of a drained endpoint that was seen idle, so that its process may end.
        let ended: [AtomicU64; 12] = Default::default();
        let mut seen: BTreeMap<u64, Arc<EndpointHandle>> =
            service.eligible().into_iter().map(|endpoint| (endpoint.key, endpoint)).collect();
        std::thread::scope(|scope| {
            let worker = |seed: u64| {
                let (service, done, ended) = (&service, &done, &ended);
                move || {
                    let mut rng = Rng::from_seed(seed);
                    let mut picks = 0u64;
                    while !done.load(Relaxed) {
                        let request = Request { now: Instant::ZERO, key: None, exclude: &[] };
                        let pick = service.pick(&request, &mut rng).expect("three always stay");
                        let endpoint = pick.endpoint();
                        let port = usize::from(endpoint.address.port());
                        assert!((1..12).contains(&port) && endpoint.in_flight() > 0);
                        assert_ne!(ended[port].load(SeqCst), endpoint.key, "it has ended");
                        match rng.below(4) {
                            0 => drop(pick),
                            1 => pick.report(&Report::new(Instant::ZERO, Outcome::Broken)),
                            _ => pick.report(
                                &Report::new(Instant::ZERO, Outcome::Success)
                                    .after(Some(Duration::from_micros(1))),
                            ),
                        }
                        picks += 1;
                    }
                    picks
                }
            };
            let workers = [scope.spawn(worker(1)), scope.spawn(worker(2))];
            let mut rng = Rng::from_seed(3);
            let mut idle = 0u64;
            for round in 0..changes {
                let now = Instant::from_nanos(round * 1_000_000);
                let end = 5 + rng.below(7) as u16;
                service.set_endpoints(endpoints(1..end), now);
                for endpoint in service.eligible() {
                    seen.entry(endpoint.key).or_insert(endpoint);
                }
                if rng.below(10) == 0 {
                    let port = 4 + rng.below(3) as u16;
                    let id = format!("127.0.0.1:{port}");
                    let handle = service.endpoint(&id);
                    let _ = service.drain(&id, now);
                    if let Some(handle) = handle
                        && handle.in_flight() == 0
                    {
                        ended[usize::from(port)].store(handle.key, SeqCst);
                        std::thread::yield_now();
                        ended[usize::from(port)].store(0, SeqCst);
                        idle += 1;
                    }
                    let _ = service.undrain(&id, now);
                }
            }
            assert!(idle > changes / 100, "{policy}: drained ones were seen idle");
            done.store(true, Relaxed);
            let picks: u64 = workers.map(|worker| worker.join().unwrap()).iter().sum();
            let counted: u64 = seen.values().map(|endpoint| endpoint.load.picks()).sum();
            // A pick that met a leaving endpoint was counted there too, and looked again.
            assert!(counted >= picks, "{policy}: {counted} counted, {picks} made");
            assert_eq!(service.status().unavailable, 0);
        });
        assert!(seen.len() as u64 > changes / 10, "{policy}: endpoints did change");
        assert!(seen.values().all(|endpoint| endpoint.in_flight() == 0), "{policy}");
    }
}
