//! Why a message was refused: one variant per cause.

use std::fmt;

/// A fault in the fields of a head or of a trailer section, or in what they say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldError {
    BareCr,
    BareLf,
    /// A line that starts with whitespace (RFC 9112 section 5.2).
    ObsoleteFold,
    MissingColon,
    EmptyName,
    InvalidName,
    WhitespaceBeforeColon,
    ControlInValue,
    TooMany,
    DuplicateContentLength,
    /// Not all digits, a list, or more than 64 bits.
    InvalidContentLength,
    ContentLengthWithTransferEncoding,
    InvalidTransferEncoding,
    ChunkedTwice,
    ChunkedNotFinal,
    /// Well-formed, but a coding other than chunked.
    UnsupportedTransferCoding,
    TransferEncodingInHttp10,
    DuplicateHost,
    InvalidHost,
    UserinfoInHost,
    TooManyConnectionOptions,
    /// `Connection` names a field without which the message has another meaning.
    ConnectionNamesEndToEndField,
}

impl FieldError {
    /// What is wrong, for a log line or the body of an error response.
    pub fn reason(self) -> &'static str {
        match self {
            FieldError::BareCr => "carriage return without line feed",
            FieldError::BareLf => "line feed without carriage return",
            FieldError::ObsoleteFold => "folded header line",
            FieldError::MissingColon => "header line without a colon",
            FieldError::EmptyName => "empty header name",
            FieldError::InvalidName => "invalid character in a header name",
            FieldError::WhitespaceBeforeColon => "whitespace before the colon of a header",
            FieldError::ControlInValue => "control character in a header value",
            FieldError::TooMany => "too many header fields",
            FieldError::DuplicateContentLength => "more than one Content-Length",
            FieldError::InvalidContentLength => "invalid Content-Length",
            FieldError::ContentLengthWithTransferEncoding => {
                "both Content-Length and Transfer-Encoding"
            }
            FieldError::InvalidTransferEncoding => "invalid Transfer-Encoding",
            FieldError::ChunkedTwice => "chunked named twice in Transfer-Encoding",
            FieldError::ChunkedNotFinal => "chunked is not the final transfer coding",
            FieldError::UnsupportedTransferCoding => "unsupported transfer coding",
            FieldError::TransferEncodingInHttp10 => "Transfer-Encoding in an HTTP/1.0 message",
            FieldError::DuplicateHost => "more than one Host",
            FieldError::InvalidHost => "invalid Host",
            FieldError::UserinfoInHost => "user information in Host",
            FieldError::TooManyConnectionOptions => "too many connection options",
            FieldError::ConnectionNamesEndToEndField => "Connection names Host or Content-Length",
        }
    }
}

/// Why a request was refused. The sender is at fault, and the connection cannot go on: where the
/// next request starts is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestError {
    InvalidMethod,
    MethodTooLong,
    EmptyTarget,
    /// In none of the four forms of RFC 9112 section 3.2.
    InvalidTarget,
    ControlInTarget,
    NonAsciiInTarget,
    FragmentInTarget,
    UnsupportedScheme,
    InvalidAuthority,
    UserinfoInAuthority,
    ConnectWithoutAuthority,
    AsteriskWithoutOptions,
    UriTooLong,
    MissingVersion,
    InvalidVersion,
    UnsupportedVersion,
    /// A carriage return without line feed, or the reverse, in or before the request line.
    InvalidLineEnd,
    HeadTooLarge,
    MissingHost,
    /// The authority of the target and the Host field differ.
    AuthorityMismatch,
    /// A CONNECT request that announces content.
    ContentInConnect,
    Field(FieldError),
}

impl RequestError {
    /// The status to answer with: 400, 414, 431, 501 or 505.
    pub fn status(self) -> u16 {
        match self {
            RequestError::UriTooLong => 414,
            RequestError::HeadTooLarge | RequestError::Field(FieldError::TooMany) => 431,
            RequestError::MethodTooLong
            | RequestError::Field(FieldError::UnsupportedTransferCoding) => 501,
            RequestError::UnsupportedVersion => 505,
            _ => 400,
        }
    }

    /// What is wrong, for a log line or the body of an error response.
    pub fn reason(self) -> &'static str {
        match self {
            RequestError::InvalidMethod => "invalid method",
            RequestError::MethodTooLong => "method too long",
            RequestError::EmptyTarget => "empty request target",
            RequestError::InvalidTarget => "invalid request target",
            RequestError::ControlInTarget => "control character in the request target",
            RequestError::NonAsciiInTarget => "non-ASCII byte in the request target",
            RequestError::FragmentInTarget => "fragment in the request target",
            RequestError::UnsupportedScheme => "unsupported scheme in the request target",
            RequestError::InvalidAuthority => "invalid authority in the request target",
            RequestError::UserinfoInAuthority => "user information in the request target",
            RequestError::ConnectWithoutAuthority => "CONNECT without host and port",
            RequestError::AsteriskWithoutOptions => "target * with a method other than OPTIONS",
            RequestError::UriTooLong => "request target too long",
            RequestError::MissingVersion => "request line without a version",
            RequestError::InvalidVersion => "invalid protocol version",
            RequestError::UnsupportedVersion => "unsupported protocol version",
            RequestError::InvalidLineEnd => "invalid line end in the request line",
            RequestError::HeadTooLarge => "request head too large",
            RequestError::MissingHost => "missing Host",
            RequestError::AuthorityMismatch => "Host differs from the request target",
            RequestError::ContentInConnect => "CONNECT with content",
            RequestError::Field(error) => error.reason(),
        }
    }
}

/// Why a response was refused. The endpoint is at fault; its connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResponseError {
    InvalidVersion,
    UnsupportedVersion,
    InvalidStatus,
    ControlInReason,
    InvalidLineEnd,
    HeadTooLarge,
    /// A 1xx response that announces content (RFC 9110 section 8.6, RFC 9112 section 6.1).
    ContentInInformational,
    /// A 101 response that does not say what it switches to (RFC 9110 section 15.2.2).
    SwitchingWithoutUpgrade,
    Field(FieldError),
}

impl ResponseError {
    /// What is wrong, for a log line.
    pub fn reason(self) -> &'static str {
        match self {
            ResponseError::InvalidVersion => "invalid protocol version",
            ResponseError::UnsupportedVersion => "unsupported protocol version",
            ResponseError::InvalidStatus => "invalid status code",
            ResponseError::ControlInReason => "control character in the reason phrase",
            ResponseError::InvalidLineEnd => "invalid line end in the status line",
            ResponseError::HeadTooLarge => "response head too large",
            ResponseError::ContentInInformational => "1xx response with content",
            ResponseError::SwitchingWithoutUpgrade => "101 response without Upgrade",
            ResponseError::Field(error) => error.reason(),
        }
    }
}

/// Why a chunked body was refused. Where the message ends is unknown, so the connection cannot go
/// on; bytes already passed on were valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChunkError {
    InvalidSize,
    /// More digits than 64 bits need.
    SizeTooLong,
    InvalidExtension,
    /// The extensions of one chunk, or of all chunks together, are too long.
    ExtensionsTooLong,
    /// A size line that does not end in CRLF.
    InvalidLineEnd,
    /// The data of a chunk is not followed by CRLF.
    MissingDataEnd,
    TrailersTooLarge,
    /// A field that RFC 9110 section 6.5.1 keeps out of trailers.
    ForbiddenTrailer,
    Trailer(FieldError),
}

impl ChunkError {
    /// What is wrong, for a log line or the body of an error response.
    pub fn reason(self) -> &'static str {
        match self {
            ChunkError::InvalidSize => "invalid chunk size",
            ChunkError::SizeTooLong => "chunk size too long",
            ChunkError::InvalidExtension => "invalid chunk extension",
            ChunkError::ExtensionsTooLong => "chunk extensions too long",
            ChunkError::InvalidLineEnd => "invalid line end after a chunk size",
            ChunkError::MissingDataEnd => "chunk data not followed by CRLF",
            ChunkError::TrailersTooLarge => "trailers too large",
            ChunkError::ForbiddenTrailer => "forbidden trailer field",
            ChunkError::Trailer(error) => error.reason(),
        }
    }
}

macro_rules! error {
    ($($name:ident),*) => { $(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.reason())
            }
        }
        impl std::error::Error for $name {}
    )* };
}
error!(FieldError, RequestError, ResponseError, ChunkError);
