//! The providers that need no more rights than the balancer has, and so run inside it: one file
//! and one line in [`SOURCES`] each.
//!
//! A [`Source`] serves one service: it finds out who its endpoints are, and tells all of them
//! whenever that changes. What becomes of it is not its affair.

pub mod dns;
pub mod file;
pub mod http;
pub mod lars;

use std::pin::Pin;

use model::spec::DiscoverSpec;
use model::{Endpoint, ServiceName};
use tokio::sync::mpsc;

use crate::Listed;

/// Endpoints of one service that are taken; more are an error of who lists them.
pub const ENDPOINTS_MAX: usize = 100_000;

/// What a source tells of its service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// These are all endpoints there are, in place of any told before; none, if it is empty.
    Endpoints(Vec<Listed>),
    /// The same, but some of it may be out of date, and why: of several places to ask, one does
    /// not answer.
    Partly { endpoints: Vec<Listed>, reason: String },
    /// What was told last may be out of date, and why. It stays in force.
    Lost { reason: String },
}

impl Told {
    /// What is known, if anything, none of it draining; and what is wrong, if anything.
    pub fn of(known: Option<Vec<Endpoint>>, wrong: Option<String>) -> Option<Self> {
        let listed = |endpoint| Listed { endpoint, draining: false };
        let known = known.map(|known| known.into_iter().map(listed).collect());
        match (known, wrong) {
            (Some(endpoints), None) => Some(Self::Endpoints(endpoints)),
            (Some(endpoints), Some(reason)) => Some(Self::Partly { endpoints, reason }),
            (None, Some(reason)) => Some(Self::Lost { reason }),
            (None, None) => None,
        }
    }
}

/// One way to find the endpoints of a service.
pub struct Provider {
    /// As in `discover: { NAME: ... }`.
    pub name: &'static str,
    pub summary: &'static str,
    /// The source that a configuration's entry asks for; `None` if it is of another provider.
    pub open: fn(&DiscoverSpec) -> Option<Box<dyn Source>>,
}

pub trait Source: Send {
    /// Where it asks, for people: a path, a URL, a name.
    fn place(&self) -> String;

    /// Tells until nobody listens any more ([`Teller::tell`]), or until it is dropped. The first
    /// answer is told even if it is that there are no endpoints: readiness waits for it. In a
    /// runtime.
    fn follow(self: Box<Self>, teller: Teller) -> BoxFuture;
}

pub type BoxFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Reads a list of endpoints for a service from a text (`name`: what messages call the text);
/// otherwise one line that says what is wrong, and where.
pub type ReadList = fn(name: &str, text: &str, service: &str) -> Result<Vec<Endpoint>, String>;

/// To whom a source tells, and what it is given.
#[derive(Clone, Debug)]
pub struct Teller {
    pub service: ServiceName,
    pub read_list: ReadList,
    /// For the chance in waits.
    pub seed: u64,
    sender: mpsc::Sender<(ServiceName, Told)>,
}

/// Nobody listens any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unheard;

impl Teller {
    pub fn new(
        service: ServiceName,
        read_list: ReadList,
        seed: u64,
        sender: mpsc::Sender<(ServiceName, Told)>,
    ) -> Self {
        Self { service, read_list, seed, sender }
    }

    pub async fn tell(&self, told: Told) -> Result<(), Unheard> {
        self.sender.send((self.service.clone(), told)).await.map_err(|_| Unheard)
    }
}

pub static SOURCES: &[Provider] = &[file::PROVIDER, http::PROVIDER, dns::PROVIDER, lars::PROVIDER];

/// Who finds the endpoints that this entry describes: the provider's name and the source. `None`:
/// a watcher does ([`crate::providers`]).
pub fn open(spec: &DiscoverSpec) -> Option<(&'static str, Box<dyn Source>)> {
    SOURCES.iter().find_map(|provider| Some((provider.name, (provider.open)(spec)?)))
}

#[cfg(test)]
mod tests {
    use model::spec::{DnsRecords, DnsSelector, DockerSelector, FileSelector, HttpSelector};

    use super::*;

    #[test]
    fn names_are_unique_and_each_entry_has_one_provider() {
        for (at, provider) in SOURCES.iter().enumerate() {
            assert!(SOURCES[..at].iter().all(|other| other.name != provider.name));
            assert!(!provider.summary.is_empty());
        }
        let name = |spec: &DiscoverSpec| {
            assert!(SOURCES.iter().filter(|p| (p.open)(spec).is_some()).count() <= 1);
            open(spec).map(|(name, source)| (name, source.place()))
        };
        let dns = DnsSelector::new("web.test", DnsRecords::Address { port: 80 });
        assert_eq!(name(&DiscoverSpec::Dns(dns)), Some(("dns", "web.test:80".to_owned())));
        let http = DiscoverSpec::Http(HttpSelector::new("::1", 80, "/a?b"));
        assert_eq!(name(&http), Some(("http", "http://[::1]:80/a?b".to_owned())));
        let file = DiscoverSpec::File(FileSelector { path: "/a/b".into() });
        assert_eq!(name(&file), Some(("file", "/a/b".to_owned())));
        assert_eq!(name(&DiscoverSpec::Docker(DockerSelector::default())), None);
    }
}
