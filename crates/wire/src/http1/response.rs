//! The head of a response: status line (RFC 9112 section 4) and header fields.

use super::field::FieldSection;
use super::framing::Framing;
use super::grammar::find_control;
use super::{
    FieldError, Halt, HeadLimits, Header, HeaderKind, Progress, ResponseError, Span, Version,
};

/// Bytes of `HTTP/1.1`.
pub(super) const VERSION_BYTES: usize = 8;

/// What the request was, as far as it decides how the response ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestKind {
    pub is_head: bool,
    pub is_connect: bool,
}

/// A parsed response head; reused and read like a [`RequestHead`](super::RequestHead).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// Bytes of the head, including its final CRLF.
    pub len: usize,
    pub version: Version,
    /// 100 to 999.
    pub status: u16,
    /// May be empty.
    pub reason: Span,
    pub headers: Vec<Header>,
    pub framing: Framing,
    /// Whether the connection can carry another request after this response.
    pub keep_alive: bool,
    /// The connection is a tunnel from here on: 101, or success for CONNECT.
    pub upgrade: bool,
}

impl ResponseHead {
    /// Reads the head at the front of `buf`, see [`RequestHead::parse`](super::RequestHead::parse).
    pub fn parse(
        &mut self,
        buf: &[u8],
        limits: &HeadLimits,
        request: RequestKind,
    ) -> Result<Progress, ResponseError> {
        let (view, is_full) = limits.view(buf);
        match self.scan(view, limits, request) {
            Ok(()) => Ok(Progress::Complete),
            Err(Halt::Error(error)) => Err(error),
            Err(Halt::Partial) if !is_full => Ok(Progress::Partial),
            Err(Halt::Partial) => Err(ResponseError::HeadTooLarge),
        }
    }

    /// 1xx other than 101: another response follows (RFC 9110 section 15.2).
    pub fn is_informational(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }

    /// The first field of a kind.
    pub fn first(&self, kind: HeaderKind) -> Option<&Header> {
        self.headers.iter().find(|header| header.kind == kind)
    }

    fn scan(
        &mut self,
        view: &[u8],
        limits: &HeadLimits,
        request: RequestKind,
    ) -> Result<(), Halt<ResponseError>> {
        let next = self.status_line(view)?;
        let fields = FieldSection::scan(view, next, limits.count, &mut self.headers);
        let (fields, len) = fields.map_err(|halt| halt.map(ResponseError::Field))?;
        self.len = len;
        self.conclude(request, &fields)?;
        Ok(())
    }

    /// Reads `HTTP-version SP status-code SP [reason-phrase] CRLF`. The second space may be missing
    /// with the reason, as some servers have it; nothing depends on it.
    fn status_line(&mut self, view: &[u8]) -> Result<usize, Halt<ResponseError>> {
        let version = scan_version(view, 0);
        let version = version.map_err(|halt| halt.map(|()| ResponseError::InvalidVersion))?;
        match view.get(VERSION_BYTES) {
            None => return Err(Halt::Partial),
            Some(b' ') => {}
            Some(_) => return Err(ResponseError::InvalidVersion.into()),
        }
        self.version = version.ok_or(ResponseError::UnsupportedVersion)?;
        let mut at = VERSION_BYTES + 1;
        self.status = 0;
        for position in 0..3 {
            let byte = view.get(at).ok_or(Halt::Partial)?;
            if !byte.is_ascii_digit() || (position == 0 && *byte == b'0') {
                return Err(ResponseError::InvalidStatus.into());
            }
            self.status = self.status * 10 + u16::from(byte - b'0');
            at += 1;
        }
        match view.get(at) {
            None => return Err(Halt::Partial),
            Some(b' ') => at += 1,
            Some(b'\r' | b'\n') => {}
            Some(_) => return Err(ResponseError::InvalidStatus.into()),
        }
        let stop = find_control(view, at);
        self.reason = Span::new(at, stop);
        match (view.get(stop), view.get(stop + 1)) {
            (None, _) | (Some(b'\r'), None) => Err(Halt::Partial),
            (Some(b'\r'), Some(b'\n')) => Ok(stop + 2),
            (Some(b'\r' | b'\n'), _) => Err(ResponseError::InvalidLineEnd.into()),
            _ => Err(ResponseError::ControlInReason.into()),
        }
    }

    /// How the message ends: RFC 9112 section 6.3, in its order.
    fn conclude(
        &mut self,
        request: RequestKind,
        fields: &FieldSection,
    ) -> Result<(), ResponseError> {
        let is_http11 = self.version == Version::Http11;
        let is_chunked = fields.codings.is_present();
        if is_chunked && !is_http11 {
            return Err(ResponseError::Field(FieldError::TransferEncodingInHttp10));
        }
        let announces_content =
            is_chunked || fields.content_length.is_some_and(|length| length > 0);
        let is_successful_connect = request.is_connect && (200..300).contains(&self.status);
        self.upgrade = self.status == 101 || is_successful_connect;
        self.keep_alive = !fields.close && (is_http11 || fields.keep_alive);
        self.framing = match self.status {
            // RFC 9110 section 8.6: "A server MUST NOT send a Content-Length header field in any
            // response with a status code of 1xx (Informational) or 204 (No Content)"; RFC 9112
            // section 6.1 says so of Transfer-Encoding. What follows would be read as a response.
            100..200 if announces_content => return Err(ResponseError::ContentInInformational),
            101 if !fields.upgrade => return Err(ResponseError::SwitchingWithoutUpgrade),
            100..200 => Framing::None,
            204 => {
                // Some frameworks announce content here; whether they also send it is unknown.
                self.keep_alive &= !announces_content;
                Framing::None
            }
            304 => Framing::None,
            _ if request.is_head || is_successful_connect => Framing::None,
            _ if is_chunked => Framing::Chunked,
            _ => fields.content_length.map_or(Framing::UntilClose, Framing::Length),
        };
        self.keep_alive &= !self.upgrade && self.framing != Framing::UntilClose;
        Ok(())
    }
}

/// Reads eight bytes of HTTP-version (RFC 9112 section 2.3: `"HTTP" "/" DIGIT "." DIGIT`, case
/// matters). None is a version that is well-formed and not spoken.
pub(super) fn scan_version(view: &[u8], at: usize) -> Result<Option<Version>, Halt<()>> {
    let rest = view.get(at..).unwrap_or_default();
    match rest.first_chunk::<VERSION_BYTES>() {
        Some(b"HTTP/1.1") => return Ok(Some(Version::Http11)),
        Some(b"HTTP/1.0") => return Ok(Some(Version::Http10)),
        _ => {}
    }
    for (byte, pattern) in rest.iter().zip(b"HTTP/0.0") {
        let fits = if *pattern == b'0' { byte.is_ascii_digit() } else { byte == pattern };
        if !fits {
            return Err(Halt::Error(()));
        }
    }
    if rest.len() < VERSION_BYTES { Err(Halt::Partial) } else { Ok(None) }
}

#[cfg(test)]
mod tests;
