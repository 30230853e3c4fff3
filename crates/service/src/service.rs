use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use model::spec::{EndpointSource, ServiceSpec};
use model::status::ServiceStatus;
use model::{Endpoint, EndpointId, Instant, Rng, ServiceName, Weight};

use crate::budget::RetryBudget;
use crate::control::{self, Control};
use crate::endpoint::Origin;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::{DueCheck, EndpointHandle, Events, Pick, Request, Token, UnknownEndpoint};

/// One service, always in an `Arc`, shared by all workers and the control side.
pub struct Service {
    origin: Arc<Origin>,
    snapshot: ArcSwap<Snapshot>,
    settings: ArcSwap<Settings>,
    budget: RetryBudget,
    /// Retries that the budget allowed, and that it forbade; picks that found nothing.
    retries: AtomicU64,
    retries_denied: AtomicU64,
    unavailable: AtomicU64,
    control: Mutex<Controlled>,
}

struct Controlled {
    control: Control,
    /// The snapshot before the present one, kept so that it is this side that drops it, not a
    /// worker that happened to be the last to read it.
    former: Option<Arc<Snapshot>>,
}

/// How often a pick looks again when the endpoint that it chose left in the same moment. Each
/// time there was a newer snapshot to look at, so a second look is rare and a third almost
/// unheard of.
const LOOKS_MAX: usize = 8;

impl Service {
    /// Static endpoints are taken from the specification; of a service that runs replicas,
    /// [`Service::set_endpoints`] names them later. The same seed and calls give the same picks.
    pub fn new(
        spec: &ServiceSpec,
        events: Arc<dyn Events>,
        now: Instant,
        seed: u64,
    ) -> Arc<Service> {
        let spec = Arc::new(spec.clone());
        let origin = control::origin(&spec.name, events);
        let control = Control::new(spec.clone(), origin.clone(), now, seed);
        let service = Arc::new(Self {
            origin,
            snapshot: ArcSwap::from_pointee(Snapshot::empty()),
            settings: ArcSwap::from_pointee(Settings::new(spec)),
            budget: RetryBudget::new(),
            retries: AtomicU64::new(0),
            retries_denied: AtomicU64::new(0),
            unavailable: AtomicU64::new(0),
            control: Mutex::new(Controlled { control, former: None }),
        });
        service.change(now, |_| ());
        service
    }

    pub fn name(&self) -> &ServiceName {
        &self.origin.service
    }

    // The data path: no lock, no allocation.

    /// The specification now in force.
    pub fn settings(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// The endpoint for this attempt; `None` if none is eligible. A request whose `exclude` is
    /// empty is counted as a new one by the retry budget.
    pub fn pick(&self, request: &Request<'_>, rng: &mut Rng) -> Option<Pick> {
        if request.exclude.is_empty() {
            self.budget.count_request(request.now);
        }
        for _ in 0..LOOKS_MAX {
            let snapshot = self.snapshot.load();
            let Some(endpoint) = snapshot.pick(request, rng) else { break };
            if let Some(pick) = Pick::begin(endpoint, request.now) {
                snapshot.ask(request.now, rng, |endpoint, path| {
                    self.origin.events.probe(self.name(), endpoint, path);
                });
                return Some(pick);
            }
        }
        self.unavailable.fetch_add(1, Relaxed);
        None
    }

    /// The endpoint that `token` names, instead of [`Service::pick`]; `None` if it can no longer
    /// serve, was tried already, or there never was one: the session moves then. It may be
    /// drained, or of a priority that is not in use now: sessions stay where they are as long as
    /// that works.
    pub fn resume(&self, token: Token, request: &Request<'_>) -> Option<Pick> {
        let snapshot = self.snapshot.load();
        let endpoint = snapshot.session(token).filter(|e| !request.exclude.contains(&e.key))?;
        let pick = Pick::resume(endpoint, request.now)?;
        if request.exclude.is_empty() {
            self.budget.count_request(request.now);
        }
        Some(pick)
    }

    /// Whether the budget allows one more retry now; if so, it is counted.
    pub fn admit_retry(&self, now: Instant) -> bool {
        let settings = self.settings.load();
        let admitted = self.budget.admit(settings.retry.budget, settings.retry.budget_min, now);
        let count = if admitted { &self.retries } else { &self.retries_denied };
        count.fetch_add(1, Relaxed);
        admitted
    }

    /// Counts a further attempt that needs no budget, since the one before sent nothing.
    pub fn count_retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    // The control side: short, behind a mutex.

    /// Takes a changed specification in place. What did not change is not touched. When replicas
    /// of our own replace static endpoints, these serve until the first
    /// [`Service::set_endpoints`].
    pub fn update(&self, spec: &ServiceSpec, now: Instant) {
        if ***self.settings.load() == *spec {
            return;
        }
        self.change(now, |control| {
            let spec = Arc::new(spec.clone());
            self.settings.store(Arc::new(Settings::new(spec.clone())));
            control.update(spec, now);
        });
    }

    /// The endpoints are these now, compared by id; of several with one id, the first counts.
    /// The same id at another address is another endpoint. If this leaves no healthy endpoint
    /// but names unproven ones, healthy removed ones serve until one is proven, at most for
    /// `drain_grace`.
    pub fn set_endpoints(&self, endpoints: Vec<Endpoint>, now: Instant) {
        self.change(now, |control| control.set_endpoints(endpoints, now));
    }

    /// It gets nothing new, finishes what it has until the grace is over, and stays listed. With
    /// affinity, what it has is its sessions, too.
    pub fn drain(&self, id: &str, now: Instant) -> Result<(), UnknownEndpoint> {
        self.change(now, |control| control.drain(id, true))
    }

    /// As [`Service::drain`], but its sessions move now: it is to end as soon as it is idle.
    pub fn retire(&self, id: &str, now: Instant) -> Result<(), UnknownEndpoint> {
        self.change(now, |control| control.drain(id, false))
    }

    /// Takes back [`Service::drain`] and [`Service::retire`].
    pub fn undrain(&self, id: &str, now: Instant) -> Result<(), UnknownEndpoint> {
        self.change(now, |control| control.undrain(id))
    }

    /// Overrides the endpoint's configured weight, until `None`.
    pub fn set_weight(
        &self,
        id: &str,
        weight: Option<Weight>,
        now: Instant,
    ) -> Result<(), UnknownEndpoint> {
        self.change(now, |control| control.set_weight(id, weight))
    }

    /// The service is removed: all its endpoints leave, and nothing changes it any more.
    pub fn close(&self, now: Instant) {
        self.change(now, Control::close);
    }

    /// When [`Service::due_checks`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.read(Control::poll_timeout)
    }

    /// Health checks that are to start now. Also does whatever else is due.
    pub fn due_checks(&self, now: Instant) -> Vec<DueCheck> {
        self.change(now, |control| control.due_checks(now))
    }

    /// The result of a [`DueCheck`], with a text for people if it failed.
    pub fn handle_check(
        &self,
        id: &EndpointId,
        generation: u64,
        result: Result<(), String>,
        now: Instant,
    ) {
        self.change(now, |control| control.handle_check(id, generation, result, now));
    }

    /// Judges an endpoint after [`Events::suspect`]. If its failures in a row still stand, it is
    /// out at once, and is checked at once; the last eligible endpoint is only checked.
    pub fn handle_suspect(&self, id: &EndpointId, now: Instant) {
        self.change(now, |control| control.handle_suspect(id, now));
    }

    pub fn status(&self) -> ServiceStatus {
        let settings = self.settings.load();
        ServiceStatus {
            name: self.name().to_string(),
            policy: settings.policy.name.clone(),
            replicas: match &settings.source {
                EndpointSource::Run(run) => Some(run.replicas),
                EndpointSource::Static(_) => None,
            },
            endpoints: self.read(Control::status),
            retries: self.retries.load(Relaxed),
            retries_denied: self.retries_denied.load(Relaxed),
            unavailable: self.unavailable.load(Relaxed),
        }
    }

    /// How many endpoints are healthy and not leaving, of all priorities.
    pub fn healthy(&self) -> usize {
        self.read(Control::healthy)
    }

    /// Whether there is an endpoint of this name, healthy and not leaving.
    pub fn is_healthy(&self, id: &str) -> bool {
        self.read(|control| control.is_healthy(id))
    }

    pub fn endpoint(&self, id: &str) -> Option<Arc<EndpointHandle>> {
        self.read(|control| control.endpoint(id))
    }

    /// The endpoints that picks now choose from.
    pub fn eligible(&self) -> Vec<Arc<EndpointHandle>> {
        self.snapshot.load().endpoints().to_vec()
    }

    fn read<R>(&self, read: impl FnOnce(&Control) -> R) -> R {
        // A panic elsewhere left it usable: every change is complete before it is published.
        let controlled = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        read(&controlled.control)
    }

    /// Changes something under the lock, publishes it, and tells of it after the lock.
    fn change<R>(&self, now: Instant, change: impl FnOnce(&mut Control) -> R) -> R {
        let mut controlled = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let Controlled { control, former } = &mut *controlled;
        let result = change(control);
        let notices = control.settle(now, |snapshot| {
            *former = Some(self.snapshot.swap(Arc::new(snapshot)));
        });
        drop(controlled);
        for endpoint in &notices.leaving {
            self.origin.events.leaving(self.name(), endpoint);
        }
        for endpoint in &notices.staying {
            self.origin.events.staying(self.name(), endpoint);
        }
        if notices.changed {
            self.origin.events.changed(self.name());
        }
        result
    }
}

#[cfg(test)]
mod tests;
