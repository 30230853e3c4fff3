use std::time::Duration;

use crate::spec::{
    AffinitySpec, ClientTlsSpec, DiscoverSpec, HealthSpec, HedgeSpec, OutlierSpec, QueueSpec,
    RunSpec, ServiceLimitSpec, SlowStartSpec, WakeSpec,
};
use crate::vocabulary::OptionValue;
use crate::{Endpoint, ServiceName};

/// A named set of endpoints that serve the same thing, and how to use them.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSpec {
    pub name: ServiceName,
    pub source: EndpointSource,
    pub policy: PolicySpec,
    pub health: HealthSpec,
    /// Default off: nothing but checks and failures in a row takes an endpoint out.
    pub outlier: Option<OutlierSpec>,
    /// Default off: an endpoint that begins to serve gets its whole share at once.
    pub slow_start: Option<SlowStartSpec>,
    /// With a smaller share of healthy endpoints, all that are listed are used (0.3 is 30 %); of
    /// up to three endpoints only when none is healthy. Default off.
    pub panic: Option<f64>,
    /// With a smaller share of healthy endpoints, those of the next priority join. Default 0:
    /// only when none is healthy.
    pub failover_below: f64,
    /// Of the eligible endpoints this balancer uses only so many, 1 to 100,000. Default off: all.
    pub subset: Option<u32>,
    /// Default none: every request is balanced by itself.
    pub affinity: Option<AffinitySpec>,
    pub retry: RetrySpec,
    /// A second endpoint is asked when the first takes long. Default off.
    pub hedge: Option<HedgeSpec>,
    pub pool: PoolSpec,
    pub limits: ServiceLimitSpec,
    /// Default none: what finds all endpoints at their limit gets 503.
    pub queue: Option<QueueSpec>,
    /// Where requests wait while there is no endpoint, and wake the service. Default none: they get
    /// 503.
    pub wake: Option<WakeSpec>,
    /// To connect, then the next endpoint is tried. Default 2 s.
    pub connect_timeout: Duration,
    /// From the end of the request to the first byte of the answer, then 504. Default 60 s.
    pub first_byte_timeout: Duration,
    /// From the request's head to the last byte of the answer, tunnels excepted, then 504 or a
    /// reset. Default off.
    pub total_timeout: Option<Duration>,
    /// How long requests and streams of a drained or removed endpoint may go on. Default 30 s.
    pub drain_grace: Duration,
    /// Begin each upstream connection with a PROXY protocol header. Default off.
    pub send_proxy_protocol: Option<ProxyProtocolVersion>,
    /// Speak TLS to the endpoints. Default: plain.
    pub tls: Option<ClientTlsSpec>,
    /// The version of HTTP that endpoints are spoken to in. Default HTTP/1.1.
    pub protocol: EndpointProtocol,
    /// Translate gRPC-Web to gRPC. Default false: it is passed on as it is.
    pub grpc_web: bool,
}

/// The version of HTTP that a service's endpoints are spoken to in; with [`ServiceSpec::tls`] over
/// TLS. Listeners of other protocols than HTTP do not mind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndpointProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 in clear, with prior knowledge (RFC 9113 section 3.3).
    H2c,
    /// HTTP/2 over TLS; an endpoint that does not agree on it by ALPN cannot be used.
    H2,
    /// Over TLS, HTTP/2 where the endpoint agrees on it by ALPN, and HTTP/1.1 else.
    Auto,
}

impl EndpointProtocol {
    /// Can endpoints be spoken to in HTTP/2?
    pub fn may_be_http2(self) -> bool {
        self != EndpointProtocol::Http1
    }
}

/// Where a service's endpoints come from.
#[derive(Clone, Debug, PartialEq)]
pub enum EndpointSource {
    Static(Vec<Endpoint>),
    Run(RunSpec),
    Discover(DiscoverSpec),
}

/// A policy's name, known to exist, and its options, known to fit.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicySpec {
    pub name: String,
    pub options: Vec<(String, OptionValue)>,
}

impl Default for PolicySpec {
    fn default() -> Self {
        Self { name: "round_robin".into(), options: Vec::new() }
    }
}

/// When a failed request is tried on another endpoint. A failed connect is always safe to try
/// again, counts against `attempts` and not against the budget.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrySpec {
    /// Further attempts after the first, each on another endpoint if there is one. Default 2;
    /// 0 to 10; 0: never.
    pub attempts: u32,
    /// Retries as a share of requests (0.2 is 20 %), over about the last ten seconds, with
    /// `budget_min` a second always allowed. Default 0.2.
    pub budget: f64,
    /// Default 10 a second.
    pub budget_min: u32,
    /// Bytes of a request body kept for another attempt; a longer body is not replayed. Default
    /// 64 KiB.
    pub replay_bytes: usize,
    /// What is retried for methods that are safe to repeat (RFC 9110 section 9.2.2: GET, HEAD,
    /// OPTIONS, TRACE, PUT, DELETE). Default: `Reset` alone.
    pub on: Vec<RetryCondition>,
    /// Retry all methods alike. Default false: POST and PATCH whose bytes an endpoint may have
    /// processed are never repeated.
    pub non_idempotent: bool,
}

impl Default for RetrySpec {
    fn default() -> Self {
        Self {
            attempts: 2,
            budget: 0.2,
            budget_min: 10,
            replay_bytes: 64 * 1024,
            on: vec![RetryCondition::Reset],
            non_idempotent: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryCondition {
    /// The connection broke, or gave no valid answer, before anything was sent to the client.
    Reset,
    /// No first byte in time.
    FirstByteTimeout,
    /// This status.
    Status(u16),
    /// A gRPC response without a message, with this status: see [`crate::grpc`].
    Grpc(u8),
}

/// Kept-alive connections to each endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// Idle connections kept per endpoint and worker: of those that were in use at once, so that
    /// a rush leaves as many for the next one, until they are closed by `idle_timeout`. Default
    /// 4096; 0: a connection each request.
    pub idle_max: usize,
    /// Default 30 s.
    pub idle_timeout: Duration,
    /// A connection is not used again once it is older than this, less up to a tenth by chance,
    /// so that they do not all end at once. Default 10 min.
    pub age_max: Duration,
    /// Connections per endpoint, all workers together, in use and idle; requests beyond it go to
    /// another endpoint, or 503. Default off.
    pub connections_max: Option<usize>,
    /// Requests for which a connection is used, after which it ends in order. Default off.
    pub requests_max: Option<u64>,
    /// HTTP/2: streams open at once on a connection, if the endpoint allows as many; for more
    /// requests there is a further connection. Default 100; 1 to 10,000.
    pub streams_max: u32,
    /// HTTP/2: a connection with open streams on which nothing was received for so long is asked
    /// for a sign of life. Default 10 s.
    pub ping_interval: Duration,
    /// HTTP/2: without that sign for so long the connection is taken for broken. Default 5 s.
    pub ping_timeout: Duration,
}

impl Default for PoolSpec {
    fn default() -> Self {
        Self {
            idle_max: 4096,
            idle_timeout: Duration::from_secs(30),
            age_max: Duration::from_secs(600),
            connections_max: None,
            requests_max: None,
            streams_max: 100,
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(5),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocolVersion {
    V1,
    V2,
}

impl ServiceSpec {
    /// All defaults, no endpoints.
    pub fn new(name: ServiceName) -> Self {
        Self {
            name,
            source: EndpointSource::Static(Vec::new()),
            policy: PolicySpec::default(),
            health: HealthSpec::default(),
            outlier: None,
            slow_start: None,
            panic: None,
            failover_below: 0.0,
            subset: None,
            affinity: None,
            retry: RetrySpec::default(),
            hedge: None,
            pool: PoolSpec::default(),
            limits: ServiceLimitSpec::default(),
            queue: None,
            wake: None,
            connect_timeout: Duration::from_secs(2),
            first_byte_timeout: Duration::from_secs(60),
            total_timeout: None,
            drain_grace: Duration::from_secs(30),
            send_proxy_protocol: None,
            tls: None,
            protocol: EndpointProtocol::default(),
            grpc_web: false,
        }
    }
}
