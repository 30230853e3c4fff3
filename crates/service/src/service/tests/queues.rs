//! Who waits, and whose turn it is.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake};

use model::spec::{AffinitySpec, QueuePer, QueueSpec, RunSpec, ServiceLimitSpec};

use super::limits::{fixed, limited};
use super::*;
use crate::{Acquired, Rejection, Waiting};

/// Counts how often it was told.
#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// One per endpoint, and a queue.
fn queued(ids: &str, queue: QueueSpec) -> World {
    let mut world = limited(ids, fixed(1));
    let spec = ServiceSpec { queue: Some(queue), ..world.spec() };
    world.service.update(&spec, world.now);
    world.now += Duration::from_millis(1);
    world
}

fn per(per: QueuePer) -> QueueSpec {
    QueueSpec { per, ..QueueSpec::default() }
}

impl World {
    pub(super) fn acquire_but(&mut self, priority: u8, exclude: &[u64]) -> Acquired {
        // So that no two come at the same time.
        self.now += Duration::from_nanos(1);
        let request = Request { now: self.now, key: None, exclude };
        self.service.acquire(&request, priority, &mut self.rng)
    }

    fn picked(&mut self) -> Pick {
        match self.acquire_but(5, &[]) {
            Acquired::Picked(pick) => pick,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn waits(&mut self, priority: u8) -> Waiting {
        match self.acquire_but(priority, &[]) {
            Acquired::Waits(waiting) => waiting,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn rejected(&mut self) -> Rejection {
        match self.acquire_but(5, &[]) {
            Acquired::Full(rejection) => rejection,
            other => panic!("{other:?}"),
        }
    }

    fn session(&mut self, id: &str) -> Option<Acquired> {
        let token = self.service.settings().sessions().unwrap().token(&id.into());
        let request = Request { now: self.now, key: None, exclude: &[] };
        self.service.acquire_session(token.into(), &request, 5)
    }

    pub(super) fn end(&mut self, pick: Pick) {
        pick.report(&Report::new(self.now, Outcome::Success));
    }
}

fn poll(waiting: &mut Waiting, bell: &Arc<Bell>) -> Poll<Option<Pick>> {
    let waker = bell.clone().into();
    Pin::new(waiting).poll(&mut Context::from_waker(&waker))
}

/// The id of the endpoint that it got; `-`: it still waits; `x`: it was told to give up.
pub(super) fn got(waiting: &mut Waiting) -> (String, Option<Pick>) {
    match poll(waiting, &Arc::default()) {
        Poll::Ready(Some(pick)) => (pick.endpoint().id.to_string(), Some(pick)),
        Poll::Ready(None) => ("x".into(), None),
        Poll::Pending => ("-".into(), None),
    }
}

#[test]
fn turns_come_in_order_and_who_has_a_turn_is_told() {
    for per in [QueuePer::Service, QueuePer::Endpoint] {
        let mut world = queued("a", self::per(per));
        let first = world.picked();
        let (mut second, mut third) = (world.waits(5), world.waits(5));
        let bells = [Arc::new(Bell::default()), Arc::new(Bell::default())];
        assert!(poll(&mut second, &bells[0]).is_pending());
        assert!(poll(&mut third, &bells[1]).is_pending());
        assert_eq!(world.service.status().queue.queued, 2);
        world.now += SECOND / 10;
        world.end(first);
        assert_eq!([0, 1].map(|n| bells[n].0.load(SeqCst)), [1, 0], "{per:?}");
        let (id, pick) = got(&mut second);
        assert_eq!((id.as_str(), got(&mut third).0.as_str()), ("a", "-"));
        world.end(pick.unwrap());
        let (id, pick) = got(&mut third);
        assert_eq!(id, "a");
        assert_eq!(pick.as_ref().unwrap().began().since(third.since()).as_millis(), 100);
        drop(pick);
        assert_eq!(world.picks(1), "a");
        let queue = world.service.status().queue;
        assert_eq!((queue.queued, queue.waited_us.iter().map(|(_, n)| n).sum::<u64>()), (0, 2));
        assert_eq!(queue.waited_us_sum, 200_000);
    }
}

#[test]
fn room_goes_to_who_waits_and_not_to_who_comes() {
    let mut world = queued("a", QueueSpec::default());
    let first = world.picked();
    let mut second = world.waits(5);
    world.end(first);
    // It has not yet looked, and has it all the same.
    let mut third = world.waits(5);
    assert_eq!(got(&mut third).0, "-");
    let (id, pick) = got(&mut second);
    assert_eq!(id, "a");
    drop(pick);
    assert_eq!(got(&mut third).0, "a");
}

#[test]
fn priorities_come_first_and_age_makes_up_for_them() {
    let mut world = queued("a", QueueSpec::default());
    let mut open = Some(world.picked());
    let mut line: Vec<(char, Waiting)> = "5935"
        .chars()
        .zip("abcd".chars())
        .map(|(p, name)| (name, world.waits(p as u8 - b'0')))
        .collect();
    // It has waited for nine tenths of the time-out: nobody who comes now goes before it.
    world.now += SECOND * 9 / 10;
    line.push(('e', world.waits(0)));
    line.push(('f', world.waits(0)));
    let mut order = String::new();
    while !line.is_empty() {
        world.end(open.take().unwrap());
        let turn = line.iter_mut().position(|(_, waiting)| {
            open = got(waiting).1;
            open.is_some()
        });
        order.push(line.remove(turn.unwrap()).0);
    }
    assert_eq!(order, "cadbef");
}

#[test]
fn the_queue_is_bounded_and_places_are_given_back() {
    let mut world = queued("a", QueueSpec { max: 2, ..QueueSpec::default() });
    let first = world.picked();
    let (second, mut third) = (world.waits(5), world.waits(5));
    assert_eq!(world.rejected(), Rejection::QueueFull);
    drop(second);
    let fourth = world.waits(5);
    assert_eq!(world.rejected(), Rejection::QueueFull);
    assert_eq!(world.service.status().queue.rejected.queue_full, 2);
    drop(fourth);
    world.end(first);
    // What was handed to somebody who is gone goes on to the next.
    let (_, pick) = got(&mut third);
    let mut fifth = world.waits(5);
    let sixth = world.waits(5);
    world.end(pick.unwrap());
    drop(fifth.take());
    let mut seventh = sixth;
    let (id, pick) = got(&mut seventh);
    assert_eq!(id, "a");
    let eighth = world.waits(5);
    let mut ninth = world.waits(5);
    world.end(pick.unwrap());
    drop(eighth);
    assert_eq!(got(&mut ninth).0, "a", "it was handed on when it was dropped");
    assert_eq!(world.service.status().queue.queued, 0);
}

#[test]
fn without_a_queue_or_with_the_service_full_nobody_waits() {
    let mut world = limited("a", fixed(1));
    let first = world.picked();
    assert_eq!(world.rejected(), Rejection::Concurrency);
    drop(first);
    let mut spec = world.spec();
    spec.queue = Some(QueueSpec::default());
    spec.limits.requests = Some(2);
    world.service.update(&spec, world.now);
    let first = world.picked();
    let second = world.waits(5);
    assert_eq!(world.rejected(), Rejection::Requests);
    drop(second);
    let mut second = world.waits(5);
    drop(first);
    let (_, pick) = got(&mut second);
    drop(second);
    let _third = world.waits(5);
    assert_eq!(world.rejected(), Rejection::Requests, "what waited is in flight now");
    drop(pick);
}

#[test]
fn a_freed_endpoint_serves_who_was_not_tried_on_it() {
    let mut world = queued("ab", QueueSpec::default());
    let (first, second) = (world.picked(), world.picked());
    let tried = first.endpoint().key;
    let (free, other) = (first.endpoint().id.to_string(), second.endpoint().id.to_string());
    let Acquired::Waits(mut retry) = world.acquire_but(5, &[tried]) else { panic!() };
    let mut third = world.waits(5);
    world.end(first);
    assert_eq!(got(&mut retry).0, "-");
    let (id, pick) = got(&mut third);
    assert_eq!(id, free);
    world.end(pick.unwrap());
    assert_eq!(got(&mut retry).0, "-", "the other one is still there");
    // Room that it does not want is there for others, though it waits.
    let Acquired::Picked(fourth) = world.acquire_but(5, &[]) else { panic!() };
    world.end(fourth);
    world.end(second);
    let (id, pick) = got(&mut retry);
    assert_eq!(id, other);
    drop(pick);

    let (first, second) = (world.picked(), world.picked());
    let both = [first.endpoint().key, second.endpoint().key];
    let Acquired::Waits(mut retry) = world.acquire_but(5, &both) else { panic!() };
    world.end(first);
    assert_ne!(got(&mut retry).0, "-", "there is no other");
    drop(second);
}

#[test]
fn each_endpoint_may_have_a_queue_of_its_own() {
    let queue = QueueSpec { max: 2, ..per(QueuePer::Endpoint) };
    let mut world = queued("ab", queue);
    let (first, second) = (world.picked(), world.picked());
    let mut line: Vec<Waiting> = (0..4).map(|_| world.waits(5)).collect();
    assert_eq!(world.rejected(), Rejection::QueueFull);
    let status = world.service.status();
    assert_eq!(status.endpoints.iter().map(|e| e.queued).collect::<Vec<_>>(), [2, 2]);
    let a = first.endpoint().key;
    world.end(first);
    let served: Vec<bool> = line.iter_mut().map(|w| w.take().is_some()).collect();
    let turn = line.iter().position(|w| w.target() == Some(a));
    assert_eq!(served.iter().position(|served| *served), turn, "the first of its own");
    drop(second);
}

#[test]
fn who_waits_for_an_endpoint_that_leaves_waits_for_any() {
    for leave in
        [(|world: &World| world.service.drain("a", world.now).unwrap()) as fn(&World), |world| {
            world.service.set_endpoints(letters("b"), world.now)
        }]
    {
        let mut world = queued("ab", per(QueuePer::Endpoint));
        let picks = [world.picked(), world.picked()];
        let mut line: Vec<Waiting> = (0..6).map(|_| world.waits(5)).collect();
        leave(&world);
        assert_eq!(world.service.queued(), 6);
        let [a, b]: [Vec<Pick>; 2] = ["a", "b"].map(|_| Vec::new());
        drop((a, b));
        let mut b = None;
        for pick in picks {
            match pick.endpoint().id.as_str() {
                "a" => world.end(pick),
                _ => b = Some(pick),
            }
        }
        assert!(line.iter_mut().all(|w| got(w).0 == "-"), "a takes nothing new");
        let mut open = b;
        for waiting in &mut line {
            world.end(open.take().unwrap());
            let (id, pick) = got(waiting);
            assert_eq!(id, "b");
            open = pick;
        }
    }
}

#[test]
fn new_room_of_any_kind_wakes() {
    type Room = fn(&World);
    let more: [(&str, Room); 4] = [
        ("a new endpoint", |world| world.service.set_endpoints(letters("abc"), world.now)),
        ("an undrained one", |world| world.service.undrain("b", world.now).unwrap()),
        ("a higher limit", |world| {
            let spec = ServiceSpec { limits: fixed(2), ..world.spec() };
            world.service.update(&spec, world.now);
        }),
        ("no limit", |world| {
            let spec = ServiceSpec { limits: ServiceLimitSpec::default(), ..world.spec() };
            world.service.update(&spec, world.now);
        }),
    ];
    for per in [QueuePer::Service, QueuePer::Endpoint] {
        for (what, grow) in &more {
            // For one endpoint of its own, only what concerns it is room.
            if per == QueuePer::Endpoint && !what.contains("limit") {
                continue;
            }
            let mut world = queued("ab", self::per(per));
            world.service.drain("b", world.now).unwrap();
            let open = world.picked();
            let mut waiting = world.waits(5);
            let bell = Arc::new(Bell::default());
            assert!(poll(&mut waiting, &bell).is_pending());
            grow(&world);
            assert_eq!(bell.0.load(SeqCst), 1, "{what}");
            assert_ne!(got(&mut waiting).0, "-", "{what}");
            drop(open);
        }
    }
}

/// Who waits for any endpoint and who comes are treated alike when there is none.
#[test]
fn when_the_last_endpoint_goes_and_none_is_expected_nobody_waits() {
    type Change = fn(&mut World);
    let changes: [(&str, Change); 2] = [
        ("drained", |world| world.service.drain("a", world.now).unwrap()),
        ("removed", |world| world.service.set_endpoints(Vec::new(), world.now)),
    ];
    for per in [QueuePer::Service, QueuePer::Endpoint] {
        for (what, change) in changes {
            let mut world = queued("a", self::per(per));
            let open = world.picked();
            let mut waiting = world.waits(5);
            let bell = Arc::new(Bell::default());
            assert!(poll(&mut waiting, &bell).is_pending());
            change(&mut world);
            assert_eq!(bell.0.load(SeqCst), 1, "{what}");
            assert_eq!(got(&mut waiting).0, "x", "{what}");
            assert!(matches!(world.acquire_but(5, &[]), Acquired::NoEndpoint), "{what}");
            assert_eq!(world.service.queued(), 0);
            drop((open, waiting));
            world.service.set_endpoints(letters("a"), world.now);
            let _ = world.service.undrain("a", world.now);
            assert_eq!(world.picked().endpoint().id.as_str(), "a", "{what}");
        }
    }
}

/// Replicas of ours: none is there, and requests wait as long as some are wanted.
#[test]
fn requests_wait_for_replicas_that_are_wanted() {
    for per in [QueuePer::Service, QueuePer::Endpoint] {
        let mut spec = queued("", self::per(per)).spec();
        spec.limits.requests = Some(2);
        spec.source = EndpointSource::Run(RunSpec {
            command: vec!["app".into()],
            replicas: 1,
            env: Vec::new(),
            cwd: None,
            stop_grace: Duration::ZERO,
            start_timeout: Duration::ZERO,
        });
        let mut world = World::new(&spec);
        let mut first = world.waits(5);
        let second = world.waits(5);
        assert_eq!(world.rejected(), Rejection::Requests, "they count as those that wait do");
        drop(second);
        world.service.set_endpoints(letters("a"), world.now);
        assert_eq!(got(&mut first).0, "a");
        assert_eq!(world.service.status().unavailable, 0);
        // The last one goes: to be replaced, or for good.
        let open = world.picked();
        let mut waiting = world.waits(5);
        world.service.set_endpoints(Vec::new(), world.now);
        assert_eq!(got(&mut waiting).0, "-");
        drop(open);
        let mut newcomer = world.waits(5);
        world.service.want(0, world.now);
        assert_eq!((got(&mut waiting).0, got(&mut newcomer).0), ("x".into(), "x".into()));
        assert!(matches!(world.acquire_but(5, &[]), Acquired::NoEndpoint));
        world.service.want(1, world.now);
        let mut again = world.waits(5);
        world.service.set_endpoints(letters("b"), world.now);
        assert_eq!(got(&mut again).0, "b");
        // Who does not queue fails at once, and so do all where there is no queue.
        world.service.set_endpoints(Vec::new(), world.now);
        assert!(world.pick_but(&[]).is_none());
        world.service.update(&ServiceSpec { queue: None, ..world.spec() }, world.now);
        assert!(matches!(world.acquire_but(5, &[]), Acquired::NoEndpoint));
    }
}

/// An endpoint that starts is worth waiting for; one that worked and fails its checks is not.
#[test]
fn requests_wait_for_what_is_not_proven_yet() {
    let mut world = queued("a", QueueSpec::default());
    world.service.set_endpoints(Vec::new(), world.now);
    let health = HealthSpec::default();
    world.service.update(&ServiceSpec { health, ..world.spec() }, world.now);
    assert!(matches!(world.acquire_but(5, &[]), Acquired::NoEndpoint));
    world.service.set_endpoints(letters("b"), world.now);
    let mut starts = world.waits(5);
    world.down = vec!["b"];
    world.pass(Duration::from_secs(1));
    assert_eq!(got(&mut starts).0, "-");
    world.down = Vec::new();
    world.pass(Duration::from_secs(5));
    let (name, open) = got(&mut starts);
    assert_eq!(name, "b");
    let mut waiting = world.waits(5);
    world.down = vec!["b"];
    world.pass(Duration::from_secs(120));
    assert_eq!((world.eligible().as_str(), got(&mut waiting).0.as_str()), ("", "x"));
    assert!(matches!(world.acquire_but(5, &[]), Acquired::NoEndpoint));
    drop(open);
}

#[test]
fn a_closed_service_tells_who_waits_to_give_up() {
    for per in [QueuePer::Service, QueuePer::Endpoint] {
        let mut world = queued("a", self::per(per));
        let open = world.picked();
        let mut waiting = world.waits(5);
        let gone = world.waits(5);
        let bell = Arc::new(Bell::default());
        assert!(poll(&mut waiting, &bell).is_pending());
        world.service.close(world.now);
        assert_eq!(bell.0.load(SeqCst), 1);
        assert_eq!(got(&mut waiting).0, "x");
        drop((open, gone));
        assert_eq!(world.service.queued(), 0);
        assert!(matches!(world.acquire_but(5, &[]), Acquired::NoEndpoint));
    }
}

#[test]
fn the_last_moment_counts_and_time_outs_are_counted() {
    let mut world = queued("a", QueueSpec::default());
    let open = world.picked();
    let (first, second) = (world.waits(5), world.waits(5));
    world.end(open);
    let request = Request { now: world.now, key: None, exclude: &[] };
    let pick = world.service.overdue(first, &request, &mut world.rng).expect("it was just served");
    assert!(world.service.overdue(second, &request, &mut world.rng).is_none());
    let queue = world.service.status().queue;
    assert_eq!((queue.queued, queue.rejected.queue_timeout), (0, 1));
    drop(pick);
    assert_eq!(world.picks(1), "a");
}

fn sticky(queue: Option<QueueSpec>) -> World {
    let mut world = limited("ab", fixed(1));
    let affinity = Some(AffinitySpec::cookie("KEEL"));
    let spec = ServiceSpec { queue, affinity, ..world.spec() };
    world.service.update(&spec, world.now);
    world.now += Duration::from_millis(1);
    world
}

fn id(acquired: Option<Acquired>) -> (String, Option<Pick>) {
    match acquired {
        Some(Acquired::Picked(pick)) => (pick.endpoint().id.to_string(), Some(pick)),
        other => (format!("{other:?}"), None),
    }
}

#[test]
fn a_session_waits_for_its_endpoint_and_moves_when_it_waited_for_too_long() {
    for per in [QueuePer::Service, QueuePer::Endpoint] {
        let mut world = sticky(Some(self::per(per)));
        let (name, first) = id(world.session("a"));
        assert_eq!(name, "a");
        let Some(Acquired::Waits(mut waiting)) = world.session("a") else { panic!("{per:?}") };
        let Some(Acquired::Waits(late)) = world.session("a") else { panic!("{per:?}") };
        let (name, other) = id(world.session("b"));
        assert_eq!(name, "b", "which has room, though somebody waits");
        world.end(other.unwrap());
        assert_eq!(got(&mut waiting).0, "-", "b is not its own");
        world.end(first.unwrap());
        let (name, pick) = got(&mut waiting);
        assert_eq!(name, "a");
        let request = Request { now: world.now, key: None, exclude: &[] };
        let moved = world.service.overdue(late, &request, &mut world.rng).unwrap();
        assert_eq!(moved.endpoint().id.as_str(), "b");
        drop((pick, moved));
    }
}

#[test]
fn a_session_moves_without_a_queue_and_when_its_endpoint_is_gone() {
    let mut world = sticky(None);
    let first = id(world.session("a"));
    assert!(world.session("a").is_none());
    drop(first);

    let mut world = sticky(Some(QueueSpec::default()));
    let (_, a) = id(world.session("a"));
    let (_, b) = id(world.session("b"));
    let Some(Acquired::Waits(mut waiting)) = world.session("a") else { panic!() };
    // Drained, it keeps its sessions, also those that wait; removed, it does not.
    world.service.drain("a", world.now).unwrap();
    world.end(a.unwrap());
    let (name, pick) = got(&mut waiting);
    assert_eq!(name, "a");
    let Some(Acquired::Waits(mut waiting)) = world.session("a") else { panic!() };
    world.service.set_endpoints(letters("b"), world.now);
    drop(pick);
    assert_eq!(got(&mut waiting).0, "-");
    drop(b);
    assert_eq!(got(&mut waiting).0, "b");
}

#[test]
fn every_endpoint_of_many_serves_who_waits() {
    let many = |count: u16| (1..=count).map(|port| endpoint(&format!("e{port}"), port)).collect();
    for per in [QueuePer::Service, QueuePer::Endpoint] {
        let mut world = queued("a", self::per(per));
        world.service.set_endpoints(many(3000), world.now);
        let mut open: Vec<Pick> = (0..3000).map(|_| world.picked()).collect();
        open.sort_by_key(|pick| pick.endpoint().key);
        // One of its own each, as far as they are chosen.
        let mut line: Vec<Waiting> = (0..100).map(|_| world.waits(5)).collect();
        if per == QueuePer::Endpoint {
            // What changes elsewhere leaves them where they are.
            world.service.set_weight("e1", Some(Weight(2)), world.now).unwrap();
            let status = world.service.status().endpoints;
            assert_eq!(status.iter().map(|e| e.queued).sum::<u32>(), 100);
            continue;
        }
        let last = open.pop().unwrap();
        world.end(last);
        let (id, _last) = got(&mut line[0]);
        assert_eq!(id, "e3000");
        // And so does one that comes.
        world.service.set_endpoints(many(3001), world.now);
        assert_eq!(got(&mut line[1]).0, "e3001");
    }
}

#[test]
fn much_new_room_is_dealt_out_evenly() {
    type Room = fn(&World);
    let more: [Room; 2] = [
        |world| {
            let spec = ServiceSpec { limits: fixed(100), ..world.spec() };
            world.service.update(&spec, world.now);
        },
        |world| {
            let limits = ServiceLimitSpec::default();
            let spec = ServiceSpec { limits, queue: None, ..world.spec() };
            world.service.update(&spec, world.now);
        },
    ];
    for grow in more {
        let mut world = queued("abc", QueueSpec::default());
        let open = [world.picked(), world.picked(), world.picked()];
        let mut line: Vec<Waiting> = (0..30).map(|_| world.waits(5)).collect();
        grow(&world);
        let picks: Vec<Pick> = line.iter_mut().filter_map(|waiting| got(waiting).1).collect();
        assert_eq!(picks.len(), 30);
        let in_flight: Vec<u32> = world.service.eligible().iter().map(|e| e.in_flight()).collect();
        assert_eq!(in_flight, [11, 11, 11]);
        drop((open, picks));
    }
}

#[test]
fn without_anyone_eligible_the_sessions_of_a_drained_endpoint_keep_within_its_limit() {
    let mut world = sticky(Some(QueueSpec::default()));
    world.service.drain("a", world.now).unwrap();
    world.service.drain("b", world.now).unwrap();
    assert_eq!(world.eligible(), "");
    let (name, first) = id(world.session("a"));
    assert_eq!(name, "a");
    let Some(Acquired::Waits(mut waiting)) = world.session("a") else { panic!("one at a time") };
    world.end(first.unwrap());
    assert_eq!(got(&mut waiting).0, "a");
    assert!(matches!(world.acquire_but(5, &[]), Acquired::NoEndpoint));
}

#[test]
fn sessions_that_wait_for_a_drained_endpoint_move_when_it_is_retired() {
    let mut world = sticky(Some(QueueSpec::default()));
    let (_, a) = id(world.session("a"));
    let Some(Acquired::Waits(mut waiting)) = world.session("a") else { panic!() };
    world.service.drain("a", world.now).unwrap();
    assert_eq!(got(&mut waiting).0, "-");
    world.service.retire("a", world.now).unwrap();
    assert_eq!(got(&mut waiting).0, "b");
    drop(a);
}
