//! The table of the format: every section and every key, with its kind, its bounds, its default
//! and its meaning. A new key begins here; `decode` then reads it (a test fails if it does not).

use std::time::Duration;

use crate::table::Default::{Means, Required, Written};
use crate::table::Kind::{
    AnyOf, Bool, Bytes, Integer, ListOf, MapOf, Policy, Section as In, Share, Text as T, Word,
};
use crate::table::{Key, Kind, Section, Text};

const fn key(
    name: &'static str,
    kind: Kind,
    default: crate::table::Default,
    doc: &'static str,
) -> Key {
    Key::new(name, kind, default, doc)
}

const fn text(what: &'static str, example: &'static str) -> Kind {
    T(Text { what, example, number: false })
}

/// Text that may look like a number or `true`.
const fn scalar(what: &'static str, example: &'static str) -> Kind {
    T(Text { what, example, number: true })
}

const OFF: Kind = Word("off");

/// The longest time that a configuration may name, unless a key says less. What should wait for
/// longer is more likely a mistake in the unit; 24 h also outlives every ordinary deployment.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

const fn duration(min_millis: u64, max: Duration) -> Kind {
    Kind::Duration { min: Duration::from_millis(min_millis), max }
}

/// A time-out: never zero, which would end everything at once.
const TIMEOUT: Kind = duration(1, DAY);
/// A grace may be zero: no grace.
const GRACE: Kind = duration(0, DAY);

const BIND: Kind = scalar("an address to listen on", "127.0.0.1:8080");
const NETWORKS: Kind = ListOf(&text("a network", "10.0.0.0/8"));
const SERVICE_NAME: Kind = scalar("the name of a service", "web");
const HEADER_VALUE: Kind = scalar("a header value", "no-store");
const PATTERN: Kind =
    scalar("a pattern: `value`, `prefix*`, `~ regex`, or `*` for any", "~ ^v[0-9]+$");
const STATUS: Kind = Integer { min: 100, max: 599 };

pub(crate) static FILE: Section = Section {
    name: "file",
    doc: "The whole file. Unknown keys are errors.",
    keys: &[
        key("admin", In(&ADMIN), Means("no admin API"), "The admin API, metrics and probes."),
        key(
            "access_log",
            AnyOf(&[
                Word("stdout"),
                text("`FILE` and a path", "FILE /var/log/evenkeel.log"),
                In(&ACCESS_LOG),
            ]),
            Means("no access log"),
            "Where one JSON line per request goes.",
        ),
        key(
            "workers",
            Integer { min: 1, max: 1024 },
            Means("one per available core"),
            "How many workers carry the traffic. Takes effect at start.",
        ),
        key(
            "stop_grace",
            GRACE,
            Written("30s"),
            "After SIGTERM, how long requests and streams in flight may go on.",
        ),
        key(
            "listeners",
            MapOf("LISTENER", &In(&LISTENER)),
            Required,
            "The addresses that accept, by name.",
        ),
        key(
            "services",
            MapOf("SERVICE", &In(&SERVICE)),
            Means("no services: listeners can only redirect and respond"),
            "What is balanced, by name.",
        ),
        Key::later("providers"),
    ],
};

pub(crate) static ADMIN: Section = Section {
    name: "admin",
    doc: "The admin API under `/v1`, `/metrics`, `/healthz` and `/readyz`.",
    keys: &[
        key(
            "bind",
            BIND,
            Written("127.0.0.1:9900"),
            "Where it listens. An address other than this machine's own needs a `token`.",
        ),
        key(
            "token",
            scalar("a token", "d41d8cd98f00b204"),
            Means("no token"),
            "Demanded as `Authorization: Bearer TOKEN`.",
        ),
    ],
};

pub(crate) static ACCESS_LOG: Section = Section {
    name: "access_log",
    doc: "The access log as a file.",
    keys: &[key(
        "file",
        text("a path", "/var/log/evenkeel.log"),
        Required,
        "Appended to; opened anew on SIGUSR1.",
    )],
};

pub(crate) static LISTENER: Section = Section {
    name: "listener",
    doc: "An address that accepts, and what becomes of what it accepts.",
    keys: &[
        key(
            "bind",
            BIND,
            Required,
            "Where it listens. `:8080` means every IPv4 address; port 0 lets the system choose.",
        ),
        key(
            "protocol",
            AnyOf(&[Word("http"), Word("tcp"), Word("udp")]),
            Written("http"),
            "What is spoken.",
        ),
        key(
            "routes",
            ListOf(&In(&ROUTE)),
            Written("[]"),
            "HTTP: which request goes where. The most specific route wins, whatever the order.",
        ),
        key(
            "service",
            SERVICE_NAME,
            Means("none"),
            "TCP and UDP: where everything goes (required). HTTP: where requests go that no route matches.",
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
            "HTTP and TCP: accept PROXY protocol headers, version 1 and 2.",
        ),
        Key::later("tls"),
    ],
};

pub(crate) static LISTENER_TIMEOUTS: Section = Section {
    name: "listener timeouts",
    doc: "Time-outs towards clients.",
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
    keys: &[key("from", NETWORKS, Required, "The networks of the proxies in front of this one.")],
};

pub(crate) static ROUTE: Section = Section {
    name: "route",
    doc: "All matchers must hold; absent ones match everything. Exactly one of `service`, `services`, `redirect` and `respond` says what happens.",
    keys: &[
        key(
            "host",
            text("a host name", "shop.example.com"),
            Means("any host"),
            "`shop.example.com`, or `\"*.example.com\"` (in quotes) for every name below it.",
        ),
        key(
            "path",
            text("a path", "/images/*"),
            Means("any path"),
            "`/login` exactly; `/images/*` and all below; `~ ^/users/[0-9]+$` as a regular expression.",
        ),
        key(
            "method",
            AnyOf(&[text("a method", "GET"), ListOf(&text("a method", "GET"))]),
            Means("any method"),
            "One method, or a list.",
        ),
        key(
            "headers",
            MapOf("HEADER", &PATTERN),
            Written("{}"),
            "Headers that the request must have.",
        ),
        key(
            "query",
            MapOf("PARAMETER", &PATTERN),
            Written("{}"),
            "Query parameters that the request must have.",
        ),
        key(
            "cookies",
            MapOf("COOKIE", &PATTERN),
            Written("{}"),
            "Cookies that the request must have.",
        ),
        key(
            "service",
            SERVICE_NAME,
            Means("see the other actions"),
            "Action: send the request to this service.",
        ),
        key(
            "services",
            MapOf("SERVICE", &Integer { min: 0, max: 65_535 }),
            Means("see the other actions"),
            "Action: split requests between services by weight.",
        ),
        key(
            "redirect",
            AnyOf(&[text("a location", "https://{host}{uri}"), In(&REDIRECT)]),
            Means("see the other actions"),
            "Action: send the client elsewhere.",
        ),
        key(
            "respond",
            AnyOf(&[Integer { min: 200, max: 599 }, In(&RESPOND)]),
            Means("see the other actions"),
            "Action: answer without a service.",
        ),
        key("rewrite", In(&REWRITE), Written("{}"), "What is changed on the way."),
        Key::later("mirror"),
    ],
};

pub(crate) static REDIRECT: Section = Section {
    name: "redirect",
    doc: "An answer that sends the client elsewhere.",
    keys: &[
        key(
            "to",
            text("a location", "https://{host}{uri}"),
            Required,
            "May hold `{scheme}`, `{host}`, `{path}`, `{query}` (with its `?`) and `{uri}` (path and query).",
        ),
        key("status", Integer { min: 300, max: 399 }, Written("302"), "301, 302, 303, 307 or 308."),
    ],
};

pub(crate) static RESPOND: Section = Section {
    name: "respond",
    doc: "A fixed answer.",
    keys: &[
        key("status", Integer { min: 200, max: 599 }, Written("200"), "The status."),
        key(
            "body",
            scalar("text", "Down for maintenance."),
            Written("\"\""),
            "The body, up to 1 MiB.",
        ),
        key(
            "content_type",
            text("a media type", "text/html"),
            Written("text/plain; charset=utf-8"),
            "Its media type.",
        ),
    ],
};

pub(crate) static REWRITE: Section = Section {
    name: "rewrite",
    doc: "What a route changes in requests and answers.",
    keys: &[
        key(
            "path",
            text("a path", "/new$1"),
            Means("unchanged"),
            "Replaces the whole path. With a regex `path`, `$1` and `${name}` are its groups.",
        ),
        key(
            "prefix",
            text("a path", "/"),
            Means("unchanged"),
            "Replaces the matched prefix (or the whole exact path).",
        ),
        key(
            "host",
            text("a host name", "internal.example.com"),
            Means("unchanged"),
            "Replaces the `Host` that the endpoint sees.",
        ),
        key(
            "request_headers",
            In(&HEADER_EDITS),
            Written("{}"),
            "Header changes before the request is sent on.",
        ),
        key(
            "response_headers",
            In(&HEADER_EDITS),
            Written("{}"),
            "Header changes before the answer is sent on.",
        ),
    ],
};

pub(crate) static HEADER_EDITS: Section = Section {
    name: "header edits",
    doc: "Done in the order in which they are written.",
    keys: &[
        key("set", MapOf("HEADER", &HEADER_VALUE), Written("{}"), "Replace the header, or add it."),
        key("add", MapOf("HEADER", &HEADER_VALUE), Written("{}"), "Add a line, whatever is there."),
        key(
            "remove",
            ListOf(&text("a header name", "server")),
            Written("[]"),
            "Remove all lines of that name.",
        ),
    ],
};

pub(crate) static SERVICE: Section = Section {
    name: "service",
    doc: "A named set of endpoints that serve the same thing, and how to use them. Exactly one of `endpoints` and `run` says where they come from.",
    keys: &[
        key("policy", Policy, Written("round_robin"), "How an endpoint is chosen."),
        key(
            "endpoints",
            ListOf(&AnyOf(&[ADDRESS, In(&ENDPOINT)])),
            Means("see `run`"),
            "Endpoints at fixed addresses.",
        ),
        key(
            "run",
            In(&RUN),
            Means("see `endpoints`"),
            "Replicas that are started here, as processes.",
        ),
        key(
            "health",
            AnyOf(&[OFF, Word("tcp"), In(&HEALTH)]),
            Written("tcp"),
            "How endpoints are checked.",
        ),
        key(
            "retry",
            AnyOf(&[OFF, In(&RETRY)]),
            Written("{}"),
            "When a failed request is tried on another endpoint. A failed connect always is.",
        ),
        key("pool", In(&POOL), Written("{}"), "Kept-alive connections to each endpoint."),
        key("timeouts", In(&SERVICE_TIMEOUTS), Written("{}"), "How long endpoints may take."),
        key(
            "drain_grace",
            GRACE,
            Written("30s"),
            "How long requests and streams of a drained or removed endpoint may go on.",
        ),
        key(
            "proxy_protocol",
            AnyOf(&[OFF, Word("v1"), Word("v2")]),
            Written("off"),
            "Begin each connection to an endpoint with a PROXY protocol header.",
        ),
        Key::later("discover"),
        Key::later("affinity"),
        Key::later("tls"),
    ],
};

const ADDRESS: Kind = scalar("an address", "127.0.0.1:5001");

pub(crate) static ENDPOINT: Section = Section {
    name: "endpoint",
    doc: "One place that serves.",
    keys: &[
        key("address", ADDRESS, Required, "Address and port; `:5001` is this machine."),
        key(
            "weight",
            Integer { min: 0, max: 65_535 },
            Written("1"),
            "Its share relative to the others; 0: nothing new, as long as another has more.",
        ),
        key("zone", scalar("a name", "eu-1a"), Means("none"), "Where it stands."),
        key(
            "priority",
            Integer { min: 0, max: 255 },
            Written("0"),
            "Endpoints of the lowest number that has a healthy one serve.",
        ),
        key(
            "id",
            scalar("a name", "web-a"),
            Means("its address"),
            "Its identity: state follows it.",
        ),
    ],
};

pub(crate) static HEALTH: Section = Section {
    name: "health",
    doc: "How endpoints are checked; at most one of `tcp`, `http` and `https`.",
    keys: &[
        key("tcp", AnyOf(&[Bool, In(&HEALTH_TCP)]), Written("true"), "A connection can be made."),
        key(
            "http",
            text("a path", "/healthz"),
            Means("see `tcp`"),
            "A request to this path is answered as expected.",
        ),
        key(
            "https",
            text("a path", "/healthz"),
            Means("see `tcp`"),
            "The same over TLS; the certificate is not verified.",
        ),
        key(
            "interval",
            duration(100, Duration::from_secs(3600)),
            Written("2s"),
            "Between checks of one endpoint, give or take a tenth.",
        ),
        key(
            "timeout",
            duration(1, Duration::from_secs(300)),
            Written("5s"),
            "A check that takes longer has failed.",
        ),
        key(
            "unhealthy_after",
            Integer { min: 1, max: 100 },
            Written("3"),
            "Failed checks in a row until it leaves.",
        ),
        key(
            "healthy_after",
            Integer { min: 1, max: 100 },
            Written("2"),
            "Good checks in a row until one that left comes back. A new endpoint needs one.",
        ),
        key(
            "port",
            Integer { min: 1, max: 65_535 },
            Means("the endpoint's port"),
            "Check another port than traffic goes to.",
        ),
        key("method", text("a method", "HEAD"), Written("GET"), "HTTP: the method."),
        key(
            "host",
            text("a host name", "shop.example.com"),
            Means("the endpoint's address"),
            "HTTP: the `Host`.",
        ),
        key("headers", MapOf("HEADER", &HEADER_VALUE), Written("{}"), "HTTP: further headers."),
        key(
            "expect",
            AnyOf(&[STATUS, STATUS_RANGE, ListOf(&AnyOf(&[STATUS, STATUS_RANGE]))]),
            Written("200-399"),
            "HTTP: the statuses that are good.",
        ),
    ],
};

const STATUS_RANGE: Kind = text("a range of statuses", "200-299");

pub(crate) static HEALTH_TCP: Section =
    Section { name: "health tcp", doc: "Has no keys of its own.", keys: &[] };

pub(crate) static RETRY: Section = Section {
    name: "retry",
    doc: "When a failed request is tried on another endpoint.",
    keys: &[
        key(
            "attempts",
            Integer { min: 0, max: 10 },
            Written("2"),
            "Further attempts after the first; 0: never.",
        ),
        key(
            "budget",
            Share,
            Written("20%"),
            "Retries as a share of requests, over about the last ten seconds.",
        ),
        key(
            "budget_min",
            Integer { min: 0, max: 1_000_000 },
            Written("10"),
            "Retries a second that are always allowed.",
        ),
        key(
            "replay_bytes",
            Bytes { min: 0, max: 64 << 20 },
            Written("64KiB"),
            "Bytes of a request body kept for another attempt; a longer body is not sent again.",
        ),
        key(
            "on",
            AnyOf(&[RETRY_CONDITION, ListOf(&RETRY_CONDITION)]),
            Written("[reset]"),
            "What is retried for methods that are safe to repeat.",
        ),
        key(
            "non_idempotent",
            Bool,
            Written("false"),
            "Retry all methods alike, also POST and PATCH that an endpoint may have processed.",
        ),
    ],
};

const RETRY_CONDITION: Kind =
    AnyOf(&[Word("reset"), Word("first_byte_timeout"), Integer { min: 400, max: 599 }]);

pub(crate) static POOL: Section = Section {
    name: "pool",
    doc: "Kept-alive connections to each endpoint.",
    keys: &[
        key(
            "idle_max",
            Integer { min: 0, max: 65_535 },
            Written("256"),
            "Idle connections kept per endpoint and worker; 0: a connection each request.",
        ),
        key("idle_timeout", TIMEOUT, Written("30s"), "An idle connection is closed after this."),
        key(
            "age_max",
            TIMEOUT,
            Written("10m"),
            "A connection is not used again once it is older, less up to a tenth by chance.",
        ),
        key(
            "connections_max",
            AnyOf(&[Integer { min: 1, max: 10_000_000 }, OFF]),
            Written("off"),
            "Connections per endpoint, all workers together; requests beyond it go to another endpoint, or get 503.",
        ),
    ],
};

pub(crate) static SERVICE_TIMEOUTS: Section = Section {
    name: "service timeouts",
    doc: "Time-outs towards endpoints.",
    keys: &[
        key("connect", TIMEOUT, Written("2s"), "To connect, then the next endpoint is tried."),
        key(
            "first_byte",
            TIMEOUT,
            Written("60s"),
            "From the end of the request to the first byte of the answer, then 504.",
        ),
        key(
            "total",
            AnyOf(&[TIMEOUT, OFF]),
            Written("off"),
            "From the request's head to the last byte of the answer, tunnels excepted, then 504 or a reset.",
        ),
    ],
};

pub(crate) static RUN: Section = Section {
    name: "run",
    doc: "Replicas that are started here, as processes. Each gets a free port in `PORT` and its name (`web-1`) in `REPLICA`.",
    keys: &[
        key(
            "command",
            AnyOf(&[text("a command", "python3 app.py"), ListOf(&scalar("an argument", "app.py"))]),
            Required,
            "Program and arguments, not run through a shell. `evenkeel` is this very program.",
        ),
        key(
            "replicas",
            Integer { min: 0, max: 1000 },
            Written("1"),
            "How many at start; `evenkeel scale` changes it at run time.",
        ),
        key(
            "env",
            MapOf("VARIABLE", &scalar("text", "production")),
            Written("{}"),
            "Further environment variables.",
        ),
        key(
            "cwd",
            text("a path", "/srv/app"),
            Means("the directory of this file"),
            "The working directory.",
        ),
        key(
            "stop_grace",
            GRACE,
            Written("10s"),
            "After draining and SIGTERM, how long until SIGKILL.",
        ),
        key(
            "start_timeout",
            TIMEOUT,
            Written("60s"),
            "How long a new replica may take to become healthy before it is restarted.",
        ),
    ],
};
