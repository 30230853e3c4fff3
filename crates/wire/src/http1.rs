//! HTTP/1.0 and HTTP/1.1 messages: RFC 9112 (framing) and RFC 9110 (field semantics).
//!
//! [`RequestHead`] and [`ResponseHead`] parse the head of a message; [`ChunkedDecoder`] walks a
//! chunked body. Heads are kept as [`Span`]s into the buffer that was given to `parse`, with the
//! order and the letter case that was sent, so that forwarding a header is one copy.
//!
//! What two HTTP implementations read differently is how requests are smuggled. So where the RFCs
//! let a recipient choose between repairing and refusing, this module refuses: what comes out has
//! exactly one reading. It never decodes percent-encoding, never joins or reorders fields, and
//! never allocates once the header vectors have grown to their usual size.
//!
//! `parse` starts over each time that it is called, because heads are short and mostly arrive in
//! one read. Checks run in byte order, so a prefix of a message is only ever refused with the error
//! of the whole message, and a wrong first byte is refused at once.

mod chunked;
mod date;
mod error;
mod field;
mod framing;
mod grammar;
mod header;
mod host;
mod limits;
mod request;
mod response;
mod span;
mod target;

pub use chunked::{ChunkStep, ChunkedDecoder, TrailerLimits};
pub use date::parse_http_date;
pub use error::{ChunkError, FieldError, RequestError, ResponseError};
pub use framing::{Framing, parse_content_length};
pub use grammar::{is_field_value, is_token};
pub use header::{Header, HeaderKind};
pub use host::validate_host;
pub use limits::HeadLimits;
pub use request::RequestHead;
pub use response::{RequestKind, ResponseHead};
pub use span::Span;
pub use target::TargetForm;

/// The protocol versions that are spoken; all others are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    Http10,
    #[default]
    Http11,
}

impl Version {
    /// `1.0` or `1.1`.
    pub fn number(self) -> &'static str {
        match self {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
        }
    }
}

/// Whether the buffer held a whole head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// Valid so far: read more bytes and parse again from the start.
    Partial,
    /// The head is complete and occupies the first `len` bytes.
    Complete,
}

/// Why a scan stopped before its end.
#[derive(Debug)]
enum Halt<E> {
    /// The bytes ran out.
    Partial,
    Error(E),
}

impl<E> From<E> for Halt<E> {
    fn from(error: E) -> Self {
        Halt::Error(error)
    }
}

impl<E> Halt<E> {
    fn map<F>(self, change: impl FnOnce(E) -> F) -> Halt<F> {
        match self {
            Halt::Partial => Halt::Partial,
            Halt::Error(error) => Halt::Error(change(error)),
        }
    }
}
