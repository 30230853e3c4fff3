//! The control side of the data plane.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use model::spec::{AccessLogSpec, ListenerSpec, Protocol};
use model::status::{ListenerMetrics, ListenerStatus, Metrics};
use model::{Instant, ListenerName, ServiceName};
use service::{Events, Service};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::access_log::AccessLog;
use crate::clock::Clock;
use crate::lifecycle::Lifecycle;
use crate::listener::{self, Listener, ListenerState, Target};
use crate::metrics::{shards, sum_latencies};
use crate::probe::{self, ProbeEvent};
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
}

/// What is served now.
#[derive(Default)]
struct Table {
    listeners: BTreeMap<ListenerName, Arc<Listener>>,
    targets: HashMap<ServiceName, Arc<Target>>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").finish_non_exhaustive()
    }
}

impl Proxy {
    /// Starts the workers and the thread that checks health. Nothing is listened to yet.
    ///
    /// # Errors
    /// When threads or their runtimes cannot be made, or the access log cannot be opened.
    pub fn start(options: &ProxyOptions) -> io::Result<Proxy> {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let count = if options.workers == 0 { cores } else { options.workers };
        let clock = Clock::start();
        let (access_log, logs) = AccessLog::start(options.access_log.clone(), count)?;
        let pins = pins(count);
        let mut handles = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count);
        for (index, log) in logs.into_iter().enumerate() {
            let seed = options.seed.wrapping_add(index as u64);
            let core = pins.get(index).copied();
            let (handle, thread) = worker::start(index, clock, seed, log, core)?;
            handles.push(handle);
            threads.push(thread);
        }
        let workers = Arc::new(OnceLock::from(handles));
        let (probes, events) = unbounded_channel();
        let lifecycle = Arc::new(Lifecycle::new(workers.clone(), probes.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new()
            .name("health".into())
            .spawn(move || runtime.block_on(probe::drive(clock, events)))?;
        let inner = Inner {
            clock,
            workers,
            threads: Mutex::new(threads),
            lifecycle,
            probes,
            access_log,
            table: Mutex::default(),
            listener_ids: AtomicU32::new(1),
        };
        Ok(Proxy { inner: Arc::new(inner) })
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
        let target = Arc::new(Target { service: service.clone(), latencies });
        self.table().targets.insert(service.name().clone(), target);
        // A closed channel means that we are stopping.
        let _ = self.inner.probes.send(ProbeEvent::Watch(service));
    }

    /// The service is gone: no more checks.
    pub fn forget(&self, name: &ServiceName) {
        self.table().targets.remove(name);
        let _ = self.inner.probes.send(ProbeEvent::Forget(name.clone()));
    }

    /// Adds a listener, or changes one in place: its routes and settings hold from the next
    /// request on, and no connection is touched. Only another address or protocol binds anew.
    /// Answers the address bound. Services must have been given to [`Proxy::watch`] before.
    ///
    /// # Errors
    /// When the address cannot be bound or a service is unknown; then nothing has changed.
    pub fn set_listener(&self, spec: &ListenerSpec) -> io::Result<SocketAddr> {
        let mut table = self.table();
        let state = ListenerState::build(spec, &|name| table.targets.get(name).cloned())?;
        if let Some(listener) = table.listeners.get(&spec.name)
            && listener.protocol == spec.protocol
            && listener.state.load().spec.bind == spec.bind
        {
            listener.state.store(Arc::new(state));
            return Ok(listener.address);
        }
        let workers = self.workers();
        let (address, sockets) = listener::bind(spec.bind, spec.protocol, workers.len())?;
        let id = self.inner.listener_ids.fetch_add(1, Relaxed);
        let old = table.listeners.remove(&spec.name);
        let counters = match &old {
            Some(old) => old.shards.clone(),
            None => shards(workers.len()),
        };
        let listener = Arc::new(Listener::new(id, address, state, counters));
        for (worker, socket) in workers.iter().zip(sockets) {
            worker.send(Command::Listen(listener.clone(), socket));
        }
        table.listeners.insert(spec.name.clone(), listener);
        if let Some(old) = old {
            self.unlisten(&old, Duration::from_secs(30));
        }
        Ok(address)
    }

    /// Accepts no more; what is open may go on for `grace`.
    pub fn remove_listener(&self, name: &ListenerName, grace: Duration) {
        if let Some(listener) = self.table().listeners.remove(name) {
            self.unlisten(&listener, grace);
        }
    }

    fn unlisten(&self, listener: &Listener, grace: Duration) {
        let close_at = self.now() + grace;
        for worker in self.workers() {
            worker.send(Command::Unlisten { listener: listener.id, close_at });
        }
    }

    pub fn listeners(&self) -> Vec<ListenerStatus> {
        let table = self.table();
        table.listeners.values().map(|listener| {
            let sum = listener_metrics(listener);
            let state = listener.state.load();
            ListenerStatus {
                name: sum.name,
                bind: listener.address,
                protocol: protocol_name(listener.protocol).to_owned(),
                routes: state.routes.len(),
                connections: sum.connections_open,
                connections_total: sum.connections,
                requests_total: sum.responses.iter().sum(),
            }
        }).collect()
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
        for worker in self.workers() {
            worker.send(Command::Stop { close_at });
        }
        let threads = std::mem::take(
            &mut *self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner),
        );
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

fn listener_metrics(listener: &Listener) -> ListenerMetrics {
    let mut sum =
        ListenerMetrics { name: listener.name.as_str().to_owned(), ..ListenerMetrics::default() };
    for shard in listener.shards.iter() {
        shard.add_to(&mut sum);
    }
    sum
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
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
