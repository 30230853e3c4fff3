//! A worker: one thread, one runtime, its own sockets, pools and buffers. Workers share nothing on
//! the request path but the services' snapshots and the endpoints' counters.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use model::{Instant, Rng};
use service::EndpointHandle;
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::accept;
use crate::access_log::LogShard;
use crate::buffer::Blocks;
use crate::clock::Clock;
use crate::http1::Turns;
use crate::listener::{Bound, Listener};
use crate::pool::{Pools, SWEEP_EVERY_TICKS};
use crate::tracked::{TICK, Tracked};

/// After the end of a stop's grace, for connections to write their last bytes or be reset: with
/// ten thousand of them that takes more than one turn, and what is dropped instead would end in
/// order, so that half a response could pass for the whole.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the control side asks of a worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// Accept on this socket from now on.
    Listen(Arc<Listener>, Bound),
    /// Serve this connection, which a busier worker accepted.
    Adopt(Arc<Listener>, std::net::TcpStream, SocketAddr),
    /// Accept no more; what is open ends by `close_at`.
    Unlisten { listener: u32, close_at: Instant },
    /// The endpoint gets nothing new, and what uses it ends by its `close_at`; or, if it has
    /// none any more, it was taken back.
    Leaving(Arc<EndpointHandle>),
    /// Accept no more, and end when all is done, by `close_at` at the latest.
    Stop { close_at: Instant },
}

/// The control side's end of a worker.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    commands: UnboundedSender<Command>,
}

impl WorkerHandle {
    pub(crate) fn send(&self, command: Command) {
        // A worker that is gone has nothing left to do.
        let _ = self.commands.send(command);
    }
}

/// What the connections of one worker share.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) clock: Clock,
    pub(crate) rng: RefCell<Rng>,
    pub(crate) blocks: Rc<Blocks>,
    pub(crate) tracked: Rc<Tracked>,
    pub(crate) pools: Pools,
    pub(crate) log: LogShard,
    pub(crate) turns: Turns,
    /// All workers, by their indices; gone when the data plane is.
    pub(crate) siblings: Weak<OnceLock<Vec<WorkerHandle>>>,
}

/// Starts worker `index`. Its thread ends after [`Command::Stop`].
pub(crate) fn start(
    index: usize,
    clock: Clock,
    seed: u64,
    log: LogShard,
    core: Option<usize>,
    siblings: Weak<OnceLock<Vec<WorkerHandle>>>,
) -> io::Result<(WorkerHandle, JoinHandle<()>)> {
    let (commands, inbox) = unbounded_channel();
    let runtime_error = std::sync::mpsc::sync_channel(1);
    let (report, started) = runtime_error;
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        if let Some(core) = core {
            pin_to(core);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        match runtime {
            Err(e) => {
                let _ = report.send(Err(e));
            }
            Ok(runtime) => {
                let _ = report.send(Ok(()));
                let worker = Rc::new(Worker {
                    index,
                    clock,
                    rng: RefCell::new(Rng::from_seed(seed)),
                    blocks: Rc::default(),
                    tracked: Rc::default(),
                    pools: Pools::default(),
                    log,
                    turns: Turns::default(),
                    siblings,
                });
                runtime.block_on(run(worker, inbox));
            }
        }
    })?;
    match started.recv() {
        Ok(Ok(())) => Ok((WorkerHandle { commands }, thread)),
        Ok(Err(e)) => Err(e),
        Err(_) => Err(io::Error::other("a worker ended while it started")),
    }
}

/// Keeps the thread on one core; a container may forbid it, which costs only speed.
fn pin_to(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    if let Err(e) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::debug!("worker not pinned to core {core}: {e}");
    }
}

async fn run(worker: Rc<Worker>, mut inbox: UnboundedReceiver<Command>) {
    let mut accepting: HashMap<u32, oneshot::Sender<()>> = HashMap::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut tick_count: u32 = 0;
    let mut stop_at = None;
    let mut inbox_open = true;
    loop {
        let command = tokio::select! {
            command = inbox.recv(), if inbox_open => command,
            _ = ticks.tick() => {
                tick_count = tick_count.wrapping_add(1);
                let now = worker.clock.now();
                worker.tracked.tick(now);
                worker.log.flush();
                if tick_count.is_multiple_of(SWEEP_EVERY_TICKS) {
                    worker.pools.sweep(now);
                    worker.blocks.trim();
                    worker.turns.trim();
                }
                if let Some(stop_at) = stop_at
                    && (worker.tracked.is_empty() || stop_at <= now)
                {
                    // One more turn, so that who was just accepted is counted.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    while let Ok(command) = inbox.try_recv() {
                        if let Command::Adopt(listener, stream, peer) = command {
                            accept::adopt(&worker, listener, stream, peer);
                        }
                    }
                    if worker.tracked.is_empty() || stop_at + LAST_WORDS <= now {
                        worker.log.flush();
                        return;
                    }
                }
                continue;
            }
        };
        match command {
            Some(Command::Listen(listener, bound)) => {
                let (stop, stopped) = oneshot::channel();
                accepting.insert(listener.id, stop);
                accept::accept(worker.clone(), listener, bound, stopped);
            }
            Some(Command::Adopt(listener, stream, peer)) => {
                accept::adopt(&worker, listener, stream, peer);
            }
            Some(Command::Unlisten { listener, close_at }) => {
                accepting.remove(&listener);
                // What was still waiting to be accepted comes first.
                tokio::task::yield_now().await;
                worker.tracked.close_listener(Some(listener), close_at);
            }
            Some(Command::Leaving(endpoint)) => {
                let close_at = endpoint.close_at().unwrap_or(Instant::FAR_FUTURE);
                if endpoint.is_leaving() {
                    worker.pools.forget(endpoint.key);
                }
                worker.tracked.close_endpoint(endpoint.key, close_at);
            }
            Some(Command::Stop { close_at }) => {
                accepting.clear();
                tokio::task::yield_now().await;
                worker.tracked.close_listener(None, close_at);
                stop_at = Some(close_at);
                ticks.reset_immediately();
            }
            // The proxy was dropped without a stop: end at once.
            None if stop_at.is_none() => return,
            None => inbox_open = false,
        }
    }
}
