//! Endpoints looked up in the Domain Name System: addresses, or service records and the addresses
//! of their targets.
//!
//! Each name is asked again when its answer has run out, in the background. What answers said one
//! after the other is put together in `known.rs`; what one answer means is decided in `answer.rs`.
//! Nobody leaves because nobody answers.

mod answer;
mod endpoints;
mod exchange;
mod known;
mod resolv_conf;
mod resolver;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::spec::{AddressFamily, DiscoverSpec, DnsRecords, DnsSelector};
use model::{Endpoint, Rng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use wire::dns::{Data, Name, kind};

use super::{BoxFuture, Provider, Source, Teller, Told, Unheard};
use crate::backoff::Backoff;
use crate::wake::Wake;
use endpoints::Place;
use known::{Known, Rule};
use resolv_conf::ResolvConf;
use resolver::{Finding, Resolver};

/// Questions that are under way at once for one service.
const QUESTIONS: usize = 8;

/// Targets of service records that are looked up; further ones are passed over.
const TARGETS_MAX: usize = 1000;

/// Between two looks at `resolv.conf` where the kernel does not tell that it changed.
const RESOLV_CONF_LOOK: Duration = Duration::from_secs(5);

/// Bytes of `resolv.conf` that are read.
const RESOLV_CONF_BYTES_MAX: u64 = 64 << 10;

pub const PROVIDER: Provider = Provider {
    name: "dns",
    summary: "addresses or service records of a name",
    open: |spec| match spec {
        DiscoverSpec::Dns(dns) => Some(Box::new(Dns { spec: dns.clone() })),
        _ => None,
    },
};

struct Dns {
    spec: DnsSelector,
}

impl Source for Dns {
    fn place(&self) -> String {
        let DnsSelector { name, records, servers, .. } = &self.spec;
        let what = match records {
            DnsRecords::Address { port } => format!("{name}:{port}"),
            DnsRecords::Srv => format!("{name} (SRV)"),
        };
        let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
        match &*servers {
            [] => what,
            all => format!("{what} at {}", all.join(", ")),
        }
    }

    fn follow(self: Box<Self>, teller: Teller) -> BoxFuture {
        Box::pin(async move {
            let Err(Unheard) = Follower::new(self.spec, teller).await.follow().await;
        })
    }
}

/// Whose addresses are meant: the name of the configuration (`None`), or a target.
type Host = Option<Name>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Services,
    Addresses(Host, u16),
}

/// One question that is asked again and again.
struct Track<K, V> {
    known: Known<K, V>,
    due: Instant,
    is_asked: bool,
    /// Why it is not known how things are now.
    wrong: Option<String>,
    backoff: Backoff,
}

type Services = Track<(Name, u16), (u16, u16)>;
type Addresses = Track<IpAddr, ()>;

struct Follower {
    spec: DnsSelector,
    rule: Rule,
    teller: Teller,
    resolver: Arc<Resolver>,
    /// By target and port: priority and weight.
    services: Option<Services>,
    addresses: BTreeMap<(Host, u16), Addresses>,
    rng: Rng,
    told: Option<(Option<Vec<Endpoint>>, Option<String>)>,
}

impl Follower {
    async fn new(spec: DnsSelector, teller: Teller) -> Self {
        let conf = match &*spec.servers {
            [] => read_conf(&spec.resolv_conf).await.unwrap_or_else(|| ResolvConf::parse("")),
            servers => ResolvConf::of(servers),
        };
        let mut rng = Rng::from_seed(teller.seed);
        Self {
            rule: Rule { confirmations: spec.confirmations, window: spec.window },
            resolver: Arc::new(Resolver::new(conf, spec.timeout)),
            services: (spec.records == DnsRecords::Srv).then(|| Track::new(rng.next_u64())),
            addresses: BTreeMap::new(),
            spec,
            teller,
            rng,
            told: None,
        }
    }

    async fn follow(mut self) -> Result<Infallible, Unheard> {
        let mut asked = JoinSet::new();
        let own_servers = !self.spec.servers.is_empty();
        let mut resolv_conf = (!own_servers).then(|| Wake::new(self.spec.resolv_conf.clone()));
        loop {
            self.choose_addresses();
            let next = self.ask_due(&mut asked);
            tokio::select! {
                Some(done) = asked.join_next() => {
                    // It neither panics nor is it cancelled.
                    if let Ok((subject, finding)) = done {
                        self.take(subject, finding);
                        self.tell().await?;
                    }
                }
                () = sleep_until(next) => {}
                () = changed(&mut resolv_conf) => self.read_conf_again().await,
            }
        }
    }

    /// Starts what is due, as far as there is room; answers when the next is. What is dropped is
    /// no longer asked.
    fn ask_due(&mut self, asked: &mut JoinSet<(Subject, Finding)>) -> Instant {
        let now = Instant::now();
        let mut next = now + self.spec.ttl_max;
        let own = self.resolver.conf.candidates(&self.spec.name);
        let resolver = &self.resolver;
        let mut ask = |subject: Subject, due: Instant, names: Vec<Name>, kind: u16| {
            if due > now {
                next = next.min(due);
                return false;
            }
            // Where there is no room, the end of another one makes it.
            let has_room = asked.len() < QUESTIONS;
            if has_room {
                let resolver = Arc::clone(resolver);
                asked.spawn(async move { (subject, resolver.look_up(&names, kind).await) });
            }
            has_room
        };
        if let Some(track) = self.services.as_mut().filter(|track| !track.is_asked) {
            track.is_asked = ask(Subject::Services, track.due, own.clone(), kind::SRV);
        }
        for ((host, kind), track) in self.addresses.iter_mut().filter(|(_, t)| !t.is_asked) {
            let names = host.clone().map_or_else(|| own.clone(), |target| vec![target]);
            track.is_asked = ask(Subject::Addresses(host.clone(), *kind), track.due, names, *kind);
        }
        next
    }

    fn take(&mut self, subject: Subject, finding: Finding) {
        let Self { spec, rule, rng, .. } = self;
        match subject {
            Subject::Services => {
                let Some(track) = &mut self.services else { return };
                track.take(finding, spec, rule, rng, |data| match data {
                    // RFC 2782: a target of `.` means that there is decidedly no such service.
                    Data::Srv(srv) if !srv.target.is_root() && srv.port > 0 => {
                        Some(((srv.target, srv.port), (srv.priority, srv.weight)))
                    }
                    _ => None,
                });
            }
            Subject::Addresses(host, kind) => {
                let Some(track) = self.addresses.get_mut(&(host, kind)) else { return };
                track.take(finding, spec, rule, rng, |data| match data {
                    Data::A(ip) => Some((ip.into(), ())),
                    Data::Aaaa(ip) => Some((ip.into(), ())),
                    _ => None,
                });
            }
        }
    }

    /// Which addresses are to be looked up: those of all that is known to be a host now.
    fn choose_addresses(&mut self) {
        let hosts: BTreeSet<Host> = match &self.services {
            None => [None].into(),
            Some(track) => {
                let targets = track.known.current(&self.rule);
                targets.map(|((target, _), _)| Some(target.clone())).take(TARGETS_MAX).collect()
            }
        };
        let mut wanted: BTreeSet<(Host, u16)> = BTreeSet::new();
        for host in hosts {
            let kinds: &[u16] = match self.spec.family {
                AddressFamily::Ipv4 => &[kind::A],
                AddressFamily::Ipv6 => &[kind::AAAA],
                AddressFamily::Both => &[kind::A, kind::AAAA],
                AddressFamily::Auto if self.is_without_ipv4(&host) => &[kind::A, kind::AAAA],
                AddressFamily::Auto => &[kind::A],
            };
            wanted.extend(kinds.iter().map(|kind| (host.clone(), *kind)));
        }
        self.addresses.retain(|subject, _| wanted.contains(subject));
        for subject in wanted {
            let seed = self.rng.next_u64();
            self.addresses.entry(subject).or_insert_with(|| Track::new(seed));
        }
    }

    fn is_without_ipv4(&self, host: &Host) -> bool {
        self.addresses.get(&(host.clone(), kind::A)).is_some_and(|track| {
            track.known.is_answered() && track.known.current(&self.rule).next().is_none()
        })
    }

    async fn tell(&mut self) -> Result<(), Unheard> {
        let Some(now) = self.picture() else { return Ok(()) };
        if self.told.as_ref() == Some(&now) {
            return Ok(());
        }
        let (known, wrong) = self.told.insert(now).clone();
        match Told::of(known, wrong) {
            Some(told) => self.teller.tell(told).await,
            None => Ok(()),
        }
    }

    /// What is known, if anything, and what is wrong; `None` while the first answer of something
    /// is on its way.
    fn picture(&self) -> Option<(Option<Vec<Endpoint>>, Option<String>)> {
        let services = self.services.iter().filter_map(|track| track.wrong.as_deref());
        let wrong = self.addresses.values().filter_map(|track| track.wrong.as_deref());
        let wrong = services.chain(wrong).next().map(str::to_owned);
        let known = match (&self.services, self.spec.records) {
            (None, DnsRecords::Address { port }) => {
                self.addresses_of(&None)?.ok().map(|all| endpoints::at(all, port))
            }
            (Some(services), _) if services.known.is_answered() => {
                let mut places = Vec::new();
                let mut failed = 0;
                let chosen = services.known.current(&self.rule).take(TARGETS_MAX);
                for ((target, port), (priority, weight)) in chosen {
                    match self.addresses_of(&Some(target.clone()))? {
                        Ok(addresses) => places.push(Place {
                            priority: *priority,
                            weight: *weight,
                            port: *port,
                            addresses,
                        }),
                        Err(Unknown) => failed += 1,
                    }
                }
                (failed == 0 || !places.is_empty()).then(|| endpoints::of(&places))
            }
            _ => None,
        };
        Some((known, wrong))
    }

    /// `None`: an answer is awaited.
    fn addresses_of(&self, host: &Host) -> Option<Result<Vec<IpAddr>, Unknown>> {
        let of = |kind: u16| -> Option<Result<Vec<IpAddr>, Unknown>> {
            let track = self.addresses.get(&(host.clone(), kind))?;
            if track.known.is_answered() {
                return Some(Ok(track.known.current(&self.rule).map(|(ip, ())| *ip).collect()));
            }
            // Once it has failed, it is not waited for any more.
            track.wrong.is_some().then_some(Err(Unknown))
        };
        match self.spec.family {
            AddressFamily::Ipv4 => of(kind::A),
            AddressFamily::Ipv6 => of(kind::AAAA),
            AddressFamily::Auto => match of(kind::A)? {
                Ok(none) if none.is_empty() => of(kind::AAAA),
                known => Some(known),
            },
            AddressFamily::Both => Some(match (of(kind::A)?, of(kind::AAAA)?) {
                (Ok(ipv4), Ok(ipv6)) => Ok([ipv4, ipv6].concat()),
                (Ok(known), Err(Unknown)) | (Err(Unknown), Ok(known)) => Ok(known),
                (Err(Unknown), Err(Unknown)) => Err(Unknown),
            }),
        }
    }

    async fn read_conf_again(&mut self) {
        // Being replaced: what was read before holds.
        let Some(conf) = read_conf(&self.spec.resolv_conf).await else { return };
        if conf == self.resolver.conf {
            return;
        }
        self.resolver = Arc::new(Resolver::new(conf, self.spec.timeout));
        let now = Instant::now();
        self.services.iter_mut().for_each(|track| track.due = now);
        self.addresses.values_mut().for_each(|track| track.due = now);
    }
}

/// It was never told.
struct Unknown;

impl<K: Ord + Clone, V> Track<K, V> {
    fn new(seed: u64) -> Self {
        Self {
            known: Known::default(),
            due: Instant::now(),
            is_asked: false,
            wrong: None,
            backoff: Backoff::new(seed),
        }
    }

    fn take(
        &mut self,
        finding: Finding,
        spec: &DnsSelector,
        rule: &Rule,
        rng: &mut Rng,
        read: impl Fn(Data) -> Option<(K, V)>,
    ) {
        let now = Instant::now();
        self.is_asked = false;
        let bounded = |ttl: Duration| ttl.clamp(spec.ttl_min, spec.ttl_max);
        let (found, ttl, why) = match finding {
            Finding::Failed(why) => {
                self.wrong = Some(why);
                self.due = now + self.backoff.wait();
                return;
            }
            Finding::Found { records, ttl } => {
                let found: BTreeMap<K, V> = records.into_iter().filter_map(read).collect();
                (found, bounded(ttl), "it has no usable records".to_owned())
            }
            Finding::None { why, ttl } => {
                (BTreeMap::new(), bounded(ttl.unwrap_or(spec.ttl_min)), why)
            }
        };
        self.backoff.reset();
        let is_empty = found.is_empty();
        self.known.take(found, ttl, rule, now);
        let unsettled = self.known.is_unsettled(rule);
        self.wrong = (is_empty && unsettled).then(|| {
            format!("{why}; that is believed when it is said {} times in a row", rule.confirmations)
        });
        // After the answer has run out, or a cache on the way would only repeat it; and never all
        // balancers at once.
        let wait = if unsettled { spec.ttl_min } else { ttl };
        self.due = now + wait.mul_f64(1.0 + rng.unit() / 10.0);
    }
}

/// Ends when `resolv.conf` is to be looked at; never, if it is not used.
async fn changed(resolv_conf: &mut Option<Wake>) {
    match resolv_conf {
        None => std::future::pending().await,
        Some(wake) => {
            let _ = timeout(RESOLV_CONF_LOOK, wake.changed()).await;
        }
    }
}

async fn read_conf(path: &Path) -> Option<ResolvConf> {
    let path: PathBuf = path.to_owned();
    let read = move || -> std::io::Result<ResolvConf> {
        use std::io::Read;
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(RESOLV_CONF_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(ResolvConf::parse(&String::from_utf8_lossy(&bytes)))
    };
    tokio::task::spawn_blocking(read).await.ok()?.ok()
}
