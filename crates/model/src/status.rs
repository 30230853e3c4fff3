//! What the running system says of itself: the JSON of the admin API, and the tables of the
//! command line. Durations are in the unit that their name ends with.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The state of an endpoint, as operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// New, and not yet checked: gets no traffic.
    Unproven,
    Healthy,
    Unhealthy,
    /// Left out for a while on the evidence of its traffic.
    Ejected,
    /// Finishes what it has and gets nothing new, by an operator's word or because it is leaving.
    Draining,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndpointStatus {
    pub id: String,
    pub address: SocketAddr,
    pub weight: u16,
    pub priority: u8,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub zone: Option<String>,
    pub state: EndpointState,
    /// Why it is in this state: `connect: connection refused (3 in a row)`.
    pub reason: String,
    pub in_flight: u32,
    /// How many it may have at the same time now; absent: as many as come.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
    /// Waiting for this endpoint and no other.
    #[serde(default)]
    pub queued: u32,
    pub requests: u64,
    pub failures: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latency_us: Option<u64>,
    /// Answers whose latency was measured since it was first seen.
    #[serde(default)]
    pub measured: u64,
    /// Of all of these together, in microseconds: for the mean between two looks.
    #[serde(default)]
    pub latency_sum_us: u64,
    /// It asked to be left alone (`Retry-After`), and the time is not over.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub resting: bool,
    /// What it last said of its resources (ORCA); 1.0 is all of the resource.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub utilization: Option<UtilizationStatus>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UtilizationStatus {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cpu: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub application: Option<f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceStatus {
    pub name: String,
    pub policy: String,
    /// Set when we run the replicas ourselves: how many are wanted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replicas: Option<usize>,
    pub endpoints: Vec<EndpointStatus>,
    pub retries: u64,
    /// Retries that the budget forbade.
    pub retries_denied: u64,
    /// Second attempts while the first was under way.
    #[serde(default)]
    pub hedges: u64,
    /// Hedges that the budget forbade.
    #[serde(default)]
    pub hedges_denied: u64,
    /// Hedges that answered first.
    #[serde(default)]
    pub hedges_won: u64,
    /// Picks that found no endpoint.
    pub unavailable: u64,
    /// So few endpoints are healthy that ill ones are used, too.
    #[serde(default)]
    pub panic: bool,
    #[serde(default)]
    pub ejections: EjectionCounts,
    /// Set when sessions are remembered in a table.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sessions: Option<SessionStatus>,
    #[serde(default)]
    pub queue: QueueStatus,
    /// It has no endpoint until somebody asks for it (`wake`).
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub asleep: bool,
}

impl ServiceStatus {
    /// Whether anything is in flight or waits, and a number that is another one whenever anything
    /// came since it was last asked for: with these two one sees for how long a service is idle.
    pub fn activity(&self) -> (bool, u64) {
        let busy = self.queue.queued > 0 || self.endpoints.iter().any(|e| e.in_flight > 0);
        let waited = self.queue.waited_us.iter().map(|(_, count)| count).sum::<u64>();
        let begun = self.endpoints.iter().map(|e| e.requests).sum::<u64>();
        let parts = [begun, waited, self.queue.rejected.total(), self.unavailable];
        (busy, parts.into_iter().fold(0, u64::wrapping_add))
    }
}

/// Services that sleep and are asked for, for whoever is to start their replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemandStatus {
    /// Grows whenever a service that sleeps is asked for by the first who waits.
    pub seq: u64,
    pub demand: Vec<HeldStatus>,
}

/// A service that has no endpoint, and requests that wait for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldStatus {
    pub service: String,
    /// Requests and streams that wait.
    pub held: u64,
}

/// How often endpoints of a service were ejected, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EjectionCounts {
    pub consecutive: u64,
    pub error_rate: u64,
    pub latency: u64,
}

/// The table of a service's sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Remembered now, about.
    pub entries: usize,
    /// For how many there is room.
    pub max: usize,
    /// Forgotten before their time, for want of room.
    pub evictions: u64,
    /// Set when other balancers share them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub store: Option<SessionStoreStatus>,
}

/// How a service's sessions are shared with other balancers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStoreStatus {
    pub connected: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Look-ups of sessions that nobody here knew, and that the store knew.
    pub hits: u64,
    /// That it did not know either.
    pub misses: u64,
    /// That it did not answer in time, or with an error.
    pub failures: u64,
    /// That were not made, as it was not connected or too many were under way.
    pub skipped: u64,
    /// Sessions that were told to it.
    pub told: u64,
    /// That could not be told.
    pub untold: u64,
    /// Sessions that turned out to be elsewhere, where another balancer had begun them.
    pub adopted: u64,
}

/// Who waits for an endpoint with room, who waited, and who was turned away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Waiting now, those who wait for one endpoint included.
    pub queued: u64,
    pub rejected: RejectedStatus,
    /// How long those waited who got an endpoint: upper bounds in microseconds (the last is
    /// `u64::MAX`) and how many fell at or below each but above the one before.
    pub waited_us: Vec<(u64, u64)>,
    pub waited_us_sum: u64,
}

/// Requests that were turned away, and attempts that were not made, by what was in their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedStatus {
    /// All endpoints were at their limit, and there is no queue.
    pub concurrency: u64,
    pub queue_full: u64,
    pub queue_timeout: u64,
    /// `limits.requests`
    pub requests: u64,
    /// `limits.retries`
    pub retries: u64,
    /// The service slept, and no endpoint of it was there in time.
    #[serde(default)]
    pub wake_timeout: u64,
}

impl RejectedStatus {
    pub fn total(&self) -> u64 {
        self.named().iter().map(|(_, count)| count).sum()
    }

    /// Each with its name.
    pub fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("concurrency", self.concurrency),
            ("queue_full", self.queue_full),
            ("queue_timeout", self.queue_timeout),
            ("requests", self.requests),
            ("retries", self.retries),
            ("wake_timeout", self.wake_timeout),
        ]
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListenerStatus {
    pub name: String,
    pub bind: SocketAddr,
    pub protocol: String,
    pub routes: usize,
    pub connections: u64,
    pub connections_total: u64,
    pub requests_total: u64,
}

/// A certificate that a listener shows, or is to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    pub listener: String,
    /// DNS names that it is for.
    pub names: Vec<String>,
    /// `file`, `self_signed` or `acme`.
    pub source: String,
    /// When it ends, in seconds since 1970; absent: there is none yet.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub not_after_unix: Option<i64>,
    /// Of those by ACME, how that goes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub acme: Option<AcmeStatus>,
}

/// How a certificate's issuing and renewal goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeStatus {
    /// The CA's directory.
    pub directory: String,
    /// When the next order is due, in seconds since 1970.
    pub next_unix: u64,
    /// An order is under way, here.
    #[serde(default)]
    pub ordering: bool,
    /// Orders in a row that failed, on all balancers that share the store.
    pub failures: u32,
    /// Why the last one did, as long as none succeeded since.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// When that was, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failed_unix: Option<u64>,
    /// Certificates that came of orders of this process.
    pub issued: u64,
    /// Orders of this process that failed.
    pub failed: u64,
}

/// A number of replicas that was set by load, and why: of containers by an autoscaler, which is another
/// process and tells the balancer, so that both are asked in one place; of our own processes by
/// ourselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScalingStatus {
    /// Of the Compose file, or of the configuration.
    pub service: String,
    /// How many there were.
    pub from: usize,
    /// How many are wanted.
    pub to: usize,
    /// For people.
    pub reason: String,
    /// When it was decided, in milliseconds since 1970.
    pub unix_ms: u64,
}

/// Where endpoints are discovered, and how that goes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DiscoveryStatus {
    /// `docker`, `file`
    pub provider: String,
    /// Where it is asked: a socket, a path.
    pub source: String,
    /// For whose endpoints it is asked; absent: for those of any service.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<String>,
    /// Its name and version, once it answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub engine: Option<String>,
    /// What is known is up to date.
    pub connected: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Those that run.
    pub containers: usize,
    /// Endpoints made of them.
    pub endpoints: usize,
    pub left_out: Vec<LeftOutStatus>,
    /// What containers say and is not used.
    pub notes: Vec<String>,
    pub usage: Vec<ContainerUsage>,
}

/// A container that was meant to serve, and does not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeftOutStatus {
    pub id: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<String>,
    pub reason: String,
}

/// What a container that serves uses, by the engine's statistics.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerUsage {
    pub id: String,
    pub name: String,
    /// Processors kept busy: 1.5 is one and a half.
    pub cpus: f64,
    /// Processors that it may keep busy: its limit, or all that the machine has.
    pub cpus_limit: f64,
    /// Without the page cache that could be dropped.
    pub memory_bytes: u64,
    /// What it may have: its limit, or all that the machine has; 0: unknown.
    pub memory_limit_bytes: u64,
}

/// The client-side agent: where it is asked, and what it counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// HTTP with JSON.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub http: Option<SocketAddr>,
    /// The same, on a Unix socket.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub socket: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lars: Option<LarsStatus>,
    /// By wire, as far as it is spoken: `http` and `lars`.
    pub counts: Vec<AgentCounts>,
}

/// Where the wire of Lars is spoken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LarsStatus {
    pub udp: Vec<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub routes: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reports: Option<SocketAddr>,
    pub keys: usize,
    /// What agents of Lars told the reporter.
    pub told: LarsReports,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LarsReports {
    pub latest: Vec<LarsReportStatus>,
    /// Not kept, for want of room.
    pub dropped: u64,
}

/// What an agent of Lars counted of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LarsReportStatus {
    pub modid: i32,
    pub cmdid: i32,
    pub host: SocketAddr,
    /// The number that the agent has for itself.
    pub caller: i32,
    pub succ: u32,
    pub err: u32,
    pub overload: bool,
    /// By the agent's clock, in seconds since 1970.
    pub unix_s: u32,
}

/// What callers of one wire asked and told since start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentCounts {
    pub wire: String,
    /// Picks that are not yet reported.
    pub outstanding: u64,
    pub picks: u64,
    /// Refused: there was no endpoint that could be picked.
    pub no_endpoint: u64,
    /// Refused by the policy or a limit.
    pub overloaded: u64,
    /// Refused: there is no such service, or key of Lars.
    pub unknown: u64,
    /// Reports of a success, of a failure, and of one that was given up.
    pub successes: u64,
    pub failures: u64,
    pub abandoned: u64,
    /// Of these, reports of an endpoint that was not asked for (Lars only), or too long ago.
    pub unasked: u64,
    /// Reports that belong to no pick, and of no endpoint that is known.
    pub unmatched: u64,
    /// Picks that nobody reported in time.
    pub expired: u64,
    /// Picks that made room for others before their time.
    pub crowded_out: u64,
    pub malformed: u64,
    /// Not answered, for they came from a network that may not ask.
    pub not_admitted: u64,
}

/// What one listener counted since start; workers' shards already added up.
#[derive(Clone, Debug, Default)]
pub struct ListenerMetrics {
    pub name: String,
    pub connections_open: u64,
    pub connections: u64,
    /// Connections or flows refused by a limit.
    pub refused: u64,
    /// HTTP responses by status class: index 1 is 1xx, 5 is 5xx; 0: ended by a reset.
    pub responses: [u64; 6],
    /// Requests refused as malformed or over a limit, before any service was chosen.
    pub malformed: u64,
    /// TLS handshakes that came about.
    pub handshakes: u64,
    /// TLS handshakes that did not: no agreement, no acceptable certificate, not in time.
    pub handshakes_failed: u64,
    /// Read from clients.
    pub downstream_bytes_in: u64,
    /// Written to clients.
    pub downstream_bytes_out: u64,
}

/// Latency of one service's requests, from head read to last byte answered.
#[derive(Clone, Debug, Default)]
pub struct ServiceMetrics {
    pub name: String,
    /// Upper bounds in microseconds (the last is `u64::MAX`) and how many fell at or below each
    /// but above the one before.
    pub latency_us: Vec<(u64, u64)>,
    pub latency_us_sum: u64,
}

/// All counters at one moment.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub listeners: Vec<ListenerMetrics>,
    pub services: Vec<ServiceMetrics>,
    pub access_log_written: u64,
    /// Lines dropped because the log could not take them.
    pub access_log_dropped: u64,
    pub workers: usize,
}

/// A registry that this process is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryStatus {
    /// `local`, `etcd` or `consul`.
    pub store: String,
    /// What is registered survives a restart.
    pub durable: bool,
    /// The store answers; a local one always does.
    pub connected: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Another one after each change of what is listed.
    pub version: u64,
    pub services: usize,
    pub instances: usize,
    /// Of them, those that were not heard of for half of their TTL.
    pub late: usize,
    /// Of them, those known from before a restart and not heard of since.
    pub restored: usize,
    /// For how long nobody was removed for silence, because most are silent; absent: silence is
    /// believed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub preserving_ms: Option<u64>,
    /// How often that began.
    pub preservations: u64,
    /// Requests that wait for a change.
    pub watchers: usize,
    pub registrations: u64,
    pub heartbeats: u64,
    pub deregistrations: u64,
    /// Instances removed for their silence.
    pub expirations: u64,
    /// Requests that were refused, for want of a token or room, or because they were wrong.
    pub refused: u64,
}
