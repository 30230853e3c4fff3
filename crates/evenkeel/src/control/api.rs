//! What the admin API may see and do.

use std::sync::Arc;

use ::agent::Agent;
use admin::{BoxFuture, Control, ControlError};
use config::suggest::help;
use model::spec::EndpointSource;
use model::status::{
    AgentStatus, CertificateStatus, DemandStatus, DiscoveryStatus, ListenerStatus, Metrics,
    RegistryStatus, ScalingStatus, ServiceStatus,
};
use model::{ServiceName, Weight};
use service::{Service, UnknownEndpoint};
use tracing::info;

use super::{State, Supervisor};

/// Replicas of one service; the same bound as `run.replicas` has.
const REPLICAS_MAX: usize = 1000;

/// Endpoints that the answer to an unknown one names; more would hide the message.
const ENDPOINTS_LISTED_MAX: usize = 12;

pub(super) struct Api(pub(super) Arc<Supervisor>);

impl Api {
    fn service(&self, name: &str) -> Result<Arc<Service>, ControlError> {
        let state = self.0.state();
        state
            .services
            .get(name)
            .map(|running| Arc::clone(&running.service))
            .ok_or_else(|| unknown(name, &state))
    }
}

fn unknown(service: &str, state: &State) -> ControlError {
    let known = state.services.keys().map(ServiceName::as_str);
    let help = help(service, known, "services");
    ControlError::NotFound(format!("there is no service {service:?}; {help}"))
}

fn unknown_endpoint(service: &Service) -> impl Fn(UnknownEndpoint) -> ControlError {
    move |UnknownEndpoint(id)| {
        let status = service.status();
        let mut known: Vec<&str> = status.endpoints.iter().map(|e| e.id.as_str()).collect();
        known.sort_unstable();
        // Two ids differ by as little as a number, so the nearest one is no good guess.
        let help = match status.endpoints.len() {
            0 => "it has none".to_owned(),
            1..=ENDPOINTS_LISTED_MAX => format!("it has {}", known.join(", ")),
            _ => help(id.as_str(), known.iter().copied(), "endpoints"),
        };
        let name = service.name();
        ControlError::NotFound(format!("service {name} has no endpoint {id:?}; {help}"))
    }
}

impl Control for Api {
    fn services(&self) -> Vec<ServiceStatus> {
        let state = self.0.state();
        state.services.values().map(|running| running.status(&self.0.proxy)).collect()
    }

    fn service(&self, name: &str) -> Option<ServiceStatus> {
        let state = self.0.state();
        state.services.get(name).map(|running| running.status(&self.0.proxy))
    }

    fn listeners(&self) -> Vec<ListenerStatus> {
        self.0.proxy.listeners()
    }

    fn certificates(&self) -> Vec<CertificateStatus> {
        self.0.certificates()
    }

    fn discovery(&self) -> Vec<DiscoveryStatus> {
        let state = self.0.state();
        let mut status = state.discovery.status();
        status.extend(state.sources.status());
        status
    }

    fn registry(&self) -> Option<RegistryStatus> {
        self.0.state().registry.status()
    }

    fn agent(&self) -> Option<AgentStatus> {
        self.0.state().agent.as_ref().map(Agent::status)
    }

    fn scalings(&self) -> Vec<ScalingStatus> {
        self.0.state().scalings.iter().cloned().collect()
    }

    fn note_scaling(
        &self,
        service: String,
        from: usize,
        to: usize,
        reason: String,
        unix_ms: Option<u64>,
    ) -> ScalingStatus {
        self.0.note_scaling(service, from, to, reason, unix_ms)
    }

    fn demand(&self, after: Option<u64>) -> BoxFuture<'_, DemandStatus> {
        Box::pin(self.0.demand(after))
    }

    fn config(&self) -> String {
        // Who may look should not be able to write cookies for others.
        let text = Arc::clone(&self.0.state().text);
        config::redacted(&text)
    }

    fn apply(&self, text: String) -> BoxFuture<'_, Result<String, String>> {
        let Ok(place) = Arc::clone(&self.0.posted).try_acquire_owned() else {
            let message = "too many posted configurations wait for their turn; try again later";
            return Box::pin(async { Err(message.to_owned()) });
        };
        // In a task of its own: it must not stop half-way when the client goes away.
        let supervisor = Arc::clone(&self.0);
        let applied = tokio::spawn(async move {
            let _place = place;
            supervisor.apply_text("posted".to_owned(), text.into()).await
        });
        Box::pin(async move {
            let outcome = applied.await.map_err(|error| error.to_string())?;
            match &outcome {
                Ok(summary) => info!("posted configuration: {summary}"),
                Err(message) => info!("posted configuration is refused:\n{message}"),
            }
            outcome
        })
    }

    fn scale(&self, service: &str, replicas: usize) -> Result<usize, ControlError> {
        let state = self.0.state();
        let running = state.services.get(service).ok_or_else(|| unknown(service, &state))?;
        let Some(fleet) = &running.fleet else {
            let why = match running.service.settings().source {
                EndpointSource::Static(_) => "its endpoints are listed in the configuration",
                EndpointSource::Run(_) => "its replicas are not started yet",
                EndpointSource::Discover(_) => "its endpoints are found, not started, here",
            };
            return Err(ControlError::Refused(format!(
                "service {service:?} cannot be scaled: {why}"
            )));
        };
        if replicas > REPLICAS_MAX {
            let message = format!("{replicas} replicas are too many; at most {REPLICAS_MAX}");
            return Err(ControlError::Refused(message));
        }
        info!("service {service}: {replicas} replicas wanted (before: {})", fleet.wanted());
        fleet.scale(replicas);
        running.service.want(replicas, self.0.proxy.now());
        Ok(replicas)
    }

    fn drain(&self, service: &str, endpoint: &str) -> Result<(), ControlError> {
        let now = self.0.proxy.now();
        let drained = self.service(service)?;
        drained.drain(endpoint, now).map_err(unknown_endpoint(&drained))?;
        info!("service {service}: {endpoint} is drained");
        Ok(())
    }

    fn undrain(&self, service: &str, endpoint: &str) -> Result<(), ControlError> {
        let now = self.0.proxy.now();
        let drained = self.service(service)?;
        drained.undrain(endpoint, now).map_err(unknown_endpoint(&drained))?;
        info!("service {service}: {endpoint} takes part again");
        Ok(())
    }

    fn set_weight(
        &self,
        service: &str,
        endpoint: &str,
        weight: Option<u16>,
    ) -> Result<(), ControlError> {
        let now = self.0.proxy.now();
        let weighted = self.service(service)?;
        weighted
            .set_weight(endpoint, weight.map(Weight), now)
            .map_err(unknown_endpoint(&weighted))?;
        match weight {
            Some(weight) => info!("service {service}: {endpoint} has weight {weight}"),
            None => info!("service {service}: {endpoint} has its configured weight"),
        }
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        if *self.0.stopping.borrow() {
            return Err("stopping".into());
        }
        let state = self.0.state();
        if !state.begun {
            return Err("starting".into());
        }
        if let Some(why) = state.awaited() {
            return Err(why);
        }
        for (name, running) in &state.services {
            // Who asks for one that sleeps is served all the same.
            if running.service.is_asleep() {
                continue;
            }
            if running.endpoint_count() > 0 && running.service.healthy() == 0 {
                return Err(format!("service {name} has no healthy endpoint"));
            }
        }
        Ok(())
    }

    fn metrics(&self) -> Metrics {
        self.0.proxy.metrics()
    }
}
