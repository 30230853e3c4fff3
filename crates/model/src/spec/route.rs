use std::sync::Arc;

use crate::ServiceName;

/// One rule of a listener: all its matchers must hold. Absent matchers match everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    pub host: Option<HostPattern>,
    pub path: Option<PathPattern>,
    /// In capitals; empty: any.
    pub methods: Vec<String>,
    /// Name in lower case.
    pub headers: Vec<(String, TextMatch)>,
    pub query: Vec<(String, TextMatch)>,
    pub cookies: Vec<(String, TextMatch)>,
    /// Protocol `tls` only: the client offers one of these by ALPN. Empty: any, or none.
    pub alpn: Vec<String>,
    pub action: ActionSpec,
    pub rewrite_path: Option<PathRewrite>,
    /// Replaces the `Host` that the endpoint sees.
    pub rewrite_host: Option<String>,
    pub request_headers: Vec<HeaderEdit>,
    pub response_headers: Vec<HeaderEdit>,
}

impl RouteSpec {
    /// Everything goes to `service`.
    pub fn catch_all(service: ServiceName) -> Self {
        Self {
            host: None,
            path: None,
            methods: Vec::new(),
            headers: Vec::new(),
            query: Vec::new(),
            cookies: Vec::new(),
            alpn: Vec::new(),
            action: ActionSpec::Forward(vec![WeightedService { service, weight: 1 }]),
            rewrite_path: None,
            rewrite_host: None,
            request_headers: Vec::new(),
            response_headers: Vec::new(),
        }
    }
}

/// A route that containers say of their service by label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledRoute {
    /// Of the service, by which of two was there first: see `discovery::Declared`.
    pub rank: (u64, i64),
    pub service: ServiceName,
    pub route: Arc<RouteSpec>,
}

/// Compared without regard to case, port, or one trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// `shop.example.com`, in lower case.
    Exact(String),
    /// `*.example.com`: any name with at least one label more; holds `example.com`.
    Suffix(String),
}

impl HostPattern {
    /// The same for all spellings of what matches the same hosts.
    pub fn normalised(&self) -> Self {
        let plain = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        match self {
            HostPattern::Exact(name) => HostPattern::Exact(plain(name)),
            HostPattern::Suffix(name) => HostPattern::Suffix(plain(name)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// `/login`
    Exact(String),
    /// `/images/*` (also `/images` itself): holds `/images`; whole segments only. `/*` holds ``.
    Prefix(String),
    /// `~ ^/users/[0-9]+$`: a regular expression without look-around, anchored as written.
    Regex(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextMatch {
    /// `*`: there at all.
    Present,
    Exact(String),
    Prefix(String),
    Regex(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionSpec {
    /// Split by weight; one entry is the usual case. Never empty; not all weights are zero.
    Forward(Vec<WeightedService>),
    /// `location` may hold `{scheme}`, `{host}` (without port), `{path}`, `{query}` (with `?`
    /// when not empty) and `{uri}` (path and query).
    Redirect {
        status: u16,
        location: String,
    },
    Respond {
        status: u16,
        body: String,
        content_type: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedService {
    pub service: ServiceName,
    pub weight: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// Replace the matched prefix (or the whole exact path) with this.
    ReplacePrefix(String),
    /// Replace the whole path; with a regex path, `$1` and `${name}` are its groups.
    Replace(String),
}

/// Applied in order. Names in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderEdit {
    Set(String, String),
    Add(String, String),
    Remove(String),
}
