use std::net::SocketAddr;
use std::time::Duration;

/// A server of the Domain Name System that tells who serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsServerSpec {
    /// UDP and TCP. Default `127.0.0.1:5353`.
    pub bind: SocketAddr,
    /// In which each service is a name. Default `evenkeel.internal`.
    pub domain: String,
    /// How long answers may be kept, in whole seconds. Default 5 s.
    pub ttl: Duration,
    /// Answers in a second over UDP for the clients of one network (/24, /56). Default 1000.
    pub rate: Option<u32>,
}

impl Default for DnsServerSpec {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 5353)),
            domain: "evenkeel.internal".to_owned(),
            ttl: Duration::from_secs(5),
            rate: Some(1000),
        }
    }
}
