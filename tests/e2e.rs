//! End to end: the real program, real sockets, real clients and replicas.
//!
//! Each file below is one group; `harness` starts the program and speaks to it. Nothing here waits
//! for a time: it waits for a condition, with a bound.
#![forbid(unsafe_code)]
#![allow(
    unreachable_pub,
    reason = "a test binary has no outside; `pub` says what other groups use"
)]

mod e2e {
    mod affinity;
    mod agent;
    mod bulk;
    mod command_line;
    pub mod compose;
    mod compose_deploy;
    mod compose_interoperation;
    mod compose_registry;
    mod compose_zero;
    mod discovery;
    mod docker;
    mod docker_compose;
    mod docker_events;
    mod examples;
    mod failures;
    mod forwarding;
    pub mod grpc;
    pub mod harness;
    mod hedging;
    mod hostile;
    mod http2;
    mod limits;
    mod live_changes;
    mod observability;
    mod policies;
    mod policies_page;
    mod prequal;
    mod proxy_protocol;
    mod queues;
    mod readme;
    mod registry;
    mod routes;
    mod runner;
    mod shared_sessions;
    mod simulate;
    mod slow_replica;
    mod smuggling;
    mod stop;
    mod streams;
    mod tls;
    mod upheaval;
    mod wake;
}
