//! `providers` and `services.NAME.discover`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use model::spec::{
    ContainerAddress, DiscoverSpec, DockerSelector, DockerSpec, FileSelector, HttpSpec,
    LarsSelector, LimitSpec, ListenerSpec, Protocol, ProvidersSpec, RegistrySelector,
    ServerHttp2Spec, TimeoutSpec, UdpSpec,
};
use model::{ListenerName, ServiceName};

use crate::address::parse_endpoint_address;
use crate::fields::{Fields, scalar, wrong_kind};
use crate::keys;
use crate::suggest;
use crate::tree::quoted;

use super::{Context, path_of};

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
        routes: Vec::new(),
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
const PROVIDERS: [&str; 4] = ["docker", "file", "lars", "registry"];

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
    let lars = lars_selector(&fields);
    let registry = registry_selector(&fields, context);
    docker_selector(&fields, context).or(file).or(lars).or(registry)
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
