use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use model::{Endpoint, EndpointId};

use crate::Replicas;

/// The replicas that run, as the service knows them.
pub(crate) struct Published {
    replicas: Arc<dyn Replicas>,
    running: Mutex<BTreeMap<u32, Endpoint>>,
}

impl Published {
    pub(crate) fn new(replicas: Arc<dyn Replicas>) -> Self {
        Self { replicas, running: Mutex::default() }
    }

    pub(crate) fn replicas(&self) -> &dyn Replicas {
        &*self.replicas
    }

    pub(crate) fn add(&self, index: u32, id: EndpointId, port: u16) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let endpoint = Endpoint { id, ..Endpoint::at(address) };
        self.change(|running| running.insert(index, endpoint).is_none());
    }

    pub(crate) fn remove(&self, index: u32) {
        self.change(|running| running.remove(&index).is_some());
    }

    /// The service is told under the lock, so that it hears of changes in their order.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<u32, Endpoint>) -> bool) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if change(&mut running) {
            self.replicas.set(running.values().cloned().collect());
        }
    }
}
