//! One stream of a client's connection, as a connection of HTTP/1.1 that carries one request; and
//! what a connection and its streams share, on either side.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http2::{Connection, ErrorCode, Fields, RequestHead, StreamKey, http1};
use model::grpc;
use wire::http1::ResponseHead;

use super::grpc_web::{self, Form};
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

/// What was asked of an endpoint, as far as it decides how the answer is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) is_head: bool,
    /// It opens a tunnel (RFC 8441).
    pub(super) is_tunnel: bool,
    /// What a WebSocket client of HTTP/1.1 waits for.
    pub(super) accept: Option<[u8; 28]>,
    /// The client speaks gRPC-Web, and the endpoint gRPC.
    pub(super) web: Option<Form>,
}

/// What was received for one stream.
#[derive(Debug)]
struct Leg {
    key: StreamKey,
    /// The message as HTTP/1.1: its head, then its body.
    inbound: Vec<u8>,
    read: usize,
    /// Bytes of DATA among what is in `inbound` or was read from it since it was last empty: the
    /// peer may send as many again once it is.
    held: usize,
    body: Framing,
    ended: bool,
    broken: bool,
    /// Of a request to an endpoint: it was not processed, and can be made again elsewhere.
    refused: bool,
    /// Towards endpoints.
    asked: Option<Asked>,
    /// What the endpoint's `grpc-status` said.
    grpc_status: Option<u8>,
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
    pub(super) fn wake(&self) {
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
        let body = if is_plain { Framing::Plain } else { Framing::Chunked };
        self.insert(Leg { inbound, body, ended: end, ..Leg::new(key) });
        StreamEnd { shared: self.clone(), key, response, reset: false }
    }

    /// A request whose fields are not all there: it is only answered.
    pub(super) fn open_refused(self: &Rc<Self>, key: StreamKey, is_head: bool) -> StreamEnd {
        self.insert(Leg { ended: true, ..Leg::new(key) });
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

    /// A request was sent to an endpoint.
    pub(super) fn ask(&self, key: StreamKey, asked: Asked, cx: &Context<'_>) {
        let mut leg = Leg { asked: Some(asked), ..Leg::new(key) };
        leg.attach(cx);
        self.insert(leg);
    }

    /// Nobody reads what comes for the stream any more.
    pub(super) fn remove(&self, key: StreamKey) {
        if let Some(leg) = self.legs.borrow_mut().get_mut(key.slot as usize)
            && leg.as_ref().is_some_and(|leg| leg.key == key)
        {
            *leg = None;
        }
    }

    /// An endpoint answered: the fields of its head are those of the connection.
    pub(super) fn answered(&self, key: StreamKey, head: &http2::ResponseHead, end: bool) {
        let connection = self.connection.borrow();
        let fields = connection.fields();
        self.with(key, |leg| {
            let asked = leg.asked.as_ref();
            let is_success = (200..300).contains(&head.status);
            if asked.is_some_and(|asked| asked.is_tunnel) && is_success {
                let accept = asked.and_then(|asked| asked.accept);
                let accept = accept.as_ref().map(<[u8; 28]>::as_slice);
                http1::write_upgraded(fields, head, b"websocket", accept, &mut leg.inbound);
            } else {
                let web = asked.and_then(|asked| asked.web).filter(|_| !head.is_informational());
                let of = fields.iter().find(|(name, _)| *name == b"content-type");
                let replaced = web.zip(of).map(|(form, (_, of))| grpc_web::response_type(form, of));
                let is_head = asked.is_some_and(|asked| asked.is_head);
                let is_chunked = http1::write_response(
                    fields,
                    head,
                    end,
                    is_head,
                    replaced.as_deref(),
                    &mut leg.inbound,
                );
                leg.body = if is_chunked { Framing::Chunked } else { Framing::Plain };
            }
            if end {
                leg.grpc_status = grpc_status(fields);
            }
            leg.ended |= end;
            leg.wake();
        });
    }

    fn with<T>(&self, key: StreamKey, change: impl FnOnce(&mut Leg) -> T) -> Option<T> {
        let mut legs = self.legs.borrow_mut();
        let leg = legs.get_mut(key.slot as usize)?.as_mut().filter(|leg| leg.key == key)?;
        Some(change(leg))
    }

    /// Bytes of a body were received; `end`: the last ones.
    pub(super) fn data(&self, key: StreamKey, bytes: &[u8], end: bool) {
        self.with(key, |leg| {
            leg.held += bytes.len();
            leg.put(bytes);
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
            leg.grpc_status = grpc_status(connection.fields());
            if leg.body == Framing::Chunked {
                let mut fields = Some(connection.fields());
                if leg.asked.as_ref().is_some_and(|asked| asked.web.is_some()) {
                    leg.put(&grpc_web::trailers(connection.fields()));
                    fields = None;
                }
                http1::write_last_chunk(fields, &mut leg.inbound);
            }
            leg.ended = true;
            leg.wake();
        });
    }

    /// The endpoint did not process the request.
    pub(super) fn refused(&self, key: StreamKey) {
        self.with(key, |leg| leg.refused |= leg.inbound.is_empty() && leg.read == 0);
        self.broke(key);
    }

    /// The endpoint processes no request above this number.
    pub(super) fn refused_above(&self, last: u32) {
        for leg in self.legs.borrow_mut().iter_mut().flatten() {
            if leg.key.id > last {
                leg.refused = true;
                leg.broken = true;
                leg.wake();
            }
        }
    }

    pub(super) fn grpc_status(&self, key: StreamKey) -> Option<u8> {
        self.with(key, |leg| leg.grpc_status).flatten()
    }

    pub(super) fn is_refused(&self, key: StreamKey) -> bool {
        self.with(key, |leg| leg.refused).unwrap_or(false)
    }

    pub(super) fn is_broken(&self, key: StreamKey, cx: &Context<'_>) -> bool {
        let is_broken = self.with(key, |leg| {
            leg.attach(cx);
            leg.broken
        });
        is_broken.unwrap_or(true)
    }

    /// Reads into `into`; 0: nothing is to come. `is_over`: see [`StreamEnd::is_over`].
    pub(super) fn poll_read(
        &self,
        key: StreamKey,
        cx: &Context<'_>,
        into: &mut [u8],
        is_over: Option<bool>,
    ) -> Poll<io::Result<usize>> {
        let mut consumed = 0;
        let result = self.with(key, |leg| {
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
            self.connection.borrow_mut().consume(key, consumed);
            // The peer may be waiting for what that tells it.
            if self.connection.borrow().has_output() {
                self.wake();
            }
        }
        result.unwrap_or(Poll::Ready(Err(io::ErrorKind::NotConnected.into())))
    }

    pub(super) fn poll_readable(
        &self,
        key: StreamKey,
        cx: &Context<'_>,
        is_over: Option<bool>,
    ) -> Poll<io::Result<()>> {
        let result = self.with(key, |leg| match leg.inbound.len() > leg.read {
            true => Poll::Ready(Ok(())),
            false => leg.poll_end(cx, is_over).map_ok(|_| ()),
        });
        result.unwrap_or(Poll::Ready(Err(io::ErrorKind::NotConnected.into())))
    }

    /// See [`crate::io::Stream::poll_room`].
    pub(super) fn poll_room(&self, key: StreamKey, cx: &Context<'_>) -> Poll<()> {
        // The end is for whoever writes.
        if self.is_broken(key, cx) || self.connection.borrow_mut().poll_data_room(key) {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// The peer wants no more of it.
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

fn grpc_status(fields: &Fields) -> Option<u8> {
    let (_, value) = fields.iter().find(|(name, _)| *name == b"grpc-status")?;
    grpc::parse(value)
}

impl Leg {
    fn new(key: StreamKey) -> Self {
        Self {
            key,
            inbound: Vec::new(),
            read: 0,
            held: 0,
            body: Framing::Plain,
            ended: false,
            broken: false,
            refused: false,
            asked: None,
            grpc_status: None,
            waker: None,
        }
    }

    /// Bytes of the body, as the reader is to have them.
    fn put(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let web = self.asked.as_ref().and_then(|asked| asked.web).unwrap_or(Form::Binary);
        if self.body == Framing::Plain {
            self.inbound.extend_from_slice(bytes);
            return;
        }
        let length = match web {
            Form::Binary => bytes.len(),
            Form::Text => bytes.len().div_ceil(3) * 4,
        };
        http1::write_chunk_size(length, &mut self.inbound);
        grpc_web::encode(web, bytes, &mut self.inbound);
        self.inbound.extend_from_slice(b"\r\n");
    }

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
        self.shared.poll_room(self.key, cx)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.shared.connection.borrow().has_data_room(self.key)
    }

    /// See [`crate::io::Stream::is_broken`].
    pub(crate) fn is_broken(&self, cx: &Context<'_>) -> bool {
        self.shared.is_broken(self.key, cx)
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
        self.shared.poll_read(self.key, cx, into, self.is_over())
    }

    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.poll_readable(self.key, cx, self.is_over())
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.shared.is_broken(self.key, cx) {
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

    /// Ends a call of gRPC whose response has begun, with a status of ours in the trailers. False:
    /// it has ended already, or not begun.
    pub(crate) fn end_call(&mut self, code: u8, message: &str) -> bool {
        let mut connection = self.shared.connection.borrow_mut();
        let ended = self.response.end_call(&mut connection, self.key, code, message);
        drop(connection);
        self.shared.wake();
        ended
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
        self.shared.remove(self.key);
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
