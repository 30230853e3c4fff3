//! The admin API: JSON under `/v1`, `/metrics` for Prometheus, `/healthz` and `/readyz`.
//!
//! For: operators, scripts, the command line and monitoring; `docs/admin-api.md` is its manual.
//! Never: decides or holds anything itself. Whatever it shows or changes goes through the
//! [`Control`] that it is given, and it never carries a client's traffic.
//! Start with [`serve`], then `routes.rs`: one line for each path.
#![forbid(unsafe_code)]

mod answer;
mod control;
#[cfg(test)]
mod fake;
mod guard;
pub mod http;
mod metrics;
mod process;
mod routes;
mod server;

pub use control::{BoxFuture, Control, ControlError};
pub use server::serve;
