//! Byte formats: slices in, values out.
//!
//! Every decoder here reads what the network sent, so each one checks strictly, never panics, and
//! bounds whatever it keeps. Nothing here owns a socket, a clock or a buffer: results are [`Span`]s
//! (`http1::Span`) into the caller's bytes, and the caller calls again when it holds more of them.
//!
//! Start at [`http1`] (request heads, response heads, chunked bodies), [`proxy_protocol`],
//! [`client_hello`] (whom a client of TLS asks for), [`orca`] (what endpoints say of their load),
//! [`agent_reply`] (what a program beside them says), [`grpc_health`] (whether they serve), [`lars`]
//! (what callers, agents and route services of Lars tell each other), [`dns`] (messages of the
//! Domain Name System) or [`resp`] (a store of sessions).
//!
//! [`Span`]: http1::Span
#![forbid(unsafe_code)]

pub mod agent_reply;
pub mod client_hello;
pub mod dns;
pub mod grpc_health;
pub mod http1;
pub mod lars;
pub mod orca;
mod protobuf;
pub mod proxy_protocol;
pub mod resp;
