//! The registry: where instances say that they serve.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::ClientTlsSpec;
use crate::ServiceName;

/// Where instances register, and where those of `discover: { registry: {} }` are looked up.
#[derive(Clone, Debug, PartialEq)]
pub enum RegistrySpec {
    /// In this process.
    Embedded(Box<EmbeddedRegistrySpec>),
    /// In another one, asked over HTTP.
    Remote(RemoteRegistrySpec),
}

/// A registry that this process is.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddedRegistrySpec {
    /// Default 127.0.0.1:9910.
    pub bind: SocketAddr,
    /// Whoever has it may do everything; a `bind` for others demands one.
    pub token: Option<SecretSpec>,
    /// Whoever has one may do everything with that service, and nothing else.
    pub tokens: BTreeMap<ServiceName, SecretSpec>,
    /// What survives a restart.
    pub data: RegistryDataSpec,
    /// Services with at least one instance; default 1,000.
    pub services_max: usize,
    /// Instances of all services together; default 20,000.
    pub instances_max: usize,
    /// Pairs of metadata that an instance may have; default 32.
    pub metadata_max: usize,
    /// Requests that wait for a change at once; default 1,000.
    pub watchers_max: usize,
    /// Connections at once, further ones wait; default 20,000, so that each instance may keep its
    /// own.
    pub connections_max: usize,
    /// With fewer than this share of the instances on time, silence is not believed; 0: never.
    /// Default 0.5.
    pub renewals_min: f64,
    /// With fewer instances it is always believed. Default 3.
    pub preserved_instances_min: usize,
    /// Silence that lasts so long is believed after all. Default 1 h.
    pub preserved_max: Duration,
    /// Where instances are kept for several balancers. Default: here alone.
    pub store: Option<RegistryStoreSpec>,
}

impl Default for EmbeddedRegistrySpec {
    fn default() -> Self {
        Self {
            bind: (Ipv4Addr::LOCALHOST, 9910).into(),
            token: None,
            tokens: BTreeMap::new(),
            data: RegistryDataSpec::Beside,
            services_max: 1000,
            instances_max: 20_000,
            metadata_max: 32,
            watchers_max: 1000,
            connections_max: 20_000,
            renewals_min: 0.5,
            preserved_instances_min: 3,
            preserved_max: Duration::from_secs(3600),
            store: None,
        }
    }
}

/// Where a registry keeps what is to survive a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryDataSpec {
    /// `evenkeel-registry.redb` in the directory of the configuration; where that cannot be
    /// written, nothing survives, and it is told.
    Beside,
    File(PathBuf),
    Off,
}

/// A registry in another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteRegistrySpec {
    /// `http://HOST:PORT`, or `https://HOST:PORT` of what speaks TLS in front of it.
    pub url: String,
    pub token: Option<SecretSpec>,
    /// Where the URL begins with `https://`.
    pub tls: ClientTlsSpec,
}

/// A store that several balancers share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryStoreSpec {
    /// etcd's version 3 API through its JSON gateway.
    Etcd {
        /// `http://HOST:PORT` or `https://HOST:PORT` of each member; the first that answers is
        /// used.
        endpoints: Vec<String>,
        prefix: String,
        /// Towards members whose address begins with `https://`.
        tls: ClientTlsSpec,
        /// Who we are there. Default: nobody, which etcd without authentication takes.
        user: Option<StoreUser>,
    },
    /// Consul's key-value store, with a session for each instance.
    Consul {
        /// `http://HOST:PORT` or `https://HOST:PORT`.
        url: String,
        token: Option<SecretSpec>,
        prefix: String,
        /// Where the address begins with `https://`.
        tls: ClientTlsSpec,
    },
}

/// Who we are to a store that asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreUser {
    pub name: String,
    pub password: SecretSpec,
}

/// A secret, or where it is read.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSpec {
    Text(String),
    /// Its content without white space around it.
    File(PathBuf),
}

impl fmt::Debug for SecretSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretSpec::Text(_) => f.write_str("REDACTED"),
            SecretSpec::File(path) => write!(f, "{}", path.display()),
        }
    }
}
