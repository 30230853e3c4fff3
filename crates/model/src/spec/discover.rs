//! What is discovered: where to ask (`providers`), which of it is a service (`discover`), and what
//! a container says of itself (labels).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::spec::{ClientTlsSpec, HostPattern, Protocol, RouteSpec, ServiceSpec};
use crate::{ListenerName, ServiceName, Weight};

/// Where a service's endpoints are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiscoverSpec {
    Docker(DockerSelector),
    File(FileSelector),
    Dns(DnsSelector),
    Http(HttpSelector),
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

/// Endpoints are listed at a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSelector {
    /// A name or an address, this one without brackets.
    pub host: String,
    pub port: u16,
    /// And query; begins with `/`.
    pub path: String,
    /// How TLS is spoken; `None`: it is asked in clear.
    pub tls: Option<ClientTlsSpec>,
    /// Sent as `Authorization: Bearer TOKEN`.
    pub token: Option<String>,
    /// Between two questions. Default 5 s.
    pub interval: Duration,
    /// How long the server may hold a question until it has something new; `None`: it is asked at
    /// intervals.
    pub wait: Option<Duration>,
    /// For an answer, beside `wait`. Default 5 s.
    pub timeout: Duration,
}

impl HttpSelector {
    /// With all defaults.
    pub fn new(host: impl Into<String>, port: u16, path: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            port,
            path: path.into(),
            tls: None,
            token: None,
            interval: Duration::from_secs(5),
            wait: None,
            timeout: Duration::from_secs(5),
        }
    }

    /// `host:port`, as in a URL.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }
}

/// Endpoints are looked up in the Domain Name System.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSelector {
    /// With a dot at its end: whole, and not looked for in the domains of `search`.
    pub name: String,
    pub records: DnsRecords,
    pub family: AddressFamily,
    /// Asked in this order; none: those of `resolv_conf`.
    pub servers: Vec<SocketAddr>,
    /// Default `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// For one answer of one server. Default 2 s.
    pub timeout: Duration,
    /// Answers hold at least so long. Default 1 s.
    pub ttl_min: Duration,
    /// And at most so long. Default 1 min.
    pub ttl_max: Duration,
    /// After so many answers in a row who is not in them has left. Default 3.
    pub confirmations: u32,
    /// Over such a time answers are put together that show a part each. Default 5 min.
    pub window: Duration,
}

/// Which records say where endpoints are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsRecords {
    /// Addresses; all listen on this port.
    Address { port: u16 },
    /// Names, ports, priorities and weights (RFC 2782).
    Srv,
}

/// Which addresses of a name are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressFamily {
    /// Those of IPv4; where there are none, those of IPv6.
    #[default]
    Auto,
    Ipv4,
    Ipv6,
    /// All: a host that has both is two endpoints.
    Both,
}

impl DnsSelector {
    /// With all defaults.
    pub fn new(name: impl Into<String>, records: DnsRecords) -> Self {
        Self {
            name: name.into(),
            records,
            family: AddressFamily::Auto,
            servers: Vec::new(),
            resolv_conf: "/etc/resolv.conf".into(),
            timeout: Duration::from_secs(2),
            ttl_min: Duration::from_secs(1),
            ttl_max: Duration::from_secs(60),
            confirmations: 3,
            window: Duration::from_secs(300),
        }
    }
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
