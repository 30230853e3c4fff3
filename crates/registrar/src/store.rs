//! Stores that several balancers share: each keeps a copy in its registry, and whoever hears an
//! instance's heartbeats renews its lease there.
//!
//! An instance is a key with a lease of its TTL. Who deregisters leaves a *tombstone*: the same key
//! with a value that says so, which goes with the lease. A key that goes without one has only lost
//! its lease, perhaps because the store was away: the instance then has its TTL from that moment,
//! and comes back if it is still heard of. While the store is away nobody leaves.

mod consul;
mod etcd;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use discovery::Backoff;
use model::Instant;
use model::spec::RegistryStoreSpec;
use registry::{Change, Instance, is_id, is_service_name};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::keeper::Keeper;
use crate::secret;

/// For one answer of the store.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often those that were heard of have their leases renewed: TTLs are seconds.
const SWEEP: Duration = Duration::from_secs(1);
/// Leases that are renewed at once.
const AT_ONCE: usize = 32;
/// Events of the store that wait to be taken; then the store waits.
const EVENTS: usize = 1024;
/// Instances that left while the store was away, and are still to be taken out of it.
const LEAVES_MAX: usize = 20_000;

/// What a store tells.
#[derive(Debug)]
pub(crate) enum Event {
    /// Everything that there is, the oldest first: what is not among it is no longer held.
    Synced(Vec<Instance>),
    Held(Box<Instance>),
    /// It said that it leaves.
    Left {
        service: String,
        id: String,
    },
    /// Its lease is over, though it did not say anything.
    Gone {
        service: String,
        id: String,
    },
    /// It answers, and there is nothing new.
    Alive,
    /// The store does not answer, and why; nothing is known to have changed.
    Lost(String),
}

enum Kind {
    Etcd(etcd::Etcd),
    Consul(Box<consul::Consul>),
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
    /// Who is still to be taken out of it, and until when that matters.
    leaves: BTreeMap<(String, String), std::time::Instant>,
}

impl Shared {
    pub(crate) fn new(spec: &RegistryStoreSpec, directory: &Path) -> Result<Self, String> {
        let kind = match spec {
            RegistryStoreSpec::Etcd { endpoints, prefix } => {
                Kind::Etcd(etcd::Etcd::new(endpoints, prefix)?)
            }
            RegistryStoreSpec::Consul { url, token, prefix } => {
                let read = |token| secret::read(token, directory);
                let token = token.as_ref().map(read).transpose()?;
                Kind::Consul(Box::new(consul::Consul::new(url, token.as_deref(), prefix)?))
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

    pub(crate) async fn put(&self, instance: &Instance) -> Result<(), String> {
        let key = (instance.service.clone(), instance.id.clone());
        self.state().leaves.remove(&key);
        let put = async {
            match &self.kind {
                Kind::Etcd(etcd) => etcd.put(instance).await,
                Kind::Consul(consul) => consul.put(instance).await,
            }
        };
        in_time(put).await
    }

    /// Answers whether it is still there.
    async fn renew(&self, instance: &Instance) -> Result<bool, String> {
        let renewed = async {
            match &self.kind {
                Kind::Etcd(etcd) => etcd.renew(instance).await,
                Kind::Consul(consul) => consul.renew(instance).await,
            }
        };
        in_time(renewed).await
    }

    /// Writes a tombstone; now, or once the store answers again.
    pub(crate) async fn leave(&self, service: &str, id: &str) {
        let left = async {
            match &self.kind {
                Kind::Etcd(etcd) => etcd.leave(service, id).await,
                Kind::Consul(consul) => consul.leave(service, id).await,
            }
        };
        let left = match self.lost() {
            Some(why) => Err(why),
            None => in_time(left).await,
        };
        match left {
            Ok(()) => drop(self.state().leaves.remove(&(service.to_owned(), id.to_owned()))),
            Err(why) => {
                info!("registry: {service}: that {id} left is told to the store later: {why}");
                self.leave_later(service, id);
            }
        }
    }

    fn leave_later(&self, service: &str, id: &str) {
        let mut state = self.state();
        if state.leaves.len() < LEAVES_MAX {
            let until = std::time::Instant::now() + registry::TTL_MAX;
            state.leaves.insert((service.to_owned(), id.to_owned()), until);
        }
    }

    /// Of one whose address another took: the next sweep tells the store.
    pub(crate) fn forget_later(&self, service: &str, id: &str, why: &str) {
        if why == registry::REPLACED {
            self.leave_later(service, id);
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
    Tombstone,
}

const TOMBSTONE: &str = r#"{"left":true}"#;

/// `None`: it is nothing of ours, or not under its own key.
fn parse_value(service: &str, id: &str, value: &[u8]) -> Option<Value> {
    if value == TOMBSTONE.as_bytes() {
        return Some(Value::Tombstone);
    }
    let instance: Instance = serde_json::from_slice(value).ok()?;
    let is_its_own = instance.service == service && instance.id == id;
    (is_its_own && instance.check().is_ok()).then(|| Value::Instance(Box::new(instance)))
}

/// Keeps the registry as the store is, until the future is dropped.
pub(crate) async fn follow(keeper: Arc<Keeper>) {
    let Some(store) = &keeper.store else { return };
    let (sender, mut events) = mpsc::channel(EVENTS);
    let watch = async {
        let mut backoff = Backoff::new(keeper.chance());
        loop {
            let (ended, synced) = match &store.kind {
                Kind::Etcd(etcd) => etcd.watch(&sender).await,
                Kind::Consul(consul) => consul.watch(&sender).await,
            };
            if synced {
                backoff.reset();
            }
            if sender.send(Event::Lost(ended)).await.is_err() {
                return;
            }
            sleep(backoff.wait()).await;
        }
    };
    let take = async {
        while let Some(event) = events.recv().await {
            take(&keeper, store, event);
        }
    };
    tokio::join!(watch, take);
}

fn take(keeper: &Keeper, store: &Shared, event: Event) {
    let now = keeper.now();
    let is_news = !matches!(event, Event::Lost(_));
    match event {
        Event::Alive => {}
        Event::Lost(why) => {
            let name = store.name();
            let before = store.state().lost.replace(why.clone());
            if before.is_none() {
                warn!("registry: {name} is lost: {why}; all instances stay as they are");
                tell_all(keeper);
            }
        }
        Event::Synced(instances) => {
            let present: BTreeSet<(&str, &str)> =
                instances.iter().map(|i| (&*i.service, &*i.id)).collect();
            let absent: Vec<Arc<Instance>> = keeper
                .registry()
                .held()
                .into_iter()
                .filter(|held| !present.contains(&(&*held.service, &*held.id)))
                .collect();
            for instance in &absent {
                keeper.registry().release(&instance.service, &instance.id, now);
            }
            drop(present);
            if store.lost().is_some() {
                // Those whose lease ended before are given one by who hears them, now that it can.
                keeper.registry().begin_again(now);
            }
            info!(
                "registry: {} answers with {} instances; {} of ours have lost their lease there",
                store.name(),
                instances.len(),
                absent.len()
            );
            for instance in instances {
                hold(keeper, store, instance, now);
            }
            let mut state = store.state();
            (state.lost, state.answered) = (None, true);
            drop(state);
            tell_all(keeper);
        }
        Event::Held(instance) => hold(keeper, store, *instance, now),
        Event::Left { service, id } => {
            let change = keeper.registry().deregister(&service, &id);
            if let Some(change) = change {
                keeper.publish(&service, &[change]);
            }
        }
        Event::Gone { service, id } => {
            keeper.registry().release(&service, &id, now);
        }
    }
    if is_news {
        store.state().told_at = now;
        keeper.wake();
    }
}

fn hold(keeper: &Keeper, store: &Shared, instance: Instance, now: Instant) {
    let service = instance.service.clone();
    // It left here while the store was away, and the store does not know yet.
    if store.state().leaves.contains_key(&(service.clone(), instance.id.clone())) {
        return;
    }
    let id = instance.id.clone();
    let held = keeper.registry().hold(instance, now);
    match held {
        Ok(registered) if registered.changes.is_empty() => {}
        Ok(registered) => drop(keeper.publish(&service, &registered.changes)),
        Err(refusal) => warn!("registry: {service}: {id} of the store is left out: {refusal}"),
    }
}

/// Whether lists are up to date is part of each.
fn tell_all(keeper: &Keeper) {
    let services: Vec<String> =
        keeper.registry().services().map(|(name, ..)| name.to_owned()).collect();
    for service in services {
        keeper.publish(&service, &[] as &[Change]);
    }
}

/// Renews the leases of those that were heard of here, gives one to those that lost theirs and
/// live, and takes out those that left. Until the future is dropped.
pub(crate) async fn renew(keeper: Arc<Keeper>) {
    let Some(store) = &keeper.store else { return };
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut since = Instant::ZERO;
    loop {
        sleep(SWEEP).await;
        if store.lost().is_some() {
            continue; // what was heard meanwhile is renewed after it
        }
        let next = keeper.now();
        let heard = keeper.registry().heard_since(since);
        since = next;
        for (instance, held) in heard {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let keeper = Arc::clone(&keeper);
            tokio::spawn(async move {
                renew_one(&keeper, &instance, held).await;
                drop(place);
            });
        }
        let now = std::time::Instant::now();
        let leaves: Vec<(String, String)> = {
            let mut state = store.state();
            state.leaves.retain(|_, until| *until > now);
            state.leaves.keys().cloned().collect()
        };
        for (service, id) in leaves {
            // One that registered again since has not left.
            if keeper.registry().find(&service, &id, next).is_some() {
                store.state().leaves.remove(&(service, id));
            } else {
                store.leave(&service, &id).await;
            }
        }
    }
}

async fn renew_one(keeper: &Keeper, instance: &Instance, held: bool) {
    let Some(store) = &keeper.store else { return };
    let renewed = match held {
        true => store.renew(instance).await,
        false => Ok(false),
    };
    let outcome = match renewed {
        Ok(true) => Ok(()),
        Ok(false) => {
            // It may have left while we asked.
            let (service, id) = (&instance.service, &instance.id);
            if keeper.registry().find(service, id, keeper.now()).is_none() {
                return;
            }
            info!("registry: {service}: {id} lost its lease and lives; it gets another");
            store.put(instance).await
        }
        Err(why) => Err(why),
    };
    // The next heartbeat tries again, long before the lease ends.
    if let Err(why) = outcome {
        info!("registry: {}: the lease of {} is not renewed: {why}", instance.service, instance.id);
    }
}

#[cfg(test)]
mod tests {
    use registry::Registration;

    use super::*;

    #[test]
    fn keys_and_values_that_are_not_ours_are_left_alone() {
        for (key, expected) in [
            ("p/web/web-1", Some(("web", "web-1"))),
            ("p/web/10.0.0.1:80", Some(("web", "10.0.0.1:80"))),
            ("p/web", None),
            ("p/web/", None),
            ("p/web/a/b", None),
            ("q/web/a", None),
            ("p//a", None),
            ("", None),
        ] {
            assert_eq!(parse_key(key, "p/"), expected, "{key}");
        }
        let instance =
            Instance::new("web", Registration::on(80), "a", [10, 0, 0, 1].into()).unwrap();
        let json = serde_json::to_vec(&instance).unwrap();
        assert!(matches!(parse_value("web", "a", &json), Some(Value::Instance(_))));
        assert!(parse_value("web", "b", &json).is_none(), "another's key");
        assert!(parse_value("web", "a", b"{}").is_none());
        assert!(parse_value("web", "a", b"\xff").is_none());
        let portless = Instance { port: 0, ..instance };
        assert!(parse_value("web", "a", &serde_json::to_vec(&portless).unwrap()).is_none());
        assert!(matches!(parse_value("web", "a", TOMBSTONE.as_bytes()), Some(Value::Tombstone)));
    }
}
