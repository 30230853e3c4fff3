use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::output::{Output, Stream};
use crate::watchdog::Watchdog;
use crate::{before_exec, group, spawner};

/// Between looks whether a group is gone, once its leader is; doubled each time to the longest,
/// because a look reads through all processes.
const POLL: Duration = Duration::from_millis(5);
const POLL_LONGEST: Duration = Duration::from_millis(100);
/// How long the kernel may take to end what SIGKILL has hit; longer means that it hangs in a
/// device, and waiting would not help.
const KILLED_WITHIN: Duration = Duration::from_secs(5);
/// How long the last lines of an ended replica are waited for. A stranger that inherited the
/// pipe may hold it open for ever.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A running process group: the replica and whatever it starts. However this value ends, nothing
/// of the group outlives it.
///
/// A process that leaves the group (a daemon with a session of its own) is out of reach.
pub(crate) struct Process {
    child: Child,
    group: Pid,
    gone: bool,
    output_ends: Vec<oneshot::Receiver<()>>,
}

impl Process {
    /// `grace` is what the watchdog gives the group when we are killed.
    pub(crate) async fn start(
        name: &str,
        mut command: Command,
        grace: Duration,
        output: &Output,
    ) -> io::Result<Self> {
        let (out, out_writer) = io::pipe()?;
        let (err, err_writer) = io::pipe()?;
        command.stdout(out_writer).stderr(err_writer);
        let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
        let watchdog = Watchdog::global();
        let link = watchdog.map(Watchdog::link);
        let announced = before_exec::tie_to_us(&mut command, link, grace_ms)?;

        let child = match spawner::spawn(command).await {
            Ok(child) => child,
            Err(error) => {
                if let (Some(watchdog), Some(group)) = (watchdog, announced.number()) {
                    watchdog.remove(group);
                }
                return Err(error);
            }
        };
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let Some(group) = id else {
            return Err(io::Error::other("the new process has no id"));
        };
        // The child said so itself; this repeats it for a watchdog that was just restarted.
        if let Some(watchdog) = watchdog {
            watchdog.add(group, grace_ms);
        }
        let output_ends = [(Stream::Out, OwnedFd::from(out)), (Stream::Err, OwnedFd::from(err))]
            .map(|(stream, pipe)| output.follow(name, stream, pipe))
            .into();
        Ok(Self { child, group, gone: false, output_ends })
    }

    pub(crate) fn id(&self) -> i32 {
        self.group.as_raw_nonzero().get()
    }

    /// Waits for the end of the replica itself. May be dropped and called again.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends the whole group: SIGTERM, and SIGKILL to what is left after `grace`. Answers whether
    /// SIGTERM was enough.
    pub(crate) async fn terminate(&mut self, grace: Duration) -> bool {
        self.signal(Signal::TERM);
        let obeyed = timeout(grace, self.group_gone()).await.is_ok();
        if !obeyed {
            self.signal(Signal::KILL);
            if timeout(KILLED_WITHIN, self.group_gone()).await.is_err() {
                warn!("process group {} survives SIGKILL", self.id());
            }
        }
        for end in self.output_ends.drain(..) {
            let _ = timeout(LAST_WORDS, end).await;
        }
        obeyed
    }

    async fn group_gone(&mut self) {
        // Until the leader is waited for, its number cannot be given to another process; after
        // that the group itself keeps it for as long as it has a member.
        let _ = self.ended().await;
        let mut pause = POLL;
        while group::is_alive(self.group) {
            sleep(pause).await;
            pause = (pause * 2).min(POLL_LONGEST);
        }
        self.forget();
    }

    fn signal(&self, signal: Signal) {
        if !self.gone
            && let Err(error) = kill_process_group(self.group, signal)
        {
            debug!("cannot signal process group {}: {error}", self.id());
        }
    }

    fn forget(&mut self) {
        if !std::mem::replace(&mut self.gone, true)
            && let Some(watchdog) = Watchdog::global()
        {
            watchdog.remove(self.group);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.forget();
    }
}
