//! Where the requests of a session go.

use model::spec::{AffinitySpec, InsertedCookie, SessionTableSpec};
use model::{Instant, Outcome, Report};

use super::*;

/// With affinity: all of these, proven.
fn sticky(ids: &str) -> World {
    by(AffinitySpec::cookie("KEEL"), ids)
}

fn by(affinity: AffinitySpec, ids: &str) -> World {
    let affinity = Some(affinity);
    let mut world = World::new(&ServiceSpec { affinity, ..spec(letters(ids)) });
    world.check();
    world
}

impl World {
    /// Where a request of a session that began at `id` goes on, if it does.
    fn resume_but(&mut self, id: &str, exclude: &[u64]) -> Option<String> {
        let token = self.service.settings().sessions()?.token(&id.into());
        let request = Request { now: self.now, key: None, exclude };
        let pick = self.service.resume(token.into(), &request)?;
        let id = pick.endpoint().id.to_string();
        pick.report(&Report::new(Instant::ZERO, Outcome::Success));
        Some(id)
    }

    fn resume(&mut self, id: &str) -> Option<String> {
        self.resume_but(id, &[])
    }
}

#[test]
fn sessions_go_on_where_they_began() {
    let mut world = sticky("abc");
    for id in ["a", "b", "c", "a"] {
        assert_eq!(world.resume(id).as_deref(), Some(id));
    }
    let a = world.service.endpoint("a").unwrap();
    assert_eq!((a.load.picks(), a.in_flight()), (2, 0));
    assert_eq!(world.resume_but("a", &[a.key]), None, "tried already");
    assert_eq!(world.resume("x"), None);
    // Without affinity nobody asks, and nothing is found.
    let token = world.service.settings().sessions().unwrap().token(&"a".into());
    let plain = World::with("abc");
    assert!(plain.service.settings().sessions().is_none());
    let request = Request { now: plain.now, key: None, exclude: &[] };
    assert!(plain.service.resume(token.into(), &request).is_none());
}

#[test]
fn a_drained_endpoint_keeps_its_sessions_until_its_grace_is_over() {
    let mut world = sticky("abc");
    world.service.drain("a", world.now).unwrap();
    assert!(!world.picks(20).contains('a'), "nothing new");
    assert_eq!(world.resume("a").as_deref(), Some("a"));
    world.pass(SECOND * 30 - Duration::from_nanos(1));
    assert_eq!(world.resume("a").as_deref(), Some("a"));
    world.pass(Duration::from_nanos(1));
    assert_eq!(world.resume("a"), None, "the grace is over");
    world.service.undrain("a", world.now).unwrap();
    assert_eq!(world.resume("a").as_deref(), Some("a"));
    // Again drained, it fails: its sessions go at once.
    world.service.drain("a", world.now).unwrap();
    world.down = vec!["a"];
    world.pass(SECOND * 10);
    assert_eq!(world.resume("a"), None);
}

#[test]
fn what_is_removed_or_about_to_end_keeps_no_session() {
    let mut world = sticky("abc");
    world.service.drain("a", world.now).unwrap();
    let a = world.service.endpoint("a").unwrap();
    assert!(a.takes_sessions(world.now));
    world.service.set_endpoints(letters("bc"), world.now);
    assert!(!a.takes_sessions(world.now));
    assert_eq!(world.resume("a"), None);
    world.service.retire("b", world.now).unwrap();
    assert_eq!(world.resume("b"), None);
    world.service.drain("b", world.now).unwrap();
    assert_eq!(world.resume("b"), None, "it ends all the same");
    world.service.drain("c", world.now).unwrap();
    assert_eq!(world.resume("c").as_deref(), Some("c"), "even if nothing takes new ones");
    world.service.retire("c", world.now).unwrap();
    assert_eq!(world.resume("c"), None);
}

#[test]
fn sessions_outlast_a_change_of_priority_and_weight() {
    let mut world = sticky("ab");
    let mut endpoints = letters("ab");
    endpoints[1].priority = 1;
    endpoints[0].weight = Weight(0);
    world.service.set_endpoints(endpoints, world.now);
    assert_eq!(world.eligible(), "a");
    assert_eq!(world.resume("b").as_deref(), Some("b"), "not moved when a better one is back");
    world.down = vec!["b"];
    world.pass(SECOND * 10);
    assert_eq!(world.resume("b"), None);
}

#[test]
fn affinity_can_be_changed_in_place() {
    let mut world = sticky("ab");
    let spec = |affinity| ServiceSpec { affinity, ..spec(letters("ab")) };
    let old = world.service.settings().sessions().unwrap().token(&"a".into());
    world.service.update(&spec(None), world.now);
    assert_eq!(world.resume("a"), None);
    let secret = Some("another".to_owned());
    let changed = AffinitySpec::Insert(InsertedCookie { secret, ..InsertedCookie::new("KEEL") });
    world.service.update(&spec(Some(changed)), world.now);
    assert_eq!(world.resume("a").as_deref(), Some("a"));
    let request = Request { now: world.now, key: None, exclude: &[] };
    assert!(world.service.resume(old.into(), &request).is_none(), "the secret changed");
}

// What the table remembers.

/// How a request ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Served,
    Failed,
}
use End::{Failed, Served};

fn header() -> AffinitySpec {
    AffinitySpec::Header { name: "x-user".into(), table: SessionTableSpec::default() }
}

fn rewritten() -> AffinitySpec {
    let table = SessionTableSpec::default();
    AffinitySpec::Rewrite { name: "SID".into(), secret: None, table }
}

impl World {
    /// As the data plane does it: resume or pick, claim, learn. `end` says how it goes at an
    /// endpoint; the answer is where it ended, and every place where it was tried.
    fn serve(&mut self, value: &str, end: impl Fn(&str) -> End) -> (Option<String>, String) {
        let (mut tried, mut places) = (Vec::new(), String::new());
        let session = self.service.settings().sessions().unwrap().of_value(value.as_bytes());
        for _ in 0..3 {
            let request = Request { now: self.now, key: None, exclude: &tried };
            let resumed = session.and_then(|session| self.service.resume(session, &request));
            let pick = resumed.or_else(|| self.service.pick(&request, &mut self.rng));
            let Some(pick) = pick else { break };
            let endpoint = pick.endpoint().clone();
            let _claim =
                session.and_then(|session| self.service.claim(session, &endpoint, &request));
            places.push_str(endpoint.id.as_str());
            if end(endpoint.id.as_str()) == Served {
                if let Some(session) = session {
                    self.service.learn(session, &endpoint, &request);
                }
                pick.report(&Report::new(self.now, Outcome::Success));
                return (Some(endpoint.id.to_string()), places);
            }
            pick.report(&Report::new(self.now, Outcome::ServerError));
            tried.push(endpoint.key);
        }
        (None, places)
    }

    fn ask(&mut self, value: &str) -> String {
        self.serve(value, |_| Served).0.unwrap()
    }

    /// Where each of so many users is, who ask once.
    fn homes(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|user| self.ask(&format!("user {user}"))).collect()
    }

    fn entries(&self) -> usize {
        self.service.session_status(self.now).unwrap().entries
    }
}

/// Each kind that remembers a value.
fn remembering() -> [AffinitySpec; 3] {
    let table = SessionTableSpec::default();
    [header(), AffinitySpec::Learn { name: "SID".into(), table }, rewritten()]
}

#[test]
fn remembered_sessions_stay_when_endpoints_are_added() {
    for spec in remembering() {
        let mut world = by(spec, "abc");
        let homes = world.homes(30);
        for id in ["a", "b", "c"] {
            assert_eq!(homes.iter().filter(|home| *home == id).count(), 10, "the policy decides");
        }
        world.service.set_endpoints(letters("abcdef"), world.now);
        world.check();
        assert_eq!(world.eligible(), "abcdef");
        assert_eq!(world.homes(30), homes);
        let new: Vec<String> = (0..12).map(|user| world.ask(&format!("new {user}"))).collect();
        assert!(["d", "e", "f"].iter().all(|id| new.iter().any(|home| home == id)));
        assert_eq!(world.entries(), 42);
    }
}

#[test]
fn remembered_sessions_of_a_dead_endpoint_move_once_and_stay_moved() {
    for spec in remembering() {
        let mut world = by(spec, "abc");
        let homes = world.homes(30);
        world.down = vec!["b"];
        world.pass(SECOND * 10);
        let moved = world.homes(30);
        for (before, after) in homes.iter().zip(&moved) {
            assert!(after != "b" && (before == after || before == "b"), "{before} {after}");
        }
        assert_eq!(world.homes(30), moved);
        world.down.clear();
        world.pass(SECOND * 10);
        assert_eq!(world.eligible(), "abc");
        assert_eq!(world.homes(30), moved, "also when it is back");
        assert!((0..6).any(|user| world.ask(&format!("new {user}")) == "b"));
    }
}

#[test]
fn remembered_sessions_stay_at_a_drained_endpoint_until_its_grace_is_over() {
    for spec in remembering() {
        let mut world = by(spec, "abc");
        let homes = world.homes(30);
        world.service.drain("a", world.now).unwrap();
        assert_eq!(world.homes(30), homes);
        assert!((0..20).all(|user| world.ask(&format!("new {user}")) != "a"));
        world.pass(SECOND * 30);
        let moved = world.homes(30);
        for (before, after) in homes.iter().zip(&moved) {
            assert!(after != "a" && (before == after || before == "a"));
        }
        world.service.undrain("a", world.now).unwrap();
        assert_eq!(world.homes(30), moved);
    }
}

#[test]
fn a_session_moves_to_where_its_request_was_served() {
    for spec in remembering() {
        let mut world = by(spec, "abc");
        let home = world.ask("u");
        let (now, places) = world.serve("u", |id| if id == home { Failed } else { Served });
        let now = now.unwrap();
        assert_eq!(places, format!("{home}{now}"));
        assert_ne!(now, home);
        for _ in 0..6 {
            assert_eq!(world.ask("u"), now);
        }
        // Where nothing serves it, it stays where it was.
        let (none, places) = world.serve("u", |_| Failed);
        assert_eq!((none, places.len()), (None, 3));
        assert!(places.starts_with(&now));
        assert_eq!(world.ask("u"), now);
    }
}

#[test]
fn no_session_begins_where_nothing_was_served() {
    for spec in remembering() {
        let mut world = by(spec, "abc");
        assert_eq!(world.serve("u", |_| Failed).0, None);
        assert_eq!(world.entries(), 0);
        // Nor where a dead endpoint's session failed to move to.
        let home = world.ask("u");
        world.down = vec![["a", "b", "c"].into_iter().find(|id| *id == home).unwrap()];
        world.pass(SECOND * 10);
        assert_eq!(world.serve("u", |_| Failed).0, None);
        assert_eq!(world.entries(), 0);
        assert_ne!(world.ask("u"), home);
    }
}

/// The requests of one page come together, each finding no session.
#[test]
fn requests_that_come_together_begin_one_session() {
    for spec in remembering() {
        let world = &mut by(spec, "abc");
        let session = world.service.settings().sessions().unwrap().of_value(b"u").unwrap();
        let request = Request { now: world.now, key: None, exclude: &[] };
        let first = world.service.pick(&request, &mut world.rng).unwrap();
        let claim = world.service.claim(session, first.endpoint(), &request);
        assert!(claim.is_some());
        let second = world.service.resume(session, &request).expect("while the first is under way");
        assert_eq!(second.endpoint().key, first.endpoint().key);
        assert!(world.service.claim(session, second.endpoint(), &request).is_none());
        // A third had picked before the first claimed: it is served, and moves nothing.
        let third = world.service.pick(&request, &mut world.rng).unwrap();
        assert_ne!(third.endpoint().key, first.endpoint().key);
        assert!(world.service.claim(session, third.endpoint(), &request).is_none());
        world.service.learn(session, third.endpoint(), &request);
        world.service.learn(session, second.endpoint(), &request);
        drop(claim);
        assert_eq!(world.ask("u"), second.endpoint().id.as_str());
    }
}

#[test]
fn remembered_sessions_end_when_they_are_not_used() {
    let ttl = SECOND * 60;
    let table = SessionTableSpec { ttl, ..SessionTableSpec::default() };
    let mut world = by(AffinitySpec::Header { name: "x".into(), table }, "abc");
    let home = world.ask("u");
    for _ in 0..4 {
        world.pass(ttl);
        assert_eq!(world.ask("u"), home);
    }
    world.pass(ttl + SECOND);
    assert_eq!(world.entries(), 0);
    // One of three may be the same by chance.
    let homes: Vec<String> = (0..3)
        .map(|_| {
            world.pass(ttl + SECOND);
            world.ask("u")
        })
        .collect();
    assert!(homes.iter().any(|home| *home != homes[0]));
}

#[test]
fn of_endpoints_with_another_id_nothing_is_remembered() {
    let mut world = by(header(), "ab");
    let homes = world.homes(10);
    // The same ids at other addresses go on; that is a restart.
    let elsewhere = || vec![endpoint("a", 101), endpoint("b", 102)];
    world.service.set_endpoints(elsewhere(), world.now);
    world.check();
    assert_eq!(world.homes(10), homes);
    world.service.set_endpoints(vec![endpoint("a", 101), endpoint("x", 102)], world.now);
    world.check();
    for (before, after) in homes.iter().zip(world.homes(10)) {
        assert!(if before == "a" { after == "a" } else { after != "b" });
    }
}

#[test]
fn a_rewritten_cookie_names_the_endpoint_until_that_is_not_true() {
    let mut world = by(rewritten(), "abc");
    let named = |world: &World, id: &str| {
        let digits = world.service.settings().sessions().unwrap().token(&id.into()).digits();
        format!("{}~abc", str::from_utf8(&digits).unwrap())
    };
    let (to_b, to_x) = (named(&world, "b"), named(&world, "x"));
    for _ in 0..4 {
        assert_eq!(world.ask(&to_b), "b");
    }
    assert_eq!(world.entries(), 0, "the cookie says it all");
    world.down = vec!["b"];
    world.pass(SECOND * 10);
    let moved = world.ask(&to_b);
    assert_ne!(moved, "b");
    assert_eq!(world.entries(), 1);
    world.down.clear();
    world.pass(SECOND * 10);
    // The client still has the cookie of before.
    for value in [&to_b, "abc", &to_b] {
        assert_eq!(world.ask(value), moved);
    }
    // Of an endpoint that there is no more, and that never was.
    let new = to_x.replace("abc", "other");
    let home = world.ask(&new);
    assert_eq!(world.ask(&new), home);
}

#[test]
fn a_changed_table_begins_empty_and_the_same_goes_on() {
    let mut world = by(header(), "abc");
    let homes = world.homes(10);
    let spec = |affinity| ServiceSpec {
        affinity: Some(affinity),
        drain_grace: SECOND,
        ..spec(letters("abc"))
    };
    world.service.update(&spec(header()), world.now);
    assert_eq!((world.homes(10), world.entries()), (homes, 10));
    let table = SessionTableSpec { max: 10, ..SessionTableSpec::default() };
    let small = AffinitySpec::Header { name: "x-user".into(), table };
    world.service.update(&spec(small), world.now);
    assert_eq!(world.entries(), 0);
    world.homes(10);
    assert_eq!(world.service.session_status(world.now).unwrap().max, 10);
    world.service.update(&spec(AffinitySpec::cookie("K")), world.now);
    assert_eq!(world.service.session_status(world.now), None);
}
