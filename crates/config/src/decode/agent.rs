//! `agent`.

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};

use model::spec::{AgentSpec, LarsKey, LarsSpec, Unreported};

use crate::address::parse_bind;
use crate::defect::Span;
use crate::fields::{Fields, Spanned, scalar};
use crate::keys;
use crate::tree::{Node, quoted};

use super::bind::{Bind, Transport};
use super::listener::networks;
use super::{Context, path_of, token};

pub(super) fn agent(file: &Fields<'_>, context: &Context<'_>) -> Option<AgentSpec> {
    let fields = file.section("agent", &keys::AGENT)?;
    let mut spec = AgentSpec::default();
    let bind = match fields.text("bind") {
        Some(("off", _)) => None,
        Some(_) => fields.parsed("bind", parse_bind),
        None => Some((AgentSpec::BIND, fields.span)),
    };
    spec.bind = bind.map(|(address, _)| address);
    spec.token = token(&fields, context);
    if let Some((address, span)) = bind {
        listens("`agent`", address, span, Transport::Tcp, context);
        if !address.ip().to_canonical().is_loopback() && spec.token.is_none() {
            context.report.error_help(
                span,
                format!("the agent on {address} would be open to others without a `token`"),
                "add `token: SECRET` to `agent`, or bind 127.0.0.1",
            );
        }
    }
    spec.socket = fields.text("socket").and_then(|path| socket(path, context));
    fields.duration("expire", &mut spec.expire);
    if let Some(("timed_out", _)) = fields.word("unreported") {
        spec.unreported = Unreported::TimedOut;
    }
    fields.integer("outstanding", &mut spec.outstanding);
    spec.lars = lars(&fields, context);
    let is_off = fields.text("bind").is_some_and(|(text, _)| text == "off");
    if is_off && !fields.has("socket") && !fields.has("lars") {
        context.report.error_help(
            fields.span,
            "nobody can reach this agent",
            "add `socket: agent.sock` or `lars`, or remove `bind: off`",
        );
    }
    Some(spec)
}

/// Bytes of a path that the kernel takes for a Unix socket (unix(7): 108 with the closing zero),
/// less what a name beside it needs.
const SOCKET_BYTES_MAX: usize = 100;

fn socket((text, span): Spanned<&str>, context: &Context<'_>) -> Option<std::path::PathBuf> {
    if text.len() > SOCKET_BYTES_MAX {
        context.report.error_help(
            span,
            format!("the path of a Unix socket has at most {SOCKET_BYTES_MAX} bytes"),
            "choose a shorter one, such as /run/evenkeel/agent.sock",
        );
        return None;
    }
    path_of("socket", (text, span), context.report)
}

fn lars(agent: &Fields<'_>, context: &Context<'_>) -> Option<LarsSpec> {
    let fields = agent.section("lars", &keys::LARS)?;
    let mut spec = LarsSpec { from: networks(&fields, "from", context), ..LarsSpec::default() };
    let default = |address: SocketAddrV4| (address, fields.span);
    let mut udp = spec.udp.map(default);
    if let Some(nodes) = fields.list("udp") {
        let parsed: Vec<_> = nodes.iter().filter_map(|node| address_of(node, context)).collect();
        match <[_; 3]>::try_from(parsed) {
            Ok(three) => udp = three,
            Err(_) if nodes.len() == 3 => {}
            Err(_) => context.report.error_help(
                fields.key_span("udp"),
                format!("`udp` must list three addresses, not {}", nodes.len()),
                "write `udp: [ 127.0.0.1:8888, 127.0.0.1:8889, 127.0.0.1:8890 ]`",
            ),
        }
    }
    let routes = optional(&fields, "routes", spec.routes, context);
    let reports = optional(&fields, "reports", spec.reports, context);
    spec.udp = udp.map(|(address, _)| address);
    spec.routes = routes.map(|(address, _)| address);
    spec.reports = reports.map(|(address, _)| address);
    for (address, span) in udp {
        listens("`agent.lars.udp`", address.into(), span, Transport::Udp, context);
    }
    for (owner, place) in [("`agent.lars.routes`", routes), ("`agent.lars.reports`", reports)] {
        if let Some((address, span)) = place {
            listens(owner, address.into(), span, Transport::Tcp, context);
        }
    }
    for (address, span) in udp.into_iter().chain(routes).chain(reports) {
        if !address.ip().is_loopback() && spec.from.is_empty() && !fields.has("from") {
            context.report.error_help(
                span,
                format!("Lars on {address} would be open to others: it knows no token"),
                "add `from: [ 10.0.0.0/8 ]` with the networks that may ask, or use 127.0.0.1",
            );
        }
    }
    spec.keys = mapped(&fields, context);
    Some(spec)
}

fn optional(
    fields: &Fields<'_>,
    name: &str,
    default: Option<SocketAddrV4>,
    context: &Context<'_>,
) -> Option<Spanned<SocketAddrV4>> {
    let Some(entry) = fields.entry(name) else {
        return default.map(|address| (address, fields.span));
    };
    if scalar(&entry.value) == Some("off") {
        return None;
    }
    address_of(&entry.value, context)
}

/// Lars has no IPv6, and what answers a datagram must come from the address that was asked.
fn address_of(node: &Node, context: &Context<'_>) -> Option<Spanned<SocketAddrV4>> {
    let parsed = match parse_bind(scalar(node).unwrap_or("")) {
        Ok(SocketAddr::V4(address)) if !address.ip().is_unspecified() => Ok(address),
        Ok(SocketAddr::V4(address)) => {
            let port = address.port();
            Err(("names every address of this machine", format!("write 127.0.0.1:{port}")))
        }
        Ok(SocketAddr::V6(_)) => Err(("is IPv6, which Lars does not have", String::new())),
        Err(_) => Err(("is no address", "write 127.0.0.1:8888".to_owned())),
    };
    match parsed {
        Ok(address) => Some((address, node.span)),
        Err((what, help)) => {
            let message = format!("{} {what}", node.describe());
            context.report.error_help(node.span, message, help);
            None
        }
    }
}

fn mapped(fields: &Fields<'_>, context: &Context<'_>) -> Vec<LarsKey> {
    let mut keys = Vec::new();
    let mut seen: BTreeMap<(i32, i32), Span> = BTreeMap::new();
    for node in fields.list("keys").unwrap_or_default() {
        let entry = Fields::open(context.report, &keys::LARS_KEY, "a key", node, node.span);
        let (mut modid, mut cmdid) = (0, 0);
        entry.integer("modid", &mut modid);
        entry.integer("cmdid", &mut cmdid);
        let Some((name, span)) = entry.text("service") else { continue };
        let service = context.service(name, span);
        if let Some(first) = seen.insert((modid, cmdid), node.span) {
            context.report.error_help(
                node.span,
                format!("modid {modid} and cmdid {cmdid} stand for {} here", quoted(name)),
                format!("line {} has the same two numbers", context.report.line(first)),
            );
            continue;
        }
        keys.push(LarsKey { modid, cmdid, service });
    }
    keys
}

fn listens(
    owner: &str,
    address: SocketAddr,
    span: Span,
    transport: Transport,
    context: &Context<'_>,
) {
    context.binds.add(Bind { owner: owner.into(), address, span, transport });
}
