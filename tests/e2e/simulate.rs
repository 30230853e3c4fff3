//! `evenkeel simulate`: on the scenario of its example, where what is published of it comes out; on
//! a configuration of the user's own; and on what an access log recorded.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::harness::program::{BINARY, Folder};
use super::harness::{Client, Evenkeel, Replica, free_port, until};

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
    assert_eq!(reports.len(), 7);
    for report in reports {
        let (low, high) = match report["policy"].as_str().unwrap() {
            "round_robin" | "random" | "lars" => (0.945, 0.955),
            "least_request" | "least_connections" => (0.99, 0.998),
            "response_time" => (0.997, 0.9995),
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
    assert!(table.starts_with("POLICY") && table.lines().count() == 8, "{table}");
    let svg = std::fs::read_to_string(picture).unwrap();
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    assert_eq!(svg.matches("<polyline").count(), 14);
}

/// In this folder: exit status, standard output and standard error.
fn simulate_in(folder: &Folder, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output =
        Command::new(BINARY).current_dir(&folder.0).arg("simulate").args(arguments).output();
    let output = output.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

const OWN: &str = "\
listeners: { web: { bind: 127.0.0.1:8080, service: web } }
services:
  web:
    policy: { least_request: { choices: 3 } }
    endpoints:
      - 127.0.0.1:5001
      - { address: 127.0.0.1:5002, weight: 3 }
      - { address: 127.0.0.1:5003, priority: 1 }
";

#[test]
fn a_service_of_the_own_configuration_is_played() {
    let folder = Folder::new();
    std::fs::write(folder.join("evenkeel.yaml"), OWN).unwrap();
    let scenario = "duration: 10s\nclients: { shop: { rate: 300 } }\npolicies: [round_robin]\n\
                    endpoints: { web: { latency: 10ms }, new: { latency: 10ms } }\n";
    std::fs::write(folder.join("scenario.yaml"), scenario).unwrap();
    let both = ["-c", "evenkeel.yaml", "scenario.yaml", "--json"];
    let (status, out, err) = simulate_in(&folder, &both);
    assert_eq!(status, Some(0), "{err}");
    let result: Value = serde_json::from_str(&out).unwrap();
    let policies = result["policies"].as_array().unwrap();
    let names: Vec<&Value> = policies.iter().map(|report| &report["policy"]).collect();
    assert_eq!(names, ["least_request", "round_robin"], "what it has now comes first");
    let picks: Vec<u64> = policies[1]["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|endpoint| endpoint["picks"].as_u64().unwrap())
        .collect();
    let [first, second, last_resort, new] = picks[..] else { panic!("{picks:?}") };
    assert_eq!((last_resort, first.abs_diff(new) <= 1), (0, true), "{picks:?}");
    assert!(second.abs_diff(3 * first) <= 3, "{picks:?}");

    let wrong = scenario.replace("web:", "app:");
    std::fs::write(folder.join("scenario.yaml"), wrong).unwrap();
    let (status, _, err) = simulate_in(&folder, &both);
    assert!(status == Some(2) && err.contains("`web: { latency: 20ms }`"), "{err}");
}

#[test]
fn what_if_two_replicas_are_lost() {
    let folder = Folder::new();
    let config = "listeners: { web: { bind: 127.0.0.1:8080, service: web } }\n\
                  services: { web: { run: { command: sleep 1, replicas: 5 } } }\n";
    std::fs::write(folder.join("evenkeel.yaml"), config).unwrap();
    let question = ["-c", "evenkeel.yaml", "--rate", "200", "--latency", "50ms", "--threads", "4"];
    // Five serve four at a time in 57 ms on average: 350 a second. Three: 210.
    let more = ["--lose", "2", "--duration", "20s", "--policy", "round_robin,least_request"];
    let arguments = [&question[..], &more].concat();
    let (status, out, err) = simulate_in(&folder, &arguments);
    assert_eq!(status, Some(0), "{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 5, "{out}");
    assert!(lines[1].starts_with("round_robin (now)  5  "), "{out}");
    assert!(lines[2].starts_with("round_robin (now)  5, 2 lost  "), "{out}");
    let (_, out, _) = simulate_in(&folder, &[&arguments[..], &["--json"]].concat());
    let result: Value = serde_json::from_str(&out).unwrap();
    let p99 = |case: usize, policy: usize| {
        result["cases"][case]["policies"][policy]["p99_ms"].as_f64().unwrap()
    };
    assert_eq!(result["cases"][1]["endpoints"], "5, 2 lost");
    for policy in [0, 1] {
        assert!(p99(1, policy) > 1.2 * p99(0, policy), "{policy}");
    }
    for (arguments, said) in [
        (&[][..], "<SCENARIO>"),
        (&["-c", "evenkeel.yaml"], "--rate 500 --latency 20ms"),
        (&["-c", "evenkeel.yaml", "--service", "wep"], "did you mean `web`?"),
        (&["--service", "web", "s.yaml"], "--config"),
        (&["-c", "evenkeel.yaml", "--rate", "1", "s.yaml"], "cannot be used with"),
        (&["-c", "evenkeel.yaml", "--rate", "-1", "--latency", "1s"], "--rate"),
    ] {
        let (status, _, err) = simulate_in(&folder, arguments);
        assert!(status == Some(2) && err.contains(said), "{arguments:?}: {err}");
    }
}

#[test]
fn what_an_access_log_recorded_is_played_again() {
    let folder = Folder::new();
    let log = folder.join("access.log");
    let replicas = [Replica::named("a"), Replica::named("b")];
    let port = free_port();
    let program = Evenkeel::run(&format!(
        "access_log: FILE {}\n\
         listeners: {{ web: {{ bind: 127.0.0.1:{port}, service: web }} }}\n\
         services: {{ web: {{ endpoints: [ {}, {} ] }} }}\n",
        log.display(),
        replicas[0].address,
        replicas[1].address
    ));
    until("two healthy replicas", || program.count("web", "healthy") == 2);
    for _ in 0..60 {
        assert_eq!(Client::get(([127, 0, 0, 1], port).into(), "/").status, 200);
    }
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    until("sixty lines", || read().lines().count() == 60);
    drop(program);

    let scenario = "duration: 60s\npolicies: [rendezvous]\n\
        clients: { past: { recorded: { access_log: access.log, service: web, durations: true } } }\n\
        endpoints: { web: { count: 2, latency: 10s } }\n";
    std::fs::write(folder.join("scenario.yaml"), scenario).unwrap();
    let (status, out, err) = simulate_in(&folder, &["scenario.yaml", "--json"]);
    assert_eq!(status, Some(0), "{err}");
    let result: Value = serde_json::from_str(&out).unwrap();
    let report = &result["policies"][0];
    // All of one client: one key, one endpoint; and as fast as they were, not 10 s.
    assert_eq!((&report["requests"], &report["succeeded"]), (&60.into(), &60.into()));
    assert_eq!(report["moved"], 0.0);
    assert!(report["p50_ms"].as_f64().unwrap() < 5000.0, "{report}");

    std::fs::write(&log, read() + "127.0.0.1 - - GET /\n").unwrap();
    let (status, _, err) = simulate_in(&folder, &["scenario.yaml"]);
    assert!(status == Some(1) && err.contains("access.log:61: no line of"), "{err}");
    std::fs::write(&log, "").unwrap();
    let (status, _, err) = simulate_in(&folder, &["scenario.yaml"]);
    assert!(status == Some(1) && err.contains("has no request to web"), "{err}");
}
