use proptest::prelude::*;

use super::*;
use crate::Registration;

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Instant {
    Instant::ZERO + SECOND * u32::try_from(seconds).unwrap()
}

fn instance(service: &str, number: u16) -> Instance {
    let id = format!("{service}-{number}");
    let address = [10, 0, (number >> 8) as u8, number as u8].into();
    Instance::new(service, Registration::on(5000), &id, address).unwrap()
}

fn registry() -> Registry {
    Registry::new(Limits::default(), PreservationRule::default(), 100)
}

fn with(count: u16) -> Registry {
    let mut registry = registry();
    for number in 1..=count {
        registry.register(instance("web", number), at(0)).unwrap();
    }
    registry
}

fn ids(registry: &Registry, service: &str) -> Vec<String> {
    let (_, listed) = registry.list(service, at(0));
    listed.iter().map(|listed| listed.instance.id.clone()).collect()
}

/// As a program would: at each moment at which there is something to do, up to `until`.
fn run(registry: &mut Registry, until: Instant) -> Vec<Change> {
    let mut changes = Vec::new();
    while let Some(next) = registry.poll_timeout().filter(|next| *next <= until) {
        changes.extend(registry.poll(next));
        registry.due_checks(next, usize::MAX);
    }
    changes.extend(registry.poll(until));
    changes
}

#[test]
fn versions_grow_with_what_is_listed_and_with_nothing_else() {
    let mut registry = registry();
    let joined = registry.register(instance("web", 1), at(0)).unwrap();
    assert!(joined.new && joined.changes.len() == 1);
    assert_eq!(registry.list("web", at(0)).0, 101);
    // The same again is a heartbeat.
    let again = registry.register(instance("web", 1), at(1)).unwrap();
    assert!(!again.new && again.changes.is_empty());
    registry.heartbeat("web", "web-1", at(2)).unwrap();
    assert_eq!(registry.version(), 101);
    registry.register(instance("other", 1), at(2)).unwrap();
    assert_eq!((registry.version(), registry.service_version("web")), (102, 101));
    let heavier = Instance { weight: 7, ..instance("web", 1) };
    let changed = registry.register(heavier, at(3)).unwrap();
    assert_eq!((changed.new, changed.changes[0].why), (false, "changed"));
    assert_eq!(registry.service_version("web"), 103);
    registry.register(instance("web", 2), at(3)).unwrap();
    assert!(registry.deregister("web", "web-1").is_some());
    assert!(registry.deregister("web", "web-1").is_none());
    assert_eq!(
        (registry.service_version("web"), ids(&registry, "web")),
        (105, vec!["web-2".into()])
    );
    registry.deregister("web", "web-2");
    assert_eq!((registry.service_version("web"), registry.version()), (0, 106));
}

#[test]
fn who_is_silent_leaves_after_its_ttl_and_not_before() {
    let mut registry = with(4);
    for second in (5..=100).step_by(5) {
        assert!(run(&mut registry, at(second)).iter().all(|c| &*c.id == "web-4"), "{second}");
        for id in ["web-1", "web-2", "web-3"] {
            registry.heartbeat("web", id, at(second)).unwrap();
        }
        // Registered at 0 with 15 s.
        assert_eq!(registry.find("web", "web-4", at(second)).is_some(), second < 15, "{second}");
    }
    assert_eq!(ids(&registry, "web"), ["web-1", "web-2", "web-3"]);
    assert_eq!(registry.heartbeat("web", "web-4", at(100)), Err(Refusal::Unknown));
    assert_eq!(registry.find("web", "web-1", at(108)).unwrap().state, State::Late);
    assert_eq!(registry.find("web", "web-1", at(107)).unwrap().state, State::Up);
}

#[test]
fn when_most_fall_silent_at_once_all_stay() {
    let mut registry = with(10);
    // Heartbeats come at different moments of the interval, and stop at 20 s.
    for second in 1..=20 {
        for number in (1..=10).filter(|number| (second + number) % 5 == 0) {
            registry.heartbeat("web", &format!("web-{number}"), at(second)).unwrap();
        }
        assert!(run(&mut registry, at(second)).is_empty());
    }
    assert!(run(&mut registry, at(600)).is_empty());
    assert_eq!((ids(&registry, "web").len(), registry.preservation().begun), (10, 1));
    let since = registry.preservation().since.unwrap();
    assert!((at(30)..=at(36)).contains(&since), "{since:?}");
    // Six are back: silence is believed again, and the other four leave.
    for number in 1..=6 {
        registry.heartbeat("web", &format!("web-{number}"), at(600)).unwrap();
    }
    let left = run(&mut registry, at(602));
    assert_eq!((left.len(), registry.preservation().since), (4, None));
    assert_eq!(ids(&registry, "web").len(), 6);
}

#[test]
fn silence_that_lasts_is_believed_after_all() {
    let mut registry = with(5);
    assert!(run(&mut registry, at(3500)).is_empty());
    assert_eq!(run(&mut registry, at(3700)).len(), 5);
    assert_eq!((registry.poll_timeout(), registry.services().count()), (None, 0));
}

#[test]
fn a_few_of_many_and_all_of_two_leave() {
    for (all, silent, stays) in
        [(10, 4, 0), (10, 5, 0), (10, 6, 6), (2, 2, 0), (3, 3, 3), (3, 1, 0)]
    {
        let mut registry = with(all);
        for second in (5..=40).step_by(5) {
            run(&mut registry, at(second));
            for number in silent + 1..=all {
                registry.heartbeat("web", &format!("web-{number}"), at(second)).unwrap();
            }
        }
        assert_eq!(registry.counts(at(40)).instances, usize::from(all - silent + stays));
    }
}

#[test]
fn what_is_restored_must_prove_itself() {
    let mut registry = registry();
    for number in 1..=4 {
        registry.restore(instance("web", number), at(0)).unwrap();
    }
    let version = registry.service_version("web");
    assert_eq!(registry.find("web", "web-1", at(1)).unwrap().state, State::Restored);
    assert!(registry.heartbeat("web", "web-1", at(2)).unwrap().1, "that it lives is news");
    assert!(registry.service_version("web") > version);
    assert!(!registry.heartbeat("web", "web-1", at(3)).unwrap().1);
    registry.heartbeat("web", "web-2", at(10)).unwrap();
    registry.heartbeat("web", "web-1", at(10)).unwrap();
    // Registering again proves it, too, and is a change although nothing else differs.
    let again = registry.register(instance("web", 3), at(10)).unwrap();
    assert_eq!(again.changes.len(), 1);
    let left = run(&mut registry, at(16));
    assert_eq!(left.iter().map(|change| &*change.id).collect::<Vec<_>>(), ["web-4"]);
}

#[test]
fn an_address_serves_once() {
    let mut registry = with(2);
    let successor = Instance { id: "fresh".into(), ..instance("web", 1) };
    let registered = registry.register(successor, at(1)).unwrap();
    assert_eq!(registered.changes.len(), 2);
    assert_eq!(ids(&registry, "web"), ["fresh", "web-2"]);
    // An instance that moves gives its former address free.
    let moved = Instance { port: 6000, ..instance("web", 2) };
    registry.register(moved, at(1)).unwrap();
    let other = Instance { id: "third".into(), ..instance("web", 2) };
    assert_eq!(registry.register(other, at(1)).unwrap().changes.len(), 1);
    assert_eq!(ids(&registry, "web"), ["fresh", "third", "web-2"]);
}

#[test]
fn limits_have_names() {
    let limits = Limits { services: 2, instances: 3, metadata: 1 };
    let mut registry = Registry::new(limits, PreservationRule::default(), 0);
    let check = |refused: Result<Registered, Refusal>, expected: &str| match refused {
        Err(Refusal::Limit { name, .. }) => assert_eq!(name, expected),
        other => panic!("{other:?}"),
    };
    let mut many = instance("a", 1);
    many.metadata = [("a", "b"), ("c", "d")].map(|(k, v)| (k.into(), v.into())).into();
    check(registry.register(many, at(0)), "metadata_max");
    registry.register(instance("a", 1), at(0)).unwrap();
    registry.register(instance("b", 1), at(0)).unwrap();
    check(registry.register(instance("c", 1), at(0)), "services_max");
    registry.register(instance("b", 2), at(0)).unwrap();
    check(registry.register(instance("b", 3), at(0)), "instances_max");
    // What is there already may change, and its address may change hands.
    registry.register(Instance { weight: 2, ..instance("b", 2) }, at(0)).unwrap();
    registry.register(Instance { id: "x".into(), ..instance("b", 2) }, at(0)).unwrap();
    registry.deregister("a", "a-1");
    registry.register(instance("c", 1), at(0)).unwrap();
}

#[test]
fn what_a_store_holds_stays_until_it_is_released() {
    let mut registry = registry();
    for number in 1..=3 {
        registry.hold(instance("web", number), at(0)).unwrap();
    }
    assert!(run(&mut registry, at(10_000)).is_empty());
    assert_eq!(registry.counts(at(10_000)).late, 0);
    registry.heartbeat("web", "web-1", at(9_990)).unwrap();
    // It alone was heard of here: a lease is not renewed for those that others hear of.
    let heard = registry.heard_since(at(9_989));
    assert_eq!((heard.len(), &*heard[0].0.id, heard[0].1), (1, "web-1", true));
    registry.release("web", "web-1", at(10_000));
    assert!(!registry.heard_since(at(9_989))[0].1);
    assert!(registry.heard_since(at(9_991)).is_empty(), "a lost lease is no sign of life");
    assert_eq!(run(&mut registry, at(10_014)).len(), 0);
    let left = run(&mut registry, at(10_016));
    assert_eq!(left.iter().map(|change| &*change.id).collect::<Vec<_>>(), ["web-1"]);
    // A store that comes back: all have their time once more.
    registry.release("web", "web-3", at(10_017));
    registry.begin_again(at(10_030));
    assert_eq!(run(&mut registry, at(10_044)).len(), 0);
    assert_eq!(run(&mut registry, at(10_046)).len(), 1);
    // Held again before its time: it stays.
    registry.release("web", "web-2", at(10_050));
    registry.hold(instance("web", 2), at(10_051)).unwrap();
    assert!(run(&mut registry, at(20_000)).is_empty());
}

#[test]
fn checks_are_due_at_each_third_of_the_ttl() {
    let mut registry = registry();
    let checked = Instance { check: Some(crate::Check::Tcp), ..instance("web", 1) };
    registry.register(checked, at(0)).unwrap();
    registry.register(instance("web", 2), at(0)).unwrap();
    let due = |registry: &mut Registry, second| registry.due_checks(at(second), 10).len();
    assert_eq!([0, 0, 4, 5, 9, 10].map(|second| due(&mut registry, second)), [1, 0, 0, 1, 0, 1]);
    assert_eq!(registry.due_checks(at(100), 0).len(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is done in whatever order: the tables agree, versions never go back, and nobody
    /// outlives its silence by more than the rule allows.
    #[test]
    fn the_tables_agree(steps in proptest::collection::vec((0u8..7, 1u16..6, 0u64..9), 1..120)) {
        let mut registry = registry();
        let (mut now, mut version) = (at(0), 0);
        for (what, number, wait) in steps {
            now += SECOND * u32::try_from(wait).unwrap();
            let service = if number % 2 == 0 { "web" } else { "api" };
            let id = format!("{service}-{number}");
            match what {
                0 => drop(registry.register(instance(service, number), now)),
                1 => drop(registry.heartbeat(service, &id, now)),
                2 => drop(registry.deregister(service, &id)),
                3 => drop(registry.hold(instance(service, number), now)),
                4 => registry.release(service, &id, now),
                5 => drop(registry.restore(instance(service, number), now)),
                _ => drop(registry.register(
                    Instance { id: "thief".into(), ..instance(service, number) }, now)),
            }
            registry.poll(now);
            prop_assert!(registry.version() >= version);
            version = registry.version();
            let listed: usize = registry.services().map(|(_, count, _)| count).sum();
            prop_assert_eq!(listed, registry.count);
            let held = registry.held().len();
            prop_assert_eq!(registry.deadlines.len(), registry.count - held);
            for (name, service) in &registry.services {
                prop_assert_eq!(service.instances.len(), service.by_address.len());
                prop_assert!(service.version <= registry.version);
                for (id, entry) in &service.instances {
                    prop_assert_eq!(entry.held, entry.deadline.is_none());
                    let key = (Arc::clone(name), Arc::clone(id));
                    prop_assert!(entry.deadline.is_none_or(|at| registry.deadlines.contains(&(at, key))));
                    // Looked at when its silence has lasted long enough, or soon again.
                    let due = (entry.counted_from + entry.instance.ttl()).max(now + PRESERVED_RECHECK);
                    prop_assert!(entry.deadline.is_none_or(|at| at <= due && at > now));
                }
            }
        }
    }
}
