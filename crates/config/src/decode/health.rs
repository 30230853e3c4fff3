//! `services.NAME.health`.

use model::spec::{HealthAgentSpec, HealthKind, HealthSpec, StatusSet};

use crate::fields::{Fields, integer, scalar, wrong_kind};
use crate::keys;
use crate::table::Kind;
use crate::tree::{Node, Value, quoted};

use super::{Context, header};

pub(super) fn health(fields: &Fields<'_>, context: &Context<'_>) -> HealthSpec {
    let mut spec = HealthSpec::default();
    let Some(entry) = fields.entry("health") else { return spec };
    match scalar(&entry.value) {
        None => {}
        Some("tcp") => return spec,
        Some("off") => {
            spec.kind = HealthKind::Off;
            return spec;
        }
        Some("grpc") => {
            spec.kind = HealthKind::Grpc { service: String::new(), host: None };
            return spec;
        }
        Some(word @ ("http" | "https")) => {
            let message = format!("`health: {word}` does not say which path to ask for");
            let help = format!("write `health: {{ {word}: /healthz }}`");
            context.report.error_help(entry.value.span, message, help);
            return spec;
        }
        Some(_) => {
            let kind = keys::SERVICE.key("health").map_or(Kind::Bool, |key| key.kind);
            wrong_kind(context.report, "health", &kind, &entry.value);
            return spec;
        }
    }
    let Some(fields) = fields.section("health", &keys::HEALTH) else { return spec };
    fields.duration("interval", &mut spec.interval);
    fields.duration("timeout", &mut spec.timeout);
    fields.integer("unhealthy_after", &mut spec.unhealthy_after);
    fields.integer("healthy_after", &mut spec.healthy_after);
    let mut port = 0;
    fields.integer("port", &mut port);
    spec.port = (port > 0).then_some(port);
    spec.kind = kind(&fields, context);
    spec.agent = fields.section("agent", &keys::HEALTH_AGENT).map(|fields| agent(&fields, context));
    spec
}

fn agent(fields: &Fields<'_>, context: &Context<'_>) -> HealthAgentSpec {
    let mut spec = HealthAgentSpec { port: 0, send: String::new() };
    fields.integer("port", &mut spec.port);
    if let Some((text, span)) = fields.text("send") {
        if text.len() > AGENT_SEND_BYTES_MAX {
            let message = format!("`send` has {} bytes", text.len());
            let help = format!("up to {AGENT_SEND_BYTES_MAX} are sent");
            context.report.error_help(span, message, help);
        }
        spec.send = text.into();
    }
    spec
}

/// What an agent needs to know: which service is meant.
const AGENT_SEND_BYTES_MAX: usize = 255;

fn kind(fields: &Fields<'_>, context: &Context<'_>) -> HealthKind {
    let method = fields.text("method").and_then(|(t, span)| header::method(t, span, context));
    let host = header::sent_host(fields, context);
    let value_kind = match keys::HEALTH.key("headers").map(|key| key.kind) {
        Some(Kind::MapOf(_, kind)) => *kind,
        _ => Kind::Bool,
    };
    let headers = header::pairs(fields.map("headers"), &value_kind, context);
    let expect = expect(fields, context);

    let mut kinds = fields.entries(&["tcp", "http", "https", "grpc"]);
    let (first, second) = (kinds.next(), kinds.next());
    if let (Some(first), Some(second)) = (first, second) {
        context.report.error_help(
            second.key_span,
            format!("`health` has both `{}` and `{}`", first.key, second.key),
            "keep one of the two",
        );
    }
    tcp(fields, context);
    if let Some(service) = grpc(fields, context) {
        for entry in fields.entries(&["method", "headers", "expect"]) {
            let message = format!("`{}` has no meaning for a check by gRPC", entry.key);
            context.report.error_help(entry.key_span, message, "remove it");
        }
        return HealthKind::Grpc { service, host };
    }
    let path = fields.text("http").or_else(|| fields.text("https"));
    let Some((path, span)) = path else {
        if first.is_none_or(|first| &*first.key == "tcp") {
            for entry in fields.entries(&["method", "host", "headers", "expect"]) {
                let message = format!("`{}` has no meaning for a check by TCP", entry.key);
                let help = "add `http: /healthz`, or remove it";
                context.report.error_help(entry.key_span, message, help);
            }
        }
        return HealthKind::Tcp;
    };
    if !path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic()) || path.contains('#') {
        context.report.error_help(
            span,
            format!("{} cannot be the path of a check", quoted(path)),
            "write a path such as `/healthz`; for another host or port use `host` and `port`",
        );
    }
    HealthKind::Http {
        path: path.into(),
        method: method.unwrap_or_else(|| "GET".into()),
        host,
        headers,
        expect,
        tls: first.is_some_and(|first| &*first.key == "https"),
    }
}

/// `tcp: true` or `tcp: {}`; it has nothing to set.
fn tcp(fields: &Fields<'_>, context: &Context<'_>) {
    let Some(entry) = fields.entry("tcp") else { return };
    if let Value::Map(_) = entry.value.value {
        fields.section("tcp", &keys::HEALTH_TCP);
    } else if scalar(&entry.value) != Some("true") {
        context.report.error_help(
            entry.value.span,
            format!("`tcp` must be `true`, not {}", entry.value.describe()),
            "for no checks write `health: off`",
        );
    }
}

/// `grpc: true`, or which gRPC service is asked for.
fn grpc(fields: &Fields<'_>, context: &Context<'_>) -> Option<String> {
    let entry = fields.entry("grpc")?;
    if let Value::Map(_) = entry.value.value {
        let fields = fields.section("grpc", &keys::HEALTH_GRPC)?;
        return Some(fields.text("service").map_or_else(String::new, |(name, _)| name.into()));
    }
    if scalar(&entry.value) == Some("true") {
        return Some(String::new());
    }
    context.report.error_help(
        entry.value.span,
        format!("`grpc` must be `true` or `{{ service: NAME }}`, not {}", entry.value.describe()),
        "for no checks write `health: off`",
    );
    None
}

fn expect(fields: &Fields<'_>, context: &Context<'_>) -> StatusSet {
    let Some(nodes) = fields.list("expect") else { return StatusSet::default() };
    let ranges: Vec<(u16, u16)> =
        nodes.iter().filter_map(|node| status_range(node, context)).collect();
    if nodes.is_empty() {
        context.report.error_help(
            fields.key_span("expect"),
            "`expect` lists no status, so no check could succeed",
            "write `expect: 200-399`",
        );
    }
    StatusSet(ranges)
}

fn status_range(node: &Node, context: &Context<'_>) -> Option<(u16, u16)> {
    let status = Kind::Integer { min: 100, max: 599 };
    let range = scalar(node).and_then(|text| match text.split_once('-') {
        None => integer(&status, text).map(|one| (one, one)),
        Some((low, high)) => {
            integer(&status, low.trim_end()).zip(integer(&status, high.trim_start()))
        }
    });
    let range = range.filter(|(low, high)| low <= high);
    if range.is_none() {
        context.report.error_help(
            node.span,
            format!("`expect` must be a status or a range of them, not {}", node.describe()),
            "write 200, 200-299 or [ 200, 204 ]; statuses are 100 to 599",
        );
    }
    range
}
