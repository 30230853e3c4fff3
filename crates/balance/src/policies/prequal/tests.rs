use model::vocabulary::OptionValue;

use super::*;
use model::Outcome;

const MS: Duration = Duration::from_millis(1);

/// A picker with answers under the test's control.
struct Bench {
    picker: Box<dyn Picker>,
    trackers: Vec<Arc<dyn Tracker>>,
    loads: Vec<Arc<Load>>,
    now: Instant,
    rng: Rng,
}

fn candidates(weights: &[u16]) -> Vec<Candidate> {
    (1u64..)
        .zip(weights)
        .map(|(hash, weight)| Candidate { weight: *weight, zone: None, identity_hash: hash })
        .collect()
}

fn probing(more: &[(&str, OptionValue)]) -> Box<dyn Policy> {
    let mut options = vec![("probe".to_owned(), OptionValue::Text("/load".into()))];
    options.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    ENTRY.build(&options)
}

impl Bench {
    fn new(policy: &dyn Policy, weights: &[u16]) -> Self {
        let mut rng = Rng::from_seed(5);
        let picker = policy.prepare(&candidates(weights), &mut rng);
        let positions = 0..weights.len() as u32;
        let trackers = positions.filter_map(|position| picker.tracker(position)).collect();
        let loads = weights.iter().map(|_| Arc::default()).collect();
        Self { picker, trackers, loads, now: Instant::ZERO + 1000 * MS, rng }
    }

    fn answer(&self, position: usize, in_flight: u32, latency_ms: u32) {
        let latency = MS * latency_ms;
        self.trackers[position].probed(&ProbeAnswer { now: self.now, in_flight, latency });
    }

    fn pick(&mut self, exclude: &[u32]) -> u32 {
        let request = PickRequest { now: self.now, key: None, exclude };
        self.picker.pick(&request, &self.loads, &mut self.rng).unwrap()
    }

    fn asked(&mut self) -> Vec<u32> {
        let mut asked = Vec::new();
        self.picker.ask(self.now, &self.loads, &mut self.rng, &mut |position| asked.push(position));
        asked
    }
}

#[test]
fn the_quickest_cold_one_and_else_the_least_loaded() {
    let mut bench = Bench::new(&*probing(&[]), &[1; 4]);
    // Beyond the quantile of 0.84 of what was seen is only the first.
    for (position, (in_flight, latency)) in
        [(9, 1), (3, 20), (4, 10), (2, 30)].into_iter().enumerate()
    {
        bench.answer(position, in_flight, latency);
    }
    for (position, in_flight) in [(1, 3), (2, 4), (3, 2), (1, 3)] {
        bench.answer(position, in_flight, [1, 20, 10, 30][position]);
    }
    assert_eq!(bench.pick(&[]), 2);
    assert_eq!(bench.pick(&[2]), 1);
    assert_eq!(bench.pick(&[1, 2]), 3);
    // Each use is one more in flight, until it is hot, too.
    let picks: Vec<u32> = (0..12).map(|_| bench.pick(&[])).collect();
    assert!(picks.contains(&1) && picks.contains(&2) && picks.contains(&3), "{picks:?}");
    assert!(!picks.contains(&0), "{picks:?}");
}

#[test]
fn answers_age_and_without_two_of_them_our_own_counters_decide() {
    let mut bench = Bench::new(&*probing(&[]), &[1; 3]);
    for position in [0, 2] {
        (0..5).for_each(|_| bench.loads[position].begin());
    }
    assert!((0..20).all(|_| bench.pick(&[0]) == 1), "no answer: least in flight of two");
    bench.answer(0, 0, 5);
    assert!((0..20).all(|_| bench.pick(&[2]) == 1), "one answer is none");
    bench.answer(2, 0, 50);
    assert_eq!(bench.pick(&[]), 0);
    bench.now += 1001 * MS;
    assert!((0..20).all(|_| bench.pick(&[0]) == 1), "both are too old");
}

#[test]
fn an_answer_is_used_as_often_as_the_paper_says() {
    let settings = Settings::of(Options::new(&ENTRY.info, &[]));
    assert!((reuses(&settings, 100) - 2.0 / (0.84 * 3.0 - 1.0)).abs() < 1e-9);
    assert!(reuses(&settings, 1_000_000) >= 1.0);
    assert_eq!(reuses(&settings, 20), 16.0, "the probes are not enough");
    assert!(reuses(&settings, 16) > 10_000.0, "all are known");
    assert!(reuses(&settings, 0) > 10_000.0);
    let often = Settings { probe_rate: 16.0, ..settings };
    assert_eq!(reuses(&often, 100), 1.0);
}

#[test]
fn probes_are_as_many_as_asked_for_by_weight_and_none_without_a_path() {
    for (rate, low, high) in [(0.5, 400, 600), (3.0, 3000, 3000), (2.25, 2150, 2350)] {
        let policy = probing(&[("probe_rate", OptionValue::Float(rate))]);
        let weights: Vec<u16> = (0..40).map(|index| if index < 20 { 3 } else { 1 }).collect();
        let mut bench = Bench::new(&*policy, &weights);
        let asked: Vec<u32> = (0..1000).flat_map(|_| bench.asked()).collect();
        assert!((low..=high).contains(&asked.len()), "{rate}: {}", asked.len());
        let heavy = asked.iter().filter(|position| **position < 20).count() as f64;
        let share = heavy / asked.len() as f64;
        assert!((0.68..0.82).contains(&share), "{rate}: {share}");
    }
    let mut bench = Bench::new(&*ENTRY.build(&[]), &[1; 40]);
    assert_eq!((0..1000).flat_map(|_| bench.asked()).count(), 0);
}

#[test]
fn one_that_fails_fast_is_no_sink_hole_and_is_tried_again() {
    for text in ["off", "/load"] {
        let probe = vec![("probe".to_owned(), OptionValue::Text(text.into()))];
        let mut bench = Bench::new(&*ENTRY.build(&probe), &[1; 4]);
        let mut broken = [0; 2];
        for round in 0..60_000 {
            bench.now += MS;
            let position = bench.pick(&[]) as usize;
            broken[round / 30_000] += u32::from(position == 0);
            let (outcome, latency) = match position {
                0 if round < 30_000 => (Outcome::ServerError, MS / 10),
                _ => (Outcome::Success, MS * 5),
            };
            let report = Report::new(bench.now, outcome).after(Some(latency));
            bench.trackers[position].report(&report);
            for asked in bench.asked() {
                // Its probes see no error, and are quick.
                bench.answer(asked as usize, 0, if asked == 0 { 1 } else { 5 });
            }
        }
        assert!((4..60).contains(&broken[0]), "{text}: {broken:?}");
        assert!(broken[1] > 3000, "{text}: {broken:?}");
    }
}

#[test]
fn what_is_known_outlives_a_change_of_endpoints() {
    let policy = probing(&[]);
    let mut bench = Bench::new(&*policy, &[1; 4]);
    bench.answer(2, 1, 30);
    bench.answer(3, 1, 40);
    bench.answer(0, 1, 10);
    bench.answer(1, 1, 20);
    // The first one leaves, and the second one weighs nothing any more: 30 ms is the best.
    let after = policy.prepare(&candidates(&[1, 0, 1, 1])[1..], &mut bench.rng);
    bench.picker = after;
    bench.loads.remove(0);
    assert_eq!(bench.pick(&[]), 1);
    assert_eq!(bench.pick(&[1]), 2);
}

/// The pool is shared: whatever workers do to it at the same time, it stays usable.
#[test]
#[allow(clippy::disallowed_methods, reason = "workers are threads")]
fn many_workers_share_a_picker() {
    let policy = probing(&[]);
    let bench = Bench::new(&*policy, &[1; 50]);
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (picker, trackers, loads) = (&bench.picker, &bench.trackers, &bench.loads);
            scope.spawn(move || {
                let mut rng = Rng::from_seed(seed);
                for round in 0..20_000u64 {
                    let now = Instant::from_nanos(round * 1_000_000);
                    let request = PickRequest { now, key: None, exclude: &[] };
                    let position = picker.pick(&request, loads, &mut rng).unwrap();
                    assert!(position < 50);
                    let (in_flight, latency) = (position % 7, MS * (1 + position));
                    picker.ask(now, loads, &mut rng, &mut |asked| {
                        trackers[asked as usize].probed(&ProbeAnswer { now, in_flight, latency });
                    });
                }
            });
        }
    });
}

#[test]
fn weights_hold_among_many_that_are_alike() {
    let weights: Vec<u16> = (0..60).map(|index| [1, 2, 4][index % 3]).collect();
    let mut bench = Bench::new(&*ENTRY.build(&[]), &weights);
    let mut open = std::collections::VecDeque::new();
    let mut counts = [0; 3];
    for _ in 0..100_000 {
        bench.now += MS / 10;
        let position = bench.pick(&[]) as usize;
        counts[position % 3] += 1;
        bench.loads[position].begin();
        bench.asked();
        open.push_back(position);
        if open.len() > 600 {
            let position = open.pop_front().unwrap();
            let report = Report::new(bench.now, Outcome::Success).after(Some(MS * 60));
            bench.loads[position].end(&report);
            bench.trackers[position].report(&report);
        }
    }
    for (count, expected) in counts.iter().zip([14_286, 28_571, 57_143u32]) {
        let off = f64::from(*count) / f64::from(expected) - 1.0;
        assert!(off.abs() < 0.1, "{counts:?}");
    }
}

/// Nobody asks while requests come; then it is due after the idle time, over a change of endpoints,
/// too, and what comes of it is a pool.
#[test]
fn a_quiet_time_does_not_empty_the_pool() {
    let policy = probing(&[("probe_idle", OptionValue::Duration(400 * MS))]);
    let mut bench = Bench::new(&*policy, &[1; 40]);
    assert_eq!(bench.picker.idle_at(), Some(Instant::ZERO + 400 * MS), "at once, at first");
    for _ in 0..100 {
        bench.now += 10 * MS;
        assert_eq!(bench.asked().len(), 3);
        let idle_at = bench.picker.idle_at().unwrap();
        let late = (bench.now + 400 * MS).since(idle_at);
        assert!(idle_at <= bench.now + 400 * MS && late <= 400 * MS / 16, "{late:?}");
    }
    bench.now += 2000 * MS;
    let mut asked = Vec::new();
    bench.picker.ask_idle(bench.now, &bench.loads, &mut bench.rng, &mut |p| asked.push(p));
    assert_eq!(asked.len(), 3);
    assert_eq!(bench.picker.idle_at(), Some(bench.now + 400 * MS));
    let again = Bench::new(&*policy, &[1; 41]);
    assert_eq!(again.picker.idle_at(), Some(bench.now + 400 * MS));
    asked.iter().for_each(|position| bench.answer(*position as usize, 0, 5));
    bench.now += MS;
    assert!(asked.contains(&bench.pick(&[])), "of those that answered");
}

#[test]
fn two_are_asked_after_a_quiet_time_and_none_where_nothing_is_asked() {
    let rate = |rate| ("probe_rate", OptionValue::Float(rate));
    let mut bench = Bench::new(&*probing(&[rate(0.1)]), &[1; 40]);
    for _ in 0..100 {
        let mut asked = Vec::new();
        bench.picker.ask_idle(bench.now, &bench.loads, &mut bench.rng, &mut |p| asked.push(p));
        assert_eq!(asked.len(), 2);
    }
    let estimating = ENTRY.build(&[]);
    assert_eq!(Bench::new(&*estimating, &[1; 40]).picker.idle_at(), None);
    assert_eq!(Bench::new(&*probing(&[]), &[1]).picker.idle_at(), None, "there is no choice");
}
