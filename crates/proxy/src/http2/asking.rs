//! One request to an endpoint, on a connection that carries many, as a connection of HTTP/1.1.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use http2::{ErrorCode, StreamKey};

use super::carrier::Carrier;
use super::request::{Manner, Request};

/// A place on a connection to an endpoint; a stream of it once the request's head was written.
#[derive(Debug)]
pub(crate) struct Asking {
    carrier: Rc<Carrier>,
    key: Option<StreamKey>,
    request: Request,
    /// The connection took no stream any more.
    refused: bool,
}

impl Asking {
    /// The place was reserved ([`Carrier::reserve`]).
    pub(super) fn new(carrier: Rc<Carrier>, manner: Manner) -> Self {
        Self { carrier, key: None, request: Request::new(manner), refused: false }
    }

    /// Was the request not processed for certain (RFC 9113 section 8.7)? Then it can be made again,
    /// whatever it is.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused || self.key.is_some_and(|key| self.carrier.shared().is_refused(key))
    }

    /// Is the connection it is on of no use for another request?
    pub(crate) fn is_over(&self) -> bool {
        self.carrier.is_over()
    }

    /// What `grpc-status` said, in the head or in the trailers.
    pub(crate) fn grpc_status(&self) -> Option<u8> {
        self.carrier.shared().grpc_status(self.key?)
    }

    /// May WebSockets be tunnelled?
    pub(crate) fn has_extended_connect(&self) -> bool {
        self.carrier.shared().connection.borrow().has_extended_connect()
    }

    /// What is read ends with the message, but for a tunnel's: its end is the endpoint's.
    fn key(&self) -> Option<Poll<StreamKey>> {
        match self.key {
            Some(key) => Some(Poll::Ready(key)),
            None if self.refused => None,
            // Whoever waits wrote no request yet, and looks again when that is done.
            None => Some(Poll::Pending),
        }
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self.key() {
            Some(Poll::Ready(key)) => self.carrier.shared().poll_read(key, cx, into, None),
            Some(Poll::Pending) => Poll::Pending,
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.key() {
            Some(Poll::Ready(key)) => self.carrier.shared().poll_readable(key, cx, None),
            Some(Poll::Pending) => Poll::Pending,
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut taken = 0;
        let key = match self.key {
            Some(key) => key,
            None => match self.begin(cx, first)? {
                (length, Some(key)) => {
                    taken = length;
                    key
                }
                (_, None) => {
                    self.refused = true;
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
            },
        };
        let shared = self.carrier.shared();
        if shared.is_broken(key, cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        {
            let mut connection = shared.connection.borrow_mut();
            let rest = &first[taken..];
            taken += self.request.body(rest, &mut connection, key)?;
            if taken == first.len() {
                taken += self.request.body(second, &mut connection, key)?;
            }
        }
        if taken == 0 && !(first.is_empty() && second.is_empty()) {
            return Poll::Pending;
        }
        shared.wake();
        Poll::Ready(Ok(taken))
    }

    /// See [`crate::io::Stream::poll_room`].
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.key {
            Some(key) => self.carrier.shared().poll_room(key, cx),
            // The head waits for nothing.
            None => Poll::Ready(()),
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        let Some(key) = self.key else { return true };
        self.carrier.shared().connection.borrow().has_data_room(key)
    }

    /// Opens the stream, with the head at the front of what is written.
    fn begin(&mut self, cx: &Context<'_>, bytes: &[u8]) -> io::Result<(usize, Option<StreamKey>)> {
        let shared = self.carrier.shared();
        let mut connection = shared.connection.borrow_mut();
        let mut parsed = self.carrier.parsed.borrow_mut();
        let (length, opened) = self.request.head(bytes, &mut parsed, &mut connection)?;
        let Some((key, asked)) = opened else { return Ok((length, None)) };
        drop(connection);
        self.key = Some(key);
        self.carrier.opened();
        shared.ask(key, asked, cx);
        Ok((length, Some(key)))
    }

    /// A tunnel's direction ends.
    pub(crate) fn poll_shutdown(&mut self) -> Poll<io::Result<()>> {
        if let Some(key) = self.key
            && self.request.is_tunnel()
        {
            self.request.end(&mut self.carrier.shared().connection.borrow_mut(), key);
            self.carrier.shared().wake();
        }
        Poll::Ready(Ok(()))
    }

    /// The endpoint is to stop what it does for us.
    pub(crate) fn cancel(&mut self) {
        if let Some(key) = self.key {
            let shared = self.carrier.shared();
            shared.connection.borrow_mut().reset(key, ErrorCode::CANCEL);
            shared.broke(key);
            shared.wake();
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        match self.key {
            None => self.carrier.give_back(),
            Some(key) => {
                let shared = self.carrier.shared();
                shared.remove(key);
                // What is not complete is cancelled by this.
                shared.connection.borrow_mut().forget(key);
                self.carrier.closed();
            }
        }
    }
}
