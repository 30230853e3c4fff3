//! Between a service and the runner of its replicas.

use std::collections::BTreeMap;
use std::pin::Pin;
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
    /// `former` are endpoints that serve until the first replica has proven itself.
    pub(super) fn start(
        service: Arc<Service>,
        proxy: Proxy,
        run: RunSpec,
        former: Vec<Endpoint>,
    ) -> Self {
        if let Err(error) = Watchdog::start(None) {
            warn!("no watchdog: if the balancer is killed, replicas may stay behind: {error}");
        }
        let name = service.name().clone();
        let published = Mutex::new(Published { former, ..Published::default() });
        let link = Arc::new(Link { service, proxy, published });
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
        self.link.published().detached = true;
    }

    pub(super) async fn stop(self) {
        self.runner.stop().await;
    }
}

struct Link {
    service: Arc<Service>,
    proxy: Proxy,
    /// Held while the service is told, so that it hears nothing more once we are detached.
    published: Mutex<Published>,
}

#[derive(Default)]
struct Published {
    replicas: Vec<Endpoint>,
    /// What the service had before it had replicas. They stay beside these until one is proven,
    /// however often it has to be started for that.
    former: Vec<Endpoint>,
    /// Of the replicas that run: a service forgets an endpoint that is removed from it, and its
    /// streams must end before the replica is stopped all the same.
    handles: BTreeMap<EndpointId, Arc<EndpointHandle>>,
    detached: bool,
}

impl Link {
    fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, published: &mut Published) {
        let Published { replicas, former, handles, .. } = published;
        let all = replicas.iter().chain(former.iter()).cloned().collect();
        self.service.set_endpoints(all, self.proxy.now());
        let find = |replica: &Endpoint| {
            Some((replica.id.clone(), self.service.endpoint(replica.id.as_str())?))
        };
        *handles = replicas.iter().filter_map(find).collect();
    }
}

impl Replicas for Link {
    fn set(&self, endpoints: Vec<Endpoint>) {
        let mut published = self.published();
        if !published.detached {
            published.replicas = endpoints;
            self.publish(&mut published);
        }
    }

    fn is_healthy(&self, id: &EndpointId) -> bool {
        let healthy = self.service.is_healthy(id.as_str());
        if healthy {
            let mut published = self.published();
            if !published.former.is_empty() && !published.detached {
                published.former.clear();
                self.publish(&mut published);
            }
        }
        healthy
    }

    fn drain(&self, id: &EndpointId) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        // Fails for one that was never published, or left with its service: then it is drained.
        let _ = self.service.retire(id.as_str(), self.proxy.now());
        let Some(handle) = self.published().handles.get(id).cloned() else {
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Instant;

    use model::spec::{EndpointSource, ServiceSpec};
    use proxy::ProxyOptions;

    use super::*;

    fn until(what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(20), "{what} did not come about");
            std::thread::yield_now();
        }
    }

    #[test]
    fn former_endpoints_serve_until_a_replica_is_proven() {
        let proxy = Proxy::start(&ProxyOptions { workers: 1, ..ProxyOptions::default() }).unwrap();
        let [old, new] = ["127.0.0.1:0"; 2].map(|bind| TcpListener::bind(bind).unwrap());
        let former = vec![Endpoint::at(old.local_addr().unwrap())];
        let mut spec = ServiceSpec::new("web".into());
        spec.source = EndpointSource::Static(former.clone());
        let service = Service::new(&spec, proxy.events(), proxy.now(), 1);
        proxy.watch(Arc::clone(&service));
        until("the former endpoint's check", || service.healthy() == 1);

        let published = Mutex::new(Published { former, ..Published::default() });
        let link = Link { service: Arc::clone(&service), proxy, published };
        let ids = || -> Vec<String> {
            service.eligible().iter().map(|endpoint| endpoint.id.to_string()).collect()
        };
        let before = ids();
        let replica = |address| Endpoint { id: EndpointId::new("web-1"), ..Endpoint::at(address) };
        // Nobody listens there; then it has ended, and is about to be started again.
        for replicas in [vec![replica("127.0.0.1:1".parse().unwrap())], Vec::new()] {
            link.set(replicas);
            assert!(!link.is_healthy(&EndpointId::new("web-1")));
            assert_eq!(ids(), before);
        }
        link.set(vec![replica(new.local_addr().unwrap())]);
        until("the replica's check", || link.is_healthy(&EndpointId::new("web-1")));
        assert_eq!(ids(), ["web-1"]);
        link.set(Vec::new());
        assert_eq!(service.healthy(), 0);
    }
}
