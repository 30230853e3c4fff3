//! The admin API: JSON under `/v1`, `/metrics` for Prometheus, `/healthz` and `/readyz`.
//!
//! For: operators, scripts, the command line and monitoring; `docs/admin-api.md` is its manual.
//! Never: decides or holds anything itself. Whatever it shows or changes goes through the
//! [`Control`] that it is given, and it never carries a client's traffic.
//! Start with [`serve`], then `routes.rs`: one line for each path. Others that speak JSON over HTTP
//! are served in the same way ([`serve_site`]), within the same bounds and behind the same guard.
#![forbid(unsafe_code)]

mod answer;
mod control;
#[cfg(test)]
mod fake;
mod guard;
mod metrics;
mod process;
mod routes;
mod server;

pub use answer::{Answer, AnswerBody};
pub use control::{BoxFuture, Control, ControlError};
pub use guard::{admit, authenticate, is_same_secret, refuse_foreign_names, refuse_web_pages};
pub use routes::{names, read_body};
pub use server::{Door, Peer, Site, serve, serve_site};
