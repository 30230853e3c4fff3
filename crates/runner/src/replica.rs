use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use model::EndpointId;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::fleet::Desired;
use crate::launch::Launch;
use crate::output::Output;
use crate::ports::PortLease;
use crate::process::Process;
use crate::published::Published;

/// Between questions whether a new replica is healthy yet.
const HEALTH_POLL: Duration = Duration::from_millis(20);
/// What children of a replica that died by itself get to follow it, before SIGKILL: they serve
/// nobody any more, and they delay the restart.
const LEFTOVER_GRACE: Duration = Duration::from_secs(1);
/// Starts in a row that may fail on a port which somebody else took, without a wait between.
const PORT_RETRIES: u32 = 5;

/// One replica: started, watched, started again when it dies, until it is told to stop.
pub(crate) struct Replica {
    pub(crate) index: u32,
    pub(crate) id: EndpointId,
    pub(crate) launch: Arc<Launch>,
    /// Where the timings are read, which may change while it runs.
    pub(crate) desired: watch::Receiver<Desired>,
    pub(crate) published: Arc<Published>,
    pub(crate) output: Option<Output>,
    /// Becomes true, or closes, when it must stop.
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) events: mpsc::Sender<(u32, Event)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Healthy for the first time since it was started.
    Proven,
    /// It ended or was ended, and will be started again.
    Lost,
    /// It was stopped and will not come back.
    Stopped,
}

/// How one life of a replica ended.
enum End {
    Stopped,
    Exited { status: io::Result<ExitStatus>, port_was_taken: bool },
    NeverHealthy,
    CannotStart(String),
}

impl Replica {
    pub(crate) async fn run(self, seed: u64) {
        let mut stop = self.stop.clone();
        let mut backoff = Backoff::new(seed);
        let mut port_retries = 0;
        loop {
            let start = Instant::now();
            let end = self.live(&mut stop).await;
            if matches!(end, End::Stopped) {
                break;
            }
            let retry_port = matches!(end, End::Exited { port_was_taken: true, .. });
            port_retries = if retry_port { port_retries + 1 } else { 0 };
            let wait = match port_retries {
                1..=PORT_RETRIES => Duration::ZERO,
                _ => backoff.after(start.elapsed()),
            };
            self.report(&end, start.elapsed(), wait);
            self.tell(Event::Lost).await;
            tokio::select! {
                () = sleep(wait) => {}
                () = told_to(&mut stop) => break,
            }
        }
        self.tell(Event::Stopped).await;
    }

    async fn live(&self, stop: &mut watch::Receiver<bool>) -> End {
        let (mut process, port) = match self.start().await {
            Ok(started) => started,
            Err(reason) => return End::CannotStart(reason),
        };
        info!("{}: started as process {} on port {}", self.id, process.id(), port.number());
        self.published.add(self.index, self.id.clone(), port.number());
        let start = Instant::now();
        let mut proven = false;
        let deadline = start + self.desired.borrow().spec.start_timeout;
        loop {
            tokio::select! {
                status = process.ended() => {
                    self.published.remove(self.index);
                    process.terminate(LEFTOVER_GRACE.min(self.stop_grace())).await;
                    let port_was_taken = !proven && port.is_taken();
                    return End::Exited { status, port_was_taken };
                }
                () = told_to(stop) => {
                    self.retire(&mut process).await;
                    return End::Stopped;
                }
                () = self.healthy(), if !proven => {
                    proven = true;
                    info!("{}: healthy after {:?}", self.id, whole_ms(start.elapsed()));
                    self.tell(Event::Proven).await;
                }
                () = sleep_until(deadline), if !proven => {
                    self.published.remove(self.index);
                    self.end(&mut process).await;
                    return End::NeverHealthy;
                }
            }
        }
    }

    async fn start(&self) -> Result<(Process, PortLease), String> {
        let output = match &self.output {
            Some(output) => output.clone(),
            None => Output::standard().map_err(|e| format!("cannot forward its output: {e}"))?,
        };
        let port = PortLease::take().map_err(|e| e.to_string())?;
        let command = self.launch.command(self.id.as_str(), port.number());
        let started = Process::start(self.id.as_str(), command, self.stop_grace(), &output).await;
        match started {
            Ok(process) => Ok((process, port)),
            Err(error) => Err(self.launch.explain(&error)),
        }
    }

    /// Stops it without hurting anybody: drained, then off the list, then ended.
    async fn retire(&self, process: &mut Process) {
        info!("{}: stopping", self.id);
        tokio::select! {
            () = self.published.replicas().drain(&self.id) => {}
            _ = process.ended() => {}
        }
        self.published.remove(self.index);
        self.end(process).await;
        info!("{}: stopped", self.id);
    }

    async fn end(&self, process: &mut Process) {
        let grace = self.stop_grace();
        if !process.terminate(grace).await {
            warn!("{}: did not end within {grace:?} of SIGTERM; killed", self.id);
        }
    }

    async fn healthy(&self) {
        while !self.published.replicas().is_healthy(&self.id) {
            sleep(HEALTH_POLL).await;
        }
    }

    fn stop_grace(&self) -> Duration {
        self.desired.borrow().spec.stop_grace
    }

    fn report(&self, end: &End, lived: Duration, wait: Duration) {
        let (id, lived, wait) = (&self.id, whole_ms(lived), wait.as_millis());
        let again = format!("starting it again in {wait} ms");
        match end {
            End::Stopped => {}
            End::Exited { port_was_taken: true, .. } => {
                warn!("{id}: ended after {lived:?}, its port was taken meanwhile; {again}");
            }
            End::Exited { status: Ok(status), .. } => {
                warn!("{id}: ended by itself after {lived:?} ({status}); {again}");
            }
            End::Exited { status: Err(error), .. } => warn!("{id}: lost ({error}); {again}"),
            End::NeverHealthy => warn!("{id}: not healthy within {lived:?} of its start; {again}"),
            End::CannotStart(reason) => warn!("{id}: {reason}; {again}"),
        }
    }

    async fn tell(&self, event: Event) {
        // Nobody listens only when the whole runner is being dropped.
        let _ = self.events.send((self.index, event)).await;
    }
}

async fn told_to(stop: &mut watch::Receiver<bool>) {
    // An error means that whoever could tell it is gone, which is the same.
    let _ = stop.wait_for(|&stop| stop).await;
}

/// What a person wants to know: `62ms`, `11.038s`.
fn whole_ms(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
