//! The command that is registered: a process group of its own, so that a terminal's Ctrl-C does
//! not reach it before it is drained, and that does not outlive us.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use runner::{Tied, Watchdog};
use rustix::process::Signal;
use tokio::time::timeout;
use tracing::warn;

use crate::failure::Failure;

pub(super) struct Command(Tied);

impl Command {
    /// It finds its port in PORT. If we are killed it gets SIGTERM, and SIGKILL after `grace`.
    pub(super) async fn start(
        command: &[String],
        port: u16,
        grace: Duration,
    ) -> Result<Self, Failure> {
        let (program, arguments) = command
            .split_first()
            .ok_or_else(|| Failure::Usage("there is no command to run".into()))?;
        if let Err(error) = Watchdog::start(None) {
            warn!("no watchdog: if this is killed, what the command started may stay: {error}");
        }
        let mut command = tokio::process::Command::new(program);
        command
            .args(arguments)
            .env("PORT", port.to_string())
            // Ours, with which it could register anything.
            .env_remove("EVENKEEL_REGISTRY_TOKEN")
            .stdin(Stdio::null());
        let tied = Tied::start(command, grace).await;
        let tied =
            tied.map_err(|error| Failure::Job(format!("cannot start {program:?}: {error}")))?;
        Ok(Self(tied))
    }

    /// Its exit status, as a shell has it: 128 and the number of the signal that killed it.
    pub(super) async fn ended(&mut self) -> i32 {
        self.0.ended().await.map_or(1, code)
    }

    /// SIGTERM, and SIGKILL after `grace`. That SIGTERM ended it is as it was meant: 0.
    pub(super) async fn stop(&mut self, grace: Duration) -> i32 {
        // A process that was stopped (SIGSTOP) could not obey.
        self.0.signal(Signal::TERM);
        self.0.signal(Signal::CONT);
        match timeout(grace, self.ended()).await {
            Ok(code) if code == 128 + Signal::TERM.as_raw() => 0,
            Ok(code) => code,
            Err(_) => {
                warn!("the command did not end within {grace:?} and is killed");
                self.0.signal(Signal::KILL);
                self.ended().await
            }
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}
