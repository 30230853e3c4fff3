//! A balancer and an agent in one process share what they learn.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::http::ask;
use crate::e2e::harness::replica::ok;
use crate::e2e::harness::{Client, Evenkeel, Replica, free_port, until};

/// Two replicas behind a listener, and an agent beside it; five errors in a row eject.
struct Site {
    program: Evenkeel,
    config: String,
    web: SocketAddr,
    agent: SocketAddr,
    _replicas: [Replica; 2],
}

impl Site {
    fn start() -> Site {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (web, agent) = (at(free_port()), at(free_port()));
        let replica = |name: &'static str| {
            Replica::http(move |seen| match seen.line().contains("/fail") && name == "a" {
                true => b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec(),
                false => ok(name),
            })
        };
        let replicas = [replica("a"), replica("b")];
        let config = format!(
            "workers: 1\nagent: {{ bind: {agent} }}\nlisteners: {{ web: {{ bind: {web}, service: web }} }}\n\
             services:\n  web:\n    health: off\n    retry: off\n    \
             outlier: {{ consecutive: 5, ejection: 5m }}\n    \
             endpoints: [ {{ address: {}, id: a }}, {{ address: {}, id: b }} ]\n",
            replicas[0].address, replicas[1].address
        );
        Site { program: Evenkeel::run(&config), config, web, agent, _replicas: replicas }
    }

    fn pick(&self) -> Value {
        let (status, picked) = ask(self.agent, "POST", "/v1/pick", &json!({ "service": "web" }));
        assert_eq!(status, 200, "{picked}");
        picked
    }

    fn report(&self, picked: &Value, outcome: &str) {
        let told = json!({ "id": picked["id"], "outcome": outcome, "latency_ms": 3 });
        assert_eq!(ask(self.agent, "POST", "/v1/report", &told).0, 200);
    }

    fn wait_ejected(&self) {
        until("a to be ejected", || self.program.endpoint("web", "a")["state"] == "ejected");
    }
}

#[test]
fn agent_failures_eject_for_the_proxy() {
    let site = Site::start();
    assert!((0..4).map(|_| Client::get(site.web, "/").text()).any(|name| name == "a"));
    let mut failures = 0;
    until("five failures of a told", || {
        let picked = site.pick();
        let failed = picked["endpoint"] == "a";
        site.report(&picked, if failed { "server_error" } else { "success" });
        failures += u32::from(failed);
        failures >= 5
    });
    site.wait_ejected();
    for _ in 0..20 {
        assert_eq!(Client::get(site.web, "/").text(), "b");
    }
    let latency = &site.program.endpoint("web", "b")["latency_us"];
    assert!(latency.as_u64().is_some_and(|us| us > 0), "what callers measured counts: {latency}");
}

#[test]
fn agent_callers_are_kept_from_what_fails_in_the_proxy() {
    let site = Site::start();
    assert!((0..4).any(|_| {
        let picked = site.pick();
        site.report(&picked, "success");
        picked["endpoint"] == "a"
    }));
    until("a to fail five times in a row", || {
        Client::get(site.web, "/fail");
        site.program.endpoint("web", "a")["state"] == "ejected"
    });
    for _ in 0..20 {
        let picked = site.pick();
        assert_eq!(picked["endpoint"], "b");
        site.report(&picked, "success");
    }
}

/// Who is asked for least by the proxy is who callers are given.
#[test]
fn agent_picks_count_as_load_for_the_proxy() {
    let site = Site::start();
    let policy = "health: off\n    policy: least_request";
    site.program.reconfigure(&site.config.replace("health: off", policy));
    // Held by a caller: all of the proxy's requests go elsewhere.
    let held = site.pick();
    let endpoint = held["endpoint"].as_str().unwrap();
    let names: Vec<String> = (0..20).map(|_| Client::get(site.web, "/").text()).collect();
    assert!(names.iter().all(|name| name != endpoint), "{endpoint} is held: {names:?}");
    site.report(&held, "success");
    until("it is used again", || Client::get(site.web, "/").text() == endpoint);
}
