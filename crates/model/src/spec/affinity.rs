use std::time::Duration;

/// How the requests of one client are kept at one endpoint, by a cookie that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AffinitySpec {
    /// The cookie's name, a token (RFC 6265 section 4.1.1).
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    Strict,
    Lax,
    None,
}

impl AffinitySpec {
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
