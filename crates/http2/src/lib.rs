//! HTTP/2 (RFC 9113) without sockets: bytes in, events out; messages in, bytes out.
//!
//! For: one connection as a state machine, for servers towards clients and for clients towards
//! endpoints: frames, field compression ([`hpack`]), streams, flow control in both directions with
//! memory that is bounded for each connection, and the defences against peers that make little
//! work for themselves and much for others.
//! Never: a socket, a clock, a task. Who calls brings bytes, and time only as [`Connection::refill`].
//! Start with [`Connection`]: [`Connection::receive`] turns bytes into [`Event`]s, and all that is
//! to be sent gathers in [`Connection::output`], so that what goes to one peer in one turn is one
//! write. [`http1`] translates heads into HTTP/1.1, which leaves no room for another reading.
#![forbid(unsafe_code)]

mod budget;
mod config;
mod connection;
mod error;
mod fields;
mod frame;
pub mod hpack;
pub mod http1;
mod message;
mod output;
mod streams;

pub use config::Config;
pub use connection::{Connection, Event, FieldWriter, HeadKind, PREFACE, Received};
pub use error::{ErrorCode, MessageError, Violation};
pub use fields::Fields;
pub use message::{RequestHead, ResponseHead};
pub use streams::StreamKey;
