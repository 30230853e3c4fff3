//! Clients of an open loop: each request is sent at its time, whatever became of those before.
//! (wrk waits for an answer before it asks again, and so asks a slow replica less often.)

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use model::Rng;

use super::client::Client;

pub struct OpenLoop {
    pub address: SocketAddr,
    /// Requests a second, at random moments (a Poisson process).
    pub rate: f64,
    pub lasts: Duration,
    /// Then a client gives up, and closes its connection.
    pub timeout: Duration,
    /// Of the moments.
    pub seed: u64,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// With 200, and in time.
    Answered,
    Failed,
    /// It was sent so late after its time that its fate says nothing: this machine had other
    /// things to do.
    Late,
}

/// Connections, each in a thread of its own: more than are ever in use at the same time.
const CONNECTIONS: usize = 48;

/// A request that is sent later than this share of its time-out is late.
const LATE: u32 = 10;

impl OpenLoop {
    /// Sends requests from `begin` on, the `n`th for the path `path(n)`, and answers their fates.
    pub fn run(&self, begin: Instant, path: impl Fn(usize) -> String + Sync) -> Vec<Fate> {
        let moments = self.moments();
        let next = AtomicUsize::new(0);
        let mut fates = vec![Fate::Failed; moments.len()];
        let one = || {
            let mut own = Vec::new();
            let mut client = None;
            loop {
                let n = next.fetch_add(1, SeqCst);
                let Some(moment) = moments.get(n) else { return own };
                // Made before its time: connecting is no part of the experiment.
                let connected = client.take().or_else(|| self.connect());
                slow_down_until(begin + *moment);
                let is_late = begin.elapsed() > *moment + self.timeout / LATE;
                let answered = connected.and_then(|mut connected: Client| {
                    connected.send(format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", path(n))).ok()?;
                    let response = connected.response().ok()?;
                    client = Some(connected);
                    (response.status == 200).then_some(())
                });
                own.push(match (is_late, answered) {
                    (true, _) => (n, Fate::Late),
                    (false, Some(())) => (n, Fate::Answered),
                    (false, None) => (n, Fate::Failed),
                });
            }
        };
        let done = thread::scope(|scope| {
            let clients: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(one)).collect();
            clients.into_iter().flat_map(|client| client.join().unwrap()).collect::<Vec<_>>()
        });
        for (n, fate) in done {
            fates[n] = fate;
        }
        fates
    }

    fn connect(&self) -> Option<Client> {
        let client = Client::try_connect(self.address).ok()?;
        client.stream.set_read_timeout(Some(self.timeout)).ok()?;
        Some(client)
    }

    fn moments(&self) -> Vec<Duration> {
        let mut rng = Rng::from_seed(self.seed);
        let mut at = 0.0;
        let mut moments = Vec::new();
        while at < self.lasts.as_secs_f64() {
            moments.push(Duration::from_secs_f64(at));
            at -= (1.0 - rng.unit()).ln() / self.rate;
        }
        moments
    }
}

/// An open loop is slow on purpose: each request has its time.
fn slow_down_until(moment: Instant) {
    thread::sleep(moment.saturating_duration_since(Instant::now()));
}
