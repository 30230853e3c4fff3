//! A service without endpoints that whoever asks for it wakes.

use model::spec::{AffinitySpec, QueueSpec, RunSpec, WakeSpec};

use super::limits::fixed;
use super::queues::got;
use super::*;
use crate::{Acquired, Rejection, Waiting};

fn run(replicas: usize) -> EndpointSource {
    EndpointSource::Run(RunSpec {
        command: Vec::new(),
        replicas,
        env: Vec::new(),
        cwd: None,
        stop_grace: Duration::ZERO,
        start_timeout: Duration::ZERO,
    })
}

fn sleeper(wake: WakeSpec) -> ServiceSpec {
    let source = run(0);
    ServiceSpec { source, wake: Some(wake), ..ServiceSpec::new("web".into()) }
}

fn asleep() -> World {
    World::new(&sleeper(WakeSpec::default()))
}

impl World {
    fn demands(&self) -> usize {
        let notes = std::mem::take(&mut *self.recorder.notes.lock().unwrap());
        notes.iter().filter(|note| note.as_str() == "web: demanded").count()
    }
}

#[test]
fn who_comes_first_asks_and_all_are_served_by_who_is_proven() {
    let mut world = asleep();
    assert!(world.service.is_asleep() && world.service.demand().is_none());
    let mut line: Vec<Waiting> = (0..5).map(|_| world.waits(5)).collect();
    assert_eq!((world.demands(), world.service.demand()), (1, Some(5)));
    assert!(world.service.status().asleep);
    assert_eq!(line[0].until().since(line[0].since()), Duration::from_secs(30));
    // It is on its way: nobody else is asked for, and nobody is turned away.
    world.service.set_endpoints(letters("a"), world.now);
    assert!(!world.service.is_asleep() && world.service.demand().is_none());
    line.push(world.waits(5));
    assert_eq!(world.demands(), 0);
    assert!(line.iter_mut().all(|waiting| got(waiting).0 == "-"));
    world.check();
    let picks: Vec<Pick> = line.iter_mut().filter_map(|waiting| got(waiting).1).collect();
    assert_eq!(picks.len(), 6);
    assert_eq!(world.picks(2), "aa");
    let (busy, before) = world.service.status().activity();
    drop(picks);
    assert_eq!((busy, world.service.status().activity()), (true, (false, before)));
    assert_eq!(world.picks(1), "a");
    assert_ne!(world.service.status().activity().1, before);
}

#[test]
fn who_comes_while_the_last_one_drains_waits_and_asks() {
    let mut world = asleep();
    world.service.set_endpoints(letters("ab"), world.now);
    world.check();
    world.service.drain("a", world.now).unwrap();
    assert_eq!((world.picks(2).as_str(), world.service.is_asleep()), ("bb", false));
    let open = world.pick_but(&[]).unwrap();
    world.service.drain("b", world.now).unwrap();
    assert!(world.service.is_asleep());
    let mut waiting = world.waits(5);
    assert_eq!(world.demands(), 1);
    world.end(open);
    assert_eq!(got(&mut waiting).0, "-", "what is drained gets nothing new");
    // Whoever drained it thinks better of it.
    world.service.undrain("b", world.now).unwrap();
    assert_eq!(got(&mut waiting).0, "b");
}

#[test]
fn one_that_ends_before_it_is_proven_is_asked_for_again() {
    let mut world = asleep();
    let mut waiting = world.waits(5);
    world.service.set_endpoints(letters("a"), world.now);
    assert_eq!((world.demands(), got(&mut waiting).0.as_str()), (1, "-"));
    world.service.set_endpoints(Vec::new(), world.now);
    assert_eq!((world.demands(), got(&mut waiting).0.as_str()), (1, "-"));
    drop(waiting);
    assert!(world.service.demand().is_none());
    let again = world.waits(5);
    assert_eq!(world.demands(), 1);
    drop(again);
}

#[test]
fn who_waited_in_vain_is_told_why() {
    let mut world = World::new(&sleeper(WakeSpec { max: 2, ..WakeSpec::default() }));
    let (first, mut second) = (world.waits(5), world.waits(5));
    assert_eq!(world.rejected(), Rejection::QueueFull);
    let request = Request { now: first.until(), key: None, exclude: &[] };
    assert_eq!(world.service.wait_over(), Rejection::WakeTimeout);
    assert!(world.service.overdue(first, &request, &mut world.rng).is_none());
    let status = world.service.status();
    assert_eq!(status.queue.rejected.named()[5], ("wake_timeout", 1));
    assert_eq!((status.queue.rejected.total(), status.queue.queued), (2, 1));
    // One that is there and fails its checks will not be brought back by who asks for it.
    world.service.set_endpoints(letters("a"), world.now);
    world.check();
    let (name, pick) = got(&mut second);
    assert_eq!(name, "a");
    drop(pick);
    world.down = vec!["a"];
    world.pass(Duration::from_secs(20));
    assert!(!world.service.is_asleep());
    assert!(matches!(world.acquire_but(5, &[]), Acquired::NoEndpoint));
}

#[test]
fn limits_and_queues_hold_for_who_has_waited_for_the_wake() {
    let queue = QueueSpec { max: 1, ..QueueSpec::default() };
    let spec = ServiceSpec { limits: fixed(1), ..sleeper(WakeSpec::default()) };
    for queue in [None, Some(queue)] {
        let mut world = World::new(&ServiceSpec { queue: queue.clone(), ..spec.clone() });
        let mut line: Vec<Waiting> = (0..3).map(|_| world.waits(5)).collect();
        world.service.set_endpoints(letters("a"), world.now);
        world.check();
        for at in 0..3 {
            let (name, pick) = got(&mut line[at]);
            assert_eq!(name, "a");
            assert!(line[at + 1..].iter_mut().all(|waiting| got(waiting).0 == "-"), "{queue:?}");
            drop(pick);
        }
    }
}

#[test]
fn sessions_stay_with_a_drained_endpoint_and_wake_the_service_when_it_is_gone() {
    let affinity = Some(AffinitySpec::cookie("KEEL"));
    let mut world = World::new(&ServiceSpec { affinity, ..sleeper(WakeSpec::default()) });
    world.service.set_endpoints(letters("a"), world.now);
    world.check();
    let token = world.service.settings().sessions().unwrap().token(&"a".into());
    let request = Request { now: world.now, key: None, exclude: &[] };
    world.service.drain("a", world.now).unwrap();
    let resumed = world.service.acquire_session(token.into(), &request, 5);
    assert!(matches!(resumed, Some(Acquired::Picked(_))), "{resumed:?}");
    drop(resumed);
    world.service.retire("a", world.now).unwrap();
    assert!(world.service.acquire_session(token.into(), &request, 5).is_none());
    let waiting = world.waits(5);
    assert_eq!(world.demands(), 1);
    drop(waiting);
}

#[test]
fn replicas_of_ours_are_on_their_way_once_they_are_wanted() {
    let wake = Some(WakeSpec::default());
    let source = run(1);
    let mut world = World::new(&ServiceSpec { source, wake, ..ServiceSpec::new("web".into()) });
    assert!(!world.service.is_asleep());
    let mut first = world.waits(5);
    assert_eq!(world.demands(), 0, "one is started already");
    world.service.want(0, world.now);
    assert_eq!((world.demands(), world.service.demand()), (1, Some(1)));
    world.service.want(1, world.now);
    assert_eq!((world.service.demand(), got(&mut first).0.as_str()), (None, "-"));
    // Without the key who waits is turned away, as ever.
    let spec = ServiceSpec { wake: None, ..(***world.service.settings()).clone() };
    world.service.want(0, world.now);
    world.service.update(&spec, world.now);
    assert_eq!(got(&mut first).0, "x");
    assert!(matches!(world.acquire_but(5, &[]), Acquired::NoEndpoint));
}
