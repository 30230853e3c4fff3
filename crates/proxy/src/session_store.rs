//! Sessions that several balancers share, in a store outside: a Redis.
//!
//! For: one connection for each service whose sessions are shared, over which everything is
//! pipelined. A request waits here only for a session that nobody in this process knows, and only as
//! long as the specification lets it; all else is told and not waited for.
//! Never: stands between a request and its answer. Without the store each balancer goes on with what
//! it knows itself.
//! Start with [`SessionStore::find`] and [`SessionStore::tell`]; [`connection`] is the other side.
//!
//! Who begins a session sets it only if it is not there, and then looks who was first: if that was
//! another balancer, the session is where that one put it. What is still used is set again in each
//! quarter of its time to live, and once after the store was away, so that it fills again by itself.

mod connection;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use model::status::SessionStoreStatus;
use model::{EndpointId, Instant};
use service::Service;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;

/// What waits to be sent, of one service; more is not asked and not told. At 100 bytes each.
const COMMANDS_MAX: usize = 4096;

/// What the data plane holds of a service's store.
pub(crate) struct SessionStore {
    spec: model::spec::SessionStoreSpec,
    ttl: std::time::Duration,
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

/// What both sides see.
#[derive(Default)]
struct Shared {
    /// Why it is not connected; empty: it is.
    down: Mutex<Option<String>>,
    hits: AtomicU64,
    misses: AtomicU64,
    failures: AtomicU64,
    skipped: AtomicU64,
    told: AtomicU64,
    untold: AtomicU64,
    adopted: AtomicU64,
    /// As in `down`, to be read by workers: 1 is connected.
    up: AtomicU64,
}

enum Command {
    /// Where is the session? No answer: nobody knows, or not in time.
    Find { key: u64, until: Instant, answer: oneshot::Sender<String> },
    /// The session is there. `moved`: whatever is stored.
    Tell { key: u64, endpoint: EndpointId, moved: bool },
}

impl SessionStore {
    /// As the service's specification says; `None`: its sessions are not shared.
    pub(crate) fn start(service: &Arc<Service>, clock: Clock) -> Option<Arc<Self>> {
        let settings = service.settings();
        let table = settings.affinity.as_ref()?.table()?;
        let spec = table.store.clone()?;
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let shared = Arc::new(Shared {
            down: Mutex::new(Some("no answer yet".into())),
            ..Shared::default()
        });
        let ttl = table.ttl;
        let task = connection::run(connection::Task {
            spec: spec.clone(),
            ttl,
            service: service.clone(),
            clock,
            commands: received,
            shared: shared.clone(),
        });
        runtime()?.spawn(task);
        Some(Arc::new(Self { spec, ttl, commands, shared }))
    }

    /// Whether the specification still says the same of it.
    pub(crate) fn is_of(&self, service: &Service) -> bool {
        let settings = service.settings();
        let table = settings.affinity.as_ref().and_then(|affinity| affinity.table());
        table.is_some_and(|table| table.store.as_ref() == Some(&self.spec) && table.ttl == self.ttl)
    }

    /// The id of the endpoint at which the session is, if the store knows, and says so in time.
    pub(crate) async fn find(&self, key: u64, clock: Clock) -> Option<String> {
        let (answer, answered) = oneshot::channel();
        let until = clock.now() + self.spec.timeout;
        let sent = self.shared.up.load(Relaxed) == 1
            && self.commands.try_send(Command::Find { key, until, answer }).is_ok();
        if !sent {
            self.shared.skipped.fetch_add(1, Relaxed);
            return None;
        }
        // The other side ends it in time, by dropping it, unless it hangs in sending.
        tokio::time::timeout_at(clock.runtime(until), answered).await.ok()?.ok()
    }

    /// The session is at the endpoint from now on. `moved`: it was elsewhere, and failed there.
    pub(crate) fn tell(&self, key: u64, endpoint: &EndpointId, moved: bool) {
        let command = Command::Tell { key, endpoint: endpoint.clone(), moved };
        if self.shared.up.load(Relaxed) != 1 || self.commands.try_send(command).is_err() {
            self.shared.untold.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn status(&self) -> SessionStoreStatus {
        let shared = &self.shared;
        let reason = shared.down.lock().unwrap_or_else(PoisonError::into_inner).clone();
        SessionStoreStatus {
            connected: reason.is_none(),
            reason,
            hits: shared.hits.load(Relaxed),
            misses: shared.misses.load(Relaxed),
            failures: shared.failures.load(Relaxed),
            skipped: shared.skipped.load(Relaxed),
            told: shared.told.load(Relaxed),
            untold: shared.untold.load(Relaxed),
            adopted: shared.adopted.load(Relaxed),
        }
    }
}

impl Shared {
    fn set_down(&self, reason: Option<String>) {
        self.up.store(u64::from(reason.is_none()), Relaxed);
        *self.down.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

impl std::fmt::Debug for SessionStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SessionStore").field(&self.spec).finish()
    }
}

/// One thread for the connections of all services, started with the first of them.
fn runtime() -> Option<Handle> {
    static RUNTIME: OnceLock<Option<Handle>> = OnceLock::new();
    let start = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.inspect_err(|e| tracing::error!("no store of sessions: {e}")).ok()?;
        let handle = runtime.handle().clone();
        let thread = std::thread::Builder::new().name("sessions".into());
        let started = thread.spawn(move || runtime.block_on(std::future::pending::<()>()));
        started.inspect_err(|e| tracing::error!("no store of sessions: {e}")).ok()?;
        Some(handle)
    };
    RUNTIME.get_or_init(start).clone()
}
