//! Side by side with the peers, in one run: everyone with one worker thread, on the same work, in
//! turns. Absolute times of two runs say little, so what counts are ratios within a round.
//!
//! For: the table and the plot of `docs/performance.md`. The figure that matters is the CPU time
//! of the proxy's processes per request, by the kernel's own accounting.
//! Never: part of `./test`; a noisy machine must not fail anyone's change.
//! Start with [`SCENARIOS`] and `peer.rs`.
//!
//! `BENCH_ROUNDS=5 BENCH_SECONDS=4 BENCH_PEERS=haproxy,nginx BENCH_ONLY=http-64 cargo xtask bench`

mod load;
mod origin;
mod peer;
mod process;
mod report;

use std::collections::BTreeMap;
use std::time::Duration;

use load::Sample;
use origin::Origin;
use peer::{PEERS, Peer, Running};

/// One kind of work.
struct Scenario {
    name: &'static str,
    what: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// As fast as it goes: connections, path, whether each request has a connection of its own,
    /// and whether the proxy only moves bytes.
    Full { connections: u32, path: &'static str, close: bool, tcp: bool },
    /// The 99th percentile at half of the rate that HAProxy reached in this round.
    HalfRate { connections: u32, path: &'static str },
    /// So many connections that did one request and then wait: memory for each.
    Idle { connections: usize },
}

const fn full(connections: u32, path: &'static str, close: bool, tcp: bool) -> Kind {
    Kind::Full { connections, path, close, tcp }
}

static SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "http-64",
        what: "HTTP/1.1 keep-alive, 64 connections, 512 B",
        kind: full(64, "/512", false, false),
    },
    Scenario {
        name: "http-half-rate",
        what: "the same at half of HAProxy's rate: p99",
        kind: Kind::HalfRate { connections: 64, path: "/512" },
    },
    Scenario {
        name: "http-512",
        what: "HTTP/1.1 keep-alive, 512 connections, 512 B",
        kind: full(512, "/512", false, false),
    },
    Scenario {
        name: "http-64k",
        what: "HTTP/1.1 keep-alive, 64 connections, 64 KiB",
        kind: full(64, "/64k", false, false),
    },
    Scenario {
        name: "http-close",
        what: "HTTP/1.1, a client connection for each request, 512 B",
        kind: full(64, "/512", true, false),
    },
    Scenario {
        name: "tcp-small",
        what: "TCP, 64 connections, 512 B answers",
        kind: full(64, "/512", false, true),
    },
    Scenario {
        name: "tcp-64k",
        what: "TCP, 64 connections, 64 KiB answers",
        kind: full(64, "/64k", false, true),
    },
    Scenario {
        name: "idle",
        what: "memory of an idle kept-alive connection, KiB",
        kind: Kind::Idle { connections: 5000 },
    },
];

/// What was measured: by scenario and peer, one sample for each round.
type Results = BTreeMap<(&'static str, &'static str), Vec<Sample>>;

pub(crate) fn run() -> Result<bool, String> {
    process::raise_file_limit();
    let rounds = number("BENCH_ROUNDS", 5);
    let length = Duration::from_secs(number("BENCH_SECONDS", 4));
    let work = std::path::Path::new("target/bench");
    std::fs::create_dir_all(work).map_err(|e| format!("{}: {e}", work.display()))?;
    peer::prepare(work)?;
    let peers: Vec<&Peer> =
        PEERS.iter().filter(|peer| is_chosen("BENCH_PEERS", peer.name)).collect();
    let scenarios: Vec<&Scenario> =
        SCENARIOS.iter().filter(|scenario| is_chosen("BENCH_ONLY", scenario.name)).collect();
    let origin = Origin::start(work)?;
    let mut results = Results::new();
    for round in 0..rounds as usize {
        for scenario in &scenarios {
            for turn in 0..peers.len() {
                // Whoever comes first in one round comes later in the next.
                let peer = peers[(turn + round) % peers.len()];
                let sample = measure(scenario, peer, &origin, work, length, &results, round)?;
                println!("round {round} {:<15} {:<9} {sample}", scenario.name, peer.name);
                results.entry((scenario.name, peer.name)).or_default().push(sample);
            }
        }
    }
    let names: Vec<&'static str> = peers.iter().map(|peer| peer.name).collect();
    let text = report::table(&scenarios, &names, &results);
    println!("{text}");
    if scenarios.len() == SCENARIOS.len() && peers.len() == PEERS.len() {
        report::write(&text, &scenarios, &names, &results, rounds)?;
    }
    Ok(true)
}

fn measure(
    scenario: &Scenario,
    peer: &Peer,
    origin: &Origin,
    work: &std::path::Path,
    length: Duration,
    results: &Results,
    round: usize,
) -> Result<Sample, String> {
    let running = Running::start(peer, origin, work)?;
    match scenario.kind {
        Kind::Full { connections, path, close, tcp } => {
            let url = running.url(tcp, path);
            load::wrk(&running, &url, connections, close, length)
        }
        Kind::HalfRate { connections, path } => {
            // HAProxy's rate of the last round in which it was measured, else of this one.
            let full = results.get(&("http-64", "haproxy")).and_then(|samples| {
                samples.get(round).or_else(|| samples.last()).map(|sample| sample.rate)
            });
            let rate = full.unwrap_or(20_000.0) / 2.0;
            load::h2load(&running, &running.url(false, path), connections, rate, length, work)
        }
        Kind::Idle { connections } => load::idle(&running, connections),
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn is_chosen(variable: &str, name: &str) -> bool {
    std::env::var(variable).map_or(true, |list| list.split(',').any(|one| one == name))
}
