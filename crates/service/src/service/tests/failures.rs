//! Outliers, slow start, panic, failover and subsets, through the service.

use model::spec::{HealthAgentSpec, OutlierSpec, SlowStartSpec};
use model::status::EjectionCounts;
use model::{AgentReply, AgentStanding, Utilization};

use super::*;

/// These endpoints, proven, with the outlier's defaults.
fn watched(ids: &str, outlier: OutlierSpec) -> World {
    with(ServiceSpec { outlier: Some(outlier), ..spec(letters(ids)) })
}

fn with(spec: ServiceSpec) -> World {
    let mut world = World::new(&spec);
    world.check();
    world
}

impl World {
    /// So many requests of each letter, in turn, each of which takes so long and ends so.
    fn ends(&mut self, count: usize, ends: &dyn Fn(&str) -> (Duration, Outcome)) {
        for _ in 0..count {
            let Some(pick) = self.pick_but(&[]) else { return };
            let (latency, outcome) = ends(pick.endpoint().id.as_str());
            pick.report(&Report::new(self.now, outcome).after(Some(latency)));
        }
    }

    fn state(&self, id: &str) -> (EndpointState, String) {
        let endpoints = self.service.status_at(self.now).endpoints;
        let found = endpoints.into_iter().find(|status| status.id == id);
        found.map(|status| (status.state, status.reason)).unwrap()
    }

    fn ejections(&self) -> [u64; 3] {
        let EjectionCounts { consecutive, error_rate, latency } = self.service.status().ejections;
        [consecutive, error_rate, latency]
    }

    /// How many of so many requests each gets.
    fn shares(&mut self, count: usize) -> BTreeMap<char, usize> {
        let mut shares = BTreeMap::new();
        self.picks(count).chars().for_each(|id| *shares.entry(id).or_default() += 1);
        shares
    }
}

const MS: Duration = Duration::from_millis(1);

fn fails(bad: &'static str) -> impl Fn(&str) -> (Duration, Outcome) {
    move |id| (MS, if id == bad { Outcome::ServerError } else { Outcome::Success })
}

#[test]
fn five_errors_in_a_row_eject_at_once_and_time_brings_it_back() {
    let mut world = watched("abc", OutlierSpec::default());
    world.ends(12, &fails("b"));
    assert_eq!(world.notes(), [""; 0], "four in a row are no reason");
    world.ends(3, &fails("b"));
    assert_eq!(world.notes(), ["web: suspect b"]);
    world.handle_suspect("b");
    assert_eq!(world.eligible(), "ac");
    let ejected = |text: &str| (EndpointState::Ejected, text.to_owned());
    let first = "5 requests in a row failed; back in 10 s (1st time)";
    assert_eq!(world.state("b"), ejected(first));
    assert_eq!(world.ejections(), [1, 0, 0]);
    assert!(!world.service.is_healthy("b") && world.service.healthy() == 2);
    world.pass(9 * SECOND);
    assert_eq!(world.eligible(), "ac", "good checks do not bring it back");
    assert!(world.state("b").1.contains("back in 1 s"));
    world.pass(SECOND);
    assert_eq!(world.eligible(), "abc");
    let probation = "check passed; was ejected, on probation".to_owned();
    assert_eq!(world.state("b"), (EndpointState::Healthy, probation));
    world.report("b", 5, Outcome::ServerError);
    world.handle_suspect("b");
    let second = "5 requests in a row failed; back in 20 s (2nd time)";
    assert_eq!(world.state("b"), ejected(second));
    world.pass(20 * SECOND);
    world.pass(40 * SECOND);
    assert_eq!(world.state("b").1, "check passed", "all is forgotten");
}

#[test]
fn it_works_without_checks_and_is_taken_back_when_switched_off() {
    let health = HealthSpec { kind: HealthKind::Off, ..HealthSpec::default() };
    let outlier = Some(OutlierSpec::default());
    let spec = ServiceSpec { health, outlier, ..spec(letters("ab")) };
    let mut world = with(spec.clone());
    world.report("a", 5, Outcome::ConnectFailed);
    world.handle_suspect("a");
    assert_eq!(world.eligible(), "b");
    // The last one stays, however much of it fails.
    world.report("b", 50, Outcome::ConnectFailed);
    world.handle_suspect("b");
    assert_eq!(world.eligible(), "b");
    world.service.update(&ServiceSpec { outlier: None, ..spec }, world.now);
    assert_eq!(world.eligible(), "ab");
    world.notes();
    world.report("a", 50, Outcome::ServerError);
    assert_eq!(world.notes(), [""; 0]);
}

#[test]
fn a_window_of_failures_or_slow_answers_ejects() {
    let outlier = OutlierSpec { consecutive: None, ..OutlierSpec::default() };
    let mut world = watched("abcde", outlier.clone());
    // Every second request of `b` fails, which is not noticed by a row.
    let turn = std::cell::Cell::new(0);
    world.ends(5 * 20, &|id| {
        turn.set(turn.get() + usize::from(id == "b"));
        let fails = id == "b" && turn.get().is_multiple_of(2);
        (MS, if fails { Outcome::ServerError } else { Outcome::Success })
    });
    world.pass(SECOND);
    assert_eq!(world.eligible(), "acde");
    assert_eq!(world.state("b").1, "50 % of 20 requests failed; back in 10 s (1st time)");
    world.ends(4 * 20, &|id| (if id == "d" { 50 * MS } else { 10 * MS }, Outcome::Success));
    world.pass(SECOND);
    assert_eq!(world.eligible(), "ace");
    let slow = "requests took 50.0ms, those of the others 10.0ms; back in 10 s (1st time)";
    assert_eq!(world.state("d").1, slow);
    // Two of five is the most that half of them can be.
    world.ends(3 * 20, &fails("a"));
    world.pass(SECOND);
    assert_eq!(world.eligible(), "ace");
    assert_eq!(world.ejections(), [0, 1, 1]);
    world.pass(10 * SECOND);
    assert_eq!(world.eligible(), "abcde");

    // Of two, the one that is slow against the other; and never both.
    let mut world = watched("ab", outlier);
    world.ends(40, &|id| (if id == "a" { 40 * MS } else { 10 * MS }, Outcome::Success));
    world.pass(SECOND);
    assert_eq!(world.eligible(), "b");
    world.ends(20, &fails("b"));
    world.pass(SECOND);
    assert_eq!(world.eligible(), "b");
}

#[test]
fn ejected_ones_come_back_when_they_are_needed() {
    let mut world = watched("abcd", OutlierSpec::default());
    for id in ["a", "b"] {
        world.report(id, 5, Outcome::ServerError);
        world.handle_suspect(id);
    }
    assert_eq!(world.eligible(), "cd");
    // Half of three is one: the first to be ejected comes back.
    world.service.set_endpoints(letters("abc"), world.now);
    assert_eq!(world.eligible(), "ac");
    world.service.drain("a", world.now).unwrap();
    world.service.drain("c", world.now).unwrap();
    assert_eq!(world.eligible(), "b", "nothing else is left");
    let (mut world, share_max) = (watched("abc", OutlierSpec::default()), 0.0);
    world.report("a", 5, Outcome::ServerError);
    world.handle_suspect("a");
    world.down = vec!["b", "c"];
    world.pass(10 * SECOND);
    assert_eq!(world.eligible(), "a");
    let mut world = watched("abc", OutlierSpec { share_max, ..OutlierSpec::default() });
    world.report("a", 5, Outcome::ServerError);
    world.handle_suspect("a");
    assert_eq!(world.eligible(), "abc", "a share of nothing");
}

#[test]
fn a_row_goes_on_over_good_checks_but_not_over_bad_ones() {
    let mut world = watched("abc", OutlierSpec::default());
    // Three that cannot be reached are suspect, and checks bring it back.
    world.report("a", 3, Outcome::Broken);
    world.handle_suspect("a");
    assert_eq!(world.state("a").0, EndpointState::Unhealthy);
    world.pass(5 * SECOND);
    assert_eq!(world.eligible(), "abc");
    world.report("a", 2, Outcome::ServerError);
    world.handle_suspect("a");
    assert_eq!(world.state("a").0, EndpointState::Ejected);
    world.report("b", 3, Outcome::ConnectFailed);
    world.down = vec!["b"];
    world.handle_suspect("b");
    world.pass(3 * SECOND);
    world.down.clear();
    world.pass(5 * SECOND);
    world.report("b", 2, Outcome::ServerError);
    world.handle_suspect("b");
    assert_eq!(world.state("b").0, EndpointState::Healthy);
}

#[test]
fn sessions_of_an_ejected_endpoint_move() {
    let affinity = Some(model::spec::AffinitySpec::cookie("KEEL"));
    let outlier = Some(OutlierSpec::default());
    let mut world = with(ServiceSpec { affinity, outlier, ..spec(letters("ab")) });
    let token = world.service.settings().sessions().unwrap().token(&"a".into());
    let request = Request { now: world.now, key: None, exclude: &[] };
    assert!(world.service.resume(token.into(), &request).is_some());
    world.report("a", 5, Outcome::ServerError);
    world.handle_suspect("a");
    assert!(world.service.resume(token.into(), &request).is_none());
}

fn slow() -> SlowStartSpec {
    SlowStartSpec { from: 0.2, ..SlowStartSpec::new(10 * SECOND) }
}

#[test]
fn who_begins_beside_others_gets_up_to_its_share() {
    let base = spec(letters("ab"));
    let mut world = with(ServiceSpec { slow_start: Some(slow()), ..base });
    assert_eq!(world.shares(100), [('a', 50), ('b', 50)].into(), "all begin together");
    world.pass(10 * SECOND);
    world.service.set_endpoints(letters("abc"), world.now);
    world.check();
    assert_eq!(world.shares(220), [('a', 100), ('b', 100), ('c', 20)].into());
    assert_eq!(world.state("c").1, "check passed; slow start 20 %");
    assert_eq!(world.state("a").1, "check passed");
    world.pass(5 * SECOND);
    assert_eq!(world.shares(260), [('a', 100), ('b', 100), ('c', 60)].into());
    world.pass(5 * SECOND);
    assert_eq!(world.shares(300), [('a', 100), ('b', 100), ('c', 100)].into());
    assert_eq!(world.state("c").1, "check passed");
    // Recovered, and undrained.
    world.down = vec!["b"];
    world.pass(10 * SECOND);
    assert_eq!(world.eligible(), "ac");
    world.down.clear();
    world.pass(3 * SECOND);
    world.service.drain("a", world.now).unwrap();
    world.service.undrain("a", world.now).unwrap();
    let shares = world.shares(1000);
    assert!(shares[&'a'] < shares[&'b'] && shares[&'b'] < shares[&'c'], "{shares:?}");
    world.service.update(&spec(letters("abc")), world.now);
    assert_eq!(world.shares(300), [('a', 100), ('b', 100), ('c', 100)].into());
}

#[test]
fn weights_count_while_one_starts_slowly() {
    let mut endpoints = letters("abc");
    endpoints[0].weight = Weight(3);
    endpoints[1].weight = Weight(0);
    let mut world = with(ServiceSpec { slow_start: Some(slow()), ..spec(endpoints.clone()) });
    world.pass(10 * SECOND);
    let mut more = letters("d");
    more[0].weight = Weight(5);
    endpoints.extend(more);
    world.service.set_endpoints(endpoints, world.now);
    world.check();
    assert_eq!(world.shares(500), [('a', 300), ('c', 100), ('d', 100)].into());
}

#[test]
fn a_ramp_stands_still_while_its_endpoint_is_slow_but_not_for_ever() {
    let mut world = with(ServiceSpec { slow_start: Some(slow()), ..spec(letters("ab")) });
    world.pass(10 * SECOND);
    world.service.set_endpoints(letters("abc"), world.now);
    world.check();
    let cold = |id: &str| (if id == "c" { 50 * MS } else { 10 * MS }, Outcome::Success);
    let warm = |_: &str| (10 * MS, Outcome::Success);
    let seconds = |world: &mut World, count: u32, ends: &dyn Fn(&str) -> (Duration, Outcome)| {
        for _ in 0..count * 5 {
            world.ends(100, ends);
            world.pass(200 * MS);
        }
    };
    seconds(&mut world, 20, &cold);
    assert_eq!(world.state("c").1, "check passed; slow start 20 %");
    seconds(&mut world, 5, &warm);
    let (_, reason) = world.state("c");
    assert!(reason.contains("slow start 5") || reason.contains("slow start 6"), "{reason}");
    seconds(&mut world, 26, &cold);
    assert_eq!(world.state("c").1, "check passed", "five windows are over");
}

#[test]
fn one_that_is_back_from_its_ejection_starts_slowly() {
    let outlier = Some(OutlierSpec::default());
    let slow_start = Some(slow());
    let mut world = with(ServiceSpec { outlier, slow_start, ..spec(letters("abc")) });
    world.pass(10 * SECOND);
    world.report("b", 5, Outcome::ServerError);
    world.handle_suspect("b");
    world.pass(10 * SECOND);
    let reason = "check passed; was ejected, on probation; slow start 20 %";
    assert_eq!(world.state("b").1, reason);
}

#[test]
fn in_panic_ill_ones_are_used_but_none_that_is_drained_or_was_never_well() {
    let mut world = with(ServiceSpec { panic: Some(0.5), ..spec(letters("abcde")) });
    world.service.drain("e", world.now).unwrap();
    world.service.set_endpoints(letters("abcdef"), world.now);
    world.down = vec!["b", "c", "d", "f"];
    world.pass(10 * SECOND);
    assert_eq!(world.eligible(), "abcd");
    assert!(world.service.status().panic && world.service.healthy() == 1);
    let (state, reason) = world.state("b");
    assert!(state == EndpointState::Unhealthy && reason.ends_with("; used in panic"), "{reason}");
    assert_eq!(world.shares(400).len(), 4);
    world.down = vec!["c", "d", "f"];
    world.pass(10 * SECOND);
    assert_eq!(world.eligible(), "ab");
    assert!(!world.service.status().panic);
    // Of three, one healthy one is enough; without any, all are tried.
    world.service.set_endpoints(letters("abc"), world.now);
    world.down = vec!["b", "c"];
    world.pass(10 * SECOND);
    assert_eq!(world.eligible(), "a");
    world.down = vec!["a", "b", "c"];
    world.pass(10 * SECOND);
    assert_eq!(world.eligible(), "abc");
}

#[test]
fn the_next_priority_joins_below_the_threshold() {
    let mut endpoints = letters("abcdef");
    endpoints[4].priority = 1;
    endpoints[5].priority = 2;
    let mut world = with(ServiceSpec { failover_below: 0.7, ..spec(endpoints) });
    assert_eq!(world.eligible(), "abcd");
    world.down = vec!["a"];
    world.pass(10 * SECOND);
    assert_eq!(world.eligible(), "bcd");
    world.down = vec!["a", "b"];
    world.pass(10 * SECOND);
    assert_eq!(world.eligible(), "cdef", "three of five are below 70 %, too");
    world.down.clear();
    world.pass(10 * SECOND);
    assert_eq!(world.eligible(), "abcd");
}

#[test]
fn a_subset_is_filled_up_when_one_of_it_fails() {
    let mut world = with(ServiceSpec { subset: Some(3), ..spec(letters("abcdefgh")) });
    let before = world.eligible();
    assert_eq!(before.len(), 3);
    let gone: &'static str = letters("abcdefgh")
        .iter()
        .find_map(|e| before.starts_with(e.id.as_str()).then(|| e.id.to_string().leak() as &str))
        .unwrap();
    world.down = vec![gone];
    world.pass(10 * SECOND);
    let after = world.eligible();
    assert!(after.len() == 3 && !after.contains(gone));
    assert_eq!(after.chars().filter(|id| before.contains(*id)).count(), 2);
    world.down.clear();
    world.pass(10 * SECOND);
    assert_eq!(world.eligible(), before);
}

#[test]
fn an_agent_has_its_word_beside_the_checks() {
    let agent = Some(HealthAgentSpec { port: 9707, send: String::new() });
    let health = HealthSpec { agent, ..HealthSpec::default() };
    let outlier = Some(OutlierSpec::default());
    let spec = ServiceSpec { health, outlier, ..spec(letters("abc")) };
    let mut world = with(spec.clone());
    let says = |world: &mut World, id: &str, reply: AgentReply| {
        world.service.handle_agent(&id.into(), reply, world.now);
    };
    let percent = |percent| AgentReply { percent: Some(percent), ..AgentReply::default() };
    let standing = |standing| AgentReply { standing: Some(standing), ..AgentReply::default() };
    says(&mut world, "a", percent(50));
    assert_eq!(world.shares(100), BTreeMap::from([('a', 20), ('b', 40), ('c', 40)]));
    assert_eq!(world.state("a").1, "check passed; its agent: 50 % of the weight");
    says(&mut world, "b", percent(50));
    says(&mut world, "c", percent(50));
    assert_eq!(world.shares(99), BTreeMap::from([('a', 33), ('b', 33), ('c', 33)]));
    says(&mut world, "a", percent(0));
    says(&mut world, "c", percent(200));
    assert_eq!(world.shares(100), BTreeMap::from([('b', 20), ('c', 80)]));
    for id in ["a", "b", "c"] {
        says(&mut world, id, percent(100));
    }

    says(&mut world, "b", standing(AgentStanding::Down("down: disk is full".into())));
    let down = (EndpointState::Unhealthy, "its agent: down: disk is full".to_owned());
    assert_eq!((world.eligible().as_str(), world.state("b")), ("ac", down.clone()));
    world.pass(20 * SECOND);
    assert_eq!(world.state("b"), down, "good checks change nothing about it");
    says(&mut world, "b", AgentReply::default());
    assert_eq!(world.state("b"), down, "nor does an agent that says nothing of it");
    says(&mut world, "b", standing(AgentStanding::Up));
    assert_eq!(world.eligible(), "abc");
    says(&mut world, "nobody", percent(5));

    let utilization = Some(Utilization { cpu: Some(830), ..Utilization::default() });
    says(&mut world, "a", AgentReply { utilization, ..AgentReply::default() });
    let told = world.service.status().endpoints.remove(0).utilization.unwrap();
    assert_eq!(told.cpu, Some(0.83));

    says(&mut world, "a", standing(AgentStanding::Down("maint".into())));
    says(&mut world, "b", percent(1));
    world.service.update(&ServiceSpec { health: HealthSpec::default(), ..spec }, world.now);
    assert_eq!(world.eligible(), "abc", "without an agent its word is void");
    assert_eq!(world.shares(99), BTreeMap::from([('a', 33), ('b', 33), ('c', 33)]));
}
