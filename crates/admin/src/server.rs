//! Accepts connections and serves HTTP/1.1 on them.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::answer::Answer;
use crate::{BoxFuture, Control, routes};

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

/// What is served: whatever answers a request of HTTP with an [`Answer`].
pub trait Site: Send + Sync + 'static {
    fn answer(&self, request: Request<Incoming>) -> BoxFuture<'_, Answer>;
}

/// Where connections come from.
pub trait Door: Send + Sync {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn enter(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// The address at the other end, where it has one.
    fn peer(_: &Self::Stream) -> Option<IpAddr> {
        None
    }
}

/// Among the extensions of each request that comes from an address: from which.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

impl Door for TcpListener {
    type Stream = TcpStream;

    async fn enter(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    fn peer(stream: &TcpStream) -> Option<IpAddr> {
        stream.peer_addr().ok().map(|peer| peer.ip())
    }
}

impl Door for UnixListener {
    type Stream = UnixStream;

    async fn enter(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

/// Serves the admin API until the future is dropped. Connections then finish the request under
/// way and close.
pub async fn serve(listener: TcpListener, token: Option<String>, control: Arc<dyn Control>) {
    serve_site(listener, Arc::new(AdminSite { token, control }), CONNECTIONS_MAX).await;
}

/// As [`serve`], anything, to so many connections at once.
pub async fn serve_site<D: Door>(door: D, site: Arc<impl Site>, connections_max: usize) {
    let permits = Arc::new(Semaphore::new(connections_max));
    // Dropped together with this future, which is how connections learn of its end.
    let (_serving, ended) = watch::channel(());
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let stream = match door.enter().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!("cannot accept a connection of HTTP: {error}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (site, ended) = (Arc::clone(&site), ended.clone());
        let peer = D::peer(&stream);
        tokio::spawn(async move {
            serve_connection(stream, peer, site, ended).await;
            drop(permit);
        });
    }
}

async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Option<IpAddr>,
    site: Arc<impl Site>,
    mut ended: watch::Receiver<()>,
) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(Peer(peer));
        }
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(site.answer(request).await.into_response()) }
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

struct AdminSite {
    token: Option<String>,
    control: Arc<dyn Control>,
}

impl Site for AdminSite {
    fn answer(&self, request: Request<Incoming>) -> BoxFuture<'_, Answer> {
        Box::pin(routes::answer(request, self.token.as_deref(), &*self.control))
    }
}

#[cfg(test)]
mod tests;
