//! Services of Compose files that have no container while nobody asks for them, on a real engine.

use std::fs;
use std::net::SocketAddr;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use super::harness::engine::Engine;
use super::harness::program::signal;
use super::harness::site::Site;
use super::harness::{Client, Response, until};

const SLEEPER: &str = "\
services:
  flask:
    image: evenkeel-echo
    ports: [\"PORT:5000\"]
    x-evenkeel: { autoscale: { min: 0, max: 3, idle: 300ms }OPTIONS }
";

/// `evenkeel autoscale`, and what it says.
struct Autoscaler<'a> {
    site: &'a Site,
    child: Child,
}

impl Autoscaler<'_> {
    fn start(site: &Site) -> Autoscaler<'_> {
        let errors = fs::File::create(site.folder.join("autoscale")).unwrap();
        let child = site.command(&["autoscale", "--every", "100ms"]).stderr(errors).spawn();
        Autoscaler { site, child: child.unwrap() }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.site.folder.join("autoscale")).unwrap()
    }

    fn times(&self, what: &str) -> usize {
        self.said().matches(what).count()
    }

    fn stop(mut self) {
        signal(self.child.id(), "INT");
        assert!(self.child.wait().unwrap().success(), "{}", self.said());
    }
}

impl Drop for Autoscaler<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn running(site: &Site) -> usize {
    site.containers("flask").iter().filter(|container| container["state"] == "running").count()
}

/// So many requests at once, each on a connection of its own.
fn all_at_once(address: SocketAddr, count: usize) -> Vec<Response> {
    let ask = |_| thread::spawn(move || Client::get(address, "/"));
    let asked: Vec<_> = (0..count).map(ask).collect();
    asked.into_iter().map(|answer| answer.join().unwrap()).collect()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The durations that follow `label` in what was said: of `awake after 812ms: 640ms until ...`.
fn durations(said: &str, before: &str, after: &str) -> Vec<Duration> {
    let part = |line: &str| {
        let text = line.split_once(before)?.1.split_once(after)?.0.to_owned();
        let (number, unit) = match text.strip_suffix("ms") {
            Some(number) => (number, 1e-3),
            None => (text.strip_suffix('s')?, 1.0),
        };
        Some(Duration::from_secs_f64(number.parse::<f64>().ok()? * unit))
    };
    said.lines().filter_map(part).collect()
}

#[test]
fn compose_sleeps_and_wakes_twenty_times_without_a_failed_request() {
    const ROUNDS: usize = 20;
    let Some(engine) = Engine::start() else { return };
    let site = Site::new(&engine, &SLEEPER.replace("OPTIONS", ""));
    site.run(&["up", "-d"]);
    let autoscaler = Autoscaler::start(&site);
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        until("no container", || running(&site) == 0);
        let before = autoscaler.times("awake after");
        let begun = Instant::now();
        let answers = all_at_once(site.address, 16);
        times.push(begun.elapsed());
        let failed = answers.iter().filter(|answer| answer.status != 200).count();
        assert_eq!(failed, 0, "round {round}: {answers:?}\n{}", autoscaler.said());
        // Who comes later than the others by the idle time wakes it once more.
        until("its waking is told", || autoscaler.times("awake after") > before);
    }
    let said = autoscaler.said();
    let woken = said.matches("awake after").count();
    assert!((ROUNDS..ROUNDS * 3 / 2).contains(&woken), "once for all who came: {said}");
    let engine_part = median(durations(&said, "to look, ", " for the engine"));
    let whole = median(times);
    eprintln!(
        "{ROUNDS} times woken by 16 requests at once, none failed: median {whole:.0?} from the \
         first request to the last answer; the engine took {engine_part:?} of it to start the \
         container, which leaves {:.0?} to us",
        whole.saturating_sub(engine_part)
    );
    // What was decided is explained, and outlives the balancer.
    let json = || site.run(&["status", "--json", "--admin", &site.admin()]);
    assert!(json().contains("idle for 300ms") && json().contains(" wait"), "{}", json());
    autoscaler.stop();
    let decided = |json: &str| {
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        json["autoscale"].as_array().unwrap().clone()
    };
    let before = decided(&json());
    assert!(before.len() >= 32, "{before:?}");
    for pid in site.balancers() {
        signal(pid, "KILL");
    }
    site.run(&["up", "-d"]);
    assert_eq!(decided(&json()), before);
    site.down();
}

#[test]
fn compose_a_request_while_the_last_container_leaves_is_served() {
    let Some(engine) = Engine::start() else { return };
    let site = Site::new(&engine, &SLEEPER.replace("OPTIONS", ", protocol: tcp"));
    site.run(&["up", "-d"]);
    let autoscaler = Autoscaler::start(&site);
    let drained = "a request came while it drained";
    let mut decided = 0;
    for round in 0.. {
        // Who was answered between the decision and the drain keeps nobody awake.
        until("the decision", || autoscaler.times("idle for") > decided || running(&site) == 0);
        decided = autoscaler.times("idle for");
        let answered = || {
            let answer = Client::get(site.address, "/");
            assert_eq!(answer.status, 200, "round {round}: {}", autoscaler.said());
        };
        if round % 2 == 0 {
            // One after the other, so that one of them comes while it drains.
            let told = || autoscaler.times(drained) + autoscaler.times("awake after");
            let before = told();
            until("who waits is noticed", || {
                answered();
                told() > before
            });
        } else {
            slow_by(round * 25);
            answered();
        }
        if round >= 11 && autoscaler.said().contains(drained) {
            break;
        }
        assert!(round < 100, "{}", autoscaler.said());
    }
    autoscaler.stop();
    site.down();
}

/// The test is about moments that nothing tells.
fn slow_by(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

#[test]
fn compose_a_container_that_cannot_start_is_tried_again_by_who_comes_later() {
    let Some(engine) = Engine::start() else { return };
    let file = SLEEPER.replace("OPTIONS", ", wake: { timeout: 1s }");
    let command = "volumes: [\"./app:/app:ro\"]\n    entrypoint: [/evenkeel, run, -c, /app/app.yaml]\n    ports:";
    let site = Site::new(&engine, &file.replace("ports:", command));
    let app = site.folder.join("app");
    fs::create_dir(&app).unwrap();
    let good = "listeners: { web: { bind: 0.0.0.0:5000, routes: [ { path: /*, respond: { status: \
                200, body: well } } ] } }\n";
    fs::write(app.join("app.yaml"), good).unwrap();
    site.run(&["up", "-d"]);
    let autoscaler = Autoscaler::start(&site);
    until("no container", || running(&site) == 0);
    fs::write(app.join("app.yaml"), "nonsense\n").unwrap();
    let answers = all_at_once(site.address, 4);
    assert!(answers.iter().all(|a| a.status == 503 && a.header("retry-after").is_some()));
    until("the reason", || {
        autoscaler.said().contains("it could not be woken: it ended with status")
    });
    let status = site.run(&["status", "--admin", &site.admin()]);
    assert!(status.contains("it could not be woken: it ended with status"), "{status}");
    fs::write(app.join("app.yaml"), good).unwrap();
    // The next attempt may be put off for longer than one request waits.
    until("an answer", || Client::get(site.address, "/").status == 200);
    autoscaler.stop();
    site.down();
}
