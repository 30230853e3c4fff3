//! HTTP/1.1 for interfaces of the control plane, whatever they answer: this API, and those of other
//! crates.
//!
//! Connections have bounds in number, age, and the time and size of a head. What they are asked is
//! the business of the handler.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

pub use crate::answer::Answer;
pub use crate::guard::{authenticate, is_same_secret, refuse_foreign_names, refuse_web_pages};

/// From the first byte (or from accept, or from the last answer) to the end of a request's head.
/// Longer than the 15 s at which Prometheus scrapes, so that it keeps its connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of a request's head; then 431. hyper asks for 8 KiB at least.
pub(crate) const HEADER_BYTES_MAX: usize = 16 * 1024;

/// A connection takes no further request after this, so that a client which reads nothing cannot
/// keep its place for ever.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);

/// What is then left for the request under way.
const CONNECTION_CLOSE_GRACE: Duration = Duration::from_secs(60);

/// After an accept that failed (no file descriptor left, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is served, and how many at once.
#[derive(Clone, Copy, Debug)]
pub struct Serving {
    /// As messages call it: `admin`.
    pub name: &'static str,
    /// Connections served at once; further ones wait in the kernel's queue.
    pub connections_max: usize,
}

/// Serves until the future is dropped. Connections then finish the request under way and close.
/// `answer` is given who asks.
pub async fn serve<B, A, F>(listener: TcpListener, serving: Serving, answer: A)
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    A: Fn(IpAddr, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(serving.connections_max));
    // Dropped together with this future, which is how connections learn of its end.
    let (_serving, ended) = watch::channel(());
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("{}: cannot accept a connection: {error}", serving.name);
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (answer, ended) = (answer.clone(), ended.clone());
        tokio::spawn(async move {
            serve_connection(stream, peer, answer, ended).await;
            drop(permit);
        });
    }
}

async fn serve_connection<B, A, F>(
    stream: TcpStream,
    peer: SocketAddr,
    answer: A,
    mut ended: watch::Receiver<()>,
) where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    A: Fn(IpAddr, Request<Incoming>) -> F,
    F: Future<Output = Response<B>> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let answered = answer(peer.ip(), request);
        async { Ok::<_, Infallible>(answered.await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HEADER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    // Errors are the client's: it went away, was too slow, or spoke no HTTP; hyper answered it.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ended.changed() => {}
        () = sleep(CONNECTION_AGE_MAX) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(CONNECTION_CLOSE_GRACE, connection).await;
}

/// All of a request's body; or 413, 408 or 400.
pub async fn read_body(
    body: Incoming,
    bytes_max: usize,
    within: Duration,
) -> Result<Vec<u8>, Answer> {
    match timeout(within, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Answer::error(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {} KiB", bytes_max >> 10),
        )),
        Ok(Err(error)) => Err(Answer::error(StatusCode::BAD_REQUEST, error.to_string())),
        Err(_) => Err(Answer::error(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
    }
}

/// What stands for each `{}` of `pattern` if `path` fits it.
pub fn names(pattern: &str, path: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut segments = path.split('/');
    for expected in pattern.split('/') {
        let segment = segments.next()?;
        if expected == "{}" {
            names.push(percent_decoded(segment).filter(|name| !name.is_empty())?);
        } else if expected != segment {
            return None;
        }
    }
    segments.next().is_none().then_some(names)
}

fn percent_decoded(segment: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        decoded.push(value as u8); // two hexadecimal digits: at most 255
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_fit_whole_segments() {
        let check = |pattern, path, expected: Option<&[&str]>| {
            let expected =
                expected.map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(names(pattern, path), expected, "{pattern} {path}");
        };
        check("/healthz", "/healthz", Some(&[]));
        check("/healthz", "/healthz/", None);
        check("/healthz", "/health", None);
        check("/v1/services/{}", "/v1/services/web", Some(&["web"]));
        check("/v1/services/{}", "/v1/services/", None);
        check("/v1/services/{}", "/v1/services/a/b", None);
        check("/s/{}/e/{}", "/s/w%2Fb/e/127.0.0.1:80", Some(&["w/b", "127.0.0.1:80"]));
        check("/s/{}/e/{}", "/s/w/e/%5B::1%5d:80", Some(&["w", "[::1]:80"]));
        check("/s/{}", "/s/%", None);
        check("/s/{}", "/s/%4", None);
        check("/s/{}", "/s/%zz", None);
        check("/s/{}", "/s/%ff", None);
        check("/s/{}", "/s/%+1", None);
    }
}
