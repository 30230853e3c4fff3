//! A connection to an endpoint, counted while it lives.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use model::Instant;
use model::spec::ProxyProtocolVersion;
use service::{ConnectionSlot, EndpointHandle};
use tokio::net::TcpStream;
use wire::proxy_protocol;

use crate::io::{Stream, TlsStream};
use crate::retirement::less_a_tenth;
use crate::tracked::Ticket;
use crate::worker::Worker;

/// A connection to an endpoint, in use or idle in a pool.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) stream: Stream,
    /// Counts the connection while it lives.
    _slot: ConnectionSlot,
    /// Not used for another request from then on.
    pub(crate) retire_at: Instant,
    pub(crate) idle_since: Instant,
    /// [`Secure::terms`] when it was made.
    pub(crate) terms: u64,
}

/// Why there is no connection.
#[derive(Debug)]
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

/// Connects to the endpoint within `timeout`, TLS included. `age_max` is how long the connection
/// may be used.
#[expect(clippy::too_many_arguments, reason = "the terms of one connection, by their names")]
pub(crate) async fn dial(
    worker: &Worker,
    ticket: &Ticket,
    endpoint: &Arc<EndpointHandle>,
    timeout: Duration,
    connections_max: Option<usize>,
    age_max: Duration,
    announce: Option<Announce>,
    secure: Secure,
) -> Result<Upstream, DialError> {
    let slot = endpoint.reserve_connection(connections_max).ok_or(DialError::Full)?;
    let now = worker.clock.now();
    ticket.set_deadline(now + timeout);
    let mut connect = pin!(connect(endpoint.address, announce, &secure));
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
    let age = less_a_tenth(age_max, &mut worker.rng.borrow_mut());
    Ok(Upstream { stream, _slot: slot, retire_at: now + age, idle_since: now, terms })
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
) -> Result<(Stream, u64), DialError> {
    let mut stream = Stream::connect(address).await.map_err(|e| failed(&e))?;
    if let Some(announce) = announce {
        send_header(&mut stream, announce).await.map_err(|e| failed(&e))?;
    }
    match (secured, stream) {
        // Never in clear what was to be secret.
        (Secure::Unusable, _) => Err(DialError::Handshake),
        (Secure::Tls(tls), Stream::Tcp(stream)) => {
            let dialling = tls.dial(address, &[]).map_err(|_| DialError::NoResources)?;
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
