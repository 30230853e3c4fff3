//! Threads that wait for each other's room: nobody is forgotten, nobody is too many.
//! They go on until what changes beside them has had its turns, too, however seldom.
#![allow(clippy::disallowed_methods, reason = "the tests are about threads")]

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::{self, Duration};

use model::spec::{
    ConcurrencySpec, EndpointSource, HealthKind, QueuePer, QueueSpec, RunSpec, ServiceLimitSpec,
    ServiceSpec, WakeSpec,
};
use model::{Endpoint, EndpointId, Instant, Outcome, Report, Rng, ServiceName};
use service::{Acquired, EndpointHandle, Events, NoEvents, Pick, Request, Service, Waiting};

/// Unparks the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A wake-up that is lost shows as a wait of this length.
const LOST_AFTER: Duration = Duration::from_secs(20);

fn wait(waiting: Waiting) -> Option<Pick> {
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut waiting = pin!(waiting);
    let begin = time::Instant::now();
    loop {
        if let Poll::Ready(pick) = waiting.as_mut().poll(&mut Context::from_waker(&waker)) {
            return pick;
        }
        assert!(begin.elapsed() < LOST_AFTER, "a wake-up was lost");
        thread::park_timeout(LOST_AFTER);
    }
}

fn endpoints(count: u16) -> Vec<Endpoint> {
    (1..=count).map(|port| Endpoint::at(SocketAddr::from(([127, 0, 0, 1], port)))).collect()
}

fn spec(limit: u32, queue: QueueSpec) -> ServiceSpec {
    let mut spec = ServiceSpec::new("web".into());
    spec.source = EndpointSource::Static(endpoints(3));
    spec.health.kind = HealthKind::Off;
    spec.policy.name = "least_request".into();
    spec.limits = ServiceLimitSpec {
        concurrency: Some(ConcurrencySpec::Fixed(limit)),
        requests: Some(10_000),
        retries: None,
    };
    spec.queue = Some(queue);
    spec
}

/// More threads than slots; some give up while they wait, some retry elsewhere, and endpoints come,
/// leave and are drained meanwhile. Whoever waits and does not give up is served at last.
#[test]
fn nobody_who_waits_is_forgotten() {
    for (seed, per) in [(1, QueuePer::Service), (2, QueuePer::Endpoint)] {
        for limit in [1, 2] {
            let queue = QueueSpec { per, max: 1000, ..QueueSpec::default() };
            let service =
                Service::new(&spec(limit, queue), Arc::new(NoEvents), Instant::ZERO, seed);
            let (served, waited, gone) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
            let in_use: [AtomicU32; 5] = Default::default();
            let (done, changes) = (AtomicBool::new(false), AtomicU64::new(0));
            thread::scope(|scope| {
                let worker = |number: u64| {
                    let (service, in_use, changes) = (&service, &in_use, &changes);
                    let (served, waited, gone) = (&served, &waited, &gone);
                    move || {
                        let mut rng = Rng::from_seed(seed << 32 | number);
                        let mut round = 0;
                        while round < 5_000 || changes.load(Relaxed) <= 10 {
                            round += 1;
                            let now = Instant::from_nanos(round * 1000);
                            let all = service.eligible();
                            let tried = [all[rng.below(all.len() as u64) as usize].key];
                            let exclude = if rng.below(8) == 0 { &tried[..] } else { &[] };
                            let request = Request { now, key: None, exclude };
                            let priority = rng.below(10) as u8;
                            let pick = match service.acquire(&request, priority, &mut rng) {
                                Acquired::Picked(pick) => Some(pick),
                                Acquired::Waits(waiting) if rng.below(4) == 0 => {
                                    gone.fetch_add(1, Relaxed);
                                    drop(waiting);
                                    None
                                }
                                Acquired::Waits(waiting) => {
                                    waited.fetch_add(1, Relaxed);
                                    Some(wait(waiting).expect("the service is open"))
                                }
                                other => panic!("{other:?}"),
                            };
                            let Some(pick) = pick else { continue };
                            let port = pick.endpoint().address.port();
                            let used = &in_use[usize::from(port)];
                            let before = used.fetch_add(1, SeqCst);
                            // The third one leaves and comes again as another.
                            assert!(before < limit || port == 3, "more than its limit");
                            if rng.below(16) == 0 {
                                thread::yield_now();
                            }
                            used.fetch_sub(1, SeqCst);
                            served.fetch_add(1, Relaxed);
                            match rng.below(4) {
                                0 => drop(pick),
                                _ => pick.report(&Report::new(now, Outcome::Success)),
                            }
                        }
                    }
                };
                let workers: Vec<_> = (0..8).map(|number| scope.spawn(worker(number))).collect();
                let control = scope.spawn(|| {
                    let mut rng = Rng::from_seed(seed);
                    while !done.load(Relaxed) {
                        let round = changes.fetch_add(1, Relaxed);
                        let now = Instant::from_nanos(round * 1000);
                        // The first one always stays.
                        service.set_endpoints(endpoints(2 + rng.below(2) as u16), now);
                        let _ = service.drain("127.0.0.1:2", now);
                        thread::yield_now();
                        let _ = service.undrain("127.0.0.1:2", now);
                    }
                });
                let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
                done.store(true, Relaxed);
                control.join().unwrap();
                ended.into_iter().for_each(|end| end.unwrap());
            });
            let (served, waited) = (served.load(Relaxed), waited.load(Relaxed));
            assert!(served > 20_000 && waited > 1000, "{per:?}: {served} served, {waited} waited");
            assert!(gone.load(Relaxed) > 100, "{per:?}");
            assert_eq!(service.queued(), 0);
            let status = service.status();
            assert!(status.queue.waited_us.iter().map(|(_, n)| n).sum::<u64>() > 1000);
            assert!(status.endpoints.iter().all(|e| e.in_flight == 0 && e.queued == 0));
            // All that was counted was given back: there is room for the whole limit again.
            let mut rng = Rng::from_seed(0);
            let request = Request { now: Instant::ZERO, key: None, exclude: &[] };
            let mut all: Vec<Acquired> = Vec::new();
            while let acquired @ Acquired::Picked(_) = service.acquire(&request, 5, &mut rng) {
                all.push(acquired);
            }
            assert_eq!(all.len(), status.endpoints.len() * limit as usize);
        }
    }
}

/// Limits come and go, and with them the queue: who comes in that moment neither finds a limit
/// that is no more, nor waits for no time at all.
#[test]
fn nobody_is_turned_away_when_limits_come_and_go() {
    let limited = spec(1, QueueSpec { max: 1000, ..QueueSpec::default() });
    let free = ServiceSpec { limits: ServiceLimitSpec::default(), queue: None, ..limited.clone() };
    let service = Service::new(&limited, Arc::new(NoEvents), Instant::ZERO, 1);
    let (done, changes) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let worker = |number: u64| {
            let (service, changes) = (&service, &changes);
            move || {
                let mut rng = Rng::from_seed(number);
                let mut requests = 0;
                while requests < 200_000 || changes.load(Relaxed) <= 10 {
                    requests += 1;
                    let request = Request { now: Instant::ZERO, key: None, exclude: &[] };
                    match service.acquire(&request, 5, &mut rng) {
                        Acquired::Picked(pick) => drop(pick),
                        Acquired::Waits(waiting) => {
                            let longest = waiting.until().since(waiting.since());
                            assert_eq!(longest, QueueSpec::default().timeout);
                            drop(wait(waiting).expect("the service is open"));
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
        };
        let workers: Vec<_> = (0..8).map(|number| scope.spawn(worker(number))).collect();
        let control = scope.spawn(|| {
            while !done.load(Relaxed) {
                changes.fetch_add(1, Relaxed);
                service.update(&free, Instant::ZERO);
                service.update(&limited, Instant::ZERO);
            }
        });
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        done.store(true, Relaxed);
        control.join().unwrap();
        ended.into_iter().for_each(|end| end.unwrap());
    });
    assert_eq!(service.queued(), 0);
    let status = service.status();
    assert!(status.endpoints.iter().all(|e| e.in_flight == 0 && e.queued == 0));
}

/// The last endpoint goes and comes again, without limits and with them: whoever comes is served by
/// it or waits for it, and nobody is turned away.
#[test]
fn nobody_is_turned_away_by_a_service_that_sleeps_and_wakes() {
    for limits in [None, Some(1)] {
        let mut sleeper = spec(1, QueueSpec::default());
        sleeper.queue = None;
        sleeper.limits = ServiceLimitSpec::default();
        if let Some(limit) = limits {
            sleeper = spec(limit, QueueSpec { max: 1000, ..QueueSpec::default() });
        }
        sleeper.source = EndpointSource::Run(RunSpec {
            command: Vec::new(),
            replicas: 0,
            env: Vec::new(),
            cwd: None,
            stop_grace: Duration::ZERO,
            start_timeout: Duration::ZERO,
        });
        sleeper.wake = Some(WakeSpec { max: 1000, ..WakeSpec::default() });
        let asked = Arc::new(Asked::default());
        let service = Service::new(&sleeper, asked.clone(), Instant::ZERO, 1);
        let (done, waited) = (AtomicBool::new(false), AtomicU64::new(0));
        let starts = AtomicU64::new(0);
        thread::scope(|scope| {
            let worker = |number: u64| {
                let (service, waited, starts) = (&service, &waited, &starts);
                move || {
                    let mut rng = Rng::from_seed(number);
                    let mut requests = 0;
                    while requests < 50_000 || starts.load(Relaxed) <= 10 {
                        requests += 1;
                        let request = Request { now: Instant::ZERO, key: None, exclude: &[] };
                        match service.acquire(&request, 5, &mut rng) {
                            Acquired::Picked(pick) => drop(pick),
                            Acquired::Waits(waiting) => {
                                waited.fetch_add(1, Relaxed);
                                drop(wait(waiting).expect("the service wakes"));
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                }
            };
            let workers: Vec<_> = (0..8).map(|number| scope.spawn(worker(number))).collect();
            // Starts one when it is told to, and only then; ends it whenever it likes.
            let runner = scope.spawn(|| {
                while !done.load(Relaxed) {
                    if asked.0.swap(false, SeqCst) {
                        let is_odd = starts.fetch_add(1, Relaxed).is_multiple_of(2);
                        service.set_endpoints(endpoints(1), Instant::ZERO);
                        thread::yield_now();
                        if is_odd {
                            service.set_endpoints(Vec::new(), Instant::ZERO);
                        } else {
                            service.retire("127.0.0.1:1", Instant::ZERO).unwrap();
                        }
                        service.set_endpoints(Vec::new(), Instant::ZERO);
                    }
                    thread::yield_now();
                }
            });
            let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
            done.store(true, Relaxed);
            runner.join().unwrap();
            ended.into_iter().for_each(|end| end.unwrap());
        });
        assert!(waited.load(Relaxed) > 10, "{limits:?}");
        assert_eq!((service.queued(), service.status().unavailable), (0, 0));
    }
}

/// Whether the service has asked for an endpoint.
#[derive(Default)]
struct Asked(AtomicBool);

impl Events for Asked {
    fn suspect(&self, _: &ServiceName, _: &EndpointId) {}
    fn leaving(&self, _: &ServiceName, _: &Arc<EndpointHandle>) {}
    fn staying(&self, _: &ServiceName, _: &Arc<EndpointHandle>) {}
    fn changed(&self, _: &ServiceName) {}
    fn demanded(&self, _: &ServiceName) {
        self.0.store(true, SeqCst);
    }
}
