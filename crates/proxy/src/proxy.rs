//! The control side of the data plane.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use model::spec::{AccessLogSpec, ClientTlsSpec, ListenerSpec, Protocol};
use model::status::{
    CertificateStatus, ListenerMetrics, ListenerStatus, Metrics, SessionStoreStatus,
};
use model::{Instant, ListenerName, ServiceName};
use service::{Events, Service};
use tokio::sync::mpsc::{UnboundedSender, channel, unbounded_channel};

use crate::access_log::AccessLog;
use crate::clock::Clock;
use crate::lifecycle::Lifecycle;
use crate::listener::{self, Bound, Listener, ListenerState, Target};
use crate::metrics::{shards, sum_latencies};
use crate::probe::{self, ProbeEvent, question};
use crate::session_store::SessionStore;
use crate::upstream::Secure;
use crate::worker::{self, Command, WorkerHandle};

/// How a data plane is set up.
#[derive(Clone, Debug, Default)]
pub struct ProxyOptions {
    /// Threads that carry traffic; 0: one per available core.
    pub workers: usize,
    pub access_log: Option<AccessLogSpec>,
    /// Of every random choice that the data plane makes.
    pub seed: u64,
}

/// A running data plane. Clones are handles to the same one.
#[derive(Clone)]
pub struct Proxy {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    workers: Arc<OnceLock<Vec<WorkerHandle>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lifecycle: Arc<Lifecycle>,
    probes: UnboundedSender<ProbeEvent>,
    access_log: AccessLog,
    table: Mutex<Table>,
    listener_ids: AtomicU32,
    issued: Arc<tls::Issued>,
    services: SharedTargets,
}

/// What questions of policies are asked with: the services as they are now.
pub(crate) type SharedTargets = Arc<ArcSwap<HashMap<ServiceName, Arc<Target>>>>;

/// What is served now.
#[derive(Default)]
struct Table {
    listeners: BTreeMap<ListenerName, Arc<Listener>>,
    /// Of each listener by its id, one for each worker, to be handed to another listener.
    sockets: HashMap<u32, Vec<Bound>>,
    targets: HashMap<ServiceName, Arc<Target>>,
}

/// Where a listener is to be.
struct Place {
    address: SocketAddr,
    /// One for each worker.
    sockets: Vec<Bound>,
    /// The same ones.
    kept: Vec<Bound>,
    /// Whose they are until now.
    former: Option<Arc<Listener>>,
}

/// What is open on a listener whose address is changed with [`Proxy::set_listener`] may go on for
/// this long.
const REPLACED_GRACE: Duration = Duration::from_secs(30);

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").finish_non_exhaustive()
    }
}

impl Proxy {
    /// Starts the workers and the threads that check health and ask for policies. Nothing is listened to yet.
    ///
    /// # Errors
    /// When threads or their runtimes cannot be made, or the access log cannot be opened.
    pub fn start(options: &ProxyOptions) -> io::Result<Proxy> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let count = if options.workers == 0 { cores } else { options.workers };
        let clock = Clock::start();
        let (access_log, logs) = AccessLog::start(options.access_log.clone(), count)?;
        let pins = pins(count);
        let workers: Arc<OnceLock<Vec<WorkerHandle>>> = Arc::default();
        let mut handles = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count);
        for (index, log) in logs.into_iter().enumerate() {
            let seed = options.seed.wrapping_add(index as u64);
            let core = pins.get(index).copied();
            let (handle, thread) =
                worker::start(index, clock, seed, log, core, Arc::downgrade(&workers))?;
            handles.push(handle);
            threads.push(thread);
        }
        // Nothing is listened to yet, so nobody has looked.
        let _ = workers.set(handles);
        let (probes, events) = unbounded_channel();
        let (questions, asked) = channel(question::QUESTIONS_MAX);
        let lifecycle = Arc::new(Lifecycle::new(workers.clone(), probes.clone(), questions));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("health".into())
            .spawn(move || runtime.block_on(probe::drive(clock, events)))?;
        // Apart, for many questions must not make checks late.
        let services = SharedTargets::default();
        let asked_with = services.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("questions".into())
            .spawn(move || runtime.block_on(question::drive(clock, asked, asked_with)))?;
        let inner = Inner {
            clock,
            workers,
            threads: Mutex::new(threads),
            lifecycle,
            probes,
            access_log,
            table: Mutex::default(),
            listener_ids: AtomicU32::new(1),
            issued: Arc::default(),
            services,
        };
        Ok(Proxy { inner: Arc::new(inner) })
    }

    /// Where certificates by ACME come to, and what CAs ask to see.
    pub fn issued(&self) -> Arc<tls::Issued> {
        self.inner.issued.clone()
    }

    /// The certificates of the configuration that are in use, by listener.
    pub fn certificates(&self) -> Vec<CertificateStatus> {
        let table = self.table();
        let mut all = Vec::new();
        for listener in table.listeners.values() {
            let state = listener.state.load();
            let shown = state.tls.as_ref().map(|tls| tls.shown()).unwrap_or_default();
            all.extend(shown.iter().map(|shown| CertificateStatus {
                listener: listener.name.as_str().to_owned(),
                names: shown.names.clone(),
                source: if shown.self_signed { "self_signed" } else { "file" }.to_owned(),
                not_after_unix: Some(shown.not_after),
                acme: None,
            }));
        }
        all
    }

    /// The moment on the clock that services are to be given.
    pub fn now(&self) -> Instant {
        self.inner.clock.now()
    }

    /// What services are made with, so that what happens to them reaches the workers.
    pub fn events(&self) -> Arc<dyn Events> {
        self.inner.lifecycle.clone()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.inner.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn workers(&self) -> &[WorkerHandle] {
        self.inner.workers.get().map_or(&[], Vec::as_slice)
    }

    /// Checks the health of the service's endpoints from now on, and counts its latencies.
    pub fn watch(&self, service: Arc<Service>) {
        let latencies = shards(self.workers().len());
        let secure = ArcSwap::from_pointee(secure(&service));
        let target = Arc::new(Target {
            service: service.clone(),
            latencies,
            secure,
            store: ArcSwapOption::empty(),
        });
        self.set_store(&target);
        self.change_targets(|targets| {
            targets.insert(service.name().clone(), target.clone());
        });
        // A closed channel means that we are stopping.
        let _ = self.inner.probes.send(ProbeEvent::Watch(target));
    }

    fn change_targets(&self, change: impl FnOnce(&mut HashMap<ServiceName, Arc<Target>>)) {
        let mut table = self.table();
        change(&mut table.targets);
        self.inner.services.store(Arc::new(table.targets.clone()));
    }

    /// The service's specification changed: what is spoken to its endpoints may have, too.
    pub fn refresh(&self, service: &Service) {
        let target = self.table().targets.get(service.name()).cloned();
        let Some(target) = target else { return };
        let same = match (&**target.secure.load(), &service.settings().tls) {
            (Secure::Plain, None) => true,
            (Secure::Tls(client), Some(spec)) => client.spec() == spec,
            _ => false,
        };
        if !same {
            target.secure.store(Arc::new(secure(service)));
        }
        self.set_store(&target);
    }

    /// Sessions are shared as the specification says now.
    fn set_store(&self, target: &Target) {
        let service = &target.service;
        if target.store.load().as_ref().is_some_and(|store| store.is_of(service)) {
            return;
        }
        let store = SessionStore::start(service, self.inner.clock);
        self.inner.lifecycle.set_store(service.name(), store.clone());
        target.store.store(store);
    }

    /// How the service's sessions are shared with other balancers, if they are.
    pub fn session_store(&self, name: &ServiceName) -> Option<SessionStoreStatus> {
        let target = self.table().targets.get(name).cloned()?;
        let store = target.store.load();
        Some(store.as_ref()?.status())
    }

    /// Every file of certificates, keys and CAs that is in use, as it was before it was read.
    pub fn tls_files(&self) -> Vec<(PathBuf, Option<tls::Fingerprint>)> {
        let table = self.table();
        let mut files = Vec::new();
        for listener in table.listeners.values() {
            let state = listener.state.load();
            files.extend(state.tls.iter().flat_map(|tls| tls.files().iter().cloned()));
        }
        for target in table.targets.values() {
            match &**target.secure.load() {
                Secure::Tls(client) => files.extend(client.files().iter().cloned()),
                Secure::Unusable => {
                    files.extend(named_files(&target.service).into_iter().map(|f| (f, None)));
                }
                Secure::Plain => {}
            }
        }
        files
    }

    /// Reads again what was made of any of these files. Handshakes from now on are by what they
    /// hold; connections that are open go on. Answers whose they are, and what is wrong with them,
    /// in which case what was read before stays in use.
    pub fn reload_tls(&self, changed: &[PathBuf]) -> Vec<Reloaded> {
        let (servers, targets) = {
            let table = self.table();
            let tls = |listener: &Arc<Listener>| {
                Some((listener.name.clone(), listener.state.load().tls.clone()?))
            };
            let servers: Vec<_> = table.listeners.values().filter_map(tls).collect();
            (servers, table.targets.values().cloned().collect::<Vec<_>>())
        };
        let concerns = |files: &[(PathBuf, Option<tls::Fingerprint>)]| {
            files.iter().any(|(file, _)| changed.contains(file))
        };
        let mut reloaded = Vec::new();
        for (name, server) in servers {
            if concerns(server.files()) {
                reloaded.push(Reloaded { of: format!("listener {name}"), result: server.reload() });
            }
        }
        for target in targets {
            let of = format!("service {}", target.service.name());
            match &**target.secure.load() {
                Secure::Tls(client) if concerns(client.files()) => {
                    reloaded.push(Reloaded { of, result: client.reload() });
                }
                Secure::Unusable
                    if named_files(&target.service).iter().any(|f| changed.contains(f)) =>
                {
                    target.secure.store(Arc::new(secure(&target.service)));
                }
                _ => {}
            }
        }
        reloaded
    }

    /// The service is gone: no more checks.
    pub fn forget(&self, name: &ServiceName) {
        self.change_targets(|targets| {
            targets.remove(name);
        });
        self.inner.lifecycle.set_store(name, None);
        let _ = self.inner.probes.send(ProbeEvent::Forget(name.clone()));
    }

    /// Adds a listener, or changes one in place, as [`Proxy::set_listeners`] does. Answers the
    /// address bound.
    ///
    /// # Errors
    /// When the address cannot be bound or a service is unknown; then nothing has changed.
    pub fn set_listener(&self, spec: &ListenerSpec) -> io::Result<SocketAddr> {
        self.set_listeners(&[spec], &[], REPLACED_GRACE).map_err(|(_, error)| error)?;
        let table = self.table();
        table.listeners.get(&spec.name).map(|l| l.address).ok_or(io::ErrorKind::NotFound.into())
    }

    /// Adds listeners or changes them in place, and removes others: all of it, or nothing.
    ///
    /// Routes and settings hold from the next request on, and no connection is touched. Only
    /// another address or protocol binds anew. A listener that is to have the address of one that
    /// leaves it gets its sockets, so that no client finds the door closed meanwhile. Where only
    /// the IP address differs (127.0.0.1 becomes 0.0.0.0), the new sockets are there before the
    /// old ones close. What is open on listeners that are removed or bound anew may go on for
    /// `grace`.
    ///
    /// Services must have been given to [`Proxy::watch`] before.
    ///
    /// # Errors
    /// When an address cannot be bound or a service is unknown, with the name of the listener;
    /// then nothing has changed.
    pub fn set_listeners(
        &self,
        set: &[&ListenerSpec],
        removed: &[ListenerName],
        grace: Duration,
    ) -> Result<(), (ListenerName, io::Error)> {
        let mut table = self.table();
        let stays = |spec: &ListenerSpec, old: &Listener| {
            old.protocol == spec.protocol && old.state.load().spec.bind == spec.bind
        };
        let moved = set.iter().filter_map(|spec| {
            table.listeners.get(&spec.name).filter(|old| !stays(spec, old)).cloned()
        });
        let mut leaving: Vec<Arc<Listener>> = moved.collect();
        leaving.extend(removed.iter().filter_map(|name| table.listeners.get(name)).cloned());

        let mut prepared = Vec::with_capacity(set.len());
        for spec in set {
            let place = self.prepare(&table, spec, &leaving);
            prepared.push(place.map_err(|error| (spec.name.clone(), error))?);
        }
        // Nothing fails from here on.
        for name in removed {
            table.listeners.remove(name);
        }
        for (spec, (state, place)) in set.iter().zip(prepared) {
            match (place, table.listeners.get(&spec.name)) {
                (None, Some(listener)) => listener.state.store(Arc::new(state)),
                (None, None) => {} // One without a place is there.
                (Some(place), _) => self.open(&mut table, state, place),
            }
        }
        for listener in &leaving {
            self.unlisten(&mut table, listener, grace);
        }
        Ok(())
    }

    /// What a listener becomes, and where it is to be if it is not there already.
    fn prepare(
        &self,
        table: &Table,
        spec: &ListenerSpec,
        leaving: &[Arc<Listener>],
    ) -> io::Result<(ListenerState, Option<Place>)> {
        let former = table.listeners.get(&spec.name).and_then(|old| old.state.load().tls.clone());
        let target = |name: &ServiceName| table.targets.get(name).cloned();
        let state = ListenerState::build(spec, &target, former, self.inner.issued.clone())?;
        if let Some(old) = table.listeners.get(&spec.name)
            && leaving.iter().all(|leaving| leaving.id != old.id)
        {
            return Ok((state, None));
        }
        let is_udp = |protocol| protocol == Protocol::Udp;
        let beside: Vec<&Arc<Listener>> = leaving
            .iter()
            .filter(|l| l.address.port() == spec.bind.port())
            .filter(|l| is_udp(l.protocol) == is_udp(spec.protocol))
            .collect();
        let former = beside.iter().find(|former| former.address == spec.bind);
        let sockets = former.and_then(|former| table.sockets.get(&former.id));
        let (address, sockets) = match sockets {
            Some(sockets) => (spec.bind, clones(sockets)?),
            None => {
                let workers = self.workers().len();
                listener::bind(spec.bind, spec.protocol, workers, !beside.is_empty())?
            }
        };
        let kept = clones(&sockets)?;
        let former = former.map(|former| Arc::clone(former));
        Ok((state, Some(Place { address, sockets, kept, former })))
    }

    fn open(&self, table: &mut Table, state: ListenerState, place: Place) {
        let id = self.inner.listener_ids.fetch_add(1, Relaxed);
        let name = state.spec.name.clone();
        let counters = match table.listeners.get(&name) {
            Some(old) => old.shards.clone(),
            None => shards(self.workers().len()),
        };
        if let Some(former) = place.former {
            former.hand_over();
        }
        let listener = Arc::new(Listener::new(id, place.address, state, counters));
        for (worker, socket) in self.workers().iter().zip(place.sockets) {
            worker.send(Command::Listen(listener.clone(), socket));
        }
        table.listeners.insert(name, listener);
        table.sockets.insert(id, place.kept);
    }

    /// Accepts no more; what is open may go on for `grace`.
    pub fn remove_listener(&self, name: &ListenerName, grace: Duration) {
        let mut table = self.table();
        if let Some(listener) = table.listeners.remove(name) {
            self.unlisten(&mut table, &listener, grace);
        }
    }

    fn unlisten(&self, table: &mut Table, listener: &Listener, grace: Duration) {
        // Before the workers', so that a socket is closed by who empties its queue first.
        table.sockets.remove(&listener.id);
        let close_at = self.now() + grace;
        for worker in self.workers() {
            worker.send(Command::Unlisten { listener: listener.id, close_at });
        }
    }

    pub fn listeners(&self) -> Vec<ListenerStatus> {
        let table = self.table();
        table
            .listeners
            .values()
            .map(|listener| {
                let sum = listener_metrics(listener);
                let state = listener.state.load();
                ListenerStatus {
                    name: sum.name,
                    bind: listener.address,
                    protocol: listener.protocol.name().to_owned(),
                    routes: state.routes.len(),
                    connections: sum.connections_open,
                    connections_total: sum.connections,
                    requests_total: sum.responses.iter().sum(),
                }
            })
            .collect()
    }

    pub fn metrics(&self) -> Metrics {
        let table = self.table();
        let mut services: Vec<_> = table
            .targets
            .iter()
            .map(|(name, target)| sum_latencies(name.as_str(), &target.latencies))
            .collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        Metrics {
            listeners: table.listeners.values().map(|l| listener_metrics(l)).collect(),
            services,
            access_log_written: self.inner.access_log.written(),
            access_log_dropped: self.inner.access_log.dropped(),
            workers: self.workers().len(),
        }
    }

    /// Writes the access log elsewhere, or nowhere, from now on.
    ///
    /// # Errors
    /// When the file cannot be opened; then the log goes where it went.
    pub fn set_access_log(&self, spec: Option<AccessLogSpec>) -> io::Result<()> {
        self.inner.access_log.set(spec)
    }

    /// Opens the access log's file again, after it was moved away.
    pub fn reopen_access_log(&self) {
        self.inner.access_log.reopen();
    }

    /// Accepts no more, lets what is in flight finish for `grace`, and ends the workers.
    pub async fn stop(&self, grace: Duration) {
        let close_at = self.now() + grace;
        self.table().sockets.clear();
        for worker in self.workers() {
            worker.send(Command::Stop { close_at });
        }
        let threads =
            std::mem::take(&mut *self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                // A worker that panicked has ended, too.
                let _ = thread.join();
            }
        });
        let _ = joined.await;
        self.inner.access_log.sync(Duration::from_secs(1));
    }
}

/// Whose files were read again, and what came of it.
#[derive(Debug)]
pub struct Reloaded {
    /// `listener web`
    pub of: String,
    /// Warnings, or errors.
    pub result: Result<Vec<tls::Fault>, Vec<tls::Fault>>,
}

/// What is spoken to the service's endpoints.
fn secure(service: &Service) -> Secure {
    let settings = service.settings();
    let Some(spec) = &settings.tls else { return Secure::Plain };
    match tls::Client::new(service.name().as_str(), spec) {
        Ok((client, _)) => Secure::Tls(Arc::new(client)),
        Err(faults) => {
            // They were right when the configuration was checked, a moment ago.
            for fault in faults {
                tracing::error!("{fault}");
            }
            Secure::Unusable
        }
    }
}

fn named_files(service: &Service) -> Vec<PathBuf> {
    service.settings().tls.as_ref().map(ClientTlsSpec::files).unwrap_or_default()
}

fn clones(sockets: &[Bound]) -> io::Result<Vec<Bound>> {
    sockets.iter().map(Bound::try_clone).collect()
}

fn listener_metrics(listener: &Listener) -> ListenerMetrics {
    let mut sum =
        ListenerMetrics { name: listener.name.as_str().to_owned(), ..ListenerMetrics::default() };
    for shard in listener.shards.iter() {
        shard.add_to(&mut sum);
    }
    sum
}

/// The core of each worker, if there is exactly one for each.
fn pins(workers: usize) -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return Vec::new();
    };
    let cores: Vec<usize> =
        (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect();
    if cores.len() == workers { cores } else { Vec::new() }
}

#[cfg(test)]
mod tests;
