//! Services that we run ourselves and that sleep while nobody asks for them.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::harness::program::{BINARY, Folder};
use super::harness::{Client, Evenkeel, local, until};

fn asleep(program: &Evenkeel) -> bool {
    let service = program.service("web");
    service["asleep"] == true && service["endpoints"].as_array().unwrap().is_empty()
}

/// So many requests at once, each on a connection of its own; the time until the last was answered.
fn all_at_once(address: SocketAddr, count: usize) -> Duration {
    let begun = Instant::now();
    let ask = |_| thread::spawn(move || Client::get(address, "/").status);
    let asked: Vec<_> = (0..count).map(ask).collect();
    for status in asked {
        assert_eq!(status.join().unwrap(), 200);
    }
    begun.elapsed()
}

#[test]
fn replicas_end_when_nobody_asks_and_the_first_request_waits_for_one() {
    const ROUNDS: usize = 20;
    let (http, tcp) = (local(), local());
    let folder = Folder::new();
    let (starts, held_up) = (folder.join("starts"), folder.join("held-up"));
    let script = format!(
        "echo $REPLICA >> {}; while [ -e {} ]; do sleep 0.02; done; exec {BINARY} echo",
        starts.display(),
        held_up.display()
    );
    let program = Evenkeel::run(&format!(
        "listeners:\n  web: {{ bind: {http}, service: web }}\n  \
         raw: {{ bind: {tcp}, protocol: tcp, service: web }}\n\
         services: {{ web: {{ wake: {{ idle: 200ms }}, run: {{ command: [sh, -c, \"{script}\"] }} }} }}\n"
    ));
    let started = || fs::read_to_string(&starts).unwrap_or_default().lines().count();
    let (mut times, mut woken_once) = (Vec::new(), 0);
    for round in 0..ROUNDS {
        until("its sleep", || asleep(&program));
        let ready = Client::get(program.admin, "/readyz");
        assert_eq!(ready.status, 200, "who asks is served: {}", ready.text());
        let before = started();
        // By turns through either listener: a stream is held as a request is.
        let address = if round % 4 == 3 { tcp } else { http };
        times.push(all_at_once(address, 16));
        // Who comes later than the others by the idle time wakes it once more.
        let woken = started() - before;
        assert!(woken >= 1);
        woken_once += usize::from(woken == 1);
    }
    assert!(woken_once >= ROUNDS / 2, "{woken_once} of {ROUNDS} times woken once");
    // As long as the replica is not there, all who come wake it once, however late they are.
    until("its sleep", || asleep(&program));
    let before = started();
    fs::write(&held_up, "").unwrap();
    let all = thread::spawn(move || all_at_once(http, 16));
    until("all to wait", || program.service("web")["queue"]["queued"] == 16);
    fs::remove_file(&held_up).unwrap();
    all.join().unwrap();
    assert_eq!(started() - before, 1, "all of them wake it once");
    times.sort();
    eprintln!(
        "{ROUNDS} times woken: median {:?}, longest {:?}",
        times[ROUNDS / 2],
        times[ROUNDS - 1]
    );
    let scalings = program.api("/v1/autoscale");
    let reasons: Vec<&str> = scalings["autoscale"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|s| s["reason"].as_str())
        .collect();
    assert!(reasons.contains(&"idle for 200ms"), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains(" wait")), "{reasons:?}");
    // What is under way keeps it awake.
    let slow = Client::get(http, "/delay/1500");
    assert_eq!(slow.status, 200);
}

#[test]
fn a_request_that_comes_while_the_last_replica_ends_is_served() {
    let http = local();
    // It is slow to end, and would cut off what came to it.
    let script = format!("trap 'sleep 0.3; kill $!; exit' TERM; {BINARY} echo & wait");
    let program = Evenkeel::run(&format!(
        "listeners: {{ web: {{ bind: {http}, service: web }} }}\n\
         services: {{ web: {{ wake: {{ idle: 100ms }}, run: {{ command: [sh, -c, \"{script}\"] }} }} }}\n"
    ));
    for _ in 0..10 {
        until("a replica that ends", || program.service("web")["asleep"] == true);
        assert_eq!(Client::get(http, "/").status, 200);
    }
    assert_eq!(program.service("web")["unavailable"], 0);
}

#[test]
fn a_replica_that_does_not_come_costs_the_bound_and_no_more() {
    let (http, folder) = (local(), Folder::new());
    let good = folder.join("good");
    let script = format!("[ -e {} ] && exec {BINARY} echo; exit 3", good.display());
    let program = Evenkeel::spawn(&format!(
        "access_log: stdout\nlisteners: {{ web: {{ bind: {http}, service: web }} }}\n\
         services:\n  web:\n    wake: {{ max: 2, timeout: 3s, idle: 400ms }}\n    \
         run: {{ command: [sh, -c, \"{script}\"], replicas: 0 }}\n"
    ));
    program.wait_ready();
    let ask = || thread::spawn(move || Client::get(http, "/"));
    let asked: Vec<_> = (0..3).map(|_| ask()).collect();
    let answers: Vec<_> = asked.into_iter().map(|answer| answer.join().unwrap()).collect();
    assert!(answers.iter().all(|a| a.status == 503 && a.header("retry-after").is_some()));
    let rejected = program.service("web")["queue"]["rejected"].clone();
    assert_eq!((&rejected["wake_timeout"], &rejected["queue_full"]), (&2.into(), &1.into()));
    until("the reason in the log", || program.log().contains("\"error\":\"wake time-out\""));
    until("its end in the log", || program.log().contains("exit status: 3"));
    until("its sleep", || program.service("web")["asleep"] == true);
    // Once it is put right, who comes later is served.
    fs::write(&good, "").unwrap();
    until("an answer", || Client::get(http, "/").status == 200);
}

#[test]
fn who_is_asked_for_is_told_at_once() {
    let http = local();
    let program = Evenkeel::spawn(&format!(
        "listeners: {{ web: {{ bind: {http}, service: web }} }}\n\
         providers: {{ docker: {{ socket: /none }} }}\n\
         services: {{ web: {{ wake: {{ timeout: 5s }}, discover: {{ docker: {{ port: 1 }} }} }} }}\n"
    ));
    until("the admin API", || Client::try_get(program.admin, "/healthz").is_some());
    let alone = thread::spawn(move || Client::get(http, "/").status);
    until("that nobody listens", || program.log().contains("is `evenkeel autoscale` running?"));
    assert_eq!(alone.join().unwrap(), 503);
    let none = program.api("/v1/demand");
    assert_eq!(none["demand"], serde_json::json!([]));
    let seq = none["seq"].as_u64().unwrap();
    // It is another number, so that it answers at once; and from now on somebody listens.
    program.api(&format!("/v1/demand?after={}", seq + 1));
    let admin = program.admin;
    let listener = thread::spawn(move || Client::get(admin, &format!("/v1/demand?after={seq}")));
    let asked = thread::spawn(move || Client::get(http, "/").status);
    let told = listener.join().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!(told["demand"][0], serde_json::json!({ "service": "web", "held": 1 }));
    assert!(told["seq"].as_u64() > Some(seq));
    assert_eq!(asked.join().unwrap(), 503);
    until("the log", || program.log().contains("service web: asleep, and 1 request waits"));
    assert_eq!(program.api("/v1/demand")["demand"], serde_json::json!([]));
}
