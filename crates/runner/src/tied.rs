use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tracing::debug;

use crate::watchdog::Watchdog;
use crate::{before_exec, group, spawner};

/// A running process group that does not outlive us: the program that was started and whatever
/// it starts. However this value ends, nothing of the group is left; and when we are killed, the
/// kernel tells the program, and the [`Watchdog`], where there is one, ends the whole group.
///
/// A process that leaves the group (a daemon with a session of its own) is out of reach.
pub struct Tied {
    child: Child,
    group: Pid,
    gone: bool,
}

impl Tied {
    /// Starts `command` in a process group of its own, so that a terminal's Ctrl-C does not reach
    /// it. `grace` is what the watchdog gives the group between SIGTERM and SIGKILL.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub async fn start(mut command: Command, grace: Duration) -> io::Result<Self> {
        command.process_group(0);
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
        Ok(Self { child, group, gone: false })
    }

    /// The number of the program, and of its group.
    pub(crate) fn group(&self) -> Pid {
        self.group
    }

    /// Waits for the end of the program itself. May be dropped and called again.
    ///
    /// # Errors
    /// When the system does not tell.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        // The number is free for others once nobody of the group is left.
        if !group::is_alive(self.group) {
            self.forget();
        }
        status
    }

    /// To the whole group.
    pub fn signal(&self, signal: Signal) {
        if !self.gone
            && let Err(error) = kill_process_group(self.group, signal)
        {
            debug!("cannot signal process group {}: {error}", self.group);
        }
    }

    /// Nothing of it is left.
    pub(crate) fn forget(&mut self) {
        if !std::mem::replace(&mut self.gone, true)
            && let Some(watchdog) = Watchdog::global()
        {
            watchdog.remove(self.group);
        }
    }
}

impl Drop for Tied {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.forget();
    }
}
