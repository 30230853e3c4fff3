use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::*;
use crate::fake::{FakeControl, endpoint};

#[test]
fn counters_gauges_and_the_histogram_are_written() {
    let text = render(&FakeControl::new());
    for line in [
        "# TYPE evenkeel_listener_connections_total counter",
        "evenkeel_ready 1",
        "evenkeel_workers 2",
        "evenkeel_access_log_lines_total 40",
        "evenkeel_listener_connections_open{listener=\"front\"} 2",
        "evenkeel_listener_connections_total{listener=\"front\"} 30",
        "evenkeel_listener_responses_total{listener=\"front\",class=\"1xx\"} 1",
        "evenkeel_listener_responses_total{listener=\"front\",class=\"5xx\"} 5",
        "evenkeel_listener_resets_total{listener=\"front\"} 7",
        "evenkeel_service_endpoints{service=\"web\",state=\"healthy\"} 2",
        "evenkeel_service_endpoints{service=\"images\",state=\"healthy\"} 0",
        "evenkeel_service_replicas_wanted{service=\"web\"} 2",
        "evenkeel_service_retries_total{service=\"web\"} 3",
        "evenkeel_service_panic{service=\"web\"} 1",
        "evenkeel_ejections_total{service=\"web\",reason=\"consecutive\"} 4",
        "evenkeel_ejections_total{service=\"web\",reason=\"error_rate\"} 5",
        "evenkeel_ejections_total{service=\"web\",reason=\"latency\"} 6",
        "evenkeel_service_endpoints{service=\"web\",state=\"ejected\"} 0",
        "evenkeel_service_request_duration_seconds_bucket{service=\"web\",le=\"0.0005\"} 0",
        "evenkeel_service_request_duration_seconds_bucket{service=\"web\",le=\"0.001\"} 5",
        "evenkeel_service_request_duration_seconds_bucket{service=\"web\",le=\"0.0025\"} 8",
        "evenkeel_service_request_duration_seconds_bucket{service=\"web\",le=\"10\"} 8",
        "evenkeel_service_request_duration_seconds_bucket{service=\"web\",le=\"+Inf\"} 9",
        "evenkeel_service_request_duration_seconds_sum{service=\"web\"} 9",
        "evenkeel_service_request_duration_seconds_count{service=\"web\"} 9",
        "evenkeel_endpoint_healthy{service=\"web\",endpoint=\"web-1\"} 1",
        "evenkeel_endpoint_in_flight{service=\"web\",endpoint=\"[::1]:80\"} 4",
        "evenkeel_endpoint_latency_seconds{service=\"web\",endpoint=\"web-1\"} 0.0015",
        "evenkeel_certificate_not_after_seconds{listener=\"front\",name=\"a.test\"} 1900000000",
        "evenkeel_acme_next_order_seconds{listener=\"front\",name=\"c.test\"} 1800000300",
        "evenkeel_acme_last_failure_seconds{listener=\"front\",name=\"c.test\"} 1800000000",
        "evenkeel_acme_issued_total{listener=\"front\",name=\"c.test\"} 1",
        "evenkeel_acme_failures_total{listener=\"front\",name=\"c.test\"} 3",
        "evenkeel_discovery_connected{provider=\"docker\"} 1",
        "evenkeel_discovery_containers{provider=\"docker\"} 3",
        "evenkeel_discovery_left_out{provider=\"docker\"} 0",
        "evenkeel_container_cpus{container=\"4c01db0b339c\",name=\"web-1\"} 0.5",
        "evenkeel_container_memory_bytes{container=\"4c01db0b339c\",name=\"web-1\"} 4096",
        "evenkeel_agent_outstanding{wire=\"lars\"} 3",
        "evenkeel_agent_picks_total{wire=\"lars\"} 10",
        "evenkeel_agent_reports_total{wire=\"lars\",outcome=\"failure\"} 2",
        "evenkeel_agent_refused_total{wire=\"lars\",reason=\"overloaded\"} 4",
        "evenkeel_agent_unreported_total{wire=\"lars\",reason=\"expired\"} 1",
        "evenkeel_agent_ignored_total{wire=\"lars\",reason=\"malformed\"} 5",
        "evenkeel_registry_instances 3",
        "evenkeel_registry_preserving 1",
        "evenkeel_metrics_endpoints_omitted 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\nis not in\n{text}");
    }
    assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
    assert!(text.contains("\nprocess_open_fds "), "{text}");
    assert!(!text.contains("replicas_wanted{service=\"images\"}"), "{text}");
}

/// Every line is a comment or a sample of the family announced last, and no series comes twice.
#[test]
fn the_text_keeps_the_format() {
    let text = render(&FakeControl::new());
    let (mut family, mut series, mut families) = ("", BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().unwrap();
            assert!(families.insert(family), "{family} is announced twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert!(rest.starts_with(family), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(family), "{line} is not of {family}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(name), "{name} comes twice");
        }
    }
    assert!(text.ends_with('\n'));
}

#[test]
fn labels_are_escaped() {
    let control = FakeControl::new();
    control.services.lock().unwrap()[0].name = "we\"b\\\n1".into();
    let text = render(&control);
    assert!(text.contains(r#"evenkeel_service_retries_total{service="we\"b\\\n1"} 3"#), "{text}");
}

#[test]
fn endpoints_beyond_the_bound_are_counted_only() {
    let control = FakeControl::new();
    control.services.lock().unwrap()[1].endpoints =
        (0..ENDPOINTS_MAX).map(|n| endpoint(&format!("images-{n}"))).collect();
    let text = render(&control);
    let listed = text.lines().filter(|l| l.starts_with("evenkeel_endpoint_healthy{")).count();
    assert_eq!(listed, ENDPOINTS_MAX);
    assert!(text.contains("\nevenkeel_metrics_endpoints_omitted 2\n"));
}

/// The bound is 100 ms for an optimized build; an unoptimized one gets ten times that.
#[test]
fn ten_thousand_endpoints_are_rendered_fast() {
    let control = FakeControl::new();
    control.services.lock().unwrap()[1].endpoints =
        (0..10_000).map(|n| endpoint(&format!("images-{n}"))).collect();
    let started = Instant::now();
    let bytes = render(&control).len();
    let took = started.elapsed();
    println!("10,000 endpoints: {bytes} bytes in {took:?}");
    let bound = Duration::from_millis(if cfg!(debug_assertions) { 1000 } else { 100 });
    assert!(took < bound, "{took:?}");
}
