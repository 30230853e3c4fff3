//! The supervisor: keeps the running system as the configuration says.
//!
//! For: applying configurations as differences, holding services and the runners of their
//! replicas, and answering the admin API. Everything here is control plane: it may take its time,
//! for the workers never wait for it.
//! Never: carries traffic or decides about balancing.
//! Start with [`run`], then [`Supervisor`]; `apply.rs` is how one configuration becomes another.

mod admin_server;
mod agent;
mod api;
mod apply;
mod bind_check;
mod certificates;
mod discovered;
mod file_watch;
mod files;
mod merge;
mod name_server;
mod overview;
mod registry;
mod replicas;
mod running;
mod signals;
mod sources;
mod wake;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::agent::Agent;
use acme::Acme;
use discovery::names::NameServer;
use model::ServiceName;
use model::spec::Spec;
use model::status::ScalingStatus;
use model::vocabulary::Vocabulary;
use proxy::{Proxy, ProxyOptions};
use service::Events;
use tokio::runtime::Builder;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::failure::Failure;
use crate::output::say;
pub(crate) use files::Reader;

use admin_server::AdminServer;
use discovered::Discovery;
use running::Running;
use signals::{Signal, Signals};
use sources::Sources;

/// Threads of the control plane: one more than one, so that a long scrape or a large
/// configuration does not hold up signals and the starting of replicas.
const CONTROL_THREADS: usize = 2;

/// Bytes of a configuration file, as many as `POST /v1/config` takes.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// After start, how long the overview waits for endpoints before it says how things stand.
const OVERVIEW_WAIT: Duration = Duration::from_secs(10);

/// Changed texts of the file that wait to be applied; the newest matters, so a second is enough.
const CHANGED_TEXTS: usize = 2;

/// Decisions on numbers of replicas that are kept: at a cool-down of some seconds the last few
/// minutes, and at most about 40 KiB.
const SCALINGS_MAX: usize = 32;

/// Posted configurations that wait at once, each of up to 8 MiB; more are refused.
const POSTED_TEXTS: usize = 4;

/// What other crates' tables hold, as `config` needs it.
pub(crate) fn vocabulary() -> Vocabulary {
    Vocabulary { policies: balance::infos() }
}

/// The text of a configuration file.
pub(crate) fn read_file(path: &Path) -> Result<String, Failure> {
    let read = || {
        let mut text = String::new();
        File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    let text =
        read().map_err(|error| Failure::Job(format!("cannot read {}: {error}", path.display())))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let limit = FILE_BYTES_MAX >> 20;
        return Err(Failure::Job(format!("{} has more than {limit} MiB", path.display())));
    }
    Ok(text)
}

/// The configuration to begin with, and where it came from.
pub(crate) struct Origin {
    /// As messages show it.
    pub(crate) name: String,
    /// Watched for changes.
    pub(crate) file: Option<PathBuf>,
    /// Where replicas start, unless they say otherwise.
    pub(crate) directory: PathBuf,
    pub(crate) text: Arc<str>,
    pub(crate) spec: Spec,
    /// That read it, and reads what comes after it.
    pub(crate) reader: Reader,
}

/// Runs until a signal ends it.
pub(crate) fn run(origin: Origin) -> Result<(), Failure> {
    // Each connection is a file; the usual soft limit of 1024 is one for programs with few.
    if let Err(error) = runner::raise_file_limit() {
        warn!("the limit of open files stays as it is: {error}");
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| Failure::Job(format!("cannot start the control threads: {error}")))?;
    let ended = runtime.block_on(supervise(origin));
    // A file system that hangs must not keep us from ending.
    runtime.shutdown_background();
    ended
}

async fn supervise(origin: Origin) -> Result<(), Failure> {
    let mut signals =
        Signals::catch().map_err(|error| Failure::Job(format!("cannot catch signals: {error}")))?;
    let Origin { name, file, directory, text, spec, reader } = origin;
    let (changed, mut changes) = mpsc::channel(CHANGED_TEXTS);
    if let Some(file) = &file {
        file_watch::start(file.clone(), Arc::clone(&text), changed);
    }
    let supervisor = Supervisor::start(name, directory, &spec, reader)?;
    if let Err(message) = supervisor.begin(spec, text).await {
        supervisor.stop().await;
        return Err(Failure::Job(message));
    }
    tokio::spawn(Arc::clone(&supervisor).announce());
    tokio::spawn(Arc::clone(&supervisor).follow_declared());
    tokio::spawn(Arc::clone(&supervisor).follow_demand());
    certificates::watch(&supervisor);
    loop {
        tokio::select! {
            Some(text) = changes.recv() => {
                tokio::spawn(Arc::clone(&supervisor).reload(text, "the file changed"));
            }
            signal = signals.next() => match signal {
                Signal::Reload => match &file {
                    None => info!("there is no configuration file to read again"),
                    Some(file) => {
                        tokio::spawn(Arc::clone(&supervisor).read_again(file.clone()));
                    }
                },
                Signal::ReopenLog => supervisor.proxy.reopen_access_log(),
                Signal::Stop => break,
            }
        }
    }
    tokio::select! {
        () = supervisor.stop() => Ok(()),
        () = signals.stop_again() => {
            warn!("stopped at once; what was in flight is cut off");
            crate::log::flush();
            // The watchdog ends the replicas.
            std::process::exit(1);
        }
    }
}

/// The control side of one running balancer.
pub(crate) struct Supervisor {
    proxy: Proxy,
    acme: Acme,
    /// Of the configuration, as messages show it.
    name: String,
    /// Where replicas start, unless they say otherwise.
    directory: PathBuf,
    /// Of texts. Used only while `applying` is held.
    reader: Arc<Mutex<Reader>>,
    /// Held while a configuration is applied: one after the other.
    applying: tokio::sync::Mutex<()>,
    /// Posted configurations that may wait for their turn.
    posted: Arc<Semaphore>,
    state: Mutex<State>,
    /// Services or routes by label have changed.
    declared: Notify,
    /// Counts how often a service that sleeps was asked for.
    asked: watch::Sender<u64>,
    /// When somebody listened for that last, in nanoseconds of the proxy's clock; 0: never.
    listened: AtomicU64,
    /// True from the signal that ends us.
    stopping: watch::Sender<bool>,
}

/// Only ever locked for a moment.
#[derive(Default)]
struct State {
    /// What is in force.
    spec: Arc<Spec>,
    /// Of it, what the text says.
    configured: Arc<Spec>,
    text: Arc<str>,
    discovery: Discovery,
    sources: Sources,
    services: BTreeMap<ServiceName, Running>,
    registry: registry::RegistryInUse,
    admin: Option<AdminServer>,
    agent: Option<Agent>,
    name_server: Option<NameServer>,
    /// The first configuration is in force.
    begun: bool,
    /// What an autoscaler has told, and what we decided ourselves, the oldest first.
    scalings: VecDeque<ScalingStatus>,
    /// Removed services whose replicas are being stopped.
    leaving: Vec<JoinHandle<()>>,
}

impl State {
    /// Why it is not known yet who serves.
    fn awaited(&self) -> Option<String> {
        self.discovery.awaited().or_else(|| self.sources.awaited())
    }
}

impl Supervisor {
    /// Starts the workers. Nothing is listened to before [`Supervisor::begin`].
    fn start(
        name: String,
        directory: PathBuf,
        spec: &Spec,
        reader: Reader,
    ) -> Result<Arc<Self>, Failure> {
        let options = ProxyOptions {
            workers: spec.workers.unwrap_or(0),
            access_log: spec.access_log.clone(),
            seed: seed(),
        };
        let proxy = Proxy::start(&options)
            .map_err(|error| Failure::Job(format!("cannot start the workers: {error}")))?;
        let acme = Acme::start(proxy.issued()).map_err(|error| {
            Failure::Job(format!("cannot start what looks after certificates: {error}"))
        })?;
        // What the workers were started with is in force already.
        let begun_with = Spec {
            workers: spec.workers,
            access_log: spec.access_log.clone(),
            stop_grace: spec.stop_grace,
            ..Spec::default()
        };
        Ok(Arc::new(Self {
            proxy,
            acme,
            name,
            directory,
            reader: Arc::new(Mutex::new(reader)),
            posted: Arc::new(Semaphore::new(POSTED_TEXTS)),
            applying: tokio::sync::Mutex::new(()),
            state: Mutex::new(State { spec: Arc::new(begun_with), ..State::default() }),
            declared: Notify::new(),
            asked: watch::Sender::new(0),
            listened: AtomicU64::new(0),
            stopping: watch::Sender::new(false),
        }))
    }

    /// The first configuration.
    async fn begin(self: &Arc<Self>, spec: Spec, text: Arc<str>) -> Result<(), String> {
        let _turn = self.applying.lock().await;
        self.apply_configured(spec, text).await?;
        self.state().begun = true;
        Ok(())
    }

    /// What services are made with, so that those concerned hear of what happens to them.
    fn events(&self) -> Arc<dyn Events> {
        Arc::new(wake::Listener { proxy: self.proxy.events(), asked: self.asked.clone() })
    }

    /// Keeps a decision, and when it was made (`unix_ms`; `None`: now), for `status`.
    fn note_scaling(
        &self,
        service: String,
        from: usize,
        to: usize,
        reason: String,
        unix_ms: Option<u64>,
    ) -> ScalingStatus {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = unix_ms.unwrap_or(now.as_millis() as u64);
        let scaling = ScalingStatus { service, from, to, reason, unix_ms };
        let mut state = self.state();
        if state.scalings.len() >= SCALINGS_MAX {
            state.scalings.pop_front();
        }
        state.scalings.push_back(scaling.clone());
        drop(state);
        let ScalingStatus { service, from, to, reason, .. } = &scaling;
        info!("autoscale: {service}: {from} -> {to} replicas: {reason}");
        scaling
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave a half-made state: every section only reads or stores.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks `text` and puts it in force; says what changed, or why nothing did. `name` is what
    /// messages call the text.
    async fn apply_text(self: Arc<Self>, name: String, text: Arc<str>) -> Result<String, String> {
        // Held while it is checked, too: a text that is checked sooner must not overtake.
        let _turn = self.applying.lock().await;
        // Ten thousand routes take a while to check.
        let (reader, read) = (Arc::clone(&self.reader), Arc::clone(&text));
        let checked = tokio::task::spawn_blocking(move || {
            // What a panic interrupted is nothing that the next text would be read by.
            reader.lock().unwrap_or_else(PoisonError::into_inner).read(&name, &read)
        });
        let checked = checked.await.map_err(|error| error.to_string())?;
        let checked = checked.map_err(|defects| defects.to_string())?;
        for warning in &checked.warnings {
            warn!("{warning}");
        }
        self.apply_configured(checked.spec, text).await
    }

    /// Not in the loop of signals: a file system that hangs must not keep us from ending.
    async fn read_again(self: Arc<Self>, file: PathBuf) {
        let read = tokio::task::spawn_blocking(move || read_file(&file));
        match read.await {
            Ok(Ok(text)) => {
                let proxy = self.proxy.clone();
                self.acme.retry();
                self.reload(text.into(), "SIGHUP").await;
                let files = proxy.tls_files().into_iter().map(|(file, _)| file);
                let files: Vec<PathBuf> = files.collect();
                let again =
                    tokio::task::spawn_blocking(move || certificates::reload(&proxy, &files));
                if let Err(error) = again.await {
                    error!("SIGHUP: {error}");
                }
            }
            Ok(Err(failure)) => error!("SIGHUP: {failure}; nothing changed"),
            Err(error) => error!("SIGHUP: {error}"),
        }
    }

    async fn reload(self: Arc<Self>, text: Arc<str>, why: &'static str) {
        let name = self.name.clone();
        match self.apply_text(name, text).await {
            Ok(summary) => info!("{why}: {summary}"),
            Err(message) => error!("{why}, and is refused; nothing changed:\n{message}"),
        }
    }

    /// Says what listens where, once all endpoints are well or have had their time.
    async fn announce(self: Arc<Self>) {
        let all_well = self.wait_until(OVERVIEW_WAIT, || {
            let state = self.state();
            let well = |running: &Running| running.service.healthy() >= running.endpoint_count();
            state.awaited().is_none() && state.services.values().all(well)
        });
        all_well.await;
        if *self.stopping.borrow() {
            return;
        }
        if let Err(failure) = say(&self.overview()) {
            warn!("{failure}");
        }
    }

    fn overview(&self) -> String {
        let state = self.state();
        overview::text(&overview::Overview {
            spec: &state.spec,
            listeners: &self.proxy.listeners(),
            admin: state.admin.as_ref().map(AdminServer::address),
            registry: state.registry.address(),
            agent: state.agent.as_ref().map(Agent::status),
            healthy: &|name| {
                let running = state.services.get(name);
                running.map_or((0, 0), |r| (r.service.healthy(), r.endpoint_count()))
            },
        })
    }

    /// Ends the waiting early when we stop.
    async fn wait_until(&self, limit: Duration, condition: impl Fn() -> bool) -> bool {
        const POLL: Duration = Duration::from_millis(10);
        let mut stopping = self.stopping.subscribe();
        let met = async {
            while !condition() {
                tokio::select! {
                    () = tokio::time::sleep(POLL) => {}
                    _ = stopping.wait_for(|stopping| *stopping) => return false,
                }
            }
            true
        };
        timeout(limit, met).await.unwrap_or(false)
    }

    /// Who was found stays until we end.
    fn stop_discovery(&self) {
        let mut state = self.state();
        state.discovery.stop();
        state.sources = Sources::default();
    }

    /// Finishes what is in flight, then stops the replicas.
    async fn stop(&self) {
        self.stopping.send_replace(true);
        self.stop_discovery();
        let _turn = self.applying.lock().await;
        let (grace, begun) = {
            let state = self.state();
            (state.spec.stop_grace.0, state.begun)
        };
        // What never began has nothing in flight, and its error is all there is to say.
        if begun {
            info!(
                "stopping: what is in flight may take {grace:?} more; a second signal ends it at \
                 once"
            );
        }
        if let Some(agent) = &self.state().agent {
            agent.refuse();
        }
        self.proxy.stop(grace).await;
        let (services, mut leaving, agent) = {
            let mut state = self.state();
            let services = std::mem::take(&mut state.services);
            (services, std::mem::take(&mut state.leaving), state.agent.take())
        };
        leaving.extend(services.into_values().map(|running| tokio::spawn(running.stop())));
        for stopped in leaving {
            let _ = stopped.await;
        }
        // Writes what it has not yet written.
        let registry = std::mem::take(&mut self.state().registry);
        drop(registry);
        // Until here callers could report, which replicas that drain wait for.
        drop(agent);
        if begun {
            info!("stopped");
        }
    }
}

/// A number that differs from process to process.
fn seed() -> u64 {
    RandomState::new().hash_one("seed")
}

/// What tells this balancer from the others of a fleet, for `subset`: a hash of the host's name
/// and the process's number. In containers, each of which has a name of its own and begins with
/// process 1, it stays over restarts as long as the name does.
#[allow(clippy::disallowed_methods, reason = "who we are is read once for each service")]
fn identity() -> u64 {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    (name.trim_end(), std::process::id()).hash(&mut hasher);
    hasher.finish()
}
