//! What is in flight at the same time.

use model::spec::{ConcurrencySpec, HedgeAfter, HedgeSpec, QueueSpec, ServiceLimitSpec};
use model::{Instant, Outcome, Report};

use super::*;
use crate::Acquired;

pub(super) fn limited(ids: &str, limits: ServiceLimitSpec) -> World {
    let off = HealthSpec { kind: HealthKind::Off, ..HealthSpec::default() };
    World::new(&ServiceSpec { limits, health: off, ..spec(letters(ids)) })
}

pub(super) fn fixed(most: u32) -> ServiceLimitSpec {
    let concurrency = Some(ConcurrencySpec::Fixed(most));
    ServiceLimitSpec { concurrency, ..ServiceLimitSpec::default() }
}

impl World {
    pub(super) fn spec(&self) -> ServiceSpec {
        (**self.service.settings()).clone()
    }
}

fn ids(picks: &[Pick]) -> String {
    let mut ids: Vec<&str> = picks.iter().map(|pick| pick.endpoint().id.as_str()).collect();
    ids.sort_unstable();
    ids.concat()
}

#[test]
fn a_full_endpoint_is_not_chosen_while_another_has_room() {
    for policy in balance::infos() {
        let mut world = limited("abc", fixed(2));
        let mut spec = world.spec();
        spec.policy.name = policy.name.into();
        world.service.update(&spec, world.now);
        let picks: Vec<Pick> = (0..6).filter_map(|_| world.pick_but(&[])).collect();
        assert_eq!(ids(&picks), "aabbcc", "{}", policy.name);
        assert!(world.pick_but(&[]).is_none(), "{}", policy.name);
        let status = world.service.status();
        assert_eq!((status.queue.rejected.concurrency, status.unavailable), (1, 0));
        assert_eq!(status.endpoints[0].limit, Some(2));
        drop(picks);
        assert_eq!(world.picks(1).len(), 1);
    }
}

#[test]
fn weightless_endpoints_and_those_that_were_tried_are_left_alone() {
    let mut world = limited("abc", fixed(1));
    world.service.set_weight("c", Some(Weight(0)), world.now).unwrap();
    let a = world.service.endpoint("a").unwrap().key;
    let b = world.service.endpoint("b").unwrap().key;
    let first = world.pick_but(&[a]).unwrap();
    assert_eq!(first.endpoint().id.as_str(), "b");
    assert!(world.pick_but(&[a]).is_none(), "b is full, c is of no weight, and a was tried");
    let last = world.pick_but(&[a, b]).unwrap();
    assert_eq!(last.endpoint().id.as_str(), "a", "there is no other");
    assert!(world.pick_but(&[]).is_none());
}

#[test]
fn the_service_has_limits_of_its_own() {
    let limits = ServiceLimitSpec { requests: Some(3), retries: Some(1), concurrency: None };
    let mut world = limited("ab", limits);
    let a = world.service.endpoint("a").unwrap().key;
    let first = world.pick_but(&[]).unwrap();
    assert!(world.service.admit_retry(world.now));
    let retry = world.pick_but(&[a]).unwrap();
    assert!(!world.service.admit_retry(world.now));
    assert!(world.pick_but(&[a]).is_none(), "one retry at the same time");
    let third = world.pick_but(&[]).unwrap();
    assert!(world.pick_but(&[]).is_none(), "three requests at the same time");
    let queue = world.service.status().queue;
    assert_eq!((queue.rejected.requests, queue.rejected.retries), (1, 2));
    assert_eq!(world.service.status().retries_denied, 1);
    drop((first, retry));
    assert!(world.service.admit_retry(world.now));
    let more = [world.pick_but(&[a]), world.pick_but(&[])];
    assert!(more.iter().all(Option::is_some));
    assert!(world.pick_but(&[]).is_none());
    drop((third, more));

    // Taken back while some are under way, all still ends in order.
    let open = world.pick_but(&[]).unwrap();
    let mut spec = world.spec();
    spec.limits = ServiceLimitSpec::default();
    world.service.update(&spec, world.now);
    let uncounted: Vec<Pick> = (0..10).filter_map(|_| world.pick_but(&[])).collect();
    assert_eq!(uncounted.len(), 10);
    spec.limits = limits;
    world.service.update(&spec, world.now);
    drop((open, uncounted));
    let again: Vec<Pick> = (0..10).filter_map(|_| world.pick_but(&[])).collect();
    assert_eq!(again.len(), 3);
}

#[test]
fn limits_can_be_changed_in_place() {
    let mut world = limited("a", fixed(1));
    let first = world.pick_but(&[]).unwrap();
    assert!(world.pick_but(&[]).is_none());
    let mut spec = world.spec();
    spec.limits = fixed(2);
    world.service.update(&spec, world.now);
    let second = world.pick_but(&[]).unwrap();
    spec.limits = fixed(1);
    world.service.update(&spec, world.now);
    drop(first);
    assert!(world.pick_but(&[]).is_none(), "there is still one");
    drop(second);
    assert!(world.pick_but(&[]).is_some());
}

/// As `control/learn.rs` says of the figures; here, that they arrive.
#[test]
fn a_limit_is_learnt_from_what_is_reported() {
    let concurrency = Some(ConcurrencySpec::LEARNT);
    let mut world = limited("a", ServiceLimitSpec { concurrency, ..ServiceLimitSpec::default() });
    let limit = |world: &World| world.service.status().endpoints[0].limit.unwrap();
    assert_eq!(limit(&world), 4);
    let mut busy = |takes: Duration, rounds: usize| {
        for _ in 0..rounds {
            for _ in 0..5 {
                let picks: Vec<Pick> = std::iter::from_fn(|| world.pick_but(&[])).collect();
                for pick in picks {
                    let report = Report::new(world.now, Outcome::Success).after(Some(takes));
                    pick.report(&report);
                }
            }
            world.pass(Duration::from_millis(250));
        }
        limit(&world)
    };
    let well = busy(Duration::from_millis(10), 40);
    assert!(well > 100, "{well}");
    let slow = busy(Duration::from_millis(200), 80);
    assert!(slow < 10, "{slow}");
    let mut spec = world.spec();
    spec.limits.concurrency = Some(ConcurrencySpec::Learnt { min: 20, max: 30 });
    world.service.update(&spec, world.now);
    assert_eq!(limit(&world), 20);
    assert!(world.service.poll_timeout().is_some());
    spec.limits.concurrency = None;
    world.service.update(&spec, world.now);
    assert_eq!(world.service.status().endpoints[0].limit, None);
    world.service.close(Instant::FAR_FUTURE);
    assert_eq!(world.service.poll_timeout(), None);
}

#[test]
fn a_hedge_takes_room_that_is_there_and_never_waits() {
    let mut world = limited("ab", fixed(1));
    let hedge = Some(HedgeSpec { after: HedgeAfter::Fixed(Duration::from_millis(1)), budget: 1.0 });
    let spec = ServiceSpec { hedge, queue: Some(QueueSpec::default()), ..world.spec() };
    world.service.update(&spec, world.now);
    let first = world.pick_but(&[]).unwrap();
    let tried = [first.endpoint().key];
    let request = Request { now: world.now, key: None, exclude: &tried };
    let second = world.service.hedge(&request, &mut world.rng).expect("the other has room");
    assert_ne!(second.endpoint().key, tried[0]);
    assert!(world.service.hedge(&request, &mut world.rng).is_none(), "both are full");
    assert_eq!((world.service.queued(), world.service.status().hedges), (0, 1));
    let Acquired::Waits(waiting) = world.service.acquire(&request, 5, &mut world.rng) else {
        panic!("both are full");
    };
    drop(second);
    assert!(world.service.hedge(&request, &mut world.rng).is_none(), "it goes to who waits");
    drop(waiting);
    drop(first);
    assert!(world.service.eligible().iter().all(|endpoint| endpoint.in_flight() == 0));
}
