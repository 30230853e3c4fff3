//! One stream of a client's connection, as a connection of HTTP/1.1 that carries one request.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http2::{Connection, ErrorCode, RequestHead, StreamKey, http1};
use wire::http1::ResponseHead;

use super::response::Response;

/// What a stream keeps to read the next piece of its body into, in bytes: a DATA frame as most
/// clients send them.
const INBOUND_BYTES_KEPT: usize = 20 * 1024;

/// What a connection and its streams share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) connection: RefCell<Connection>,
    legs: RefCell<Vec<Option<Leg>>>,
    /// Wakes the connection's task.
    pub(super) waker: RefCell<Option<Waker>>,
    /// For the heads that streams write; one at a time.
    parsed: RefCell<ResponseHead>,
}

/// What was received for one stream.
#[derive(Debug)]
struct Leg {
    key: StreamKey,
    /// The request as HTTP/1.1: its head, then its body.
    inbound: Vec<u8>,
    read: usize,
    /// Bytes of DATA among what is in `inbound` or was read from it since it was last empty: the
    /// client may send as many again once it is.
    held: usize,
    body: Framing,
    ended: bool,
    broken: bool,
    waker: Option<Waker>,
}

/// How the body stands in `inbound`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// As it is: its length was told, or it is a tunnel's.
    Plain,
    Chunked,
}

impl Shared {
    pub(super) fn new(connection: Connection) -> Rc<Self> {
        Rc::new(Self {
            connection: RefCell::new(connection),
            legs: RefCell::default(),
            waker: RefCell::default(),
            parsed: RefCell::default(),
        })
    }

    /// Wakes the connection's task, to send what a stream made.
    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// A request was received: its fields are those of the connection.
    pub(super) fn open(
        self: &Rc<Self>,
        key: StreamKey,
        head: &RequestHead,
        end: bool,
        websocket_key: &[u8],
    ) -> StreamEnd {
        let connection = self.connection.borrow();
        let fields = connection.fields();
        let mut inbound = Vec::with_capacity(fields.size().min(1024));
        http1::write_request(fields, head, end, websocket_key, &mut inbound);
        let is_plain = end || head.is_connect || head.content_length.is_some();
        let (_, method) = fields.get(head.method);
        let is_tunnel = head.protocol.is_some();
        let response = Response::new(method == b"HEAD", head.is_connect, is_tunnel);
        let leg = Leg {
            key,
            inbound,
            read: 0,
            held: 0,
            body: if is_plain { Framing::Plain } else { Framing::Chunked },
            ended: end,
            broken: false,
            waker: None,
        };
        self.insert(leg);
        StreamEnd { shared: self.clone(), key, response, reset: false }
    }

    /// A request whose fields are not all there: it is only answered.
    pub(super) fn open_refused(self: &Rc<Self>, key: StreamKey, is_head: bool) -> StreamEnd {
        let leg = Leg {
            key,
            inbound: Vec::new(),
            read: 0,
            held: 0,
            body: Framing::Plain,
            ended: true,
            broken: false,
            waker: None,
        };
        self.insert(leg);
        let response = Response::new(is_head, false, false);
        StreamEnd { shared: self.clone(), key, response, reset: false }
    }

    fn insert(&self, leg: Leg) {
        let mut legs = self.legs.borrow_mut();
        let slot = leg.key.slot as usize;
        if legs.len() <= slot {
            legs.resize_with(slot + 1, || None);
        }
        legs[slot] = Some(leg);
    }

    fn with<T>(&self, key: StreamKey, change: impl FnOnce(&mut Leg) -> T) -> Option<T> {
        let mut legs = self.legs.borrow_mut();
        let leg = legs.get_mut(key.slot as usize)?.as_mut().filter(|leg| leg.key == key)?;
        Some(change(leg))
    }

    /// Bytes of a body were received; `end`: the last ones.
    pub(super) fn data(&self, key: StreamKey, bytes: &[u8], end: bool) {
        self.with(key, |leg| {
            if !bytes.is_empty() {
                leg.held += bytes.len();
                if leg.body == Framing::Chunked {
                    http1::write_chunk_size(bytes.len(), &mut leg.inbound);
                }
                leg.inbound.extend_from_slice(bytes);
                if leg.body == Framing::Chunked {
                    leg.inbound.extend_from_slice(b"\r\n");
                }
            }
            if end {
                if leg.body == Framing::Chunked {
                    http1::write_last_chunk(None, &mut leg.inbound);
                }
                leg.ended = true;
            }
            leg.wake();
        });
    }

    /// The body ends with these fields of the connection.
    pub(super) fn trailers(&self, key: StreamKey) {
        let connection = self.connection.borrow();
        self.with(key, |leg| {
            if leg.body == Framing::Chunked {
                http1::write_last_chunk(Some(connection.fields()), &mut leg.inbound);
            }
            leg.ended = true;
            leg.wake();
        });
    }

    /// The client wants no more of it.
    pub(super) fn broke(&self, key: StreamKey) {
        self.with(key, |leg| {
            leg.broken = true;
            leg.wake();
        });
    }

    /// The stream can send again.
    pub(super) fn writable(&self, key: StreamKey) {
        self.with(key, Leg::wake);
    }

    /// The connection is over, and all that was on it.
    pub(super) fn break_all(&self) {
        for leg in self.legs.borrow_mut().iter_mut().flatten() {
            leg.broken = true;
            leg.wake();
        }
    }

    /// Does a stream still use the connection?
    pub(super) fn is_used(&self) -> bool {
        self.legs.borrow().iter().any(Option::is_some)
    }

    /// Gives back what memory it can, when no stream is left.
    pub(super) fn shrink(&self) {
        *self.legs.borrow_mut() = Vec::new();
        *self.parsed.borrow_mut() = ResponseHead::default();
        self.connection.borrow_mut().shrink();
    }
}

impl Leg {
    fn wake(&mut self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    fn attach(&mut self, cx: &Context<'_>) {
        match &self.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => self.waker = Some(cx.waker().clone()),
        }
    }
}

/// The end of a stream that is read and written like a socket.
#[derive(Debug)]
pub(crate) struct StreamEnd {
    shared: Rc<Shared>,
    key: StreamKey,
    response: Response,
    reset: bool,
}

impl StreamEnd {
    /// See [`crate::io::Stream::poll_room`].
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_broken = self.shared.with(self.key, |leg| {
            leg.attach(cx);
            leg.broken
        });
        // The end is for whoever writes.
        if is_broken.unwrap_or(true) {
            return Poll::Ready(());
        }
        match self.shared.connection.borrow_mut().poll_data_room(self.key) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.shared.connection.borrow().has_data_room(self.key)
    }

    /// Bytes that wait to be read.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.with(self.key, |leg| leg.inbound.len() - leg.read).unwrap_or(0)
    }

    pub(crate) fn is_head(&self) -> bool {
        self.response.is_head()
    }

    pub(crate) fn is_tunnel(&self) -> bool {
        self.response.is_tunnel()
    }

    /// Is there an end to be read? Not at the end of a request, for its sender waits, and may
    /// still cancel; after the response, for nothing follows. None: a tunnel's end is the client's.
    fn is_over(&self) -> Option<bool> {
        if self.response.is_tunnel() { None } else { Some(self.response.is_done()) }
    }

    /// Reads into `into`; 0: nothing is to come.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut consumed = 0;
        let is_over = self.is_over();
        let result = self.shared.with(self.key, |leg| {
            let waiting = &leg.inbound[leg.read..];
            if waiting.is_empty() {
                return leg.poll_end(cx, is_over);
            }
            let count = waiting.len().min(into.len());
            into[..count].copy_from_slice(&waiting[..count]);
            leg.read += count;
            if leg.read == leg.inbound.len() {
                leg.empty();
                consumed = std::mem::take(&mut leg.held);
            }
            Poll::Ready(Ok(count))
        });
        if consumed > 0 {
            self.shared.connection.borrow_mut().consume(self.key, consumed);
            // The client may be waiting for what that tells it.
            if self.shared.connection.borrow().has_output() {
                self.shared.wake();
            }
        }
        result.unwrap_or(Poll::Ready(Err(io::ErrorKind::NotConnected.into())))
    }

    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_over = self.is_over();
        let result = self.shared.with(self.key, |leg| match leg.inbound.len() > leg.read {
            true => Poll::Ready(Ok(())),
            false => leg.poll_end(cx, is_over).map_ok(|_| ()),
        });
        result.unwrap_or(Poll::Ready(Err(io::ErrorKind::NotConnected.into())))
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        let is_broken = self.shared.with(self.key, |leg| {
            leg.attach(cx);
            leg.broken
        });
        if is_broken.unwrap_or(true) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let taken = {
            let mut connection = self.shared.connection.borrow_mut();
            let mut parsed = self.shared.parsed.borrow_mut();
            let mut write =
                |bytes: &[u8]| self.response.write(bytes, &mut parsed, &mut connection, self.key);
            match write(first) {
                Ok(count) if count == first.len() => write(second).map(|more| count + more),
                other => other,
            }
        };
        match taken {
            Ok(0) if !first.is_empty() || !second.is_empty() => Poll::Pending,
            Ok(count) => {
                self.shared.wake();
                Poll::Ready(Ok(count))
            }
            Err(e) => Poll::Ready(Err(e)),
        }
    }

    /// The response is complete, or a tunnel's direction ends. What the client still sends of its
    /// request is of no use then (RFC 9113 section 8.1).
    pub(crate) fn poll_shutdown(&mut self) -> Poll<io::Result<()>> {
        let mut connection = self.shared.connection.borrow_mut();
        self.response.end(&mut connection, self.key);
        let is_tunnel = self.response.is_tunnel();
        if self.response.is_done() && !is_tunnel {
            connection.reset(self.key, ErrorCode::NO_ERROR);
            drop(connection);
            self.shared.with(self.key, Leg::empty);
        }
        self.shared.wake();
        Poll::Ready(Ok(()))
    }

    /// The client must not take what it got for the whole.
    pub(crate) fn reset_on_close(&mut self) {
        self.reset = true;
    }
}

impl Leg {
    /// All was read. What a large body took is given back: it may wait long for the next piece.
    fn empty(&mut self) {
        if self.inbound.capacity() > INBOUND_BYTES_KEPT {
            self.inbound = Vec::new();
        }
        self.inbound.clear();
        self.read = 0;
    }

    /// There are no bytes. `is_over` says what it means that there will be no more of them: see
    /// [`StreamEnd::is_over`].
    fn poll_end(&mut self, cx: &Context<'_>, is_over: Option<bool>) -> Poll<io::Result<usize>> {
        if self.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if is_over.unwrap_or(self.ended) {
            return Poll::Ready(Ok(0));
        }
        self.attach(cx);
        Poll::Pending
    }
}

impl Drop for StreamEnd {
    fn drop(&mut self) {
        if let Some(leg) = self.shared.legs.borrow_mut().get_mut(self.key.slot as usize) {
            *leg = None;
        }
        let mut connection = self.shared.connection.borrow_mut();
        if self.reset || !self.response.is_done() {
            connection.reset(self.key, ErrorCode::INTERNAL_ERROR);
        } else {
            connection.reset(self.key, ErrorCode::NO_ERROR);
        }
        connection.forget(self.key);
        drop(connection);
        self.shared.wake();
    }
}
