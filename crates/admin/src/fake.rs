//! A fake [`Control`] for tests: it holds two services and remembers what it was asked to do.

use std::sync::Mutex;

use model::status::{
    AcmeStatus, AgentCounts, AgentStatus, CertificateStatus, ContainerUsage, DemandStatus,
    DiscoveryStatus, EjectionCounts, EndpointState, EndpointStatus, HeldStatus, ListenerMetrics,
    ListenerStatus, Metrics, QueueStatus, RegistryStatus, ScalingStatus, ServiceMetrics,
    ServiceStatus, SessionStatus,
};

use crate::{BoxFuture, Control, ControlError};

pub(crate) struct FakeControl {
    pub(crate) services: Mutex<Vec<ServiceStatus>>,
    pub(crate) config: Mutex<String>,
    pub(crate) unready: Mutex<Option<String>>,
    pub(crate) scalings: Mutex<Vec<ScalingStatus>>,
}

impl FakeControl {
    pub(crate) fn new() -> Self {
        let web = ServiceStatus {
            name: "web".into(),
            policy: "round_robin".into(),
            replicas: Some(2),
            endpoints: vec![endpoint("web-1"), endpoint("[::1]:80")],
            retries: 3,
            retries_denied: 1,
            hedges: 7,
            hedges_denied: 4,
            hedges_won: 5,
            unavailable: 2,
            panic: true,
            ejections: EjectionCounts { consecutive: 4, error_rate: 5, latency: 6 },
            sessions: Some(SessionStatus { entries: 12, max: 100, evictions: 4, store: None }),
            queue: QueueStatus::default(),
            asleep: false,
        };
        let images = ServiceStatus {
            name: "images".into(),
            replicas: None,
            endpoints: Vec::new(),
            sessions: None,
            ..web.clone()
        };
        Self {
            services: Mutex::new(vec![web, images]),
            config: Mutex::new("listeners: {}\n".into()),
            unready: Mutex::new(None),
            scalings: Mutex::default(),
        }
    }

    fn change(
        &self,
        service: &str,
        id: &str,
        change: impl FnOnce(&mut EndpointStatus),
    ) -> Result<(), ControlError> {
        let mut services = self.services.lock().unwrap();
        let endpoint = services
            .iter_mut()
            .filter(|s| s.name == service)
            .flat_map(|s| &mut s.endpoints)
            .find(|e| e.id == id)
            .ok_or_else(|| ControlError::NotFound(format!("no {service}/{id}")))?;
        change(endpoint);
        Ok(())
    }
}

pub(crate) fn endpoint(id: &str) -> EndpointStatus {
    EndpointStatus {
        id: id.into(),
        address: "127.0.0.1:5001".parse().unwrap(),
        weight: 1,
        priority: 0,
        zone: None,
        state: EndpointState::Healthy,
        reason: "checked".into(),
        in_flight: 4,
        limit: None,
        queued: 0,
        requests: 100,
        failures: 5,
        latency_us: Some(1500),
        measured: 95,
        latency_sum_us: 150_000,
        resting: false,
        utilization: None,
    }
}

impl Control for FakeControl {
    fn services(&self) -> Vec<ServiceStatus> {
        self.services.lock().unwrap().clone()
    }
    fn listeners(&self) -> Vec<ListenerStatus> {
        vec![ListenerStatus {
            name: "front".into(),
            bind: "127.0.0.1:8080".parse().unwrap(),
            protocol: "http".into(),
            routes: 1,
            connections: 2,
            connections_total: 3,
            requests_total: 4,
        }]
    }
    fn certificates(&self) -> Vec<CertificateStatus> {
        let acme = AcmeStatus {
            next_unix: 1_800_000_300,
            failures: 2,
            failed_unix: Some(1_800_000_000),
            issued: 1,
            failed: 3,
            ..AcmeStatus::default()
        };
        let status = |names: &[&str], not_after_unix, acme: Option<AcmeStatus>| CertificateStatus {
            listener: "front".into(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            source: if acme.is_some() { "acme" } else { "file" }.into(),
            not_after_unix,
            acme,
        };
        vec![
            status(&["a.test", "b.test"], Some(1_900_000_000), None),
            status(&["c.test"], None, Some(acme)),
        ]
    }
    fn discovery(&self) -> Vec<DiscoveryStatus> {
        vec![DiscoveryStatus {
            provider: "docker".into(),
            connected: true,
            containers: 3,
            usage: vec![ContainerUsage {
                id: "4c01db0b339c".into(),
                name: "web-1".into(),
                cpus: 0.5,
                cpus_limit: 2.0,
                memory_bytes: 4096,
                memory_limit_bytes: 1 << 30,
            }],
            ..DiscoveryStatus::default()
        }]
    }
    fn registry(&self) -> Option<RegistryStatus> {
        Some(RegistryStatus {
            store: "local".into(),
            connected: true,
            instances: 3,
            preserving_ms: Some(7),
            ..RegistryStatus::default()
        })
    }
    fn agent(&self) -> Option<AgentStatus> {
        let lars = AgentCounts {
            wire: "lars".into(),
            outstanding: 3,
            picks: 10,
            failures: 2,
            overloaded: 4,
            expired: 1,
            malformed: 5,
            ..AgentCounts::default()
        };
        Some(AgentStatus { counts: vec![lars], ..AgentStatus::default() })
    }
    fn scalings(&self) -> Vec<ScalingStatus> {
        self.scalings.lock().unwrap().clone()
    }
    fn note_scaling(
        &self,
        service: String,
        from: usize,
        to: usize,
        reason: String,
        unix_ms: Option<u64>,
    ) -> ScalingStatus {
        let scaling = ScalingStatus { service, from, to, reason, unix_ms: unix_ms.unwrap_or(7) };
        self.scalings.lock().unwrap().push(scaling.clone());
        scaling
    }
    fn demand(&self, after: Option<u64>) -> BoxFuture<'_, DemandStatus> {
        let demand = vec![HeldStatus { service: "web".into(), held: 3 }];
        Box::pin(async move { DemandStatus { seq: after.unwrap_or(0) + 1, demand } })
    }
    fn config(&self) -> String {
        self.config.lock().unwrap().clone()
    }
    fn apply(&self, text: String) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move {
            if text.contains("bad") {
                return Err("posted:1:1: unknown key \"bad\"".into());
            }
            *self.config.lock().unwrap() = text;
            Ok("changed: everything".into())
        })
    }
    fn scale(&self, service: &str, replicas: usize) -> Result<usize, ControlError> {
        let mut services = self.services.lock().unwrap();
        let service = services
            .iter_mut()
            .find(|s| s.name == service)
            .ok_or_else(|| ControlError::NotFound(format!("no {service}")))?;
        if service.replicas.is_none() {
            return Err(ControlError::Refused("it has no replicas of ours".into()));
        }
        service.replicas = Some(replicas);
        Ok(replicas)
    }
    fn drain(&self, service: &str, endpoint: &str) -> Result<(), ControlError> {
        self.change(service, endpoint, |e| e.state = EndpointState::Draining)
    }
    fn undrain(&self, service: &str, endpoint: &str) -> Result<(), ControlError> {
        self.change(service, endpoint, |e| e.state = EndpointState::Healthy)
    }
    fn set_weight(
        &self,
        service: &str,
        endpoint: &str,
        weight: Option<u16>,
    ) -> Result<(), ControlError> {
        self.change(service, endpoint, |e| e.weight = weight.unwrap_or(1))
    }
    fn ready(&self) -> Result<(), String> {
        self.unready.lock().unwrap().clone().map_or(Ok(()), Err)
    }
    fn metrics(&self) -> Metrics {
        Metrics {
            listeners: vec![ListenerMetrics {
                name: "front".into(),
                connections_open: 2,
                connections: 30,
                refused: 1,
                responses: [7, 1, 20, 3, 4, 5],
                malformed: 6,
                handshakes: 8,
                handshakes_failed: 9,
                downstream_bytes_in: 1000,
                downstream_bytes_out: 2000,
            }],
            services: vec![ServiceMetrics {
                name: "web".into(),
                latency_us: vec![(1000, 5), (2500, 3), (u64::MAX, 1)],
                latency_us_sum: 9_000_000,
            }],
            access_log_written: 40,
            access_log_dropped: 0,
            workers: 2,
        }
    }
}
