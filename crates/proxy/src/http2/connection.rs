//! A client's connection: frames in, requests out; what streams made, in one write.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http2::{Config, Connection, Event, StreamKey, Violation};
use model::Instant;
use model::spec::{LimitSpec, ServerHttp2Spec, TimeoutSpec};

use smallvec::SmallVec;

use super::stream::Shared;
use super::websocket_key::websocket_key;
use crate::buffer::BLOCK_BYTES;
use crate::http1::{self, Downstream, Record};
use crate::io::Stream;

/// The time that the bounds of floods are for.
const REFILL_EVERY: Duration = Duration::from_secs(10);
/// Frames are read whole but for DATA: room for the largest, and for what comes behind it.
const READ_BYTES: usize = 32 * 1024;
/// How long a client has to learn that its connection ends, before its new streams are refused.
const DRAIN_WAIT: Duration = Duration::from_secs(1);

/// Serves a connection whose first bytes are in `down.inbound`: the preface of HTTP/2.
pub(crate) async fn serve(
    down: Downstream,
    bounds: ServerHttp2Spec,
    limits: LimitSpec,
    timeouts: TimeoutSpec,
) {
    let connection = Connection::server(config(&bounds, &limits));
    let now = down.door.worker.clock.now();
    let mut connection = Http2 {
        shared: Shared::new(connection),
        down,
        refill_at: now + REFILL_EVERY,
        moved_at: now,
        rested_at: now,
        heard_at: now,
        pinged_at: None,
        ping_interval: bounds.ping_interval,
        ping_timeout: bounds.ping_timeout,
        keep_alive: timeouts.keep_alive,
        idle: timeouts.idle,
        ended: false,
        has_first: true,
        was_used: false,
        draining: Draining::No,
    };
    connection.arm(false);
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

fn config(bounds: &ServerHttp2Spec, limits: &LimitSpec) -> Config {
    Config {
        streams_max: bounds.streams,
        stream_window: bounds.stream_window,
        connection_window: bounds.connection_window,
        field_bytes_max: u32::try_from(limits.header_bytes).unwrap_or(u32::MAX),
        field_count_max: u32::try_from(limits.header_count).unwrap_or(u32::MAX),
        output_bytes: bounds.output_bytes,
        extended_connect: true,
        resets_max: bounds.resets,
        idle_frames_max: bounds.idle_frames,
        continuations_max: bounds.continuations,
        window_updates_max: bounds.window_updates,
    }
}

struct Http2 {
    shared: Rc<Shared>,
    down: Downstream,
    refill_at: Instant,
    /// When bytes were last sent or received.
    moved_at: Instant,
    /// When the last stream ended, while there is none.
    rested_at: Instant,
    /// When bytes were last received, or would not have been read.
    heard_at: Instant,
    /// When the client was asked for a sign of life that did not come yet.
    pinged_at: Option<Instant>,
    ping_interval: Option<Duration>,
    ping_timeout: Duration,
    keep_alive: Duration,
    idle: Duration,
    /// The client sends no more.
    ended: bool,
    /// The first bytes were read already.
    has_first: bool,
    was_used: bool,
    draining: Draining,
}

/// How far the end in order has come (RFC 9113 section 6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Draining {
    No,
    /// The client was told, and has until then to answer that it knows.
    Announced(Instant),
    /// What it opens from now on it has to open again elsewhere.
    Final,
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
        if self.draining == Draining::No && self.is_to_end() {
            self.drain();
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
            if self.draining == Draining::No && self.is_to_end() {
                self.drain();
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
        if self.was_used && !is_used {
            self.rest();
        }
        self.was_used = is_used;
        if self.down.ticket.expired() {
            if self.expired(is_used, is_empty) {
                return Poll::Ready(is_empty);
            }
            self.arm(is_used);
            // What was said just now is to be sent.
            if is_empty && self.shared.connection.borrow().has_output() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    fn now(&self) -> Instant {
        self.down.door.worker.clock.now()
    }

    /// Does the listener close, or has the connection done its share?
    fn is_to_end(&self) -> bool {
        self.down.ticket.is_closing() || self.down.retirement.is_due(|| self.now())
    }

    fn drain(&mut self) {
        self.shared.connection.borrow_mut().drain();
        self.draining = Draining::Announced(self.now() + DRAIN_WAIT);
        self.arm(self.was_used);
    }

    /// No stream is left: memory is given back, and the wait for the next one begins.
    fn rest(&mut self) {
        self.shared.shrink();
        self.down.inbound.release();
        self.moved_at = self.now();
        self.rested_at = self.moved_at;
        self.arm(false);
    }

    /// Wakes the task when the first of its times comes. One that is put off until then is looked
    /// at when it comes.
    fn arm(&mut self, is_used: bool) {
        let rest = if is_used { Instant::FAR_FUTURE } else { self.rested_at + self.keep_alive };
        let ping = match (self.pinged_at, self.ping_interval) {
            (Some(at), _) => at + self.ping_timeout,
            (None, Some(interval)) => self.heard_at + interval,
            (None, None) => Instant::FAR_FUTURE,
        };
        let end = match self.draining {
            Draining::No => self.down.retirement.at,
            Draining::Announced(until) => until,
            Draining::Final => Instant::FAR_FUTURE,
        };
        let first = (self.moved_at + self.idle).min(rest).min(ping).min(end);
        self.down.ticket.set_deadline(first);
    }

    /// A time has come. True: the connection ends.
    fn expired(&mut self, is_used: bool, is_empty: bool) -> bool {
        let now = self.now();
        if let Draining::Announced(until) = self.draining
            && until <= now
        {
            // Who was told and says nothing is not waited for.
            self.shared.connection.borrow_mut().finish_drain();
            self.draining = Draining::Final;
        }
        if !is_used && is_empty && self.rested_at + self.keep_alive <= now {
            return true;
        }
        if self.moved_at + self.idle <= now {
            // A client that takes nothing has this one. Streams have deadlines of their own.
            if !is_empty {
                return true;
            }
            self.moved_at = now;
        }
        self.is_dead(now)
    }

    /// Asks for a sign of life when it is time to. True: there was none in time.
    fn is_dead(&mut self, now: Instant) -> bool {
        let Some(interval) = self.ping_interval else { return false };
        let mut connection = self.shared.connection.borrow_mut();
        if connection.is_congested() {
            // It is not listened to, so that silence says nothing.
            self.heard_at = now;
            self.pinged_at = None;
            return false;
        }
        match self.pinged_at {
            Some(at) => return at + self.ping_timeout <= now,
            None if self.heard_at + interval <= now => {
                connection.ping();
                self.pinged_at = Some(now);
            }
            None => {}
        }
        false
    }

    /// Sends what there is, and lets streams make more as long as the client takes it.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Result<(), ()> {
        let mut connection = self.shared.connection.borrow_mut();
        let mut moved = 0;
        while connection.has_output() {
            match self.down.stream.poll_write(cx, connection.output(), &[]) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    connection.advance(count);
                    moved += count;
                }
                Poll::Ready(_) => return Err(()),
                Poll::Pending => break,
            }
        }
        // As many as are likely to fill the room: each reads a block from its endpoint, and those
        // that find none left would hold it.
        let mut room = connection.room();
        let mut ready: SmallVec<[StreamKey; 8]> = SmallVec::new();
        while room > 0
            && let Some(key) = connection.next_writable()
        {
            room = room.saturating_sub(BLOCK_BYTES);
            ready.push(key);
        }
        let is_more = connection.has_writable();
        drop(connection);
        ready.into_iter().for_each(|key| self.shared.writable(key));
        if is_more {
            // After those, who may have had nothing to send.
            cx.waker().wake_by_ref();
        }
        if moved > 0 {
            self.moved_at = self.now();
            self.down.door.counters().bytes_out.add(moved as u64);
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
        self.heard_at = now;
        self.pinged_at = None;
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
            let received = match received {
                Ok(received) => received,
                Err(violation) => {
                    self.fail(violation);
                    return;
                }
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

    /// The client broke the protocol, or its bounds. The last thing that it is told is in the
    /// output.
    fn fail(&mut self, violation: Violation) {
        let (listener, client) = (&self.down.door.listener.name, self.down.client);
        tracing::debug!("{listener}: HTTP/2 connection of {client} ended: {violation}");
        self.down.door.counters().malformed.add(1);
        self.shared.break_all();
        self.ended = true;
        self.down.inbound.clear();
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Request { stream, head, end } => {
                self.was_used = true;
                self.down.retirement.count();
                let connection = self.shared.connection.borrow();
                if connection.fields().is_over() {
                    let record = Record::of_fields(connection.fields());
                    drop(connection);
                    let stream = self.shared.open_refused(stream, record.is_head());
                    let down = self.down.beside(Stream::Http2(stream));
                    let refused = http1::refuse_stream(down, record, 431, "head too large");
                    tokio::task::spawn_local(refused);
                    return;
                }
                drop(connection);
                let websocket_key = match head.protocol {
                    Some(_) => websocket_key(&mut self.down.door.worker.rng.borrow_mut()),
                    None => [0; 24],
                };
                let stream = self.shared.open(stream, &head, end, &websocket_key);
                let down = self.down.beside(Stream::Http2(stream));
                tokio::task::spawn_local(http1::serve_stream(down));
            }
            Event::Data { stream, range, end } => {
                self.shared.data(stream, &self.down.inbound.bytes()[range], end);
            }
            Event::Trailers { stream } => self.shared.trailers(stream),
            Event::Reset { stream, .. } => self.shared.broke(stream),
            Event::Refused { error } => {
                self.down.door.counters().malformed.add(1);
                self.down.door.counters().response(0);
                if self.down.door.worker.log.is_on() {
                    let mut record = Record::of_fields(self.shared.connection.borrow().fields());
                    record.failed(0, error.reason());
                    let down = &self.down;
                    record.write(&down.door, down.client.ip(), down.terms(), Duration::ZERO);
                }
            }
            // A client that says it goes ends its direction when it is done.
            Event::GoAway { .. } | Event::Pong | Event::Settings => {}
            // Clients are asked nothing.
            Event::Response { .. } => {}
        }
    }
}
