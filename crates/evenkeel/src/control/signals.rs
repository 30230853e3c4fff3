use std::future::pending;
use std::io;

use tokio::signal::unix::{self, SignalKind, signal};

/// What the process is asked for from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGTERM, SIGINT
    Stop,
    /// SIGHUP: read the file again.
    Reload,
    /// SIGUSR1: the access log's file was moved away.
    ReopenLog,
}

pub(super) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    hang_up: unix::Signal,
    user1: unix::Signal,
}

impl Signals {
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
        })
    }

    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            Some(()) = self.terminate.recv() => Signal::Stop,
            Some(()) = self.interrupt.recv() => Signal::Stop,
            Some(()) = self.hang_up.recv() => Signal::Reload,
            Some(()) = self.user1.recv() => Signal::ReopenLog,
            else => pending().await,
        }
    }

    pub(super) async fn stop_again(&mut self) {
        while self.next().await != Signal::Stop {}
    }
}
