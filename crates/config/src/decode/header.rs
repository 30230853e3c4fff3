//! Names and values of headers and methods (RFC 9110 section 5).

use crate::defect::Span;
use crate::fields::{Fields, scalar, wrong_kind};
use crate::table::Kind;
use crate::tree::{Entry, quoted};

use super::Context;

/// RFC 9110 section 5.6.2: `token = 1*tchar`.
pub(super) fn is_token(text: &str) -> bool {
    let tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(tchar)
}

/// RFC 9110 section 5.5: visible characters, spaces and tabs, none at the ends.
pub(super) fn is_value(text: &str) -> bool {
    text.trim_matches([' ', '\t']) == text && !text.chars().any(|c| c.is_control() && c != '\t')
}

/// A header's name in lower case.
pub(super) fn name(text: &str, span: Span, context: &Context<'_>) -> Option<String> {
    if !is_token(text) {
        context.report.error_help(
            span,
            format!("{} cannot be the name of a header", quoted(text)),
            "use letters, digits and `-`",
        );
        return None;
    }
    Some(text.to_ascii_lowercase())
}

/// Headers that describe the connection or where the message ends, which a changed copy would
/// make untrue.
const OURS: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// As [`name`], for a header that configuration may change.
pub(super) fn free_name(text: &str, span: Span, context: &Context<'_>) -> Option<String> {
    let name = name(text, span, context)?;
    if OURS.contains(&&*name) {
        let message = format!("`{name}` cannot be changed: it belongs to the connection");
        context.report.error_help(span, message, "remove it");
        return None;
    }
    if name == "host" {
        let message = "`host` cannot be changed as a header";
        context.report.error_help(span, message, "use the key `host` for it");
        return None;
    }
    Some(name)
}

/// A map from header names to values, for a section that sends them.
pub(super) fn pairs(
    entries: &[Entry],
    kind: &Kind,
    context: &Context<'_>,
) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for entry in entries {
        let Some(name) = free_name(&entry.key, entry.key_span, context) else { continue };
        if pairs.iter().any(|(known, _)| *known == name) {
            let message = format!("`{name}` stands twice here; case makes no difference");
            context.report.error_help(entry.key_span, message, "keep one of the two");
            continue;
        }
        let Some(value) = scalar(&entry.value).filter(|_| !entry.value.is_null()) else {
            wrong_kind(context.report, &entry.key, kind, &entry.value);
            continue;
        };
        if !is_value(value) {
            context.report.error_help(
                entry.value.span,
                format!("{} cannot be the value of a header", quoted(value)),
                "use one line, without spaces at its ends",
            );
            continue;
        }
        pairs.push((name, value.into()));
    }
    pairs
}

/// A method, in capitals.
pub(super) fn method(text: &str, span: Span, context: &Context<'_>) -> Option<String> {
    if !is_token(text) {
        let message = format!("{} cannot be a method", quoted(text));
        context.report.error_help(span, message, "write `GET`, `POST` or another");
        return None;
    }
    Some(text.to_ascii_uppercase())
}

/// A host as it is sent: a name or address, with a port if wanted.
pub(super) fn sent_host(fields: &Fields<'_>, context: &Context<'_>) -> Option<String> {
    let (text, span) = fields.text("host")?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    if text.is_empty() || !text.bytes().all(legal) {
        let message = format!("{} cannot be a host", quoted(text));
        context.report.error_help(span, message, "write a name such as `shop.example.com`");
        return None;
    }
    Some(text.into())
}
