//! `evenkeel simulate` on the scenario of its example: what is published of it comes out.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::harness::program::Folder;

fn simulate(arguments: &[&str]) -> Output {
    simulate_scenario("examples/simulate-slow-replica/scenario.yaml", arguments)
}

fn simulate_scenario(scenario: &str, arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .current_dir(root)
        .args(["simulate", scenario])
        .args(arguments)
        .output()
        .unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = simulate(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// "Beyond Round Robin: Load Balancing for Latency" (Linkerd, 2016).
#[test]
fn the_slow_replica_comes_out_as_published() {
    let result = json(&[]);
    let reports = result["policies"].as_array().unwrap();
    assert_eq!(reports.len(), 5);
    for report in reports {
        let (low, high) = match report["policy"].as_str().unwrap() {
            "round_robin" | "random" => (0.945, 0.955),
            "least_request" | "least_connections" => (0.99, 0.998),
            "peak_ewma" => (0.999, 1.0),
            other => panic!("no figures for {other}"),
        };
        let count = |key: &str| report[key].as_f64().unwrap();
        let success = count("succeeded") / count("requests");
        assert!((low..=high).contains(&success), "{}: {success}", report["policy"]);
        assert_eq!(report["violations"], Value::Array(Vec::new()));
        assert_eq!(report["requests"], reports[0]["requests"], "the same arrivals");
    }
}

/// `examples/simulate-prequal`: "Load is not what you should balance" (NSDI 2024).
#[test]
fn prequal_has_the_shortest_tail_beside_antagonists() {
    let output = simulate_scenario("examples/simulate-prequal/scenario.yaml", &["--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let reports = result["policies"].as_array().unwrap();
    let tail = |policy: &str| {
        let report = reports.iter().find(|report| report["policy"] == policy).unwrap();
        ["p99_ms", "p999_ms"].map(|key| report[key].as_f64().unwrap())
    };
    let prequal = tail("prequal");
    for (policy, times) in [("round_robin", 10.0), ("least_request", 1.0), ("peak_ewma", 1.0)] {
        let other = tail(policy);
        assert!(
            (0..2).all(|index| prequal[index] * times < other[index]),
            "{prequal:?}, {policy} {other:?}"
        );
    }
}

#[test]
fn a_seed_replays_and_policies_can_be_chosen() {
    let chosen = |seed| json(&["--policy", "random,peak_ewma", "--seed", seed]);
    let (first, second, other) = (chosen("3"), chosen("3"), chosen("4"));
    assert_eq!(first, second);
    let hash = |result: &Value| result["policies"][1]["hash"].clone();
    assert_ne!(hash(&first), hash(&other));
    assert_eq!(first["policies"][1]["policy"], "peak_ewma");
    let wrong = simulate(&["--policy", "peak_emwa"]);
    assert_eq!(wrong.status.code(), Some(2));
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(said.contains("did you mean `peak_ewma`?"), "{said}");
}

#[test]
fn a_table_and_a_picture() {
    let folder = Folder::new();
    let picture = folder.0.join("slow.svg");
    let output = simulate(&["--svg", picture.to_str().unwrap()]);
    assert!(output.status.success());
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.starts_with("POLICY") && table.lines().count() == 6, "{table}");
    let svg = std::fs::read_to_string(picture).unwrap();
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("<polyline").count(), 10);
}
