//! HTTP/1: from accepted connections to answered requests.
//!
//! `connection` reads requests and decides; `forward` finds an endpoint that answers; `exchange`
//! carries one request and its response between two sockets; `hedge` asks a second endpoint when the
//! first takes long; `hints` reads what a response says of its endpoint; `grpc` what a request of gRPC
//! says of its time; `request_head` and `response_head` write what each side is to see; `reply` writes
//! our own answers; `turn` keeps what serving a request needs, for connections to use in turns.

mod connection;
mod date;
mod exchange;
mod forward;
mod grpc;
mod hedge;
pub(crate) mod hints;
mod lines;
mod record;
mod reply;
mod request_head;
mod response_head;
pub(crate) mod session;
mod turn;
mod verdict;

pub(crate) use connection::{Downstream, refuse_stream, serve, serve_stream};
pub(crate) use record::Record;
pub(crate) use request_head::is_edited;
pub(crate) use turn::Turns;
