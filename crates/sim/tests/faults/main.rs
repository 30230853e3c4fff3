//! Random faults by seed: whatever happens, the invariants hold; and when it is over, every
//! healthy endpoint is used again.
//!
//! `SEED=17 cargo test -p sim --test faults` plays one seed again, `SEEDS=100000` plays more.

mod random;

use std::collections::BTreeSet;
use std::ops::Range;
use std::thread;

use sim::Report;

const SEEDS: u64 = 2000;

/// Failing seeds that are shown in full.
const SHOWN: usize = 3;

#[test]
#[allow(clippy::disallowed_methods, reason = "each run is one thread; several runs need not be")]
fn invariants_hold_whatever_happens() {
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(SEEDS),
    };
    let threads = thread::available_parallelism().map_or(1, |count| count.get());
    let tallies = thread::scope(|scope| {
        let play = |thread| {
            let seeds = seeds.clone();
            scope.spawn(move || Tally::of(seeds, thread, threads))
        };
        let running: Vec<_> = (0..threads).map(play).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let sum = |count: fn(&Tally) -> u64| tallies.iter().map(count).sum::<u64>();
    let mut failed: Vec<u64> = tallies.iter().flat_map(|tally| tally.failed.clone()).collect();
    failed.sort_unstable();
    for seed in failed.iter().take(SHOWN) {
        let report = play(*seed);
        eprintln!("SEED={seed} with {}: {:#?}", report.policy, report.violations);
        eprintln!("{:?}", random::scenario(*seed));
    }
    assert!(failed.is_empty(), "seeds that break an invariant: {failed:?}");
    if seeds.end - seeds.start >= SEEDS {
        // The scenarios are neither idle nor hopeless.
        let (requests, succeeded) = (sum(|tally| tally.requests), sum(|tally| tally.succeeded));
        assert!(requests > 500 * SEEDS, "{requests}");
        assert!(succeeded * 10 > requests * 8, "{succeeded} of {requests}");
        assert!(requests - succeeded > 10 * SEEDS, "{succeeded} of {requests}");
        assert!(sum(|tally| tally.retries) > SEEDS && sum(|tally| tally.retries_denied) > SEEDS);
        let ejections = sum(|tally| tally.ejections);
        assert!(ejections > 2 * SEEDS, "{ejections}");
        let (hedges, won) = (sum(|tally| tally.hedges), sum(|tally| tally.hedges_won));
        assert!(won > 10 * SEEDS && hedges > won, "{hedges} hedges, {won} won");
        assert!(sum(|tally| tally.hedges_denied) > SEEDS);
        let policies: BTreeSet<&String> = tallies.iter().flat_map(|t| &t.policies).collect();
        assert_eq!(policies.len(), balance::infos().len());
        // Limits are met, and queues are waited in.
        let (full, timeouts) = (sum(|tally| tally.full), sum(|tally| tally.queue_timeouts));
        assert!(full > SEEDS && timeouts > SEEDS, "{full} full, {timeouts} waited in vain");
        assert!(sum(|tally| tally.queued) > SEEDS / 10, "runs in which somebody waited");
    }
}

#[derive(Default)]
struct Tally {
    failed: Vec<u64>,
    policies: BTreeSet<String>,
    requests: u64,
    succeeded: u64,
    retries: u64,
    retries_denied: u64,
    ejections: u64,
    hedges: u64,
    hedges_denied: u64,
    hedges_won: u64,
    full: u64,
    queue_timeouts: u64,
    /// Runs in which somebody waited, and got an endpoint.
    queued: u64,
}

impl Tally {
    /// Every `step`th of the seeds.
    fn of(seeds: Range<u64>, first: usize, step: usize) -> Self {
        let mut tally = Self::default();
        for seed in seeds.skip(first).step_by(step) {
            let report = play(seed);
            let ended = report.succeeded + report.errors.total();
            if !report.violations.is_empty() || report.requests != ended {
                tally.failed.push(seed);
            }
            tally.requests += report.requests;
            tally.succeeded += report.succeeded;
            tally.full += report.errors.full;
            tally.queue_timeouts += report.errors.queue_timeout;
            tally.queued += u64::from(report.queue_p99_ms > 0.0);
            tally.retries += report.retries;
            tally.retries_denied += report.retries_denied;
            tally.ejections += report.ejections;
            tally.hedges += report.hedges;
            tally.hedges_denied += report.hedges_denied;
            tally.hedges_won += report.hedges_won;
            tally.policies.insert(report.policy);
        }
        tally
    }
}

fn play(seed: u64) -> Report {
    let (scenario, policy) = random::scenario(seed);
    sim::run(&scenario, &policy, seed, &mut |_| ())
}

#[allow(clippy::disallowed_methods, reason = "which seeds to play is the person's choice")]
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let mut hashes = BTreeSet::new();
    for seed in 0..50 {
        let (first, second) = (play(seed), play(seed));
        assert_eq!(first, second, "SEED={seed}");
        hashes.insert(first.hash);
    }
    assert_eq!(hashes.len(), 50, "different seeds give different runs");
}
