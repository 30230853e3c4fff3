//! Side by side with the peers, in one run: everyone with one worker thread, on the same work, in
//! turns. Absolute times of two runs say little, so what counts are ratios within a round.
//!
//! For: the table and the plot of `docs/performance.md`. The figure that matters is the CPU time
//! of the proxy's processes per request, by the kernel's own accounting.
//! Never: part of `./test`; a noisy machine must not fail anyone's change.
//! Start with `scenario.rs` and `peer.rs`.
//!
//! `BENCH_ROUNDS=5 BENCH_SECONDS=4 BENCH_PEERS=haproxy,nginx BENCH_ONLY=http-64 cargo xtask bench`
//!
//! `BENCH_PROGRAM=target/release/evenkeel` compares another build than that of `cargo xtask dist`.

mod load;
mod origin;
mod peer;
pub(crate) mod process;
mod report;
mod scenario;
mod workers;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use load::Sample;
use origin::Origin;
use peer::{Door, PEERS, Peer, Running, Setup};
use scenario::{Kind, SCENARIOS, Scenario};

use crate::dist;

/// What was measured: by scenario and peer, one sample for each round.
type Results = BTreeMap<(&'static str, &'static str), Vec<Sample>>;

pub(crate) fn run() -> Result<bool, String> {
    let files = process::raise_file_limit();
    let rounds = number("BENCH_ROUNDS", 5);
    let length = Duration::from_secs(number("BENCH_SECONDS", 4));
    let ours = match std::env::var("BENCH_PROGRAM") {
        Ok(program) => program,
        Err(_) => dist::build()?.display().to_string(),
    };
    let work = prepare()?;
    let peers: Vec<&Peer> =
        PEERS.iter().copied().filter(|peer| is_chosen("BENCH_PEERS", peer.name)).collect();
    let scenarios: Vec<&Scenario> =
        SCENARIOS.iter().filter(|scenario| is_chosen("BENCH_ONLY", scenario.name)).collect();
    let origin = Origin::start(&work)?;
    let mut results = Results::new();
    let mut is_well = true;
    for round in 0..rounds as usize {
        for scenario in &scenarios {
            for turn in 0..peers.len() {
                // Whoever comes first in one round comes later in the next.
                let peer = peers[(turn + round) % peers.len()];
                if !peer.does(scenario) {
                    continue;
                }
                let bench = Bench { ours: &ours, origin: &origin, work: &work, length, files };
                let measure = || {
                    let sample = bench.measure(scenario, peer, &results, round);
                    sample.inspect_err(|e| eprintln!("{} {}: {e}", scenario.name, peer.name))
                };
                // One failure may be the machine's. What fails twice is no reason to measure
                // nothing.
                let sample = measure()
                    .or_else(|_| measure())
                    .unwrap_or(Sample { failed: 1, ..Sample::default() });
                is_well &= sample.failed == 0 || peer.name != peer::OURS.name;
                println!("round {round} {:<15} {:<11} {sample}", scenario.name, peer.name);
                results.entry((scenario.name, peer.name)).or_default().push(sample);
            }
        }
    }
    let scaling = match is_chosen("BENCH_ONLY", "workers") {
        // A failure here is no reason to lose the rest.
        true => workers::measure(&ours, &origin, &work, length)
            .inspect_err(|e| eprintln!("from one worker to two: {e}"))
            .ok(),
        false => None,
    };
    let names: Vec<&'static str> = peers.iter().map(|peer| peer.name).collect();
    let mut text = report::table(&scenarios, &names, &results);
    if let Some(scaling) = scaling {
        text += &report::scaling(&scaling);
    }
    println!("{text}");
    if scenarios.len() == SCENARIOS.len() && peers.len() == PEERS.len() {
        report::write(&text, &scenarios, &names, &results, rounds, &ours)?;
    }
    Ok(is_well)
}

/// Everything that the scenarios need but our program; where their files go.
fn prepare() -> Result<PathBuf, String> {
    let work = PathBuf::from("target/bench");
    std::fs::create_dir_all(&work).map_err(|e| format!("{}: {e}", work.display()))?;
    peer::prepare(&work)?;
    Ok(work)
}

/// Plays every scenario that has requests once with `program`, which is asked to end after each, so
/// that it can leave behind what it has to say.
pub(crate) fn play(program: &str, length: Duration) -> Result<(), String> {
    let files = process::raise_file_limit();
    let work = prepare()?;
    let origin = Origin::start(&work)?;
    let bench = Bench { ours: program, origin: &origin, work: &work, length, files };
    for scenario in SCENARIOS {
        let (Kind::Full { .. } | Kind::Http2 { .. }) = scenario.kind else { continue };
        let mut running = bench.start(scenario, &peer::OURS)?;
        let sample = bench.load(scenario, &running, &Results::new(), 0)?;
        println!("{:<15} {sample}", scenario.name);
        if sample.failed > 0 {
            return Err(format!("{}: {} requests failed", scenario.name, sample.failed));
        }
        running.process.finish()?;
    }
    Ok(())
}

struct Bench<'a> {
    /// The path of our program.
    ours: &'a str,
    origin: &'a Origin,
    work: &'a std::path::Path,
    length: Duration,
    /// How many files a process may open.
    files: usize,
}

impl Bench<'_> {
    fn measure(
        &self,
        scenario: &Scenario,
        peer: &Peer,
        results: &Results,
        round: usize,
    ) -> Result<Sample, String> {
        self.load(scenario, &self.start(scenario, peer)?, results, round)
    }

    fn start(&self, scenario: &Scenario, peer: &Peer) -> Result<Running, String> {
        let setup = Setup { ours: self.ours, workers: 1, logs: scenario.logs };
        Running::start(peer, self.origin, self.work, setup)
    }

    fn load(
        &self,
        scenario: &Scenario,
        running: &Running,
        results: &Results,
        round: usize,
    ) -> Result<Sample, String> {
        match scenario.kind {
            Kind::Full { connections, path, door, close } => {
                let url = running.url(door, path);
                load::wrk(running, &url, connections, close, self.length)
            }
            Kind::HalfRate { connections, path } => {
                // HAProxy's rate of the last round in which it was measured, else of this one.
                let full = results.get(&("http-64", "haproxy")).and_then(|samples| {
                    let good = |sample: &&Sample| sample.failed == 0;
                    let this = samples.get(round).filter(good);
                    this.or_else(|| samples.iter().rfind(good)).map(|sample| sample.rate)
                });
                let rate = full.unwrap_or(20_000.0) / 2.0;
                load::half_rate(running, path, connections, rate, self.length)
            }
            Kind::Http2 { connections, streams, path } => {
                let url = running.url(Door::Http2, path);
                load::h2load(running, &url, connections, streams, self.length)
            }
            Kind::Idle { connections } => {
                load::idle(running, connections.min(self.files.saturating_sub(IDLE_SPARE_FILES)))
            }
        }
    }
}

/// Of what a process may open, this much is for other than clients.
const IDLE_SPARE_FILES: usize = 300;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn is_chosen(variable: &str, name: &str) -> bool {
    std::env::var(variable).map_or(true, |list| list.split(',').any(|one| one == name))
}
