//! The head of a request: request line (RFC 9112 section 3) and header fields.

use super::field::FieldSection;
use super::framing::Framing;
use super::grammar::{is_target_byte, is_token_byte};
use super::target::{self, Target, TargetForm};
use super::{
    FieldError, Halt, HeadLimits, Header, HeaderKind, Progress, RequestError, Span, Version,
};
use super::{host, response};

/// RFC 9112 section 3: "A server that receives a method longer than any that it implements SHOULD
/// respond with a 501". The longest registered one, UPDATEREDIRECTREF, has 17 bytes.
const METHOD_BYTES_MAX: usize = 32;

/// A parsed request head. Reuse it between requests: its vector is kept, so that parsing allocates
/// nothing after warm-up. Spans index the buffer that was given to [`parse`](Self::parse), and mean
/// something only after it returned [`Progress::Complete`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// Bytes of the head, from a tolerated leading CRLF to the final CRLF. The body starts here.
    pub len: usize,
    pub method: Span,
    /// As sent.
    pub target: Span,
    pub form: TargetForm,
    /// Starts with `/` in origin and absolute form (an absolute target without a path has `/`),
    /// is `*` in asterisk form, and empty in authority form.
    pub path: Span,
    /// Without the `?`; empty if there is none.
    pub query: Span,
    /// Tells `/a?` from `/a`.
    pub has_query: bool,
    /// `http` or `https`, in any case, in absolute form; else empty.
    pub scheme: Span,
    /// `host[:port]` of the target if it names one, else of the Host field, which then says the
    /// same. Empty only in HTTP/1.0 without Host.
    pub authority: Span,
    pub version: Version,
    pub headers: Vec<Header>,
    /// Never `UntilClose`. `Length(0)` if the client sent `Content-Length: 0`.
    pub framing: Framing,
    /// Whether the client expects the connection to go on after the response.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body. False without a body, and in
    /// HTTP/1.0 (RFC 9110 section 10.1.1: "MUST ignore that expectation").
    pub expect_continue: bool,
    /// The client offers to switch protocols: an Upgrade field that `Connection` names, in
    /// HTTP/1.1. Never to `h2c`, which RFC 9113 section 3.1 retired and which would carry requests
    /// past the routes.
    pub upgrade: bool,
    /// GET, HEAD, OPTIONS, TRACE, PUT or DELETE (RFC 9110 section 9.2.2).
    pub idempotent: bool,
    pub is_head: bool,
    pub is_connect: bool,
}

impl RequestHead {
    /// Reads the head at the front of `buf`. Bytes after it (a body, a pipelined request) are not
    /// looked at. Call again with more bytes after [`Progress::Partial`].
    pub fn parse(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Progress, RequestError> {
        let (view, is_full) = limits.view(buf);
        match self.scan(view, limits) {
            Ok(()) => Ok(Progress::Complete),
            Err(Halt::Error(error)) => Err(error),
            Err(Halt::Partial) if !is_full => Ok(Progress::Partial),
            Err(Halt::Partial) => {
                let line = view.strip_prefix(b"\r\n").unwrap_or(view);
                match memchr::memchr(b'\n', line) {
                    None => Err(RequestError::UriTooLong),
                    Some(_) => Err(RequestError::HeadTooLarge),
                }
            }
        }
    }

    /// The first field of a kind.
    pub fn first(&self, kind: HeaderKind) -> Option<&Header> {
        self.headers.iter().find(|header| header.kind == kind)
    }

    fn scan(&mut self, view: &[u8], limits: &HeadLimits) -> Result<(), Halt<RequestError>> {
        let start = skip_empty_line(view)?;
        let (target, next) = self.request_line(view, start, limits.uri_bytes)?;
        let fields = FieldSection::scan(view, next, limits.count, &mut self.headers);
        let (fields, len) = fields.map_err(|halt| halt.map(RequestError::Field))?;
        self.len = len;
        self.conclude(view, &target, &fields)?;
        Ok(())
    }

    /// Reads `method SP request-target SP HTTP-version CRLF`. Single spaces: RFC 9112 section 3
    /// lets a recipient split at any whitespace, and warns that "lenient parsing can result in
    /// request smuggling security vulnerabilities".
    fn request_line(
        &mut self,
        view: &[u8],
        start: usize,
        uri_bytes_max: usize,
    ) -> Result<(Target, usize), Halt<RequestError>> {
        let target_start = self.method(view, start)?;
        let window_end = target_start.saturating_add(uri_bytes_max).saturating_add(1);
        let window = &view[target_start..view.len().min(window_end)];
        let length = match window.iter().position(|byte| !is_target_byte(*byte)) {
            Some(length) => length,
            // RFC 9112 section 3: "A server that receives a request-target longer than any URI it
            // wishes to parse MUST respond with a 414 (URI Too Long)".
            None if window.len() > uri_bytes_max => return Err(RequestError::UriTooLong.into()),
            None => return Err(Halt::Partial),
        };
        match window[length] {
            b' ' if length == 0 => return Err(RequestError::EmptyTarget.into()),
            b' ' => {}
            b'#' => return Err(RequestError::FragmentInTarget.into()),
            b'\r' | b'\n' => return Err(RequestError::MissingVersion.into()),
            0x80.. => return Err(RequestError::NonAsciiInTarget.into()),
            _ => return Err(RequestError::ControlInTarget.into()),
        }
        let target_end = target_start + length;
        self.target = Span::new(target_start, target_end);
        let version = response::scan_version(view, target_end + 1);
        let version = version.map_err(|halt| halt.map(|()| RequestError::InvalidVersion))?;
        let line_end = target_end + 1 + response::VERSION_BYTES;
        match (view.get(line_end), view.get(line_end + 1)) {
            (None, _) | (Some(b'\r'), None) => return Err(Halt::Partial),
            (Some(b'\r'), Some(b'\n')) => {}
            (Some(b'\r' | b'\n'), _) => return Err(RequestError::InvalidLineEnd.into()),
            _ => return Err(RequestError::InvalidVersion.into()),
        }
        self.version = version.ok_or(RequestError::UnsupportedVersion)?;
        let target = target::parse(view, self.target, self.method.of(view))?;
        Ok((target, line_end + 2))
    }

    /// Reads `method SP`; returns the position after it.
    fn method(&mut self, view: &[u8], start: usize) -> Result<usize, Halt<RequestError>> {
        let window = &view[start..view.len().min(start + METHOD_BYTES_MAX + 1)];
        let length = match window.iter().position(|byte| !is_token_byte(*byte)) {
            Some(length) => length,
            None if window.len() > METHOD_BYTES_MAX => {
                return Err(RequestError::MethodTooLong.into());
            }
            None => return Err(Halt::Partial),
        };
        if length == 0 || window[length] != b' ' {
            return Err(RequestError::InvalidMethod.into());
        }
        self.method = Span::new(start, start + length);
        Ok(start + length + 1)
    }

    /// Checks what request line and fields say together.
    fn conclude(
        &mut self,
        view: &[u8],
        target: &Target,
        fields: &FieldSection,
    ) -> Result<(), RequestError> {
        let method = self.method.of(view);
        self.is_head = method == b"HEAD";
        self.is_connect = method == b"CONNECT";
        self.idempotent =
            matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE");
        self.form = target.form;
        self.path = target.path;
        self.query = target.query;
        self.has_query = target.has_query;
        self.scheme = target.scheme;
        self.authority = self.check_authority(view, target, fields)?;

        let is_http11 = self.version == Version::Http11;
        self.framing = if fields.codings.is_present() {
            // RFC 9112 section 6.1: "A server or client that receives an HTTP/1.0 message
            // containing a Transfer-Encoding header field MUST treat the message as if the framing
            // is faulty".
            if !is_http11 {
                return Err(RequestError::Field(FieldError::TransferEncodingInHttp10));
            }
            Framing::Chunked
        } else {
            fields.content_length.map_or(Framing::None, Framing::Length)
        };
        let has_body = !matches!(self.framing, Framing::None | Framing::Length(0));
        if self.is_connect && has_body {
            return Err(RequestError::ContentInConnect);
        }
        // RFC 9112 section 9.3.
        self.keep_alive = !fields.close && (is_http11 || fields.keep_alive);
        self.expect_continue = fields.expect_continue && is_http11 && has_body;
        self.upgrade = is_http11
            && fields.upgrade
            && fields.upgrade_option
            && !fields.upgrade_to_http2
            && !self.is_connect;
        Ok(())
    }

    fn check_authority(
        &self,
        view: &[u8],
        target: &Target,
        fields: &FieldSection,
    ) -> Result<Span, RequestError> {
        let Some(field) = fields.host else {
            return match self.version {
                Version::Http11 => Err(RequestError::MissingHost),
                Version::Http10 => Ok(target.authority),
            };
        };
        let (sent, named) = (field.of(view), target.authority.of(view));
        // RFC 9112 section 3.2: "If the target URI includes an authority component, then a client
        // MUST send a field value for Host that is identical to that authority component". In
        // CONNECT some leave the port out.
        let is_same = match target.form {
            TargetForm::Origin | TargetForm::Asterisk => return Ok(field),
            TargetForm::Absolute => sent.eq_ignore_ascii_case(named),
            TargetForm::Authority => {
                let name = host::split_host(named).map_or(named, |(name, _)| name);
                sent.eq_ignore_ascii_case(named) || sent.eq_ignore_ascii_case(name)
            }
        };
        is_same.then_some(target.authority).ok_or(RequestError::AuthorityMismatch)
    }
}

/// RFC 9112 section 2.2: "a server that is expecting to receive and parse a request-line SHOULD
/// ignore at least one empty line (CRLF) received prior to the request-line". One it is.
fn skip_empty_line(view: &[u8]) -> Result<usize, Halt<RequestError>> {
    match view {
        [b'\r', b'\n', ..] => Ok(2),
        [b'\r'] => Err(Halt::Partial),
        [b'\r' | b'\n', ..] => Err(RequestError::InvalidLineEnd.into()),
        _ => Ok(0),
    }
}

#[cfg(test)]
mod tests;
