use std::fmt::Write as _;
use std::net::SocketAddr;

use super::program::{Evenkeel, free_port};
use super::replica::Replica;

/// One HTTP listener in front of one service, `app`.
pub struct Web {
    pub program: Evenkeel,
    pub address: SocketAddr,
}

impl Web {
    /// `listener` and `service` hold further lines of the two sections. Without a word on `health`
    /// nothing is checked, so that replicas see only what clients sent.
    pub fn start(replicas: &[&Replica], listener: &str, service: &str) -> Web {
        let addresses: Vec<_> = replicas.iter().map(|replica| replica.address).collect();
        Self::before(&addresses, listener, service)
    }

    /// The same in front of any addresses.
    pub fn before(endpoints: &[SocketAddr], listener: &str, service: &str) -> Web {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = Self::config(address, endpoints, listener, service);
        let program = Evenkeel::run(&config);
        Web { program, address }
    }

    fn config(
        address: SocketAddr,
        endpoints: &[SocketAddr],
        listener: &str,
        service: &str,
    ) -> String {
        let mut config = String::from("workers: 1\nlisteners:\n  web:\n    service: app\n");
        let _ = writeln!(config, "    bind: {address}");
        indent(&mut config, listener);
        config.push_str("services:\n  app:\n");
        let endpoints: Vec<_> = endpoints.iter().map(SocketAddr::to_string).collect();
        let _ = writeln!(config, "    endpoints: [{}]", endpoints.join(", "));
        if !service.contains("health:") {
            config.push_str("    health: off\n");
        }
        indent(&mut config, service);
        config
    }

    /// A number that the service's status holds, such as `retries`.
    pub fn count(&self, name: &str) -> u64 {
        self.program.service("app")[name].as_u64().unwrap()
    }

    /// Requests and streams that endpoints have not finished.
    pub fn in_flight(&self) -> u64 {
        self.sum("in_flight")
    }

    /// Requests and streams that endpoints were given, attempts counted each.
    pub fn requests(&self) -> u64 {
        self.sum("requests")
    }

    fn sum(&self, name: &str) -> u64 {
        let service = self.program.service("app");
        let endpoints = service["endpoints"].as_array().unwrap();
        endpoints.iter().map(|endpoint| endpoint[name].as_u64().unwrap()).sum()
    }
}

fn indent(config: &mut String, lines: &str) {
    for line in lines.lines() {
        let _ = writeln!(config, "    {line}");
    }
}
