//! `providers` and `services.NAME.discover`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use model::spec::{
    AddressFamily, ClientTlsSpec, ContainerAddress, DiscoverSpec, DnsRecords, DnsSelector,
    DockerSelector, DockerSpec, FileSelector, HttpSelector, HttpSpec, LarsSelector, LimitSpec,
    ListenerSpec, Protocol, ProvidersSpec, RegistrySelector, ServerHttp2Spec, TimeoutSpec, UdpSpec,
};
use model::{ListenerName, ServiceName, SharedMap};

use crate::address::{parse_dns_server, parse_endpoint_address};
use crate::fields::{Fields, scalar, wrong_kind};
use crate::keys;
use crate::suggest;
use crate::tree::quoted;

use super::registry::store_tls;
use super::{Context, path_of, token};

/// What listens when containers are discovered and no listener is configured. Not 80: that port
/// needs privileges, and is often taken.
const DEFAULT_LISTENER: (&str, u16) = ("web", 8080);

pub(super) fn providers(file: &Fields<'_>, context: &Context<'_>) -> ProvidersSpec {
    let Some(fields) = file.section("providers", &keys::PROVIDERS) else {
        return ProvidersSpec::default();
    };
    ProvidersSpec { docker: docker(&fields, context) }
}

fn docker(fields: &Fields<'_>, context: &Context<'_>) -> Option<DockerSpec> {
    let fields = fields.section("docker", &keys::DOCKER)?;
    let mut spec = DockerSpec::default();
    if let Some(path) = fields.text("socket").and_then(|p| path_of("socket", p, context.report)) {
        spec.socket = path;
    }
    fields.bool("exposed_by_default", &mut spec.exposed_by_default);
    spec.network = fields.text("network").map(|(text, _)| text.to_owned());
    spec.compose_project = fields.text("compose_project").map(|(text, _)| text.to_owned());
    if let Some(("published", _)) = fields.word("address") {
        spec.address = ContainerAddress::Published;
    }
    spec.listener = fields.text("listener").map(|(text, _)| ListenerName::new(text));
    fields.bool("traefik_labels", &mut spec.traefik_labels);
    fields.bool("virtual_host", &mut spec.virtual_host);
    fields.duration_or_off("statistics", &mut spec.statistics);
    Some(spec)
}

/// Which listener gets routes by label, once the listeners are known; makes one if there is none.
pub(super) fn listener(
    file: &Fields<'_>,
    docker: &mut DockerSpec,
    listeners: &mut BTreeMap<ListenerName, ListenerSpec>,
    context: &Context<'_>,
) {
    if !file.has("listeners") {
        let (name, port) = DEFAULT_LISTENER;
        let name = docker.listener.clone().unwrap_or_else(|| name.into());
        let listener = default_listener(name.clone(), port);
        docker.listener = Some(name.clone());
        listeners.insert(name, listener);
        return;
    }
    let http = |spec: &&ListenerSpec| spec.protocol == Protocol::Http;
    match &docker.listener {
        Some(name) if listeners.get(name).as_ref().is_some_and(http) => {}
        Some(name) => {
            let known = listeners.values().filter(http).map(|spec| spec.name.as_str());
            let help = suggest::help(name.as_str(), known, "HTTP listeners");
            let message = format!("there is no HTTP listener {}", quoted(name.as_str()));
            context.report.error_help(file.key_span("providers"), message, help);
        }
        None => {
            let mut all = listeners.values().filter(http);
            if let (Some(only), None) = (all.next(), all.next()) {
                docker.listener = Some(only.name.clone());
            }
        }
    }
}

fn default_listener(name: ListenerName, port: u16) -> ListenerSpec {
    ListenerSpec {
        name,
        bind: (Ipv4Addr::UNSPECIFIED, port).into(),
        protocol: Protocol::Http,
        routes: Arc::default(),
        labelled: SharedMap::default(),
        service: None,
        timeouts: TimeoutSpec::default(),
        limits: LimitSpec::default(),
        http: HttpSpec::default(),
        udp: UdpSpec::default(),
        proxy_protocol: None,
        tls: None,
        http2: Some(ServerHttp2Spec::default()),
    }
}

/// The keys of `discover`, one for each provider.
const PROVIDERS: [&str; 6] = ["docker", "file", "http", "dns", "registry", "lars"];

/// Exactly one provider.
pub(super) fn discover(fields: &Fields<'_>, context: &Context<'_>) -> Option<DiscoverSpec> {
    let fields = fields.section("discover", &keys::DISCOVER)?;
    let mut given = fields.entries(&PROVIDERS);
    match (given.next(), given.next()) {
        (Some(first), Some(second)) => context.report.error_help(
            second.key_span,
            format!("`discover` has both `{}` and `{}`", first.key, second.key),
            "keep one of the two; another service can use the other, and a route both",
        ),
        (None, _) if !PROVIDERS.iter().any(|name| fields.has(name)) => context.report.error_help(
            fields.span,
            "`discover` does not say where",
            format!("add one of {}", PROVIDERS.map(|name| format!("`{name}`")).join(", ")),
        ),
        _ => {}
    }
    let file = fields.text("file").and_then(|path| path_of("file", path, context.report));
    let file = file.map(|path| DiscoverSpec::File(FileSelector { path }));
    let dns = dns_selector(&fields, context).map(DiscoverSpec::Dns);
    let http = http_selector(&fields, context).map(DiscoverSpec::Http);
    let registry = registry_selector(&fields, context);
    let lars = lars_selector(&fields);
    docker_selector(&fields, context).or(file).or(http).or(dns).or(registry).or(lars)
}

fn registry_selector(fields: &Fields<'_>, context: &Context<'_>) -> Option<DiscoverSpec> {
    let registry = fields.section("registry", &keys::DISCOVER_REGISTRY)?;
    if !context.registry {
        context.report.error_help(
            registry.span,
            "no registry is known to look in",
            "add `registry: {}` to the file, or `registry: { url: http://HOST:9910 }`",
        );
    }
    let service = registry.text("service").map(|(name, _)| ServiceName::new(name));
    Some(DiscoverSpec::Registry(RegistrySelector { service }))
}

fn lars_selector(fields: &Fields<'_>) -> Option<DiscoverSpec> {
    let fields = fields.section("lars", &keys::DISCOVER_LARS)?;
    let (mut modid, mut cmdid) = (0, 0);
    fields.integer("modid", &mut modid);
    fields.integer("cmdid", &mut cmdid);
    let (address, _) = fields.parsed("address", parse_endpoint_address)?;
    Some(DiscoverSpec::Lars(LarsSelector { address, modid, cmdid }))
}

fn http_selector(fields: &Fields<'_>, context: &Context<'_>) -> Option<HttpSelector> {
    let fields = fields.section("http", &keys::DISCOVER_HTTP)?;
    let url = fields.parsed("url", parse_url);
    let mut spec = url.map_or_else(|| HttpSelector::new("", 0, "/"), |(spec, _)| spec);
    let tls = store_tls(&fields, fields.text("url").map(|(url, _)| url), context);
    if let Some(secured) = &mut spec.tls {
        *secured = tls;
    }
    spec.token = token(&fields, context);
    fields.duration("interval", &mut spec.interval);
    let mut wait = Duration::ZERO;
    fields.duration("wait", &mut wait);
    spec.wait = (!wait.is_zero()).then_some(wait);
    fields.duration("timeout", &mut spec.timeout);
    Some(spec)
}

/// `http://HOST[:PORT][/PATH][?QUERY]` (RFC 3986), or `https://`.
fn parse_url(text: &str) -> Result<HttpSelector, String> {
    const EXAMPLE: &str = "write http://127.0.0.1:8500/endpoints/web";
    let (rest, default_port, tls) = match text.split_once("://") {
        Some(("http", rest)) => (rest, 80, None),
        Some(("https", rest)) => (rest, 443, Some(ClientTlsSpec::default())),
        _ => return Err(format!("{} is no URL of HTTP; {EXAMPLE}", quoted(text))),
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (authority, Some(default_port)),
    };
    let port = port.filter(|port| *port > 0);
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().ok().map(|_| ip.to_owned()),
        None if host.parse::<std::net::Ipv4Addr>().is_ok() => Some(host.to_owned()),
        None => parse_name(host).ok(),
    };
    let visible = path.bytes().all(|b| b.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&b));
    match (host, port) {
        (Some(host), Some(port)) if visible => {
            Ok(HttpSelector { tls, ..HttpSelector::new(host, port, path) })
        }
        _ => Err(format!("{} is no URL; {EXAMPLE}", quoted(text))),
    }
}

fn dns_selector(fields: &Fields<'_>, context: &Context<'_>) -> Option<DnsSelector> {
    let fields = fields.section("dns", &keys::DISCOVER_DNS)?;
    let name = fields.parsed("name", parse_name).map(|(name, _)| name);
    let is_service = name.as_ref().is_some_and(|name| name.starts_with('_'));
    let mut port = 0;
    fields.integer("port", &mut port);
    let records = match fields.word("type") {
        Some(("srv", _)) => DnsRecords::Srv,
        None if is_service => DnsRecords::Srv,
        _ => DnsRecords::Address { port },
    };
    match records {
        DnsRecords::Address { port: 0 } if name.is_some() && !fields.has("port") => {
            context.report.error_help(
                fields.span,
                "`dns` has no `port`",
                "add `port: 8080`, or `type: srv` if service records have it",
            );
        }
        DnsRecords::Srv if fields.has("port") => context.report.error_help(
            fields.key_span("port"),
            "`port` has no meaning with service records, which have their own",
            "remove `port`",
        ),
        _ => {}
    }
    let mut spec = DnsSelector::new(name.unwrap_or_default(), records);
    spec.family = match fields.word("family") {
        Some(("ipv4", _)) => AddressFamily::Ipv4,
        Some(("ipv6", _)) => AddressFamily::Ipv6,
        Some(("both", _)) => AddressFamily::Both,
        _ => AddressFamily::Auto,
    };
    for node in fields.list("servers").unwrap_or_default() {
        match scalar(node).ok_or_else(|| "is no address".to_owned()).and_then(parse_dns_server) {
            Ok(server) => spec.servers.push(server),
            Err(message) => {
                let (wrong, help) = message.split_once("; ").unwrap_or((&message, ""));
                context.report.error_help(node.span, format!("`servers`: {wrong}"), help);
            }
        }
    }
    if let Some(path) = fields.text("resolv_conf")
        && let Some(path) = path_of("resolv_conf", path, context.report)
    {
        if !spec.servers.is_empty() {
            context.report.error_help(
                fields.key_span("resolv_conf"),
                "`resolv_conf` has no meaning with `servers`",
                "remove one of the two",
            );
        }
        spec.resolv_conf = path;
    }
    fields.duration("timeout", &mut spec.timeout);
    fields.duration("ttl_min", &mut spec.ttl_min);
    fields.duration("ttl_max", &mut spec.ttl_max);
    if spec.ttl_min > spec.ttl_max {
        context.report.error_help(
            fields.key_span("ttl_min"),
            "`ttl_min` is more than `ttl_max`",
            "make it less, or `ttl_max` more",
        );
        spec.ttl_max = spec.ttl_min;
    }
    fields.integer("confirmations", &mut spec.confirmations);
    fields.duration("window", &mut spec.window);
    Some(spec)
}

/// A name of the Domain Name System (RFC 1035, section 2.3.4).
pub(super) fn parse_name(text: &str) -> Result<String, String> {
    const NAME_BYTES_MAX: usize = 253;
    const LABEL_BYTES_MAX: usize = 63;
    let whole = text.strip_suffix('.').unwrap_or(text);
    let visible = |b: u8| b.is_ascii_graphic() && !b"/:\\\"'".contains(&b);
    let is_label = |label: &str| !label.is_empty() && label.len() <= LABEL_BYTES_MAX;
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Err(format!("{text:?} is an address; list it under `endpoints` instead"));
    }
    let fits = whole.len() <= NAME_BYTES_MAX && whole.bytes().all(visible);
    if fits && whole.split('.').all(is_label) {
        return Ok(text.to_owned());
    }
    let shown = quoted(text);
    Err(format!("{shown} is no name; write one such as images.internal or _http._tcp.web.internal"))
}

fn docker_selector(fields: &Fields<'_>, context: &Context<'_>) -> Option<DiscoverSpec> {
    let docker = fields.section("docker", &keys::DISCOVER_DOCKER)?;
    if !context.discovers {
        context.report.error_help(
            docker.span,
            "no Docker engine is known to discover containers of",
            "add `providers: { docker: {} }` to the file",
        );
    }
    let text = |name: &str| docker.text(name).map(|(text, _)| text.to_owned());
    let mut selector = DockerSelector {
        compose_service: text("compose_service"),
        compose_project: text("compose_project"),
        network: text("network"),
        ..DockerSelector::default()
    };
    let mut port = 0;
    docker.integer("port", &mut port);
    selector.port = (port > 0).then_some(port);
    for node in docker.list("label").unwrap_or_default() {
        let label = scalar(node).filter(|text| !text.is_empty() && !text.starts_with('='));
        let Some(label) = label else {
            if let Some(key) = keys::DISCOVER_DOCKER.key("label") {
                wrong_kind(context.report, "label", &key.kind, node);
            }
            continue;
        };
        selector.labels.push(match label.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (label.to_owned(), None),
        });
    }
    Some(DiscoverSpec::Docker(selector))
}
