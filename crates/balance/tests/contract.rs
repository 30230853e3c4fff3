//! What every policy of the table must do, whatever its idea. A new policy is tested here by
//! being in the table. Options are tried at their defaults, and each one at its other values.
#![allow(unsafe_code, reason = "counting allocations needs an allocator of our own")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use balance::{Candidate, POLICIES, PickRequest, Picker, Tracker};
use model::vocabulary::{OptionKind, OptionValue};
use model::{Instant, Load, Outcome, ProbeAnswer, Report, Rng, Utilization};

/// Counts the allocations of the current thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is handed to the system's allocator; counting touches a thread-local of a
// type without destructor, which allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's contract is ours.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is ours.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Policies to which weights are sizes and not shares: the first endpoint gets all it can take.
const FILL_IN_ORDER: &[&str] = &["first_available"];

/// Policies that may refuse while endpoints are there, once reports were bad enough.
const MAY_REFUSE: &[&str] = &["lars"];

/// Policies that share out by chance of place. Their shares are off by more than elsewhere, and
/// are tested with what they are by the contract for keys.
const PLACED_BY_CHANCE: &[&str] = &["ring_hash"];

/// A picker of each policy and each choice of options, over these weights.
struct Subject {
    name: &'static str,
    label: String,
    /// Does it go by a key?
    keyed: bool,
    /// Does it prefer those of a zone, so that weights are shares only within it?
    local: bool,
    /// Are these its defaults?
    plain: bool,
    picker: Box<dyn Picker>,
    loads: Vec<Arc<Load>>,
    trackers: Vec<Option<Arc<dyn Tracker>>>,
    now: Instant,
    rng: Rng,
}

/// By position, again and again.
const ZONES: [Option<&str>; 3] = [Some("near"), Some("far"), None];

fn subjects(weights: &[u16]) -> Vec<Subject> {
    let mut subjects = Vec::new();
    for entry in POLICIES {
        let mut variants = vec![Vec::new()];
        for option in entry.info.options {
            // Bounded loads change nothing of what is prepared, which takes its time for many.
            if weights.len() >= 10_000 && matches!(option.name, "balance_factor" | "always_allowed")
            {
                continue;
            }
            let name = || option.name.to_owned();
            match option.kind {
                OptionKind::Bool => {
                    let values =
                        [false, true].map(|value| vec![(name(), OptionValue::Bool(value))]);
                    variants.extend(values);
                }
                OptionKind::Integer { min, max } => {
                    let values =
                        [min, max].map(|value| vec![(name(), OptionValue::Integer(value))]);
                    variants.extend(values);
                }
                OptionKind::OneOf(values) => variants.extend(
                    values.iter().map(|value| vec![(name(), OptionValue::Text((*value).into()))]),
                ),
                OptionKind::Float { min, max } => variants
                    .extend([min, max].map(|value| vec![(name(), OptionValue::Float(value))])),
                OptionKind::Duration => {
                    // From nothing to the longest that a configuration may name.
                    let values = [Duration::from_nanos(1), Duration::from_secs(86_400)];
                    variants
                        .extend(values.map(|value| vec![(name(), OptionValue::Duration(value))]));
                }
                OptionKind::Text => variants.push(vec![(name(), OptionValue::Text("near".into()))]),
                // What a key is taken of is a matter of the caller.
                OptionKind::Key => {}
                // Endpoints that are asked and never answer.
                OptionKind::Path => {
                    variants.push(vec![(name(), OptionValue::Text("/load".into()))]);
                }
            }
        }
        for options in variants {
            let candidates: Vec<Candidate> = (0u64..)
                .zip(weights)
                .zip(ZONES.into_iter().cycle())
                .map(|((hash, weight), zone)| Candidate {
                    weight: *weight,
                    zone: zone.map(Into::into),
                    identity_hash: hash.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                })
                .collect();
            let mut rng = Rng::from_seed(42);
            let picker = entry.build(&options).prepare(&candidates, &mut rng);
            let positions = 0..weights.len() as u32;
            subjects.push(Subject {
                name: entry.info.name,
                keyed: entry.info.options.iter().any(|option| option.kind == OptionKind::Key),
                label: format!("{} {options:?} over {} weights", entry.info.name, weights.len()),
                local: options.iter().any(|(_, value)| *value == OptionValue::Text("near".into())),
                plain: options.is_empty(),
                trackers: positions.map(|at| picker.tracker(at)).collect(),
                picker,
                loads: weights.iter().map(|_| Arc::default()).collect(),
                now: Instant::ZERO,
                rng,
            });
        }
    }
    subjects
}

impl Subject {
    /// A pick, and what follows it.
    fn pick(&mut self, exclude: &[u32]) -> Option<u32> {
        let picked = self.choose(exclude);
        picked.inspect(|_| self.ask())
    }

    /// With a fresh key each time, so that hash policies spread.
    fn choose(&mut self, exclude: &[u32]) -> Option<u32> {
        let key = Some(self.rng.next_u64());
        let request = PickRequest { now: self.now, key, exclude };
        let picked = self.picker.pick(&request, &self.loads, &mut self.rng);
        if let Some(position) = picked {
            assert!((position as usize) < self.loads.len(), "{}: out of range", self.label);
        }
        picked
    }

    /// Nobody answers.
    fn ask(&mut self) {
        if self.picker.probes() {
            let (loads, label) = (&self.loads, &self.label);
            self.picker.ask(self.now, loads, &mut self.rng, &mut |asked| {
                assert!((asked as usize) < loads.len(), "{label}: asks out of range");
            });
        }
    }

    /// How often each is picked, with `in_flight` requests under way that end in order.
    fn shares(&mut self, picks: usize, in_flight: usize) -> Vec<usize> {
        let mut counts = vec![0; self.loads.len()];
        let mut open = VecDeque::new();
        for _ in 0..picks {
            let position = self.choose(&[]).unwrap() as usize;
            counts[position] += 1;
            self.loads[position].begin();
            self.ask();
            open.push_back(position);
            if open.len() > in_flight {
                let report = Report::new(self.now, Outcome::Success);
                self.report(open.pop_front().unwrap(), &report);
            }
        }
        counts
    }

    /// What was begun there has ended.
    fn report(&self, position: usize, report: &Report) {
        self.loads[position].end(report);
        if let Some(tracker) = &self.trackers[position] {
            tracker.report(report);
        }
    }

    /// Those that it wants to ask say something.
    fn probe(&mut self, latency: Duration) {
        if !self.picker.probes() {
            return;
        }
        let answer = ProbeAnswer { now: self.now, in_flight: 3, latency };
        let mut rng = self.rng.clone();
        self.picker.ask(self.now, &self.loads, &mut rng, &mut |position| {
            if let Some(tracker) = &self.trackers[position as usize] {
                tracker.probed(&answer);
            }
        });
        self.rng = rng;
    }
}

/// Anything that an endpoint may do, where those of odd positions do worse.
fn any_report(position: usize, now: Instant, rng: &mut Rng) -> Report {
    const OUTCOMES: [Outcome; 6] = [
        Outcome::ServerError,
        Outcome::ConnectFailed,
        Outcome::Broken,
        Outcome::TimedOut,
        Outcome::Abandoned,
        Outcome::Success,
    ];
    let bad = rng.below(if position % 2 == 1 { 2 } else { 8 }) == 0;
    let outcome = if bad { OUTCOMES[rng.below(6) as usize] } else { Outcome::Success };
    let scale = rng.below(24);
    let latency = Duration::from_micros(rng.below(1 << scale));
    let mut report = Report::new(now, outcome).after((rng.below(4) > 0).then_some(latency));
    if rng.below(20) == 0 {
        report.retry_after = Some(Duration::from_millis(rng.below(2000)));
    }
    if rng.below(3) == 0 {
        let mut part = || (rng.below(3) > 0).then(|| rng.below(1200) as u16);
        report.utilization = Some(Utilization { cpu: part(), memory: part(), application: part() });
    }
    report
}

#[test]
fn nothing_to_pick_from_is_none() {
    for mut subject in subjects(&[]) {
        assert_eq!(subject.pick(&[]), None, "{}", subject.label);
        assert_eq!(subject.pick(&[0]), None, "{}", subject.label);
    }
}

#[test]
fn a_single_one_is_always_picked() {
    for weight in [0, 1, 65_535] {
        for mut subject in subjects(&[weight]) {
            assert_eq!(subject.pick(&[]), Some(0), "{}", subject.label);
            assert_eq!(subject.pick(&[0]), Some(0), "{}: better than none", subject.label);
        }
    }
}

#[test]
fn excluded_ones_are_picked_only_if_nothing_else_can_be() {
    let cases: [&[u16]; 6] =
        [&[1, 1], &[1, 1, 1], &[65_535, 1, 1], &[3, 0, 2], &[0, 0, 0], &[1; 100]];
    for weights in cases {
        for mut subject in subjects(weights) {
            let mut rng = Rng::from_seed(3);
            let all_zero = weights.iter().all(|weight| *weight == 0);
            for round in 0..500 {
                let exclude: Vec<u32> =
                    (0..rng.below(5)).map(|_| rng.below(weights.len() as u64) as u32).collect();
                let others = (0u32..).zip(weights).any(|(position, weight)| {
                    (*weight > 0 || all_zero) && !exclude.contains(&position)
                });
                let picked = subject.pick(&exclude).expect("something is there");
                assert!(
                    !others || !exclude.contains(&picked),
                    "{}, round {round}: {picked} of {weights:?} without {exclude:?}",
                    subject.label
                );
            }
        }
    }
}

#[test]
fn zero_weights_are_picked_only_if_all_are_zero() {
    for mut subject in subjects(&[0, 2, 0, 1, 0]) {
        for exclude in [&[][..], &[1], &[1, 3]] {
            for _ in 0..300 {
                let picked = subject.pick(exclude).unwrap();
                assert!([1, 3].contains(&picked), "{}: {picked}", subject.label);
            }
        }
    }
    for mut subject in subjects(&[0, 0, 0]) {
        if FILL_IN_ORDER.contains(&subject.name) || subject.local {
            continue;
        }
        let counts = subject.shares(3000, 0);
        assert!(counts.iter().all(|count| *count > 500), "{}: {counts:?}", subject.label);
    }
}

#[test]
fn shares_follow_the_weights_idle_and_under_load() {
    let cases: [&[u16]; 6] =
        [&[1, 1, 1], &[3, 3, 2], &[1, 10], &[100, 1, 50, 7], &[1; 30], &[65_535, 32_768]];
    for weights in cases {
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        // Under load each has on average 20 requests in flight, so that whole numbers of them
        // can be in proportion to the weights.
        for in_flight in [0, weights.len() * 20] {
            for mut subject in subjects(weights) {
                let differs = [FILL_IN_ORDER, PLACED_BY_CHANCE].concat();
                if differs.contains(&subject.name) || subject.local {
                    continue;
                }
                let picks = 30_000;
                let counts = subject.shares(picks, in_flight);
                for (count, weight) in counts.iter().zip(weights) {
                    let expected = picks as f64 * f64::from(*weight) / total;
                    // One in twenty of its own share, and one percent of all. Bounded loads take
                    // keys from those that just have their share, and small ones more often.
                    let bounded = subject.keyed && in_flight > 0;
                    let own = if bounded { 0.2 } else { 0.05 };
                    let tolerance = expected * own + picks as f64 * 0.01;
                    assert!(
                        (*count as f64 - expected).abs() < tolerance,
                        "{}, {in_flight} in flight: {counts:?} for {weights:?}",
                        subject.label
                    );
                }
            }
        }
    }
}

#[test]
fn whatever_was_reported_excluded_ones_and_zero_weights_are_left_alone() {
    let cases: [&[u16]; 4] = [&[1, 1], &[3, 0, 2, 1], &[0, 0, 0], &[1; 40]];
    for weights in cases {
        for mut subject in subjects(weights) {
            let mut rng = Rng::from_seed(4);
            let all_zero = weights.iter().all(|weight| *weight == 0);
            let counts = |position: usize| weights[position] > 0 || all_zero;
            let mut open = VecDeque::new();
            for round in 0..2000 {
                let exclude: Vec<u32> = match rng.below(3) {
                    0 => {
                        (0..rng.below(4)).map(|_| rng.below(weights.len() as u64) as u32).collect()
                    }
                    _ => Vec::new(),
                };
                let others = (0..weights.len())
                    .any(|position| counts(position) && !exclude.contains(&(position as u32)));
                let label = format!("{}, round {round}, without {exclude:?}", subject.label);
                match subject.pick(&exclude) {
                    Some(picked) => {
                        assert!(!others || !exclude.contains(&picked), "{label}: {picked}");
                        assert!(counts(picked as usize), "{label}: {picked} has no weight");
                        subject.loads[picked as usize].begin();
                        open.push_back(picked as usize);
                    }
                    None => assert!(MAY_REFUSE.contains(&subject.name), "{label}: none"),
                }
                subject.probe(Duration::from_micros(rng.below(1 << 20)));
                let scale = rng.below(22);
                subject.now += Duration::from_micros(rng.below(1 << scale));
                while open.len() as u64 > rng.below(20) {
                    let position = open.pop_front().unwrap();
                    subject.report(position, &any_report(position, subject.now, &mut rng));
                }
            }
        }
    }
}

#[test]
fn once_all_is_well_all_are_used_again() {
    for mut subject in subjects(&[2, 1, 1, 3, 0, 1]) {
        if !subject.plain || FILL_IN_ORDER.contains(&subject.name) {
            continue;
        }
        let mut rng = Rng::from_seed(6);
        let mut counts = [0; 6];
        // Ten seconds of trouble, a minute of peace, and what counts.
        for round in 0..16_000 {
            subject.now += Duration::from_millis(5);
            subject.probe(Duration::from_millis(10));
            let Some(position) = subject.pick(&[]) else { continue };
            let position = position as usize;
            subject.loads[position].begin();
            let report = match round {
                0..2000 => any_report(position, subject.now, &mut rng),
                _ => {
                    let latency = Some(Duration::from_millis(10));
                    Report::new(subject.now, Outcome::Success).after(latency)
                }
            };
            subject.report(position, &report);
            if round >= 14_000 {
                counts[position] += 1;
            }
        }
        let used = |(at, count): (usize, &u32)| (*count > 0) == (at != 4);
        assert!(counts.iter().enumerate().all(used), "{}: {counts:?}", subject.label);
    }
}

#[test]
fn ten_thousand_of_all_weights() {
    let mut rng = Rng::from_seed(9);
    let weights: Vec<u16> = (0..10_000).map(|_| rng.below(65_536) as u16).collect();
    for mut subject in subjects(&weights) {
        for round in 0..300 {
            let exclude = [rng.below(10_000) as u32, rng.below(10_000) as u32];
            let exclude = &exclude[..round % 3];
            let picked = subject.pick(exclude).unwrap();
            assert!(!exclude.contains(&picked) && weights[picked as usize] > 0);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_picks() {
    let weights = [3, 0, 7, 1, 1, 9];
    for (mut one, mut other) in subjects(&weights).into_iter().zip(subjects(&weights)) {
        for round in 0..1000u32 {
            let exclude = [round % 6];
            let exclude = &exclude[..(round % 2) as usize];
            assert_eq!(one.pick(exclude), other.pick(exclude), "{}", one.label);
        }
    }
}

#[test]
fn a_pick_and_its_report_do_not_allocate() {
    for weights in [&[1, 2, 3][..], &[1; 1000]] {
        for mut subject in subjects(weights) {
            subject.pick(&[]);
            subject.probe(Duration::ZERO);
            let mut rng = Rng::from_seed(8);
            let before = ALLOCATIONS.get();
            for round in 0..200 {
                subject.pick(&[]);
                let picked = subject.pick(&[1, 2]).unwrap() as usize;
                subject.loads[picked].begin();
                subject.probe(Duration::ZERO);
                // What may refuse may also do more when a threshold is crossed.
                let report = match subject.name {
                    name if MAY_REFUSE.contains(&name) => {
                        Report::new(subject.now, Outcome::Success)
                    }
                    _ => any_report(round, subject.now, &mut rng),
                };
                subject.report(picked, &report);
            }
            assert_eq!(ALLOCATIONS.get(), before, "{}", subject.label);
        }
    }
    // The count counts.
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(Box::new(1)));
    assert!(ALLOCATIONS.get() > before);
}
