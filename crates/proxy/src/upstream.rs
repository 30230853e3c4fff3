//! A connection to an endpoint, counted while it lives.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use model::Instant;
use model::spec::{PoolSpec, ProxyProtocolVersion};
use service::{ConnectionSlot, EndpointHandle};
use tokio::net::TcpStream;
use wire::proxy_protocol;

use crate::buffer::Buffer;
use crate::http2::{Asking, Carrier};
use crate::io::{Stream, TlsStream};
use crate::retirement::less_a_tenth;
use crate::tracked::Ticket;
use crate::worker::Worker;

/// A connection to an endpoint, in use or idle in a pool.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) stream: Stream,
    /// Counts the connection while it lives; a stream is counted with what carries it.
    _slot: Option<ConnectionSlot>,
    /// Not used for another request from then on.
    pub(crate) retire_at: Instant,
    pub(crate) idle_since: Instant,
    /// [`Secure::terms`] when it was made.
    pub(crate) terms: u64,
    /// Requests that it may still be used for after this one.
    pub(crate) requests_left: u64,
}

impl Upstream {
    /// A request's place on a connection that carries many.
    pub(crate) fn on_carrier(asking: Asking, now: Instant) -> Self {
        Self {
            stream: Stream::Asking(Box::new(asking)),
            _slot: None,
            retire_at: now,
            idle_since: now,
            terms: 0,
            requests_left: 0,
        }
    }

    /// See [`Asking::is_refused`].
    pub(crate) fn is_refused(&self) -> bool {
        matches!(&self.stream, Stream::Asking(asking) if asking.is_refused())
    }

    /// How the call of gRPC ended, once it has.
    pub(crate) fn grpc_status(&self) -> Option<u8> {
        match &self.stream {
            Stream::Asking(asking) => asking.grpc_status(),
            _ => None,
        }
    }

    /// Is the connection itself gone, or about to go?
    pub(crate) fn is_over(&self) -> bool {
        match &self.stream {
            Stream::Asking(asking) => asking.is_over(),
            _ => true,
        }
    }
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DialError {
    /// The endpoint has as many as it may have.
    Full,
    TimedOut,
    /// We have no file descriptors, local ports or memory left, which is no fault of the endpoint.
    NoResources,
    /// The client's connection must end.
    Closed,
    Failed(io::ErrorKind),
    /// It is connected, and TLS does not come about.
    Handshake,
    /// Its certificate is not one that the service takes.
    Certificate,
    /// It is connected, and does not speak HTTP/2.
    NotHttp2,
}

impl DialError {
    /// For the access log.
    pub(crate) fn reason(&self) -> &'static str {
        use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
        match self {
            DialError::Full => "endpoint has all its connections",
            DialError::TimedOut => "connect timed out",
            DialError::NoResources => "no sockets left here",
            DialError::Closed => "endpoint left",
            DialError::Failed(ConnectionRefused) => "connection refused",
            DialError::Failed(HostUnreachable | NetworkUnreachable) => "endpoint unreachable",
            DialError::Failed(_) => "connect failed",
            DialError::Handshake => "TLS handshake failed",
            DialError::Certificate => "certificate not accepted",
            DialError::NotHttp2 => "endpoint does not speak HTTP/2",
        }
    }
}

/// The addresses to announce to the endpoint by PROXY protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announce {
    pub(crate) version: ProxyProtocolVersion,
    pub(crate) client: SocketAddr,
    pub(crate) local: SocketAddr,
}

/// What a service speaks to its endpoints.
#[derive(Clone, Debug, Default)]
pub(crate) enum Secure {
    #[default]
    Plain,
    Tls(Arc<tls::Client>),
    /// It was to be TLS, and its files cannot be used.
    Unusable,
}

impl Secure {
    /// Connections are used for requests only on the terms on which they were made: 0 is plain.
    pub(crate) fn terms(&self) -> u64 {
        match self {
            Secure::Plain => 0,
            Secure::Tls(client) => client.generation(),
            Secure::Unusable => u64::MAX,
        }
    }
}

/// Connects to the endpoint within `timeout`, TLS included. `alpn`: what is offered to speak over
/// TLS. `pool` says how long the connection may be used.
#[expect(clippy::too_many_arguments, reason = "the terms of one connection, by their names")]
pub(crate) async fn dial(
    worker: &Worker,
    ticket: &Ticket,
    endpoint: &Arc<EndpointHandle>,
    timeout: Duration,
    pool: &PoolSpec,
    announce: Option<Announce>,
    secure: Secure,
    alpn: &[&[u8]],
) -> Result<Upstream, DialError> {
    let slot = endpoint.reserve_connection(pool.connections_max).ok_or(DialError::Full)?;
    let now = worker.clock.now();
    ticket.set_deadline(now + timeout);
    let age_max = pool.age_max;
    let mut connect = pin!(connect(endpoint.address, announce, &secure, alpn));
    let (stream, terms) = poll_fn(|cx| {
        ticket.attach(cx);
        if let Poll::Ready(result) = connect.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        if ticket.must_close() {
            return Poll::Ready(Err(DialError::Closed));
        }
        if ticket.expired() {
            return Poll::Ready(Err(DialError::TimedOut));
        }
        Poll::Pending
    })
    .await?;
    Ok(Upstream {
        stream,
        _slot: Some(slot),
        retire_at: now + less_a_tenth(age_max, &mut worker.rng.borrow_mut()),
        idle_since: now,
        terms,
        requests_left: pool.requests_max.unwrap_or(u64::MAX) - 1,
    })
}

/// Makes a connection that carries many requests of one on which nothing was sent yet, and waits
/// until the endpoint has said what it allows. It has to be driven from then on.
pub(crate) async fn carry(
    worker: &Worker,
    ticket: &Ticket,
    upstream: Upstream,
    pool: &PoolSpec,
) -> Result<Rc<Carrier>, DialError> {
    let Upstream { stream, _slot: slot, retire_at, terms, .. } = upstream;
    let slot = slot.ok_or(DialError::NotHttp2)?;
    let inbound = Buffer::new(&worker.blocks);
    let carrier = Carrier::new(stream, inbound, slot, worker.clock, pool, terms, retire_at);
    poll_fn(|cx| {
        ticket.attach(cx);
        let is_closed = carrier.poll(cx).is_ready();
        if carrier.is_ready() {
            return Poll::Ready(Ok(()));
        }
        if is_closed {
            return Poll::Ready(Err(DialError::NotHttp2));
        }
        if ticket.must_close() {
            return Poll::Ready(Err(DialError::Closed));
        }
        if ticket.expired() {
            return Poll::Ready(Err(DialError::TimedOut));
        }
        Poll::Pending
    })
    .await?;
    Ok(carrier)
}

/// Errors of socket(2) and connect(2) that say something of this process or system alone.
fn is_of_ours(e: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(e);
    matches!(
        errno,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL)
    )
}

/// Of connecting itself.
fn failed(e: &io::Error) -> DialError {
    if is_of_ours(e) { DialError::NoResources } else { DialError::Failed(e.kind()) }
}

async fn connect(
    address: SocketAddr,
    announce: Option<Announce>,
    secured: &Secure,
    alpn: &[&[u8]],
) -> Result<(Stream, u64), DialError> {
    let mut stream = Stream::connect(address).await.map_err(|e| failed(&e))?;
    if let Some(announce) = announce {
        send_header(&mut stream, announce).await.map_err(|e| failed(&e))?;
    }
    match (secured, stream) {
        // Never in clear what was to be secret.
        (Secure::Unusable, _) => Err(DialError::Handshake),
        (Secure::Tls(tls), stream) => {
            let stream = stream.into_tcp().map_err(|e| failed(&e))?;
            let dialling = tls.dial(address, alpn).map_err(|_| DialError::NoResources)?;
            let secured = secure(stream, dialling.session).await.map_err(|e| match e.kind() {
                io::ErrorKind::PermissionDenied => DialError::Certificate,
                _ => DialError::Handshake,
            })?;
            Ok((Stream::Tls(Box::new(secured)), dialling.generation))
        }
        (_, stream) => Ok((stream, 0)),
    }
}

/// Shakes hands as the client of a TLS session. An error of kind `PermissionDenied` is one of the
/// peer's certificate.
pub(crate) async fn secure(stream: TcpStream, session: tls::Session) -> io::Result<TlsStream> {
    let mut stream = TlsStream::new(stream, session, &[])?;
    poll_fn(|cx| stream.poll_handshake(cx)).await?;
    Ok(stream)
}

async fn send_header(stream: &mut Stream, announce: Announce) -> io::Result<()> {
    let addresses =
        proxy_protocol::Addresses { source: announce.client, destination: announce.local };
    let mut header = Vec::with_capacity(108);
    match announce.version {
        ProxyProtocolVersion::V1 => proxy_protocol::encode_v1(&addresses, &mut header),
        ProxyProtocolVersion::V2 => {
            proxy_protocol::encode_v2(proxy_protocol::Header::Proxied(addresses), &mut header);
        }
    }
    let mut sent = 0;
    while sent < header.len() {
        let count = poll_fn(|cx| stream.poll_write(cx, &header[sent..], &[])).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        sent += count;
    }
    Ok(())
}
