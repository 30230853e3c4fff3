//! The client-side agent: whom callers ask which endpoint to use, and whom they tell how it went.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use crate::{Cidr, ServiceName};

/// Where the agent is asked, and what becomes of picks that nobody reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSpec {
    /// Of HTTP with JSON; `None`: not over TCP. Default 127.0.0.1:9901.
    pub bind: Option<SocketAddr>,
    /// Required as `Authorization: Bearer TOKEN` over TCP when set; a non-loopback `bind` demands it.
    pub token: Option<String>,
    /// A Unix socket on which the same is spoken. Who may open it needs no token.
    pub socket: Option<PathBuf>,
    /// A pick that was not reported for so long has ended. Default 60 s.
    pub expire: Duration,
    /// What such a pick counts as. Default: as one whose caller gave up, which says nothing.
    pub unreported: Unreported,
    /// Picks outstanding at once: so many of those asked for over HTTP, and as many at each of
    /// Lars' three ports. Of more, the oldest expire. Default 65,536, about 8 MiB.
    pub outstanding: usize,
    pub lars: Option<LarsSpec>,
}

/// What a pick counts as that nobody reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unreported {
    /// Its caller gave up: neither a success nor a failure.
    #[default]
    Abandoned,
    /// A failure: its endpoint did not answer in time.
    TimedOut,
}

/// The wire of Lars (github.com/aceld/Lars).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LarsSpec {
    /// A key belongs to the one at the remainder of its two numbers' sum by three. Default
    /// 127.0.0.1:8888 to 8890.
    pub udp: [SocketAddrV4; 3],
    /// The route service, which tells agents all hosts of a key, also when they change; `None`: it
    /// is not offered. Default 127.0.0.1:7778.
    pub routes: Option<SocketAddrV4>,
    /// The reporter, which is told what agents count. Default 127.0.0.1:7779.
    pub reports: Option<SocketAddrV4>,
    /// Who may ask, beside this machine. Lars has no other protection.
    pub from: Vec<Cidr>,
    /// Which service a key stands for; no key twice.
    pub keys: Vec<LarsKey>,
}

impl LarsSpec {
    /// Whether this peer may ask.
    pub fn admits(&self, peer: IpAddr) -> bool {
        peer.to_canonical().is_loopback() || self.from.iter().any(|network| network.contains(peer))
    }
}

/// What Lars calls a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LarsKey {
    pub modid: i32,
    pub cmdid: i32,
    pub service: ServiceName,
}

impl AgentSpec {
    pub const BIND: SocketAddr = SocketAddr::new(IpAddr::V4(LOOPBACK), 9901);
}

const LOOPBACK: std::net::Ipv4Addr = std::net::Ipv4Addr::LOCALHOST;

impl Default for AgentSpec {
    fn default() -> Self {
        Self {
            bind: Some(Self::BIND),
            token: None,
            socket: None,
            expire: Duration::from_secs(60),
            unreported: Unreported::default(),
            outstanding: 65_536,
            lars: None,
        }
    }
}

impl Default for LarsSpec {
    fn default() -> Self {
        Self {
            udp: [8888, 8889, 8890].map(|port| SocketAddrV4::new(LOOPBACK, port)),
            routes: Some(SocketAddrV4::new(LOOPBACK, 7778)),
            reports: Some(SocketAddrV4::new(LOOPBACK, 7779)),
            from: Vec::new(),
            keys: Vec::new(),
        }
    }
}
