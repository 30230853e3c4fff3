use std::time::Duration;

use super::{ClientTlsSpec, SecretSpec};

/// How the requests of one client are kept at one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AffinitySpec {
    /// A cookie of ours names the endpoint.
    Insert(InsertedCookie),
    /// The application's own cookie names the endpoint in front of its value. What that cannot
    /// say (a session that had to move, a cookie from before) is remembered in the table.
    Rewrite {
        /// The cookie's name, a token (RFC 6265 section 4.1.1).
        name: String,
        /// As in [`InsertedCookie`].
        secret: Option<String>,
        table: SessionTableSpec,
    },
    /// The value of the application's own cookie is remembered; no byte is changed.
    Learn { name: String, table: SessionTableSpec },
    /// The value of a header is remembered.
    Header {
        /// In lower case.
        name: String,
        table: SessionTableSpec,
    },
    /// The client's address, without its port, is remembered; for streams and flows, too.
    Source {
        /// Bits of an IPv6 address that tell clients apart. Default 128; 64 where one household
        /// changes its address within its network (RFC 8981).
        ipv6_prefix: u8,
        table: SessionTableSpec,
    },
}

/// A cookie that we set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InsertedCookie {
    /// A token (RFC 6265 section 4.1.1).
    pub name: String,
    /// From the answer that sets the cookie. Default none: the cookie ends with the browser.
    pub ttl: Option<Duration>,
    /// Default `/`.
    pub path: String,
    /// Sent over TLS only. Default false.
    pub secure: bool,
    /// Hidden from scripts. Default true.
    pub http_only: bool,
    /// Default none: browsers decide.
    pub same_site: Option<SameSite>,
    /// Keys the hash that stands for an endpoint. Default none: the service's name, which is the
    /// same in every process, and no secret.
    pub secret: Option<String>,
}

/// What bounds the memory of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionTableSpec {
    /// A session that was not used for so long is forgotten, to the second. Default 30 min; at
    /// most 7 days.
    pub ttl: Duration,
    /// Sessions for which there is room; of many more, those longest unused are forgotten first.
    /// Default 100,000; 1 to 10 million.
    pub max: usize,
    /// Where other balancers remember the same sessions. Default none.
    pub store: Option<SessionStoreSpec>,
}

/// A store of sessions outside of this process, which several balancers share.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionStoreSpec {
    /// Of a Redis, or what speaks its protocol: `redis://host:6379/0`, over TLS
    /// `rediss://host:6379/0`, or `unix:///run/redis.sock`.
    pub redis: String,
    /// Of `rediss://`.
    pub tls: ClientTlsSpec,
    pub username: Option<String>,
    pub password: Option<SecretSpec>,
    /// Keys the hash under which a session is stored, so that no value of a client is. The same in
    /// all balancers.
    pub secret: String,
    /// What every key begins with. Default `evenkeel`.
    pub prefix: String,
    /// The longest wait of a request for the store's answer; then it is balanced as a new one.
    /// Default 50 ms.
    pub timeout: Duration,
}

/// Without its secrets.
impl std::fmt::Debug for SessionStoreSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { redis, prefix, timeout, .. } = self;
        f.debug_struct("SessionStoreSpec")
            .field("redis", redis)
            .field("prefix", prefix)
            .field("timeout", timeout)
            .finish_non_exhaustive()
    }
}

impl Default for SessionTableSpec {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(30 * 60), max: 100_000, store: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    Strict,
    Lax,
    None,
}

impl AffinitySpec {
    /// A cookie of ours with all defaults.
    pub fn cookie(name: impl Into<String>) -> Self {
        AffinitySpec::Insert(InsertedCookie::new(name))
    }

    /// The client's whole address, with all defaults.
    pub fn source() -> Self {
        AffinitySpec::Source { ipv6_prefix: 128, table: SessionTableSpec::default() }
    }

    /// The memory of it, if it has one.
    pub fn table(&self) -> Option<&SessionTableSpec> {
        match self {
            AffinitySpec::Insert(_) => None,
            AffinitySpec::Rewrite { table, .. }
            | AffinitySpec::Learn { table, .. }
            | AffinitySpec::Header { table, .. }
            | AffinitySpec::Source { table, .. } => Some(table),
        }
    }

    /// The same, to be changed.
    pub fn table_mut(&mut self) -> Option<&mut SessionTableSpec> {
        match self {
            AffinitySpec::Insert(_) => None,
            AffinitySpec::Rewrite { table, .. }
            | AffinitySpec::Learn { table, .. }
            | AffinitySpec::Header { table, .. }
            | AffinitySpec::Source { table, .. } => Some(table),
        }
    }

    /// What it shares with other balancers, if it does.
    pub fn store(&self) -> Option<&SessionStoreSpec> {
        self.table()?.store.as_ref()
    }

    /// Whether it goes by what only HTTP has.
    pub fn needs_http(&self) -> bool {
        !matches!(self, AffinitySpec::Source { .. })
    }
}

impl InsertedCookie {
    /// All defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ttl: None,
            path: "/".into(),
            secure: false,
            http_only: true,
            same_site: None,
            secret: None,
        }
    }
}
