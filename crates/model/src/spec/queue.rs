use std::time::Duration;

/// What a service takes at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceLimitSpec {
    /// Requests and streams in flight at each endpoint, all workers together. Default off.
    pub concurrency: Option<ConcurrencySpec>,
    /// Of the service at the same time, in flight and queued; each further attempt counts as one.
    /// Default off.
    pub requests: Option<u32>,
    /// Further attempts at the same time. Default off.
    pub retries: Option<u32>,
}

/// How many requests an endpoint may have in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConcurrencySpec {
    Fixed(u32),
    /// Found out from the latency, within these bounds. Default 4 and 1000.
    Learnt {
        min: u32,
        max: u32,
    },
}

impl ConcurrencySpec {
    /// `learnt` without bounds of its own.
    pub const LEARNT: Self = Self::Learnt { min: 4, max: 1000 };
}

/// Where requests wait that find all endpoints at their limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    pub per: QueuePer,
    /// Waiting requests, of each endpoint or of the service as `per` says. Default 100.
    pub max: u32,
    /// Then 503. Default 1 s.
    pub timeout: Duration,
    /// The header, in lower case, whose digit says how early a request's turn comes: 0 (first) to
    /// 9. Default none: all wait alike.
    pub priority: Option<String>,
}

/// The priority of a request that names none, or none of 0 to 9.
pub const PRIORITY_DEFAULT: u8 = 5;

/// The last priority.
pub const PRIORITY_MAX: u8 = 9;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueuePer {
    /// One queue, from which each endpoint that has room takes the next (join-bounded-shortest-
    /// queue, as the concurrency limit bounds what stands before each endpoint).
    #[default]
    Service,
    /// Each endpoint has its own; a request waits for the one that the policy chose.
    Endpoint,
}

/// Where requests wait for a service that has no endpoint, as it ends all of its replicas while nobody
/// asks for it, and is woken by who does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WakeSpec {
    /// Requests and streams that wait at the same time. Default 100.
    pub max: u32,
    /// The longest wait, then 503. Default 30 s.
    pub timeout: Duration,
    /// Of replicas that are run here: after so long without a request they end. Where replicas are
    /// found, who runs them decides. Default 5 min.
    pub idle: Duration,
}

impl Default for WakeSpec {
    fn default() -> Self {
        Self { max: 100, timeout: Duration::from_secs(30), idle: Duration::from_secs(300) }
    }
}

impl Default for QueueSpec {
    fn default() -> Self {
        Self { per: QueuePer::default(), max: 100, timeout: Duration::from_secs(1), priority: None }
    }
}
