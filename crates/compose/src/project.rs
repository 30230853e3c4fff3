//! What a Compose file says, read and checked.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use config::defect::Span;
use serde_json::{Map, Value};

/// A whole Compose file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Project {
    /// Lower case; what names of containers, networks and volumes begin with.
    pub name: String,
    /// What relative paths are relative to: the file's own folder.
    pub directory: PathBuf,
    /// In the order in which they were merged.
    pub files: Vec<PathBuf>,
    pub services: BTreeMap<String, Service>,
    pub networks: BTreeMap<String, Network>,
    pub volumes: BTreeMap<String, Volume>,
    /// The services, those that others depend on first.
    pub order: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    pub name: String,
    /// Of the file's `image`; without it the build's result is called `PROJECT-SERVICE`.
    pub image: Option<String>,
    pub build: Option<Build>,
    pub pull_policy: PullPolicy,
    pub container_name: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub environment: BTreeMap<String, String>,
    pub ports: Vec<Port>,
    /// Reachable by other containers, not published.
    pub expose: Vec<ContainerPort>,
    pub mounts: Vec<Mount>,
    /// Its secrets and configs. Those that are files are among `mounts`, too.
    pub given: Vec<Given>,
    /// By the network's name in the file.
    pub networks: BTreeMap<String, Attachment>,
    /// `host`, `none`; `None`: `networks`.
    pub network_mode: Option<String>,
    pub depends_on: BTreeMap<String, Dependency>,
    pub profiles: Vec<String>,
    /// Of `deploy.replicas` or `scale`. Default 1.
    pub replicas: usize,
    /// Of `stop_grace_period`; default the engine's 10 s.
    pub stop_grace: Option<Duration>,
    /// Of `deploy.update_config.order`; default: see [`Service::starts_first`].
    pub update_order: Option<UpdateOrder>,
    /// Keys of a container's configuration as the engine's API has them.
    pub config: Map<String, Value>,
    /// Keys of its `HostConfig`.
    pub host: Map<String, Value>,
    /// Whether the file gives it a health check (an image may have one of its own).
    pub has_healthcheck: bool,
    pub balancing: Balancing,
    /// The service as the file has it, variables put in, for the configuration's hash.
    pub raw: Value,
}

impl Service {
    /// A new container of it may run beside the old one: unless the file says otherwise, if it
    /// writes to no volume, has no name that only one can have, and publishes nothing itself.
    pub fn starts_first(&self) -> bool {
        if self.container_name.is_some() || self.engine_ports().any(|p| p.published.is_some()) {
            return false;
        }
        match self.update_order {
            Some(order) => order == UpdateOrder::StartFirst,
            None => self.mounts.iter().all(|mount| mount.read_only || mount.is_temporary()),
        }
    }

    /// Ports that the balancer listens on for it.
    pub fn balanced_ports(&self) -> impl Iterator<Item = &Port> {
        self.ports.iter().filter(|port| self.is_balanced(port))
    }

    /// Ports that the engine publishes for each container.
    pub fn engine_ports(&self) -> impl Iterator<Item = &Port> {
        self.ports.iter().filter(|port| !self.is_balanced(port))
    }

    /// One port of the machine, known beforehand, and not left to the engine.
    fn is_balanced(&self, port: &Port) -> bool {
        let one = matches!(port.published, Some((first, last)) if first == last);
        let host_network = self.network_mode.is_some();
        one && !port.host_mode && !self.balancing.published_by_engine && !host_network
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateOrder {
    StartFirst,
    StopFirst,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    Always,
    Never,
    #[default]
    Missing,
    Build,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Build {
    pub context: PathBuf,
    /// Relative to the context. Default `Dockerfile`.
    pub dockerfile: Option<String>,
    pub inline: Option<String>,
    pub args: BTreeMap<String, String>,
    pub target: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub cache_from: Vec<String>,
    pub network: Option<String>,
    pub no_cache: bool,
    pub pull: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    Tcp,
    Udp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerPort {
    pub number: u16,
    pub transport: Transport,
}

impl ContainerPort {
    /// As the engine's API writes it: `5000/tcp`.
    pub fn text(&self) -> String {
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        format!("{}/{transport}", self.number)
    }
}

/// A published port.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    pub container: ContainerPort,
    /// Of the machine, first and last; `None`: the engine chooses.
    pub published: Option<(u16, u16)>,
    /// Where the machine listens; `None`: everywhere.
    pub host_ip: Option<String>,
    /// `mode: host`: published on the container, never balanced.
    pub host_mode: bool,
    /// The specification's `app_protocol`.
    pub app_protocol: Option<String>,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    pub kind: MountKind,
    /// A volume's name in the file, or an absolute path; empty: an anonymous volume.
    pub source: String,
    pub target: String,
    pub read_only: bool,
    /// Further options of the short form: `z`, `nocopy`, ...
    pub options: Vec<String>,
    /// Written in the long form; a bind's source must exist then.
    pub long: bool,
    /// Bytes, of a tmpfs.
    pub size: Option<u64>,
}

impl Mount {
    fn is_temporary(&self) -> bool {
        self.kind == MountKind::Tmpfs || (self.kind == MountKind::Volume && self.source.is_empty())
    }
}

/// A secret or config, as a file in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Absolute.
    pub target: String,
    pub content: Content,
    /// Of a text; a file that is mounted has its own.
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// Mounted.
    File(PathBuf),
    /// Written into each container before it starts; with its SHA-256, in hexadecimal digits.
    Text { text: Arc<str>, digest: String },
}

/// Without the text, which may be a secret.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::File(path) => f.debug_tuple("File").field(path).finish(),
            Content::Text { text, .. } => write!(f, "Text({} bytes)", text.len()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountKind {
    Bind,
    Volume,
    Tmpfs,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attachment {
    pub aliases: Vec<String>,
    pub ipv4: Option<String>,
    pub ipv6: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dependency {
    pub condition: Condition,
    /// `false`: goes on without it.
    pub required: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Started,
    Healthy,
    CompletedSuccessfully,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Network {
    /// As the engine knows it.
    pub name: String,
    /// Not ours to make or to remove.
    pub external: bool,
    pub labels: BTreeMap<String, String>,
    /// Keys of `POST /networks/create`.
    pub options: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Volume {
    pub name: String,
    pub external: bool,
    pub labels: BTreeMap<String, String>,
    /// Keys of `POST /volumes/create`.
    pub options: Map<String, Value>,
}

/// How the balancer is to serve a service: `x-evenkeel`, and labels that begin with `evenkeel.`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Balancing {
    /// `None`: by the rule in `balancer.rs`.
    pub protocol: Option<AppProtocol>,
    /// `publish: engine`: each container has its ports, as plain Compose does it.
    pub published_by_engine: bool,
    pub autoscale: Option<crate::autoscale::Settings>,
    /// Keys of the balancer's service: `policy`, `health`, ...
    pub service: Map<String, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppProtocol {
    Http,
    Tcp,
}
