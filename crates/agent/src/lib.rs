//! The client-side agent: callers ask which endpoint of a service to use, go there themselves, and
//! tell how it went.
//!
//! For: the same services that the data plane balances, shared as objects, so that both learn from
//! each other's traffic: over HTTP with JSON (TCP, or a Unix socket), and over the wire of Lars.
//! Never: decides whom to pick (that is `service`), or carries what callers send to endpoints.
//! Start with [`Agent`]; then `desk.rs`, which is what all wires have in common, and `calls.rs`,
//! the picks that are outstanding. These two and `lars.rs` touch neither clock nor socket.
#![forbid(unsafe_code)]

mod agent;
mod calls;
mod counts;
mod desk;
mod door;
mod http;
mod lars;
mod terms;

pub use agent::{Agent, AgentOptions, BindError, Bound, Place};
