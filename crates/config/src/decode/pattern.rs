//! What a route compares with: hosts, paths, values, regular expressions.

use model::spec::{HostPattern, PathPattern, TextMatch};

use crate::defect::Span;
use crate::fields::{Fields, scalar};
use crate::tree::{Node, quoted};

use super::{Context, header};

/// RFC 1035 section 2.3.4, without the length bytes.
const HOST_BYTES_MAX: usize = 253;

pub(super) fn host(text: &str, span: Span, context: &Context<'_>) -> Option<HostPattern> {
    let refuse = |message: String, help: &str| {
        context.report.error_help(span, message, help);
        None
    };
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('.').unwrap_or(&lower);
    let (wildcard, name) = match lower.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, lower),
    };
    if text == "*" {
        return refuse("`*` as a host matches everything".into(), "leave `host` out");
    }
    if !text.is_ascii() {
        let message = format!("{} has letters that a host has not", quoted(text));
        return refuse(message, "write the name in its ASCII form, `xn--...`");
    }
    if name.contains('*') {
        let message = format!("{} has a `*` in a place where it has no meaning", quoted(text));
        return refuse(message, "only `*.example.com` is understood: all names below one name");
    }
    if text.contains("://") || text.contains('/') {
        let message = format!("{} is more than a host", quoted(text));
        return refuse(message, "write the name alone; paths go to `path`");
    }
    let ipv6 = name.starts_with('[') && name.ends_with(']');
    if name.contains(':') && !ipv6 {
        let message = format!("{} has a port", quoted(text));
        return refuse(message, "write the name alone: a host is compared without its port");
    }
    let label = |label: &str| {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(legal)
    };
    if !ipv6 && (name.len() > HOST_BYTES_MAX || !name.split('.').all(label)) {
        let message = format!("{} cannot be a host name", quoted(text));
        return refuse(message, "write a name such as `shop.example.com`");
    }
    let name = name.to_owned();
    Some(if wildcard { HostPattern::Suffix(name) } else { HostPattern::Exact(name) })
}

pub(super) fn path(text: &str, span: Span, context: &Context<'_>) -> Option<PathPattern> {
    if let Some(expression) = text.strip_prefix('~') {
        return regex(text, expression, span, context).map(PathPattern::Regex);
    }
    let refuse = |message: String, help: String| {
        context.report.error_help(span, message, help);
        None
    };
    if !text.starts_with('/') {
        let help = match text.starts_with('^') {
            true => format!("for a regular expression write `~ {text}`"),
            false => format!("write `/{text}`"),
        };
        return refuse(format!("path {} does not begin with `/`", quoted(text)), help);
    }
    if text.contains(['?', '#']) {
        let help = "write the path alone; query parameters go to `query`".into();
        return refuse(format!("{} is more than a path", quoted(text)), help);
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        let help = "percent-encode spaces and other letters, as a request has them".into();
        return refuse(format!("{} can be no request's path", quoted(text)), help);
    }
    // RFC 3986 section 5.2.4; `%2e` is a dot (section 2.3).
    let dots =
        |segment: &str| matches!(&*segment.replace("%2e", ".").replace("%2E", "."), "." | "..");
    if text.split('/').any(dots) {
        let help = "write it without them: a request's path is compared after they are resolved";
        return refuse(format!("{} holds `.` or `..`", quoted(text)), help.into());
    }
    match text.strip_suffix("/*") {
        Some(prefix) if !prefix.contains('*') => Some(PathPattern::Prefix(prefix.into())),
        None if !text.contains('*') => Some(PathPattern::Exact(text.into())),
        _ => {
            let stem = text.trim_end_matches('*');
            let help = if stem.contains('*') {
                "only `/NAME/*` is understood; for more write a regular expression, \
                 `~ ^/users/[0-9]+$`"
                    .into()
            } else {
                format!(
                    "write `{}/*` for whole segments, or `~ ^{stem}`",
                    stem.trim_end_matches('/')
                )
            };
            refuse(format!("{} has a `*` in a place where it has no meaning", quoted(text)), help)
        }
    }
}

/// A map from names to patterns: `headers`, `query` or `cookies`.
pub(super) fn named(
    fields: &Fields<'_>,
    key: &str,
    context: &Context<'_>,
) -> Vec<(String, TextMatch)> {
    let mut named: Vec<(String, TextMatch)> = Vec::new();
    for entry in fields.map(key) {
        let name = match key {
            "headers" => header::name(&entry.key, entry.key_span, context),
            "cookies" if !header::is_token(&entry.key) => {
                let message = format!("{} cannot be the name of a cookie", quoted(&entry.key));
                context.report.error(entry.key_span, message);
                None
            }
            _ => Some(entry.key.to_string()),
        };
        let value = text_match(&entry.key, &entry.value, context);
        let (Some(name), Some(value)) = (name, value) else { continue };
        if named.iter().any(|(known, _)| *known == name) {
            let message = format!("`{name}` stands twice here; case makes no difference");
            context.report.error_help(entry.key_span, message, "keep one of the two");
        }
        named.push((name, value));
    }
    named
}

fn text_match(name: &str, node: &Node, context: &Context<'_>) -> Option<TextMatch> {
    let Some(text) = scalar(node).filter(|_| !node.is_null()) else {
        let message = format!("{} must be a pattern, not {}", quoted(name), node.describe());
        let help = "write `value`, `prefix*`, `~ regex`, or \"*\" (in quotes) for any value";
        context.report.error_help(node.span, message, help);
        return None;
    };
    if let Some(expression) = text.strip_prefix('~') {
        return regex(text, expression, node.span, context).map(TextMatch::Regex);
    }
    Some(match text.strip_suffix('*') {
        Some("") => TextMatch::Present,
        Some(prefix) => TextMatch::Prefix(prefix.into()),
        None => TextMatch::Exact(text.into()),
    })
}

/// Bytes of one expression; longer ones are generated, and belong to the application.
const REGEX_BYTES_MAX: usize = 2_000;
/// Bytes of one compiled expression, so that `(\w{100}){100}` is refused here.
const REGEX_COMPILED_BYTES_MAX: usize = 1 << 20;
/// Groups inside each other.
const REGEX_NEST_MAX: u32 = 50;
/// Expressions of one file, together with their compiled size the bound on memory.
const REGEX_COUNT_MAX: usize = 2_000;

/// `written` is the whole text of the node, `expression` what follows the `~`.
fn regex(written: &str, expression: &str, span: Span, context: &Context<'_>) -> Option<String> {
    let expression = expression.trim();
    context.expressions.set(context.expressions.get() + 1);
    if context.expressions.get() > REGEX_COUNT_MAX {
        let message = format!("more than {REGEX_COUNT_MAX} regular expressions");
        let help = "match exact values and prefixes instead: they cost the same however many";
        context.report.error_help(span, message, help);
        return None;
    }
    if expression.is_empty() || expression.len() > REGEX_BYTES_MAX {
        let message = format!("a regular expression must have 1 to {REGEX_BYTES_MAX} bytes");
        context.report.error_help(span, message, "write `~ ^/users/[0-9]+$`");
        return None;
    }
    let parsed =
        regex_syntax::ParserBuilder::new().nest_limit(REGEX_NEST_MAX).build().parse(expression);
    if let Err(error) = parsed {
        let (reason, at) = match &error {
            regex_syntax::Error::Parse(e) => (e.kind().to_string(), e.span().start.offset),
            regex_syntax::Error::Translate(e) => (e.kind().to_string(), e.span().start.offset),
            _ => ("it cannot be read".into(), 0),
        };
        let at = at + (written.len() - written.trim_start_matches('~').trim_start().len());
        let span = context.report.inside(span, written, at);
        let help =
            "see https://docs.rs/regex/#syntax; look-around and back-references are not part of it";
        context.report.error_help(span, format!("regular expression: {reason}"), help);
        return None;
    }
    let compiled = regex::RegexBuilder::new(expression)
        .size_limit(REGEX_COMPILED_BYTES_MAX)
        .nest_limit(REGEX_NEST_MAX)
        .build();
    if compiled.is_err() {
        let message = "this regular expression grows too large when compiled";
        let help = "use smaller repeat counts, or `[0-9A-Za-z_]` for `\\w`";
        context.report.error_help(span, message, help);
        return None;
    }
    Some(expression.into())
}
