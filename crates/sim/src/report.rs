use std::time::Duration;

use model::Instant;
use serde::Serialize;

use crate::histogram::Histogram;
use crate::invariants::Violation;

/// How one policy did in a scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub policy: String,
    pub seed: u64,
    pub requests: u64,
    pub succeeded: u64,
    /// Of the requests that were answered and of those that their clients gave up, in
    /// milliseconds; what failed otherwise, however fast, is not counted here.
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    /// Of the waits for an endpoint with room that ended with one, in milliseconds.
    pub queue_p99_ms: f64,
    pub errors: Errors,
    pub retries: u64,
    pub retries_denied: u64,
    /// How often an endpoint was left out as an outlier, by all balancers.
    pub ejections: u64,
    pub hedges: u64,
    pub hedges_denied: u64,
    pub hedges_won: u64,
    /// What the endpoint with the most requests for its weight got, over the mean; among those
    /// that were there from the beginning to the end. 1 is even.
    pub imbalance: f64,
    /// Of policies that hash: the share of requests whose key went elsewhere the time before.
    pub moved: Option<f64>,
    /// Of services with affinity.
    pub sessions: Option<SessionReport>,
    pub endpoints: Vec<EndpointReport>,
    /// The names of the endpoint groups, as in `Sample::shares`.
    pub groups: Vec<String>,
    pub samples: Vec<Sample>,
    /// Events played.
    pub events: u64,
    /// Of all events, in order: the same if and only if the run was the same.
    pub hash: String,
    /// Invariants that did not hold: each is a defect of this program.
    pub violations: Vec<Violation>,
}

/// Requests that failed, by what their clients saw last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Errors {
    /// 503: no endpoint was eligible.
    pub no_endpoint: u64,
    /// 502 or 504: no connection.
    pub connect: u64,
    /// 502: the endpoint reset it.
    pub reset: u64,
    /// The endpoint answered 500.
    pub server: u64,
    /// 504: no answer in the service's time.
    pub timeout: u64,
    /// The client gave up.
    pub client_timeout: u64,
    /// 503: a limit, with no queue or no place in it.
    pub full: u64,
    /// 503: it waited for too long.
    pub queue_timeout: u64,
}

/// What became of the sessions: one for each key of the clients that was ever served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SessionReport {
    pub begun: u64,
    /// How often a session was served by another endpoint than the time before.
    pub moved: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EndpointReport {
    pub id: String,
    pub weight: u16,
    /// Attempts, of all balancers.
    pub picks: u64,
}

/// One interval of the run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// Its end, since the clients began.
    pub at_ms: u64,
    pub requests: u64,
    pub succeeded: u64,
    pub p99_ms: f64,
    /// Of the attempts, by group of endpoints.
    pub shares: Vec<f64>,
}

impl Report {
    /// 1 if there were no requests.
    pub fn success(&self) -> f64 {
        if self.requests == 0 { 1.0 } else { self.succeeded as f64 / self.requests as f64 }
    }
}

impl Errors {
    pub fn total(&self) -> u64 {
        self.no_endpoint
            + self.connect
            + self.reset
            + self.server
            + self.timeout
            + self.client_timeout
            + self.full
            + self.queue_timeout
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Success,
    NoEndpoint,
    Connect,
    Reset,
    ServerError,
    Timeout,
    ClientTimeout,
    Full,
    QueueTimeout,
}

/// Counts while the run goes on.
pub(crate) struct Recorder {
    pub(crate) requests: u64,
    pub(crate) succeeded: u64,
    pub(crate) errors: Errors,
    pub(crate) keyed: u64,
    pub(crate) moved: u64,
    pub(crate) sessions: SessionReport,
    pub(crate) samples: Vec<Sample>,
    latencies: Histogram,
    waits: Histogram,
    window: Window,
}

struct Window {
    requests: u64,
    succeeded: u64,
    latencies: Histogram,
    picks: Vec<u64>,
}

impl Recorder {
    pub(crate) fn new(groups: usize) -> Self {
        let latencies = Histogram::new();
        let picks = vec![0; groups];
        Self {
            requests: 0,
            succeeded: 0,
            errors: Errors::default(),
            keyed: 0,
            moved: 0,
            sessions: SessionReport::default(),
            samples: Vec::new(),
            latencies: latencies.clone(),
            waits: latencies.clone(),
            window: Window { requests: 0, succeeded: 0, latencies, picks },
        }
    }

    pub(crate) fn picked(&mut self, group: usize) {
        self.window.picks[group] += 1;
    }

    /// Somebody waited for so long, and got an endpoint.
    pub(crate) fn waited(&mut self, time: Duration) {
        self.waits.add(time);
    }

    pub(crate) fn queue_p99_ms(&self) -> f64 {
        milliseconds(self.waits.quantile(0.99))
    }

    pub(crate) fn ended(&mut self, ending: Ending, took: Duration) {
        self.requests += 1;
        self.window.requests += 1;
        let errors = &mut self.errors;
        match ending {
            Ending::Success => {
                self.succeeded += 1;
                self.window.succeeded += 1;
            }
            Ending::NoEndpoint => errors.no_endpoint += 1,
            Ending::Connect => errors.connect += 1,
            Ending::Reset => errors.reset += 1,
            Ending::ServerError => errors.server += 1,
            Ending::Timeout => errors.timeout += 1,
            Ending::ClientTimeout => errors.client_timeout += 1,
            Ending::Full => errors.full += 1,
            Ending::QueueTimeout => errors.queue_timeout += 1,
        }
        if matches!(ending, Ending::Success | Ending::ClientTimeout | Ending::Timeout) {
            self.latencies.add(took);
            self.window.latencies.add(took);
        }
    }

    pub(crate) fn sample(&mut self, now: Instant, begin: Instant) {
        let window = &mut self.window;
        let picks: u64 = window.picks.iter().sum();
        self.samples.push(Sample {
            at_ms: now.since(begin).as_millis() as u64,
            requests: window.requests,
            succeeded: window.succeeded,
            p99_ms: milliseconds(window.latencies.quantile(0.99)),
            shares: window.picks.iter().map(|n| *n as f64 / picks.max(1) as f64).collect(),
        });
        window.requests = 0;
        window.succeeded = 0;
        window.latencies.clear();
        window.picks.fill(0);
    }

    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        milliseconds(self.latencies.quantile(share))
    }
}

/// To the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
