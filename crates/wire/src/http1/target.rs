//! The request target in its four forms (RFC 9112 section 3.2).

use super::{RequestError, Span, host};

/// Which form the target was sent in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`
    #[default]
    Origin,
    /// `http://host/path?query`
    Absolute,
    /// `host:port`, for CONNECT only
    Authority,
    /// `*`, for OPTIONS only
    Asterisk,
}

/// The parts of a target. Spans index the buffer that `buf` starts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Target {
    pub(super) form: TargetForm,
    pub(super) scheme: Span,
    pub(super) authority: Span,
    pub(super) path: Span,
    pub(super) query: Span,
    pub(super) has_query: bool,
}

/// Takes apart `whole`, a non-empty span of target bytes.
pub(super) fn parse(buf: &[u8], whole: Span, method: &[u8]) -> Result<Target, RequestError> {
    let bytes = whole.of(buf);
    if method == b"CONNECT" {
        // RFC 9110 section 9.3.6: "There is no default port; a client MUST send the port number".
        return match host::split_host(bytes) {
            Some((_, port)) if !port.is_empty() => {
                Ok(Target { form: TargetForm::Authority, authority: whole, ..Target::default() })
            }
            _ => Err(RequestError::ConnectWithoutAuthority),
        };
    }
    match bytes {
        [b'/', ..] => {
            let mut target = Target::default();
            target.path_and_query(buf, whole);
            Ok(target)
        }
        // RFC 9112 section 3.2.4: only for a server-wide OPTIONS request.
        b"*" if method == b"OPTIONS" => {
            Ok(Target { form: TargetForm::Asterisk, path: whole, ..Target::default() })
        }
        b"*" => Err(RequestError::AsteriskWithoutOptions),
        _ => absolute(buf, whole),
    }
}

fn absolute(buf: &[u8], whole: Span) -> Result<Target, RequestError> {
    let bytes = whole.of(buf);
    let start = whole.start as usize;
    let colon = memchr::memchr(b':', bytes).ok_or(RequestError::InvalidTarget)?;
    let after = bytes[colon..].strip_prefix(b"://").ok_or(RequestError::InvalidTarget)?;
    let scheme = &bytes[..colon];
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(RequestError::UnsupportedScheme);
    }
    let authority_end = after.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(after.len());
    let authority = &after[..authority_end];
    if memchr::memchr(b'@', authority).is_some() {
        // RFC 9110 section 4.2.4: "a recipient SHOULD parse for userinfo and treat its presence as an
        // error; it is likely being used to obscure the authority".
        return Err(RequestError::UserinfoInAuthority);
    }
    if !host::validate_host(authority) {
        return Err(RequestError::InvalidAuthority);
    }
    let authority_start = start + colon + 3;
    let path_start = authority_start + authority_end;
    let mut target = Target {
        form: TargetForm::Absolute,
        scheme: Span::new(start, start + colon),
        authority: Span::new(authority_start, path_start),
        ..Target::default()
    };
    target.path_and_query(buf, Span::new(path_start, whole.end as usize));
    if target.path.is_empty() {
        // RFC 9110 section 4.2.3: "an empty path component is equivalent to an absolute path of
        // '/'". Pointing at the last slash of "://" says so without a copy, and leaves no caller a
        // chance to send an empty target. (For OPTIONS it would mean "*"; nobody sends that.)
        target.path = Span::new(authority_start - 1, authority_start);
    }
    Ok(target)
}

impl Target {
    fn path_and_query(&mut self, buf: &[u8], span: Span) {
        match memchr::memchr(b'?', span.of(buf)) {
            None => self.path = span,
            Some(mark) => {
                let mark = span.start as usize + mark;
                self.path = Span::new(span.start as usize, mark);
                self.query = Span::new(mark + 1, span.end as usize);
                self.has_query = true;
            }
        }
    }
}
