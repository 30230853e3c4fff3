//! HTTP with JSON: `POST /v1/pick`, `POST /v1/report`, `GET /v1/services/NAME/endpoints`.
//! `docs/agent.md` is its manual.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use admin::{Answer, BoxFuture, Site, admit, read_body};
use arc_swap::ArcSwap;
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use model::Outcome;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use service::{EndpointHandle, Service};

use crate::agent::Clock;
use crate::calls::CallId;
use crate::counts::count;
use crate::desk::{Desk, Refusal, Unmatched};
use crate::terms::Terms;

/// Bytes of a request: a pick that excludes as many endpoints as count has some 2 KiB.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Services that the answer to an unknown one names; more would hide the message.
const SERVICES_LISTED_MAX: usize = 12;

/// What both doors have in common. One thread serves them, so the lock is never waited for.
pub(crate) struct Calls {
    pub(crate) terms: Arc<ArcSwap<Terms>>,
    pub(crate) clock: Clock,
    pub(crate) desk: Mutex<Desk>,
}

/// What is behind one of the doors.
pub(crate) struct AgentSite {
    pub(crate) calls: Arc<Calls>,
    /// The permissions of the socket say who may ask, and no browser gets there.
    pub(crate) is_unix: bool,
}

impl Site for AgentSite {
    fn answer(&self, request: Request<Incoming>) -> BoxFuture<'_, Answer> {
        Box::pin(async move { self.respond(request).await.unwrap_or_else(|refusal| refusal) })
    }
}

impl AgentSite {
    async fn respond(&self, request: Request<Incoming>) -> Result<Answer, Answer> {
        let (head, body) = request.into_parts();
        if !self.is_unix {
            let terms = self.calls.terms.load();
            admit(&head.method, &head.uri, &head.headers, terms.spec.token.as_deref())?;
        }
        let path = head.uri.path();
        let expected = match path {
            "/v1/pick" | "/v1/report" => Method::POST,
            _ => Method::GET,
        };
        if listed(path).is_none() && expected == Method::GET {
            return Err(Answer::error(StatusCode::NOT_FOUND, format!("there is no {path}")));
        }
        if head.method != expected {
            return Err(Answer::method_not_allowed(expected.as_str()));
        }
        if let Some(service) = listed(path) {
            return self.calls.list(service);
        }
        let body = read_body(body, BODY_BYTES_MAX).await?;
        let answer = match path {
            "/v1/pick" => self.calls.pick(&body),
            _ => self.calls.report(&body),
        };
        answer.inspect_err(|refusal| {
            if refusal.status() == StatusCode::BAD_REQUEST {
                count(&self.calls.desk().counts().malformed);
            }
        })
    }
}

/// The service whose endpoints this path lists.
fn listed(path: &str) -> Option<&str> {
    path.strip_prefix("/v1/services/")?.strip_suffix("/endpoints").filter(|s| !s.contains('/'))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PickRequest {
    service: String,
    /// What requests are to be kept together by, for policies that take a key.
    key: Option<String>,
    /// Endpoints that this request was tried on.
    #[serde(default)]
    exclude: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReportRequest {
    id: String,
    outcome: Told,
    latency_ms: Option<f64>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    Success,
    ServerError,
    ConnectFailed,
    Broken,
    TimedOut,
    Abandoned,
}

impl From<Told> for Outcome {
    fn from(told: Told) -> Self {
        match told {
            Told::Success => Outcome::Success,
            Told::ServerError => Outcome::ServerError,
            Told::ConnectFailed => Outcome::ConnectFailed,
            Told::Broken => Outcome::Broken,
            Told::TimedOut => Outcome::TimedOut,
            Told::Abandoned => Outcome::Abandoned,
        }
    }
}

/// Longer ones are a mistake in the unit.
const LATENCY_MAX: Duration = Duration::from_secs(24 * 3600);

impl Calls {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Every change of the table is complete before anything can panic.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends picks that nobody reported in time.
    pub(crate) fn expire(&self) {
        let terms = self.terms.load();
        self.desk().expire(&terms.spec, (self.clock)());
    }

    fn pick(&self, body: &[u8]) -> Result<Answer, Answer> {
        let wanted: PickRequest = json(body, r#"{ "service": "web" }"#)?;
        let terms = self.terms.load();
        let service = self.service(&terms, &wanted.service)?;
        if terms.stopping {
            return Err(refused("stopping", "the agent is stopping".into()));
        }
        let exclude = keys(service, &wanted.exclude);
        let mut desk = self.desk();
        let request = service::Request {
            now: (self.clock)(),
            key: wanted.key.as_ref().map(|key| route::text_key(key.as_bytes())),
            exclude: &exclude,
        };
        match desk.pick(service, &request, &terms.spec) {
            Ok((id, endpoint)) => Ok(picked(id, service, &endpoint, terms.spec.expire)),
            Err(Refusal::NoEndpoint) => Err(refused(
                "no_endpoint",
                format!("service {} has no endpoint that could be picked", service.name()),
            )),
            Err(Refusal::Overloaded) => Err(refused(
                "overloaded",
                format!("service {} has no endpoint that takes more now", service.name()),
            )),
        }
    }

    fn report(&self, body: &[u8]) -> Result<Answer, Answer> {
        let told: ReportRequest =
            json(body, r#"{ "id": "...", "outcome": "success", "latency_ms": 12.5 }"#)?;
        let latency = told.latency_ms.map(latency).transpose()?;
        let (outcome, now) = (told.outcome.into(), (self.clock)());
        let reported = match u64::from_str_radix(&told.id, 16) {
            Ok(id) => self.desk().report(CallId(id), outcome, latency, now),
            Err(_) => Err(Unmatched),
        };
        match reported {
            Ok(()) => Ok(Answer::json(&json!({}))),
            Err(Unmatched) => Err(Answer::error(
                StatusCode::NOT_FOUND,
                format!(
                    "no pick {:?} is outstanding: it was reported before, or not within {} s",
                    told.id,
                    self.terms.load().spec.expire.as_secs_f64()
                ),
            )),
        }
    }

    /// What callers can fall back to while they do not reach us.
    fn list(&self, name: &str) -> Result<Answer, Answer> {
        let terms = self.terms.load();
        let service = self.service(&terms, name)?;
        let status = service.status_at((self.clock)());
        let endpoints = status.endpoints.iter().map(|endpoint| {
            json!({
                "id": endpoint.id,
                "address": endpoint.address,
                "weight": endpoint.weight,
                "zone": endpoint.zone,
                "state": endpoint.state,
            })
        });
        let endpoints: Vec<_> = endpoints.collect();
        Ok(Answer::json(&json!({ "service": name, "endpoints": endpoints })))
    }

    fn service<'a>(&self, terms: &'a Terms, name: &str) -> Result<&'a Arc<Service>, Answer> {
        terms.services.get(name).ok_or_else(|| {
            count(&self.desk().counts().unknown);
            let known: Vec<&str> = terms.services.keys().map(|known| known.as_str()).collect();
            let help = match known.len() {
                0 => "there is none".to_owned(),
                1..=SERVICES_LISTED_MAX => format!("there are {}", known.join(", ")),
                many => format!("there are {many}"),
            };
            let message = format!("there is no service {name:?}; {help}");
            Answer::error(StatusCode::NOT_FOUND, message)
        })
    }
}

fn picked(id: CallId, service: &Service, endpoint: &EndpointHandle, expire: Duration) -> Answer {
    Answer::json(&json!({
        "id": format!("{:016x}", id.0),
        "service": service.name(),
        "endpoint": endpoint.id,
        "address": endpoint.address,
        "expires_ms": expire.as_millis() as u64,
    }))
}

/// 503, with a word for programs.
fn refused(reason: &str, message: String) -> Answer {
    let body = json!({ "error": message, "reason": reason });
    Answer::json_with(StatusCode::SERVICE_UNAVAILABLE, &body)
}

/// The keys of these endpoints, as far as they are there; more than count are not looked for.
fn keys(service: &Service, ids: &[String]) -> Vec<u64> {
    if ids.is_empty() {
        return Vec::new();
    }
    let eligible = service.eligible();
    let ids = ids.iter().take(service::Request::EXCLUDE_MAX);
    let key = |id: &String| Some(eligible.iter().find(|e| e.id.as_str() == id)?.key);
    ids.filter_map(key).collect()
}

fn latency(ms: f64) -> Result<Duration, Answer> {
    let latency = Duration::try_from_secs_f64(ms / 1000.0).ok().filter(|l| *l <= LATENCY_MAX);
    latency.ok_or_else(|| {
        let message = format!("`latency_ms` is {ms}; write milliseconds, from 0 to a day");
        Answer::error(StatusCode::BAD_REQUEST, message)
    })
}

fn json<T: DeserializeOwned>(body: &[u8], example: &str) -> Result<T, Answer> {
    serde_json::from_slice(body).map_err(|error| {
        Answer::error(StatusCode::BAD_REQUEST, format!("{error}; write {example}"))
    })
}
