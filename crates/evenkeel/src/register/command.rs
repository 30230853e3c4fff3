//! The command that is registered: a process group of its own, so that a terminal's Ctrl-C does
//! not reach it before it is drained.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;
use tokio::time::timeout;
use tracing::warn;

use crate::failure::Failure;

pub(super) struct Command {
    child: Child,
    group: Option<Pid>,
    /// Nothing of it is left that could be signalled.
    gone: bool,
}

impl Command {
    /// It finds its port in PORT.
    pub(super) fn start(command: &[String], port: u16) -> Result<Self, Failure> {
        let (program, arguments) = command
            .split_first()
            .ok_or_else(|| Failure::Usage("there is no command to run".into()))?;
        let child = tokio::process::Command::new(program)
            .args(arguments)
            .env("PORT", port.to_string())
            // Ours, with which it could register anything.
            .env_remove("EVENKEEL_REGISTRY_TOKEN")
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::Job(format!("cannot start {program:?}: {error}")))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { child, group, gone: false })
    }

    /// Its exit status, as a shell has it: 128 and the number of the signal that killed it.
    pub(super) async fn ended(&mut self) -> i32 {
        let status = self.child.wait().await;
        self.gone = true;
        status.map_or(1, code)
    }

    /// SIGTERM, and SIGKILL after `grace`. That SIGTERM ended it is as it was meant: 0.
    pub(super) async fn stop(&mut self, grace: Duration) -> i32 {
        // A process that was stopped (SIGSTOP) could not obey.
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
        match timeout(grace, self.ended()).await {
            Ok(code) if code == 128 + Signal::TERM.as_raw() => 0,
            Ok(code) => code,
            Err(_) => {
                warn!("the command did not end within {grace:?} and is killed");
                self.signal(Signal::KILL);
                self.ended().await
            }
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group.filter(|_| !self.gone) {
            // Gone already, at worst.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}
