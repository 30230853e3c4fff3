//! `listeners.NAME.routes`.

use model::spec::{
    ActionSpec, HeaderEdit, PathPattern, PathRewrite, Protocol, RouteSpec, WeightedService,
};

use crate::defect::Span;
use crate::fields::{Fields, integer, scalar, wrong_kind};
use crate::keys;
use crate::suggest;
use crate::table::Kind;
use crate::tree::{Entry, Node, Value, quoted};

use super::{Context, header, pattern};

/// `None` if it says nothing about what to do.
pub(super) fn route(
    node: &Node,
    protocol: Option<Protocol>,
    context: &Context<'_>,
) -> Option<RouteSpec> {
    let fields = Fields::open(context.report, &keys::ROUTE, "this route", node, node.span);
    let mut route = RouteSpec::catch_all("".into());
    route.host = fields.text("host").and_then(|(text, span)| pattern::host(text, span, context));
    route.path = fields.text("path").and_then(|(text, span)| pattern::path(text, span, context));
    for node in fields.list("method").unwrap_or_default() {
        let method = header::method(scalar(node).unwrap_or(""), node.span, context);
        route.methods.extend(method);
    }
    route.headers = pattern::named(&fields, "headers", context);
    route.query = pattern::named(&fields, "query", context);
    route.cookies = pattern::named(&fields, "cookies", context);
    for node in fields.list("alpn").unwrap_or_default() {
        match scalar(node).filter(|name| (1..=255).contains(&name.len())) {
            Some(name) => route.alpn.push(name.into()),
            None => context.report.error_help(
                node.span,
                format!("`alpn` must list names of protocols, not {}", node.describe()),
                "write h2, http/1.1 or another name of 1 to 255 bytes",
            ),
        }
    }
    only_what_the_protocol_has(&fields, protocol, context);
    let action = action(&fields, node, context);
    rewrite(&fields, &mut route, context);
    route.action = action?;
    Some(route)
}

fn only_what_the_protocol_has(
    fields: &Fields<'_>,
    protocol: Option<Protocol>,
    context: &Context<'_>,
) {
    /// Nothing of a request can be seen, and nothing can be said, without decrypting.
    const HTTP_ONLY: [&str; 8] =
        ["path", "method", "headers", "query", "cookies", "redirect", "respond", "rewrite"];
    let (word, foreign): (&str, &[&str]) = match protocol {
        Some(Protocol::Tls) => ("tls", &HTTP_ONLY),
        Some(Protocol::Http) => ("http", &["alpn"]),
        _ => return,
    };
    for entry in fields.entries(foreign) {
        context.report.error_help(
            entry.key_span,
            format!("`{}` has no meaning with protocol `{word}`", entry.key),
            match word {
                "tls" => "routes of TLS that passes through have `host`, `alpn` and `service`",
                _ => "remove it",
            },
        );
    }
}

const ACTIONS: [&str; 4] = ["service", "services", "redirect", "respond"];

fn action(fields: &Fields<'_>, node: &Node, context: &Context<'_>) -> Option<ActionSpec> {
    let mut given = fields.entries(&ACTIONS);
    let Some(first) = given.next() else {
        let is_map = matches!(node.value, Value::Map(_));
        if is_map && !ACTIONS.iter().any(|action| fields.has(action)) {
            context.report.error_help(
                node.span,
                "this route does not say what to do",
                "add `service: NAME`, `services: { A: 90, B: 10 }`, `redirect: URL` or \
                 `respond: STATUS`",
            );
        }
        return None;
    };
    let actions = [
        forward(fields, context),
        split(fields, context),
        redirect(fields, context),
        respond(fields, context),
    ];
    if let Some(second) = given.next() {
        context.report.error_help(
            second.key_span,
            format!("this route has both `{}` and `{}`", first.key, second.key),
            "keep one of the two",
        );
    }
    // A wrong action was reported; the route's other keys still count.
    let wrong = || ActionSpec::Forward(Vec::new());
    Some(actions.into_iter().flatten().next().unwrap_or_else(wrong))
}

fn forward(fields: &Fields<'_>, context: &Context<'_>) -> Option<ActionSpec> {
    let (name, span) = fields.text("service")?;
    let service = context.service(name, span);
    Some(ActionSpec::Forward(vec![WeightedService { service, weight: 1 }]))
}

fn split(fields: &Fields<'_>, context: &Context<'_>) -> Option<ActionSpec> {
    let entry = fields.entry("services")?;
    let mut weighted = Vec::new();
    let Some(Kind::MapOf(_, kind)) = keys::ROUTE.key("services").map(|key| key.kind) else {
        return None;
    };
    for Entry { key, key_span, value } in fields.map("services") {
        let service = context.service(key, *key_span);
        match scalar(value).and_then(|text| integer(kind, text)) {
            Some(weight) => weighted.push(WeightedService { service, weight }),
            None => {
                wrong_kind(context.report, key, kind, value);
                // Not zero, so that no second defect follows from this one.
                weighted.push(WeightedService { service, weight: 1 });
            }
        }
    }
    if matches!(entry.value.value, Value::Map(_)) && weighted.iter().all(|w| w.weight == 0) {
        context.report.error_help(
            entry.key_span,
            "`services` has no weight above zero, so no request could go anywhere",
            "write `services: { A: 90, B: 10 }`",
        );
    }
    Some(ActionSpec::Forward(weighted))
}

/// What a redirect is when it names no status: the client asks again with the same method or
/// GET, and nothing is remembered (RFC 9110 section 15.4.3).
const REDIRECT_STATUS: u16 = 302;

fn redirect(fields: &Fields<'_>, context: &Context<'_>) -> Option<ActionSpec> {
    let entry = fields.entry("redirect")?;
    let mut status = REDIRECT_STATUS;
    let (location, span) = match &entry.value.value {
        Value::Map(_) => {
            let fields = fields.section("redirect", &keys::REDIRECT)?;
            fields.integer("status", &mut status);
            if ![301, 302, 303, 307, 308].contains(&status) {
                context.report.error_help(
                    fields.entry("status").map_or(fields.span, |entry| entry.value.span),
                    format!("{status} does not send a client elsewhere"),
                    "write 301, 302, 303, 307 or 308",
                );
            }
            fields.text("to")?
        }
        _ => fields.text("redirect")?,
    };
    location_template(location, span, context);
    Some(ActionSpec::Redirect { status, location: location.into() })
}

const PLACEHOLDERS: [&str; 5] = ["scheme", "host", "path", "query", "uri"];

fn location_template(text: &str, span: Span, context: &Context<'_>) {
    let known = "may hold `{scheme}`, `{host}`, `{path}`, `{query}` and `{uri}`";
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
        context.report.error_help(
            span,
            format!("{} cannot be a location", quoted(text)),
            "write a URL, with spaces and other letters percent-encoded",
        );
    }
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let after = &rest[at + 1..];
        let Some(end) = after.find('}').filter(|_| rest[at..].starts_with('{')) else {
            let message = format!("{} has an unmatched brace", quoted(text));
            return context.report.error_help(span, message, format!("a location {known}"));
        };
        let name = &after[..end];
        if !PLACEHOLDERS.contains(&name) {
            let help = match suggest::nearest(name, PLACEHOLDERS) {
                Some(word) => format!("did you mean `{{{word}}}`?"),
                None => format!("a location {known}"),
            };
            let message = format!("{} means nothing here", quoted(&format!("{{{name}}}")));
            return context.report.error_help(span, message, help);
        }
        rest = &after[end + 1..];
    }
}

const RESPOND_STATUS: u16 = 200;
const RESPOND_CONTENT_TYPE: &str = "text/plain; charset=utf-8";
/// A body is kept in memory and sent whole; larger ones belong to a service.
const RESPOND_BODY_BYTES_MAX: usize = 1 << 20;

fn respond(fields: &Fields<'_>, context: &Context<'_>) -> Option<ActionSpec> {
    let entry = fields.entry("respond")?;
    let (mut status, mut body) = (RESPOND_STATUS, String::new());
    let mut content_type = RESPOND_CONTENT_TYPE.to_owned();
    let Value::Map(_) = &entry.value.value else {
        fields.integer("respond", &mut status);
        return Some(ActionSpec::Respond { status, body, content_type });
    };
    let fields = fields.section("respond", &keys::RESPOND)?;
    fields.integer("status", &mut status);
    if let Some((text, span)) = fields.text("body") {
        if text.len() > RESPOND_BODY_BYTES_MAX {
            context.report.error(span, "`body` is longer than 1 MiB");
        }
        // RFC 9110 sections 15.3.5 and 15.4.5: neither has content.
        if matches!(status, 204 | 304) && !text.is_empty() {
            let message = format!("an answer with status {status} has no body");
            context.report.error_help(span, message, "remove `body`, or use another status");
        }
        body = text.into();
    }
    if let Some((text, span)) = fields.text("content_type") {
        if !header::is_value(text) || !text.contains('/') {
            let message = format!("{} cannot be a media type", quoted(text));
            context.report.error_help(span, message, "write `text/html` or another");
        }
        content_type = text.into();
    }
    Some(ActionSpec::Respond { status, body, content_type })
}

fn rewrite(fields: &Fields<'_>, route: &mut RouteSpec, context: &Context<'_>) {
    let Some(fields) = fields.section("rewrite", &keys::REWRITE) else { return };
    let path = fields.text("path");
    let prefix = fields.text("prefix");
    for (text, span) in [path, prefix].into_iter().flatten() {
        let legal = |b: u8| b.is_ascii_graphic() && b != b'?' && b != b'#';
        if !text.starts_with('/') || !text.bytes().all(legal) {
            context.report.error_help(
                span,
                format!("{} cannot be a path", quoted(text)),
                "begin it with `/`, and percent-encode spaces, `?`, `#` and other letters",
            );
        }
    }
    if let (Some((text, span)), Some(PathPattern::Regex(expression))) = (path, &route.path) {
        groups(text, span, expression, context);
    }
    if path.is_some() && prefix.is_some() {
        context.report.error_help(
            fields.key_span("prefix"),
            "`rewrite` has both `path` and `prefix`",
            "keep one of the two",
        );
    }
    if prefix.is_some() && matches!(route.path, Some(PathPattern::Regex(_))) {
        context.report.error_help(
            fields.key_span("prefix"),
            "a regular expression matches no prefix that could be replaced",
            "use `path` in `rewrite`, with `$1` for the first group",
        );
    }
    route.rewrite_path = match (path, prefix) {
        (Some((path, _)), _) => Some(PathRewrite::Replace(path.into())),
        (None, Some((prefix, _))) => Some(PathRewrite::ReplacePrefix(prefix.into())),
        (None, None) => None,
    };
    route.rewrite_host = header::sent_host(&fields, context);
    route.request_headers = header_edits(&fields, "request_headers", context);
    route.response_headers = header_edits(&fields, "response_headers", context);
}

/// The `$1`, `$name`, `${1}` and `${name}` of a new path name groups of the expression; `$$` is a
/// dollar sign.
fn groups(text: &str, span: Span, expression: &str, context: &Context<'_>) {
    // It was compiled before.
    let Ok(regex) = regex::Regex::new(expression) else { return };
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            rest = after;
            continue;
        }
        let (name, after) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}').unwrap_or(("", braced)),
            None => {
                let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
                after.split_at(after.bytes().take_while(word).count())
            }
        };
        let known = match name.parse::<usize>() {
            Ok(number) => number < regex.captures_len(),
            Err(_) => regex.capture_names().flatten().any(|group| group == name),
        };
        if !known {
            let message = format!("{} names no group of the route's `path`", quoted(&rest[at..]));
            let help = "`$1` is the first `(...)`, `${1}` the same before letters and digits, \
                        `$$` a dollar sign";
            return context.report.error_help(span, message, help);
        }
        rest = after;
    }
}

fn header_edits(fields: &Fields<'_>, key: &str, context: &Context<'_>) -> Vec<HeaderEdit> {
    let Some(fields) = fields.section(key, &keys::HEADER_EDITS) else { return Vec::new() };
    let mut edits = Vec::new();
    for entry in fields.entries(&["set", "add", "remove"]) {
        let kind = match keys::HEADER_EDITS.key(&entry.key).map(|key| key.kind) {
            Some(Kind::MapOf(_, kind)) => *kind,
            _ => Kind::Bool,
        };
        match &*entry.key {
            "remove" => {
                for node in fields.list("remove").unwrap_or_default() {
                    let name = header::free_name(scalar(node).unwrap_or(""), node.span, context);
                    edits.extend(name.map(HeaderEdit::Remove));
                }
            }
            key => {
                let pairs = header::pairs(fields.map(key), &kind, context);
                let edit = if key == "set" { HeaderEdit::Set } else { HeaderEdit::Add };
                edits.extend(pairs.into_iter().map(|(name, value)| edit(name, value)));
            }
        }
    }
    edits
}
