use std::path::Path;
use std::sync::Arc;

use model::spec::{EndpointSource, RunSpec, ServiceSpec};
use model::status::ServiceStatus;
use model::{Endpoint, Instant};
use proxy::Proxy;
use service::Service;

use super::identity;
use super::replicas::Fleet;

/// A service in use and, if we run its replicas, their fleet.
pub(super) struct Running {
    pub(super) service: Arc<Service>,
    pub(super) fleet: Option<Fleet>,
}

impl Running {
    pub(super) fn start(proxy: &Proxy, spec: &ServiceSpec, directory: &Path) -> Self {
        let service = Service::new(spec, proxy.events(), proxy.now(), identity());
        proxy.watch(Arc::clone(&service));
        let mut running = Self { service, fleet: None };
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
            EndpointSource::Static(_) => self.fleet.take(),
        };
        if let Some(fleet) = &superfluous {
            fleet.detach();
        }
        let former = match &self.service.settings().source {
            EndpointSource::Static(endpoints) => endpoints.clone(),
            EndpointSource::Run(_) => Vec::new(),
        };
        self.service.update(spec, proxy.now());
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

    /// How many endpoints there are, or should be.
    pub(super) fn endpoint_count(&self) -> usize {
        match (&self.fleet, &self.service.settings().source) {
            (Some(fleet), _) => fleet.wanted(),
            (None, EndpointSource::Static(endpoints)) => endpoints.len(),
            (None, EndpointSource::Run(_)) => 0,
        }
    }

    pub(super) fn status(&self, now: Instant) -> ServiceStatus {
        let mut status = self.service.status_at(now);
        status.sessions = self.service.session_status(now);
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
