//! The keys of `listeners.NAME`, routes excepted.

use super::*;

const NETWORKS: Kind = ListOf(&text("a network", "10.0.0.0/8"));

pub(crate) static LISTENER: Section = Section {
    name: "listener",
    doc: "An address that accepts, and what becomes of what it accepts.",
    example: "bind: :8080, service: web",
    keys: &[
        key(
            "bind",
            BIND,
            Required,
            "Where it listens. `:8080` means every IPv4 address; port 0 lets the system choose.",
        ),
        key(
            "protocol",
            AnyOf(&[Word("http"), Word("tcp"), Word("udp"), Word("tls")]),
            Written("http"),
            "What is spoken. `tls` passes TLS through, as it is, to the service that the client's first message asks for.",
        ),
        key(
            "routes",
            ListOf(&In(&ROUTE)),
            Written("[]"),
            "HTTP and `tls`: what goes where. The most specific route wins, whatever the order. With `tls` routes match by `host` (SNI) and `alpn` alone.",
        ),
        key(
            "service",
            SERVICE_NAME,
            Means("none"),
            "TCP and UDP: where everything goes (required). HTTP and `tls`: where goes what no route matches.",
        ),
        key("timeouts", In(&LISTENER_TIMEOUTS), Written("{}"), "How long clients may take."),
        key("limits", In(&LIMITS), Written("{}"), "What clients may make us hold."),
        key(
            "forwarding",
            In(&FORWARDING),
            Written("{}"),
            "HTTP: what the application is told about the client.",
        ),
        key("udp", In(&UDP), Written("{}"), "UDP: how flows are followed."),
        key(
            "proxy_protocol",
            In(&ACCEPT_PROXY_PROTOCOL),
            Means("not understood"),
            "HTTP, TCP and `tls`: accept PROXY protocol headers, version 1 and 2.",
        ),
        key(
            "tls",
            In(&LISTENER_TLS),
            Means("no TLS"),
            "HTTP and TCP: what is spoken is spoken over TLS, which ends here.",
        ),
        key(
            "http2",
            AnyOf(&[OFF, In(&LISTENER_HTTP2)]),
            Written("{}"),
            "HTTP: bounds of HTTP/2 connections; `off`: only HTTP/1 is spoken.",
        ),
    ],
};

pub(crate) static LISTENER_TIMEOUTS: Section = Section {
    name: "listener timeouts",
    doc: "Time-outs towards clients.",
    example: "",
    keys: &[
        key(
            "header",
            TIMEOUT,
            Written("10s"),
            "From the first byte of a request (or from accept) to the end of its head, then 408.",
        ),
        key("keep_alive", TIMEOUT, Written("60s"), "Between requests on a kept-alive connection."),
        key(
            "idle",
            TIMEOUT,
            Written("60s"),
            "While a body moves: without a byte in either direction.",
        ),
        key(
            "stream_idle",
            TIMEOUT,
            Written("1h"),
            "TCP streams and upgraded connections: without a byte in either direction.",
        ),
        key(
            "connection_age",
            AnyOf(&[TIMEOUT, OFF]),
            Written("off"),
            "HTTP: how old a connection becomes, less up to a tenth by chance, before it is ended in order: by `Connection: close` with the next response, or GOAWAY.",
        ),
    ],
};

pub(crate) static LIMITS: Section = Section {
    name: "limits",
    doc: "Bounds on what clients may make us hold.",
    example: "",
    keys: &[
        key(
            "header_bytes",
            Bytes { min: 1024, max: 1 << 20 },
            Written("32KiB"),
            "Request line and headers together, then 431.",
        ),
        key(
            "header_count",
            Integer { min: 1, max: 1000 },
            Written("100"),
            "Header lines, then 431.",
        ),
        key(
            "uri_bytes",
            Bytes { min: 64, max: 1 << 20 },
            Written("8KiB"),
            "The request target, then 414.",
        ),
        key(
            "body_bytes",
            AnyOf(&[Bytes { min: 0, max: 1 << 50 }, OFF]),
            Written("off"),
            "A request body, then 413.",
        ),
        key(
            "connections",
            Integer { min: 1, max: 10_000_000 },
            Written("100000"),
            "Connections (UDP: flows) open at once; more are refused.",
        ),
        key(
            "connections_per_client",
            AnyOf(&[Integer { min: 1, max: 10_000_000 }, OFF]),
            Written("off"),
            "The same per client address.",
        ),
        key(
            "handshakes",
            Integer { min: 1, max: 10_000_000 },
            Written("4096"),
            "TLS handshakes under way at once, each of which holds 64 KiB at most; more are refused.",
        ),
        key(
            "requests_per_connection",
            AnyOf(&[Integer { min: 1, max: 1_000_000_000 }, OFF]),
            Written("off"),
            "HTTP: requests on one connection, before it is ended in order.",
        ),
    ],
};

pub(crate) static FORWARDING: Section = Section {
    name: "forwarding",
    doc: "What an HTTP listener tells the application about the client.",
    example: "",
    keys: &[
        key("x_forwarded", Bool, Written("true"), "Write `X-Forwarded-For`, `-Proto` and `-Host`."),
        key("forwarded", Bool, Written("false"), "Write `Forwarded` (RFC 7239)."),
        key("via", Bool, Written("true"), "Write `Via` (RFC 9110 section 7.6.3)."),
        key(
            "request_id",
            AnyOf(&[text("a header name", "x-request-id"), OFF]),
            Written("x-request-id"),
            "The header that carries the request id; made when absent or not trusted.",
        ),
        key(
            "trusted",
            NETWORKS,
            Written("[]"),
            "Peers whose forwarding headers and request id are believed and extended; those of all others are replaced.",
        ),
    ],
};

/// RFC 9113 section 6.9.2: what a client may take for granted is 65,535 bytes; less would slow it.
const WINDOW_MIN: u64 = 64 * 1024;

pub(crate) static LISTENER_HTTP2: Section = Section {
    name: "listener http2",
    doc: "Bounds of each HTTP/2 connection of a client. All that one can make us hold is `connection_window`, twice `output_bytes` (over TLS what waits is kept encrypted as well), and for each of `streams` the head of its request (`limits.header_bytes`), what is on its way to an endpoint (64 KiB, or `retry.replay_bytes` if that is more) and to the client (16 KiB), and the state of the request. Beyond the bounds of floods the connection ends with ENHANCE_YOUR_CALM. They hold for connections that are made from then on.",
    example: "",
    keys: &[
        key(
            "streams",
            Integer { min: 1, max: 10_000 },
            Written("100"),
            "Streams open at once (SETTINGS_MAX_CONCURRENT_STREAMS); more are refused (REFUSED_STREAM).",
        ),
        key(
            "stream_window",
            Bytes { min: WINDOW_MIN, max: 16 << 20 },
            Written("256KiB"),
            "What a client may send ahead on one stream (SETTINGS_INITIAL_WINDOW_SIZE).",
        ),
        key(
            "connection_window",
            Bytes { min: WINDOW_MIN, max: 1 << 30 },
            Written("1MiB"),
            "What it may send ahead on all streams together: what bodies that no endpoint takes can hold. At least `stream_window`.",
        ),
        key(
            "output_bytes",
            Bytes { min: 32 * 1024, max: 16 << 20 },
            Written("64KiB"),
            "What waits for the client's socket; beyond it streams wait.",
        ),
        key(
            "resets",
            Integer { min: 1, max: 1_000_000 },
            Written("200"),
            "Streams that a client may waste in ten seconds: cancelled before the answer began, malformed, or refused. Each that is answered earns one back.",
        ),
        key(
            "idle_frames",
            Integer { min: 100, max: 1_000_000 },
            Written("1000"),
            "Frames that carry nothing (PING, SETTINGS, PRIORITY, empty and unknown ones) in ten seconds. Requests and bodies earn some back.",
        ),
        key(
            "continuations",
            Integer { min: 1, max: 1000 },
            Written("32"),
            "CONTINUATION frames of one head.",
        ),
        key(
            "window_updates",
            Integer { min: 100, max: 1_000_000 },
            Written("4096"),
            "WINDOW_UPDATE frames in ten seconds. What is sent earns some back.",
        ),
        key(
            "ping_interval",
            AnyOf(&[TIMEOUT, OFF]),
            Written("off"),
            "A client of which nothing was heard for so long is asked for a sign of life (PING).",
        ),
        key(
            "ping_timeout",
            TIMEOUT,
            Written("20s"),
            "How long that sign may take, before the connection is closed.",
        ),
    ],
};

pub(crate) static UDP: Section = Section {
    name: "udp",
    doc: "How a UDP listener follows its flows (client address and port).",
    example: "",
    keys: &[
        key(
            "flow_idle",
            TIMEOUT,
            Written("30s"),
            "A flow without a datagram in either direction ends.",
        ),
        key(
            "replies",
            AnyOf(&[Integer { min: 1, max: 1_000_000 }, OFF]),
            Written("off"),
            "A flow ends after so many replies, e.g. 1 for DNS.",
        ),
    ],
};

pub(crate) static ACCEPT_PROXY_PROTOCOL: Section = Section {
    name: "accept proxy_protocol",
    doc: "Connections from these networks must begin with a PROXY header; all others must not have one.",
    example: "",
    keys: &[key("from", NETWORKS, Required, "The networks of the proxies in front of this one.")],
};
