//! The one thread that starts all replicas. The kernel ties the parent-death signal to the thread
//! that forked, not to the process, so this thread must live as long as the process does.

use std::io;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

struct Job {
    command: Command,
    /// Where the child's end will be noticed.
    runtime: Handle,
    started: oneshot::Sender<io::Result<Child>>,
}

static SPAWNER: Mutex<Option<mpsc::Sender<Job>>> = Mutex::new(None);

/// Starts `command`; its end is noticed in the runtime that this is called in.
pub(crate) async fn spawn(command: Command) -> io::Result<Child> {
    let (started, child) = oneshot::channel();
    let job = Job { command, runtime: Handle::current(), started };
    let gone = || io::Error::other("the thread that starts replicas is gone");
    sender()?.send(job).map_err(|_| gone())?;
    child.await.map_err(|_| gone())?
}

/// Unbounded, but each replica waits for its answer before it asks again.
fn sender() -> io::Result<mpsc::Sender<Job>> {
    let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sender) = &*spawner {
        return Ok(sender.clone());
    }
    let (sender, jobs) = mpsc::channel::<Job>();
    thread::Builder::new().name("replica-spawner".to_owned()).spawn(move || {
        for mut job in jobs {
            let _entered = job.runtime.enter();
            // When nobody waits any more the child is dropped, and with it killed.
            let _ = job.started.send(job.command.kill_on_drop(true).spawn());
        }
    })?;
    *spawner = Some(sender.clone());
    Ok(sender)
}
