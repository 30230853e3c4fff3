//! What is done to everyone.

use super::peer::Door;

/// One kind of work.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) kind: Kind,
    /// With an access log.
    pub(super) logs: bool,
    /// Ours over the better of HAProxy and nginx, at most; `None`: no target is set.
    pub(super) target: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// As fast as it goes; `close`: each request has a connection of its own.
    Full { connections: u32, path: &'static str, door: Door, close: bool },
    /// The 99th percentile at half of the rate that HAProxy reached in this round: the median of
    /// several windows.
    HalfRate { connections: u32, path: &'static str },
    /// As fast as it goes, streams beside each other.
    Http2 { connections: u32, streams: u32, path: &'static str },
    /// So many connections that did one request and then wait: memory for each.
    Idle { connections: usize },
}

const fn full(connections: u32, path: &'static str, door: Door, close: bool) -> Kind {
    Kind::Full { connections, path, door, close }
}

const fn scenario(
    name: &'static str,
    what: &'static str,
    kind: Kind,
    target: Option<f64>,
) -> Scenario {
    Scenario { name, what, kind, logs: false, target }
}

pub(super) static SCENARIOS: &[Scenario] = &[
    scenario(
        "http-64",
        "HTTP/1.1 keep-alive, 64 connections, 512 B",
        full(64, "/512", Door::Http, false),
        Some(0.8),
    ),
    scenario(
        "http-half-rate",
        "the same at half of HAProxy's rate: p99",
        Kind::HalfRate { connections: 64, path: "/512" },
        Some(1.0),
    ),
    scenario(
        "http-512",
        "HTTP/1.1 keep-alive, 512 connections, 512 B",
        full(512, "/512", Door::Http, false),
        Some(0.8),
    ),
    scenario(
        "http-64k",
        "HTTP/1.1 keep-alive, 64 connections, 64 KiB",
        full(64, "/64k", Door::Http, false),
        Some(1.0),
    ),
    scenario(
        "http-close",
        "HTTP/1.1, a client connection for each request, 512 B",
        full(64, "/512", Door::Http, true),
        Some(0.9),
    ),
    scenario(
        "https-64",
        "HTTPS keep-alive, 64 connections, 512 B",
        full(64, "/512", Door::Https, false),
        Some(0.9),
    ),
    scenario(
        "https-close",
        "HTTPS, a handshake for each request, 512 B",
        full(64, "/512", Door::Https, true),
        Some(0.8),
    ),
    scenario(
        "http2",
        "HTTP/2, 8 connections with 32 streams, 512 B",
        Kind::Http2 { connections: 8, streams: 32, path: "/512" },
        Some(1.0),
    ),
    scenario(
        "tcp-small",
        "TCP, 64 connections, 512 B answers",
        full(64, "/512", Door::Tcp, false),
        Some(0.9),
    ),
    scenario(
        "tcp-64k",
        "TCP, 64 connections, 64 KiB answers",
        full(64, "/64k", Door::Tcp, false),
        Some(1.0),
    ),
    scenario(
        "idle",
        "memory of an idle kept-alive connection, KiB",
        Kind::Idle { connections: 20_000 },
        None,
    ),
    Scenario {
        name: "http-64-logged",
        what: "HTTP/1.1 keep-alive, 64 connections, 512 B, with an access log",
        kind: full(64, "/512", Door::Http, false),
        logs: true,
        target: None,
    },
];
