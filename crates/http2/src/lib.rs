//! HTTP/2 (RFC 9113) without sockets: bytes in, events out; messages in, bytes out.
#![forbid(unsafe_code)]

mod fields;
pub mod hpack;

pub use fields::Fields;
