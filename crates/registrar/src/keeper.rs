//! The registry with a clock: who changes it, who waits for it, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::Instant;
use model::spec::{EmbeddedRegistrySpec, RegistryDataSpec};
use model::status::RegistryStatus;
use registry::{
    Change, Instance, Limits, Listed, PreservationRule, Refusal, Registration, Registry,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::journal::Journal;
use crate::store::Shared;
use crate::tokens::Tokens;
use crate::{api, checks};

/// In the directory of the configuration, where it names no other.
const DATA_FILE: &str = "evenkeel-registry.redb";

/// A registry that keeps nothing on disk has heard of everybody after so long: with the TTL that
/// is usual, three heartbeats.
const SETTLING: Duration = Duration::from_secs(15);

/// Instances that left while it was not known who is missing; as many as there are by default.
const LEFT_MAX: usize = 20_000;

/// Services that are waited for, or were, before those that were are forgotten.
const WAITED_FOR: usize = 1024;

/// What is there of a service, and whether to believe it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    pub service: String,
    /// Another one after each change; only equality means something.
    pub version: u64,
    pub instances: Vec<Listed>,
    /// Most instances fell silent at once, and none leaves for its silence.
    pub preserving: bool,
    /// The registry has begun without knowing of the time before, and does not know yet who is
    /// missing: who is not listed may be there all the same.
    pub settling: bool,
    /// Who left since it began, while it is settling: they are not there all the same.
    #[serde(skip_serializing_if = "BTreeSet::is_empty", default)]
    pub left: BTreeSet<String>,
    /// Why this may be old: the store that all share does not answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stale: Option<String>,
}

/// A registry that is served. Ends when dropped.
pub struct Registrar {
    keeper: Arc<Keeper>,
    tasks: Vec<JoinHandle<()>>,
    server: JoinHandle<()>,
}

impl Registrar {
    /// Serves on `listener`; relative paths count from `directory`. An error is a sentence for
    /// people.
    pub fn start(
        spec: &EmbeddedRegistrySpec,
        directory: &Path,
        listener: TcpListener,
    ) -> Result<Self, String> {
        let tokens = tokens(spec, directory)?;
        let (journal, kept) = match &spec.data {
            RegistryDataSpec::Off => (None, Default::default()),
            RegistryDataSpec::File(path) => {
                let (journal, kept) = Journal::open(&directory.join(path))?;
                (Some(Arc::new(journal)), kept)
            }
            RegistryDataSpec::Beside => match Journal::open(&directory.join(DATA_FILE)) {
                Ok((journal, kept)) => (Some(Arc::new(journal)), kept),
                Err(why) => {
                    warn!("{why}; nothing of it survives a restart. `registry.data` names a file");
                    (None, Default::default())
                }
            },
        };
        let store = spec.store.as_ref().map(|store| Shared::new(store, directory)).transpose()?;
        // Milliseconds since 1970: later than any version that was told, also where what was
        // told last had not been written.
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let version = (kept.version + 1).max(since_1970.as_millis() as u64);
        let keeper = Arc::new(Keeper {
            registry: Mutex::new(Registry::new(limits(spec), rule(spec), version)),
            begun: std::time::Instant::now(),
            waiting: Mutex::default(),
            all: watch::Sender::new(version),
            settings: Mutex::new(Arc::new(Settings::new(spec, tokens))),
            journal,
            store,
            left: Mutex::default(),
            earlier: Notify::new(),
            seed: RandomState::new(),
            counters: Counters::default(),
        });
        keeper.restore(kept.instances);
        let mut tasks = vec![
            tokio::spawn(Arc::clone(&keeper).watch_the_clock()),
            tokio::spawn(checks::run(Arc::clone(&keeper))),
        ];
        if let Some(journal) = &keeper.journal {
            tasks.push(tokio::spawn(Arc::clone(journal).write_on()));
        }
        if keeper.store.is_some() {
            tasks.push(tokio::spawn(crate::store::follow(Arc::clone(&keeper))));
            tasks.push(tokio::spawn(crate::store::renew(Arc::clone(&keeper))));
        }
        let server = serve(&keeper, spec, listener);
        Ok(Self { keeper, tasks, server })
    }

    /// Tokens, limits and rules from now on; what is served elsewhere, on `listener`.
    pub fn configure(
        &mut self,
        spec: &EmbeddedRegistrySpec,
        directory: &Path,
        listener: Option<TcpListener>,
    ) -> Result<(), String> {
        let settings = Settings::new(spec, tokens(spec, directory)?);
        self.keeper.registry().configure(limits(spec), rule(spec));
        *lock(&self.keeper.settings) = Arc::new(settings);
        if let Some(listener) = listener {
            let former = std::mem::replace(&mut self.server, serve(&self.keeper, spec, listener));
            former.abort();
        }
        Ok(())
    }

    /// What there is of a service now.
    pub fn list(&self, service: &str) -> List {
        self.keeper.list(service)
    }

    /// Changes whenever the list of the service does.
    pub fn watch(&self, service: &str) -> watch::Receiver<u64> {
        self.keeper.watch(service)
    }

    /// For who looks while the registry may be replaced.
    pub fn keeper(&self) -> Arc<Keeper> {
        Arc::clone(&self.keeper)
    }

    pub fn status(&self) -> RegistryStatus {
        self.keeper.status()
    }
}

impl Drop for Registrar {
    fn drop(&mut self) {
        self.server.abort();
        for task in &self.tasks {
            task.abort();
        }
        if let Some(journal) = &self.keeper.journal {
            journal.write();
        }
    }
}

fn serve(
    keeper: &Arc<Keeper>,
    spec: &EmbeddedRegistrySpec,
    listener: TcpListener,
) -> JoinHandle<()> {
    let site = Arc::new(api::RegistrySite(Arc::clone(keeper)));
    tokio::spawn(admin::serve_site(listener, site, spec.connections_max))
}

fn tokens(spec: &EmbeddedRegistrySpec, directory: &Path) -> Result<Tokens, String> {
    let admin = spec.token.as_ref().map(|token| tls::read_secret(token, directory)).transpose()?;
    let read = |(name, token): (&model::ServiceName, _)| {
        Ok((name.to_string(), tls::read_secret(token, directory)?))
    };
    let services = spec.tokens.iter().map(read).collect::<Result<_, String>>()?;
    Ok(Tokens { admin, services })
}

fn limits(spec: &EmbeddedRegistrySpec) -> Limits {
    Limits {
        services: spec.services_max,
        instances: spec.instances_max,
        metadata: spec.metadata_max,
    }
}

fn rule(spec: &EmbeddedRegistrySpec) -> PreservationRule {
    PreservationRule {
        renewals_min: spec.renewals_min,
        instances_min: spec.preserved_instances_min,
        hold_max: spec.preserved_max,
    }
}

/// What may change while it is served.
pub(crate) struct Settings {
    pub(crate) tokens: Tokens,
    pub(crate) watchers: Arc<Semaphore>,
    pub(crate) watchers_max: usize,
}

impl Settings {
    fn new(spec: &EmbeddedRegistrySpec, tokens: Tokens) -> Self {
        let watchers_max = spec.watchers_max;
        Self { tokens, watchers: Arc::new(Semaphore::new(watchers_max)), watchers_max }
    }
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) registrations: AtomicU64,
    pub(crate) heartbeats: AtomicU64,
    pub(crate) deregistrations: AtomicU64,
    pub(crate) expirations: AtomicU64,
    pub(crate) refused: AtomicU64,
}

impl Counters {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the parts of a registry share.
pub struct Keeper {
    registry: Mutex<Registry>,
    begun: std::time::Instant,
    /// Who waits for which service.
    waiting: Mutex<BTreeMap<String, watch::Sender<u64>>>,
    /// Who waits for any.
    all: watch::Sender<u64>,
    settings: Mutex<Arc<Settings>>,
    journal: Option<Arc<Journal>>,
    pub(crate) store: Option<Shared>,
    /// By service, who left while it was not known who is missing.
    left: Mutex<BTreeMap<String, BTreeSet<String>>>,
    /// There is something to do earlier than there was.
    earlier: Notify,
    seed: RandomState,
    pub(crate) counters: Counters,
}

/// Only ever held for a moment, and nothing half-made is left behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keeper {
    pub(crate) fn now(&self) -> Instant {
        let nanos = self.begun.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&lock(&self.settings))
    }

    fn restore(&self, instances: Vec<Instance>) {
        let now = self.now();
        let (mut restored, mut refused) = (0, 0);
        let mut registry = self.registry();
        for instance in instances {
            match registry.restore(instance, now) {
                Ok(_) => restored += 1,
                Err(_) => refused += 1,
            }
        }
        if restored + refused > 0 {
            info!(
                "registry: {restored} instances are known from before, and must prove themselves; \
                 {refused} are beyond the limits and left out"
            );
        }
    }

    /// A number by chance, for waits.
    pub(crate) fn chance(&self) -> u64 {
        self.seed.hash_one("chance")
    }

    /// A name for one that brings none.
    fn new_id(&self, service: &str) -> String {
        let number =
            self.seed.hash_one((service, self.now().as_nanos(), self.all.receiver_count()));
        format!("{service:.80}-{:012x}", number & 0xffff_ffff_ffff)
    }

    /// Takes an instance; in the store that all share first, where there is one.
    pub(crate) async fn register(
        &self,
        service: &str,
        registration: Registration,
        peer: std::net::IpAddr,
    ) -> Result<(Arc<Instance>, bool, u64), Failed> {
        let instance = Instance::new(service, registration, &self.new_id(service), peer)?;
        self.registry().admits(&instance)?;
        if let Some(left) = lock(&self.left).get_mut(service) {
            left.remove(&instance.id);
        }
        let registered = match &self.store {
            None => self.registry().register(instance, self.now())?,
            Some(store) => {
                let number = store.put(&instance).await.map_err(Failed::Store)?;
                let mut registry = self.registry();
                let now = self.now();
                let gone = || Failed::Store("it was taken out again at once".into());
                let taken = store.take(&mut registry, instance, number, now)?;
                let registered = taken.ok_or_else(gone)?;
                let id = &registered.instance.id;
                let _ = registry.heartbeat(service, id, now); // it was just put there
                registered
            }
        };
        Counters::count(&self.counters.registrations);
        self.earlier.notify_one();
        let version = self.publish(service, &registered.changes);
        Ok((registered.instance, registered.new, version))
    }

    /// It lives; a registry that does not know it says so, and it registers again.
    pub fn heartbeat(&self, service: &str, id: &str) -> Result<Arc<Instance>, Refusal> {
        let now = self.now();
        let (instance, news) = self.registry().heartbeat(service, id, now)?;
        Counters::count(&self.counters.heartbeats);
        if news {
            info!("registry: {service}: {id} proved itself");
            self.publish(service, &[]);
        }
        Ok(instance)
    }

    /// What the store is to be told is noted before it is told: who asked may be gone by then, and
    /// this future with it.
    pub(crate) async fn deregister(&self, service: &str, id: &str) -> Result<u64, Failed> {
        let (change, of) = {
            let mut registry = self.registry();
            let change = registry.deregister(service, id);
            // Only of one that was there: anybody may name others, as many as they like.
            let of = match (&self.store, &change) {
                (Some(store), Some(_)) => store.left_here(service, id, self.now()),
                _ => 0,
            };
            (change, of)
        };
        // Who watches may know it from before we began, though we do not.
        if self.is_settling() {
            let mut left = lock(&self.left);
            if left.values().map(BTreeSet::len).sum::<usize>() < LEFT_MAX {
                left.entry(service.to_owned()).or_default().insert(id.to_owned());
            }
        }
        let Some(change) = change else {
            self.publish(service, &[]);
            return Err(Refusal::Unknown.into());
        };
        Counters::count(&self.counters.deregistrations);
        let version = self.publish(service, &[change]);
        if let Some(store) = &self.store {
            store.leave(service, id, of).await;
        }
        Ok(version)
    }

    /// Tells everybody; answers the version of the service's list.
    pub(crate) fn publish(&self, service: &str, changes: &[Change]) -> u64 {
        let (version, list) = {
            let registry = self.registry();
            (registry.version(), registry.service_version(service))
        };
        for change in changes {
            let Change { service, id, instance, why } = change;
            match instance {
                Some(instance) => {
                    info!("registry: {service}: {id} ({}) {why}", instance.socket_address());
                }
                None => info!("registry: {service}: {id} left: {why}"),
            }
            // Of an address that changed hands: the store has the one before, too.
            if let (Some(store), None) = (&self.store, instance) {
                store.forget_later(service, id, why, self.now());
            }
        }
        if let Some(journal) = &self.journal
            && !changes.is_empty()
        {
            journal.note(changes, version);
        }
        let mut waiting = lock(&self.waiting);
        if let Some(sender) = waiting.get(service) {
            sender.send_replace(list);
            if sender.receiver_count() == 0 {
                waiting.remove(service);
            }
        }
        drop(waiting);
        self.all.send_replace(version);
        list
    }

    /// Lets those leave whose time is over.
    async fn watch_the_clock(self: Arc<Self>) {
        /// How long to wait where there is nothing to wait for; registrations wake us.
        const LONG: Duration = Duration::from_secs(60);
        /// Deadlines that lie so close together are looked at together.
        const SHORT: Duration = Duration::from_millis(20);
        /// The same where a store has the last word.
        const TICK: Duration = Duration::from_millis(200);
        let mut preserving = false;
        loop {
            let next = self.registry().poll_timeout();
            let mut wait = next.map_or(LONG, |next| next.since(self.now()).clamp(SHORT, LONG));
            if self.store.is_some() {
                wait = wait.max(TICK); // it may be overdue for as long as the store is away
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.earlier.notified() => {}
            }
            let until = self.store.as_ref().map_or_else(|| self.now(), Shared::told_at);
            let changes = self.registry().poll(until);
            for change in &changes {
                Counters::count(&self.counters.expirations);
                self.publish(&change.service, std::slice::from_ref(change));
            }
            let now_preserving = self.registry().preservation().since.is_some();
            if now_preserving != preserving {
                preserving = now_preserving;
                match preserving {
                    true => warn!(
                        "registry: most instances fell silent at once; self-preservation keeps \
                         all of them"
                    ),
                    false => info!("registry: self-preservation is over"),
                }
                let services: Vec<String> =
                    self.registry().services().map(|(name, ..)| name.to_owned()).collect();
                for service in services {
                    self.publish(&service, &[]);
                }
            }
        }
    }

    /// Somebody's time may end earlier than was thought.
    pub(crate) fn wake(&self) {
        self.earlier.notify_one();
    }

    /// What there is of a service now.
    pub fn list(&self, service: &str) -> List {
        let stale = self.store.as_ref().and_then(Shared::lost);
        let settling = self.is_settling();
        let left = match settling {
            true => lock(&self.left).get(service).cloned().unwrap_or_default(),
            false => BTreeSet::new(),
        };
        let registry = self.registry();
        let (version, instances) = registry.list(service, self.now());
        List {
            service: service.to_owned(),
            version,
            instances,
            preserving: registry.preservation().since.is_some(),
            settling,
            left,
            stale,
        }
    }

    fn is_settling(&self) -> bool {
        match &self.store {
            Some(store) => !store.has_answered(),
            None => self.journal.is_none() && self.begun.elapsed() < SETTLING,
        }
    }

    /// Changes whenever the list of the service does.
    pub fn watch(&self, service: &str) -> watch::Receiver<u64> {
        let mut waiting = lock(&self.waiting);
        // Names are the callers': those that nobody waits for any more make room.
        if waiting.len() >= WAITED_FOR {
            waiting.retain(|_, sender| sender.receiver_count() > 0);
        }
        let new = || watch::Sender::new(0);
        waiting.entry(service.to_owned()).or_insert_with(new).subscribe()
    }

    /// Changes whenever anything does.
    pub(crate) fn watch_all(&self) -> watch::Receiver<u64> {
        self.all.subscribe()
    }

    /// How it is.
    pub fn status(&self) -> RegistryStatus {
        let now = self.now();
        let registry = self.registry();
        let (counts, preservation) = (registry.counts(now), registry.preservation());
        let version = registry.version();
        drop(registry);
        let settings = self.settings();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let lost = self.store.as_ref().and_then(Shared::lost);
        RegistryStatus {
            store: self.store.as_ref().map_or("local", Shared::name).to_owned(),
            durable: self.journal.is_some(),
            connected: lost.is_none(),
            reason: lost,
            version,
            services: counts.services,
            instances: counts.instances,
            late: counts.late,
            restored: counts.restored,
            preserving_ms: preservation.since.map(|since| now.since(since).as_millis() as u64),
            preservations: preservation.begun,
            watchers: settings.watchers_max - settings.watchers.available_permits(),
            registrations: load(&self.counters.registrations),
            heartbeats: load(&self.counters.heartbeats),
            deregistrations: load(&self.counters.deregistrations),
            expirations: load(&self.counters.expirations),
            refused: load(&self.counters.refused),
        }
    }
}

/// Why something is not done.
#[derive(Debug)]
pub(crate) enum Failed {
    Refused(Refusal),
    /// The store that all share does not take it now.
    Store(String),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Failed::Refused(refusal)
    }
}
