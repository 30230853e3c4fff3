//! Accepts connections and serves HTTP/1.1 on them.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::{Control, routes};

/// Connections served at once; further ones wait in the kernel's queue. Operators, a scraper or
/// two and probes need a handful.
const CONNECTIONS_MAX: usize = 128;

/// From the first byte (or from accept, or from the last answer) to the end of a request's head.
/// Longer than the 15 s at which Prometheus scrapes, so that it keeps its connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of a request's head; then 431. hyper asks for 8 KiB at least.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// A connection takes no further request after this, so that a client which reads nothing cannot
/// keep its place for ever.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);

/// What is then left for the request under way.
const CONNECTION_CLOSE_GRACE: Duration = Duration::from_secs(60);

/// After an accept that failed (no file descriptor left, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the future is dropped. Connections then finish the request under way and close.
pub async fn serve(listener: TcpListener, token: Option<String>, control: Arc<dyn Control>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let token: Option<Arc<str>> = token.map(Arc::from);
    // Dropped together with this future, which is how connections learn of its end.
    let (_serving, ended) = watch::channel(());
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("admin: cannot accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (token, control, ended) = (token.clone(), Arc::clone(&control), ended.clone());
        tokio::spawn(async move {
            serve_connection(stream, token, control, ended).await;
            drop(permit);
        });
    }
}

async fn serve_connection(
    stream: TcpStream,
    token: Option<Arc<str>>,
    control: Arc<dyn Control>,
    mut ended: watch::Receiver<()>,
) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| respond(request, token.clone(), Arc::clone(&control)));
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

async fn respond(
    request: Request<Incoming>,
    token: Option<Arc<str>>,
    control: Arc<dyn Control>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(routes::answer(request, token.as_deref(), &*control).await.into_response())
}

#[cfg(test)]
mod tests;
