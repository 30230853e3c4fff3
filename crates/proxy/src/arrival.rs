//! From an accepted socket to a client that can be served: the PROXY protocol's header if the
//! listener takes one, then TLS if it speaks it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use model::Instant;
use model::spec::AcceptProxyProtocol;
use tls::Identity;

use crate::access_log::TlsEntry;
use crate::buffer::Buffer;
use crate::io::{Stream, TlsStream};
use crate::listener::Door;
use crate::passthrough::{self, ReadError};
use crate::proxy_protocol;
use crate::tracked::Ticket;

/// A client whose first bytes of its own protocol are next.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) stream: Stream,
    /// May hold some of them already.
    pub(crate) inbound: Buffer,
    pub(crate) ticket: Ticket,
    /// The client's address: by PROXY protocol, or the peer's.
    pub(crate) client: SocketAddr,
    /// The address that the client connected to.
    pub(crate) local: SocketAddr,
    pub(crate) accepted_at: Instant,
    pub(crate) secured: Option<Secured>,
}

/// What is known of a client that came by TLS.
#[derive(Debug)]
pub(crate) struct Secured {
    pub(crate) server: Arc<tls::Server>,
    /// `None`: it showed no certificate.
    pub(crate) identity: Option<Identity>,
    /// For the access log; `None`: there was none when it connected.
    pub(crate) terms: Option<Terms>,
}

/// What client and listener agreed on, as the access log tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// `TLSv1.3`
    pub(crate) version: &'static str,
    /// Its name in the registry of IANA.
    pub(crate) cipher: String,
    /// Whom the client asked for (SNI); empty: nobody.
    pub(crate) server_name: String,
}

impl Terms {
    pub(crate) fn entry(&self) -> TlsEntry<'_> {
        let Terms { version, cipher, server_name } = self;
        TlsEntry { version, cipher, server_name }
    }
}

impl Arrival {
    /// The protocol that client and listener agreed on.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        match &self.stream {
            Stream::Tls(stream) => stream.alpn(),
            Stream::Tcp(_) | Stream::Http2(_) | Stream::Asking(_) => None,
        }
    }
}

/// `None`: it is not to be served, and was told so as far as its protocol has words for it.
pub(crate) async fn arrive(door: &Door, stream: Stream, peer: SocketAddr) -> Option<Arrival> {
    let ticket = door.worker.tracked.register(door.listener.id);
    poll_fn(|cx| {
        ticket.attach(cx);
        Poll::Ready(())
    })
    .await;
    let state = door.listener.state.load();
    let accepted_at = door.worker.clock.now();
    ticket.set_deadline(accepted_at + state.spec.timeouts.header);
    let arrival = Arrival {
        stream,
        inbound: Buffer::new(&door.worker.blocks),
        ticket,
        client: peer,
        local: door.listener.address,
        accepted_at,
        secured: None,
    };
    let (proxy_protocol, tls) = (state.spec.proxy_protocol.clone(), state.tls.clone());
    drop(state);
    if proxy_protocol.is_none() && tls.is_none() {
        return Some(arrival);
    }
    // Boxed: a connection without either pays nothing for its state.
    Box::pin(introduce(door, arrival, proxy_protocol, tls)).await
}

/// Takes in what comes before the client's own protocol.
async fn introduce(
    door: &Door,
    mut arrival: Arrival,
    proxy_protocol: Option<AcceptProxyProtocol>,
    tls: Option<Arc<tls::Server>>,
) -> Option<Arrival> {
    if let Some(accept) = proxy_protocol {
        let Arrival { stream, inbound, ticket, client: peer, .. } = &mut arrival;
        match proxy_protocol::accept(&accept, ticket, stream, inbound, *peer).await {
            Ok(Some(addresses)) => {
                (arrival.client, arrival.local) = (addresses.source, addresses.destination);
            }
            Ok(None) => {}
            Err(_) => {
                door.counters().malformed.add(1);
                arrival.stream.reset_on_close();
                return None;
            }
        }
    }
    match tls {
        None => Some(arrival),
        Some(server) => secure(door, arrival, server).await,
    }
}

async fn secure(door: &Door, arrival: Arrival, server: Arc<tls::Server>) -> Option<Arrival> {
    let Arrival { mut stream, mut inbound, ticket, .. } = arrival;
    let deadline = door.worker.clock.now() + server.handshake_timeout();
    ticket.set_deadline(deadline);
    let counters = door.counters();
    let Some(handshake) = door.listener.shake_hands() else {
        counters.refused.add(1);
        stream.reset_on_close();
        return None;
    };
    let mut session = None;
    if server.is_asked() {
        // A CA that comes to see a proof is told from other clients before TLS begins.
        match challenge(&mut stream, &mut inbound, &ticket, &server).await {
            Ok(challenge) => session = challenge,
            Err(_) => {
                counters.handshakes_failed.add(1);
                return None;
            }
        }
    }
    let is_challenge = session.is_some();
    let shaken = shake_hands(stream, &mut inbound, &ticket, &server, session).await;
    drop(handshake);
    let Ok(stream) = shaken else {
        counters.handshakes_failed.add(1);
        return None;
    };
    counters.handshakes.add(1);
    if is_challenge {
        // RFC 8737 section 3: the connection has no other use.
        return None;
    }
    let identity = server.spec().client_auth.as_ref().and_then(|_| stream.identity());
    let terms = door.worker.log.is_on().then(|| stream.terms());
    let timeout = door.listener.state.load().spec.timeouts.header;
    ticket.set_deadline(door.worker.clock.now() + timeout);
    let stream = Stream::Tls(Box::new(stream));
    Some(Arrival {
        stream,
        inbound,
        ticket,
        secured: Some(Secured { server, identity, terms }),
        ..arrival
    })
}

/// Reads the whole ClientHello; a session of its own for a CA that asks for a proof.
async fn challenge(
    stream: &mut Stream,
    inbound: &mut Buffer,
    ticket: &Ticket,
    server: &tls::Server,
) -> io::Result<Option<tls::Session>> {
    let hello = match passthrough::read(stream, inbound, ticket).await {
        Ok(hello) => hello,
        Err(ReadError::Gone) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Err(ReadError::TimedOut) => return Err(io::ErrorKind::TimedOut.into()),
        // Who cannot be understood is answered by TLS.
        Err(ReadError::NoHello(_)) => return Ok(None),
    };
    // RFC 8737 section 3: it offers this protocol and no other.
    if !hello.offers(tls::ALPN_ACME) {
        return Ok(None);
    }
    server.challenge(&hello.server_name).transpose().map_err(io::Error::other)
}

/// Until the ticket's deadline.
async fn shake_hands(
    stream: Stream,
    inbound: &mut Buffer,
    ticket: &Ticket,
    server: &tls::Server,
    session: Option<tls::Session>,
) -> io::Result<TlsStream> {
    let socket = stream.into_tcp()?;
    let session = match session {
        Some(session) => session,
        None => server.accept().map_err(io::Error::other)?,
    };
    // What came behind the PROXY header.
    let mut stream = TlsStream::new(socket, session, inbound.bytes())?;
    inbound.clear();
    poll_fn(|cx| match stream.poll_handshake(cx) {
        Poll::Pending if ticket.expired() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        other => other,
    })
    .await?;
    Ok(stream)
}
