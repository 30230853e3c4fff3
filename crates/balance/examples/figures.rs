//! Figures of every policy: the time to prepare and the time of a pick, for some numbers of
//! endpoints. Run with `cargo run --release -p balance --example figures`.
#![allow(clippy::disallowed_methods, reason = "measuring is not deciding: it needs the clock")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use balance::{Candidate, POLICIES, PickRequest};
use model::{Load, Rng};

const PICKS: u128 = 200;
const ROUNDS: usize = 50;

fn main() {
    println!("{:20} {:>9} {:>12} {:>10}", "policy", "endpoints", "prepare, ms", "pick, ns");
    for entry in POLICIES {
        for count in [10u64, 1000, 10_000] {
            let mut rng = Rng::from_seed(1);
            let candidates: Vec<Candidate> = (0..count)
                .map(|_| Candidate { weight: 1, zone: None, identity_hash: rng.next_u64() })
                .collect();
            let loads: Vec<Arc<Load>> = candidates.iter().map(|_| Arc::default()).collect();
            // Ten each on average: bounded loads have something to look at.
            (0..10 * count).for_each(|_| loads[rng.below(count) as usize].begin());
            let policy = entry.build(&[]);
            let start = Instant::now();
            let picker = policy.prepare(&candidates, &mut rng);
            let prepare = start.elapsed();
            let mut pick = || {
                let key = Some(rng.next_u64());
                let request = PickRequest { now: model::Instant::ZERO, key, exclude: &[] };
                black_box(picker.pick(&request, &loads, &mut rng));
            };
            (0..100).for_each(|_| pick());
            // The best of some rounds: others use the machine too.
            let round = || {
                let start = Instant::now();
                (0..PICKS).for_each(|_| pick());
                start.elapsed().as_nanos() / PICKS
            };
            let pick = std::iter::repeat_with(round).take(ROUNDS).min().unwrap_or(0);
            let prepare = prepare.as_secs_f64() * 1000.0;
            println!("{:20} {count:>9} {prepare:>12.2} {pick:>10}", entry.info.name);
        }
    }
}
