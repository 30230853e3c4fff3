//! The keys of `services.NAME.limits` and `services.NAME.queue`.

use super::*;

const LIMIT: Kind = Integer { min: 1, max: 10_000_000 };

pub(crate) const QUEUE_KIND: Kind = AnyOf(&[OFF, In(&QUEUE)]);

pub(crate) static SERVICE_LIMITS: Section = Section {
    name: "service limits",
    doc: "What a service takes at most; what is beyond it gets 503 with `Retry-After`, or waits if the service has a `queue`.",
    example: "concurrency: 32",
    keys: &[
        key(
            "concurrency",
            AnyOf(&[LIMIT, OFF, Word("learnt"), In(&CONCURRENCY)]),
            Written("off"),
            "Requests and streams in flight at each endpoint, all workers together. `learnt`: as many as each can bear, found out from its latency.",
        ),
        key(
            "requests",
            AnyOf(&[LIMIT, OFF]),
            Written("off"),
            "Requests of the service at the same time, in flight and queued.",
        ),
        key(
            "retries",
            AnyOf(&[LIMIT, OFF]),
            Written("off"),
            "Further attempts at the same time; beyond it a request fails as its last attempt did.",
        ),
    ],
};

pub(crate) static CONCURRENCY: Section = Section {
    name: "concurrency",
    doc: "A limit that is found out.",
    example: "learnt: { max: 200 }",
    keys: &[key("learnt", In(&LEARNT), Required, "Its bounds.")],
};

pub(crate) static LEARNT: Section = Section {
    name: "learnt",
    doc: "The limit grows while it is used and latency stays near what it is at leisure, and shrinks when latency grows (the gradient of Netflix's concurrency-limits).",
    example: "min: 4, max: 1000",
    keys: &[
        key(
            "min",
            LIMIT,
            Written("4"),
            "It begins here and comes no lower; every endpoint should bear that many with ease.",
        ),
        key("max", LIMIT, Written("1000"), "It comes no higher."),
    ],
};

pub(crate) static WAKE: Section = Section {
    name: "wake",
    doc: "Where requests and streams wait while the service has no endpoint, because its replicas end when nobody asks for it, and who asks wakes it. Replicas of `run` end and start by themselves; those of `discover` are started by whoever listens to `GET /v1/demand`, such as `evenkeel autoscale`. UDP does not wait.",
    example: "idle: 5m, timeout: 30s",
    keys: &[
        key(
            "max",
            Integer { min: 1, max: 1_000_000 },
            Written("100"),
            "Waiting at the same time; the next gets 503.",
        ),
        key(
            "timeout",
            duration(100, Duration::from_secs(600)),
            Written("30s"),
            "The longest wait, to within 100 ms; then 503.",
        ),
        key(
            "idle",
            duration(100, Duration::from_secs(86_400)),
            Written("5m"),
            "Of `run`: after so long with nothing in flight and no request its replicas end.",
        ),
    ],
};

pub(crate) static QUEUE: Section = Section {
    name: "queue",
    doc: "Where requests and streams wait that find all endpoints at their limit. UDP does not wait.",
    example: "max: 100, timeout: 1s",
    keys: &[
        key(
            "per",
            AnyOf(&[Word("service"), Word("endpoint")]),
            Written("service"),
            "`service`: one queue, from which each endpoint that has room takes the next. `endpoint`: one each; a request waits for the endpoint that the policy chose.",
        ),
        key(
            "max",
            Integer { min: 1, max: 1_000_000 },
            Written("100"),
            "Waiting at the same time, in each queue; the next gets 503.",
        ),
        key(
            "timeout",
            duration(100, Duration::from_secs(300)),
            Written("1s"),
            "The longest wait, to within 100 ms; then 503.",
        ),
        key(
            "priority",
            AnyOf(&[text("`header:` and a name", "header:x-priority"), OFF]),
            Written("off"),
            "The header whose digit says how early a request's turn comes: 0 (first) to 9; others count as 5. Each tenth of `timeout` that a request has waited makes up for one.",
        ),
    ],
};
