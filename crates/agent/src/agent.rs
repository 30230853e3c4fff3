//! The agent as a whole: its threads and sockets, and what of them a change of the configuration
//! touches.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use admin::serve_site;
use arc_swap::ArcSwap;
use model::spec::{AgentSpec, LarsSpec};
use model::status::{AgentCounts, AgentStatus, LarsStatus};
use model::{Instant, ServiceName};
use service::Service;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::counts::Counts;
use crate::desk::Desk;
use crate::door::SocketFile;
use crate::http::{AgentSite, Calls};
use crate::lars::reports::Told;
use crate::lars::udp::{self, UdpServer};
use crate::lars::{reports, routes};
use crate::terms::Terms;

/// The clock of the services that callers are given endpoints of.
pub(crate) type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

/// Connections of HTTP at once, at each of the two doors: one for each process or thread of
/// callers; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4096;

/// How often picks over HTTP are looked through for those that expired. Those over Lars are after
/// each batch of datagrams.
const EXPIRE_EVERY: Duration = Duration::from_millis(100);

/// What an agent is started with.
pub struct AgentOptions {
    /// Of the services.
    pub clock: Arc<dyn Fn() -> Instant + Send + Sync>,
    /// Of every random choice that picks for callers make.
    pub seed: u64,
}

/// An address of the configuration that cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    /// What is to listen there, as messages name it.
    pub what: &'static str,
    /// An address, or a path.
    pub place: Place,
    pub error: io::Error,
}

/// Where something listens.
#[derive(Clone, Debug)]
pub enum Place {
    Address(SocketAddr),
    Path(PathBuf),
}

/// Sockets that a changed configuration needs and that are bound, but not yet served.
#[derive(Default)]
pub struct Bound {
    http: Option<TcpListener>,
    socket: Option<SocketFile>,
    udp: [Option<UdpSocket>; 3],
    routes: Option<TcpListener>,
    reports: Option<TcpListener>,
}

/// A running agent; ends when dropped, and with it what is outstanding.
pub struct Agent {
    terms: Arc<ArcSwap<Terms>>,
    clock: Clock,
    seed: u64,
    /// Those over HTTP, then those of each UDP port of Lars.
    counts: [Arc<Counts>; 4],
    told: Arc<Told>,
    runtime: Handle,
    calls: Arc<Calls>,
    parts: Parts,
    /// Ends the thread when dropped.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What listens now.
#[derive(Default)]
struct Parts {
    http: Option<Listening>,
    socket: Option<(PathBuf, Task, SocketFile)>,
    udp: [Option<UdpServer>; 3],
    routes: Option<Listening>,
    reports: Option<Listening>,
}

/// A TCP listener and who serves it.
struct Listening {
    /// As configured, and as bound.
    configured: SocketAddr,
    bound: SocketAddr,
    _task: Task,
}

/// Ends when dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Bound {
    /// Binds what `spec` has and `agent` has not already.
    ///
    /// # Errors
    /// The first address that cannot be had; then nothing has changed.
    pub fn bind(spec: &AgentSpec, agent: Option<&Agent>) -> Result<Self, BindError> {
        let parts = agent.map(|agent| &agent.parts);
        let is_there = |listening: Option<&Listening>, address: SocketAddr| {
            listening.is_some_and(|l| l.configured == address)
        };
        let mut bound = Bound::default();
        if let Some(address) = spec.bind
            && !is_there(parts.and_then(|parts| parts.http.as_ref()), address)
        {
            bound.http = Some(listen("the agent", address)?);
        }
        if let Some(path) = &spec.socket
            && parts.and_then(|p| p.socket.as_ref()).is_none_or(|(there, ..)| there != path)
        {
            let socket = SocketFile::bind(path).map_err(|error| {
                let place = Place::Path(path.clone());
                BindError { what: "the agent", place, error }
            })?;
            bound.socket = Some(socket);
        }
        let Some(lars) = &spec.lars else { return Ok(bound) };
        for (index, address) in lars.udp.iter().enumerate() {
            let there = parts.and_then(|parts| parts.udp[index].as_ref());
            if there.is_none_or(|server| server.address != *address) {
                let socket = udp::bind(*address).map_err(|error| {
                    let place = Place::Address((*address).into());
                    BindError { what: "Lars' callers", place, error }
                })?;
                bound.udp[index] = Some(socket);
            }
        }
        if let Some(address) = lars.routes.map(SocketAddr::V4)
            && !is_there(parts.and_then(|parts| parts.routes.as_ref()), address)
        {
            bound.routes = Some(listen("Lars' routes", address)?);
        }
        if let Some(address) = lars.reports.map(SocketAddr::V4)
            && !is_there(parts.and_then(|parts| parts.reports.as_ref()), address)
        {
            bound.reports = Some(listen("Lars' reports", address)?);
        }
        Ok(bound)
    }
}

/// The standard library sets SO_REUSEADDR, so connections of an earlier run are no obstacle.
fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|error| BindError { what, place: Place::Address(address), error })
}

impl Agent {
    /// # Errors
    /// When threads or their runtime cannot be made.
    pub fn start(
        options: AgentOptions,
        spec: AgentSpec,
        bound: Bound,
        services: BTreeMap<ServiceName, Arc<Service>>,
    ) -> io::Result<Self> {
        let AgentOptions { clock, seed } = options;
        let terms = Arc::new(ArcSwap::from_pointee(Terms::new(spec.clone(), services, false)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let counts: [Arc<Counts>; 4] = Default::default();
        let desk = Mutex::new(Desk::new(seed, counts[0].clone()));
        let calls = Arc::new(Calls { terms: terms.clone(), clock: clock.clone(), desk });
        let (stop, stopped) = oneshot::channel();
        let handle = runtime.handle().clone();
        let expiring = calls.clone();
        let thread = std::thread::Builder::new().name("agent".into()).spawn(move || {
            runtime.block_on(async {
                let expire = async {
                    loop {
                        tokio::time::sleep(EXPIRE_EVERY).await;
                        expiring.expire();
                    }
                };
                tokio::select! {
                    _ = stopped => {}
                    () = expire => {}
                }
            });
        })?;
        let mut agent = Self {
            terms,
            clock,
            seed,
            counts,
            told: Arc::default(),
            runtime: handle,
            calls,
            parts: Parts::default(),
            stop: Some(stop),
            thread: Some(thread),
        };
        agent.serve(&spec, bound)?;
        Ok(agent)
    }

    /// These settings hold from now on. What listens where it listened goes on; picks that are
    /// outstanding stay so, but for those of a port of Lars that is moved.
    ///
    /// # Errors
    /// When a thread cannot be made.
    pub fn update(&mut self, spec: AgentSpec, bound: Bound) -> io::Result<()> {
        self.replace_terms(|terms| {
            Terms::new(spec.clone(), terms.services.clone(), terms.stopping)
        });
        self.serve(&spec, bound)
    }

    /// Who can be asked for from now on.
    pub fn set_services(&self, services: BTreeMap<ServiceName, Arc<Service>>) {
        self.replace_terms(|terms| {
            Terms::new(terms.spec.clone(), services.clone(), terms.stopping)
        });
    }

    /// Nothing new begins from now on; reports are still taken.
    pub fn refuse(&self) {
        self.replace_terms(|terms| Terms::new(terms.spec.clone(), terms.services.clone(), true));
    }

    fn replace_terms(&self, with: impl Fn(&Terms) -> Terms) {
        self.terms.rcu(|terms| with(terms));
    }

    fn serve(&mut self, spec: &AgentSpec, bound: Bound) -> io::Result<()> {
        let Bound { http, socket, udp, routes, reports } = bound;
        let lars = spec.lars.as_ref();
        self.serve_http(spec, http, socket)?;
        let place = |address: fn(&LarsSpec) -> Option<std::net::SocketAddrV4>| {
            lars.and_then(address).map(SocketAddr::V4)
        };
        let (terms, counts) = (self.terms.clone(), self.counts[1].clone());
        let serve = |listener| routes::serve(listener, terms, counts);
        replace(&self.runtime, &mut self.parts.routes, place(|l| l.routes), routes, serve)?;
        let (terms, counts) = (self.terms.clone(), self.counts[1].clone());
        let told = self.told.clone();
        let serve = |listener| reports::serve(listener, terms, counts, told);
        replace(&self.runtime, &mut self.parts.reports, place(|l| l.reports), reports, serve)?;
        for (index, socket) in udp.into_iter().enumerate() {
            let Some(lars) = lars else {
                self.parts.udp[index] = None;
                continue;
            };
            if let Some(socket) = socket {
                let counts = self.counts[1 + index].clone();
                let desk = Desk::new(self.seed.wrapping_add(1 + index as u64), counts);
                let (terms, clock) = (self.terms.clone(), self.clock.clone());
                let address = lars.udp[index];
                self.parts.udp[index] =
                    Some(UdpServer::start(address, socket, desk, terms, clock)?);
            }
        }
        Ok(())
    }

    fn serve_http(
        &mut self,
        spec: &AgentSpec,
        http: Option<TcpListener>,
        socket: Option<SocketFile>,
    ) -> io::Result<()> {
        let site = Arc::new(AgentSite { calls: self.calls.clone(), is_unix: false });
        replace(&self.runtime, &mut self.parts.http, spec.bind, http, |listener| async move {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => serve_site(listener, site, CONNECTIONS_MAX).await,
                Err(error) => tracing::warn!("the agent cannot be served: {error}"),
            }
        })?;
        if self.parts.socket.as_ref().map(|(path, ..)| path) != spec.socket.as_ref() {
            self.parts.socket = None;
        }
        if let (Some(socket), Some(path)) = (socket, &spec.socket) {
            let listener = socket.listener.try_clone()?;
            listener.set_nonblocking(true)?;
            let site = Arc::new(AgentSite { calls: self.calls.clone(), is_unix: true });
            let task = self.runtime.spawn(async move {
                match tokio::net::UnixListener::from_std(listener) {
                    Ok(listener) => serve_site(listener, site, CONNECTIONS_MAX).await,
                    Err(error) => tracing::warn!("the agent cannot be served: {error}"),
                }
            });
            self.parts.socket = Some((path.clone(), Task(task.abort_handle()), socket));
        }
        Ok(())
    }

    pub fn status(&self) -> AgentStatus {
        let terms = self.terms.load();
        let Parts { http, socket, udp, routes, reports } = &self.parts;
        let lars = terms.spec.lars.as_ref().map(|lars| LarsStatus {
            udp: udp.iter().flatten().map(|server| server.bound).collect(),
            routes: routes.as_ref().map(|listening| listening.bound),
            reports: reports.as_ref().map(|listening| listening.bound),
            keys: lars.keys.len(),
            told: self.told.status(),
        });
        let mut counts = Vec::new();
        if http.is_some() || socket.is_some() {
            counts.push(counts_of("http", &self.counts[..1]));
        }
        if lars.is_some() {
            counts.push(counts_of("lars", &self.counts[1..]));
        }
        AgentStatus {
            http: http.as_ref().map(|listening| listening.bound),
            socket: socket.as_ref().map(|(path, ..)| path.display().to_string()),
            lars,
            counts,
        }
    }
}

fn counts_of(wire: &str, desks: &[Arc<Counts>]) -> AgentCounts {
    let mut sum = AgentCounts { wire: wire.into(), ..AgentCounts::default() };
    desks.iter().for_each(|desk| desk.add_to(&mut sum));
    sum
}

/// What listens at `address` from now on: what did already, or a new listener that `serve` serves.
fn replace<S: Future<Output = ()> + Send + 'static>(
    runtime: &Handle,
    part: &mut Option<Listening>,
    address: Option<SocketAddr>,
    listener: Option<TcpListener>,
    serve: impl FnOnce(TcpListener) -> S,
) -> io::Result<()> {
    if part.as_ref().map(|listening| listening.configured) != address {
        *part = None;
    }
    if let (Some(configured), Some(listener)) = (address, listener) {
        let bound = listener.local_addr()?;
        let task = runtime.spawn(serve(listener));
        *part = Some(Listening { configured, bound, _task: Task(task.abort_handle()) });
    }
    Ok(())
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.parts = Parts::default();
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
