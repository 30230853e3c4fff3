use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::status::{
    AgentStatus, CertificateStatus, DiscoveryStatus, EndpointState, EndpointStatus, ListenerStatus,
    RegistryStatus, ScalingStatus, ServiceStatus,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Verb;
use crate::client::AdminAddress;
use crate::failure::Failure;
use crate::output::{say, say_json};
use crate::table::{self, Row};

/// Show listeners, services and endpoints with their state
#[derive(clap::Args)]
pub(super) struct Status {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminAddress,
}

impl Verb for Status {
    const NAME: &'static str = "status";

    fn run(self) -> Result<(), Failure> {
        let client = self.admin.client()?;
        let services = client.get("/v1/services")?;
        let listeners = client.get("/v1/listeners")?;
        let discovery = client.get("/v1/discovery")?;
        let registry = client.get("/v1/registry")?;
        let autoscale = client.get("/v1/autoscale")?;
        let certificates = client.get("/v1/certificates")?;
        let agent = client.get("/v1/agent")?;
        if self.json {
            return say_json(&json!({
                "listeners": listeners["listeners"],
                "services": services["services"],
                "discovery": discovery["discovery"],
                "registry": registry["registry"],
                "autoscale": autoscale["autoscale"],
                "certificates": certificates["certificates"],
                "agent": agent["agent"],
            }));
        }
        let listeners: Vec<ListenerStatus> = read(listeners, "listeners")?;
        let services: Vec<ServiceStatus> = read(services, "services")?;
        let discovery: Vec<DiscoveryStatus> = read(discovery, "discovery")?;
        let registry: Option<RegistryStatus> = read(registry, "registry")?;
        let autoscale: Vec<ScalingStatus> = read(autoscale, "autoscale")?;
        let certificates: Vec<CertificateStatus> = read(certificates, "certificates")?;
        let agent: Option<AgentStatus> = read(agent, "agent")?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let tables = [
            listener_table(&listeners),
            service_table(&services),
            endpoint_table(&services),
            certificate_table(&certificates, now),
            discovery_table(&discovery),
            usage_table(&discovery),
            left_out_table(&discovery),
            registry_table(registry.as_ref()),
            scaling_table(&autoscale, now),
            agent.as_ref().and_then(agent_table),
        ];
        let tables: Vec<String> = tables.into_iter().flatten().collect();
        if tables.is_empty() {
            return say("nothing is configured");
        }
        say(&tables.join("\n\n"))
    }
}

fn read<T: DeserializeOwned>(mut answer: Value, name: &str) -> Result<T, Failure> {
    serde_json::from_value(answer[name].take()).map_err(|error| {
        Failure::Job(format!("the admin API's answer is of another version: {name}: {error}"))
    })
}

fn listener_table(listeners: &[ListenerStatus]) -> Option<String> {
    let rows = listeners.iter().map(|l| {
        Row::plain([
            l.name.clone(),
            l.protocol.clone(),
            l.bind.to_string(),
            l.routes.to_string(),
            l.connections.to_string(),
            l.connections_total.to_string(),
            l.requests_total.to_string(),
        ])
    });
    table::render(
        ["LISTENER", "PROTOCOL", "BIND", "ROUTES", "OPEN", "CONNECTIONS", "REQUESTS"],
        rows,
    )
}

fn service_table(services: &[ServiceStatus]) -> Option<String> {
    // Most services have no limits: their table is as narrow as it was.
    if services.iter().any(|s| s.queue.queued > 0 || s.queue.rejected.total() > 0) {
        return table::render(
            [
                "SERVICE",
                "POLICY",
                "HEALTHY",
                "REPLICAS",
                "RETRIES",
                "DENIED",
                "UNAVAILABLE",
                "QUEUED",
                "REJECTED",
            ],
            services.iter().map(|s| {
                let [service, policy, healthy, replicas, retries, denied, unavailable] =
                    service_cells(s);
                let queued = s.queue.queued.to_string();
                let rejected = s.queue.rejected.total().to_string();
                Row::plain([
                    service,
                    policy,
                    healthy,
                    replicas,
                    retries,
                    denied,
                    unavailable,
                    queued,
                    rejected,
                ])
            }),
        );
    }
    table::render(
        ["SERVICE", "POLICY", "HEALTHY", "REPLICAS", "RETRIES", "DENIED", "UNAVAILABLE"],
        services.iter().map(|s| Row::plain(service_cells(s))),
    )
}

fn service_cells(s: &ServiceStatus) -> [String; 7] {
    let healthy = s.endpoints.iter().filter(|e| e.state == EndpointState::Healthy).count();
    [
        s.name.clone(),
        s.policy.clone(),
        format!(
            "{healthy} of {}{}",
            s.endpoints.len().max(s.replicas.unwrap_or(0)),
            if s.panic { ", panic" } else { "" },
        ),
        s.replicas.map_or_else(|| "-".into(), |n| n.to_string()),
        s.retries.to_string(),
        s.retries_denied.to_string(),
        s.unavailable.to_string(),
    ]
}

fn certificate_table(certificates: &[CertificateStatus], now: Duration) -> Option<String> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let rows = certificates.iter().map(|c| {
        let left = c.not_after_unix.map(|end| end - now);
        let ends = match left {
            None => "-".into(),
            Some(left) if left < 0 => format!("{} ago", span(-left)),
            Some(left) => format!("in {}", span(left)),
        };
        let state = certificate_state(c, now);
        let failing = c.acme.as_ref().is_some_and(|acme| acme.reason.is_some());
        let colour = match left {
            Some(1..) if !failing => crate::output::GREEN,
            Some(1..) => crate::output::YELLOW,
            _ => crate::output::RED,
        };
        let names = c.names.join(", ");
        let cells = [c.listener.clone(), names, c.source.clone(), ends, state];
        Row { cells, colour: Some((3, colour)) }
    });
    table::render(["LISTENER", "CERTIFICATE", "SOURCE", "ENDS", "STATE"], rows)
}

/// Of a certificate by ACME: what is done about it, and why it is not there.
fn certificate_state(certificate: &CertificateStatus, now: i64) -> String {
    let Some(acme) = &certificate.acme else { return "-".into() };
    let next = i64::try_from(acme.next_unix).unwrap_or(i64::MAX).saturating_sub(now);
    let next = if next > 0 { format!("in {}", span(next)) } else { "now".into() };
    match (&acme.reason, acme.ordering) {
        (_, true) => "being ordered".into(),
        (Some(reason), _) => format!("failed, again {next}: {reason}"),
        (None, _) if certificate.not_after_unix.is_none() => format!("ordered {next}"),
        (None, _) => format!("renewed {next}"),
    }
}

/// To the nearest of its unit: what was made for 396 days has 396 days a second later, too.
fn span(seconds: i64) -> String {
    let whole = |unit: i64| seconds.saturating_add(unit / 2) / unit;
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", whole(60)),
        7200..172_800 => format!("{} h", whole(3600)),
        _ => format!("{} days", whole(86_400)),
    }
}

fn discovery_table(discovery: &[DiscoveryStatus]) -> Option<String> {
    let rows = discovery.iter().map(|d| {
        let state = match (&d.reason, d.connected) {
            (Some(reason), _) => format!("lost: {reason}"),
            (None, true) => "connected".into(),
            (None, false) => "connecting".into(),
        };
        let colour = if d.connected { crate::output::GREEN } else { crate::output::RED };
        let cells = [
            d.provider.clone(),
            match &d.service {
                None => d.source.clone(),
                Some(service) => format!("{} (for {service})", d.source),
            },
            d.engine.clone().unwrap_or_else(|| "-".into()),
            state,
            d.containers.to_string(),
            d.endpoints.to_string(),
        ];
        Row { cells, colour: Some((3, colour)) }
    });
    table::render(["DISCOVERY", "SOURCE", "ENGINE", "STATE", "CONTAINERS", "ENDPOINTS"], rows)
}

fn registry_table(registry: Option<&RegistryStatus>) -> Option<String> {
    let registry = registry?;
    let (state, colour) = match (&registry.reason, registry.preserving_ms) {
        (Some(reason), _) => (format!("store lost: {reason}"), crate::output::RED),
        (None, Some(ms)) => {
            (format!("self-preservation for {} s", ms / 1000), crate::output::YELLOW)
        }
        (None, None) => ("in order".to_owned(), crate::output::GREEN),
    };
    let cells = [
        registry.store.clone(),
        state,
        registry.services.to_string(),
        registry.instances.to_string(),
        registry.late.to_string(),
        registry.restored.to_string(),
        registry.watchers.to_string(),
    ];
    table::render(
        ["REGISTRY", "STATE", "SERVICES", "INSTANCES", "LATE", "RESTORED", "WATCHERS"],
        [Row { cells, colour: Some((1, colour)) }].into_iter(),
    )
}

/// Where callers ask which endpoint to use, and what came of it.
fn agent_table(agent: &AgentStatus) -> Option<String> {
    let http = agent.http.map(|address| format!("http://{address}"));
    let lars = agent.lars.as_ref().map(|lars| &lars.udp[..]).unwrap_or_default();
    let rows = agent.counts.iter().map(|counts| {
        let places: Vec<String> = match counts.wire.as_str() {
            "http" => http.iter().chain(&agent.socket).cloned().collect(),
            _ => lars.iter().map(ToString::to_string).collect(),
        };
        let refused = counts.no_endpoint + counts.overloaded + counts.unknown;
        let reports = counts.successes + counts.failures + counts.abandoned;
        let unreported = counts.expired + counts.crowded_out;
        Row::plain([
            counts.wire.clone(),
            places.join(" "),
            counts.outstanding.to_string(),
            counts.picks.to_string(),
            refused.to_string(),
            reports.to_string(),
            counts.failures.to_string(),
            unreported.to_string(),
        ])
    });
    table::render(
        ["AGENT", "AT", "OPEN", "PICKS", "REFUSED", "REPORTS", "FAILURES", "UNREPORTED"],
        rows,
    )
}

/// What each container that serves uses.
fn usage_table(discovery: &[DiscoveryStatus]) -> Option<String> {
    const MIB: f64 = 1_048_576.0;
    let rows = discovery.iter().flat_map(|d| &d.usage).map(|usage| {
        let memory = format!("{:.1} MiB", usage.memory_bytes as f64 / MIB);
        let memory_limit = match usage.memory_limit_bytes {
            0 => "-".into(),
            bytes => format!("{:.0} MiB", bytes as f64 / MIB),
        };
        let (cpus, cpus_limit) = (format!("{:.2}", usage.cpus), format!("{:.2}", usage.cpus_limit));
        Row::plain([usage.id.clone(), usage.name.clone(), cpus, cpus_limit, memory, memory_limit])
    });
    table::render(["ENDPOINT", "CONTAINER", "CPUS", "OF", "MEMORY", "OF"], rows)
}

/// Containers that were meant to serve and do not, and what of others is not used.
fn left_out_table(discovery: &[DiscoveryStatus]) -> Option<String> {
    let left_out = discovery.iter().flat_map(|d| &d.left_out).map(|l| {
        let service = l.service.clone().unwrap_or_else(|| "-".into());
        Row::plain([l.name.clone(), service, l.reason.clone()])
    });
    let notes = discovery.iter().flat_map(|d| &d.notes);
    let notes = notes.map(|note| Row::plain(["-".into(), "-".into(), note.clone()]));
    table::render(["LEFT OUT", "SERVICE", "REASON"], left_out.chain(notes))
}

/// What an autoscaler decided, the last on top.
fn scaling_table(scalings: &[ScalingStatus], now: Duration) -> Option<String> {
    let rows = scalings.iter().rev().map(|scaling| {
        let ago = now.saturating_sub(Duration::from_millis(scaling.unix_ms)).as_secs();
        Row::plain([
            scaling.service.clone(),
            format!("{} -> {}", scaling.from, scaling.to),
            format!("{ago} s ago"),
            scaling.reason.clone(),
        ])
    });
    table::render(["AUTOSCALE", "CONTAINERS", "WHEN", "REASON"], rows)
}

fn endpoint_table(services: &[ServiceStatus]) -> Option<String> {
    let rows = services.iter().flat_map(|s| s.endpoints.iter().map(|e| endpoint_row(&s.name, e)));
    table::render(
        [
            "SERVICE",
            "ENDPOINT",
            "ADDRESS",
            "STATE",
            "WEIGHT",
            "IN FLIGHT",
            "REQUESTS",
            "FAILURES",
            "LATENCY",
            "REASON",
        ],
        rows,
    )
}

fn endpoint_row(service: &str, endpoint: &EndpointStatus) -> Row<10> {
    let state = match endpoint.state {
        EndpointState::Unproven => "unproven",
        EndpointState::Healthy => "healthy",
        EndpointState::Unhealthy => "unhealthy",
        EndpointState::Ejected => "ejected",
        EndpointState::Draining => "draining",
    };
    let latency = endpoint.latency_us.map(Duration::from_micros);
    let cells = [
        service.to_owned(),
        endpoint.id.clone(),
        endpoint.address.to_string(),
        state.to_owned(),
        endpoint.weight.to_string(),
        match endpoint.limit {
            Some(limit) => format!("{} of {limit}", endpoint.in_flight),
            None => endpoint.in_flight.to_string(),
        },
        endpoint.requests.to_string(),
        endpoint.failures.to_string(),
        latency.map_or_else(|| "-".into(), |latency| format!("{latency:.1?}")),
        endpoint.reason.clone(),
    ];
    let colour = match endpoint.state {
        EndpointState::Healthy => crate::output::GREEN,
        EndpointState::Unhealthy | EndpointState::Ejected => crate::output::RED,
        EndpointState::Unproven | EndpointState::Draining => crate::output::YELLOW,
    };
    Row { cells, colour: Some((3, colour)) }
}
