//! The keys of `services.NAME.hedge`.

use super::*;

pub(crate) static HEDGE: Section = Section {
    name: "hedge",
    doc: "When a request that may be repeated (see `retry`) is sent to a second endpoint while the first is still at it. The first answer that begins is taken, and the other attempt is cancelled. Not for requests of a session, with `Expect: 100-continue`, or whose body is longer than `retry.replay_bytes`.",
    example: "after: p95, budget: 5%",
    keys: &[
        key(
            "after",
            AnyOf(&[Word("p50"), Word("p90"), Word("p95"), Word("p99"), TIMEOUT]),
            Written("p95"),
            "How long the first endpoint is waited for: a percentile of the time until answers began, of the last 10 to 15 s and from 50 answers on; or a time.",
        ),
        key(
            "budget",
            Share,
            Written("5%"),
            "Hedges as a share of requests, over about the last ten seconds.",
        ),
    ],
};
