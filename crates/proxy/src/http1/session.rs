//! What a response tells of a session: to the client by a cookie, and to the service.
//!
//! For: our own cookie, the application's cookie with the endpoint's token in front of its value
//! (taken away again from requests), and learning where a value was served.
//! Never: decides where a session is; that is `service`.
//! Start with [`Keeping`].

use std::sync::Arc;

use model::Instant;
use model::spec::AffinitySpec;
use service::{EndpointHandle, Request, Service, Session, Sessions, Token};
use wire::http1::{HeaderKind, ResponseHead};

use crate::http1::request_head::line;

/// How one exchange begins a session, or goes on with it.
pub(crate) struct Keeping<'a> {
    pub(crate) service: &'a Service,
    pub(crate) sessions: &'a Sessions,
    pub(crate) endpoint: &'a Arc<EndpointHandle>,
    /// What the request said.
    pub(crate) asked: Option<Session>,
    /// Keys of the endpoints that failed the request before.
    pub(crate) tried: &'a [u64],
}

impl Keeping<'_> {
    /// Before the client sees anything of the response, for its next request may be here before
    /// the rest of this one is.
    pub(crate) fn learn(&self, bytes: &[u8], head: &ResponseHead, now: Instant) {
        if is_failure(head.status) || self.sessions.spec().table().is_none() {
            return;
        }
        let request = Request { now, key: None, exclude: self.tried };
        if let Some(session) = self.asked {
            self.service.learn(session, self.endpoint, &request);
        }
        if let AffinitySpec::Learn { name, .. } = self.sessions.spec() {
            for header in head.headers.iter().filter(|h| h.kind == HeaderKind::SetCookie) {
                let new = value_of(header.value.of(bytes), name.as_bytes())
                    .and_then(|value| self.sessions.of_value(value))
                    .filter(|session| Some(*session) != self.asked);
                if let Some(session) = new {
                    self.service.learn(session, self.endpoint, &request);
                }
            }
        }
    }

    /// Writes a header line that sets a cookie.
    pub(crate) fn write_set_cookie(
        &self,
        out: &mut Vec<u8>,
        name: &[u8],
        value: &[u8],
        status: u16,
    ) {
        if let AffinitySpec::Rewrite { name: cookie, .. } = self.sessions.spec()
            && let Some(at) = value_start(value, cookie.as_bytes())
        {
            let token = self.sessions.token(&self.endpoint.id);
            // A failure begins no session, and ends none either.
            if !is_failure(status) || self.names(token) {
                let (before, after) = value.split_at(at);
                out.extend_from_slice(name);
                out.extend_from_slice(b": ");
                out.extend_from_slice(before);
                out.extend_from_slice(&token.digits());
                out.push(Token::SEPARATOR);
                out.extend_from_slice(after);
                out.extend_from_slice(b"\r\n");
                return;
            }
        }
        line(out, name, value);
    }

    /// Writes the header line of our own cookie, if the client is to get one.
    pub(crate) fn write_own(&self, out: &mut Vec<u8>, status: u16) {
        if !matches!(self.sessions.spec(), AffinitySpec::Insert(_)) || is_failure(status) {
            return;
        }
        let token = self.sessions.token(&self.endpoint.id);
        if !self.names(token) {
            self.sessions.write(token, out);
        }
    }

    /// Does the client's cookie name the endpoint already?
    fn names(&self, token: Token) -> bool {
        self.asked.and_then(|session| session.token()) == Some(token)
    }
}

/// The cookie of the application whose values have tokens of ours in front.
pub(crate) fn rewritten(sessions: &Sessions) -> Option<&str> {
    match sessions.spec() {
        AffinitySpec::Rewrite { name, .. } => Some(name),
        _ => None,
    }
}

/// No session begins with a failure: the client may do better elsewhere.
fn is_failure(status: u16) -> bool {
    status >= 500
}

/// Writes a `Cookie` line, with tokens taken from the values of this cookie, whatever they name:
/// the application sees what it set.
pub(crate) fn write_cookie(out: &mut Vec<u8>, name: &[u8], value: &[u8], cookie: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    for (index, pair) in value.split(|byte| *byte == b';').enumerate() {
        if index > 0 {
            out.push(b';');
        }
        let (before, rest) = pair.split_at(value_start(pair, cookie).unwrap_or(0));
        let token = if before.is_empty() { None } else { Token::split(rest) };
        out.extend_from_slice(before);
        out.extend_from_slice(token.map_or(rest, |(_, value)| value));
    }
    out.extend_from_slice(b"\r\n");
}

/// Where the value of a cookie of this name begins in `name=value...`, behind a quote if there is
/// one. Names are compared as they are (RFC 6265 section 5.4).
fn value_start(pair: &[u8], cookie: &[u8]) -> Option<usize> {
    let equals = pair.iter().position(|byte| matches!(byte, b'=' | b';'))?;
    if pair[equals] != b'=' || pair[..equals].trim_ascii() != cookie {
        return None;
    }
    let spaces = pair[equals + 1..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let start = equals + 1 + spaces;
    let quoted = pair.get(start) == Some(&b'"');
    Some(start + usize::from(quoted))
}

/// The value of a cookie that a `Set-Cookie` line sets, without quotes, if it is of this name.
fn value_of<'a>(line: &'a [u8], cookie: &[u8]) -> Option<&'a [u8]> {
    let value = line.get(value_start(line, cookie)?..)?;
    let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
    let value = value[..end].trim_ascii();
    Some(value.strip_suffix(b"\"").unwrap_or(value))
}

#[cfg(test)]
mod tests;
