//! Picks and reports.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Http, Place};
use crate::known::{Endpoint, Known};

/// For each step of an exchange with the agent, which is on this machine or near.
const TIMEOUT: Duration = Duration::from_millis(500);

/// After the agent could not be reached, how long it is not asked again.
const AWAY: Duration = Duration::from_secs(1);

/// How old the list of endpoints may get before it is asked for again.
const REFRESH: Duration = Duration::from_secs(5);

/// The agent, wherever it is. Clones are handles to the same one.
#[derive(Clone)]
pub struct Agent {
    inner: Arc<Inner>,
}

struct Inner {
    http: Http,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: Known,
    /// It could not be reached; until then it is not asked.
    away_until: Option<Instant>,
}

/// What a pick depends on, beside the service.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// What requests are to be kept together by, for policies that take a key.
    pub key: Option<String>,
    /// Ids of endpoints that this request was tried on: picked again only if there is no other.
    pub exclude: Vec<String>,
}

/// How a call went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Success,
    /// It was answered with an error of the server.
    ServerError,
    /// No connection could be made.
    ConnectFailed,
    /// The connection broke, or the answer was none.
    Broken,
    /// There was no answer in time.
    TimedOut,
    /// We gave up for reasons of our own: says nothing of the endpoint.
    Abandoned,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::ServerError => "server_error",
            Outcome::ConnectFailed => "connect_failed",
            Outcome::Broken => "broken",
            Outcome::TimedOut => "timed_out",
            Outcome::Abandoned => "abandoned",
        }
    }
}

/// Why there is no endpoint, or no report.
#[derive(Debug)]
pub enum Error {
    /// The agent cannot be reached, and nothing is known from before.
    Away(io::Error),
    /// The agent has none to give now; `reason` is `no_endpoint`, `overloaded` or `stopping`.
    Refused { reason: String, message: String },
    /// The agent does not take the request: no such service, a wrong token, a report too late.
    Invalid { status: u16, message: String },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Away(error) => write!(f, "the agent cannot be reached: {error}"),
            Error::Refused { message, .. } | Error::Invalid { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {}

impl Agent {
    /// At a Unix socket (`agent.socket` of the configuration).
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::at(Place::Unix(path.into()))
    }

    /// At an address (`agent.bind`).
    pub fn tcp(address: SocketAddr) -> Self {
        Self::at(Place::Tcp(address))
    }

    fn at(place: Place) -> Self {
        let http = Http::new(place, TIMEOUT);
        Self { inner: Arc::new(Inner { http, state: Mutex::default() }) }
    }

    /// With the token that the agent demands (`agent.token`). To be called before anything else.
    pub fn with_token(self, token: impl Into<String>) -> Self {
        let Inner { http, .. } = &*self.inner;
        let mut http = Http::new(http.place.clone(), http.timeout);
        http.token = Some(token.into());
        Self { inner: Arc::new(Inner { http, state: Mutex::default() }) }
    }

    /// An endpoint of this service.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn pick(&self, service: &str) -> Result<Pick, Error> {
        self.pick_with(service, &Wish::default())
    }

    /// As [`Agent::pick`], by this key, or for a further attempt.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn pick_with(&self, service: &str, wish: &Wish) -> Result<Pick, Error> {
        let mut body = json!({ "service": service });
        if let Some(key) = &wish.key {
            body["key"] = key.as_str().into();
        }
        if !wish.exclude.is_empty() {
            body["exclude"] = wish.exclude.clone().into();
        }
        let answer = match self.ask("POST", "/v1/pick", Some(&body)) {
            Ok(answer) => answer,
            Err(Error::Away(error)) => return self.last_known(service, wish, error),
            Err(error) => return Err(error),
        };
        self.refresh(service);
        let read = || {
            let text = |name: &str| Some(answer[name].as_str()?.to_owned());
            Some((text("id")?, text("endpoint")?, answer["address"].as_str()?.parse().ok()?))
        };
        let (id, endpoint, address) = read().ok_or_else(|| Error::Invalid {
            status: 200,
            message: "the agent's answer is of another version".into(),
        })?;
        Ok(self.picked(Some(id), endpoint, address))
    }

    /// All endpoints of this service, whatever their state.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn endpoints(&self, service: &str) -> Result<Vec<Endpoint>, Error> {
        let answer = self.ask("GET", &format!("/v1/services/{service}/endpoints"), None)?;
        let all = answer["endpoints"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(all.iter().filter_map(Endpoint::read).collect())
    }

    fn picked(&self, id: Option<String>, endpoint: String, address: SocketAddr) -> Pick {
        Pick { agent: self.clone(), id, endpoint, address, began: Instant::now(), reported: false }
    }

    fn last_known(&self, service: &str, wish: &Wish, error: io::Error) -> Result<Pick, Error> {
        let next = self.state().known.next(service, &wish.exclude);
        let Endpoint { id, address, .. } = next.ok_or(Error::Away(error))?;
        Ok(self.picked(None, id, address))
    }

    /// Now and then, after a pick: what to use when the agent goes away.
    fn refresh(&self, service: &str) {
        let now = Instant::now();
        if !self.state().known.is_older(service, REFRESH, now) {
            return;
        }
        if let Ok(endpoints) = self.endpoints(service) {
            self.state().known.learn(service, endpoints, now);
        }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        if self.state().away_until.is_some_and(|until| Instant::now() < until) {
            let error = io::Error::new(io::ErrorKind::NotConnected, "it was away a moment ago");
            return Err(Error::Away(error));
        }
        let (status, mut answer) = match self.inner.http.ask(method, path, body) {
            Ok(answer) => answer,
            Err(error) => {
                self.state().away_until = Some(Instant::now() + AWAY);
                return Err(Error::Away(error));
            }
        };
        self.state().away_until = None;
        if status == 200 {
            return Ok(answer);
        }
        let mut text = |name: &str| match answer[name].take() {
            Value::String(text) => text,
            _ => String::new(),
        };
        let message = text("error");
        Err(match status {
            503 => Error::Refused { reason: text("reason"), message },
            _ => Error::Invalid { status, message },
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of it is complete before anything can panic.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An endpoint to be called. Dropped without a report, it is reported as given up.
#[must_use = "a pick is under way until it is reported"]
pub struct Pick {
    agent: Agent,
    /// `None`: the agent was not asked.
    id: Option<String>,
    endpoint: String,
    address: SocketAddr,
    began: Instant,
    reported: bool,
}

impl Pick {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint's id, for [`Wish::exclude`].
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The agent could not be reached: this is one of the endpoints that it last told of, and its
    /// report goes nowhere.
    pub fn is_last_known(&self) -> bool {
        self.id.is_none()
    }

    /// A success, which took from the pick to now.
    ///
    /// # Errors
    /// See [`Pick::report`].
    pub fn succeeded(self) -> Result<(), Error> {
        let latency = self.began.elapsed();
        self.report(Outcome::Success, Some(latency))
    }

    /// How it went, and how long the answer took.
    ///
    /// # Errors
    /// The agent cannot be reached, or the pick expired. There is nothing to be done about it.
    pub fn report(mut self, outcome: Outcome, latency: Option<Duration>) -> Result<(), Error> {
        self.tell(outcome, latency)
    }

    fn tell(&mut self, outcome: Outcome, latency: Option<Duration>) -> Result<(), Error> {
        self.reported = true;
        let Some(id) = &self.id else { return Ok(()) };
        let mut body = json!({ "id": id, "outcome": outcome.word() });
        if let Some(latency) = latency {
            body["latency_ms"] = (latency.as_secs_f64() * 1000.0).into();
        }
        self.agent.ask("POST", "/v1/report", Some(&body)).map(drop)
    }
}

impl Drop for Pick {
    fn drop(&mut self) {
        if !self.reported {
            // If it does not get there, the pick expires.
            let _ = self.tell(Outcome::Abandoned, None);
        }
    }
}
