//! Between a service and the runner of its replicas.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::spec::RunSpec;
use model::{Endpoint, EndpointId};
use proxy::Proxy;
use runner::{ProcessRunner, Replicas, Watchdog};
use service::{EndpointHandle, Service};
use tokio::time::sleep;
use tracing::warn;

/// After a drain was published, a worker may still hold the snapshot before it for the length of
/// one pick. So long nobody believes that nothing is in flight.
const SETTLE: Duration = Duration::from_millis(100);

/// Between looks whether the last stream has ended.
const POLL: Duration = Duration::from_millis(20);

/// After the grace, for the workers to cut off what is left.
const CUT_OFF: Duration = Duration::from_millis(500);

/// The replicas of one service.
pub(super) struct Fleet {
    runner: ProcessRunner,
    link: Arc<Link>,
}

impl Fleet {
    pub(super) fn start(service: Arc<Service>, proxy: Proxy, run: RunSpec) -> Self {
        if let Err(error) = Watchdog::start(None) {
            warn!("no watchdog: if the balancer is killed, replicas may stay behind: {error}");
        }
        let name = service.name().clone();
        let link = Arc::new(Link {
            service,
            proxy,
            handles: Mutex::default(),
            detached: AtomicBool::new(false),
        });
        let runner = ProcessRunner::start(name, run, Arc::clone(&link) as _);
        Self { runner, link }
    }

    pub(super) fn update(&self, run: RunSpec) {
        self.runner.update(run);
    }

    pub(super) fn scale(&self, replicas: usize) {
        self.runner.scale(replicas);
    }

    pub(super) fn wanted(&self) -> usize {
        self.runner.wanted()
    }

    /// From now on the service's endpoints come from elsewhere.
    pub(super) fn detach(&self) {
        self.link.detached.store(true, SeqCst);
    }

    pub(super) async fn stop(self) {
        self.runner.stop().await;
    }
}

struct Link {
    service: Arc<Service>,
    proxy: Proxy,
    /// Of the replicas that run: a service forgets an endpoint that is removed from it, and its
    /// streams must end before the replica is stopped all the same.
    handles: Mutex<BTreeMap<EndpointId, Arc<EndpointHandle>>>,
    detached: AtomicBool,
}

impl Link {
    fn handles(&self) -> MutexGuard<'_, BTreeMap<EndpointId, Arc<EndpointHandle>>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Replicas for Link {
    fn set(&self, endpoints: Vec<Endpoint>) {
        if self.detached.load(SeqCst) {
            return;
        }
        let ids: Vec<EndpointId> = endpoints.iter().map(|endpoint| endpoint.id.clone()).collect();
        self.service.set_endpoints(endpoints, self.proxy.now());
        let find = |id: EndpointId| Some((id.clone(), self.service.endpoint(id.as_str())?));
        *self.handles() = ids.into_iter().filter_map(find).collect();
    }

    fn is_healthy(&self, id: &EndpointId) -> bool {
        self.service.is_healthy(id.as_str())
    }

    fn drain(&self, id: &EndpointId) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        // Fails for one that was never published, or left with its service: then it is drained.
        let _ = self.service.drain(id.as_str(), self.proxy.now());
        let Some(handle) = self.handles().get(id).cloned() else {
            return Box::pin(async {});
        };
        let grace = self.service.settings().drain_grace;
        let idle = async move {
            sleep(SETTLE).await;
            while handle.in_flight() > 0 {
                sleep(POLL).await;
            }
        };
        Box::pin(async move {
            let _ = tokio::time::timeout(grace + CUT_OFF, idle).await;
        })
    }
}
