//! Where the requests of a session go.

use model::spec::AffinitySpec;
use model::{Instant, Outcome, Report};

use super::*;

/// With affinity: all of these, proven.
fn sticky(ids: &str) -> World {
    let affinity = Some(AffinitySpec::new("KEEL"));
    let mut world = World::new(&ServiceSpec { affinity, ..spec(letters(ids)) });
    world.check();
    world
}

impl World {
    /// Where a request of a session that began at `id` goes on, if it does.
    fn resume_but(&mut self, id: &str, exclude: &[u64]) -> Option<String> {
        let token = self.service.settings().sessions()?.token(&id.into());
        let pick = self.service.resume(token, &Request { now: self.now, key: None, exclude })?;
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
    assert!(plain.service.resume(token, &request).is_none());
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
    let changed = AffinitySpec { secret, ..AffinitySpec::new("KEEL") };
    world.service.update(&spec(Some(changed)), world.now);
    assert_eq!(world.resume("a").as_deref(), Some("a"));
    let request = Request { now: world.now, key: None, exclude: &[] };
    assert!(world.service.resume(old, &request).is_none(), "the secret changed");
}
