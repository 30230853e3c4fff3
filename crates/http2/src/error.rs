//! Error codes, and why a stream or a connection was given up: one variant per cause.

use std::fmt;

use crate::hpack::HpackError;

/// An error code (RFC 9113 section 7). Unknown ones are kept as they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    pub const NO_ERROR: ErrorCode = ErrorCode(0x0);
    pub const PROTOCOL_ERROR: ErrorCode = ErrorCode(0x1);
    pub const INTERNAL_ERROR: ErrorCode = ErrorCode(0x2);
    pub const FLOW_CONTROL_ERROR: ErrorCode = ErrorCode(0x3);
    pub const SETTINGS_TIMEOUT: ErrorCode = ErrorCode(0x4);
    pub const STREAM_CLOSED: ErrorCode = ErrorCode(0x5);
    pub const FRAME_SIZE_ERROR: ErrorCode = ErrorCode(0x6);
    pub const REFUSED_STREAM: ErrorCode = ErrorCode(0x7);
    pub const CANCEL: ErrorCode = ErrorCode(0x8);
    pub const COMPRESSION_ERROR: ErrorCode = ErrorCode(0x9);
    pub const CONNECT_ERROR: ErrorCode = ErrorCode(0xa);
    pub const ENHANCE_YOUR_CALM: ErrorCode = ErrorCode(0xb);
    pub const INADEQUATE_SECURITY: ErrorCode = ErrorCode(0xc);
    pub const HTTP_1_1_REQUIRED: ErrorCode = ErrorCode(0xd);

    /// The name that RFC 9113 gives it.
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        NAMES.get(self.0 as usize).copied().unwrap_or("unknown")
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({:#x})", self.name(), self.0)
    }
}

/// What a peer did against the protocol, or too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    InvalidPreface,
    /// The first frame is no SETTINGS frame.
    SettingsExpected,
    FrameTooLarge,
    /// A frame of fixed length has another.
    InvalidFrameLength,
    /// The padding is longer than the frame.
    InvalidPadding,
    /// A frame that belongs to a stream is on stream 0.
    StreamZero,
    /// A frame that belongs to the connection is on a stream.
    NotStreamZero,
    IdleStream,
    ClosedStream,
    /// The peer opened a stream with a number that is not its to give.
    WrongStreamParity,
    PushPromise,
    /// Another frame within a field block.
    ContinuationExpected,
    /// A CONTINUATION frame outside of one.
    UnexpectedContinuation,
    SettingsAckWithPayload,
    InvalidSetting,
    InitialWindowTooLarge,
    ZeroWindowIncrement,
    /// Both window sizes together pass 2^31-1.
    WindowOverflow,
    /// More data than the window allowed.
    WindowExceeded,
    Compression(HpackError),
    Malformed(MessageError),
    /// More streams than were allowed.
    TooManyStreams,
    FieldBlockTooLarge,
    ContinuationFlood,
    ResetFlood,
    IdleFrameFlood,
    WindowUpdateFlood,
}

impl Violation {
    /// What the peer is told.
    pub fn code(self) -> ErrorCode {
        match self {
            Violation::InvalidPreface
            | Violation::SettingsExpected
            | Violation::InvalidPadding
            | Violation::StreamZero
            | Violation::NotStreamZero
            | Violation::IdleStream
            | Violation::WrongStreamParity
            | Violation::PushPromise
            | Violation::ContinuationExpected
            | Violation::UnexpectedContinuation
            | Violation::InvalidSetting
            | Violation::ZeroWindowIncrement
            | Violation::Malformed(_) => ErrorCode::PROTOCOL_ERROR,
            Violation::FrameTooLarge
            | Violation::InvalidFrameLength
            | Violation::SettingsAckWithPayload => ErrorCode::FRAME_SIZE_ERROR,
            Violation::ClosedStream => ErrorCode::STREAM_CLOSED,
            Violation::InitialWindowTooLarge
            | Violation::WindowOverflow
            | Violation::WindowExceeded => ErrorCode::FLOW_CONTROL_ERROR,
            Violation::Compression(_) => ErrorCode::COMPRESSION_ERROR,
            Violation::TooManyStreams => ErrorCode::REFUSED_STREAM,
            Violation::FieldBlockTooLarge
            | Violation::ContinuationFlood
            | Violation::ResetFlood
            | Violation::IdleFrameFlood
            | Violation::WindowUpdateFlood => ErrorCode::ENHANCE_YOUR_CALM,
        }
    }

    /// What is wrong, for a log line and for the peer's GOAWAY.
    pub fn reason(self) -> &'static str {
        match self {
            Violation::InvalidPreface => "invalid connection preface",
            Violation::SettingsExpected => "first frame is not SETTINGS",
            Violation::FrameTooLarge => "frame too large",
            Violation::InvalidFrameLength => "frame of wrong length",
            Violation::InvalidPadding => "padding longer than its frame",
            Violation::StreamZero => "frame on stream 0",
            Violation::NotStreamZero => "frame not on stream 0",
            Violation::IdleStream => "frame on an idle stream",
            Violation::ClosedStream => "frame on a closed stream",
            Violation::WrongStreamParity => "stream number of the wrong parity",
            Violation::PushPromise => "PUSH_PROMISE, which is not allowed",
            Violation::ContinuationExpected => "another frame within a field block",
            Violation::UnexpectedContinuation => "CONTINUATION outside of a field block",
            Violation::SettingsAckWithPayload => "acknowledgement of settings with a payload",
            Violation::InvalidSetting => "invalid value of a setting",
            Violation::InitialWindowTooLarge => "initial window too large",
            Violation::ZeroWindowIncrement => "window increment of 0",
            Violation::WindowOverflow => "window above 2^31-1",
            Violation::WindowExceeded => "more data than the window allows",
            Violation::Compression(error) => error.reason(),
            Violation::Malformed(error) => error.reason(),
            Violation::TooManyStreams => "too many streams",
            Violation::FieldBlockTooLarge => "field block too large",
            Violation::ContinuationFlood => "too many CONTINUATION frames",
            Violation::ResetFlood => "too many streams wasted",
            Violation::IdleFrameFlood => "too many frames that carry nothing",
            Violation::WindowUpdateFlood => "too many WINDOW_UPDATE frames",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Violation {}

impl From<HpackError> for Violation {
    fn from(error: HpackError) -> Self {
        Violation::Compression(error)
    }
}

/// Why a message is malformed (RFC 9113 section 8.1.1), which is a stream error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageError {
    InvalidName,
    UppercaseName,
    InvalidValue,
    PseudoAfterField,
    UnknownPseudo,
    DuplicatePseudo,
    MissingPseudo,
    PseudoInTrailers,
    ConnectionSpecificField,
    InvalidTe,
    InvalidMethod,
    InvalidScheme,
    InvalidPath,
    InvalidAuthority,
    HostDiffers,
    DuplicateHost,
    InvalidStatus,
    /// `:protocol` without CONNECT, or where extended CONNECT was not offered.
    UnexpectedProtocol,
    ConnectWithPath,
    InvalidContentLength,
    DuplicateContentLength,
    /// More or fewer bytes than Content-Length says.
    ContentLengthDiffers,
    /// DATA before the head.
    DataBeforeHead,
    /// Fields after the body that do not end the stream.
    TrailersWithoutEnd,
    TrailersTooLarge,
    /// A response's head beyond the bounds.
    HeadTooLarge,
    /// An informational response that ends the stream, or too many of them.
    InvalidInformational,
}

impl MessageError {
    pub fn reason(self) -> &'static str {
        match self {
            MessageError::InvalidName => "invalid character in a field name",
            MessageError::UppercaseName => "field name in upper case",
            MessageError::InvalidValue => "invalid character in a field value",
            MessageError::PseudoAfterField => "pseudo-header field after a field",
            MessageError::UnknownPseudo => "unknown pseudo-header field",
            MessageError::DuplicatePseudo => "pseudo-header field twice",
            MessageError::MissingPseudo => "pseudo-header field missing",
            MessageError::PseudoInTrailers => "pseudo-header field in trailers",
            MessageError::ConnectionSpecificField => "connection-specific field",
            MessageError::InvalidTe => "TE other than trailers",
            MessageError::InvalidMethod => "invalid :method",
            MessageError::InvalidScheme => "invalid :scheme",
            MessageError::InvalidPath => "invalid :path",
            MessageError::InvalidAuthority => "invalid :authority",
            MessageError::HostDiffers => "Host differs from :authority",
            MessageError::DuplicateHost => "more than one Host",
            MessageError::InvalidStatus => "invalid :status",
            MessageError::UnexpectedProtocol => ":protocol without extended CONNECT",
            MessageError::ConnectWithPath => "CONNECT with :scheme or :path",
            MessageError::InvalidContentLength => "invalid Content-Length",
            MessageError::DuplicateContentLength => "more than one Content-Length",
            MessageError::ContentLengthDiffers => "body of another length than Content-Length",
            MessageError::DataBeforeHead => "body before the head",
            MessageError::TrailersWithoutEnd => "trailers that do not end the stream",
            MessageError::TrailersTooLarge => "trailers too large",
            MessageError::HeadTooLarge => "head too large",
            MessageError::InvalidInformational => "invalid informational response",
        }
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for MessageError {}

impl From<MessageError> for Violation {
    fn from(error: MessageError) -> Self {
        Violation::Malformed(error)
    }
}
