//! The brain of a service: its endpoints, their health, the policy among the eligible ones, and
//! the retry budget, behind [`Service::pick`] and [`Pick::report`].
//!
//! For: one shared object per service. Workers read an immutable snapshot and bump atomics: no
//! lock, no allocation; only who finds all endpoints at their limit waits in a line behind a short
//! mutex (`gate.rs`). Configuration, discovery, operators and health checks change it on the
//! control side, behind a short mutex, as a difference; then a new snapshot is published.
//! Never: sockets, clocks, logs, protocols. Health checks are run by whoever calls
//! [`Service::due_checks`] and [`Service::handle_check`].
//! Start with [`Service`]; the rules are in `control.rs`.
#![forbid(unsafe_code)]

mod acquire;
mod budget;
mod control;
mod endpoint;
mod events;
mod gate;
mod hedge;
mod limit;
mod line;
mod member;
mod pick;
mod quantiles;
mod service;
mod session;
mod settings;
mod snapshot;

pub use acquire::Acquired;
pub use endpoint::{ConnectionSlot, EndpointHandle};
pub use events::{DueCheck, Events, NoEvents, UnknownEndpoint};
pub use gate::{Rejection, Waiting};
pub use pick::{Pick, Request};
pub use service::Service;
pub use session::{Claim, Session, Sessions, Token};
pub use settings::Settings;
