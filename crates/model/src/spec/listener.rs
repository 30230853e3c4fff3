use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::spec::{HostPattern, RouteSpec, ServerTlsSpec};
use crate::{Cidr, ListenerName, ServiceName};

/// An address that accepts, and what becomes of what it accepts.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerSpec {
    pub name: ListenerName,
    pub bind: SocketAddr,
    pub protocol: Protocol,
    /// HTTP and TLS. The most specific route wins, whatever the order; see `route`. With TLS the
    /// host is what the client asks for by SNI, and only `host` and `alpn` are matched.
    pub routes: Vec<RouteSpec>,
    /// TCP and UDP: where everything goes. HTTP and TLS: a catch-all after `routes`.
    pub service: Option<ServiceName>,
    pub timeouts: TimeoutSpec,
    pub limits: LimitSpec,
    pub http: HttpSpec,
    pub udp: UdpSpec,
    /// Accept a PROXY protocol header (v1 or v2); `None`: it is not understood.
    pub proxy_protocol: Option<AcceptProxyProtocol>,
    /// HTTP and TCP: TLS ends here. `None`: plain.
    pub tls: Option<ServerTlsSpec>,
    /// HTTP: bounds of HTTP/2 connections. `None`: only HTTP/1 is spoken.
    pub http2: Option<ServerHttp2Spec>,
}

impl ListenerSpec {
    /// After its routes changed: certificates by ACME are for their hosts, unless others were
    /// listed. How many are left out, being beyond [`DOMAINS_MAX`].
    pub fn follow_routes(&mut self) -> usize {
        let acme = self.tls.as_mut().and_then(|tls| tls.acme.as_mut());
        let Some(acme) = acme.filter(|acme| acme.from_routes) else { return 0 };
        acme.domains = exact_hosts(&self.routes);
        let left_out = acme.domains.len().saturating_sub(DOMAINS_MAX);
        acme.domains.truncate(DOMAINS_MAX);
        left_out
    }
}

/// Domains with a certificate by ACME on one listener: more would take days under the limits of
/// public CAs.
pub const DOMAINS_MAX: usize = 1000;

/// The names of hosts that routes are for and that a CA may know, each once, in their order;
/// wildcards are none.
pub fn exact_hosts(routes: &[RouteSpec]) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut hosts: Vec<String> = Vec::new();
    for route in routes {
        if let Some(HostPattern::Exact(host)) = &route.host
            // A host may be an address, for which no CA is asked.
            && host.parse::<IpAddr>().is_err()
            && !host.starts_with('[')
            && !is_local(host)
            && seen.insert(host)
        {
            hosts.push(host.clone());
        }
    }
    hosts
}

/// A name of this machine (RFC 6761, section 6.3) or of its network, which no CA certifies.
fn is_local(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host.rsplit_once('.').is_none_or(|(_, last)| last.eq_ignore_ascii_case("localhost"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    Http,
    Tcp,
    Udp,
    /// TLS that passes through, routed by what the client asks for in its first message.
    Tls,
}

impl Protocol {
    /// `http`, `tcp`, `udp` or `tls`, as configurations, logs and answers have it.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Tls => "tls",
        }
    }
}

/// Connections from `from` must begin with a PROXY header; all others must not have one and keep
/// their own address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptProxyProtocol {
    pub from: Vec<Cidr>,
}

/// Downstream time-outs. None of them is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeoutSpec {
    /// From the first byte of a request (or from accept) to the end of its head, then 408.
    /// Default 10 s.
    pub header: Duration,
    /// Between requests on a kept-alive connection. Default 60 s.
    pub keep_alive: Duration,
    /// No byte moved in either direction: HTTP bodies (408 or reset), TCP and tunnels (closed).
    /// Default 60 s for HTTP bodies; TCP and tunnels use `stream_idle`.
    pub idle: Duration,
    /// TCP streams and upgraded connections. Default 1 h.
    pub stream_idle: Duration,
    /// HTTP: how old a connection becomes, less up to a tenth by chance, before it is ended in
    /// order: with the next response (HTTP/1.1), or by GOAWAY (HTTP/2). Default: any.
    pub connection_age: Option<Duration>,
}

impl Default for TimeoutSpec {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            keep_alive: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            stream_idle: Duration::from_secs(3600),
            connection_age: None,
        }
    }
}

/// Bounds on what clients may make us hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSpec {
    /// Bytes of request line and headers together, then 431. Default 32 KiB, 1 KiB to 1 MiB.
    pub header_bytes: usize,
    /// Header lines, then 431. Default 100, at most 1,000.
    pub header_count: usize,
    /// Bytes of the request target, then 414. Default 8 KiB.
    pub uri_bytes: usize,
    /// Bytes of a request body, then 413. Default off.
    pub body_bytes: Option<u64>,
    /// Connections (UDP: flows) open at once on this listener. Default 100,000; more are refused.
    pub connections: usize,
    /// The same per client address. Default off.
    pub connections_per_client: Option<usize>,
    /// TLS handshakes under way at once on this listener. Default 4,096, each of which holds
    /// 64 KiB at most; more are refused.
    pub handshakes: usize,
    /// HTTP: requests on one connection, before it is ended in order as one that is too old.
    /// Default: any number.
    pub requests_per_connection: Option<u64>,
}

impl Default for LimitSpec {
    fn default() -> Self {
        Self {
            header_bytes: 32 * 1024,
            header_count: 100,
            uri_bytes: 8 * 1024,
            body_bytes: None,
            connections: 100_000,
            connections_per_client: None,
            handshakes: 4096,
            requests_per_connection: None,
        }
    }
}

/// What an HTTP listener tells the application about the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSpec {
    /// Write `X-Forwarded-For`, `-Proto` and `-Host`. Default true.
    pub x_forwarded: bool,
    /// Write `Forwarded` (RFC 7239). Default false.
    pub forwarded: bool,
    /// Write `Via` (RFC 9110 section 7.6.3). Default true.
    pub via: bool,
    /// The header that carries the request id; made when absent or untrusted. Default
    /// `x-request-id`; `None`: off.
    pub request_id: Option<String>,
    /// Peers whose forwarding headers and request id are believed and extended; those of all
    /// others are replaced. Default none.
    pub trusted: Vec<Cidr>,
}

impl Default for HttpSpec {
    fn default() -> Self {
        Self {
            x_forwarded: true,
            forwarded: false,
            via: true,
            request_id: Some("x-request-id".into()),
            trusted: Vec::new(),
        }
    }
}

/// Bounds of a client's HTTP/2 connection. What one can make us hold is at most
/// `connection_window`, `output_bytes`, and for each of `streams` the head of its request and
/// what was read of its response, 16 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerHttp2Spec {
    /// Open at once (SETTINGS_MAX_CONCURRENT_STREAMS). RFC 9113 section 6.5.2 recommends no fewer
    /// than 100, which is the default.
    pub streams: u32,
    /// Bytes that a client may send ahead on one stream. Default 256 KiB, at least 64 KiB.
    pub stream_window: u32,
    /// Bytes that a client may send ahead on all streams together, which no endpoint has taken
    /// yet. Default 1 MiB, at least `stream_window`.
    pub connection_window: u32,
    /// Bytes of responses that wait for the client's socket. Default 64 KiB.
    pub output_bytes: usize,
    /// Streams that a client may waste in ten seconds, beyond those that were answered: cancelled
    /// before the answer began, malformed, or refused. Default 200: browsers that leave a page
    /// cancel some dozens.
    pub resets: u32,
    /// Frames that carry nothing (PING, SETTINGS, PRIORITY, empty and unknown ones) in ten
    /// seconds, beyond what requests and bodies earn. Default 1,000: the busiest clients ping once
    /// for each burst of data.
    pub idle_frames: u32,
    /// CONTINUATION frames of one head. Default 32.
    pub continuations: u32,
    /// WINDOW_UPDATE frames in ten seconds, beyond those that the data which was sent is worth.
    /// Default 4,096.
    pub window_updates: u32,
    /// A client of which nothing was heard for this long is asked for a sign of life by PING.
    /// Default: never.
    pub ping_interval: Option<Duration>,
    /// How long that may take, before the connection is closed. Default 20 s.
    pub ping_timeout: Duration,
}

impl Default for ServerHttp2Spec {
    fn default() -> Self {
        Self {
            streams: 100,
            stream_window: 256 * 1024,
            connection_window: 1024 * 1024,
            output_bytes: 64 * 1024,
            resets: 200,
            idle_frames: 1000,
            continuations: 32,
            window_updates: 4096,
            ping_interval: None,
            ping_timeout: Duration::from_secs(20),
        }
    }
}

/// How a UDP listener follows its flows (client address and port).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpSpec {
    /// A flow without a datagram in either direction ends. Default 30 s.
    pub flow_idle: Duration,
    /// End a flow once each of its datagrams has had so many replies, e.g. 1 for DNS. Default: only
    /// by time.
    pub replies: Option<u32>,
}

impl Default for UdpSpec {
    fn default() -> Self {
        Self { flow_idle: Duration::from_secs(30), replies: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_no_ca_certifies_are_none() {
        let hosts = [
            "a.example",
            "shop.localhost",
            "SHOP.LocalHost.",
            "localhost",
            "intranet",
            "intranet.",
            "10.0.0.1",
            "[::1]",
            "a.example",
            "localhost.example",
        ];
        let mut routes = Vec::new();
        for host in hosts {
            let mut route = RouteSpec::catch_all("s".into());
            route.host = Some(HostPattern::Exact(host.into()));
            routes.push(route);
        }
        routes[9].host = Some(HostPattern::Suffix("b.example".into()));
        assert_eq!(exact_hosts(&routes), ["a.example"]);
        routes[9].host = Some(HostPattern::Exact("localhost.example".into()));
        assert_eq!(exact_hosts(&routes), ["a.example", "localhost.example"]);
    }
}
