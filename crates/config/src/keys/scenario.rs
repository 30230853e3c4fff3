//! The keys of a scenario for `evenkeel simulate`: a file of its own.

use super::failures::{FAILOVER_BELOW_KEY, OUTLIER_KEY, PANIC_KEY, SLOW_START_KEY, SUBSET_KEY};
use super::*;

/// A number that may have a fraction.
const NUMBER: Kind = scalar("a number above 0", "1.5");
const LATENCY_KIND: Kind = AnyOf(&[duration(0, DAY), In(&LATENCY)]);
const GROUP: Kind = scalar("the name of a group of endpoints", "web");

pub(crate) static SCENARIO: Section = Section {
    name: "scenario",
    doc: "The whole file. Times count from the moment when the clients begin.",
    example: "",
    keys: &[
        key("duration", TIMEOUT, Required, "How long clients send."),
        key(
            "seed",
            Integer { min: 0, max: u64::MAX },
            Written("1"),
            "The same seed gives the same run.",
        ),
        key(
            "policies",
            ListOf(&Policy),
            Means("all policies"),
            "What is compared, on the same arrivals.",
        ),
        key(
            "balancers",
            Integer { min: 1, max: 100 },
            Written("1"),
            "Balancers beside each other, each with its own view of loads and health.",
        ),
        key(
            "stale",
            GRACE,
            Written("0s"),
            "How much later each further balancer learns of changed endpoints.",
        ),
        key(
            "service",
            In(&SCENARIO_SERVICE),
            Written("{}"),
            "How balancers treat the service, as in a configuration.",
        ),
        key("clients", MapOf("GROUP", &In(&CLIENTS)), Required, "Who sends requests."),
        key("endpoints", MapOf("GROUP", &In(&ENDPOINTS)), Required, "Who answers them."),
        key("events", ListOf(&In(&EVENT)), Written("[]"), "What happens meanwhile."),
    ],
};

pub(crate) static SCENARIO_SERVICE: Section = Section {
    name: "scenario service",
    doc: "As in a configuration, where these keys are explained.",
    example: "health: off",
    keys: &[
        key("health", AnyOf(&[OFF, Word("tcp"), In(&HEALTH)]), Written("tcp"), "Health checks."),
        OUTLIER_KEY,
        SLOW_START_KEY,
        PANIC_KEY,
        FAILOVER_BELOW_KEY,
        SUBSET_KEY,
        key(
            "affinity",
            In(&AFFINITY),
            Means("every request is balanced by itself"),
            "Keep the requests of one key at one endpoint.",
        ),
        key("retry", AnyOf(&[OFF, In(&RETRY)]), Written("{}"), "Retries."),
        key("hedge", AnyOf(&[OFF, In(&HEDGE)]), Written("off"), "Hedged requests."),
        key("limits", In(&SERVICE_LIMITS), Means("no limits"), "What is taken at the same time."),
        key(
            "queue",
            QUEUE_KIND,
            Written("off"),
            "Who waits at a limit. With `priority`, requests have priorities by chance.",
        ),
        key("timeouts", In(&SERVICE_TIMEOUTS), Written("{}"), "How long endpoints may take."),
        key("drain_grace", GRACE, Written("30s"), "How long a leaving endpoint may finish."),
    ],
};

pub(crate) static CLIENTS: Section = Section {
    name: "clients",
    doc: "A group of clients alike: one of `rate`, `users` and `recorded`.",
    example: "rate: 100",
    keys: &[
        key(
            "rate",
            NUMBER,
            Means("see `users`"),
            "So many requests a second at random moments, whatever becomes of them.",
        ),
        key(
            "users",
            Integer { min: 1, max: 1_000_000 },
            Means("see `rate`"),
            "So many users, each of whom waits for an answer before the next request.",
        ),
        key(
            "recorded",
            In(&RECORDED),
            Means("see `rate`"),
            "The requests of an access log, at the times when they came.",
        ),
        key("think", GRACE, Written("1s"), "Users wait so long on average between requests."),
        key(
            "timeout",
            AnyOf(&[TIMEOUT, OFF]),
            Written("off"),
            "A client gives up after this, which counts as a failure.",
        ),
        key(
            "keys",
            Integer { min: 1, max: 10_000_000 },
            Written("1000"),
            "Different keys among its requests, for policies that hash.",
        ),
    ],
};

pub(crate) static RECORDED: Section = Section {
    name: "recorded",
    doc: "An access log of this program, played again. Each client address is a key.",
    example: "access_log: access.log",
    keys: &[
        key(
            "access_log",
            text("a path", "access.log"),
            Required,
            "The file, seen from the directory of the scenario. Of what was sent off, the times, the clients and the durations are used.",
        ),
        key(
            "service",
            SERVICE_NAME,
            Means("all of them"),
            "Only requests that went to this service.",
        ),
        key("speed", NUMBER, Written("1"), "They come so many times as fast."),
        key(
            "durations",
            Bool,
            Written("false"),
            "Each takes as long as it took then, whatever `latency` says.",
        ),
    ],
};

pub(crate) static ENDPOINTS: Section = Section {
    name: "endpoints",
    doc: "A group of endpoints alike.",
    example: "count: 10, latency: 20ms",
    keys: &[
        key("count", Integer { min: 1, max: 100_000 }, Written("1"), "How many there are."),
        key(
            "latency",
            LATENCY_KIND,
            Required,
            "How long a request takes if nothing is in its way.",
        ),
        key(
            "threads",
            AnyOf(&[Integer { min: 1, max: 1_000_000 }, OFF]),
            Written("off"),
            "Requests served at the same time; the others queue. `off`: all are.",
        ),
        key(
            "queue_max",
            Integer { min: 0, max: 1_000_000 },
            Written("1000"),
            "Requests that may queue; the next are reset.",
        ),
        key("weight", Integer { min: 0, max: 65_535 }, Written("1"), "As in a configuration."),
        key("priority", Integer { min: 0, max: 255 }, Written("0"), "As in a configuration."),
        key("zone", scalar("a name", "eu-1a"), Means("none"), "As in a configuration."),
        key(
            "boot",
            GRACE,
            Written("0s"),
            "From the start of a new or crashed endpoint until it can be reached.",
        ),
        key(
            "warm_up",
            GRACE,
            Written("0s"),
            "After its start it is five times as slow, and gets to its speed over this time.",
        ),
        key(
            "cache",
            AnyOf(&[OFF, In(&CACHE)]),
            Written("off"),
            "It is slower with keys that it did not serve lately.",
        ),
        key(
            "antagonists",
            In(&ANTAGONISTS),
            Means("none"),
            "Something else runs on the same machine, and takes more or less of it.",
        ),
    ],
};

pub(crate) static CACHE: Section = Section {
    name: "cache",
    doc: "What each endpoint keeps of the requests that it served. The least recently used key makes room, and a start empties it.",
    example: "keys: 1000",
    keys: &[
        key("keys", Integer { min: 1, max: 10_000_000 }, Required, "Keys that it has room for."),
        key("miss", NUMBER, Written("10"), "With another key it takes so many times as long."),
    ],
};

pub(crate) static ANTAGONISTS: Section = Section {
    name: "antagonists",
    doc: "At random moments, for each endpoint by itself, its speed changes.",
    example: "every: 2s, share: 30%, slower: 4",
    keys: &[
        key("every", TIMEOUT, Required, "How often its speed changes, on average."),
        key("share", Share, Written("50%"), "The share of the time in which it is slower."),
        key(
            "slower",
            scalar("a number of 1 or more", "4"),
            Required,
            "Then requests take 1 to so many times as long, equally distributed.",
        ),
    ],
};

pub(crate) static LATENCY: Section = Section {
    name: "latency",
    doc: "A distribution: `mean` alone is exponential, `median` and `sigma` log-normal, `fast`, `slow` and `share` bimodal.",
    example: "median: 10ms, sigma: 0.5",
    keys: &[
        key("mean", TIMEOUT, Means("not exponential"), "Exponential: its mean."),
        key("median", TIMEOUT, Means("not log-normal"), "Log-normal: its median."),
        key("sigma", NUMBER, Written("0.5"), "Log-normal: the deviation of the logarithm."),
        key("fast", TIMEOUT, Means("not bimodal"), "Bimodal: most requests."),
        key("slow", TIMEOUT, Means("not bimodal"), "Bimodal: the others."),
        key("share", Share, Written("10%"), "Bimodal: the share of slow requests."),
    ],
};

pub(crate) static EVENT: Section = Section {
    name: "event",
    doc: "One thing that happens to a group of `endpoints`, or of `clients`.",
    example: "at: 10s, for: 30s, endpoints: web, slower: 3",
    keys: &[
        key("at", GRACE, Required, "When."),
        key("for", TIMEOUT, Means("to the end"), "How long."),
        key("endpoints", GROUP, Means("see `clients`"), "Which group of endpoints."),
        key(
            "count",
            Integer { min: 1, max: 100_000 },
            Means("all of them"),
            "Only so many endpoints of the group.",
        ),
        key("slower", NUMBER, Means("no"), "Everything takes so many times as long."),
        key("latency", LATENCY_KIND, Means("no"), "Requests take this instead."),
        key("errors", Share, Means("no"), "This share is answered with 500, fast."),
        key("resets", Share, Means("no"), "This share is reset, fast."),
        key(
            "fault",
            AnyOf(&[
                Word("crash"),
                Word("hang"),
                Word("drain"),
                Word("checks_pass"),
                Word("checks_fail"),
            ]),
            Means("no"),
            "`crash`: refuses until it is over, then boots. `hang`: answers nothing. `drain`: an operator drains it. `checks_pass`, `checks_fail`: health checks lie.",
        ),
        key(
            "scale",
            Integer { min: 0, max: 100_000 },
            Means("no"),
            "The group has so many endpoints from then on.",
        ),
        key(
            "replace",
            TIMEOUT,
            Means("no"),
            "A roll-out: all endpoints are replaced by new ones, one each time that this has passed.",
        ),
        key(
            "clients",
            scalar("the name of a group of clients", "shop"),
            Means("none"),
            "Which group of clients.",
        ),
        key("times", NUMBER, Means("no"), "Clients send so many times as much; only with `rate`."),
    ],
};
