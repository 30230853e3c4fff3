use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::process::Signal;
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::group;
use crate::output::{Output, Stream};
use crate::tied::Tied;

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

/// A replica at work, and what it writes.
pub(crate) struct Process {
    tied: Tied,
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
        let tied = Tied::start(command, grace).await?;
        let output_ends = [(Stream::Out, OwnedFd::from(out)), (Stream::Err, OwnedFd::from(err))]
            .map(|(stream, pipe)| output.follow(name, stream, pipe))
            .into();
        Ok(Self { tied, output_ends })
    }

    pub(crate) fn id(&self) -> i32 {
        self.tied.group().as_raw_nonzero().get()
    }

    /// Waits for the end of the replica itself. May be dropped and called again.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.tied.ended().await
    }

    /// Ends the whole group: SIGTERM, and SIGKILL to what is left after `grace`. Answers whether
    /// SIGTERM was enough.
    pub(crate) async fn terminate(&mut self, grace: Duration) -> bool {
        self.tied.signal(Signal::TERM);
        let obeyed = timeout(grace, self.group_gone()).await.is_ok();
        if !obeyed {
            self.tied.signal(Signal::KILL);
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
        while group::is_alive(self.tied.group()) {
            sleep(pause).await;
            pause = (pause * 2).min(POLL_LONGEST);
        }
        self.tied.forget();
    }
}
