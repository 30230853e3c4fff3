//! The program, with containers for replicas.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::Client;
use super::engine::Engine;
use super::program::{Evenkeel, free_port};
use super::wait::until;
use super::wrk::Wrk;

/// A balancer whose only configuration is where the engine is and where to listen.
pub struct Balancer {
    pub program: Evenkeel,
    pub address: SocketAddr,
}

/// Longer than any of the tests lets it run: it is stopped.
pub const LOAD_SECONDS: u64 = 1800;

impl Balancer {
    pub fn start(engine: &Engine, more: &str) -> Balancer {
        Self::start_with(engine, "", more)
    }

    /// `options` of the provider, and `more` of the file.
    pub fn start_with(engine: &Engine, options: &str, more: &str) -> Balancer {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let socket = engine.socket();
        let program = Evenkeel::run(&format!(
            "admin: {{ bind: ADMIN }}\n\
             providers: {{ docker: {{ socket: {socket}, statistics: 1s, {options} }} }}\n\
             listeners:\n  web: {{ bind: {address} }}\n{more}"
        ));
        Balancer { program, address }
    }

    pub fn load(&self) -> Wrk {
        Wrk::start(self.address, "/", 8, LOAD_SECONDS)
    }

    /// Who answers.
    pub fn answers(&self, host: &str) -> String {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let response = Client::exchange(self.address, request).unwrap();
        match response.status {
            200 => response.text().split(' ').next().unwrap_or_default().to_owned(),
            status => status.to_string(),
        }
    }

    /// The endpoints of a service that are listed, by state.
    pub fn states(&self, service: &str) -> Vec<String> {
        let all = self.program.api("/v1/services");
        let all = all["services"].as_array().unwrap();
        let Some(service) = all.iter().find(|s| s["name"] == service) else { return Vec::new() };
        let mut states: Vec<String> = service["endpoints"]
            .as_array()
            .unwrap()
            .iter()
            .map(|endpoint| endpoint["state"].as_str().unwrap().to_owned())
            .collect();
        states.sort();
        states
    }

    pub fn wait_healthy(&self, service: &str, count: usize) {
        let states = || self.states(service);
        until(&format!("{count} of {service}; {}", self.program.log()), || {
            states().len() == count && states().iter().all(|state| state == "healthy")
        });
    }

    /// How long it takes from now until each of them has had a request: see [`assert_prompt`].
    pub fn wait_serving(&self, service: &str, count: usize) -> Duration {
        let start = Instant::now();
        until(&format!("traffic reaches all {count} of {service}"), || {
            let service = self.program.service(service);
            let all = service["endpoints"].as_array().unwrap();
            all.len() == count && all.iter().all(|e| e["requests"].as_u64() > Some(0))
        });
        start.elapsed()
    }

    pub fn discovery(&self) -> Value {
        self.program.api("/v1/discovery")["discovery"][0].clone()
    }

    pub fn wait_left_out(&self, name: &str, reason: &str) {
        until(&format!("{name} left out: {reason}: {}", self.discovery()), || {
            let discovery = self.discovery();
            let all = discovery["left_out"].as_array().unwrap();
            all.iter().any(|l| l["name"] == name && l["reason"].as_str().unwrap().contains(reason))
        });
    }
}

/// Of the times that new replicas waited from their health check to their first request, one in two
/// is at most a second: a machine that stands still for a moment is no fault of ours. Answers the
/// longest.
pub fn assert_prompt(mut times: Vec<Duration>) -> Duration {
    times.sort();
    assert!(times[(times.len() - 1) / 2] <= Duration::from_secs(1), "{times:?}");
    times[times.len() - 1]
}
