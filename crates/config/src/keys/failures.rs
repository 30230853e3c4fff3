//! The keys of a service that say what happens when endpoints fail and come back, beside
//! `health` and `retry`.

use super::*;

const TIMES: Kind = scalar("a number from 1.1 to 1000", "3");
const EJECTION: Kind = duration(100, DAY);
const OUTLIER_KIND: Kind = AnyOf(&[OFF, In(&OUTLIER)]);
const SLOW_START_KIND: Kind = AnyOf(&[OFF, duration(100, DAY), In(&SLOW_START)]);
const PANIC_KIND: Kind = AnyOf(&[OFF, Share]);
const SUBSET_KIND: Kind = AnyOf(&[OFF, Integer { min: 1, max: 100_000 }]);

pub(super) const OUTLIER_KEY: Key = key(
    "outlier",
    OUTLIER_KIND,
    Written("off"),
    "Leave out endpoints that fail or are slow, on the evidence of their traffic; `{}` turns it on.",
);

pub(super) const SLOW_START_KEY: Key = key(
    "slow_start",
    SLOW_START_KIND,
    Written("off"),
    "An endpoint that begins to serve beside others gets to its share over this time.",
);

pub(super) const PANIC_KEY: Key = key(
    "panic",
    PANIC_KIND,
    Written("off"),
    "With a smaller share of healthy endpoints than this all listed ones are used, but for drained ones and those that never passed a check; of up to three endpoints only when none is healthy.",
);

pub(super) const FAILOVER_BELOW_KEY: Key = key(
    "failover_below",
    Share,
    Written("0%"),
    "With a smaller share of healthy endpoints than this, those of the next `priority` join; 0%: only when none is healthy.",
);

pub(super) const SUBSET_KEY: Key = key(
    "subset",
    SUBSET_KIND,
    Written("off"),
    "Of the eligible endpoints this balancer uses only so many, other balancers others.",
);

pub(crate) static OUTLIER: Section = Section {
    name: "outlier",
    doc: "Which endpoints are left out for a while (ejected) on the evidence of their traffic. They come back by time, whatever checks say. The last eligible endpoint is never ejected.",
    example: "consecutive: 5, ejection: 10s",
    keys: &[
        key(
            "consecutive",
            AnyOf(&[Integer { min: 1, max: 10_000 }, OFF]),
            Written("5"),
            "So many requests in a row failed, answers of 500 and above included; noticed at once.",
        ),
        key(
            "error_rate",
            AnyOf(&[Share, OFF]),
            Written("50%"),
            "This share of the requests in a window failed, or more.",
        ),
        key(
            "latency",
            AnyOf(&[TIMES, OFF]),
            Written("3"),
            "The mean latency in a window is more than so many times the median of the other endpoints' means.",
        ),
        key(
            "requests_min",
            Integer { min: 1, max: 1_000_000 },
            Written("20"),
            "A window with fewer requests says nothing, and goes on for up to ten times its length.",
        ),
        key(
            "interval",
            duration(100, Duration::from_secs(3600)),
            Written("1s"),
            "The length of a window.",
        ),
        key(
            "ejection",
            EJECTION,
            Written("10s"),
            "How long the first ejection lasts; each further one is twice as long as the one before.",
        ),
        key("ejection_max", EJECTION, Written("5m"), "No ejection lasts longer."),
        key(
            "share_max",
            Share,
            Written("50%"),
            "At most this share of the endpoints is ejected at a time, though always one may be; 0%: none.",
        ),
    ],
};

pub(crate) static SLOW_START: Section = Section {
    name: "slow start",
    doc: "How an endpoint that begins to serve beside others gets up to its share: new, recovered, back from an ejection, or undrained.",
    example: "window: 30s",
    keys: &[
        key("window", duration(100, DAY), Required, "From its first request to its full weight."),
        key("from", Share, Written("10%"), "The share of its weight that it begins with."),
        key(
            "curve",
            scalar("a number from 0.1 to 10", "1.5"),
            Written("1"),
            "The power of time by which the rest is added: 1 is a straight line, 2 is slower at first.",
        ),
        key(
            "hold_above",
            AnyOf(&[TIMES, OFF]),
            Written("2"),
            "The ramp stands still while its latency is more than so many times the median of the others', for at most five windows in all.",
        ),
    ],
};
