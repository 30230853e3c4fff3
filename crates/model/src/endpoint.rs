use std::net::SocketAddr;
use std::sync::Arc;

use crate::EndpointId;

/// A share of the work relative to the other endpoints of the service: 0 to 65,535, default 1.
/// Zero means: nothing new, as long as another endpoint has a weight above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(pub u16);

impl Default for Weight {
    fn default() -> Self {
        Weight(1)
    }
}

/// One place that serves a service, as a provider or the configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub id: EndpointId,
    pub address: SocketAddr,
    pub weight: Weight,
    pub zone: Option<Arc<str>>,
    /// Failover level: endpoints of the lowest number that has a healthy one serve; default 0.
    pub priority: u8,
}

impl Endpoint {
    /// A static endpoint: its address is its identity.
    pub fn at(address: SocketAddr) -> Self {
        Self {
            id: EndpointId::new(address.to_string()),
            address,
            weight: Weight::default(),
            zone: None,
            priority: 0,
        }
    }
}
