use model::Rng;

use super::*;
use crate::Health;

const T0: Instant = Instant::from_nanos(1_000_000_000_000);

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn running(digit: char, started_at: i64) -> Inspection {
    Inspection {
        pid: 100,
        stop_signal: 15,
        hostname: String::new(),
        container: Container {
            id: id(digit),
            networks: [("net".to_owned(), "172.18.0.2".parse().unwrap())].into(),
            phase: Phase::Running,
            started_at,
            ..Container::default()
        },
    }
}

/// A tracker with the running container `a`, and what it said is passed over.
fn tracker() -> Tracker {
    let mut tracker = Tracker::new("");
    let steps = tracker.begin("Docker", vec![id('a')]);
    assert_eq!(told(&steps), ["connected"]);
    assert!(steps.contains(&Step::Inspect(id('a'))));
    let steps = tracker.inspected(&id('a'), Some(running('a', 10)), T0);
    assert_eq!(told(&steps), ["a Running", "synced"]);
    assert!(steps.contains(&Step::Watch { id: id('a'), pid: 100 }));
    tracker
}

fn event(tracker: &mut Tracker, digit: char, what: What) -> Vec<Step> {
    tracker.event(&Event { id: id(digit), what, at: 20 }, T0)
}

fn told(steps: &[Step]) -> Vec<String> {
    let told = |step: &Step| match step {
        Step::Tell(Message::Container(c)) => Some(format!("{} {:?}", &c.id[..1], c.phase)),
        Step::Tell(Message::Gone { id }) => Some(format!("{} gone", &id[..1])),
        Step::Tell(Message::Synced { .. }) => Some("synced".to_owned()),
        Step::Tell(Message::Connected { .. }) => Some("connected".to_owned()),
        _ => None,
    };
    steps.iter().filter_map(told).collect()
}

#[test]
fn a_life() {
    let mut tracker = tracker();
    let t = &mut tracker;
    assert_eq!(event(t, 'a', What::Kill { signal: 1 }), []);
    assert_eq!(told(&event(t, 'a', What::Kill { signal: 15 })), ["a Stopping"]);
    assert_eq!(event(t, 'a', What::Kill { signal: 9 }), []);
    let left = event(t, 'a', What::Left { network: "net".into() });
    assert_eq!(told(&left), ["a Stopping"]);
    assert_eq!(told(&event(t, 'a', What::Die)), ["a Ended"]);
    // What was asked for before it died says that it runs.
    assert_eq!(t.inspected(&id('a'), Some(running('a', 10)), T0), [Step::Inspect(id('a'))]);
    assert_eq!(told(&t.inspected(&id('a'), Some(running('a', 10)), T0)), ["a Ended"]);
    assert_eq!(event(t, 'a', What::Start), [Step::Inspect(id('a'))]);
    let steps = t.inspected(&id('a'), Some(running('a', 30)), T0);
    assert_eq!(told(&steps), ["a Running"]);
    // Of its former life.
    assert_eq!(event(t, 'a', What::Die), []);
    assert_eq!(told(&event(t, 'a', What::Destroy)), ["a gone"]);
    assert_eq!(event(t, 'a', What::Die), []);
}

#[test]
fn the_stop_signal_is_the_images() {
    let mut t = tracker();
    assert_eq!(event(&mut t, 'b', What::Start), [Step::Inspect(id('b'))]);
    let found = Inspection { stop_signal: 3, ..running('b', 10) };
    t.inspected(&id('b'), Some(found), T0);
    assert_eq!(event(&mut t, 'b', What::Kill { signal: 15 }), []);
    assert_eq!(told(&event(&mut t, 'b', What::Kill { signal: 3 })), ["b Stopping"]);
}

#[test]
fn pause_and_health() {
    let mut t = tracker();
    assert_eq!(told(&event(&mut t, 'a', What::Pause)), ["a Paused"]);
    assert_eq!(event(&mut t, 'a', What::Unpause), [Step::Inspect(id('a'))]);
    assert_eq!(told(&t.inspected(&id('a'), Some(running('a', 10)), T0)), ["a Running"]);
    let steps = event(&mut t, 'a', What::Health(Health::Unhealthy));
    assert!(matches!(&steps[..], [Step::Tell(Message::Container(c))]
        if c.health == Health::Unhealthy && c.phase == Phase::Running));
    assert_eq!(event(&mut t, 'a', What::Health(Health::Unhealthy)), []);
}

#[test]
fn one_that_does_not_heed_its_signal_serves_again() {
    let mut t = tracker();
    event(&mut t, 'a', What::Kill { signal: 15 });
    assert_eq!(t.tick(T0 + Duration::from_secs(59)), []);
    // An inspection alone does not bring it back.
    event(&mut t, 'a', What::Changed);
    assert_eq!(told(&t.inspected(&id('a'), Some(running('a', 10)), T0)), Vec::<String>::new());
    assert_eq!(t.tick(T0 + STOPPING_MAX), [Step::Inspect(id('a'))]);
    assert_eq!(told(&t.inspected(&id('a'), Some(running('a', 10)), T0)), ["a Running"]);
}

#[test]
fn the_kernel_knows_first() {
    let mut t = tracker();
    assert_eq!(t.exited(&id('a'), 99), []);
    assert_eq!(told(&t.exited(&id('a'), 100)), ["a Ended"]);
    assert_eq!(t.exited(&id('a'), 100), []);
    // The engine is back, and believes that it still runs.
    t.begin("Docker", vec![id('a')]);
    assert_eq!(told(&t.inspected(&id('a'), Some(running('a', 10)), T0)), ["a Ended", "synced"]);
}

#[test]
fn a_new_connection_forgets_nobody_before_all_is_known() {
    let mut t = tracker();
    event(&mut t, 'b', What::Start);
    t.inspected(&id('b'), Some(running('b', 10)), T0);
    event(&mut t, 'a', What::Kill { signal: 15 });
    let steps = t.begin("Docker", vec![id('a'), id('c')]);
    assert_eq!(told(&steps), ["connected"]);
    // Still stopping: what was known stays known.
    assert_eq!(told(&t.inspected(&id('a'), Some(running('a', 10)), T0)), ["a Stopping"]);
    // It ended between the list and the inspection.
    assert_eq!(told(&t.inspected(&id('c'), None, T0)), ["c gone", "synced"]);
    assert_eq!(t.entries.len(), 1);
    assert_eq!(told(&t.begin("Docker", Vec::new())), ["connected", "synced"]);
}

#[test]
fn our_own_networks_are_known() {
    let mut t = Tracker::new("aaaaaaaaaaaa");
    t.begin("Docker", vec![id('a'), id('b')]);
    let own = Inspection { hostname: "aaaaaaaaaaaa".into(), ..running('a', 10) };
    t.inspected(&id('a'), Some(own.clone()), T0);
    let steps = t.inspected(&id('b'), Some(running('b', 10)), T0);
    let networks = Some(["net".to_owned()].into());
    assert_eq!(steps.last(), Some(&Step::Tell(Message::Synced { networks })));
    // It joins another one.
    event(&mut t, 'a', What::Changed);
    let mut own = own;
    own.container.networks.insert("front".into(), "10.0.0.2".parse().unwrap());
    let steps = t.inspected(&id('a'), Some(own), T0);
    assert_eq!(told(&steps), ["a Running", "synced"]);
}

/// Whatever the order of events, answers and new connections, what was told last of a container is
/// how it is once everything is answered.
#[test]
fn any_order_ends_with_the_truth() {
    for seed in 0..2000 {
        let mut rng = Rng::from_seed(seed);
        let mut t = Tracker::new("");
        // The engine: each container's life, `None`: not running. And what is under way.
        let mut engine: BTreeMap<char, Option<i64>> = BTreeMap::new();
        let mut events: Vec<Event> = Vec::new();
        let mut asked: Vec<(String, Option<Inspection>)> = Vec::new();
        let mut told: BTreeMap<String, Phase> = BTreeMap::new();
        let mut clock = 100;
        // An id is never used again.
        let mut removed = BTreeSet::new();
        let mut steps = t.begin("Docker", Vec::new());
        for round in 0..600 {
            let state = |engine: &BTreeMap<char, Option<i64>>, id: &str| {
                let digit = id.chars().next().unwrap();
                engine.get(&digit).map(|life| match life {
                    Some(started_at) => running(digit, *started_at),
                    None => {
                        let mut found = running(digit, 1);
                        found.container.phase = Phase::Ended;
                        found
                    }
                })
            };
            for step in std::mem::take(&mut steps) {
                match step {
                    Step::Inspect(id) => {
                        let found = state(&engine, &id);
                        asked.push((id, found));
                    }
                    Step::Tell(Message::Container(c)) => drop(told.insert(c.id, c.phase)),
                    Step::Tell(Message::Gone { id }) => drop(told.remove(&id)),
                    Step::Tell(_) | Step::Watch { .. } => {}
                }
            }
            clock += 1;
            let digit = ['a', 'b', 'c'][rng.below(3) as usize];
            let event = |what| Event { id: id(digit), what, at: clock };
            let quiet = round > 150;
            match rng.below(if quiet { 2 } else { 5 }) {
                0 if !events.is_empty() => steps = t.event(&events.remove(0), T0),
                1 | 0 if !asked.is_empty() => {
                    let (id, found) = asked.remove(rng.below(asked.len() as u64) as usize);
                    steps = t.inspected(&id, found, T0);
                }
                2 => match engine.get(&digit).copied() {
                    Some(Some(_)) => {
                        engine.insert(digit, None);
                        events.push(event(What::Die));
                    }
                    _ if removed.contains(&digit) => {}
                    _ => {
                        engine.insert(digit, Some(clock));
                        events.push(event(What::Start));
                    }
                },
                3 if engine.get(&digit) == Some(&None) => {
                    engine.remove(&digit);
                    removed.insert(digit);
                    events.push(event(What::Destroy));
                }
                4 if rng.below(10) == 0 => {
                    // The connection breaks, and what was under way with it.
                    (events, asked) = (Vec::new(), Vec::new());
                    let ids = engine.iter().filter(|(_, life)| life.is_some());
                    let ids: Vec<String> = ids.map(|(digit, _)| id(*digit)).collect();
                    steps = t.begin("Docker", ids.clone());
                    told.retain(|id, _| ids.contains(id));
                }
                _ => {}
            }
        }
        assert!(events.is_empty() && asked.is_empty(), "seed {seed}: not quiet");
        let told: BTreeSet<String> =
            told.into_iter().filter(|(_, phase)| *phase == Phase::Running).map(|t| t.0).collect();
        let truth: BTreeSet<String> =
            engine.iter().filter(|(_, life)| life.is_some()).map(|(d, _)| id(*d)).collect();
        assert_eq!(told, truth, "seed {seed}");
    }
}
