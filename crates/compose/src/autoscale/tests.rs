//! Loads on a virtual clock: replicas follow, within bounds, and do not flap.

use super::*;

/// A service whose replicas take a while to start, under a load of requests in flight. One step
/// is half a second.
struct World {
    controller: Controller,
    now: Instant,
    replicas: usize,
    /// When the replicas that were asked for will run.
    starting: Vec<Instant>,
    changes: Vec<(u64, usize, String)>,
}

const STEP: Duration = Duration::from_millis(500);
const START: Duration = Duration::from_secs(2);

impl World {
    fn new(settings: Settings) -> Self {
        let controller = Controller::new(settings);
        Self {
            controller,
            now: Instant::ZERO,
            replicas: 1,
            starting: Vec::new(),
            changes: Vec::new(),
        }
    }

    fn run(&mut self, steps: usize, load: impl Fn(usize) -> f64) {
        for step in 0..steps {
            self.now += STEP;
            let now = self.now;
            let ready = self.starting.iter().filter(|at| **at <= now).count();
            self.starting.retain(|at| *at > now);
            self.replicas += ready;
            let replicas = self.replicas + self.starting.len();
            let sample = Sample { replicas, in_flight: load(step), ..Sample::default() };
            if let Some(decision) = self.controller.sample(now, sample) {
                let seconds = now.as_nanos() / 1_000_000_000;
                self.changes.push((seconds, decision.replicas, decision.reason));
                while self.replicas + self.starting.len() < decision.replicas {
                    self.starting.push(now + START);
                }
                let surplus = (self.replicas + self.starting.len()) - decision.replicas;
                self.replicas -= surplus.min(self.replicas);
            }
        }
    }

    fn counts(&self) -> Vec<usize> {
        self.changes.iter().map(|(_, count, _)| *count).collect()
    }
}

fn settings() -> Settings {
    Settings {
        max: 8,
        in_flight: Some(10.0),
        down_after: Duration::from_secs(20),
        ..Settings::default()
    }
}

#[test]
fn a_step_up_and_down_is_followed_once_each() {
    let mut world = World::new(settings());
    world.run(60, |_| 8.0);
    assert_eq!(world.counts(), [0; 0], "one replica is enough");
    world.run(120, |_| 55.0);
    assert_eq!(world.counts(), [6]);
    let (at, _, reason) = &world.changes[0];
    assert!((33..36).contains(at) && reason.contains("target 10"), "{:?}", world.changes);
    world.run(120, |_| 12.0);
    assert_eq!(world.counts(), [6, 2]);
}

#[test]
fn a_short_peak_and_a_saw_tooth_change_nothing_or_little() {
    let mut world = World::new(settings());
    // Two seconds of much load are less than `up_after`.
    world.run(60, |step| if (20..24).contains(&step) { 70.0 } else { 5.0 });
    assert_eq!(world.counts(), [0; 0]);
    // Up and down every five seconds: once up, and never down while it keeps coming back.
    world.run(400, |step| if step % 20 < 10 { 45.0 } else { 5.0 });
    assert_eq!(world.counts(), [5], "{:?}", world.changes);
}

#[test]
fn bounds_hold_and_a_ramp_is_followed() {
    let mut world = World::new(Settings { min: 2, ..settings() });
    world.run(4, |_| 0.0);
    assert_eq!(world.counts(), [2], "as many as `min`");
    world.run(400, |step| step as f64);
    assert_eq!(world.replicas, 8, "and never more than `max`");
    assert!(world.counts().windows(2).all(|pair| pair[0] < pair[1]), "{:?}", world.counts());
    world.run(400, |_| 0.0);
    assert_eq!(world.replicas, 2);
}

#[test]
fn the_hungrier_of_two_targets_decides() {
    let settings = Settings { cpu: Some(0.5), up_after: Duration::ZERO, ..settings() };
    let mut controller = Controller::new(settings);
    let sample =
        |in_flight, cpu| Sample { replicas: 2, in_flight, cpu: Some(cpu), ..Sample::default() };
    let decision = controller.sample(Instant::ZERO, sample(20.0, 0.9)).unwrap();
    assert_eq!(decision.replicas, 4);
    assert!(decision.reason.contains("90% of a processor"), "{}", decision.reason);
    // Within a tenth of the target nothing changes.
    assert_eq!(controller.sample(Instant::ZERO + STEP, sample(21.0, 0.52)), None);
}

#[test]
fn no_load_makes_it_leave_its_bounds() {
    let mut rng = model::Rng::from_seed(3);
    let mut world = World::new(Settings { min: 2, max: 5, ..settings() });
    world.run(8, |_| 0.0);
    for _ in 0..200 {
        let load = rng.below(500) as f64;
        world.run(1 + rng.below(50) as usize, |_| load);
        assert!((2..=5).contains(&(world.replicas + world.starting.len())));
    }
}

#[test]
fn waiting_asks_for_up_to_twice_as_many_and_none_for_one_fewer() {
    let zero = Duration::ZERO;
    let settings = Settings {
        queue_time: Some(Duration::from_millis(50)),
        up_after: zero,
        down_after: zero,
        max: 9,
        ..Settings::default()
    };
    for (waited, expected) in [(0, Some(3)), (20, None), (50, None), (70, Some(6)), (900, Some(8))]
    {
        let mut controller = Controller::new(settings.clone());
        let queue_time = Duration::from_millis(waited);
        let sample = Sample { replicas: 4, queue_time, ..Sample::default() };
        let decision = controller.sample(Instant::ZERO, sample);
        assert_eq!(decision.map(|d| d.replicas), expected, "{waited} ms");
    }
}

/// A service that may sleep: what was decided at which tenth of a second, with what is held and what
/// came so far.
fn nights(settings: Settings, story: &[(usize, usize, u64)]) -> Vec<(usize, usize, String)> {
    let mut controller = Controller::new(settings);
    let mut decisions = Vec::new();
    for (at, &(replicas, held, activity)) in story.iter().enumerate() {
        let now = Instant::ZERO + Duration::from_millis(100) * at as u32;
        let sample = Sample { replicas, held, activity, busy: held > 0, ..Sample::default() };
        if let Some(decision) = controller.sample(now, sample) {
            decisions.push((at, decision.replicas, decision.reason));
        }
    }
    decisions
}

fn sleeper() -> Settings {
    Settings { min: 0, max: 3, idle: Duration::from_millis(300), ..Settings::default() }
}

#[test]
fn idleness_takes_away_all_and_the_first_who_waits_brings_one_back() {
    let quiet = [(2, 0, 7); 4];
    let expected = (3, 0, "idle for 300ms".to_owned());
    assert_eq!(nights(sleeper(), &quiet), [expected]);
    // What came in between is seen, though nothing is in flight at any look.
    let visited = [(2, 0, 7), (2, 0, 7), (2, 0, 8), (2, 0, 8), (2, 0, 8), (2, 0, 9)];
    assert_eq!(nights(sleeper(), &visited), []);
    let asked = [(0, 0, 7), (0, 0, 7), (0, 3, 7), (1, 0, 10)];
    assert_eq!(nights(sleeper(), &asked), [(2, 1, "3 requests wait".to_owned())]);
    assert_eq!(nights(sleeper(), &[(0, 1, 0)])[0].2, "1 request waits");
}

#[test]
fn low_load_leaves_the_last_one_to_idleness() {
    let zero = Duration::ZERO;
    let settings =
        Settings { in_flight: Some(10.0), up_after: zero, down_after: zero, ..sleeper() };
    let mut controller = Controller::new(settings);
    // Something comes between any two looks.
    for at in 0..50 {
        let replicas = if at == 0 { 3 } else { 1 };
        let sample = Sample { replicas, activity: at, ..Sample::default() };
        let decision = controller.sample(Instant::ZERO + STEP * at as u32, sample);
        assert_eq!(decision.map(|decision| decision.replicas), (at == 0).then_some(1));
    }
}

#[test]
fn one_that_cannot_be_woken_is_tried_ever_more_slowly() {
    let mut controller = Controller::new(sleeper());
    let sample = Sample { held: 1, busy: true, ..Sample::default() };
    let tries = |controller: &mut Controller, seconds: u64| {
        let mut tries = Vec::new();
        for tenth in 0..seconds * 10 {
            let now = Instant::ZERO + Duration::from_millis(100) * tenth as u32;
            if controller.sample(now, sample).is_some() {
                controller.woke_in_vain(now);
                tries.push(tenth / 10);
            }
        }
        tries
    };
    assert_eq!(tries(&mut controller, 120), [0, 1, 3, 7, 15, 31, 61, 91]);
    controller.woke();
    assert_eq!(tries(&mut controller, 4), [0, 1, 3]);
}
