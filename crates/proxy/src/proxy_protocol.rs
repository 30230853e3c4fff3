//! Accepting the PROXY protocol (HAProxy, "The PROXY protocol", versions 1 and 2) from those who
//! may speak it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;

use model::spec::AcceptProxyProtocol;
use wire::proxy_protocol::{Addresses, Decoded, HEADER_BYTES_MAX, Header, decode};

use crate::buffer::Buffer;
use crate::io::Stream;
use crate::tracked::Ticket;

/// Reads the header that a listed peer must begin with, until the ticket's deadline. `None`: the
/// connection keeps its own addresses. What follows the header stays in `inbound`.
pub(crate) async fn accept(
    accept: &AcceptProxyProtocol,
    ticket: &Ticket,
    stream: &mut Stream,
    inbound: &mut Buffer,
    peer: SocketAddr,
) -> io::Result<Option<Addresses>> {
    if !accept.from.iter().any(|network| network.contains(peer.ip())) {
        return Ok(None);
    }
    loop {
        match decode(inbound.bytes()) {
            Err(e) => return Err(io::Error::new(io::ErrorKind::InvalidData, e.reason())),
            Ok(Decoded::Complete { header, len }) => {
                inbound.consume(len);
                return Ok(match header {
                    Header::Proxied(addresses) => Some(addresses),
                    _ => None,
                });
            }
            Ok(Decoded::Partial) => {}
        }
        let count = poll_fn(|cx| match inbound.poll_fill(cx, stream, HEADER_BYTES_MAX) {
            Poll::Pending if ticket.expired() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            other => other,
        })
        .await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
