//! Sessions that several balancers share: what a store is told, and asked.

use model::spec::{AffinitySpec, SessionStoreSpec, SessionTableSpec};
use model::{Outcome, Report};

use super::*;
use crate::Session;

fn shared(secret: &str) -> AffinitySpec {
    let store = SessionStoreSpec {
        redis: "redis://store".into(),
        tls: model::spec::ClientTlsSpec::default(),
        username: None,
        password: None,
        secret: secret.into(),
        prefix: "evenkeel".into(),
        timeout: Duration::from_millis(50),
    };
    let table =
        SessionTableSpec { ttl: SECOND * 400, store: Some(store), ..SessionTableSpec::default() };
    AffinitySpec::Header { name: "x".into(), table }
}

fn balancer(ids: &str) -> World {
    let affinity = Some(shared("0123456789abcdef"));
    let mut world = World::new(&ServiceSpec { affinity, ..spec(letters(ids)) });
    world.check();
    world.told();
    world
}

impl World {
    fn session_of(&self, user: &str) -> Session {
        self.service.settings().sessions().unwrap().of_value(user.as_bytes()).unwrap()
    }

    /// What a store was told since it was last looked.
    fn told(&self) -> Vec<String> {
        let notes = std::mem::take(&mut *self.recorder.notes.lock().unwrap());
        notes.into_iter().filter_map(|note| Some(note.strip_prefix("told ")?.to_owned())).collect()
    }

    /// A request of this user, which is served; where.
    fn visit(&mut self, user: &str, exclude: &[u64]) -> String {
        let session = self.session_of(user);
        let request = Request { now: self.now, key: None, exclude };
        let pick = self.service.resume(session, &request);
        let pick = pick.or_else(|| self.service.pick(&request, &mut self.rng)).unwrap();
        let claim = self.service.claim(session, pick.endpoint(), &request);
        self.service.learn(session, pick.endpoint(), &request);
        drop(claim);
        let id = pick.endpoint().id.to_string();
        pick.report(&Report::new(self.now, Outcome::Success));
        id
    }
}

#[test]
fn one_balancer_begins_a_session_and_another_goes_on_with_it() {
    let (mut first, mut second) = (balancer("abc"), balancer("abc"));
    let session = first.session_of("u");
    let key = first.service.lost(session, first.now).expect("nobody knows it");
    assert_eq!(second.service.lost(second.session_of("u"), second.now), Some(key));
    let home = first.visit("u", &[]);
    assert_eq!(first.told(), [format!("{key:016x} at {home}")]);
    assert_eq!(first.service.lost(session, first.now), None);
    assert!(second.service.adopt(key, &home, second.now));
    for _ in 0..5 {
        assert_eq!(second.visit("u", &[]), home);
    }
    assert_eq!(second.told(), [""; 0], "what is known is not told again");
    // Another service, or another secret, has another key.
    let other = ServiceSpec { affinity: Some(shared("another secret 123")), ..spec(letters("a")) };
    let mut other = World::new(&other);
    other.check();
    assert_ne!(other.service.lost(other.session_of("u"), other.now), Some(key));
}

#[test]
fn what_is_used_is_told_again_once_in_each_quarter_and_after_the_store_was_away() {
    let mut world = balancer("ab");
    let home = world.visit("u", &[]);
    let at = world.told();
    assert_eq!(at.len(), 1);
    // Every ten seconds for two times its time to live: eight quarters.
    for _ in 0..80 {
        world.pass(SECOND * 10);
        assert_eq!(world.visit("u", &[]), home);
    }
    let told = world.told();
    assert!((8..=9).contains(&told.len()) && told.iter().all(|t| *t == at[0]), "{told:?}");
    world.pass(SECOND * 2);
    world.service.retell_sessions(world.now);
    world.visit("u", &[]);
    assert_eq!(world.told().len(), 1);
    world.pass(SECOND);
    world.visit("u", &[]);
    assert!(world.told().len() <= 1);
}

#[test]
fn what_a_store_says_counts_only_where_the_session_can_go_on() {
    let mut world = balancer("ab");
    let key = world.service.lost(world.session_of("u"), world.now).unwrap();
    assert!(!world.service.adopt(key, "z", world.now), "there is none of that id");
    world.service.retire("b", world.now).unwrap();
    assert!(!world.service.adopt(key, "b", world.now), "it leaves");
    assert!(world.service.adopt(key, "a", world.now));
    assert_eq!(world.visit("u", &[]), "a");
    // Its endpoint gone, it is looked up again before it moves.
    world.service.undrain("b", world.now).unwrap();
    world.service.retire("a", world.now).unwrap();
    assert_eq!(world.service.lost(world.session_of("u"), world.now), Some(key));
    assert_eq!(world.visit("u", &[]), "b");
    assert_eq!(world.told(), [format!("{key:016x} at b")]);
}

#[test]
fn one_that_failed_elsewhere_is_told_as_moved() {
    let mut world = balancer("ab");
    let home = world.visit("u", &[]);
    world.told();
    let failed = world.service.endpoint(&home).unwrap().key;
    let other = world.visit("u", &[failed]);
    assert_ne!(other, home);
    let told = world.told();
    assert!(told.len() == 1 && told[0].ends_with(&format!(" at {other}, moved")), "{told:?}");
}
