//! What hash policies promise, in figures, as a table of Markdown: how many keys move when one of
//! a hundred endpoints leaves, how evenly keys are spread, and what the bound on loads comes to.
//! No clock: the same figures everywhere. `cargo run --release -p balance --example keyed_figures`.

use std::collections::VecDeque;
use std::sync::Arc;

use balance::{Candidate, POLICIES, PickRequest, Picker, PolicyEntry};
use model::vocabulary::{OptionKind, OptionValue};
use model::{Instant, Load, Outcome, Report, Rng};

const KEYS: u64 = 200_000;

fn main() {
    println!(
        "| policy | keys that move when 1 of 100 leaves | of them needlessly \
         | most keys over the mean, 100 endpoints | most in flight over the bound of 1.25 |"
    );
    println!("|---|---|---|---|---|");
    for entry in POLICIES {
        if entry.info.options.iter().any(|option| option.kind == OptionKind::Key) {
            let (moved, needless) = churn(entry);
            println!(
                "| `{}` | {:.2} % | {:.2} % | {:.2} | {:.2} |",
                entry.info.name,
                moved * 100.0,
                needless * 100.0,
                spread(entry),
                worst_over_bound(entry),
            );
        }
    }
}

fn endpoints(count: u64) -> Vec<Candidate> {
    let hash = |identity| Rng::from_seed(identity).next_u64();
    (0..count).map(|id| Candidate { weight: 1, zone: None, identity_hash: hash(id) }).collect()
}

struct Subject {
    picker: Box<dyn Picker>,
    loads: Vec<Arc<Load>>,
    rng: Rng,
}

impl Subject {
    fn new(entry: &PolicyEntry, options: &[(String, OptionValue)], of: &[Candidate]) -> Self {
        let mut rng = Rng::from_seed(1);
        Self {
            picker: entry.build(options).prepare(of, &mut rng),
            loads: of.iter().map(|_| Arc::default()).collect(),
            rng,
        }
    }

    fn pick(&mut self, key: u64) -> usize {
        let request = PickRequest { now: Instant::ZERO, key: Some(key), exclude: &[] };
        self.picker.pick(&request, &self.loads, &mut self.rng).unwrap_or(0) as usize
    }
}

/// The shares of keys that move, and of those whose old endpoint is still there.
fn churn(entry: &PolicyEntry) -> (f64, f64) {
    let all = endpoints(100);
    let mut fewer = all.clone();
    let gone = fewer.remove(37).identity_hash;
    let (mut before, mut after) =
        (Subject::new(entry, &[], &all), Subject::new(entry, &[], &fewer));
    let (mut moved, mut needless) = (0, 0);
    for key in 0..KEYS {
        let home = all[before.pick(key)].identity_hash;
        let moves = home != fewer[after.pick(key)].identity_hash;
        moved += u64::from(moves);
        needless += u64::from(moves && home != gone);
    }
    (moved as f64 / KEYS as f64, needless as f64 / KEYS as f64)
}

fn spread(entry: &PolicyEntry) -> f64 {
    let mut subject = Subject::new(entry, &[], &endpoints(100));
    let mut counts = vec![0u64; 100];
    (0..KEYS).for_each(|key| counts[subject.pick(key)] += 1);
    let most = counts.into_iter().max().unwrap_or(0);
    most as f64 / (KEYS as f64 / 100.0)
}

/// As `keyed_contract.rs` asserts it: a fifth of all requests has one key, ten are in flight for
/// each of 100 endpoints, and none is free of the bound.
fn worst_over_bound(entry: &PolicyEntry) -> f64 {
    let options = [
        ("balance_factor".to_owned(), OptionValue::Float(1.25)),
        ("always_allowed".to_owned(), OptionValue::Integer(0)),
    ];
    let mut subject = Subject::new(entry, &options, &endpoints(100));
    let mut rng = Rng::from_seed(8);
    let mut open = VecDeque::new();
    let mut worst: f64 = 0.0;
    for _ in 0..20_000 {
        let is_hot = rng.below(5) == 0;
        let position = subject.pick(if is_hot { 0 } else { rng.below(1000) });
        subject.loads[position].begin();
        open.push_back(position);
        let bound = (1.25 * open.len() as f64 / 100.0).ceil();
        worst = worst.max(f64::from(subject.loads[position].in_flight()) / bound);
        while open.len() > 1000 {
            let last = open.len() - 1;
            open.swap(rng.below(last as u64 + 1) as usize, last);
            if let Some(position) = open.pop_back() {
                subject.loads[position].end(&Report::new(Instant::ZERO, Outcome::Success));
            }
        }
    }
    worst
}
