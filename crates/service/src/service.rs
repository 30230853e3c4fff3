use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use model::spec::ServiceSpec;
use model::status::ServiceStatus;
use model::{Endpoint, EndpointId, Instant, Rng, ServiceName, Weight};

use crate::{DueCheck, EndpointHandle, Events, Pick, Request, UnknownEndpoint};

/// One service, always in an `Arc`, shared by all workers and the control side.
pub struct Service {
    name: ServiceName,
    settings: ArcSwap<ServiceSpec>,
    events: Arc<dyn Events>,
}

impl Service {
    /// Static endpoints are taken from the specification; of a service that runs replicas,
    /// [`Service::set_endpoints`] names them later. The same seed and calls give the same picks.
    pub fn new(
        spec: &ServiceSpec,
        events: Arc<dyn Events>,
        now: Instant,
        seed: u64,
    ) -> Arc<Service> {
        let _ = (now, seed);
        Arc::new(Self {
            name: spec.name.clone(),
            settings: ArcSwap::from_pointee(spec.clone()),
            events,
        })
    }

    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    // The data path: no lock, no allocation.

    /// The specification now in force.
    pub fn settings(&self) -> Guard<Arc<ServiceSpec>> {
        self.settings.load()
    }

    /// The endpoint for this attempt; `None` if none is eligible.
    pub fn pick(&self, request: &Request<'_>, rng: &mut Rng) -> Option<Pick> {
        let _ = (request, rng);
        None
    }

    /// Whether the budget allows one more retry now; if so, it is counted.
    pub fn admit_retry(&self, now: Instant) -> bool {
        let _ = now;
        false
    }

    // The control side: short, behind a mutex.

    /// Takes a changed specification in place. What did not change is not touched.
    pub fn update(&self, spec: &ServiceSpec, now: Instant) {
        let _ = (spec, now);
        self.events.changed(&self.name);
    }

    /// The endpoints are these now, compared by id.
    pub fn set_endpoints(&self, endpoints: Vec<Endpoint>, now: Instant) {
        let _ = (endpoints, now);
    }

    /// It gets nothing new, finishes what it has until the grace is over, and stays listed.
    pub fn drain(&self, id: &str, now: Instant) -> Result<(), UnknownEndpoint> {
        let _ = now;
        Err(UnknownEndpoint(id.into()))
    }

    /// Takes back [`Service::drain`].
    pub fn undrain(&self, id: &str, now: Instant) -> Result<(), UnknownEndpoint> {
        let _ = now;
        Err(UnknownEndpoint(id.into()))
    }

    /// Overrides the endpoint's configured weight, until `None`.
    pub fn set_weight(
        &self,
        id: &str,
        weight: Option<Weight>,
        now: Instant,
    ) -> Result<(), UnknownEndpoint> {
        let _ = (weight, now);
        Err(UnknownEndpoint(id.into()))
    }

    /// The service is removed: all its endpoints leave.
    pub fn close(&self, now: Instant) {
        let _ = now;
    }

    /// When [`Service::due_checks`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Health checks that are to start now. Also does whatever else is due.
    pub fn due_checks(&self, now: Instant) -> Vec<DueCheck> {
        let _ = now;
        Vec::new()
    }

    /// The result of a [`DueCheck`], with a text for people if it failed.
    pub fn handle_check(
        &self,
        id: &EndpointId,
        generation: u64,
        result: Result<(), String>,
        now: Instant,
    ) {
        let _ = (id, generation, result, now);
    }

    /// Judges an endpoint after [`Events::suspect`].
    pub fn handle_suspect(&self, id: &EndpointId, now: Instant) {
        let _ = (id, now);
    }

    pub fn status(&self) -> ServiceStatus {
        ServiceStatus {
            name: self.name.to_string(),
            policy: String::new(),
            replicas: None,
            endpoints: Vec::new(),
            retries: 0,
            retries_denied: 0,
            unavailable: 0,
        }
    }

    /// How many endpoints are healthy and not leaving.
    pub fn healthy(&self) -> usize {
        0
    }

    pub fn is_healthy(&self, id: &str) -> bool {
        let _ = id;
        false
    }

    pub fn endpoint(&self, id: &str) -> Option<Arc<EndpointHandle>> {
        let _ = id;
        None
    }
}
