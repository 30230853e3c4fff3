//! The words that every other crate shares.
//!
//! For: names, identities, time, chance, load counters, outcomes, the checked shape of a
//! configuration (`spec`) and what the running system says of itself (`status`).
//! Never: I/O, clocks, text formats, or any decision.
//! Start with [`Endpoint`] and [`spec::Spec`].
#![forbid(unsafe_code)]

mod cidr;
mod endpoint;
mod latency_by_load;
mod load;
mod names;
mod outcome;
mod reason;
mod report;
mod rng;
mod time;

pub mod grpc;
pub mod spec;
pub mod status;
pub mod vocabulary;

pub use cidr::Cidr;
pub use endpoint::{Endpoint, Weight};
pub use latency_by_load::LatencyByLoad;
pub use load::{Load, Tally};
pub use names::{EndpointId, ListenerName, ServiceName};
pub use outcome::Outcome;
pub use reason::reason;
pub use report::{AgentReply, AgentStanding, ProbeAnswer, Report, Utilization};
pub use rng::Rng;
pub use time::Instant;
