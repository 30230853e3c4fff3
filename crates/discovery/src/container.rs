use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One container, as far as balancing is concerned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// All 64 digits.
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    pub image: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub labels: BTreeMap<String, String>,
    /// `VIRTUAL_*` of its environment; the rest of it is nobody's business.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub environment: BTreeMap<String, String>,
    /// Its address in each network.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub networks: BTreeMap<String, IpAddr>,
    /// It uses this machine's own network.
    #[serde(default)]
    pub host_network: bool,
    /// What its image or its start says that it listens on.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub ports: Vec<Port>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub published: Vec<Published>,
    pub phase: Phase,
    #[serde(default)]
    pub health: Health,
    /// Nanoseconds since 1970 by the engine's clock; 0: never. Another value means that it was
    /// restarted.
    #[serde(default)]
    pub started_at: i64,
}

impl Container {
    /// As the engine's own tables show it, and long enough to be the only one.
    pub fn short_id(&self) -> &str {
        self.id.get(..SHORT_ID).unwrap_or(&self.id)
    }
}

/// Digits of an id that people see.
const SHORT_ID: usize = 12;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Running,
    /// It was told to stop, and is still there.
    Stopping,
    Paused,
    /// Not running, and not removed.
    #[default]
    Ended,
}

/// What the engine's own check (`HEALTHCHECK`) says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It has no check.
    #[default]
    None,
    /// No answer yet.
    Starting,
    Healthy,
    Unhealthy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    Tcp,
    Udp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    pub transport: Transport,
    pub number: u16,
}

/// A port of the container that can be reached through one of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    pub port: Port,
    /// Where this machine listens; unspecified: everywhere.
    pub host: IpAddr,
    pub host_port: u16,
}

/// What a container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Processors kept busy: 1.5 is one and a half.
    pub cpus: f64,
    /// Processors that it may keep busy.
    pub cpus_limit: f64,
    /// In bytes, without the page cache that could be dropped.
    pub memory: u64,
    /// In bytes; 0: unknown.
    pub memory_limit: u64,
}
