//! Stores that several balancers share: each keeps a copy in its registry, and whoever hears an
//! instance's heartbeats renews its lease there.
//!
//! An instance is a key with a lease of its TTL. Who deregisters leaves a *tombstone*: the same key
//! with a value that says so, which goes with the lease. It is written only over the instance that
//! left, and names it, so that one which comes too late ends nobody who came back meanwhile. A key that goes without one has only lost
//! its lease, perhaps because the store was away: the instance then has its TTL from that moment,
//! and comes back if it is still heard of. While the store is away nobody leaves.

mod consul;
mod etcd;
#[cfg(test)]
mod fake_etcd;
mod order;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use discovery::Backoff;
use model::Instant;
use model::spec::{ClientTlsSpec, RegistryStoreSpec};
use registry::{Change, Instance, Listed, Refusal, Registered, Registry, is_id, is_service_name};
use tls::Dialler;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::client::IDLE_MAX;
use crate::keeper::Keeper;

use self::order::{Leaving, Order};

/// For one answer of the store.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often those that were heard of have their leases renewed: TTLs are seconds.
const SWEEP: Duration = Duration::from_secs(1);
/// Leases that are renewed at once, and tombstones that are written at once beside them.
const AT_ONCE: usize = IDLE_MAX;
/// Events of the store that wait to be taken; then the store waits.
const EVENTS: usize = 1024;
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
                let tls = Arc::new(Dialler::new(tls_from(tls, directory)));
                let user = user.clone().map(|user| etcd::User::new(user, directory)).transpose()?;
                Kind::Etcd(etcd::Etcd::new(endpoints, prefix, &tls, user)?)
            }
            RegistryStoreSpec::Consul { url, token, prefix, tls } => {
                let tls = Arc::new(Dialler::new(tls_from(tls, directory)));
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

    /// It left here, which the store is to be told: by [`Shared::leave`], which wants to know what is
    /// answered here, or by the next sweep.
    pub(crate) fn left_here(&self, service: &str, id: &str, now: Instant) -> u64 {
        let of = self.state().order.left_here(service, id, now);
        self.leave_later(service, id, of);
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
                self.leave_later(service, id, of);
            }
        }
    }

    fn leave_later(&self, service: &str, id: &str, of: u64) {
        let mut state = self.state();
        let came_back = state.order.held_at(service, id) > of;
        let key = (service.to_owned(), id.to_owned());
        let is_noted = state.leaves.get(&key).is_some_and(|pending| pending.of == of);
        if !came_back && !is_noted && state.leaves.len() < LEAVES_MAX {
            let until = std::time::Instant::now() + registry::TTL_MAX;
            state.leaves.insert(key, Pending { of, until });
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

/// Its paths count from `directory`.
fn tls_from(spec: &ClientTlsSpec, directory: &Path) -> ClientTlsSpec {
    let mut spec = spec.clone();
    let files = spec.certificate.iter_mut();
    for path in files.flat_map(|f| [&mut f.certificate, &mut f.key]).chain(&mut spec.ca) {
        *path = directory.join(&*path);
    }
    spec
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

/// Keeps the registry as the store is, until the future is dropped.
pub(crate) async fn follow(keeper: Arc<Keeper>) {
    let Some(store) = &keeper.store else { return };
    let (sender, mut events) = mpsc::channel(EVENTS);
    let watch = async {
        let mut backoff = Backoff::new(keeper.chance());
        loop {
            // What is told from now on is not older than this, unless the store counts anew.
            let highest = store.state().order.highest();
            let (ended, synced) = store.kind.watch(highest, &sender).await;
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
        Event::Synced(all) => sync(keeper, store, all, now),
        Event::Held(number, instance) => hold(keeper, store, number, *instance, now),
        Event::Left(leave) => left(keeper, store, &leave, now),
        Event::Gone { service, id, number } => {
            let mut registry = keeper.registry();
            if store.state().order.go(&service, &id, number, now) {
                registry.release(&service, &id, now);
            }
        }
    }
    if is_news {
        store.state().told_at = now;
        keeper.wake();
    }
}

fn sync(keeper: &Keeper, store: &Shared, all: All, now: Instant) {
    if all.counts_anew {
        let mut state = store.state();
        state.order.begin_anew();
        // Their numbers mean nothing any more: only where there is nothing they still leave.
        state.leaves.values_mut().for_each(|pending| pending.of = 0);
    }
    for leave in &all.left {
        left(keeper, store, leave, now);
    }
    let present: BTreeSet<(&str, &str)> =
        all.held.iter().map(|(_, i)| (&*i.service, &*i.id)).collect();
    let mut lost = 0;
    {
        let mut registry = keeper.registry();
        for held in registry.held() {
            let (service, id) = (&*held.service, &*held.id);
            if !present.contains(&(service, id))
                && store.state().order.go(service, id, all.number, now)
            {
                registry.release(service, id, now);
                lost += 1;
            }
        }
        if store.lost().is_some() {
            // Those whose lease ended before are given one by who hears them, now that it can.
            registry.begin_again(now);
        }
    }
    drop(present);
    info!(
        "registry: {} answers with {} instances; {lost} of ours have lost their lease there",
        store.name(),
        all.held.len(),
    );
    for (number, instance) in all.held {
        hold(keeper, store, number, instance, now);
    }
    let mut state = store.state();
    (state.lost, state.answered) = (None, true);
    drop(state);
    tell_all(keeper);
}

fn left(keeper: &Keeper, store: &Shared, leave: &Leave, now: Instant) {
    let Leave { service, id, number, of } = leave;
    let mut registry = keeper.registry();
    let change = match store.state().order.leave(service, id, *number, *of, now) {
        Leaving::Left => registry.deregister(service, id),
        // Whoever hears it puts it there again.
        Leaving::Released => {
            registry.release(service, id, now);
            None
        }
        Leaving::Late => None,
    };
    drop(registry);
    if let Some(change) = change {
        keeper.publish(service, &[change]);
    }
}

fn hold(keeper: &Keeper, store: &Shared, number: u64, instance: Instance, now: Instant) {
    let key = (instance.service.clone(), instance.id.clone());
    {
        let mut state = store.state();
        if let Some(pending) = state.leaves.get(&key) {
            // It left here while the store was away, and the store does not know yet.
            if number <= pending.of {
                return;
            }
            info!("registry: {}: {} came back through another balancer", key.0, key.1);
            state.leaves.remove(&key);
        }
    }
    let (service, id) = key;
    let held = store.take(&mut keeper.registry(), instance, number, now);
    match held {
        Ok(Some(registered)) if !registered.changes.is_empty() => {
            keeper.publish(&service, &registered.changes);
        }
        Ok(_) => {}
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
    tokio::join!(renew_leases(&keeper), tell_leaves(&keeper));
}

async fn renew_leases(keeper: &Arc<Keeper>) {
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
            let keeper = Arc::clone(keeper);
            tokio::spawn(async move {
                renew_one(&keeper, &instance, held).await;
                drop(place);
            });
        }
        let registry = keeper.registry();
        let is_known = |service: &str, id: &str| registry.find(service, id, next).is_some();
        store.state().order.forget(next, is_known);
    }
}

/// Beside the renewals: after a time without the store there may be as many as [`LEAVES_MAX`], and
/// meanwhile those who live are not to lose their leases.
async fn tell_leaves(keeper: &Arc<Keeper>) {
    let Some(store) = &keeper.store else { return };
    loop {
        sleep(SWEEP).await;
        let now = std::time::Instant::now();
        let leaves: Vec<(String, String)> = {
            let mut state = store.state();
            state.leaves.retain(|_, pending| pending.until > now);
            state.leaves.keys().cloned().collect()
        };
        // Ends with this future, and so with the registry.
        let mut under_way = JoinSet::new();
        for (service, id) in leaves {
            if store.lost().is_some() {
                break;
            }
            if under_way.len() >= AT_ONCE {
                under_way.join_next().await;
            }
            let keeper = Arc::clone(keeper);
            under_way.spawn(async move { tell_leave(&keeper, service, id).await });
        }
        while under_way.join_next().await.is_some() {}
    }
}

async fn tell_leave(keeper: &Keeper, service: String, id: String) {
    let Some(store) = &keeper.store else { return };
    let is_back = keeper.registry().find(&service, &id, keeper.now()).is_some();
    let key = (service, id);
    // It may have been told, or come back, since.
    let pending = store.state().leaves.get(&key).copied();
    match pending {
        // One that registered again has not left.
        Some(_) if is_back => {
            store.state().leaves.remove(&key);
        }
        Some(pending) => store.leave(&key.0, &key.1, pending.of).await,
        None => {}
    }
}

async fn renew_one(keeper: &Keeper, instance: &Instance, held: bool) {
    let Some(store) = &keeper.store else { return };
    let renewed = match held {
        true => store.kind.renew(instance).await,
        false => Ok(false),
    };
    let outcome = match renewed {
        Ok(true) => Ok(()),
        Ok(false) => {
            let (service, id) = (&*instance.service, &*instance.id);
            // It may have left while we asked.
            let of = {
                let registry = keeper.registry();
                if registry.find(service, id, keeper.now()).is_none() {
                    return;
                }
                store.state().order.held_at(service, id)
            };
            info!("registry: {service}: {id} lost its lease and lives; it gets another");
            let put = store.write(instance, Some(of)).await;
            put.map(|number| {
                let Some(number) = number else { return }; // the watch tells what came after it
                let mut registry = keeper.registry();
                if registry.find(service, id, keeper.now()).is_some() {
                    // Without news it changes nothing but that it is held.
                    let now = keeper.now();
                    let _ = store.take(&mut registry, instance.clone(), number, now);
                    let _ = registry.heartbeat(service, id, now);
                }
            })
        }
        Err(why) => Err(why),
    };
    // The next heartbeat tries again, long before the lease ends.
    if let Err(why) = outcome {
        info!("registry: {}: the lease of {} is not renewed: {why}", instance.service, instance.id);
    }
}

#[cfg(test)]
mod tests;
