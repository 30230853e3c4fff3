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
use wire::proxy_protocol;

use crate::io::Stream;
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

/// Connects to the endpoint within `timeout`. `age_max` is how long the connection may be used.
pub(crate) async fn dial(
    worker: &Worker,
    ticket: &Ticket,
    endpoint: &Arc<EndpointHandle>,
    timeout: Duration,
    connections_max: Option<usize>,
    age_max: Duration,
    announce: Option<Announce>,
) -> Result<Upstream, DialError> {
    let slot = endpoint.reserve_connection(connections_max).ok_or(DialError::Full)?;
    let now = worker.clock.now();
    ticket.set_deadline(now + timeout);
    let mut connect = pin!(connect(endpoint.address, announce));
    let stream = poll_fn(|cx| {
        ticket.attach(cx);
        if let Poll::Ready(result) = connect.as_mut().poll(cx) {
            return Poll::Ready(result.map_err(|e| match is_of_ours(&e) {
                true => DialError::NoResources,
                false => DialError::Failed(e.kind()),
            }));
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
    // Up to a tenth less by chance, so that connections made together do not end together.
    let tenth = u64::try_from(age_max.as_nanos() / 10).unwrap_or(u64::MAX);
    let jitter = Duration::from_nanos(worker.rng.borrow_mut().below(tenth.max(1)));
    Ok(Upstream {
        stream,
        _slot: slot,
        retire_at: now + age_max.saturating_sub(jitter),
        idle_since: now,
    })
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

async fn connect(address: SocketAddr, announce: Option<Announce>) -> io::Result<Stream> {
    let mut stream = Stream::connect(address).await?;
    if let Some(announce) = announce {
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
    }
    Ok(stream)
}
