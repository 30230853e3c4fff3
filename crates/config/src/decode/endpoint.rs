//! `services.NAME.endpoints`.

use std::collections::BTreeMap;
use std::fmt::Display;

use model::{Endpoint, EndpointId, Weight};

use crate::address::parse_endpoint_address;
use crate::defect::Span;
use crate::fields::{Fields, scalar, wrong_kind};
use crate::keys;
use crate::table::Kind;
use crate::tree::{Node, Value};

use super::Context;

pub(super) fn endpoints(fields: &Fields<'_>, owner: &str, context: &Context<'_>) -> Vec<Endpoint> {
    let Some(nodes) = fields.list("endpoints") else { return Vec::new() };
    if nodes.is_empty() {
        context.report.warning(
            fields.key_span("endpoints"),
            format!("{owner} has no endpoints: every request gets 503"),
            "write `endpoints: [ 127.0.0.1:5001 ]`",
        );
    }
    let mut addresses = BTreeMap::new();
    let mut ids = BTreeMap::new();
    let mut endpoints = Vec::new();
    for node in nodes {
        let Some((endpoint, span)) = endpoint(node, context) else { continue };
        if !once(&mut addresses, endpoint.address.to_string(), span, "is listed", context) {
            continue;
        }
        once(&mut ids, endpoint.id.to_string(), span, "is the id of an endpoint", context);
        endpoints.push(endpoint);
    }
    endpoints
}

/// Reports a value that was there before.
fn once<T: Ord + Display + Clone>(
    seen: &mut BTreeMap<T, Span>,
    value: T,
    span: Span,
    is: &str,
    context: &Context<'_>,
) -> bool {
    let Some(first) = seen.get(&value) else {
        seen.insert(value, span);
        return true;
    };
    let line = context.report.line(*first);
    let message = format!("{value} {is} in line {line} already");
    context.report.error_help(span, message, "remove one; use `weight` for a larger share");
    false
}

fn endpoint(node: &Node, context: &Context<'_>) -> Option<(Endpoint, Span)> {
    let report = context.report;
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
                report.error(node.span, message);
                None
            }
        };
    }
    let fields = Fields::open(report, &keys::ENDPOINT, "this endpoint", node, node.span);
    let address = fields.parsed("address", parse_endpoint_address);
    let (mut weight, mut priority) = (Weight::default().0, 0);
    fields.integer("weight", &mut weight);
    fields.integer("priority", &mut priority);
    let zone = fields.text("zone").and_then(|zone| name("zone", zone, context));
    let id = fields.text("id").and_then(|id| name("id", id, context));
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
fn name<'a>(key: &str, (text, span): (&'a str, Span), context: &Context<'_>) -> Option<&'a str> {
    const NAME_BYTES_MAX: usize = 200;
    let legal = |b: u8| b.is_ascii_graphic() && !b"/?#%\"\\".contains(&b);
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(legal) {
        context.report.error_help(
            span,
            format!("`{key}` must be a name, not {}", crate::tree::quoted(text)),
            format!("use up to {NAME_BYTES_MAX} letters, digits, `-`, `_`, `.` and `:`"),
        );
        return None;
    }
    Some(text)
}
