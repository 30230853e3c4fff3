//! What `cargo xtask pick-cost` counts the instructions of. Without an argument: the names of what
//! there is to count. With one: for each number of endpoints it prepares, picks and reports, each
//! within one call of [`measured`], which is all that the counter looks at.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use balance::{Candidate, POLICIES, PickRequest, Policy};
use model::vocabulary::OptionValue;
use model::{Instant, Load, Outcome, Report, Rng};

const ENDPOINTS: [u64; 3] = [10, 1000, 10_000];

/// Of picks and of reports, in each call of `measured`.
const ROUNDS: u64 = 500;

/// Before that, so that pickers have something to go by.
const WARM_UP: u64 = 2000;

#[allow(clippy::disallowed_methods, reason = "it is a program")]
fn main() {
    let subjects = subjects();
    match std::env::args().nth(1) {
        None => subjects.iter().for_each(|(name, _)| println!("{name}")),
        Some(wanted) => match subjects.into_iter().find(|(name, _)| *name == wanted) {
            Some((_, build)) => ENDPOINTS.iter().for_each(|count| count_one(&*build(), *count)),
            None => {
                eprintln!("there is no policy {wanted:?}");
                std::process::exit(2);
            }
        },
    }
}

type Build = Box<dyn Fn() -> Box<dyn Policy>>;

/// All policies, and what is another algorithm by an option.
fn subjects() -> Vec<(String, Build)> {
    let mut subjects: Vec<(String, Build)> = Vec::new();
    for entry in POLICIES {
        subjects.push((entry.info.name.to_owned(), Box::new(|| entry.build(&[]))));
        if entry.info.name == "least_request" {
            let full = || vec![("full".to_owned(), OptionValue::Bool(true))];
            let build: Build = Box::new(move || entry.build(&full()));
            subjects.push(("least_request, full".to_owned(), build));
        }
    }
    subjects
}

/// The counter's window: not inlined, so that it has a name to go by.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
    // Nothing may be moved out of here.
    black_box(());
}

fn count_one(policy: &dyn Policy, count: u64) {
    let mut rng = Rng::from_seed(1);
    let candidates: Vec<Candidate> = (0..count)
        .map(|_| Candidate { weight: 1, zone: None, identity_hash: rng.next_u64() })
        .collect();
    let loads: Vec<Arc<Load>> = candidates.iter().map(|_| Arc::default()).collect();
    // Ten each on average: what looks at loads has something to look at.
    (0..10 * count).for_each(|_| loads[rng.below(count) as usize].begin());
    let mut picker = None;
    measured(&mut || picker = Some(policy.prepare(&candidates, &mut rng)));
    let Some(picker) = picker else { return };
    let trackers: Vec<_> = (0..count as u32).map(|position| picker.tracker(position)).collect();
    let probes = picker.probes();
    let mut now = Instant::ZERO;
    let pick = |rng: &mut Rng, now: Instant| {
        let request = PickRequest { now, key: Some(rng.next_u64()), exclude: &[] };
        let picked = picker.pick(&request, &loads, rng);
        if probes {
            picker.ask(now, &loads, rng, &mut |position| {
                black_box(position);
            });
        }
        black_box(picked).unwrap_or(0) as usize
    };
    let report = |rng: &mut Rng, now: Instant, position: usize| {
        let took = Duration::from_micros(1000 + rng.below(1000));
        let report = Report::new(now, Outcome::Success).after(Some(took));
        loads[position].end(&report);
        if let Some(tracker) = &trackers[position] {
            tracker.report(&report);
        }
    };
    for _ in 0..WARM_UP {
        now += Duration::from_micros(100);
        let position = pick(&mut rng, now);
        loads[position].begin();
        report(&mut rng, now, position);
    }
    let mut picked = vec![0; ROUNDS as usize];
    measured(&mut || {
        for place in &mut picked {
            now += Duration::from_micros(100);
            *place = pick(&mut rng, now);
        }
    });
    picked.iter().for_each(|position| loads[*position].begin());
    measured(&mut || {
        for position in &picked {
            now += Duration::from_micros(100);
            report(&mut rng, now, *position);
        }
    });
}
