//! HTTP/2 from clients, with prior knowledge: the list of RFC 9113 over a socket, real clients, and
//! what becomes of messages on their way to endpoints, in HTTP/1.1 or in HTTP/2.

mod client;
#[path = "../../crates/http2/tests/conformance/mod.rs"]
mod conformance;
mod drain;
mod endpoints;
mod messages;
mod origin;
mod programs;
mod rfc9113;
mod servers;
mod settings;
mod stopped;
mod told;
