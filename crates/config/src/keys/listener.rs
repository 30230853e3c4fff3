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
