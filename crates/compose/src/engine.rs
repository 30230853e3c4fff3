//! The engine's API over HTTP: on a Unix socket, over TCP with and without TLS, or through `ssh`.
//!
//! Unlike the watcher of `discovery` this changes things; it runs only as long as the verb that
//! uses it.

mod address;
mod body;
mod dial;
mod lines;
mod messages;

use std::fmt;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;

pub use address::{Address, EngineOptions};
pub use body::Body;
pub use lines::{LogLines, Source};
pub use messages::{Messages, Update};

/// To connect, and until a short answer has ended: making a container or a network can take
/// seconds on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of one answer that is read as a whole: a list of 10,000 containers has about 20 MiB.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Of the message in an answer that refuses.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Why a request did not do what it was to do.
#[derive(Debug)]
pub enum EngineError {
    /// It could not be asked, or its answer could not be read.
    Unreachable(String),
    /// It answered, with this status and message.
    Refused { status: StatusCode, message: String },
}

impl EngineError {
    /// There is no such thing.
    pub fn is_missing(&self) -> bool {
        matches!(self, EngineError::Refused { status: StatusCode::NOT_FOUND, .. })
    }

    /// It is so already, or something else has the name.
    pub fn is_conflict(&self) -> bool {
        matches!(self, EngineError::Refused { status: StatusCode::CONFLICT, .. })
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EngineError::Unreachable(message) => f.write_str(message),
            EngineError::Refused { message, .. } => write!(f, "the engine: {message}"),
        }
    }
}

impl std::error::Error for EngineError {}

/// Where an engine is. Each request has a connection of its own.
#[derive(Clone, Debug)]
pub struct Engine {
    options: EngineOptions,
}

impl Engine {
    pub fn new(options: EngineOptions) -> Self {
        Self { options }
    }

    pub fn address(&self) -> &Address {
        &self.options.address
    }

    pub async fn get(&self, path: &str) -> Result<Value, EngineError> {
        self.ask(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Option<&Value>) -> Result<Value, EngineError> {
        self.ask(Method::POST, path, body).await
    }

    pub async fn delete(&self, path: &str) -> Result<Value, EngineError> {
        self.ask(Method::DELETE, path, None).await
    }

    /// As [`Engine::post`], for what may take as long as it takes, such as the end of a container.
    pub async fn post_patiently(&self, path: &str, within: Duration) -> Result<Value, EngineError> {
        self.ask_within(Method::POST, path, None, PATIENCE + within).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, EngineError> {
        self.ask_within(method, path, body, PATIENCE).await
    }

    async fn ask_within(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<Value, EngineError> {
        let whole = async {
            let mut request = Request::builder().method(method).uri(path);
            let body = match body {
                Some(body) => {
                    request = request.header("Content-Type", "application/json");
                    Body::whole(body.to_string())
                }
                None => Body::empty(),
            };
            let request = request.body(body).map_err(unreachable)?;
            let response = self.send(request).await?;
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(unreachable)?.to_bytes();
            if body.is_empty() {
                return Ok(Value::Null);
            }
            // Some answers are plain text (`OK`).
            Ok(serde_json::from_slice(&body).unwrap_or(Value::Null))
        };
        let too_slow = || {
            let message = format!("the engine did not answer {path} in {patience:?}");
            Err(EngineError::Unreachable(message))
        };
        timeout(patience, whole).await.unwrap_or_else(|_| too_slow())
    }

    /// The answer, whose body may be without end; an error if its status is one.
    pub async fn send(
        &self,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, EngineError> {
        let connect = dial::connect(&self.options);
        let stream = timeout(PATIENCE, connect)
            .await
            .unwrap_or_else(|_| Err(format!("no connection in {PATIENCE:?}")))
            .map_err(|error| {
                let address = &self.options.address;
                EngineError::Unreachable(format!("cannot reach the engine at {address}: {error}"))
            })?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(unreachable)?;
        // Ends with the answer's body.
        tokio::spawn(connection);
        request.headers_mut().insert("Host", hyper::header::HeaderValue::from_static("docker"));
        let response = sender.send_request(request).await.map_err(unreachable)?;
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let body = Limited::new(response.into_body(), MESSAGE_BYTES_MAX).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        let message = serde_json::from_slice::<Value>(&body).ok();
        let message = message.and_then(|value| Some(value["message"].as_str()?.to_owned()));
        let message = message.unwrap_or_else(|| {
            format!("{status} {}", String::from_utf8_lossy(&body[..body.len().min(200)]))
        });
        Err(EngineError::Refused { status, message })
    }
}

fn unreachable(error: impl fmt::Display) -> EngineError {
    EngineError::Unreachable(format!("the engine: {error}"))
}
