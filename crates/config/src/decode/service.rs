//! `services.NAME`.

use std::path::PathBuf;

use model::ServiceName;
use model::spec::{
    EndpointProtocol, EndpointSource, PoolSpec, ProxyProtocolVersion, RetryCondition, RetrySpec,
    ServiceSpec,
};

use crate::fields::{Fields, integer, scalar, wrong_kind};
use crate::keys;
use crate::table::Kind;
use crate::tree::{Entry, Value, quoted};

use super::{
    Context, affinity, discover, endpoint, failures, health, hedge, path_of, policy, queue, run,
    tls,
};

pub(super) fn service(entry: &Entry, context: &Context<'_>) -> ServiceSpec {
    let owner = format!("service {}", quoted(&entry.key));
    let fields = Fields::open(context.report, &keys::SERVICE, &owner, &entry.value, entry.key_span);
    let mut spec = ServiceSpec::new(ServiceName::new(&*entry.key));
    spec.source = source(&fields, entry, &owner, context);
    spec.policy = policy::policy(&fields, context);
    spec.affinity = affinity::affinity(&fields, context);
    treatment(&fields, &mut spec, context);
    spec.wake = queue::wake(&fields, &spec.source, context);
    spec.pool = pool(&fields);
    spec.send_proxy_protocol = match fields.word("proxy_protocol") {
        Some(("v1", _)) => Some(ProxyProtocolVersion::V1),
        Some(("v2", _)) => Some(ProxyProtocolVersion::V2),
        _ => None,
    };
    spec.tls = tls::of_service(&fields, context);
    protocol(&fields, &mut spec, context);
    spec
}

/// What is spoken to the endpoints, and whether the rest of the service fits it.
fn protocol(fields: &Fields<'_>, spec: &mut ServiceSpec, context: &Context<'_>) {
    let (word, span) = fields.word("protocol").unwrap_or(("http", fields.key_span("protocol")));
    spec.protocol = match word {
        "h2c" => EndpointProtocol::H2c,
        "h2" => EndpointProtocol::H2,
        "auto" => EndpointProtocol::Auto,
        _ => EndpointProtocol::Http1,
    };
    fields.bool("grpc_web", &mut spec.grpc_web);
    let refuse = |span, message: &str, help: &str| context.report.error_help(span, message, help);
    match (spec.protocol, spec.tls.is_some()) {
        (EndpointProtocol::H2, false) => refuse(
            span,
            "`protocol: h2` is HTTP/2 over TLS, and the service has no `tls`",
            "add `tls: true`, or write `protocol: h2c` for HTTP/2 in clear",
        ),
        (EndpointProtocol::Auto, false) => refuse(
            span,
            "`protocol: auto` is agreed on by TLS, and the service has no `tls`",
            "add `tls: true`, or write `protocol: h2c` or `protocol: http`",
        ),
        (EndpointProtocol::H2c, true) => refuse(
            span,
            "`protocol: h2c` is HTTP/2 in clear, and the service has `tls`",
            "write `protocol: h2`, or remove `tls`",
        ),
        _ => {}
    }
    if spec.protocol.may_be_http2() && spec.send_proxy_protocol.is_some() {
        refuse(
            fields.key_span("proxy_protocol"),
            "`proxy_protocol` tells of one client for each connection, and a connection of HTTP/2 carries the requests of many",
            "remove it: the client's address is in `X-Forwarded-For`",
        );
    }
    if spec.grpc_web && !spec.protocol.may_be_http2() {
        refuse(
            fields.key_span("grpc_web"),
            "`grpc_web` translates to gRPC, which needs endpoints that speak HTTP/2",
            "add `protocol: h2c`, or remove `grpc_web`",
        );
    }
}

/// What a scenario has in common with a configuration.
pub(super) fn treatment(fields: &Fields<'_>, spec: &mut ServiceSpec, context: &Context<'_>) {
    spec.health = health::health(fields, context);
    failures::failures(fields, spec, context);
    spec.retry = retry(fields, context);
    spec.hedge = hedge::hedge(fields, context);
    spec.limits = queue::limits(fields, context);
    spec.queue = queue::queue(fields, &spec.limits, context);
    if let Some(fields) = fields.section("timeouts", &keys::SERVICE_TIMEOUTS) {
        fields.duration("connect", &mut spec.connect_timeout);
        fields.duration("first_byte", &mut spec.first_byte_timeout);
        fields.duration_or_off("total", &mut spec.total_timeout);
    }
    fields.duration("drain_grace", &mut spec.drain_grace);
}

/// Exactly one of `endpoints`, `run` and `discover`.
fn source(
    fields: &Fields<'_>,
    entry: &Entry,
    owner: &str,
    context: &Context<'_>,
) -> EndpointSource {
    let endpoints = endpoint::endpoints(fields, owner);
    let run = fields.section("run", &keys::RUN);
    let discover = discover::discover(fields, context);
    let mut given = fields.entries(&["endpoints", "run", "discover"]);
    if let (Some(first), Some(second)) = (given.next(), given.next()) {
        context.report.error_help(
            second.key_span,
            format!("{owner} has both `{}` and `{}`", first.key, second.key),
            "keep one of the two",
        );
    }
    let is_map = matches!(entry.value.value, Value::Map(_));
    if is_map && !["endpoints", "run", "discover"].iter().any(|key| fields.has(key)) {
        context.report.error_help(
            entry.key_span,
            format!("{owner} has no endpoints"),
            "add `endpoints: [ 127.0.0.1:5001 ]`, or `run: { command: COMMAND }`",
        );
    }
    match (run, discover) {
        (None, None) => EndpointSource::Static(endpoints),
        (None, Some(discover)) => EndpointSource::Discover(discover),
        (Some(fields), _) => {
            let cwd: Option<PathBuf> =
                fields.text("cwd").and_then(|path| path_of("cwd", path, context.report));
            EndpointSource::Run(run::run(&fields, cwd, context))
        }
    }
}

fn retry(fields: &Fields<'_>, context: &Context<'_>) -> RetrySpec {
    let mut spec = RetrySpec::default();
    let Some(entry) = fields.entry("retry") else { return spec };
    match scalar(&entry.value) {
        Some("off") => {
            spec.attempts = 0;
            return spec;
        }
        Some(_) => {
            let kind = keys::SERVICE.key("retry").map_or(Kind::Bool, |key| key.kind);
            wrong_kind(context.report, "retry", &kind, &entry.value);
            return spec;
        }
        None => {}
    }
    let Some(fields) = fields.section("retry", &keys::RETRY) else { return spec };
    fields.integer("attempts", &mut spec.attempts);
    fields.share("budget", &mut spec.budget);
    fields.integer("budget_min", &mut spec.budget_min);
    fields.bytes("replay_bytes", &mut spec.replay_bytes);
    fields.bool("non_idempotent", &mut spec.non_idempotent);
    if let Some(on) = retry_conditions(&fields, context) {
        spec.on = on;
    }
    spec
}

fn retry_conditions(fields: &Fields<'_>, context: &Context<'_>) -> Option<Vec<RetryCondition>> {
    let nodes = fields.list("on")?;
    let kind = keys::RETRY.key("on")?.kind;
    let item = kind.alternatives().first()?;
    let mut conditions = Vec::new();
    for node in nodes {
        let condition = match scalar(node) {
            Some("reset") => Some(RetryCondition::Reset),
            Some("first_byte_timeout") => Some(RetryCondition::FirstByteTimeout),
            Some(text) if text.starts_with("grpc_") => grpc_status(item, text),
            Some(text) => item
                .alternatives()
                .iter()
                .find_map(|kind| integer(kind, text))
                .map(RetryCondition::Status),
            None => None,
        };
        match condition {
            Some(condition) if conditions.contains(&condition) => {}
            Some(condition) => conditions.push(condition),
            None => wrong_kind(context.report, "on", item, node),
        }
    }
    Some(conditions)
}

fn grpc_status(kind: &Kind, text: &str) -> Option<RetryCondition> {
    kind.alternatives().iter().find(|kind| matches!(kind, Kind::Word(word) if *word == text))?;
    let name = text.strip_prefix("grpc_")?;
    (0..=16).find(|code| model::grpc::name(*code) == Some(name)).map(RetryCondition::Grpc)
}

fn pool(fields: &Fields<'_>) -> PoolSpec {
    let mut spec = PoolSpec::default();
    if let Some(fields) = fields.section("pool", &keys::POOL) {
        fields.integer("idle_max", &mut spec.idle_max);
        fields.duration("idle_timeout", &mut spec.idle_timeout);
        fields.duration("age_max", &mut spec.age_max);
        fields.integer_or_off("connections_max", &mut spec.connections_max);
        fields.integer_or_off("requests_max", &mut spec.requests_max);
        fields.integer("streams_max", &mut spec.streams_max);
        fields.duration("ping_interval", &mut spec.ping_interval);
        fields.duration("ping_timeout", &mut spec.ping_timeout);
    }
    spec
}
