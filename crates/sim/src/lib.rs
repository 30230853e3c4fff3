//! A deterministic simulator: the balancing code of production, unchanged, among clients and
//! endpoints that exist only as events on a virtual clock.
//!
//! For: comparing policies on a scenario (`evenkeel simulate`), and finding the seeds whose faults
//! break an invariant (`tests/faults.rs`). The same scenario, policy and seed give the same run,
//! event for event, which [`Report::hash`] shows.
//! Never: I/O, clocks or chance of its own; nor a second implementation of what `service` decides.
//! The proxy's part, that is attempts, time-outs and retries, is in `request.rs`.
//! Start with [`run`], then `simulation.rs`.
#![forbid(unsafe_code)]

mod balancer;
mod cache;
mod distribution;
mod hedge;
mod histogram;
mod invariants;
mod plot;
mod processor;
mod queue;
mod report;
mod request;
mod script;
mod server;
mod session;
mod simulation;

pub use invariants::Violation;
pub use plot::svg;
pub use report::{EndpointReport, Report, Sample, SessionReport};
pub use simulation::{Progress, run};
