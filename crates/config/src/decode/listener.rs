//! `listeners.NAME`.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::spec::{
    AcceptProxyProtocol, ActionSpec, HttpSpec, LimitSpec, ListenerSpec, PathPattern, Protocol,
    RouteSpec, ServerHttp2Spec, TimeoutSpec, UdpSpec,
};
use model::{Cidr, ListenerName, SharedMap};

use crate::address::parse_bind;
use crate::defect::Span;
use crate::fields::{Fields, scalar, wrong_kind};
use crate::keys;
use crate::tree::{Entry, quoted};

use super::bind::{Bind, Transport};
use super::{Context, header, route, tls};

/// `None` if it has no address that could be used.
pub(super) fn listener(entry: &Entry, context: &Context<'_>) -> Option<ListenerSpec> {
    let owner = format!("listener {}", quoted(&entry.key));
    let fields =
        Fields::open(context.report, &keys::LISTENER, &owner, &entry.value, entry.key_span);
    let bind = fields.parsed("bind", parse_bind);
    let protocol = protocol(&fields);
    let routes = routes(&fields, protocol, context);
    let service = fields.text("service").map(|(name, span)| {
        if matches!(protocol, Some(Protocol::Tcp | Protocol::Udp | Protocol::Tls))
            && let Some(service) = context.services.get(name)
        {
            service.stream.set(Some(span));
        }
        context.service(name, span)
    });
    let spec = ListenerSpec {
        name: ListenerName::new(&*entry.key),
        bind: bind.as_ref().map_or_else(|| ([0, 0, 0, 0], 0).into(), |(bind, _)| *bind),
        protocol: protocol.unwrap_or(Protocol::Http),
        routes: Arc::new(routes),
        labelled: SharedMap::default(),
        service,
        timeouts: timeouts(&fields),
        limits: limits(&fields),
        http: forwarding(&fields, context),
        udp: udp(&fields),
        proxy_protocol: proxy_protocol(&fields, context),
        tls: None,
        http2: http2(&fields, context),
    };
    let tls = tls::of_listener(&fields, &spec, context);
    let spec = ListenerSpec { tls, ..spec };
    if let Some(protocol) = protocol {
        only_what_the_protocol_has(&fields, protocol, &owner, &spec, context);
    }
    let (address, span) = bind?;
    let transport = match spec.protocol {
        Protocol::Http | Protocol::Tcp | Protocol::Tls => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
    };
    context.binds.add(Bind { owner, address, span, transport });
    Some(spec)
}

/// `None` if it is wrong: then nothing that depends on it is checked.
fn protocol(fields: &Fields<'_>) -> Option<Protocol> {
    if fields.entry("protocol").is_none() {
        return Some(Protocol::Http);
    }
    match fields.word("protocol")?.0 {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "tls" => Some(Protocol::Tls),
        _ => Some(Protocol::Http),
    }
}

fn only_what_the_protocol_has(
    fields: &Fields<'_>,
    protocol: Protocol,
    owner: &str,
    spec: &ListenerSpec,
    context: &Context<'_>,
) {
    let (word, foreign): (&str, &[&str]) = match protocol {
        Protocol::Http => ("http", &["udp"]),
        Protocol::Tcp => ("tcp", &["routes", "forwarding", "udp", "http2"]),
        Protocol::Udp => ("udp", &["routes", "forwarding", "proxy_protocol", "tls", "http2"]),
        Protocol::Tls => ("tls", &["forwarding", "udp", "tls", "http2"]),
    };
    for key in foreign {
        if let Some(entry) = fields.entry(key) {
            let message = format!("{owner} has protocol `{word}`, where `{key}` has no meaning");
            let help = match *key {
                "routes" => "write `service: NAME`, or `protocol: http`".into(),
                "tls" if protocol == Protocol::Tls => {
                    "remove it to pass TLS through as it is; to end TLS here, write `protocol: tcp`"
                        .into()
                }
                _ => format!("remove `{key}`"),
            };
            context.report.error_help(entry.key_span, message, help);
        }
    }
    let leads_somewhere = fields.has("service");
    match protocol {
        // Services and routes may come by label.
        _ if context.discovers => {}
        Protocol::Http | Protocol::Tls if !leads_somewhere && !fields.has("routes") => {
            context.report.error_help(
                fields.span,
                format!("{owner} leads nowhere"),
                "add `service: NAME`, or `routes`",
            );
        }
        Protocol::Http | Protocol::Tls if !leads_somewhere && spec.routes.is_empty() => {
            let no_items = fields.list("routes").is_some_and(<[_]>::is_empty);
            if no_items {
                context.report.error_help(
                    fields.key_span("routes"),
                    format!("{owner} leads nowhere: its `routes` are empty"),
                    "add a route such as `- { path: /*, service: NAME }`, or `service: NAME`",
                );
            }
        }
        Protocol::Tcp | Protocol::Udp if !leads_somewhere => {
            context.report.error_help(
                fields.span,
                format!("{owner} has no `service`"),
                format!(
                    "add `service: NAME`: with protocol `{word}` everything goes to one service"
                ),
            );
        }
        _ => {}
    }
}

fn routes(
    fields: &Fields<'_>,
    protocol: Option<Protocol>,
    context: &Context<'_>,
) -> Vec<RouteSpec> {
    // Routes without defects, and where they stand.
    let mut seen: BTreeMap<String, Span> = BTreeMap::new();
    let mut routes = Vec::new();
    for node in fields.list("routes").unwrap_or_default() {
        let errors = context.report.errors();
        let Some(route) = route::route(node, protocol, context) else { continue };
        if protocol == Some(Protocol::Tls)
            && let ActionSpec::Forward(services) = &route.action
        {
            for service in services {
                if let Some(defined) = context.services.get(service.service.as_str()) {
                    defined.stream.set(Some(node.span));
                }
            }
        }
        if context.report.errors() == errors {
            no_two_alike(&mut seen, &route, node.span, context);
        }
        routes.push(route);
    }
    if let Some(service) = fields.entry("service")
        && let Some(first) = seen.get(&matchers(&RouteSpec::catch_all("".into())))
    {
        context.report.error_help(
            service.key_span,
            format!(
                "the route in line {} matches every request already, so `service` has no effect",
                context.report.line(*first)
            ),
            "remove one of the two",
        );
    }
    routes
}

/// Two routes that match the same requests: one of them would never be used.
fn no_two_alike(
    seen: &mut BTreeMap<String, Span>,
    route: &RouteSpec,
    span: Span,
    context: &Context<'_>,
) {
    let matchers = matchers(route);
    let Some(first) = seen.get(&matchers) else {
        seen.insert(matchers, span);
        return;
    };
    let line = context.report.line(*first);
    context.report.error_help(
        span,
        format!("this route matches the same requests as the one in line {line}"),
        "remove one, or make one of them match less",
    );
}

/// What a route matches, as text that is equal for equal matchers whatever their order.
pub fn matchers(route: &RouteSpec) -> String {
    let sorted = |list: &[(String, model::spec::TextMatch)]| {
        let mut list: Vec<String> = list.iter().map(|pair| format!("{pair:?}")).collect();
        list.sort();
        list
    };
    let mut methods = route.methods.clone();
    methods.sort();
    methods.dedup();
    // `/*` is every path.
    let path = route.path.as_ref().filter(|p| **p != PathPattern::Prefix(String::new()));
    let lists = (sorted(&route.headers), sorted(&route.query), sorted(&route.cookies));
    let mut alpn = route.alpn.clone();
    alpn.sort();
    format!("{:?}", (&route.host, path, methods, lists, alpn))
}

fn timeouts(fields: &Fields<'_>) -> TimeoutSpec {
    let mut spec = TimeoutSpec::default();
    if let Some(fields) = fields.section("timeouts", &keys::LISTENER_TIMEOUTS) {
        fields.duration("header", &mut spec.header);
        fields.duration("keep_alive", &mut spec.keep_alive);
        fields.duration("idle", &mut spec.idle);
        fields.duration("stream_idle", &mut spec.stream_idle);
        fields.duration_or_off("connection_age", &mut spec.connection_age);
    }
    spec
}

fn limits(fields: &Fields<'_>) -> LimitSpec {
    let mut spec = LimitSpec::default();
    if let Some(fields) = fields.section("limits", &keys::LIMITS) {
        fields.bytes("header_bytes", &mut spec.header_bytes);
        fields.integer("header_count", &mut spec.header_count);
        fields.bytes("uri_bytes", &mut spec.uri_bytes);
        fields.bytes_or_off("body_bytes", &mut spec.body_bytes);
        fields.integer("connections", &mut spec.connections);
        fields.integer_or_off("connections_per_client", &mut spec.connections_per_client);
        fields.integer("handshakes", &mut spec.handshakes);
        fields.integer_or_off("requests_per_connection", &mut spec.requests_per_connection);
    }
    spec
}

/// `None`: off.
fn http2(fields: &Fields<'_>, context: &Context<'_>) -> Option<ServerHttp2Spec> {
    let mut spec = ServerHttp2Spec::default();
    let Some(entry) = fields.entry("http2") else { return Some(spec) };
    match scalar(&entry.value) {
        Some("off") => return None,
        Some(_) => {
            let kind = keys::LISTENER.key("http2")?.kind;
            wrong_kind(context.report, "http2", &kind, &entry.value);
            return Some(spec);
        }
        None => {}
    }
    let fields = fields.section("http2", &keys::LISTENER_HTTP2)?;
    fields.integer("streams", &mut spec.streams);
    fields.bytes("stream_window", &mut spec.stream_window);
    fields.bytes("connection_window", &mut spec.connection_window);
    fields.bytes("output_bytes", &mut spec.output_bytes);
    fields.integer("resets", &mut spec.resets);
    fields.integer("idle_frames", &mut spec.idle_frames);
    fields.integer("continuations", &mut spec.continuations);
    fields.integer("window_updates", &mut spec.window_updates);
    fields.duration_or_off("ping_interval", &mut spec.ping_interval);
    fields.duration("ping_timeout", &mut spec.ping_timeout);
    if spec.stream_window > spec.connection_window {
        let key = if fields.has("stream_window") { "stream_window" } else { "connection_window" };
        context.report.error_help(
            fields.key_span(key),
            "`stream_window` is larger than `connection_window`, which holds for all streams together",
            "make `connection_window` at least as large",
        );
    }
    Some(spec)
}

fn forwarding(fields: &Fields<'_>, context: &Context<'_>) -> HttpSpec {
    let mut spec = HttpSpec::default();
    if let Some(fields) = fields.section("forwarding", &keys::FORWARDING) {
        fields.bool("x_forwarded", &mut spec.x_forwarded);
        fields.bool("forwarded", &mut spec.forwarded);
        fields.bool("via", &mut spec.via);
        match fields.text("request_id") {
            Some(("off", _)) => spec.request_id = None,
            Some((name, span)) => spec.request_id = header::free_name(name, span, context),
            None => {}
        }
        spec.trusted = networks(&fields, "trusted", context);
    }
    spec
}

fn udp(fields: &Fields<'_>) -> UdpSpec {
    let mut spec = UdpSpec::default();
    if let Some(fields) = fields.section("udp", &keys::UDP) {
        fields.duration("flow_idle", &mut spec.flow_idle);
        fields.integer_or_off("replies", &mut spec.replies);
    }
    spec
}

fn proxy_protocol(fields: &Fields<'_>, context: &Context<'_>) -> Option<AcceptProxyProtocol> {
    let fields = fields.section("proxy_protocol", &keys::ACCEPT_PROXY_PROTOCOL)?;
    let from = networks(&fields, "from", context);
    if fields.list("from").is_some_and(<[_]>::is_empty) {
        context.report.error_help(
            fields.key_span("from"),
            "`from` lists no network, so no header would be accepted",
            "write `from: [ 10.0.0.0/8 ]`, or remove `proxy_protocol`",
        );
    }
    Some(AcceptProxyProtocol { from })
}

pub(super) fn networks(fields: &Fields<'_>, key: &str, context: &Context<'_>) -> Vec<Cidr> {
    let mut networks = Vec::new();
    for node in fields.list(key).unwrap_or_default() {
        match scalar(node).unwrap_or("").parse::<Cidr>() {
            Ok(network) => networks.push(network),
            Err(_) => context.report.error_help(
                node.span,
                format!("`{key}` must list networks, not {}", node.describe()),
                "write 10.0.0.0/8, ::1/128 or one address",
            ),
        }
    }
    networks
}
