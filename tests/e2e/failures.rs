//! Endpoints that fail while checks say otherwise, that come back slowly, and that are too many to
//! be left out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use super::harness::replica::ok;
use super::harness::{Client, Evenkeel, Replica, free_port, until};

/// Replicas named by letters, each with a switch that makes it ill: then it answers the path
/// `/healthz`, or everything, with 500.
struct Site {
    program: Evenkeel,
    web: SocketAddr,
    replicas: Vec<(&'static str, Arc<AtomicBool>, Replica)>,
    config: String,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

const CHECKS: &str =
    "health: { http: /healthz, interval: 100ms, unhealthy_after: 1, healthy_after: 1 }";

impl Site {
    /// `priorities` has one number for each replica.
    fn start(priorities: &[u8], only_checks_fail: bool, service: &str) -> Site {
        let replica = |name: &'static str| {
            let ill = Arc::new(AtomicBool::new(false));
            let switch = ill.clone();
            let replica = Replica::http(move |request| {
                let concerned = !only_checks_fail || request.line().contains("/healthz");
                match ill.load(SeqCst) && concerned {
                    true => b"HTTP/1.1 500 Down\r\nContent-Length: 0\r\n\r\n".to_vec(),
                    false => ok(name),
                }
            });
            (name, switch, replica)
        };
        let replicas: Vec<_> = NAMES.iter().take(priorities.len()).map(|n| replica(n)).collect();
        let web = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let endpoint = |((name, _, replica), priority): (&(_, _, Replica), &u8)| {
            let address = replica.address;
            format!("{{ address: {address}, id: {name}, priority: {priority} }}")
        };
        let endpoints: Vec<String> = replicas.iter().zip(priorities).map(endpoint).collect();
        let config = format!(
            "workers: 1\nlisteners: {{ web: {{ bind: {web}, service: app }} }}\nservices:\n  app:\n    \
             endpoints: [{}]\n    retry: off\n    {service}\n",
            endpoints.join(", ")
        );
        let program = Evenkeel::run(&config);
        until("all are proven", || program.count("app", "healthy") == replicas.len());
        Site { program, web, replicas, config }
    }

    fn set_ill(&self, names: &str) {
        for (name, ill, _) in &self.replicas {
            ill.store(names.contains(name), SeqCst);
        }
    }

    fn ask(&self) -> (u16, String) {
        let response = Client::get(self.web, "/");
        (response.status, response.text())
    }

    /// Who answered how many of so many requests, all of them well.
    fn shares(&self, requests: usize) -> BTreeMap<String, usize> {
        let mut shares = BTreeMap::new();
        for _ in 0..requests {
            let (status, name) = self.ask();
            assert_eq!(status, 200, "{}", self.program.service("app"));
            *shares.entry(name).or_default() += 1;
        }
        shares
    }

    fn metrics(&self) -> String {
        Client::get(self.program.admin, "/metrics").text()
    }

    fn reason(&self, id: &str) -> String {
        self.program.endpoint("app", id)["reason"].as_str().unwrap().to_owned()
    }
}

fn shares<const N: usize>(of: [(&str, usize); N]) -> BTreeMap<String, usize> {
    of.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

#[test]
fn a_replica_that_answers_500_is_ejected_and_returns() {
    let site = Site::start(&[0, 0, 0], false, "outlier: { consecutive: 5, ejection: 5s }");
    site.set_ill("b");
    let mut failed = 0;
    until("the fifth 500 in a row ejects it", || {
        failed += usize::from(site.ask().0 == 500);
        site.program.count("app", "ejected") == 1
    });
    // What comes while the suspicion is on its way may fail, too.
    assert!((5..8).contains(&failed), "{failed} failed");
    let told = site.reason("b");
    assert!(told.starts_with("5 requests in a row failed; back in "), "{told}");
    let (done, said) = site.program.verb(&["status"]);
    assert!(done && said.contains("ejected") && said.contains("(1st time)"), "{said}");
    assert_eq!(site.shares(20), shares([("a", 10), ("c", 10)]));
    let metrics = site.metrics();
    let counted = r#"evenkeel_ejections_total{service="app",reason="consecutive"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
    site.set_ill("");
    until("its time is over", || site.program.count("app", "healthy") == 3);
    assert_eq!(site.shares(9), shares([("a", 3), ("b", 3), ("c", 3)]));
    assert!(site.reason("b").contains("on probation"), "{}", site.reason("b"));
    eprintln!("{failed} of the requests failed until it was ejected, and none after");
}

#[test]
fn an_endpoint_that_comes_back_starts_slowly() {
    let site = Site::start(&[0, 0], false, "slow_start: off");
    let with = "slow_start: { window: 1h, hold_above: off }";
    site.program.reconfigure(&site.config.replace("slow_start: off", with));
    assert_eq!(site.shares(20), shares([("a", 10), ("b", 10)]), "nobody just began");
    for verb in ["drain", "undrain"] {
        let (done, said) = site.program.verb(&[verb, "app", "b"]);
        assert!(done, "{said}");
    }
    assert!(site.reason("b").ends_with("slow start 10 %"), "{}", site.reason("b"));
    assert_eq!(site.shares(110), shares([("a", 100), ("b", 10)]));
    let soon = site.config.replace("slow_start: off", "slow_start: 100ms");
    site.program.reconfigure(&soon);
    until("it has its share", || !site.reason("b").contains("slow start"));
    assert_eq!(site.shares(20), shares([("a", 10), ("b", 10)]));
}

#[test]
fn when_too_many_are_ill_all_are_used() {
    let site = Site::start(&[0, 0, 0, 0], true, &format!("{CHECKS}\n    panic: 50%"));
    site.set_ill("a");
    until("one is out", || site.program.count("app", "unhealthy") == 1);
    assert_eq!(site.shares(30), shares([("b", 10), ("c", 10), ("d", 10)]));
    site.set_ill("abc");
    until("panic", || site.program.service("app")["panic"] == true);
    until("all three are out", || site.program.count("app", "unhealthy") == 3);
    assert_eq!(site.shares(40), shares([("a", 10), ("b", 10), ("c", 10), ("d", 10)]));
    assert!(site.reason("a").ends_with("; used in panic"), "{}", site.reason("a"));
    let (done, said) = site.program.verb(&["status"]);
    assert!(done && said.contains("1 of 4, panic"), "{said}");
    assert!(site.metrics().contains(r#"evenkeel_service_panic{service="app"} 1"#));
    site.set_ill("");
    until("it is over", || site.program.service("app")["panic"] == false);
}

#[test]
fn the_next_priority_joins_when_too_few_are_healthy() {
    let service = format!("{CHECKS}\n    failover_below: 70%");
    let site = Site::start(&[0, 0, 0, 1], true, &service);
    assert_eq!(site.shares(30), shares([("a", 10), ("b", 10), ("c", 10)]));
    site.set_ill("b");
    until("two of three are left", || site.program.count("app", "unhealthy") == 1);
    assert_eq!(site.shares(30), shares([("a", 10), ("c", 10), ("d", 10)]));
    site.set_ill("");
    until("all are back", || site.program.count("app", "healthy") == 4);
    assert_eq!(site.shares(30), shares([("a", 10), ("b", 10), ("c", 10)]));
}

#[test]
fn an_agent_takes_an_endpoint_out_and_gives_weights() {
    // One agent for all, as for replicas on one machine: it is told whom it is asked about.
    let words: Arc<Mutex<BTreeMap<String, &str>>> = Arc::default();
    let known = words.clone();
    let agent = Replica::raw(move |connection| {
        let Some(about) = connection.line() else { return };
        let word = known.lock().unwrap().get(&about).copied();
        let _ = connection.send(word.unwrap_or("up 100%\n"));
    });
    let health = format!(
        "health: {{ interval: 100ms, agent: {{ port: {}, send: \"{{address}}\\r\\n\" }} }}",
        agent.port()
    );
    let site = Site::start(&[0, 0, 0], false, &health);
    let says = |name: &str, word| {
        let replica = site.replicas.iter().find(|(other, _, _)| *other == name);
        let address = replica.unwrap().2.address.to_string();
        words.lock().unwrap().insert(address, word);
    };
    says("b", "down#disk is full\n");
    until("it is out", || site.program.count("app", "unhealthy") == 1);
    assert_eq!(site.reason("b"), "its agent: down: disk is full");
    assert_eq!(site.shares(20), shares([("a", 10), ("c", 10)]));
    says("b", "up, 50% cpu:83%\n");
    until("it is back", || site.reason("b").ends_with("its agent: 50 % of the weight"));
    assert_eq!(site.shares(20), shares([("a", 8), ("b", 4), ("c", 8)]));
    assert_eq!(site.program.endpoint("app", "b")["utilization"]["cpu"], 0.83);
    says("b", "drain\n");
    until("it gets nothing", || site.program.endpoint("app", "b")["weight"] == 0);
    assert_eq!(site.shares(20), shares([("a", 10), ("c", 10)]));
    // An agent that is away leaves things as they are.
    agent.stop();
    says("b", "ready\n");
    assert_eq!(site.shares(20), shares([("a", 10), ("c", 10)]));
    site.program.reconfigure(&site.config.replace(&health, ""));
    until("without an agent", || site.program.endpoint("app", "b")["weight"] == 1);
    assert_eq!(site.shares(9), shares([("a", 3), ("b", 3), ("c", 3)]));
}
