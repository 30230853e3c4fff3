//! The slow replica of "Beyond Round Robin: Load Balancing for Latency" (Linkerd, 2016) through
//! the whole program, and in the simulator: one of ten answers in twice the clients' patience for
//! half of the time. What is counted is how many requests the policy sent there; the two must
//! agree.
//!
//! As examples/simulate-slow-replica, five times as fast.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use model::Rng;
use serde_json::Value;

use super::harness::open_loop::{Fate, OpenLoop};
use super::harness::program::{BINARY, Folder};
use super::harness::replica::ok;
use super::harness::{Evenkeel, Replica, Seen, free_port};

const RATE: f64 = 1000.0;
const LASTS: Duration = Duration::from_secs(12);
const TIMEOUT: Duration = Duration::from_millis(200);
const SLOW_FROM: Duration = Duration::from_secs(3);
const SLOW_FOR: Duration = Duration::from_secs(6);
const SLOW: Duration = Duration::from_millis(400);
const MEDIAN: Duration = Duration::from_millis(6);
const SIGMA: f64 = 0.3;

/// Each policy, how it is written, and the success that it owes: 95 % for round robin, 99 % for
/// the least loaded, 99.9 % for what learns latencies. Averages decay five times as fast, too.
const POLICIES: &[(&str, &str, f64)] = &[
    // A twentieth of all is the mean, give or take a standard deviation of 0.2 %.
    ("round_robin", "round_robin", 0.945),
    ("least_request", "least_request", 0.99),
    ("least_connections", "least_connections", 0.99),
    ("peak_ewma", "{ peak_ewma: { decay: 2s } }", 0.999),
];

/// How far the data plane and the simulator may be apart.
const TOLERANCE: f64 = 0.005;

/// A machine that has other things to do is slow by itself. Requests that were late or failed
/// elsewhere are not counted; where they are more than this share, the run is made again.
const DISTURBED: f64 = 0.002;
const RUNS_MAX: usize = 4;

/// Which requests (policy and number) the slow replica got while it was slow.
type Unlucky = Arc<Mutex<BTreeSet<(usize, usize)>>>;

struct Counts {
    /// Answered; failed since the slow replica had it; not counted.
    answered: usize,
    slow: usize,
    missed: usize,
}

impl Counts {
    fn success(&self) -> f64 {
        self.answered as f64 / (self.answered + self.slow) as f64
    }
    fn disturbed(&self) -> f64 {
        self.missed as f64 / (self.answered + self.slow + self.missed) as f64
    }
}

/// The time that a request takes: log-normal (Box and Muller, 1958).
fn usual(policy: usize, number: usize) -> Duration {
    let mut rng = Rng::from_seed((policy as u64) << 32 | number as u64);
    let radius = (-2.0 * (1.0 - rng.unit()).ln()).sqrt();
    let normal = radius * (std::f64::consts::TAU * rng.unit()).cos();
    MEDIAN.mul_f64((SIGMA * normal).exp())
}

/// The number of the policy and of the request, of `/1/2345`.
fn named(seen: &Seen) -> Option<(usize, usize)> {
    let path = seen.line().split(' ').nth(1)?;
    let (policy, number) = path.trim_start_matches('/').split_once('/')?;
    Some((policy.parse().ok()?, number.parse().ok()?))
}

fn slow_answer(seen: &Seen, slow: Option<(&OnceLock<Instant>, &Unlucky)>) -> Vec<u8> {
    let Some((policy, number)) = named(seen) else { return ok("") };
    let is_slow = slow.is_some_and(|(begin, _)| {
        let since = begin.get().map_or(Duration::ZERO, Instant::elapsed);
        (SLOW_FROM..SLOW_FROM + SLOW_FOR).contains(&since)
    });
    if let Some((_, unlucky)) = slow.filter(|_| is_slow) {
        unlucky.lock().unwrap().insert((policy, number));
        thread::sleep(SLOW);
    } else {
        thread::sleep(usual(policy, number));
    }
    ok("")
}

/// All policies side by side, over the same ten replicas.
fn through_the_data_plane() -> Vec<Counts> {
    let begin: Arc<OnceLock<Instant>> = Arc::default();
    let unlucky: Unlucky = Arc::default();
    let mut replicas: Vec<Replica> =
        (0..9).map(|_| Replica::http(|seen| slow_answer(seen, None))).collect();
    let (clock, seen_by_slow) = (begin.clone(), unlucky.clone());
    replicas.push(Replica::http(move |seen| slow_answer(seen, Some((&clock, &seen_by_slow)))));
    let addresses: Vec<String> = replicas.iter().map(|r| r.address.to_string()).collect();
    let ports: Vec<u16> = POLICIES.iter().map(|_| free_port()).collect();
    let (mut listeners, mut services) = (String::new(), String::new());
    for ((name, policy, _), port) in POLICIES.iter().zip(&ports) {
        let _ = writeln!(listeners, "  {name}: {{ bind: 127.0.0.1:{port}, service: {name} }}");
        let endpoints = addresses.join(", ");
        let _ = writeln!(
            services,
            "  {name}: {{ policy: {policy}, health: off, retry: off, endpoints: [ {endpoints} ] }}"
        );
    }
    let _program = Evenkeel::run(&format!("listeners:\n{listeners}services:\n{services}"));
    // A moment ahead, so that all clients are there.
    let start = *begin.get_or_init(|| Instant::now() + Duration::from_millis(200));
    let fates = thread::scope(|scope| {
        let client = |(policy, port): (usize, &u16)| {
            let seed = 1 + policy as u64;
            let address = ([127, 0, 0, 1], *port).into();
            let clients = OpenLoop { address, rate: RATE, lasts: LASTS, timeout: TIMEOUT, seed };
            scope.spawn(move || clients.run(start, |n| format!("/{policy}/{n}")))
        };
        let running: Vec<_> = ports.iter().enumerate().map(client).collect();
        running.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    let unlucky = unlucky.lock().unwrap();
    let counted = |(policy, fates): (usize, &Vec<Fate>)| {
        let mut counts = Counts { answered: 0, slow: 0, missed: 0 };
        for (number, fate) in fates.iter().enumerate() {
            match fate {
                Fate::Answered => counts.answered += 1,
                Fate::Failed if unlucky.contains(&(policy, number)) => counts.slow += 1,
                Fate::Failed | Fate::Late => counts.missed += 1,
            }
        }
        counts
    };
    fates.iter().enumerate().map(counted).collect()
}

/// Success by policy.
fn simulated() -> Vec<f64> {
    let policies: Vec<&str> = POLICIES.iter().map(|(_, policy, _)| *policy).collect();
    let (ms, s) = (|d: Duration| d.as_millis(), |d: Duration| d.as_secs());
    let latency = format!("latency: {{ median: {}ms, sigma: {SIGMA} }}", ms(MEDIAN));
    let scenario = format!(
        "duration: {}s\npolicies: [{}]\nservice: {{ health: off, retry: off }}\n\
         clients: {{ all: {{ rate: {RATE}, timeout: {}ms }} }}\n\
         endpoints:\n  steady: {{ count: 9, {latency} }}\n  slow: {{ {latency} }}\n\
         events: [ {{ at: {}s, for: {}s, endpoints: slow, latency: {}ms }} ]\n",
        s(LASTS),
        policies.join(", "),
        ms(TIMEOUT),
        s(SLOW_FROM),
        s(SLOW_FOR),
        ms(SLOW)
    );
    let folder = Folder::new();
    let file = folder.join("scenario.yaml");
    std::fs::write(&file, scenario).unwrap();
    let output = Command::new(BINARY).arg("simulate").arg(&file).arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let reports = result["policies"].as_array().unwrap();
    let success = |report: &Value| {
        report["succeeded"].as_f64().unwrap() / report["requests"].as_f64().unwrap()
    };
    reports.iter().map(success).collect()
}

/// Retries are off: what is left is the policy.
#[test]
fn the_data_plane_and_the_simulator_agree_on_a_slow_replica() {
    let simulated = simulated();
    for run in 1..=RUNS_MAX {
        let counted = through_the_data_plane();
        let mut wrong = String::new();
        for (((name, _, owed), counts), simulated) in POLICIES.iter().zip(&counted).zip(&simulated)
        {
            let success = counts.success();
            eprintln!(
                "{name}: {:.2} % through the data plane, {:.2} % simulated; {} answered, {} at \
                 the slow replica, {} not counted",
                success * 100.0,
                simulated * 100.0,
                counts.answered,
                counts.slow,
                counts.missed
            );
            if success < *owed || *simulated < *owed || (success - simulated).abs() > TOLERANCE {
                let _ = write!(wrong, "{name}: {success} and {simulated}, {owed} owed; ");
            }
        }
        if wrong.is_empty() {
            return;
        }
        // What a quiet machine shows holds; a disturbed one is asked again.
        let is_disturbed = counted.iter().any(|counts| counts.disturbed() > DISTURBED);
        assert!(is_disturbed && run < RUNS_MAX, "in run {run}: {wrong}");
    }
}
