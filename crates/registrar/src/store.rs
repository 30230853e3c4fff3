//! Stores that several balancers share: each keeps a copy in its registry, and whoever hears an
//! instance's heartbeats renews its lease there.
//!
//! An instance is a key with a lease of its TTL. Who deregisters leaves a *tombstone*: the same key
//! with a value that says so, which goes with the lease. It is written only over the instance that
//! left, and names it, so that one which comes too late ends nobody who came back meanwhile. A key
//! that goes without one has only lost its lease, perhaps because the store was away: the instance
//! then has its TTL from that moment, and comes back if it is still heard of. While the store is
//! away nobody leaves.
//!
//! Here is what a store is asked; `follow.rs` takes what it tells, `renew.rs` keeps it up to date.

mod consul;
mod etcd;
#[cfg(test)]
mod fake_etcd;
mod follow;
mod order;
mod renew;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::Instant;
use model::spec::RegistryStoreSpec;
use registry::{Instance, Listed, Refusal, Registered, Registry, is_id, is_service_name};
use tls::Dialler;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::info;

use self::order::Order;

pub(crate) use self::follow::follow;
pub(crate) use self::renew::renew;

/// For one answer of the store.
const PATIENCE: Duration = Duration::from_secs(3);
/// A tombstone's lease: long enough for every balancer to see it, if it is not away for longer.
const SEEN_WITHIN: Duration = Duration::from_secs(60);
/// Instances that left while the store was away, and are still to be taken out of it.
const LEAVES_MAX: usize = 20_000;

/// What a store tells. Numbers order the changes of a key: etcd's revisions, Consul's indexes.
#[derive(Debug)]
pub(crate) enum Event {
    /// Everything that there is: what is not among it is no longer held.
    Synced(All),
    Held(u64, Box<Instance>),
    Left(Leave),
    /// Its lease is over, though it did not say anything.
    Gone {
        service: String,
        id: String,
        number: u64,
    },
    /// It answers, and there is nothing new.
    Alive,
    /// The store does not answer, and why; nothing is known to have changed.
    Lost(String),
}

/// What a store holds at one moment.
#[derive(Debug)]
pub(crate) struct All {
    number: u64,
    /// It counts from the beginning again: it was restored, or made anew.
    counts_anew: bool,
    /// The oldest first.
    held: Vec<(u64, Instance)>,
    left: Vec<Leave>,
}

/// It said that it leaves.
#[derive(Debug)]
pub(crate) struct Leave {
    service: String,
    id: String,
    number: u64,
    /// The number of the instance that left.
    of: Option<u64>,
}

enum Kind {
    Etcd(etcd::Etcd),
    Consul(Box<consul::Consul>),
}

/// What is to be written under a key, with a lease of its own.
struct Write<'a> {
    service: &'a str,
    id: &'a str,
    value: &'a [u8],
    ttl: Duration,
    /// Only where the key was changed last at this number, or is not there; `None`: in any case.
    over: Option<u64>,
}

impl Kind {
    /// Answers the number of the change; `None`: something else is there than what it was to be
    /// written over.
    async fn write(&self, write: &Write<'_>) -> Result<Option<u64>, String> {
        let written = async {
            match self {
                Kind::Etcd(etcd) => etcd.write(write).await,
                Kind::Consul(consul) => consul.write(write).await,
            }
        };
        in_time(written).await
    }

    /// Answers whether it is still there.
    async fn renew(&self, instance: &Instance) -> Result<bool, String> {
        let renewed = async {
            match self {
                Kind::Etcd(etcd) => etcd.renew(instance).await,
                Kind::Consul(consul) => consul.renew(instance).await,
            }
        };
        in_time(renewed).await
    }

    /// Tells what there is, and what changes, until something fails; answers what, and whether
    /// there was an answer before.
    ///
    /// `highest`: the number that was heard of before; a lower one is another store's.
    async fn watch(&self, highest: u64, events: &mpsc::Sender<Event>) -> (String, bool) {
        match self {
            Kind::Etcd(etcd) => etcd.watch(highest, events).await,
            Kind::Consul(consul) => consul.watch(highest, events).await,
        }
    }
}

/// A store, and how it is.
pub(crate) struct Shared {
    kind: Kind,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Why it does not answer; at first, that it did not yet.
    lost: Option<String>,
    answered: bool,
    /// When it told something the last time.
    told_at: Instant,
    /// Who is still to be taken out of it.
    leaves: BTreeMap<(String, String), Pending>,
    order: Order,
}

/// A tombstone that is still to be written.
#[derive(Clone, Copy)]
struct Pending {
    /// The number of the instance that left.
    of: u64,
    /// It matters no longer than this.
    until: std::time::Instant,
}

impl Shared {
    pub(crate) fn new(spec: &RegistryStoreSpec, directory: &Path) -> Result<Self, String> {
        let kind = match spec {
            RegistryStoreSpec::Etcd { endpoints, prefix, tls, user } => {
                let tls = Arc::new(Dialler::new(tls.clone().placed(directory)));
                let user = user.clone().map(|user| etcd::User::new(user, directory)).transpose()?;
                Kind::Etcd(etcd::Etcd::new(endpoints, prefix, &tls, user)?)
            }
            RegistryStoreSpec::Consul { url, token, prefix, tls } => {
                let tls = Arc::new(Dialler::new(tls.clone().placed(directory)));
                let read = |token| tls::read_secret(token, directory);
                let token = token.as_ref().map(read).transpose()?;
                Kind::Consul(Box::new(consul::Consul::new(url, token.as_deref(), prefix, &tls)?))
            }
        };
        let state = State { lost: Some("no answer yet".into()), ..State::default() };
        Ok(Self { kind, state: Mutex::new(state) })
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Etcd(_) => "etcd",
            Kind::Consul(_) => "consul",
        }
    }

    /// Why what is known may be old.
    pub(crate) fn lost(&self) -> Option<String> {
        self.state().lost.clone()
    }

    /// It has told at least once what there is.
    pub(crate) fn has_answered(&self) -> bool {
        self.state().answered
    }

    /// Until when it is known what the store has: nobody's time ends after that, for another
    /// balancer may hear an instance and be unable to say so.
    pub(crate) fn told_at(&self) -> Instant {
        self.state().told_at
    }

    /// Answers the number of the change.
    pub(crate) async fn put(&self, instance: &Instance) -> Result<u64, String> {
        let put = self.write(instance, None).await?;
        let number = put.ok_or_else(|| "the store checked what it was not asked to".to_owned())?;
        // Only now: where nothing was put, the store is still to be told that the one before left.
        let key = (instance.service.clone(), instance.id.clone());
        let mut state = self.state();
        if state.leaves.get(&key).is_some_and(|pending| pending.of < number) {
            state.leaves.remove(&key);
        }
        Ok(number)
    }

    /// With another lease; as [`Write::over`] says.
    async fn write(&self, instance: &Instance, over: Option<u64>) -> Result<Option<u64>, String> {
        // Text, numbers, and maps with text as keys: this cannot fail.
        let value = serde_json::to_vec(instance).unwrap_or_default();
        let (service, id, ttl) = (&*instance.service, &*instance.id, instance.ttl());
        self.kind.write(&Write { service, id, value: &value, ttl, over }).await
    }

    /// Takes what was put at `number` into the registry, unless it changed since; `None`: it did,
    /// and is not there.
    pub(crate) fn take(
        &self,
        registry: &mut Registry,
        instance: Instance,
        number: u64,
        now: Instant,
    ) -> Result<Option<Registered>, Refusal> {
        let (service, id) = (instance.service.clone(), instance.id.clone());
        if self.state().order.hold(&service, &id, number) {
            return registry.hold(instance, now).map(Some);
        }
        let found = registry.find(&service, &id, now);
        let unchanged = |listed: Listed| Registered {
            instance: listed.instance,
            new: false,
            changes: Vec::new(),
        };
        Ok(found.map(unchanged))
    }

    /// It left here, which the store is to be told: by [`Shared::leave`], which wants to know what
    /// is answered here, or by the next sweep, which is why it is noted before anybody is told.
    pub(crate) fn left_here(&self, service: &str, id: &str, now: Instant) -> u64 {
        let mut state = self.state();
        let of = state.order.left_here(service, id, now);
        let key = (service.to_owned(), id.to_owned());
        if state.leaves.len() < LEAVES_MAX || state.leaves.contains_key(&key) {
            let until = std::time::Instant::now() + registry::TTL_MAX;
            state.leaves.insert(key, Pending { of, until });
        }
        of
    }

    /// Writes a tombstone over what is there since `of`, or over nothing; now, or once the store
    /// answers again. Whoever wrote there meanwhile has the last word.
    pub(crate) async fn leave(&self, service: &str, id: &str, of: u64) {
        let value = &*tombstone(of);
        let left = match self.lost() {
            Some(why) => Err(why),
            None => {
                let (ttl, over) = (SEEN_WITHIN, Some(of));
                self.kind.write(&Write { service, id, value, ttl, over }).await
            }
        };
        match left {
            Ok(written) => {
                if written.is_none() {
                    info!(
                        "registry: {service}: {id} came back before the store heard that it left"
                    );
                }
                let key = (service.to_owned(), id.to_owned());
                let mut state = self.state();
                // Another may have come to be told since.
                if state.leaves.get(&key).is_some_and(|pending| pending.of == of) {
                    state.leaves.remove(&key);
                }
            }
            Err(why) => {
                info!("registry: {service}: that {id} left is told to the store later: {why}");
            }
        }
    }

    /// Of one whose address another took: the next sweep tells the store.
    pub(crate) fn forget_later(&self, service: &str, id: &str, why: &str, now: Instant) {
        if why == registry::REPLACED {
            self.left_here(service, id, now);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Only ever locked for a moment, and no half-made state is left.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = |_| Err(format!("no answer within {PATIENCE:?}"));
    timeout(PATIENCE, asked).await.unwrap_or_else(late)
}

/// Service and id of a key below `prefix`; `None`: it is none of ours.
fn parse_key<'a>(key: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    let (service, id) = key.strip_prefix(prefix)?.split_once('/')?;
    (is_service_name(service) && is_id(id)).then_some((service, id))
}

/// What a key's value says.
enum Value {
    Instance(Box<Instance>),
    Tombstone { of: Option<u64> },
}

/// What says that the instance which the key held since `of` left.
fn tombstone(of: u64) -> Vec<u8> {
    format!(r#"{{"left":true,"of":{of}}}"#).into_bytes()
}

#[derive(serde::Deserialize)]
struct Tombstone {
    left: bool,
    of: Option<u64>,
}

/// `None`: it is nothing of ours, or not under its own key.
fn parse_value(service: &str, id: &str, value: &[u8]) -> Option<Value> {
    if let Ok(Tombstone { left: true, of }) = serde_json::from_slice(value) {
        return Some(Value::Tombstone { of });
    }
    let instance: Instance = serde_json::from_slice(value).ok()?;
    let is_its_own = instance.service == service && instance.id == id;
    (is_its_own && instance.check().is_ok()).then(|| Value::Instance(Box::new(instance)))
}

#[cfg(test)]
mod tests;
