use std::collections::BTreeMap;
use std::time::Duration;

use model::spec::{HealthKind, HealthSpec, PolicySpec, RetrySpec};
use model::status::EndpointState;
use model::{Instant, Outcome, Report};

use super::*;

mod failures;
mod limits;
mod probes;
mod queues;
mod sessions;
mod shared;
mod wake;

/// Takes notes.
#[derive(Default)]
struct Recorder {
    notes: Mutex<Vec<String>>,
}

impl Events for Recorder {
    fn suspect(&self, service: &ServiceName, endpoint: &EndpointId) {
        self.notes.lock().unwrap().push(format!("{service}: suspect {endpoint}"));
    }
    fn staying(&self, service: &ServiceName, endpoint: &Arc<EndpointHandle>) {
        assert_eq!(endpoint.close_at(), None);
        self.notes.lock().unwrap().push(format!("{service}: staying {}", endpoint.id));
    }
    fn leaving(&self, service: &ServiceName, endpoint: &Arc<EndpointHandle>) {
        assert!(endpoint.is_leaving());
        self.notes.lock().unwrap().push(format!("{service}: leaving {}", endpoint.id));
    }
    fn changed(&self, _: &ServiceName) {}
    fn session_at(&self, _: &ServiceName, key: u64, endpoint: &EndpointId, moved: bool) {
        let moved = if moved { ", moved" } else { "" };
        self.notes.lock().unwrap().push(format!("told {key:016x} at {endpoint}{moved}"));
    }
    fn demanded(&self, service: &ServiceName) {
        self.notes.lock().unwrap().push(format!("{service}: demanded"));
    }
}

/// A service with a clock, and endpoints that pass or fail their checks as the test says.
struct World {
    service: Arc<Service>,
    recorder: Arc<Recorder>,
    now: Instant,
    rng: Rng,
    /// Those that fail their checks.
    down: Vec<&'static str>,
}

fn endpoint(id: &str, port: u16) -> Endpoint {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    Endpoint { id: id.into(), ..Endpoint::at(address) }
}

/// Endpoints named by letters, `a` on port 1.
fn letters(ids: &str) -> Vec<Endpoint> {
    ids.chars().map(|c| endpoint(&c.to_string(), c as u16 - u16::from(b'a') + 1)).collect()
}

fn spec(endpoints: Vec<Endpoint>) -> ServiceSpec {
    ServiceSpec { source: EndpointSource::Static(endpoints), ..ServiceSpec::new("web".into()) }
}

impl World {
    fn new(spec: &ServiceSpec) -> Self {
        let recorder = Arc::new(Recorder::default());
        let now = Instant::from_nanos(1_000_000_000);
        let service = Service::new(spec, recorder.clone(), now, 1);
        Self { service, recorder, now, rng: Rng::from_seed(1), down: Vec::new() }
    }

    /// All of these, proven.
    fn with(ids: &str) -> Self {
        let mut world = Self::new(&spec(letters(ids)));
        world.check();
        assert_eq!(world.eligible(), ids);
        world
    }

    /// Runs the checks that are due now.
    fn check(&mut self) -> usize {
        let due = self.service.due_checks(self.now);
        for check in &due {
            let failed = self.down.contains(&check.endpoint.as_str());
            let result = if failed { Err("connection refused".to_owned()) } else { Ok(()) };
            self.service.handle_check(&check.endpoint, check.generation, result, self.now);
        }
        due.len()
    }

    /// Lets time pass, with all checks as they fall due.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.service.poll_timeout()
            && at <= end
        {
            self.now = self.now.max(at);
            self.check();
        }
        self.now = end;
    }

    fn pick_but(&mut self, exclude: &[u64]) -> Option<Pick> {
        self.service.pick(&Request { now: self.now, key: None, exclude }, &mut self.rng)
    }

    /// The ids of so many picks, each reported with success.
    fn picks(&mut self, count: usize) -> String {
        let mut ids = String::new();
        for _ in 0..count {
            match self.pick_but(&[]) {
                Some(pick) => {
                    ids.push_str(pick.endpoint().id.as_str());
                    pick.report(&Report::new(Instant::ZERO, Outcome::Success));
                }
                None => ids.push('-'),
            }
        }
        ids
    }

    /// So many requests of this endpoint end so.
    fn report(&mut self, id: &str, count: usize, outcome: Outcome) {
        let mut left = count;
        let mut others = Vec::new();
        while left > 0 {
            let pick = self.pick_but(&[]).expect("something is eligible");
            if pick.endpoint().id.as_str() == id {
                pick.report(&Report::new(Instant::ZERO, outcome));
                left -= 1;
            } else {
                others.push(pick);
            }
        }
    }

    fn eligible(&self) -> String {
        self.service.eligible().iter().map(|endpoint| endpoint.id.as_str()).collect()
    }

    fn states(&self) -> BTreeMap<String, (EndpointState, String)> {
        let endpoints = self.service.status().endpoints;
        endpoints.into_iter().map(|status| (status.id, (status.state, status.reason))).collect()
    }

    fn notes(&self) -> Vec<String> {
        std::mem::take(&mut *self.recorder.notes.lock().unwrap())
    }

    fn handle_suspect(&self, id: &str) {
        self.service.handle_suspect(&id.into(), self.now);
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn new_endpoints_serve_after_their_first_good_check() {
    let mut world = World::new(&spec(letters("abc")));
    assert_eq!(world.picks(2), "--");
    assert_eq!(world.service.status().unavailable, 2);
    assert_eq!(world.states()["a"], (EndpointState::Unproven, "no check yet".into()));
    assert_eq!(world.service.poll_timeout(), Some(world.now), "checked at once");
    world.down = vec!["c"];
    assert_eq!(world.check(), 3);
    assert_eq!(world.eligible(), "ab");
    assert_eq!((world.service.healthy(), world.service.is_healthy("c")), (2, false));
    let reason = "check: connection refused (1 in a row)".to_owned();
    assert_eq!(world.states()["c"], (EndpointState::Unproven, reason));
    world.down.clear();
    world.pass(SECOND);
    assert_eq!(world.picks(6), "abcabc");
}

#[test]
fn weights_are_exact_and_can_be_overridden() {
    let mut world = World::with("abc");
    let mut weighted = letters("abc");
    for (endpoint, weight) in weighted.iter_mut().zip([3, 3, 2]) {
        endpoint.weight = Weight(weight);
    }
    world.service.set_endpoints(weighted.clone(), world.now);
    assert_eq!(world.picks(16), "abcabcababcabcab");
    world.service.set_weight("a", Some(Weight(0)), world.now).unwrap();
    world.service.set_weight("c", Some(Weight(3)), world.now).unwrap();
    world.service.set_endpoints(weighted, world.now);
    let picks = world.picks(10);
    assert!(picks == "bcbcbcbcbc" || picks == "cbcbcbcbcb", "{picks}");
    world.service.set_weight("a", None, world.now).unwrap();
    assert!(world.picks(8).contains('a'));
    let unknown = world.service.set_weight("x", None, world.now);
    assert_eq!(unknown.unwrap_err().to_string(), "no endpoint `x`");
}

#[test]
fn failed_checks_take_out_even_the_last_one_and_good_ones_bring_back() {
    let mut world = World::with("ab");
    world.down = vec!["a", "b"];
    world.pass(SECOND * 10);
    assert_eq!(world.picks(3), "---");
    let (state, reason) = world.states()["a"].clone();
    assert_eq!(state, EndpointState::Unhealthy);
    assert!(reason.starts_with("check: connection refused ("), "{reason}");
    world.down = vec!["b"];
    world.pass(SECOND * 10);
    assert_eq!(world.picks(2), "aa");
}

#[test]
fn an_unchanged_endpoint_keeps_everything_and_a_moved_one_is_new() {
    let mut world = World::with("abc");
    let a = world.service.endpoint("a").unwrap();
    let b = world.service.endpoint("b").unwrap();
    let open = world.pick_but(&[b.key, world.service.endpoint("c").unwrap().key]).unwrap();
    assert_eq!(open.endpoint().key, a.key);
    // b moves, c is removed, d is new.
    world.service.set_endpoints(
        vec![endpoint("a", 1), endpoint("b", 22), endpoint("d", 4), endpoint("d", 5)],
        world.now,
    );
    assert_eq!(world.notes(), ["web: leaving b", "web: leaving c"]);
    assert_eq!(b.close_at(), Some(world.now + SECOND * 30));
    assert_eq!(world.eligible(), "a");
    assert_eq!(world.service.endpoint("a").unwrap().key, a.key);
    assert_eq!(a.in_flight(), 1);
    assert_ne!(world.service.endpoint("b").unwrap().key, b.key);
    assert_eq!(world.service.endpoint("d").unwrap().address.port(), 4, "the first d counts");
    assert_eq!(world.check(), 2, "a is not checked anew");
    assert_eq!(world.eligible(), "abd");
    open.report(&Report::new(Instant::ZERO, Outcome::Success));
    assert_eq!(a.in_flight(), 0);
}

#[test]
fn late_results_of_a_former_endpoint_are_ignored() {
    let mut world = World::new(&spec(letters("a")));
    let old = world.service.due_checks(world.now).pop().unwrap();
    world.service.set_endpoints(vec![endpoint("a", 9)], world.now);
    let new = world.service.due_checks(world.now).pop().unwrap();
    assert_eq!(new.address.port(), 9);
    world.service.handle_check(&old.endpoint, old.generation, Ok(()), world.now);
    assert_eq!(world.picks(1), "-");
    world.service.handle_check(&new.endpoint, new.generation, Ok(()), world.now);
    assert_eq!(world.picks(1), "a");
}

#[test]
fn removed_ones_stand_by_until_a_new_one_is_proven() {
    let mut world = World::with("ab");
    world.service.set_endpoints(letters("cd"), world.now);
    assert_eq!(world.picks(2), "ab", "c and d are not yet proven");
    assert_eq!(world.service.healthy(), 0);
    assert_eq!(world.states()["a"].0, EndpointState::Draining);
    assert!(world.notes().is_empty());
    world.down = vec!["d"];
    world.check();
    assert_eq!(world.picks(2), "cc");
    assert_eq!(world.notes(), ["web: leaving a", "web: leaving b"]);

    // Not for ever.
    world.down = vec!["e"];
    world.service.set_endpoints(letters("e"), world.now);
    world.pass(SECOND * 29);
    assert_eq!(world.picks(1), "c");
    world.pass(SECOND * 2);
    assert_eq!(world.picks(1), "-");
    assert_eq!(world.notes(), ["web: leaving d", "web: leaving c"]);
}

#[test]
fn nobody_stands_by_when_nothing_new_is_named_or_traffic_fails() {
    let mut world = World::with("ab");
    world.service.set_endpoints(Vec::new(), world.now);
    assert_eq!(world.picks(1), "-");
    assert_eq!(world.notes(), ["web: leaving a", "web: leaving b"]);
    assert_eq!(world.service.poll_timeout(), None);

    let mut world = World::with("a");
    let kept = world.service.endpoint("a").unwrap();
    world.service.set_endpoints(letters("b"), world.now);
    world.service.set_endpoints(letters("a"), world.now);
    assert_eq!(world.service.endpoint("a").unwrap().key, kept.key, "it was named again in time");
    world.service.set_endpoints(letters("b"), world.now);
    world.report("a", 3, Outcome::ConnectFailed);
    world.notes();
    world.handle_suspect("a");
    assert_eq!(world.picks(1), "-");
    assert_eq!(world.notes(), ["web: leaving a"]);
}

#[test]
fn a_drained_one_gets_nothing_new_and_stays_listed() {
    let mut world = World::with("abc");
    let b = world.service.endpoint("b").unwrap();
    world.service.drain("b", world.now).unwrap();
    world.service.drain("b", world.now + SECOND).unwrap();
    assert_eq!(world.notes(), ["web: leaving b"]);
    assert_eq!(b.close_at(), Some(world.now + SECOND * 30), "the first deadline stands");
    assert_eq!(world.picks(4), "acac");
    assert_eq!(world.states()["b"], (EndpointState::Draining, "drained; check passed".into()));
    world.down = vec!["b"];
    world.pass(SECOND * 10);
    assert!(world.states()["b"].1.starts_with("drained; check: connection refused"));
    // Named again by discovery, it is still drained.
    world.service.set_endpoints(letters("abc"), world.now);
    assert_eq!(world.eligible(), "ac");
    world.service.undrain("b", world.now).unwrap();
    assert!(!b.is_leaving());
    assert_eq!(world.notes(), ["web: staying b"]);
    assert_eq!(world.eligible(), "ac", "it is unhealthy");
    world.down.clear();
    world.pass(SECOND * 10);
    assert_eq!(world.eligible(), "abc");
    assert!(world.service.drain("x", world.now).is_err());
}

#[test]
fn the_lowest_priority_number_with_a_healthy_endpoint_serves() {
    let mut endpoints = letters("abcd");
    for (endpoint, priority) in endpoints.iter_mut().zip([0, 0, 1, 7]) {
        endpoint.priority = priority;
    }
    let mut world = World::new(&spec(endpoints));
    world.check();
    assert_eq!(world.eligible(), "ab");
    world.down = vec!["a"];
    world.pass(SECOND * 10);
    assert_eq!(world.eligible(), "b");
    world.service.drain("b", world.now).unwrap();
    assert_eq!(world.eligible(), "c");
    world.down = vec!["a", "c"];
    world.pass(SECOND * 10);
    assert_eq!(world.eligible(), "d");
    world.down.clear();
    world.pass(SECOND * 10);
    assert_eq!(world.eligible(), "a");
}

#[test]
fn failures_in_a_row_are_posted_once_and_take_out_at_once() {
    let mut world = World::with("abc");
    world.report("b", 2, Outcome::ConnectFailed);
    assert!(world.notes().is_empty());
    world.report("b", 1, Outcome::TimedOut);
    world.report("b", 5, Outcome::Broken);
    assert_eq!(world.notes(), ["web: suspect b"]);
    world.handle_suspect("b");
    assert_eq!(world.eligible(), "ac");
    let reason = "traffic: 8 failures in a row".to_owned();
    assert_eq!(world.states()["b"], (EndpointState::Unhealthy, reason));
    world.pass(SECOND * 5);
    assert_eq!(world.eligible(), "abc", "good checks bring it back");
    world.report("b", 2, Outcome::ConnectFailed);
    assert!(world.notes().is_empty(), "the row began anew");
    world.report("b", 1, Outcome::ConnectFailed);
    assert_eq!(world.notes(), ["web: suspect b"]);
}

#[test]
fn what_was_in_flight_when_it_left_does_not_raise_the_suspicion_again() {
    let mut world = World::with("ab");
    let open: Vec<Pick> = (0..20).filter_map(|_| world.pick_but(&[])).collect();
    world.report("b", 3, Outcome::ConnectFailed);
    world.handle_suspect("b");
    open.into_iter().for_each(|pick| pick.report(&Report::new(Instant::ZERO, Outcome::Broken)));
    let notes = world.notes();
    assert_eq!(notes.iter().filter(|note| note.ends_with("suspect b")).count(), 1, "{notes:?}");
}

#[test]
fn a_recovered_one_and_the_last_one_stay() {
    let mut world = World::with("ab");
    world.report("a", 3, Outcome::ConnectFailed);
    world.report("a", 1, Outcome::Success);
    world.handle_suspect("a");
    assert_eq!(world.eligible(), "ab");
    world.report("a", 3, Outcome::ConnectFailed);
    world.handle_suspect("a");
    assert_eq!(world.eligible(), "b");
    world.notes();
    world.now += Duration::from_millis(500);
    world.report("b", 3, Outcome::ConnectFailed);
    world.handle_suspect("b");
    assert_eq!(world.eligible(), "b", "it is the last one");
    assert_eq!(world.check(), 2, "but it is checked at once");
    world.report("b", 1, Outcome::ConnectFailed);
    assert_eq!(world.notes(), ["web: suspect b", "web: suspect b"], "and stays suspect");
    // Once the other one is back, the next failure takes it out.
    world.handle_suspect("b");
    world.pass(SECOND * 3);
    assert_eq!(world.eligible(), "ab");
    world.report("b", 1, Outcome::ConnectFailed);
    world.handle_suspect("b");
    assert_eq!(world.eligible(), "a");
}

#[test]
fn answers_of_500_and_clients_that_go_raise_no_suspicion() {
    let mut world = World::with("ab");
    world.report("a", 20, Outcome::ServerError);
    world.report("a", 20, Outcome::Abandoned);
    assert!(world.notes().is_empty());
    let status = world.service.status();
    assert_eq!(status.endpoints[0].failures, 20);
}

#[test]
fn without_checks_all_are_healthy_and_evidence_is_not_heard() {
    let off = HealthSpec { kind: HealthKind::Off, ..HealthSpec::default() };
    let mut world = World::new(&ServiceSpec { health: off, ..spec(letters("ab")) });
    assert_eq!(world.picks(4), "abab");
    assert_eq!(world.service.poll_timeout(), None);
    world.report("a", 20, Outcome::ConnectFailed);
    assert!(world.notes().is_empty());
    world.handle_suspect("a");
    assert_eq!(world.eligible(), "ab");
}

#[test]
fn update_touches_only_what_changed() {
    let mut world = World::with("ab");
    let before = Arc::as_ptr(&world.service.snapshot.load());
    let mut next = spec(letters("ab"));
    world.service.update(&next, world.now);
    next.drain_grace = SECOND;
    next.retry = RetrySpec { attempts: 7, ..RetrySpec::default() };
    world.service.update(&next, world.now);
    assert_eq!(world.service.settings().retry.attempts, 7);
    assert_eq!(Arc::as_ptr(&world.service.snapshot.load()), before, "nothing was published");

    let key = world.service.endpoint("a").unwrap().key;
    next.policy = PolicySpec { name: "random".into(), options: Vec::new() };
    next.health.interval = SECOND * 60;
    world.service.update(&next, world.now);
    assert_eq!(world.eligible(), "ab");
    assert_eq!(world.service.status().policy, "random");
    assert_eq!(world.service.endpoint("a").unwrap().key, key);
    world.pass(SECOND * 5);
    assert_eq!(world.check(), 0);
    world.pass(SECOND * 65);

    next.source = EndpointSource::Static(letters("bc"));
    world.service.update(&next, world.now);
    assert_eq!(world.eligible(), "b");
    world.check();
    assert_eq!(world.eligible(), "bc");

    next.health.unhealthy_after = 1;
    world.service.update(&next, world.now);
    world.notes();
    world.report("b", 1, Outcome::ConnectFailed);
    assert_eq!(world.notes(), ["web: suspect b"]);

    next.health.kind = HealthKind::Off;
    world.service.update(&next, world.now);
    assert_eq!(world.service.poll_timeout(), None);
    assert_eq!(world.eligible(), "bc");
}

#[test]
fn a_closed_service_has_nothing_and_takes_nothing() {
    let mut world = World::with("ab");
    let open = world.pick_but(&[]).unwrap();
    world.service.close(world.now);
    assert_eq!(world.notes(), ["web: leaving a", "web: leaving b"]);
    world.service.set_endpoints(letters("abc"), world.now);
    assert_eq!((world.picks(1).as_str(), world.service.poll_timeout()), ("-", None));
    let handle = open.endpoint().clone();
    assert_eq!(handle.in_flight(), 1);
    drop(open);
    assert_eq!(handle.in_flight(), 0);
}

#[test]
fn attempts_avoid_what_was_tried_and_the_budget_bounds_them() {
    let mut world = World::with("abc");
    let mut tried = Vec::new();
    for _ in 0..3 {
        let pick = world.pick_but(&tried).unwrap();
        assert!(!tried.contains(&pick.endpoint().key));
        tried.push(pick.endpoint().key);
    }
    assert!(world.pick_but(&tried).is_some(), "better than none");
    assert!(world.pick_but(&[u64::MAX; 40]).is_some(), "unknown ones do no harm");

    world.pass(SECOND * 20);
    world.picks(1000);
    let admitted = (0..2000).filter(|_| world.service.admit_retry(world.now)).count();
    assert_eq!(admitted, 200 + 100, "20 % of 1000, and 10 a second for 10 s");
    let status = world.service.status();
    assert_eq!((status.retries, status.retries_denied), (300, 1700));
}

#[test]
fn many_new_endpoints_are_not_checked_in_one_moment() {
    let many: Vec<Endpoint> = (0..10_000).map(|n| endpoint(&format!("e{n}"), n)).collect();
    let mut world = World::new(&spec(many));
    assert_eq!(world.check(), 64);
    world.pass(SECOND * 2);
    assert_eq!(world.service.healthy(), 10_000);
    world.pass(Duration::from_millis(20));
    assert_eq!(world.service.eligible().len(), 10_000);
}

#[test]
fn the_same_seed_and_calls_give_the_same_checks_and_picks() {
    let run = || {
        let mut next = spec(letters("abcdef"));
        next.policy.name = "random".into();
        let mut world = World::new(&next);
        world.down = vec!["c"];
        let mut trace = Vec::new();
        for _ in 0..50 {
            world.pass(Duration::from_millis(700));
            trace.push((world.picks(10), world.service.poll_timeout()));
        }
        trace
    };
    assert_eq!(run(), run());
}

/// Callers of an agent may have chosen by themselves, and their reports count.
#[test]
fn a_pick_by_address_is_a_pick() {
    let mut world = World::with("ab");
    assert!(world.service.has_eligible());
    let address = world.service.endpoint("b").unwrap().address;
    let pick = world.service.pick_at(address, world.now).unwrap();
    assert_eq!((pick.endpoint().id.as_str(), pick.endpoint().in_flight()), ("b", 1));
    pick.report(&Report::new(world.now, Outcome::ServerError));
    assert_eq!(world.service.endpoint("b").unwrap().load.failures(), 1);
    let nobody = "192.0.2.1:1".parse().unwrap();
    assert!(world.service.pick_at(nobody, world.now).is_none());
    world.service.drain("b", world.now).unwrap();
    assert!(world.service.pick_at(address, world.now).is_none());
    assert_eq!(world.service.addresses().len(), 1);
    world.service.drain("a", world.now).unwrap();
    assert!(!world.service.has_eligible() && world.service.addresses().is_empty());
    let _ = world.pick_but(&[]);
}
