//! HTTP/2 from clients, with prior knowledge: the list of RFC 9113 over a socket, real clients, and
//! what becomes of messages on their way to endpoints that speak HTTP/1.1.

mod client;
#[path = "../../crates/http2/tests/conformance/mod.rs"]
mod conformance;
mod messages;
mod rfc9113;
mod settings;
mod stopped;
mod told;
