//! What services tell the data plane, passed on to whom it concerns.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use model::{EndpointId, ServiceName};
use service::{EndpointHandle, Events};
use tokio::sync::mpsc::{Sender, UnboundedSender};

use crate::probe::ProbeEvent;
use crate::probe::question::Question;
use crate::session_store::SessionStore;
use crate::worker::{Command, WorkerHandle};

/// The [`Events`] of every service that this data plane serves.
pub(crate) struct Lifecycle {
    workers: Arc<OnceLock<Vec<WorkerHandle>>>,
    probes: UnboundedSender<ProbeEvent>,
    questions: Sender<Question>,
    /// Of services whose sessions are shared.
    stores: ArcSwap<BTreeMap<ServiceName, Arc<SessionStore>>>,
}

impl Lifecycle {
    pub(crate) fn new(
        workers: Arc<OnceLock<Vec<WorkerHandle>>>,
        probes: UnboundedSender<ProbeEvent>,
        questions: Sender<Question>,
    ) -> Self {
        Self { workers, probes, questions, stores: ArcSwap::default() }
    }

    pub(crate) fn set_store(&self, service: &ServiceName, store: Option<Arc<SessionStore>>) {
        self.stores.rcu(|stores| {
            let mut stores = BTreeMap::clone(stores);
            match &store {
                Some(store) => drop(stores.insert(service.clone(), store.clone())),
                None => drop(stores.remove(service)),
            }
            stores
        });
    }

    fn tell(&self, endpoint: &Arc<EndpointHandle>) {
        for worker in self.workers.get().into_iter().flatten() {
            worker.send(Command::Leaving(endpoint.clone()));
        }
    }
}

impl Events for Lifecycle {
    fn suspect(&self, service: &ServiceName, endpoint: &EndpointId) {
        // A closed channel means that we are stopping.
        let _ = self.probes.send(ProbeEvent::Suspect(service.clone(), endpoint.clone()));
    }

    fn probe(&self, service: &ServiceName, endpoint: &Arc<EndpointHandle>, path: &Arc<str>) {
        // Left out if too many wait.
        let question =
            Question { service: service.clone(), endpoint: endpoint.clone(), path: path.clone() };
        let _ = self.questions.try_send(question);
    }

    fn leaving(&self, _service: &ServiceName, endpoint: &Arc<EndpointHandle>) {
        self.tell(endpoint);
    }

    fn staying(&self, _service: &ServiceName, endpoint: &Arc<EndpointHandle>) {
        self.tell(endpoint);
    }

    fn session_at(&self, service: &ServiceName, key: u64, endpoint: &EndpointId, moved: bool) {
        if let Some(store) = self.stores.load().get(service) {
            store.tell(key, endpoint, moved);
        }
    }

    fn changed(&self, service: &ServiceName) {
        let _ = self.probes.send(ProbeEvent::Changed(service.clone()));
    }
}
