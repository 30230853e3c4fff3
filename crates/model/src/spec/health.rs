use std::net::SocketAddr;
use std::time::Duration;

/// How a service's endpoints are checked. On by default (`tcp`), so that a dead replica leaves
/// and comes back by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthSpec {
    pub kind: HealthKind,
    /// Between checks of one endpoint, give or take a tenth so that checks spread. Default 2 s;
    /// 100 ms to 1 h.
    pub interval: Duration,
    /// Default 5 s, up to 300 s.
    pub timeout: Duration,
    /// Failed checks in a row until it leaves. Default 3, 1 to 100.
    pub unhealthy_after: u32,
    /// Good checks in a row until one that left comes back. Default 2, 1 to 100. A new endpoint
    /// needs one.
    pub healthy_after: u32,
    /// Check another port than traffic goes to.
    pub port: Option<u16>,
    /// A program beside each endpoint that is asked, too.
    pub agent: Option<HealthAgentSpec>,
}

/// How the health agent of an endpoint is asked: a connection to the endpoint's host, a text, and one
/// line of reply (HAProxy's `agent-check`). With each check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthAgentSpec {
    pub port: u16,
    /// What is sent, up to 255 bytes, with the endpoint's address for `{address}`. Default: nothing.
    pub send: String,
}

impl HealthSpec {
    /// The address to check for traffic that goes to `address`.
    pub fn target(&self, address: SocketAddr) -> SocketAddr {
        SocketAddr::new(address.ip(), self.port.unwrap_or(address.port()))
    }
}

impl Default for HealthSpec {
    fn default() -> Self {
        Self {
            kind: HealthKind::Tcp,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(5),
            unhealthy_after: 3,
            healthy_after: 2,
            port: None,
            agent: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum HealthKind {
    /// `health: off`: always taken for well.
    Off,
    /// A connection can be made.
    Tcp,
    Http {
        path: String,
        /// Default `GET`.
        method: String,
        /// Default: the endpoint's address.
        host: Option<String>,
        headers: Vec<(String, String)>,
        /// Default 200-399.
        expect: StatusSet,
        /// Over TLS (the certificate is not verified: the check asks whether it works).
        tls: bool,
    },
    /// The health protocol of gRPC (`grpc.health.v1.Health/Check`), over HTTP/2: with TLS as traffic
    /// has it, else in clear.
    Grpc {
        /// The name of a gRPC service; empty: the server as a whole.
        service: String,
        /// Default: the endpoint's address.
        host: Option<String>,
    },
}

/// Status codes, as inclusive ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusSet(pub Vec<(u16, u16)>);

impl StatusSet {
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&status))
    }
}

impl Default for StatusSet {
    fn default() -> Self {
        Self(vec![(200, 399)])
    }
}
