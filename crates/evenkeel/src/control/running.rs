use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use discovery::Listed;
use model::spec::{EndpointSource, RunSpec, ServiceSpec};
use model::status::ServiceStatus;
use model::{Endpoint, EndpointId, Instant};
use proxy::Proxy;
use service::{Events, Service};

use super::identity;
use super::replicas::Fleet;

/// A service in use and, if we run its replicas, their fleet.
pub(super) struct Running {
    pub(super) service: Arc<Service>,
    pub(super) fleet: Option<Fleet>,
    /// The endpoints that were found, if they are.
    discovered: Vec<Listed>,
    /// Of them, those that discovery drained; what an operator drained is his.
    drained: BTreeSet<EndpointId>,
}

impl Running {
    pub(super) fn start(
        proxy: &Proxy,
        events: Arc<dyn Events>,
        spec: &ServiceSpec,
        directory: &Path,
    ) -> Self {
        let service = Service::new(spec, events, proxy.now(), identity());
        proxy.watch(Arc::clone(&service));
        let mut running =
            Self { service, fleet: None, discovered: Vec::new(), drained: BTreeSet::new() };
        running.follow(proxy, spec, directory, Vec::new());
        running
    }

    /// The new specification holds from now on. If another source of endpoints makes a fleet
    /// superfluous, it is handed back to be stopped.
    pub(super) fn update(
        &mut self,
        proxy: &Proxy,
        spec: &ServiceSpec,
        directory: &Path,
    ) -> Option<Fleet> {
        let superfluous = match spec.source {
            EndpointSource::Run(_) => None,
            EndpointSource::Static(_) | EndpointSource::Discover(_) => self.fleet.take(),
        };
        if let Some(fleet) = &superfluous {
            fleet.detach();
        }
        let former = match &self.service.settings().source {
            EndpointSource::Static(endpoints) => endpoints.clone(),
            EndpointSource::Run(_) => Vec::new(),
            EndpointSource::Discover(_) => {
                self.discovered.iter().map(|listed| listed.endpoint.clone()).collect()
            }
        };
        if !matches!(spec.source, EndpointSource::Discover(_)) {
            self.discovered.clear();
            self.drained.clear();
        }
        self.service.update(spec, proxy.now());
        proxy.refresh(&self.service);
        self.follow(proxy, spec, directory, former);
        superfluous
    }

    fn follow(
        &mut self,
        proxy: &Proxy,
        spec: &ServiceSpec,
        directory: &Path,
        former: Vec<Endpoint>,
    ) {
        let EndpointSource::Run(run) = &spec.source else { return };
        let run = placed(run, directory);
        match &self.fleet {
            Some(fleet) => fleet.update(run),
            None => {
                let service = Arc::clone(&self.service);
                self.fleet = Some(Fleet::start(service, proxy.clone(), run, former));
            }
        }
    }

    /// Who was found, in place of who was. `gone`: who is no longer there has ended, and is not
    /// left to stand by for others.
    pub(super) fn set_discovered(&mut self, listed: Vec<Listed>, gone: bool, now: Instant) {
        let service = &self.service;
        if !matches!(service.settings().source, EndpointSource::Discover(_)) {
            return;
        }
        let still = |id: &EndpointId| listed.iter().any(|listed| listed.endpoint.id == *id);
        // One that is unknown has left already: there is nothing to do, here and below.
        if gone {
            for former in self.discovered.iter().filter(|former| !still(&former.endpoint.id)) {
                let _ = service.retire(former.endpoint.id.as_str(), now);
            }
        }
        if self.discovered != listed || !gone {
            let endpoints = listed.iter().map(|listed| listed.endpoint.clone()).collect();
            service.set_endpoints(endpoints, now);
        }
        self.drained.retain(still);
        for Listed { endpoint, draining } in &listed {
            let id = endpoint.id.as_str();
            if *draining {
                let leaves = service.endpoint(id).is_some_and(|handle| handle.is_leaving());
                if !leaves && service.retire(id, now).is_ok() {
                    self.drained.insert(endpoint.id.clone());
                }
            } else if self.drained.remove(&endpoint.id) {
                let _ = service.undrain(id, now);
            }
        }
        self.discovered = listed;
    }

    /// Who was found, without those that leave; `None`: nobody, or that is not known yet.
    pub(super) fn found(&self) -> Option<Vec<Endpoint>> {
        let stay = self.discovered.iter().filter(|listed| !listed.draining);
        let found: Vec<Endpoint> = stay.map(|listed| listed.endpoint.clone()).collect();
        (!found.is_empty()).then_some(found)
    }

    /// This endpoint is not what it was: the next [`Running::set_discovered`] makes a new one.
    pub(super) fn forget_discovered(&mut self, id: &EndpointId, now: Instant) {
        let others = self.discovered.iter().filter(|listed| listed.endpoint.id != *id);
        self.set_discovered(others.cloned().collect(), true, now);
    }

    /// How many endpoints there are, or should be.
    pub(super) fn endpoint_count(&self) -> usize {
        match (&self.fleet, &self.service.settings().source) {
            (Some(fleet), _) => fleet.wanted(),
            (None, EndpointSource::Static(endpoints)) => endpoints.len(),
            (None, EndpointSource::Run(_)) => 0,
            (None, EndpointSource::Discover(_)) => {
                self.discovered.iter().filter(|listed| !listed.draining).count()
            }
        }
    }

    pub(super) fn status(&self, proxy: &Proxy) -> ServiceStatus {
        let now = proxy.now();
        let mut status = self.service.status_at(now);
        status.sessions = self.service.session_status(now);
        if let Some(sessions) = &mut status.sessions {
            sessions.store = proxy.session_store(self.service.name());
        }
        if let Some(fleet) = &self.fleet {
            status.replicas = Some(fleet.wanted());
            // They come in the order in which they started; people look for web-2 before web-10.
            status.endpoints.sort_by(|a, b| (a.id.len(), &a.id).cmp(&(b.id.len(), &b.id)));
        }
        status
    }

    /// Drains and stops what we run. The service itself must be closed before, or traffic over.
    pub(super) async fn stop(self) {
        if let Some(fleet) = self.fleet {
            fleet.stop().await;
        }
    }
}

/// Replicas start in the directory of the configuration file, and paths count from there.
fn placed(run: &RunSpec, directory: &Path) -> RunSpec {
    let cwd = match &run.cwd {
        None => directory.to_owned(),
        Some(cwd) => directory.join(cwd),
    };
    RunSpec { cwd: Some(cwd), ..run.clone() }
}
