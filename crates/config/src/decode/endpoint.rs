//! `services.NAME.endpoints`, and such a list alone.

use std::collections::BTreeMap;

use model::{Endpoint, EndpointId, Weight};

use crate::address::parse_endpoint_address;
use crate::defect::{Report, Span};
use crate::fields::{Fields, scalar, wrong_kind};
use crate::keys;
use crate::table::Kind;
use crate::tree::{Node, Value, quoted};

pub(super) fn endpoints(fields: &Fields<'_>, owner: &str) -> Vec<Endpoint> {
    let Some(nodes) = fields.list("endpoints") else { return Vec::new() };
    if nodes.is_empty() {
        fields.report.warning(
            fields.key_span("endpoints"),
            format!("{owner} has no endpoints: every request gets 503"),
            "write `endpoints: [ 127.0.0.1:5001 ]`",
        );
    }
    list(nodes, fields.report)
}

/// A text that is a list, or a map of lists by service, of which that of `service` is meant.
pub(crate) fn of_service(root: &Node, service: &str, report: &Report<'_>) -> Vec<Endpoint> {
    let node = match &root.value {
        Value::Map(entries) => match entries.iter().find(|entry| &*entry.key == service) {
            Some(entry) => &entry.value,
            None => {
                report.error_help(
                    root.span,
                    format!("nothing is said of service {}", quoted(service)),
                    format!("write `{service}: []` if it has no endpoints"),
                );
                return Vec::new();
            }
        },
        _ => root,
    };
    match &node.value {
        Value::List(nodes) => list(nodes, report),
        _ => {
            report.error_help(
                node.span,
                format!("this must be a list of endpoints, not {}", node.describe()),
                "write `[ 127.0.0.1:5001 ]`, or `[]` for none",
            );
            Vec::new()
        }
    }
}

fn list(nodes: &[Node], report: &Report<'_>) -> Vec<Endpoint> {
    let mut addresses = BTreeMap::new();
    let mut ids = BTreeMap::new();
    let mut endpoints = Vec::new();
    for node in nodes {
        let Some((endpoint, span)) = endpoint(node, report) else { continue };
        if let Some(line) = line_before(&mut addresses, endpoint.address, span, report) {
            report.error_help(
                span,
                format!("{} is listed in line {line} already", endpoint.address),
                "remove one; for a larger share use `weight`",
            );
        } else if let Some(line) = line_before(&mut ids, endpoint.id.clone(), span, report) {
            report.error_help(
                span,
                format!("the endpoint in line {line} has the id `{}` already", endpoint.id),
                "give each endpoint an `id` of its own, or none",
            );
        }
        endpoints.push(endpoint);
    }
    endpoints
}

/// The line in which the value was seen before.
fn line_before<T: Ord>(
    seen: &mut BTreeMap<T, Span>,
    value: T,
    span: Span,
    report: &Report<'_>,
) -> Option<usize> {
    if let Some(first) = seen.get(&value) {
        return Some(report.line(*first));
    }
    seen.insert(value, span);
    None
}

fn endpoint(node: &Node, report: &Report<'_>) -> Option<(Endpoint, Span)> {
    if let Value::List(_) = node.value {
        let kind = keys::SERVICE.key("endpoints").map_or(Kind::Bool, |key| key.kind);
        if let Kind::ListOf(item) = kind {
            wrong_kind(report, "endpoint", item, node);
        }
        return None;
    }
    if let Some(text) = scalar(node) {
        return match parse_endpoint_address(text) {
            Ok(address) => Some((Endpoint::at(address), node.span)),
            Err(message) => {
                let (wrong, help) = message.split_once("; ").unwrap_or((&message, ""));
                report.error_help(node.span, wrong, help);
                None
            }
        };
    }
    let fields = Fields::open(report, &keys::ENDPOINT, "this endpoint", node, node.span);
    let address = fields.parsed("address", parse_endpoint_address);
    let (mut weight, mut priority) = (Weight::default().0, 0);
    fields.integer("weight", &mut weight);
    fields.integer("priority", &mut priority);
    let zone = fields.text("zone").and_then(|zone| name("zone", zone, report));
    let id = fields.text("id").and_then(|id| name("id", id, report));
    let (address, span) = address?;
    let mut endpoint = Endpoint::at(address);
    endpoint.weight = Weight(weight);
    endpoint.priority = priority;
    endpoint.zone = zone.map(Into::into);
    if let Some(id) = id {
        endpoint.id = EndpointId::new(id);
    }
    Some((endpoint, span))
}

/// A name that appears in metrics and in URLs of the admin API.
fn name<'a>(key: &str, (text, span): (&'a str, Span), report: &Report<'_>) -> Option<&'a str> {
    const NAME_BYTES_MAX: usize = 200;
    let legal = |b: u8| b.is_ascii_graphic() && !b"/?#%\"\\".contains(&b);
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(legal) {
        report.error_help(
            span,
            format!("`{key}` must be a name, not {}", quoted(text)),
            format!("use up to {NAME_BYTES_MAX} letters, digits, `-`, `_`, `.` and `:`"),
        );
        return None;
    }
    Some(text)
}
