//! A client's connection: frames in, requests out; what streams made, in one write.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http2::{Config, Connection, ErrorCode, Event, HeadKind};
use model::Instant;
use model::spec::{LimitSpec, TimeoutSpec};

use super::stream::Shared;
use super::websocket_key::websocket_key;
use crate::http1::{self, Downstream};
use crate::io::Stream;

/// Streams that a client may have open at once: RFC 9113 section 6.5.2 recommends no fewer than 100.
const STREAMS_MAX: u32 = 100;
/// Bytes that a client may send ahead on one stream, and on all of them together. The latter is
/// what bodies that no endpoint takes can hold of our memory for each connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of responses that wait for a client's socket, for each connection.
const OUTPUT_BYTES: usize = 64 * 1024;
/// What a client may waste in ten seconds: see [`Config`]. Browsers that leave a page cancel some
/// dozens of requests, and the busiest clients ping once for each burst of data.
const RESETS_MAX: u32 = 200;
const IDLE_FRAMES_MAX: u32 = 1000;
const WINDOW_UPDATES_MAX: u32 = 4096;
const REFILL_EVERY: Duration = Duration::from_secs(10);
/// Frames are read whole but for DATA: room for the largest, and for what comes behind it.
const READ_BYTES: usize = 32 * 1024;
/// How long a client has to learn that its connection ends, before its new streams are refused.
const DRAIN_WAIT: Duration = Duration::from_secs(1);

/// Serves a connection whose first bytes are in `down.inbound`: the preface of HTTP/2.
pub(crate) async fn serve(down: Downstream, limits: LimitSpec, timeouts: TimeoutSpec) {
    let config = Config {
        streams_max: STREAMS_MAX,
        stream_window: STREAM_WINDOW,
        connection_window: CONNECTION_WINDOW,
        field_bytes_max: u32::try_from(limits.header_bytes).unwrap_or(u32::MAX),
        field_count_max: u32::try_from(limits.header_count).unwrap_or(u32::MAX),
        output_bytes: OUTPUT_BYTES,
        extended_connect: true,
        resets_max: RESETS_MAX,
        idle_frames_max: IDLE_FRAMES_MAX,
        continuations_max: 32,
        window_updates_max: WINDOW_UPDATES_MAX,
    };
    let now = down.door.worker.clock.now();
    let mut connection = Http2 {
        shared: Shared::new(Connection::server(config)),
        down,
        refill_at: now + REFILL_EVERY,
        moved_at: now,
        keep_alive: timeouts.keep_alive,
        idle: timeouts.idle,
        ended: false,
        has_first: true,
        was_used: false,
        draining: false,
    };
    let in_order = poll_fn(|cx| connection.poll(cx)).await;
    connection.shared.break_all();
    // The last streams let go in their own time; their tasks hold what they share.
    *connection.shared.waker.borrow_mut() = None;
    if in_order {
        connection.down.close().await;
    } else {
        connection.down.stream.reset_on_close();
    }
}

struct Http2 {
    shared: Rc<Shared>,
    down: Downstream,
    refill_at: Instant,
    /// When bytes were last sent or received.
    moved_at: Instant,
    keep_alive: Duration,
    idle: Duration,
    /// The client sends no more.
    ended: bool,
    /// The first bytes were read already.
    has_first: bool,
    was_used: bool,
    draining: bool,
}

impl Http2 {
    /// Ready when the connection is over: true if in order.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.down.ticket.attach(cx);
        match &mut *self.shared.waker.borrow_mut() {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            waker => *waker = Some(cx.waker().clone()),
        }
        if self.down.ticket.must_close() {
            return Poll::Ready(false);
        }
        if self.down.ticket.is_closing() && !self.draining {
            self.draining = true;
            self.shared.connection.borrow_mut().drain();
            self.down.ticket.set_deadline(self.now() + DRAIN_WAIT);
        }
        loop {
            // What is to be sent first: it may be what keeps us from reading.
            if self.poll_flush(cx).is_err() {
                return Poll::Ready(false);
            }
            match self.poll_receive(cx) {
                Err(()) => return Poll::Ready(false),
                Ok(true) => {}
                Ok(false) => break,
            }
        }
        let (is_over, is_empty) = {
            let connection = self.shared.connection.borrow();
            (connection.is_over(), !connection.has_output())
        };
        let is_used = self.shared.is_used();
        if is_empty && (is_over || (self.ended && !is_used)) {
            return Poll::Ready(true);
        }
        if self.down.ticket.expired() && self.expired(is_used, is_empty) {
            return Poll::Ready(is_empty);
        }
        if self.was_used && !is_used {
            self.rest();
        }
        self.was_used = is_used;
        Poll::Pending
    }

    fn now(&self) -> Instant {
        self.down.door.worker.clock.now()
    }

    /// No stream is left: memory is given back, and the wait for the next one begins.
    fn rest(&mut self) {
        self.shared.shrink();
        self.down.inbound.release();
        self.moved_at = self.now();
        if !self.draining {
            self.down.ticket.set_deadline(self.moved_at + self.keep_alive);
        }
    }

    /// The deadline has come. True: the connection ends.
    fn expired(&mut self, is_used: bool, is_empty: bool) -> bool {
        let now = self.now();
        if self.draining {
            // Who was told and says nothing is not waited for.
            self.shared.connection.borrow_mut().finish_drain();
            self.down.ticket.set_deadline(now + self.idle);
            self.shared.waker.borrow().iter().for_each(|waker| waker.wake_by_ref());
            return !is_used && is_empty;
        }
        // Streams have deadlines of their own; a client that takes nothing has this one.
        let allowance = if is_empty && !is_used { self.keep_alive } else { self.idle };
        let deadline = self.moved_at + allowance;
        if deadline <= now {
            if is_used && is_empty {
                self.moved_at = now;
            } else {
                return true;
            }
        }
        self.down.ticket.set_deadline(deadline.max(now + Duration::from_secs(1)));
        false
    }

    /// Sends what there is, and lets streams make more as long as the client takes it.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Result<(), ()> {
        let mut connection = self.shared.connection.borrow_mut();
        let mut moved = false;
        while connection.has_output() {
            match self.down.stream.poll_write(cx, connection.output(), &[]) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    connection.advance(count);
                    moved = true;
                }
                Poll::Ready(_) => return Err(()),
                Poll::Pending => break,
            }
        }
        let mut ready = Vec::new();
        while let Some(key) = connection.next_writable() {
            ready.push(key);
        }
        drop(connection);
        ready.into_iter().for_each(|key| self.shared.writable(key));
        if moved {
            self.moved_at = self.now();
        }
        Ok(())
    }

    /// Reads once, and passes on what it means. False: there is nothing more to read for now.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Result<bool, ()> {
        if self.ended || self.shared.connection.borrow().is_congested() {
            return Ok(false);
        }
        if !std::mem::take(&mut self.has_first) {
            match self.down.inbound.poll_fill(cx, &mut self.down.stream, READ_BYTES) {
                Poll::Pending => return Ok(false),
                // There is no half of a connection in HTTP/2: nobody waits for answers any more.
                Poll::Ready(Ok(0)) => {
                    self.shared.break_all();
                    self.ended = true;
                    return Ok(false);
                }
                Poll::Ready(Ok(count)) => self.down.door.counters().bytes_in.add(count as u64),
                Poll::Ready(Err(_)) => return Err(()),
            }
        }
        let now = self.now();
        self.moved_at = now;
        if self.refill_at <= now {
            self.refill_at = now + REFILL_EVERY;
            self.shared.connection.borrow_mut().refill();
        }
        self.receive();
        Ok(true)
    }

    fn receive(&mut self) {
        loop {
            let received = self.shared.connection.borrow_mut().receive(self.down.inbound.bytes());
            let Ok(received) = received else {
                // The last thing that the client is told is in the output.
                self.down.door.counters().malformed.add(1);
                self.shared.break_all();
                self.ended = true;
                self.down.inbound.clear();
                return;
            };
            let done = received.event.is_none();
            if let Some(event) = received.event {
                self.handle(event);
            }
            self.down.inbound.consume(received.consumed);
            if done {
                return;
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Request { stream: key, head, end } => {
                self.was_used = true;
                let mut connection = self.shared.connection.borrow_mut();
                if connection.fields().is_over() {
                    let kind = HeadKind::FinalWithoutBody;
                    connection.send_head(key, kind, |fields| fields.status(431));
                    connection.reset(key, ErrorCode::NO_ERROR);
                    connection.forget(key);
                    self.down.door.counters().malformed.add(1);
                    self.down.door.counters().response(431);
                    return;
                }
                drop(connection);
                let websocket_key = match head.protocol {
                    Some(_) => websocket_key(&mut self.down.door.worker.rng.borrow_mut()),
                    None => [0; 24],
                };
                let stream = self.shared.open(key, &head, end, &websocket_key);
                let down = self.down.beside(Stream::Http2(stream));
                tokio::task::spawn_local(http1::serve_stream(down));
            }
            Event::Data { stream, range, end } => {
                self.shared.data(stream, &self.down.inbound.bytes()[range], end);
            }
            Event::Trailers { stream } => self.shared.trailers(stream),
            Event::Reset { stream, .. } => self.shared.broke(stream),
            Event::Refused { .. } => self.down.door.counters().malformed.add(1),
            // A client that says it goes ends its direction when it is done.
            Event::GoAway { .. } | Event::Pong | Event::Settings => {}
            // Clients are asked nothing.
            Event::Response { .. } => {}
        }
    }
}
