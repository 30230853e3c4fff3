//! The keys of `services.NAME`.

use super::failures::{FAILOVER_BELOW_KEY, OUTLIER_KEY, PANIC_KEY, SLOW_START_KEY, SUBSET_KEY};
use super::*;

const ADDRESS: Kind = scalar("an address", "127.0.0.1:5001");

const STATUS: Kind = Integer { min: 100, max: 599 };

const STATUS_RANGE: Kind = text("a range of statuses", "200-299");

const RETRY_CONDITION: Kind = AnyOf(&[
    Word("reset"),
    Word("first_byte_timeout"),
    Word("grpc_aborted"),
    Word("grpc_cancelled"),
    Word("grpc_deadline_exceeded"),
    Word("grpc_internal"),
    Word("grpc_resource_exhausted"),
    Word("grpc_unavailable"),
    Word("grpc_unknown"),
    Integer { min: 400, max: 599 },
]);

pub(crate) static SERVICE: Section = Section {
    name: "service",
    doc: "A named set of endpoints that serve the same thing, and how to use them. Exactly one of `endpoints`, `run` and `discover` says where they come from.",
    example: "endpoints: [ 127.0.0.1:5001 ]",
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
        key("discover", In(&DISCOVER), Means("see `endpoints`"), "Endpoints that are found."),
        key(
            "health",
            AnyOf(&[OFF, Word("tcp"), Word("grpc"), In(&HEALTH)]),
            Written("tcp"),
            "How endpoints are checked.",
        ),
        OUTLIER_KEY,
        SLOW_START_KEY,
        PANIC_KEY,
        FAILOVER_BELOW_KEY,
        SUBSET_KEY,
        key(
            "affinity",
            In(&AFFINITY),
            Means("every request is balanced by itself"),
            "Keep the requests of one client at one endpoint.",
        ),
        key(
            "retry",
            AnyOf(&[OFF, In(&RETRY)]),
            Written("{}"),
            "When a failed request is tried on another endpoint. A failed connect always is.",
        ),
        key(
            "hedge",
            AnyOf(&[OFF, In(&HEDGE)]),
            Written("off"),
            "When a request is sent to a second endpoint because the first takes long.",
        ),
        key("pool", In(&POOL), Written("{}"), "Kept-alive connections to each endpoint."),
        key(
            "limits",
            In(&SERVICE_LIMITS),
            Means("no limits"),
            "What the service and its endpoints take at the same time.",
        ),
        key(
            "queue",
            QUEUE_KIND,
            Written("off"),
            "Where requests wait that find all endpoints at their limit; without it they get 503.",
        ),
        key(
            "wake",
            AnyOf(&[OFF, In(&WAKE)]),
            Written("off"),
            "End all replicas while nobody asks, and hold requests while one starts.",
        ),
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
        key(
            "tls",
            AnyOf(&[Bool, In(&SERVICE_TLS)]),
            Written("false"),
            "Speak TLS to the endpoints. `true`: with the defaults.",
        ),
        key(
            "protocol",
            AnyOf(&[Word("http"), Word("h2c"), Word("h2"), Word("auto")]),
            Written("http"),
            "What requests are sent to the endpoints in: HTTP/1.1, HTTP/2 in clear, HTTP/2 over TLS, or over TLS what the endpoint agrees on.",
        ),
        key(
            "grpc_web",
            Bool,
            Written("false"),
            "Translate gRPC-Web, as browsers speak it, to gRPC. Needs endpoints that speak HTTP/2.",
        ),
    ],
};

pub(crate) static ENDPOINT: Section = Section {
    name: "endpoint",
    doc: "One place that serves.",
    example: "address: 127.0.0.1:5001, weight: 3",
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
    doc: "How endpoints are checked; at most one of `tcp`, `http`, `https` and `grpc`.",
    example: "http: /healthz",
    keys: &[
        key(
            "tcp",
            AnyOf(&[Bool, In(&HEALTH_TCP)]),
            Written("true"),
            "A connection can be made; with `tls` of the service, TLS too.",
        ),
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
            "The same over TLS: as `tls` of the service says, or else with any certificate.",
        ),
        key(
            "grpc",
            AnyOf(&[Bool, In(&HEALTH_GRPC)]),
            Means("see `tcp`"),
            "The health protocol of gRPC says `SERVING`; with `tls` of the service over TLS.",
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
            "HTTP: the `Host`; gRPC: the authority.",
        ),
        key("headers", MapOf("HEADER", &HEADER_VALUE), Written("{}"), "HTTP: further headers."),
        key(
            "expect",
            AnyOf(&[STATUS, STATUS_RANGE, ListOf(&AnyOf(&[STATUS, STATUS_RANGE]))]),
            Written("200-399"),
            "HTTP: the statuses that are good.",
        ),
        key(
            "agent",
            In(&HEALTH_AGENT),
            Means("no agent"),
            "A program beside each endpoint that says, too, how it is.",
        ),
    ],
};

pub(crate) static HEALTH_AGENT: Section = Section {
    name: "health agent",
    doc: "With each check a connection to the endpoint's host is made, and a line read: `75%` (of the weight), `drain`, `up`, `down#reason`, `cpu:83% memory:40%`, as HAProxy's agents say it.",
    example: "port: 9707",
    keys: &[
        key("port", Integer { min: 1, max: 65_535 }, Required, "Where the agent listens."),
        key(
            "send",
            text("a text", "{address}\\n"),
            Means("nothing"),
            "Sent first, up to 255 bytes; `{address}` in it is the endpoint's, for an agent that speaks for several.",
        ),
    ],
};

pub(crate) static HEALTH_TCP: Section =
    Section { name: "health tcp", doc: "Has no keys of its own.", example: "", keys: &[] };

pub(crate) static HEALTH_GRPC: Section = Section {
    name: "health grpc",
    doc: "What is asked for by `grpc.health.v1.Health/Check`.",
    example: "service: shop.Orders",
    keys: &[key(
        "service",
        scalar("a gRPC service", "shop.Orders"),
        Means("the server as a whole"),
        "The name of the gRPC service.",
    )],
};

pub(crate) static RETRY: Section = Section {
    name: "retry",
    doc: "When a failed request is tried on another endpoint.",
    example: "",
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
            "What is retried: for methods that are safe to repeat, but for the statuses of gRPC, which hold for all its calls that failed before a message came.",
        ),
        key(
            "non_idempotent",
            Bool,
            Written("false"),
            "Retry all methods alike, also POST and PATCH that an endpoint may have processed.",
        ),
    ],
};

pub(crate) static POOL: Section = Section {
    name: "pool",
    doc: "Kept-alive connections to each endpoint.",
    example: "",
    keys: &[
        key(
            "idle_max",
            Integer { min: 0, max: 65_535 },
            Written("4096"),
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
        key(
            "requests_max",
            AnyOf(&[Integer { min: 1, max: 1_000_000_000 }, OFF]),
            Written("off"),
            "A connection is not used for more requests.",
        ),
        key(
            "streams_max",
            Integer { min: 1, max: 10_000 },
            Written("100"),
            "HTTP/2: requests at once on one connection, if the endpoint allows as many; then there is a further one.",
        ),
        key(
            "ping_interval",
            TIMEOUT,
            Written("10s"),
            "HTTP/2: a connection with requests on which nothing came for so long is asked for a sign of life.",
        ),
        key(
            "ping_timeout",
            TIMEOUT,
            Written("5s"),
            "HTTP/2: without that sign for so long, the connection is broken.",
        ),
    ],
};

pub(crate) static SERVICE_TIMEOUTS: Section = Section {
    name: "service timeouts",
    doc: "Time-outs towards endpoints.",
    example: "",
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
    example: "",
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
