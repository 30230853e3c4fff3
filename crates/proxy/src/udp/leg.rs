use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::rc::Rc;
use std::time::Duration;

use model::{Instant, Outcome, Report};
use rustix::net::SendFlags;
use service::{ConnectionSlot, Pick, Request};
use tokio::net::UdpSocket;

use crate::listener::Target;
use crate::session;
use crate::worker::Worker;

/// A flow's way to its endpoint.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) pick: Pick,
    pub(super) socket: Rc<UdpSocket>,
    /// Counts the socket as a connection to the endpoint.
    _slot: ConnectionSlot,
    pub(super) began: Instant,
    /// From the first datagram to the first reply.
    pub(super) latency: Option<Duration>,
    /// The endpoints that could not take the datagram at hand, by `EndpointHandle::key`.
    pub(super) tried: Vec<u64>,
}

/// Why there is no endpoint for a datagram.
#[derive(Debug)]
pub(super) enum LegError {
    Unavailable,
    /// No file or port to be had.
    Ours(io::Error),
}

impl LegError {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            LegError::Unavailable => "no endpoint available",
            LegError::Ours(_) => "out of sockets",
        }
    }
}

impl Leg {
    /// Picks an endpoint that was not `tried`, if there is one, and connects to it.
    pub(super) fn open(
        worker: &Worker,
        target: &Target,
        client: IpAddr,
        now: Instant,
        mut tried: Vec<u64>,
    ) -> Result<Self, LegError> {
        let settings = target.service.settings();
        let key = settings.key().map(|_| route::source_key(client));
        let session = session::of_client(&settings, client);
        for _ in 0..=settings.retry.attempts {
            let request = Request { now, key, exclude: &tried };
            let service = &target.service;
            let resumed = session.and_then(|session| service.resume(session, &request));
            let pick = resumed.or_else(|| service.pick(&request, &mut worker.rng.borrow_mut()));
            let Some(pick) = pick else { return Err(LegError::Unavailable) };
            let endpoint = pick.endpoint().clone();
            let Some(slot) = endpoint.reserve_connection(settings.pool.connections_max) else {
                tried.push(endpoint.key);
                continue;
            };
            match connect(endpoint.address) {
                Ok(socket) => {
                    // Whether it is served, many protocols over UDP never tell. If the endpoint
                    // turns out to be gone, the flow moves, and the session with it.
                    if let Some(session) = session {
                        service.learn(session, &endpoint, &request);
                    }
                    let socket = Rc::new(socket);
                    return Ok(Self {
                        pick,
                        socket,
                        _slot: slot,
                        began: now,
                        latency: None,
                        tried,
                    });
                }
                Err(e) if is_unreachable(&e) => {
                    pick.report(&Report::new(now, Outcome::ConnectFailed));
                    tried.push(endpoint.key);
                }
                Err(e) => return Err(LegError::Ours(e)),
            }
        }
        Err(LegError::Unavailable)
    }

    /// Sends at once or not at all: what finds the socket full is lost, as UDP may lose it. An
    /// error is one of the endpoint.
    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        // Not through the runtime, which does not yet know that a new socket can be written to.
        match rustix::net::send(&*self.socket, bytes, SendFlags::DONTWAIT) {
            Err(e) if is_unreachable(&e.into()) => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Tells the service how the endpoint did. `broke`: it turned out to be gone.
    pub(super) fn report(self, now: Instant, broke: bool, reply_expected: bool) {
        let outcome = match (broke, self.latency) {
            (true, None) => Outcome::ConnectFailed,
            (true, Some(_)) => Outcome::Broken,
            (false, Some(_)) => Outcome::Success,
            (false, None) if reply_expected => Outcome::TimedOut,
            // Many protocols over UDP never answer.
            (false, None) => Outcome::Abandoned,
        };
        self.pick.report(&Report::new(now, outcome).after(self.latency));
    }
}

fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = StdSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// The endpoint is not there: an ICMP message said so (RFC 1122 section 4.1.3.3), or there is no
/// way to it.
pub(super) fn is_unreachable(e: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, NetworkDown, NetworkUnreachable,
    };
    matches!(
        e.kind(),
        ConnectionRefused | ConnectionReset | HostUnreachable | NetworkDown | NetworkUnreachable
    )
}
