//! A connection to an endpoint that carries many requests: frames in, answers out; what the
//! requests made in one turn of the loop, in one write.
//!
//! Its time-outs have no timers: the pool it is in looks at all of its connections once a second
//! ([`Carrier::tick`]).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http2::{Config, Connection, ErrorCode, Event};
use model::Instant;
use model::spec::PoolSpec;
use service::ConnectionSlot;
use wire::http1::RequestHead;

use super::asking::Asking;
use super::request::Manner;
use super::stream::Shared;
use crate::buffer::Buffer;
use crate::clock::Clock;
use crate::io::Stream;

/// Bytes that an endpoint may send ahead on one stream. All streams together may send as much as
/// each of them: an answer that nobody takes holds up no other, and what a connection can hold of
/// our memory is this times `pool.streams_max`.
const STREAM_WINDOW: u32 = 128 * 1024;
/// What endpoints may send as a head, as in HTTP/1.1.
const FIELD_BYTES_MAX: u32 = 64 * 1024;
const FIELD_COUNT_MAX: u32 = 256;
/// Bytes of requests that wait for the endpoint's socket.
const OUTPUT_BYTES: usize = 64 * 1024;
/// What an endpoint may waste in ten seconds. Those of gRPC ping with every burst of data, to
/// measure the way.
const RESETS_MAX: u32 = 1000;
const IDLE_FRAMES_MAX: u32 = 10_000;
const WINDOW_UPDATES_MAX: u32 = 10_000;
/// CONTINUATION frames of one head: the largest takes fewer.
const CONTINUATIONS_MAX: u32 = 32;
const REFILL_EVERY: Duration = Duration::from_secs(10);
/// Frames are read whole but for DATA: room for the largest, and for what comes behind it.
const READ_BYTES: usize = 64 * 1024;

/// A connection that carries many requests.
#[derive(Debug)]
pub(crate) struct Carrier {
    shared: Rc<Shared>,
    socket: RefCell<Stream>,
    inbound: RefCell<Buffer>,
    clock: Clock,
    scheme: &'static [u8],
    /// For the heads that requests write; one at a time.
    pub(super) parsed: RefCell<RequestHead>,
    /// Counts the connection until it is closed.
    slot: RefCell<Option<ConnectionSlot>>,
    /// [`crate::upstream::Secure::terms`] when it was made.
    pub(crate) terms: u64,
    retire_at: Instant,
    requests_left: Cell<u64>,
    /// Places that were given to requests whose streams are not open yet.
    reserved: Cell<usize>,
    /// Requests that have places or streams.
    used: Cell<usize>,
    idle_since: Cell<Instant>,
    received_at: Cell<Instant>,
    /// A sign of life was asked for, and did not come yet.
    pinged_at: Cell<Option<Instant>>,
    refill_at: Cell<Instant>,
    state: Cell<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Takes no more requests; what it carries is finished.
    Draining,
    /// Is to be closed, whatever it carries.
    Broken,
    Closed,
}

impl Carrier {
    /// What is written first is in its output already. It has to be driven: [`Carrier::poll`].
    pub(crate) fn new(
        socket: Stream,
        inbound: Buffer,
        slot: ConnectionSlot,
        clock: Clock,
        settings: &PoolSpec,
        terms: u64,
        retire_at: Instant,
    ) -> Rc<Self> {
        let config = Config {
            streams_max: settings.streams_max,
            stream_window: STREAM_WINDOW,
            connection_window: STREAM_WINDOW.saturating_mul(settings.streams_max),
            field_bytes_max: FIELD_BYTES_MAX,
            field_count_max: FIELD_COUNT_MAX,
            output_bytes: OUTPUT_BYTES,
            extended_connect: false,
            resets_max: RESETS_MAX,
            idle_frames_max: IDLE_FRAMES_MAX,
            continuations_max: CONTINUATIONS_MAX,
            window_updates_max: WINDOW_UPDATES_MAX,
        };
        let now = clock.now();
        let scheme: &'static [u8] =
            if matches!(socket, Stream::Tls(_)) { b"https" } else { b"http" };
        Rc::new(Self {
            shared: Shared::new(Connection::client(config)),
            socket: RefCell::new(socket),
            inbound: RefCell::new(inbound),
            clock,
            scheme,
            parsed: RefCell::default(),
            slot: RefCell::new(Some(slot)),
            terms,
            retire_at,
            requests_left: Cell::new(settings.requests_max.unwrap_or(u64::MAX)),
            reserved: Cell::new(0),
            used: Cell::new(0),
            idle_since: Cell::new(now),
            received_at: Cell::new(now),
            pinged_at: Cell::new(None),
            refill_at: Cell::new(now + REFILL_EVERY),
            state: Cell::new(State::Open),
        })
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Has the endpoint said what it allows? Then it speaks HTTP/2.
    pub(crate) fn is_ready(&self) -> bool {
        self.shared.connection.borrow().has_settings()
    }

    /// Is it of no use for another request, now and later?
    pub(crate) fn is_over(&self) -> bool {
        let connection = self.shared.connection.borrow();
        self.state.get() != State::Open || connection.is_over() || !connection.accepts_requests()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.get() == State::Closed
    }

    /// Does it carry no request?
    pub(crate) fn is_idle(&self) -> bool {
        self.used.get() == 0
    }

    /// How many requests more it could take now.
    pub(crate) fn room(&self, now: Instant) -> usize {
        if self.state.get() != State::Open || self.retire_at <= now {
            return 0;
        }
        let left = usize::try_from(self.requests_left.get()).unwrap_or(usize::MAX);
        let capacity = self.shared.connection.borrow().capacity();
        capacity.saturating_sub(self.reserved.get()).min(left)
    }

    /// Requests that it carries at once, as both sides allow.
    pub(crate) fn streams_max(&self) -> usize {
        let connection = self.shared.connection.borrow();
        connection.capacity() + connection.open_count()
    }

    /// A place for a request; there must be room. `grpc_web`: what is gRPC-Web becomes gRPC.
    pub(crate) fn reserve(self: &Rc<Self>, grpc_web: bool) -> Asking {
        self.requests_left.set(self.requests_left.get().saturating_sub(1));
        self.reserved.set(self.reserved.get() + 1);
        self.used.set(self.used.get() + 1);
        Asking::new(self.clone(), Manner { scheme: self.scheme, grpc_web })
    }

    /// A reserved place became a stream.
    pub(super) fn opened(&self) {
        self.reserved.set(self.reserved.get().saturating_sub(1));
    }

    /// A reserved place was not used.
    pub(super) fn give_back(&self) {
        self.opened();
        self.requests_left.set(self.requests_left.get().saturating_add(1));
        self.closed();
    }

    /// A request is done with.
    pub(super) fn closed(&self) {
        self.used.set(self.used.get().saturating_sub(1));
        if self.is_idle() {
            self.idle_since.set(self.clock.now());
        }
        let has_output = self.shared.connection.borrow().has_output();
        if has_output || self.state.get() != State::Open {
            self.shared.wake();
        }
    }

    /// Did the endpoint close it, or say anything, that we do not know of yet? Asks the kernel.
    pub(crate) fn is_quiet_now(&self) -> bool {
        self.socket.borrow_mut().is_quiet_now()
    }

    /// Takes no more requests, and ends when those it carries are done.
    pub(crate) fn drain(&self) {
        if self.state.get() == State::Open {
            self.state.set(State::Draining);
            self.shared.connection.borrow_mut().drain();
            self.shared.wake();
        }
    }

    /// Looks at its time-outs. `is_leaving`: of an endpoint whose connections end with their requests.
    pub(crate) fn tick(&self, now: Instant, settings: &PoolSpec, is_leaving: bool) {
        if self.refill_at.get() <= now {
            self.refill_at.set(now + REFILL_EVERY);
            self.shared.connection.borrow_mut().refill();
        }
        let is_old = self.retire_at <= now || self.requests_left.get() == 0;
        let idle = now.since(self.idle_since.get());
        let is_left = self.is_idle() && (is_leaving || idle >= settings.idle_timeout);
        if is_old || is_left {
            self.drain();
        }
        if self.is_idle() {
            self.inbound.borrow_mut().release();
            self.shared.shrink();
        }
        match self.pinged_at.get() {
            Some(pinged_at) if now.since(pinged_at) >= settings.ping_timeout => {
                self.state.set(State::Broken);
                self.shared.wake();
            }
            None if !self.is_idle()
                && now.since(self.received_at.get()) >= settings.ping_interval =>
            {
                self.pinged_at.set(Some(now));
                self.shared.connection.borrow_mut().ping();
                self.shared.wake();
            }
            _ => {}
        }
    }

    /// Drives it. Ready when it is over and closed.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.shared.waker.borrow_mut() {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waker => *waker = Some(cx.waker().clone()),
        }
        if self.state.get() == State::Broken {
            self.close();
            return Poll::Ready(());
        }
        loop {
            // What is to be sent first: it may be what keeps us from reading.
            if self.poll_flush(cx).is_err() {
                self.close();
                return Poll::Ready(());
            }
            self.inbound.borrow_mut().release();
            match self.poll_receive(cx) {
                Ok(true) => {}
                Ok(false) => break,
                Err(()) => {
                    self.close();
                    return Poll::Ready(());
                }
            }
        }
        let is_done = {
            let connection = self.shared.connection.borrow();
            connection.is_over() && !connection.has_output()
        };
        if is_done && (self.is_idle() || self.shared.connection.borrow().failure().is_some()) {
            self.close();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// What it still carries is lost.
    fn close(&self) {
        self.state.set(State::Closed);
        self.shared.break_all();
        *self.shared.waker.borrow_mut() = None;
        self.socket.borrow_mut().end();
        *self.slot.borrow_mut() = None;
    }

    /// Sends what there is, and lets requests make more as long as the endpoint takes it.
    fn poll_flush(&self, cx: &mut Context<'_>) -> Result<(), ()> {
        let mut connection = self.shared.connection.borrow_mut();
        let mut socket = self.socket.borrow_mut();
        while connection.has_output() {
            match socket.poll_write(cx, connection.output(), &[]) {
                Poll::Ready(Ok(count)) if count > 0 => connection.advance(count),
                Poll::Ready(_) => return Err(()),
                Poll::Pending => break,
            }
        }
        // In turns: each is told once, and stands behind the others if it has more.
        while let Some(key) = connection.next_writable() {
            self.shared.writable(key);
        }
        Ok(())
    }

    /// Reads once, and passes on what it means. False: there is nothing more to read for now.
    fn poll_receive(&self, cx: &mut Context<'_>) -> Result<bool, ()> {
        if self.shared.connection.borrow().is_congested() {
            return Ok(false);
        }
        let mut inbound = self.inbound.borrow_mut();
        let filled = inbound.poll_fill(cx, &mut self.socket.borrow_mut(), READ_BYTES);
        match filled {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(count)) if count > 0 => {}
            Poll::Ready(_) => return Err(()),
        }
        self.received_at.set(self.clock.now());
        self.pinged_at.set(None);
        loop {
            let received = self.shared.connection.borrow_mut().receive(inbound.bytes());
            let Ok(received) = received else {
                // The last thing that the endpoint is told is in the output.
                self.shared.break_all();
                inbound.clear();
                let _ = self.poll_flush(cx);
                return Err(());
            };
            let done = received.event.is_none();
            if let Some(event) = received.event {
                self.handle(event, inbound.bytes());
            }
            inbound.consume(received.consumed);
            if done {
                return Ok(true);
            }
        }
    }

    fn handle(&self, event: Event, bytes: &[u8]) {
        match event {
            Event::Response { stream, head, end } => self.shared.answered(stream, &head, end),
            Event::Data { stream, range, end } => self.shared.data(stream, &bytes[range], end),
            Event::Trailers { stream } => self.shared.trailers(stream),
            // RFC 9113 section 8.7: "The REFUSED_STREAM error code can be included in a RST_STREAM
            // frame to indicate that the stream is being closed prior to any processing having
            // occurred."
            Event::Reset { stream, code: ErrorCode::REFUSED_STREAM } => {
                self.shared.refused(stream);
            }
            Event::Reset { stream, .. } => self.shared.broke(stream),
            Event::GoAway { last, .. } => self.shared.refused_above(last),
            Event::Pong | Event::Settings => {}
            // Endpoints ask nothing.
            Event::Request { .. } | Event::Refused { .. } => {}
        }
    }
}
