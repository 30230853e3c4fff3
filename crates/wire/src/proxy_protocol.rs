//! The PROXY protocol, versions 1 (text) and 2 (binary): who the client behind a load balancer is.
//!
//! Source: "The PROXY protocol", versions 1 and 2, Willy Tarreau, HAProxy Technologies,
//! `doc/proxy-protocol.txt`. [`decode`] reads either version from the front of a connection;
//! [`encode_v1`] and [`encode_v2`] write them. Type-length-value extensions are checked for shape
//! and passed over. Whether a peer may be believed is not decided here.

mod v1;
mod v2;

use std::fmt;
use std::net::SocketAddr;

pub use v1::encode_v1;
pub use v2::encode_v2;

/// Both ends of the client's connection. Both are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// What the client connected to.
    pub destination: SocketAddr,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Header {
    /// Use the addresses of the connection itself: a health check of the sender (LOCAL), or a client
    /// whose address has no IP form (UNKNOWN, AF_UNSPEC, AF_UNIX).
    Local,
    Proxied(Addresses),
}

/// What the buffer held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decoded {
    /// A valid beginning: read more, and decode again from the start.
    Partial,
    /// The header occupies the first `len` bytes.
    Complete { header: Header, len: usize },
}

/// Why the front of a connection is no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// Neither signature.
    UnknownSignature,
    /// Longer than 107 bytes (version 1) or [`HEADER_BYTES_MAX`] (version 2).
    TooLong,
    /// A text header with other than single spaces between its parts, or without CRLF.
    InvalidText,
    InvalidFamily,
    InvalidAddress,
    InvalidPort,
    InvalidVersion,
    InvalidCommand,
    /// A binary header whose length does not cover its addresses.
    AddressesTruncated,
    /// An extension that reaches beyond the header.
    ExtensionTruncated,
}

/// Bytes of a whole version 2 header. The format would allow 65,551; addresses take at most 232,
/// and the largest extensions seen, TLS details, some hundreds.
pub const HEADER_BYTES_MAX: usize = 4096;

/// Reads the header at the front of `buf`. A buffer of [`HEADER_BYTES_MAX`] bytes never yields
/// [`Decoded::Partial`].
pub fn decode(buf: &[u8]) -> Result<Decoded, Error> {
    if starts_alike(buf, &v2::SIGNATURE) {
        v2::decode(buf)
    } else if starts_alike(buf, v1::SIGNATURE) {
        v1::decode(buf)
    } else {
        Err(Error::UnknownSignature)
    }
}

/// Whether both agree as far as both go.
fn starts_alike(buf: &[u8], signature: &[u8]) -> bool {
    buf.iter().zip(signature).all(|(byte, expected)| byte == expected)
}

impl Error {
    /// What is wrong, for a log line.
    pub fn reason(self) -> &'static str {
        match self {
            Error::UnknownSignature => "no PROXY protocol header",
            Error::TooLong => "PROXY protocol header too long",
            Error::InvalidText => "malformed PROXY protocol text",
            Error::InvalidFamily => "invalid address family in PROXY protocol header",
            Error::InvalidAddress => "invalid address in PROXY protocol header",
            Error::InvalidPort => "invalid port in PROXY protocol header",
            Error::InvalidVersion => "invalid PROXY protocol version",
            Error::InvalidCommand => "invalid PROXY protocol command",
            Error::AddressesTruncated => "truncated addresses in PROXY protocol header",
            Error::ExtensionTruncated => "truncated extension in PROXY protocol header",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests;
