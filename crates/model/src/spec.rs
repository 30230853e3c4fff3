//! The checked shape of a configuration: what `config` produces, and what the crates that run
//! things consume. Every value here is valid by construction of `config`; defaults are written
//! once, in the `Default` implementations here.

mod affinity;
mod agent;
mod discover;
mod dns;
mod health;
mod hedge;
mod key;
mod listener;
mod outlier;
mod queue;
mod registry;
mod route;
mod run;
pub mod scenario;
mod service;
mod slow_start;
mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use affinity::{AffinitySpec, InsertedCookie, SameSite, SessionStoreSpec, SessionTableSpec};
pub use agent::{AgentSpec, LarsKey, LarsSpec, Unreported};
pub use discover::{
    AddressFamily, ContainerAddress, DeclaredSpec, DiscoverSpec, DnsRecords, DnsSelector,
    DockerSelector, DockerSpec, FileSelector, HttpSelector, LarsSelector, ProvidersSpec,
    RegistrySelector,
};
pub use dns::DnsServerSpec;
pub use health::{HealthAgentSpec, HealthKind, HealthSpec, StatusSet};
pub use hedge::{HedgeAfter, HedgeSpec};
pub use key::KeySource;
pub use listener::{
    AcceptProxyProtocol, DOMAINS_MAX, HttpSpec, LimitSpec, ListenerSpec, Protocol, ServerHttp2Spec,
    TimeoutSpec, UdpSpec, exact_hosts,
};
pub use outlier::OutlierSpec;
pub use queue::{
    ConcurrencySpec, PRIORITY_DEFAULT, PRIORITY_MAX, QueuePer, QueueSpec, ServiceLimitSpec,
    WakeSpec,
};
pub use registry::{
    EmbeddedRegistrySpec, RegistryDataSpec, RegistrySpec, RegistryStoreSpec, RemoteRegistrySpec,
    SecretSpec, StoreUser,
};
pub use route::{
    ActionSpec, HeaderEdit, HostPattern, LabelledRoute, PathPattern, PathRewrite, RouteSpec,
    TextMatch, WeightedService,
};
pub use run::RunSpec;
pub use service::{
    EndpointProtocol, EndpointSource, PolicySpec, PoolSpec, ProxyProtocolVersion, RetryCondition,
    RetrySpec, ServiceSpec,
};
pub use slow_start::SlowStartSpec;
pub use tls::{
    AcmeChallenge, AcmeSpec, CertificateFiles, ClientAuthSpec, ClientTlsSpec, EabSpec, HstsSpec,
    ServerTlsSpec, TlsVersion,
};

use crate::{ListenerName, ServiceName, SharedMap};

/// A whole configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spec {
    pub admin: Option<AdminSpec>,
    pub access_log: Option<AccessLogSpec>,
    /// How many workers carry the traffic; `None`: one per available core.
    pub workers: Option<usize>,
    /// After SIGTERM, how long requests and streams in flight may go on. Default 30 s.
    pub stop_grace: StopGrace,
    pub listeners: BTreeMap<ListenerName, ListenerSpec>,
    pub services: SharedMap<ServiceName, ServiceSpec>,
    /// Where endpoints, and what labels say of services and routes, are discovered.
    pub providers: ProvidersSpec,
    /// Where instances register themselves. Default: nowhere.
    pub registry: Option<RegistrySpec>,
    /// Whom callers ask on the side of the client.
    pub agent: Option<AgentSpec>,
    /// Tells over the DNS who serves.
    pub dns: Option<DnsServerSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopGrace(pub std::time::Duration);

impl Default for StopGrace {
    fn default() -> Self {
        StopGrace(std::time::Duration::from_secs(30))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSpec {
    pub bind: SocketAddr,
    /// Required as `Authorization: Bearer TOKEN` when set; a non-loopback `bind` demands it.
    pub token: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogSpec {
    Stdout,
    /// Appended to; reopened on SIGUSR1.
    File(PathBuf),
}
