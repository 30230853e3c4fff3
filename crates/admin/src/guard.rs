//! Who may use the API: the token, and the defences against web pages that a browser on this
//! machine shows.
//!
//! Without a token the API listens on loopback only, so a process of this machine may use it but
//! a web page must not. A page can make the browser send requests here in two ways: across
//! origins, then `Origin` says so or the body has a form's content type; or by DNS rebinding,
//! then `Host` holds the attacker's name.

use std::hint::black_box;
use std::net::IpAddr;

use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, ORIGIN};
use hyper::{Method, StatusCode, Uri};

use crate::answer::Answer;

/// Content types that a web page cannot send across origins without asking first
/// (the CORS protocol's safelist has only text/plain and the two form types).
const BODY_TYPES: [&str; 5] =
    ["application/json", "application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"];

/// Whether a request may be answered at all; otherwise the refusal. `token`: what it must carry.
pub fn admit(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    token: Option<&str>,
) -> Result<(), Answer> {
    refuse_foreign_names(uri, headers, token.is_some())?;
    if let Some(token) = token {
        authenticate(headers, |sent| is_same_secret(sent, token.as_bytes()))?;
    }
    refuse_web_pages(method, uri, headers)
}

/// Without a token, only who asks by an IP address or by localhost gets an answer.
pub fn refuse_foreign_names(uri: &Uri, headers: &HeaderMap, has_token: bool) -> Result<(), Answer> {
    let host = host(uri, headers)?;
    if !has_token && !is_local_name(host_without_port(host)) {
        return Err(Answer::error(
            StatusCode::FORBIDDEN,
            "without a token this answers only to an IP address or to localhost: set a \
             `token` to use it by name",
        ));
    }
    Ok(())
}

/// What another origin's page made a browser send is refused.
pub fn refuse_web_pages(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Answer> {
    let host = host(uri, headers)?;
    if let Some(origin) = headers.get(ORIGIN) {
        let same = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"))
            .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host));
        if !same {
            return Err(Answer::error(StatusCode::FORBIDDEN, "refused: from another origin"));
        }
    }
    if *method != Method::GET
        && let Some(kind) = headers.get(CONTENT_TYPE)
    {
        let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !BODY_TYPES.iter().any(|known| kind.eq_ignore_ascii_case(known)) {
            return Err(Answer::error(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "write `Content-Type: application/json` or `application/yaml`, or leave it out",
            ));
        }
    }
    Ok(())
}

/// Whether the token of `Authorization: Bearer TOKEN` is one that `is_right` knows.
pub fn authenticate(
    headers: &HeaderMap,
    is_right: impl FnOnce(&[u8]) -> bool,
) -> Result<(), Answer> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Err(Answer::unauthorized("write `Authorization: Bearer TOKEN`"));
    };
    // RFC 9110 section 11.1: the scheme's name is compared without regard to case.
    let sent = match value.as_bytes().split_at_checked(7) {
        Some((scheme, sent)) if scheme.eq_ignore_ascii_case(b"bearer ") => sent.trim_ascii(),
        _ => return Err(Answer::unauthorized("write `Authorization: Bearer TOKEN`")),
    };
    if is_right(sent) { Ok(()) } else { Err(Answer::unauthorized("this is not the token")) }
}

/// Takes as long for a nearly right secret as for a wrong one; only the length of `sent` shows.
pub fn is_same_secret(sent: &[u8], secret: &[u8]) -> bool {
    if secret.is_empty() {
        return false;
    }
    let mut difference = sent.len() ^ secret.len();
    for (position, byte) in sent.iter().enumerate() {
        difference |= usize::from(byte ^ secret[position % secret.len()]);
    }
    black_box(difference) == 0
}

fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, Answer> {
    let mut values = headers.get_all(HOST).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        (Some(_), Some(_)) => None,
        (None, _) => uri.authority().map(|authority| authority.as_str()),
    };
    // RFC 9112 section 3.2: exactly one Host, and a valid one.
    value.filter(|value| !value.is_empty()).ok_or_else(|| {
        Answer::error(StatusCode::BAD_REQUEST, "a request has exactly one Host header")
    })
}

fn host_without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    }
}

fn is_local_name(name: &str) -> bool {
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    bare.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_compared_whole() {
        for (sent, secret, same) in [
            ("abc", "abc", true),
            ("abd", "abc", false),
            ("ab", "abc", false),
            ("abcabc", "abc", false),
            ("", "abc", false),
            ("", "", false),
        ] {
            assert_eq!(is_same_secret(sent.as_bytes(), secret.as_bytes()), same, "{sent} {secret}");
        }
    }

    #[test]
    fn only_addresses_and_localhost_are_local_names() {
        for (host, local) in [
            ("127.0.0.1:9900", true),
            ("127.0.0.1", true),
            ("[::1]:9900", true),
            ("[::1]", true),
            ("localhost:9900", true),
            ("LOCALHOST", true),
            ("evil.example:9900", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
        ] {
            assert_eq!(is_local_name(host_without_port(host)), local, "{host}");
        }
    }
}
