//! What is discovered: where to ask (`providers`), which of it is a service (`discover`), and what
//! a container says of itself (labels).

use std::path::PathBuf;
use std::time::Duration;

use crate::spec::{HostPattern, Protocol, RouteSpec, ServiceSpec};
use crate::{ListenerName, ServiceName, Weight};

/// Where a service's endpoints are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiscoverSpec {
    Docker(DockerSelector),
    File(FileSelector),
    Registry(RegistrySelector),
    Lars(LarsSelector),
}

/// Endpoints are listed in files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSelector {
    /// A file, or a folder whose files name the endpoints together.
    pub path: PathBuf,
}

/// Instances that registered themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrySelector {
    /// What they registered for. Default: the service's own name.
    pub service: Option<ServiceName>,
}

/// A route service of Lars is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LarsSelector {
    pub address: std::net::SocketAddr,
    /// The key whose hosts serve.
    pub modid: i32,
    pub cmdid: i32,
}

/// Which containers serve a service. All that is given must hold; nothing given: those whose
/// label `evenkeel.service`, or else whose Compose service, is the service's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DockerSelector {
    /// The service of a Compose file.
    pub compose_service: Option<String>,
    /// The project of a Compose file. Default: that of `providers.docker`, or any.
    pub compose_project: Option<String>,
    /// Labels with this value; `None`: with any.
    pub labels: Vec<(String, Option<String>)>,
    /// Default: the container's label `evenkeel.port`, or the only port that its image exposes.
    pub port: Option<u16>,
    /// Default: the container's label `evenkeel.network`, or that of `providers.docker`.
    pub network: Option<String>,
}

/// Where endpoints are discovered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProvidersSpec {
    pub docker: Option<DockerSpec>,
}

/// A Docker engine, or a Podman service, on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerSpec {
    /// Default `/var/run/docker.sock`.
    pub socket: PathBuf,
    /// Containers without labels of ours are services, too. Default false.
    pub exposed_by_default: bool,
    /// The network whose addresses are used, where a container does not name another. Default:
    /// one that the balancer is in if it is in a container itself, or the first by name.
    pub network: Option<String>,
    /// Only containers of this Compose project make services by their labels. Default: all.
    pub compose_project: Option<String>,
    /// Which address of a container is used. Default: its own.
    pub address: ContainerAddress,
    /// The listener that gets the routes of containers that name none. Default: the only HTTP
    /// listener, or, where nothing is configured, one on port 8080.
    pub listener: Option<ListenerName>,
    /// Understand the labels that Traefik reads. Default false.
    pub traefik_labels: bool,
    /// Understand `VIRTUAL_HOST` and `VIRTUAL_PORT` in a container's environment. Default false.
    pub virtual_host: bool,
    /// How often processor and memory of each container are asked for; `None`: never. Default
    /// 5 s: half of what the policy `resource` takes for stale.
    pub statistics: Option<Duration>,
}

/// Which address of a container is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContainerAddress {
    /// Its own in one of its networks; the published one if it has none.
    #[default]
    Own,
    /// That of the port published on this machine.
    Published,
}

impl Default for DockerSpec {
    fn default() -> Self {
        Self {
            socket: "/var/run/docker.sock".into(),
            exposed_by_default: false,
            network: None,
            compose_project: None,
            address: ContainerAddress::Own,
            listener: None,
            traefik_labels: false,
            virtual_host: false,
            statistics: Some(Duration::from_secs(5)),
        }
    }
}

/// What a container says of itself by labels.
#[derive(Clone, Debug, PartialEq)]
pub struct DeclaredSpec {
    /// How the service is to be used. Its source is [`DiscoverSpec`] without conditions.
    pub service: ServiceSpec,
    /// Never empty: with no label of a route, the host is [`DeclaredSpec::default_host`].
    pub routes: Vec<RouteSpec>,
    /// The listener of the routes; `None`: that of the provider, or, of another protocol than
    /// HTTP, the only one of it.
    pub listener: Option<ListenerName>,
    /// What it speaks to its clients. Default: what its listener does.
    pub protocol: Option<Protocol>,
    pub port: Option<u16>,
    pub network: Option<String>,
    pub weight: Weight,
    pub priority: u8,
    pub zone: Option<String>,
}

impl DeclaredSpec {
    /// The host of a service whose labels do not say how it is reached: `SERVICE.localhost`, which
    /// leads to this machine without anybody's doing (RFC 6761, section 6.3).
    pub fn default_host(service: &str) -> String {
        format!("{}.localhost", service.to_ascii_lowercase().replace('_', "-"))
    }

    /// That no label of a route was given.
    pub fn has_default_route(&self) -> bool {
        let host = Self::default_host(self.service.name.as_str());
        let mut route = RouteSpec::catch_all(self.service.name.clone());
        route.host = Some(HostPattern::Exact(host));
        self.routes == [route]
    }
}
