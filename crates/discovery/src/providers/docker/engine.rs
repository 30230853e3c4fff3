//! Talks to the engine's socket. All that can be asked is in [`Ask`]: nothing of it changes
//! anything.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::decode::is_id;

/// To connect, and until an answer begins and ends. An engine that is busy with an image may take
/// seconds for the simplest answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Of one answer: a list of 10,000 containers has about 20 MiB.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Of one event. They repeat all labels of their container.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// What the engine is asked, and nothing else is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Version,
    /// Those that run or are paused.
    List,
    Inspect(String),
    Statistics(String),
    /// What happens from now on, without end.
    Events,
}

impl Ask {
    /// `None`: the id is none, and must not become part of a path.
    pub(super) fn path(&self) -> Option<String> {
        Some(match self {
            Ask::Version => "/version".to_owned(),
            Ask::List => "/containers/json".to_owned(),
            Ask::Inspect(id) if is_id(id) => format!("/containers/{id}/json"),
            Ask::Statistics(id) if is_id(id) => {
                format!("/containers/{id}/stats?stream=false&one-shot=true")
            }
            // {"type":["container","network"]}
            Ask::Events => "/events?filters=%7B%22type%22%3A%5B%22container%22%2C%22network%22\
                            %5D%7D"
                .to_owned(),
            Ask::Inspect(_) | Ask::Statistics(_) => return None,
        })
    }
}

#[derive(Clone, Debug)]
pub(super) struct Engine {
    socket: PathBuf,
}

impl Engine {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// The whole answer; `None`: there is no such thing (404).
    pub(super) async fn ask(&self, ask: &Ask) -> io::Result<Option<Bytes>> {
        let whole = async {
            let response = self.send(ask).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(io::Error::other)?.to_bytes();
            match status {
                StatusCode::OK => Ok(Some(body)),
                StatusCode::NOT_FOUND => Ok(None),
                status => Err(refused(ask, status, &body)),
            }
        };
        timeout(PATIENCE, whole).await.unwrap_or_else(|_| Err(too_slow(ask)))
    }

    pub(super) async fn events(&self) -> io::Result<Events> {
        let ask = Ask::Events;
        let response =
            timeout(PATIENCE, self.send(&ask)).await.unwrap_or_else(|_| Err(too_slow(&ask)))?;
        if response.status() != StatusCode::OK {
            return Err(refused(&ask, response.status(), b""));
        }
        Ok(Events { body: response.into_body(), buffer: Vec::new(), skipping: false })
    }

    async fn send(&self, ask: &Ask) -> io::Result<Response<Incoming>> {
        let path = ask.path().ok_or(io::ErrorKind::InvalidInput)?;
        let stream = UnixStream::connect(&self.socket).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Ends with the answer's body.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(Method::GET)
            .uri(path)
            .header("Host", "localhost")
            .body(Empty::<Bytes>::new())
            .map_err(io::Error::other)?;
        sender.send_request(request).await.map_err(io::Error::other)
    }
}

fn too_slow(ask: &Ask) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{ask:?}: no answer in {PATIENCE:?}"))
}

fn refused(ask: &Ask, status: StatusCode, body: &[u8]) -> io::Error {
    let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
    io::Error::other(format!("{ask:?}: {status} {text}"))
}

/// The stream of events, one JSON object on each line.
pub(super) struct Events {
    body: Incoming,
    buffer: Vec<u8>,
    /// In a line that is too long.
    skipping: bool,
}

/// One line of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Whole(Vec<u8>),
    /// It was longer than [`EVENT_BYTES_MAX`], so that what it said is not known.
    TooLong,
}

impl Events {
    /// Safe to be dropped while it waits. An error or `None`: the stream has ended.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(Some(line));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    fn take_line(&mut self) -> Option<Line> {
        loop {
            let end = self.buffer.iter().position(|byte| *byte == b'\n');
            let Some(end) = end else {
                if self.buffer.len() > EVENT_BYTES_MAX {
                    self.skipping = true;
                    self.buffer.clear();
                }
                return None;
            };
            let rest = self.buffer.split_off(end + 1);
            let line = std::mem::replace(&mut self.buffer, rest);
            if std::mem::take(&mut self.skipping) || line.len() > EVENT_BYTES_MAX {
                return Some(Line::TooLong);
            }
            // Podman sends empty lines to keep the connection alive.
            if !line.trim_ascii().is_empty() {
                return Some(Line::Whole(line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reading_requests_can_be_made() {
        let id = "4c".repeat(32);
        for (ask, path) in [
            (Ask::Version, Some("/version".to_owned())),
            (Ask::List, Some("/containers/json".to_owned())),
            (Ask::Inspect(id.clone()), Some(format!("/containers/{id}/json"))),
            (
                Ask::Statistics(id.clone()),
                Some(format!("/containers/{id}/stats?stream=false&one-shot=true")),
            ),
            (Ask::Inspect("../images/prune".into()), None),
            (Ask::Inspect(format!("{id}?x")), None),
            (Ask::Statistics(String::new()), None),
        ] {
            assert_eq!(ask.path(), path);
        }
        assert!(Ask::Events.path().unwrap().starts_with("/events?filters=%7B"));
    }
}
