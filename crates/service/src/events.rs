use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use model::spec::HealthSpec;
use model::{EndpointId, ServiceName};

use crate::EndpointHandle;

/// What a service tells whoever runs it. Never called while the service's lock is held, so a
/// callback may call the service; it should only take a note, for workers and the control side
/// wait for it.
pub trait Events: Send + Sync {
    /// From the data path: so many requests failed in a row that [`crate::Service::handle_suspect`]
    /// should judge. Not repeated for an endpoint until that was called.
    fn suspect(&self, service: &ServiceName, endpoint: &EndpointId);

    /// From the data path, or after a quiet time from the control side: the policy wants to know how
    /// the endpoint is, which it says at this path; the answer goes to [`EndpointHandle::probed`]. May be left undone, as when too many
    /// are under way.
    fn probe(&self, _service: &ServiceName, _endpoint: &Arc<EndpointHandle>, _path: &Arc<str>) {}

    /// From the control side: the endpoint is drained or removed, gets nothing new, and its
    /// streams must end at [`EndpointHandle::close_at`] (which turns `None` if it is undrained).
    fn leaving(&self, service: &ServiceName, endpoint: &Arc<EndpointHandle>);

    /// From the control side: an endpoint that was leaving is taken back; streams that are still
    /// there may go on.
    fn staying(&self, service: &ServiceName, endpoint: &Arc<EndpointHandle>);

    /// A request waits for a service that has no endpoint, because it sleeps until it is asked for
    /// (`wake`): whoever runs its replicas is to start one. From the data path when the first comes
    /// to wait, or from the control side when those that wait find themselves without an endpoint.
    fn demanded(&self, _service: &ServiceName) {}

    /// From the data path, only if the service's sessions are shared: the session of this key in the
    /// store is at the endpoint, and the store is to know. `moved`: it was elsewhere, and failed
    /// there. May be left undone, as when too many are under way: it is told again later.
    fn session_at(&self, _service: &ServiceName, _key: u64, _endpoint: &EndpointId, _moved: bool) {}

    /// From the control side: endpoints or their eligibility changed, or something became due
    /// earlier: read [`crate::Service::poll_timeout`] again.
    fn changed(&self, service: &ServiceName);
}

/// For those who do not listen: tests, simulations, examples.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEvents;

impl Events for NoEvents {
    fn suspect(&self, _: &ServiceName, _: &EndpointId) {}
    fn leaving(&self, _: &ServiceName, _: &Arc<EndpointHandle>) {}
    fn staying(&self, _: &ServiceName, _: &Arc<EndpointHandle>) {}
    fn changed(&self, _: &ServiceName) {}
}

/// A health check to be run now; its result goes to [`crate::Service::handle_check`].
#[derive(Clone, Debug)]
pub struct DueCheck {
    pub endpoint: EndpointId,
    /// Where traffic goes; `spec.target(address)` is where the check goes.
    pub address: SocketAddr,
    pub generation: u64,
    pub spec: Arc<HealthSpec>,
}

/// The service has no endpoint of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownEndpoint(pub String);

impl fmt::Display for UnknownEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no endpoint `{}`", self.0)
    }
}

impl std::error::Error for UnknownEndpoint {}
