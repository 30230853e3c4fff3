//! The registry as a server: its HTTP API, what it keeps on disk, and the stores that several
//! balancers share.
//!
//! For: instances that register themselves, whoever wants to know of them, and the balancer that
//! sends to them.
//! Never: decides who leaves (that is `registry`, without sockets), or whether an instance gets
//! traffic (that is `service`, by its checks).
//! Start with [`Registrar`]; `api.rs` has one line for each path, `journal.rs` is what survives a
//! restart, `store/` what is shared.
#![forbid(unsafe_code)]

mod api;
mod checks;
pub mod client;
mod journal;
mod keeper;
mod openapi;
pub mod source;
mod store;
mod tokens;

pub use checks::passes;
pub use keeper::{Keeper, List, Registrar};
pub use openapi::openapi;
