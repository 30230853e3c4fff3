use super::*;

fn spec(interval_ms: u64) -> HealthSpec {
    HealthSpec { interval: Duration::from_millis(interval_ms), ..HealthSpec::default() }
}

fn ms(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

/// A checker with a clock, and an endpoint behind it that the test switches.
struct World {
    checker: Checker,
    rng: Rng,
    now: Instant,
}

impl World {
    fn new(spec: HealthSpec) -> Self {
        Self {
            checker: Checker::new(Arc::new(spec), ms(1000), 0),
            rng: Rng::from_seed(1),
            now: ms(1000),
        }
    }

    /// Waits for the next check and gives it this result; answers how long the wait was.
    fn check(&mut self, result: Result<(), &str>) -> (Duration, Option<Transition>) {
        let due = self.checker.poll_timeout();
        let waited = due.since(self.now);
        self.now = self.now.max(due);
        let start = self.checker.handle_timeout(self.now).expect("a check is due");
        let result = result.map_err(str::to_owned);
        let rng = &mut self.rng;
        (waited, self.checker.handle_result(self.now, start.generation, result, rng))
    }

    /// As [`World::check`], and asserts the state and the reason after it.
    fn expect(&mut self, result: Result<(), &str>, state: State, reason: &str) {
        self.check(result);
        assert_eq!(self.checker.state(), state);
        assert_eq!(self.checker.reason().to_string(), reason);
    }
}

const REFUSED: Result<(), &str> = Err("connection refused");

#[test]
fn one_good_check_proves_and_thresholds_count_in_a_row() {
    let mut world = World::new(spec(2000));
    assert_eq!(world.checker.state(), State::Unproven);
    assert_eq!(world.checker.reason().to_string(), "no check yet");
    world.expect(REFUSED, State::Unproven, "check: connection refused (1 in a row)");
    world.expect(Ok(()), State::Healthy, "check passed");
    world.expect(REFUSED, State::Healthy, "check: connection refused (1 in a row)");
    world.expect(REFUSED, State::Healthy, "check: connection refused (2 in a row)");
    world.expect(Ok(()), State::Healthy, "check passed");
    world.expect(REFUSED, State::Healthy, "check: connection refused (1 in a row)");
    world.expect(REFUSED, State::Healthy, "check: connection refused (2 in a row)");
    world.expect(Err("timed out"), State::Unhealthy, "check: timed out (3 in a row)");
    world.expect(Ok(()), State::Unhealthy, "check passed (1 of 2)");
    world.expect(REFUSED, State::Unhealthy, "check: connection refused (1 in a row)");
    world.expect(Ok(()), State::Unhealthy, "check passed (1 of 2)");
    world.expect(Ok(()), State::Healthy, "check passed");
}

#[test]
fn transitions_are_told_once() {
    let mut world = World::new(HealthSpec { unhealthy_after: 1, healthy_after: 1, ..spec(100) });
    let (from, to) = (State::Unproven, State::Healthy);
    assert_eq!(world.check(Ok(())).1, Some(Transition { from, to }));
    assert_eq!(world.check(Ok(())).1, None);
    let (from, to) = (State::Healthy, State::Unhealthy);
    assert_eq!(world.check(REFUSED).1, Some(Transition { from, to }));
    assert_eq!(world.check(REFUSED).1, None);
}

#[test]
fn the_first_check_is_at_once_and_a_starting_replica_is_found_soon() {
    for ready_after in [20, 300, 1000, 5000, 60_000] {
        let mut world = World::new(spec(2000));
        let ready = ms(1000 + ready_after);
        assert_eq!(world.checker.poll_timeout(), world.now);
        let mut checks = 0;
        while world.checker.state() == State::Unproven {
            let up = world.checker.poll_timeout() >= ready;
            world.check(if up { Ok(()) } else { REFUSED });
            checks += 1;
        }
        let late = world.now.since(ready).as_millis() as u64;
        assert!(late <= (ready_after / 3).clamp(60, 2200), "{ready_after}: {late} ms late");
        assert!(checks <= 25 + ready_after / 1800, "{ready_after}: {checks} checks");
    }
}

#[test]
fn later_checks_come_at_the_interval_give_or_take_a_tenth() {
    let mut world = World::new(spec(2000));
    world.check(Ok(()));
    let waits: Vec<u128> = (0..200).map(|_| world.check(Ok(())).0.as_millis()).collect();
    assert!(waits.iter().all(|wait| (1800..=2200).contains(wait)), "{waits:?}");
    assert!(waits.iter().min().unwrap() < &1850 && waits.iter().max().unwrap() > &2150);
}

#[test]
fn the_interval_counts_from_the_start_of_a_check() {
    let mut world = World::new(spec(1000));
    world.check(Ok(()));
    let begun = world.checker.poll_timeout();
    let start = world.checker.handle_timeout(begun).unwrap();
    let ended = begun + Duration::from_millis(600);
    world.checker.handle_result(ended, start.generation, Ok(()), &mut world.rng);
    assert!(world.checker.poll_timeout() <= begun + Duration::from_millis(1100));
    let begun = world.checker.poll_timeout();
    let start = world.checker.handle_timeout(begun).unwrap();
    let ended = begun + Duration::from_millis(4000);
    world.checker.handle_result(ended, start.generation, Ok(()), &mut world.rng);
    assert_eq!(world.checker.poll_timeout(), ended, "long checks follow each other");
}

#[test]
fn one_check_at_a_time_and_late_results_are_ignored() {
    let mut world = World::new(HealthSpec { unhealthy_after: 1, ..spec(100) });
    world.check(Ok(()));
    let begun = world.checker.poll_timeout();
    let first = world.checker.handle_timeout(begun).unwrap();
    assert_eq!(world.checker.handle_timeout(begun + Duration::from_secs(5)), None);
    // The time-out is 5 s: a result that is 2 s later still is lost.
    let lost_at = begun + Duration::from_secs(7);
    assert_eq!(world.checker.poll_timeout(), lost_at);
    let second = world.checker.handle_timeout(lost_at).unwrap();
    assert_ne!(first.generation, second.generation);
    let failed = || Err("connection refused".to_owned());
    let rng = &mut world.rng;
    assert_eq!(world.checker.handle_result(lost_at, first.generation, failed(), rng), None);
    assert!(world.checker.handle_result(lost_at, second.generation, failed(), rng).is_some());
    assert_eq!(world.checker.handle_result(lost_at, second.generation, Ok(()), rng), None);
}

#[test]
fn suspicion_takes_out_at_once_and_checks_bring_back() {
    let mut world = World::new(spec(2000));
    assert_eq!(world.checker.suspect(world.now, 3), None, "unproven ones have no traffic");
    world.check(Ok(()));
    world.now += Duration::from_millis(500);
    assert!(world.checker.suspect(world.now, 3).is_some());
    assert_eq!(world.checker.state(), State::Unhealthy);
    assert_eq!(world.checker.reason().to_string(), "traffic: 3 failures in a row");
    assert_eq!(world.checker.poll_timeout(), world.now, "it is checked at once");
    assert_eq!(world.checker.suspect(world.now, 4), None);
    world.expect(Ok(()), State::Unhealthy, "check passed (1 of 2)");
    world.expect(Ok(()), State::Healthy, "check passed");
}

#[test]
fn suspicion_does_not_make_checks_follow_each_other_without_pause() {
    let mut world = World::new(spec(2000));
    world.check(Ok(()));
    world.checker.check_soon(world.now);
    let first = world.now;
    assert_eq!(world.checker.poll_timeout(), first + SUSPECT_INTERVAL_MIN);
    world.checker.check_soon(world.now);
    assert_eq!(world.checker.poll_timeout(), first + SUSPECT_INTERVAL_MIN);
}

#[test]
fn off_is_always_healthy() {
    let off = HealthSpec { kind: HealthKind::Off, ..spec(2000) };
    let mut world = World::new(off.clone());
    assert_eq!(world.checker.state(), State::Healthy);
    assert_eq!(world.checker.poll_timeout(), Instant::FAR_FUTURE);
    assert_eq!(world.checker.handle_timeout(Instant::FAR_FUTURE), None);
    assert_eq!(world.checker.suspect(world.now, 9), None);

    assert_eq!(world.checker.update(Arc::new(spec(2000)), world.now), None);
    assert_eq!(world.checker.state(), State::Healthy, "healthy until checks fail");
    assert_eq!(world.checker.poll_timeout(), world.now);
    for _ in 0..3 {
        world.check(REFUSED);
    }
    assert_eq!(world.checker.state(), State::Unhealthy);
    assert!(world.checker.update(Arc::new(off), world.now).is_some());
    assert_eq!(world.checker.state(), State::Healthy);
    assert_eq!(world.checker.reason().to_string(), "not checked (health: off)");
}

#[test]
fn update_keeps_the_state_and_takes_the_new_timing() {
    let mut world = World::new(spec(60_000));
    world.check(Ok(()));
    world.check(REFUSED);
    assert_eq!(world.checker.update(Arc::new(spec(500)), world.now), None);
    assert_eq!(world.checker.state(), State::Healthy);
    assert_eq!(world.checker.poll_timeout(), world.now + Duration::from_millis(500));
    world.check(REFUSED);
    world.check(REFUSED);
    assert_eq!(world.checker.state(), State::Unhealthy, "the count went on");

    // Another kind of check: the one under way asks the old question.
    let begun = world.checker.poll_timeout();
    let old = world.checker.handle_timeout(begun).unwrap();
    let other_port = HealthSpec { port: Some(81), ..spec(500) };
    world.checker.update(Arc::new(other_port), begun);
    let rng = &mut world.rng;
    assert_eq!(world.checker.handle_result(begun, old.generation, Ok(()), rng), None);
    assert_eq!(world.checker.reason().to_string(), "check: connection refused (3 in a row)");
    assert!(world.checker.handle_timeout(begun).is_some());
}

#[test]
fn long_errors_are_cut_between_letters() {
    let mut world = World::new(spec(500));
    world.check(Err(&"\u{e4}".repeat(500)));
    assert!(world.checker.reason().to_string().len() <= ERROR_MAX + 30);
}
