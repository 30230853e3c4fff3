//! `/metrics` in the Prometheus text format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! Our own writer and no library: the counters live in the data plane's shards and arrive here
//! as plain numbers, so a library's registry would only be filled from them and then read back.

mod text;

use std::collections::BTreeMap;

use model::status::{
    AgentCounts, CertificateStatus, DiscoveryStatus, EjectionCounts, EndpointState, EndpointStatus,
    ListenerMetrics, Metrics, RegistryStatus, ServiceStatus, SessionStatus, SessionStoreStatus,
};

use crate::Control;
use crate::process::{self, Process};
use text::{Kind, Text};

/// Endpoints that are listed one by one, over all services; the rest are counted in
/// `evenkeel_metrics_endpoints_omitted`. Eight series each make about 50 MiB at the limit.
const ENDPOINTS_MAX: usize = 50_000;

pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) fn render(control: &dyn Control) -> String {
    let services = control.services();
    let metrics = control.metrics();
    let mut out = Text::default();
    whole(&mut out, &metrics, control.ready().is_ok());
    listeners(&mut out, &metrics.listeners);
    service_counters(&mut out, &services);
    sessions(&mut out, &services);
    queues(&mut out, &services);
    latency(&mut out, &metrics);
    endpoints(&mut out, &services);
    certificates(&mut out, &control.certificates());
    discovery(&mut out, &control.discovery());
    registry(&mut out, control.registry().as_ref());
    agent(&mut out, &control.agent().map(|agent| agent.counts).unwrap_or_default());
    process_values(&mut out, &process::read());
    out.finish()
}

fn whole(out: &mut Text, metrics: &Metrics, ready: bool) {
    out.family("evenkeel_build_info", Kind::Gauge, "Always 1; the label names the version.");
    out.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    out.family("evenkeel_ready", Kind::Gauge, "Whether /readyz says ready.");
    out.sample(&[], u8::from(ready));
    out.family("evenkeel_workers", Kind::Gauge, "Threads that carry traffic.");
    out.sample(&[], metrics.workers);
    out.family("evenkeel_access_log_lines_total", Kind::Counter, "Lines written.");
    out.sample(&[], metrics.access_log_written);
    out.family(
        "evenkeel_access_log_dropped_total",
        Kind::Counter,
        "Lines dropped because the log could not take them.",
    );
    out.sample(&[], metrics.access_log_dropped);
}

fn listeners(out: &mut Text, listeners: &[ListenerMetrics]) {
    type Value = fn(&ListenerMetrics) -> u64;
    let families: [(&str, Kind, &str, Value); 9] = [
        (
            "evenkeel_listener_connections_open",
            Kind::Gauge,
            "Connections (UDP: flows) open now.",
            |l| l.connections_open,
        ),
        ("evenkeel_listener_connections_total", Kind::Counter, "Connections accepted.", |l| {
            l.connections
        }),
        (
            "evenkeel_listener_refused_total",
            Kind::Counter,
            "Connections or flows refused by a limit.",
            |l| l.refused,
        ),
        (
            "evenkeel_listener_malformed_total",
            Kind::Counter,
            "Requests refused as malformed or over a limit, before a service was chosen.",
            |l| l.malformed,
        ),
        (
            "evenkeel_listener_tls_handshakes_total",
            Kind::Counter,
            "TLS handshakes completed.",
            |l| l.handshakes,
        ),
        (
            "evenkeel_listener_tls_handshakes_failed_total",
            Kind::Counter,
            "TLS handshakes that failed, or took too long.",
            |l| l.handshakes_failed,
        ),
        (
            "evenkeel_listener_resets_total",
            Kind::Counter,
            "Requests that ended in a reset instead of a whole response.",
            |l| l.responses[0],
        ),
        ("evenkeel_listener_received_bytes_total", Kind::Counter, "Read from clients.", |l| {
            l.downstream_bytes_in
        }),
        ("evenkeel_listener_sent_bytes_total", Kind::Counter, "Written to clients.", |l| {
            l.downstream_bytes_out
        }),
    ];
    for (name, kind, help, value) in families {
        out.family(name, kind, help);
        for listener in listeners {
            out.sample(&[("listener", &listener.name)], value(listener));
        }
    }
    out.family("evenkeel_listener_responses_total", Kind::Counter, "HTTP responses by class.");
    for listener in listeners {
        for (class, count) in
            ["1xx", "2xx", "3xx", "4xx", "5xx"].iter().zip(&listener.responses[1..])
        {
            out.sample(&[("listener", &listener.name), ("class", class)], *count);
        }
    }
}

const STATES: [(EndpointState, &str); 5] = [
    (EndpointState::Unproven, "unproven"),
    (EndpointState::Healthy, "healthy"),
    (EndpointState::Unhealthy, "unhealthy"),
    (EndpointState::Ejected, "ejected"),
    (EndpointState::Draining, "draining"),
];

fn service_counters(out: &mut Text, services: &[ServiceStatus]) {
    out.family("evenkeel_service_endpoints", Kind::Gauge, "Endpoints by state.");
    for service in services {
        let mut counts = [0u64; STATES.len()];
        for endpoint in &service.endpoints {
            for (count, (state, _)) in counts.iter_mut().zip(STATES) {
                *count += u64::from(endpoint.state == state);
            }
        }
        for (count, (_, state)) in counts.iter().zip(STATES) {
            out.sample(&[("service", &service.name), ("state", state)], *count);
        }
    }
    out.family("evenkeel_service_replicas_wanted", Kind::Gauge, "Replicas that we run ourselves.");
    for service in services {
        if let Some(replicas) = service.replicas {
            out.sample(&[("service", &service.name)], replicas);
        }
    }
    out.family(
        "evenkeel_service_panic",
        Kind::Gauge,
        "Whether so few endpoints are healthy that ill ones are used.",
    );
    for service in services {
        out.sample(&[("service", &service.name)], u8::from(service.panic));
    }
    out.family("evenkeel_ejections_total", Kind::Counter, "Ejections of endpoints by reason.");
    for service in services {
        let EjectionCounts { consecutive, error_rate, latency } = service.ejections;
        let reasons =
            [("consecutive", consecutive), ("error_rate", error_rate), ("latency", latency)];
        for (reason, count) in reasons {
            out.sample(&[("service", &service.name), ("reason", reason)], count);
        }
    }
    type Value = fn(&ServiceStatus) -> u64;
    let families: [(&str, &str, Value); 6] = [
        ("evenkeel_service_retries_total", "Further attempts.", |s| s.retries),
        ("evenkeel_service_retries_denied_total", "Retries that the budget forbade.", |s| {
            s.retries_denied
        }),
        ("evenkeel_service_hedges_total", "Second attempts beside the first.", |s| s.hedges),
        ("evenkeel_service_hedges_denied_total", "Hedges that the budget forbade.", |s| {
            s.hedges_denied
        }),
        ("evenkeel_service_hedges_won_total", "Hedges that answered first.", |s| s.hedges_won),
        ("evenkeel_service_unavailable_total", "Picks that found no endpoint.", |s| s.unavailable),
    ];
    for (name, help, value) in families {
        out.family(name, Kind::Counter, help);
        for service in services {
            out.sample(&[("service", &service.name)], value(service));
        }
    }
}

/// Of services that remember sessions.
fn sessions(out: &mut Text, services: &[ServiceStatus]) {
    type Value = fn(&SessionStatus) -> u64;
    let families: [(&str, Kind, &str, Value); 3] = [
        ("evenkeel_service_sessions", Kind::Gauge, "Sessions remembered now, about.", |s| {
            s.entries as u64
        }),
        ("evenkeel_service_sessions_max", Kind::Gauge, "Sessions for which there is room.", |s| {
            s.max as u64
        }),
        (
            "evenkeel_service_session_evictions_total",
            Kind::Counter,
            "Sessions forgotten before their time, for want of room.",
            |s| s.evictions,
        ),
    ];
    for (name, kind, help, value) in families {
        out.family(name, kind, help);
        for service in services {
            if let Some(sessions) = &service.sessions {
                out.sample(&[("service", &service.name)], value(sessions));
            }
        }
    }
    session_stores(out, services);
}

/// Of services that share their sessions with other balancers.
fn session_stores(out: &mut Text, services: &[ServiceStatus]) {
    let stores = || {
        let store = |s: &'_ ServiceStatus| s.sessions.as_ref()?.store.clone();
        services.iter().filter_map(move |service| Some((&service.name, store(service)?)))
    };
    let name = "evenkeel_service_session_store_up";
    out.family(name, Kind::Gauge, "Whether the store of shared sessions is connected.");
    for (service, store) in stores() {
        out.sample(&[("service", service)], u64::from(store.connected));
    }
    let name = "evenkeel_service_session_store_lookups_total";
    out.family(
        name,
        Kind::Counter,
        "Sessions that were looked up in the store, by what came of it.",
    );
    for (service, store) in stores() {
        let SessionStoreStatus { hits, misses, failures, skipped, .. } = store;
        for (result, count) in
            [("hit", hits), ("miss", misses), ("failure", failures), ("skipped", skipped)]
        {
            out.sample(&[("service", service), ("result", result)], count);
        }
    }
    let name = "evenkeel_service_session_store_writes_total";
    out.family(name, Kind::Counter, "Sessions that the store was told of, by what came of it.");
    for (service, store) in stores() {
        let SessionStoreStatus { told, untold, adopted, .. } = store;
        for (result, count) in [("told", told), ("untold", untold), ("adopted", adopted)] {
            out.sample(&[("service", service), ("result", result)], count);
        }
    }
}

fn queues(out: &mut Text, services: &[ServiceStatus]) {
    out.family("evenkeel_service_queued", Kind::Gauge, "Waiting for an endpoint with room.");
    for service in services {
        out.sample(&[("service", &service.name)], service.queue.queued);
    }
    out.family(
        "evenkeel_service_rejected_total",
        Kind::Counter,
        "Requests turned away and attempts not made, by the limit in their way.",
    );
    for service in services {
        for (reason, count) in service.queue.rejected.named() {
            out.sample(&[("service", &service.name), ("reason", reason)], count);
        }
    }
    out.family(
        "evenkeel_service_queue_duration_seconds",
        Kind::Histogram,
        "How long those waited who then got an endpoint.",
    );
    for service in services {
        let name = &*service.name;
        let mut all = 0;
        for (bound, count) in &service.queue.waited_us {
            all += count;
            let le = match *bound {
                u64::MAX => "+Inf".to_owned(),
                bound => (bound as f64 / 1e6).to_string(),
            };
            out.part("_bucket", &[("service", name), ("le", &le)], all);
        }
        out.part("_sum", &[("service", name)], service.queue.waited_us_sum as f64 / 1e6);
        out.part("_count", &[("service", name)], all);
    }
}

/// Upper bounds of the buckets, in microseconds. Always the same, since a bucket that only appears
/// once it is hit breaks `rate` and `histogram_quantile`.
const LATENCY_BOUNDS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

fn latency(out: &mut Text, metrics: &Metrics) {
    out.family(
        "evenkeel_service_request_duration_seconds",
        Kind::Histogram,
        "From the head of a request to the last byte of its answer.",
    );
    for service in &metrics.services {
        let name = &*service.name;
        for bound in LATENCY_BOUNDS_US {
            // The data plane's buckets are finer. One that straddles the bound counts for the next.
            let below = service.latency_us.iter().filter(|(upper, _)| *upper <= bound);
            let le = (bound as f64 / 1e6).to_string();
            out.part("_bucket", &[("service", name), ("le", &le)], sum(below));
        }
        let all = sum(service.latency_us.iter());
        out.part("_bucket", &[("service", name), ("le", "+Inf")], all);
        out.part("_sum", &[("service", name)], service.latency_us_sum as f64 / 1e6);
        out.part("_count", &[("service", name)], all);
    }
}

fn sum<'a>(buckets: impl Iterator<Item = &'a (u64, u64)>) -> u64 {
    buckets.map(|(_, count)| count).sum()
}

fn endpoints(out: &mut Text, services: &[ServiceStatus]) {
    type Value = fn(&EndpointStatus) -> Option<f64>;
    let families: [(&str, Kind, &str, Value); 8] = [
        ("evenkeel_endpoint_healthy", Kind::Gauge, "1 if it may get traffic, else 0.", |e| {
            Some(f64::from(u8::from(e.state == EndpointState::Healthy)))
        }),
        ("evenkeel_endpoint_weight", Kind::Gauge, "Its weight now.", |e| Some(f64::from(e.weight))),
        ("evenkeel_endpoint_in_flight", Kind::Gauge, "Requests and streams under way.", |e| {
            Some(f64::from(e.in_flight))
        }),
        (
            "evenkeel_endpoint_limit",
            Kind::Gauge,
            "How many it may have under way now; absent without a limit.",
            |e| e.limit.map(f64::from),
        ),
        ("evenkeel_endpoint_queued", Kind::Gauge, "Waiting for this endpoint alone.", |e| {
            Some(f64::from(e.queued))
        }),
        (
            "evenkeel_endpoint_requests_total",
            Kind::Counter,
            "Requests and streams sent to it.",
            |e| Some(e.requests as f64),
        ),
        (
            "evenkeel_endpoint_failures_total",
            Kind::Counter,
            "Those of them that spoke against it.",
            |e| Some(e.failures as f64),
        ),
        (
            "evenkeel_endpoint_latency_seconds",
            Kind::Gauge,
            "Moving mean of its latency; absent while nothing was measured.",
            |e| e.latency_us.map(|us| us as f64 / 1e6),
        ),
    ];
    for (name, kind, help, value) in families {
        out.family(name, kind, help);
        let mut left = ENDPOINTS_MAX;
        for service in services {
            let listed = &service.endpoints[..service.endpoints.len().min(left)];
            left -= listed.len();
            for endpoint in listed {
                if let Some(value) = value(endpoint) {
                    out.sample(&[("service", &service.name), ("endpoint", &endpoint.id)], value);
                }
            }
        }
    }
    let all: usize = services.iter().map(|service| service.endpoints.len()).sum();
    out.family(
        "evenkeel_metrics_endpoints_omitted",
        Kind::Gauge,
        "Endpoints that are not listed here because there are too many.",
    );
    out.sample(&[], all.saturating_sub(ENDPOINTS_MAX));
}

fn registry(out: &mut Text, registry: Option<&RegistryStatus>) {
    let Some(registry) = registry else { return };
    type Value = fn(&RegistryStatus) -> u64;
    let families: [(&str, Kind, &str, Value); 13] = [
        ("evenkeel_registry_connected", Kind::Gauge, "1 if its store answers, else 0.", |r| {
            u64::from(r.connected)
        }),
        ("evenkeel_registry_services", Kind::Gauge, "Services with an instance.", |r| {
            r.services as u64
        }),
        ("evenkeel_registry_instances", Kind::Gauge, "Instances registered.", |r| {
            r.instances as u64
        }),
        (
            "evenkeel_registry_instances_late",
            Kind::Gauge,
            "Of them, not heard of for half of their TTL.",
            |r| r.late as u64,
        ),
        (
            "evenkeel_registry_instances_restored",
            Kind::Gauge,
            "Of them, known from before a restart and not heard of since.",
            |r| r.restored as u64,
        ),
        (
            "evenkeel_registry_preserving",
            Kind::Gauge,
            "1 while most instances are silent and none is removed for it.",
            |r| u64::from(r.preserving_ms.is_some()),
        ),
        ("evenkeel_registry_watchers", Kind::Gauge, "Requests that wait for a change.", |r| {
            r.watchers as u64
        }),
        ("evenkeel_registry_preservations_total", Kind::Counter, "How often that began.", |r| {
            r.preservations
        }),
        ("evenkeel_registry_registrations_total", Kind::Counter, "Registrations taken.", |r| {
            r.registrations
        }),
        ("evenkeel_registry_heartbeats_total", Kind::Counter, "Heartbeats.", |r| r.heartbeats),
        ("evenkeel_registry_deregistrations_total", Kind::Counter, "Instances that left.", |r| {
            r.deregistrations
        }),
        (
            "evenkeel_registry_expirations_total",
            Kind::Counter,
            "Instances removed for their silence.",
            |r| r.expirations,
        ),
        ("evenkeel_registry_refused_total", Kind::Counter, "Requests refused.", |r| r.refused),
    ];
    for (name, kind, help, value) in families {
        out.family(name, kind, help);
        out.sample(&[], value(registry));
    }
}

/// A certificate is told by the first of its names, which is the domain of those by ACME.
fn certificates(out: &mut Text, all: &[CertificateStatus]) {
    if all.is_empty() {
        return;
    }
    type Value = fn(&CertificateStatus) -> Option<f64>;
    let families: [(&str, Kind, &str, Value); 5] = [
        (
            "evenkeel_certificate_not_after_seconds",
            Kind::Gauge,
            "When it ends, since 1970; absent while there is none.",
            |c| c.not_after_unix.map(|at| at as f64),
        ),
        (
            "evenkeel_acme_next_order_seconds",
            Kind::Gauge,
            "When the next order is due, since 1970.",
            |c| c.acme.as_ref().map(|acme| acme.next_unix as f64),
        ),
        (
            "evenkeel_acme_last_failure_seconds",
            Kind::Gauge,
            "When the last order failed, since 1970; absent once one succeeded.",
            |c| c.acme.as_ref().and_then(|acme| acme.failed_unix).map(|at| at as f64),
        ),
        ("evenkeel_acme_issued_total", Kind::Counter, "Certificates that came of orders.", |c| {
            c.acme.as_ref().map(|acme| acme.issued as f64)
        }),
        ("evenkeel_acme_failures_total", Kind::Counter, "Orders that failed.", |c| {
            c.acme.as_ref().map(|acme| acme.failed as f64)
        }),
    ];
    for (name, kind, help, value) in families {
        out.family(name, kind, help);
        // Two files may be for one name; the one that ends first is the one to be told of.
        let mut told: BTreeMap<(&str, &str), f64> = BTreeMap::new();
        for certificate in all {
            let named = certificate.names.first().map_or("", String::as_str);
            let labels = (certificate.listener.as_str(), named);
            if let Some(value) = value(certificate) {
                told.entry(labels).and_modify(|kept| *kept = kept.min(value)).or_insert(value);
            }
        }
        for ((listener, named), value) in told {
            out.sample(&[("listener", listener), ("name", named)], value);
        }
    }
}

fn discovery(out: &mut Text, discovery: &[DiscoveryStatus]) {
    if discovery.is_empty() {
        return;
    }
    type Value = fn(&DiscoveryStatus) -> Option<usize>;
    let families: [(&str, &str, Value); 4] = [
        ("evenkeel_discovery_connected", "1 if what is known is up to date, else 0.", |d| {
            Some(usize::from(d.connected))
        }),
        ("evenkeel_discovery_endpoints", "Endpoints that were found.", |d| Some(d.endpoints)),
        // What is asked for one service knows of no containers.
        ("evenkeel_discovery_containers", "Containers that run.", |d| {
            d.service.is_none().then_some(d.containers)
        }),
        ("evenkeel_discovery_left_out", "Containers that were meant to serve and do not.", |d| {
            d.service.is_none().then_some(d.left_out.len())
        }),
    ];
    for (name, help, value) in families {
        out.family(name, Kind::Gauge, help);
        for status in discovery {
            let Some(value) = value(status) else { continue };
            let provider = ("provider", status.provider.as_str());
            match &status.service {
                None => out.sample(&[provider], value),
                Some(service) => out.sample(&[provider, ("service", service)], value),
            }
        }
    }
    let usage = || discovery.iter().flat_map(|d| &d.usage).take(ENDPOINTS_MAX);
    out.family("evenkeel_container_cpus", Kind::Gauge, "Processors that it keeps busy.");
    for usage in usage() {
        out.sample(&[("container", &usage.id), ("name", &usage.name)], usage.cpus);
    }
    out.family("evenkeel_container_memory_bytes", Kind::Gauge, "Memory in use.");
    for usage in usage() {
        out.sample(&[("container", &usage.id), ("name", &usage.name)], usage.memory_bytes);
    }
}

fn agent(out: &mut Text, wires: &[AgentCounts]) {
    out.family("evenkeel_agent_outstanding", Kind::Gauge, "Picks of callers, not yet reported.");
    for counts in wires {
        out.sample(&[("wire", &counts.wire)], counts.outstanding);
    }
    out.family("evenkeel_agent_picks_total", Kind::Counter, "Endpoints that callers were given.");
    for counts in wires {
        out.sample(&[("wire", &counts.wire)], counts.picks);
    }
    type Values = fn(&AgentCounts) -> Vec<(&'static str, u64)>;
    let families: [(&str, &str, &str, Values); 4] = [
        ("evenkeel_agent_refused_total", "Callers that got no endpoint.", "reason", |c| {
            vec![
                ("no_endpoint", c.no_endpoint),
                ("overloaded", c.overloaded),
                ("unknown", c.unknown),
            ]
        }),
        ("evenkeel_agent_reports_total", "How calls went, as callers say.", "outcome", |c| {
            vec![
                ("success", c.successes),
                ("failure", c.failures),
                ("abandoned", c.abandoned),
                ("unmatched", c.unmatched),
            ]
        }),
        ("evenkeel_agent_unreported_total", "Picks that nobody reported.", "reason", |c| {
            vec![("expired", c.expired), ("crowded_out", c.crowded_out)]
        }),
        ("evenkeel_agent_ignored_total", "What was not answered.", "reason", |c| {
            vec![("malformed", c.malformed), ("not_admitted", c.not_admitted)]
        }),
    ];
    for (name, help, label, values) in families {
        out.family(name, Kind::Counter, help);
        for counts in wires {
            for (value, count) in values(counts) {
                out.sample(&[("wire", &counts.wire), (label, value)], count);
            }
        }
    }
}

// These names are not ours but those of every Prometheus client library, so that dashboards
// know them.
fn process_values(out: &mut Text, process: &Process) {
    type Value = fn(&Process) -> Option<f64>;
    let families: [(&str, Kind, &str, Value); 6] = [
        ("process_resident_memory_bytes", Kind::Gauge, "Memory in use.", |p| {
            p.resident_bytes.map(|bytes| bytes as f64)
        }),
        ("process_open_fds", Kind::Gauge, "Open files and sockets.", |p| {
            p.open_files.map(|files| files as f64)
        }),
        ("process_max_fds", Kind::Gauge, "How many of them are allowed.", |p| {
            p.open_files_max.map(|files| files as f64)
        }),
        ("process_threads", Kind::Gauge, "Threads.", |p| p.threads.map(|threads| threads as f64)),
        ("process_cpu_seconds_total", Kind::Counter, "User and system time.", |p| p.cpu_seconds),
        ("process_start_time_seconds", Kind::Gauge, "When it started, since 1970.", |p| p.started),
    ];
    for (name, kind, help, value) in families {
        if let Some(value) = value(process) {
            out.family(name, kind, help);
            out.sample(&[], value);
        }
    }
}

#[cfg(test)]
mod tests;
