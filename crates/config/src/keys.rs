//! The table of the format: every section and every key, with its kind, its bounds, its default
//! and its meaning. A new key begins here; `decode` then reads it (a test fails if it does not).

mod affinity;
mod agent;
mod discover;
mod dns;
mod failures;
mod hedge;
mod listener;
mod queue;
mod registry;
mod route;
pub(crate) mod scenario;
mod service;
mod tls;

pub(crate) use affinity::{
    AFFINITY, AFFINITY_COOKIE, AFFINITY_HEADER, AFFINITY_SOURCE, AFFINITY_STORE, TABLE_TTL_MAX,
};
pub(crate) use agent::{AGENT, LARS, LARS_KEY};
pub(crate) use discover::{
    DISCOVER, DISCOVER_DNS, DISCOVER_DOCKER, DISCOVER_HTTP, DISCOVER_LARS, DOCKER, PROVIDERS,
};
pub(crate) use dns::DNS;
pub(crate) use failures::{OUTLIER, SLOW_START};
pub(crate) use hedge::HEDGE;
pub(crate) use listener::{
    ACCEPT_PROXY_PROTOCOL, FORWARDING, LIMITS, LISTENER, LISTENER_HTTP2, LISTENER_TIMEOUTS, UDP,
};
pub(crate) use queue::{CONCURRENCY, LEARNT, QUEUE, QUEUE_KIND, SERVICE_LIMITS, WAKE};
pub(crate) use registry::{
    CONSUL, DISCOVER_REGISTRY, ETCD, ETCD_USER, REGISTRY, REGISTRY_STORE, SECRET_FILE,
    SELF_PRESERVATION, SERVICE_TOKEN,
};
pub(crate) use route::{HEADER_EDITS, REDIRECT, RESPOND, REWRITE, ROUTE};
pub(crate) use service::{
    ENDPOINT, HEALTH, HEALTH_AGENT, HEALTH_GRPC, HEALTH_TCP, POOL, RETRY, RUN, SERVICE,
    SERVICE_TIMEOUTS,
};
pub(crate) use tls::{ACME, CERTIFICATE, CLIENT_AUTH, EAB, HSTS, LISTENER_TLS, SERVICE_TLS};

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
const SERVICE_NAME: Kind = scalar("the name of a service", "web");
const HEADER_VALUE: Kind = scalar("a header value", "no-store");

pub(crate) static FILE: Section = Section {
    name: "file",
    doc: "The whole file. Unknown keys are errors.",
    example: "",
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
            Means(
                "required, unless there is a `registry` or an `agent`; with `providers`, an HTTP listener `web` on port 8080",
            ),
            "The addresses that accept, by name.",
        ),
        key(
            "services",
            MapOf("SERVICE", &In(&SERVICE)),
            Means("no services: listeners can only redirect and respond"),
            "What is balanced, by name.",
        ),
        key(
            "providers",
            In(&PROVIDERS),
            Means("nothing is discovered"),
            "Where endpoints, and services and routes by label, are discovered.",
        ),
        key("dns", In(&DNS), Means("no name server"), "Tells over the DNS who serves."),
        key(
            "registry",
            In(&REGISTRY),
            Means("instances cannot register themselves"),
            "Where instances register themselves.",
        ),
        key(
            "agent",
            In(&AGENT),
            Means("no agent"),
            "Whom callers ask which endpoint to use, and tell how that went.",
        ),
    ],
};

pub(crate) static ADMIN: Section = Section {
    name: "admin",
    doc: "The admin API under `/v1`, `/metrics`, `/healthz` and `/readyz`.",
    example: "",
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
    example: "",
    keys: &[key(
        "file",
        text("a path", "/var/log/evenkeel.log"),
        Required,
        "Appended to; opened anew on SIGUSR1.",
    )],
};
