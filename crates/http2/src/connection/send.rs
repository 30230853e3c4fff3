//! Messages to frames, within what the peer's windows and our own bounds allow.

use std::collections::VecDeque;

use super::sound::QUEUE_MIN;
use super::{Connection, DRAIN_PING, Draining, Role};
use crate::config::Config;
use crate::error::ErrorCode;
use crate::frame::{HEAD_BYTES, kind};
use crate::hpack::Encoder;
use crate::streams::{Stream, StreamKey, Streams};

/// What a DATA frame is worth in WINDOW_UPDATE frames: one for the stream and one for the
/// connection, and as many again for peers that tell in halves.
const DATA_EARNS: u32 = 4;
/// Frames that the window cuts shorter than this earn nothing: a peer that gives its window byte by
/// byte (CVE-2019-9511) makes us send a frame for each.
const DRIBBLE_BYTES: usize = 256;

/// What a head is, or stands behind a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadKind {
    /// A 1xx response.
    Informational,
    /// A request's, or the final response's.
    Final,
    /// The same, and no body follows.
    FinalWithoutBody,
    Trailers,
}

/// Writes the fields of one head. Pseudo-header fields come first.
#[derive(Debug)]
pub struct FieldWriter<'a> {
    encoder: &'a mut Encoder,
    out: &'a mut Vec<u8>,
}

impl FieldWriter<'_> {
    pub fn status(&mut self, status: u16) {
        self.encoder.status(status, self.out);
    }

    pub fn method(&mut self, method: &[u8]) {
        self.encoder.method(method, self.out);
    }

    pub fn scheme(&mut self, scheme: &[u8]) {
        self.encoder.scheme(scheme, self.out);
    }

    pub fn path(&mut self, path: &[u8]) {
        self.encoder.path(path, self.out);
    }

    pub fn authority(&mut self, authority: &[u8]) {
        self.encoder.authority(authority, self.out);
    }

    /// A field, or `:protocol`. The name may be in any letter case; fields that concern one
    /// connection of HTTP/1.1 only must not be among them (RFC 9113 section 8.2.2).
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        self.encoder.field(name, value, self.out);
    }
}

impl Connection {
    /// Opens a stream with a request; None: no stream can be opened now ([`Connection::capacity`]).
    /// To be forgotten once done. `is_head`: the method is HEAD; `is_connect`: it is CONNECT.
    pub fn request(
        &mut self,
        end: bool,
        is_head: bool,
        is_connect: bool,
        write: impl FnOnce(&mut FieldWriter<'_>),
    ) -> Option<StreamKey> {
        if self.capacity() == 0 {
            return None;
        }
        let id = self.next_own;
        self.next_own += 2;
        let window = i64::from(self.config.stream_window);
        let mut stream = Stream::new(id, i64::from(self.peer.window), window);
        stream.is_head = is_head;
        stream.is_connect = is_connect;
        stream.head_sent = true;
        stream.sending = !end;
        let key = self.streams.insert(stream);
        self.write_block(id, end, write);
        Some(key)
    }

    /// Sends a response's head, or trailers. On a stream that is over it does nothing.
    pub fn send_head(
        &mut self,
        key: StreamKey,
        kind: HeadKind,
        write: impl FnOnce(&mut FieldWriter<'_>),
    ) {
        let Some(stream) = self.streams.get_mut(key).filter(|stream| stream.sending) else {
            return;
        };
        let end = matches!(kind, HeadKind::FinalWithoutBody | HeadKind::Trailers);
        stream.head_sent |= kind != HeadKind::Informational;
        self.write_block(key.id, end, write);
        if end {
            self.end_sending(key);
        }
    }

    fn write_block(&mut self, id: u32, end: bool, write: impl FnOnce(&mut FieldWriter<'_>)) {
        let encoder = &mut self.encoder;
        self.output.headers(id, end, self.peer.payload_max, |out| {
            encoder.begin(out);
            write(&mut FieldWriter { encoder, out });
        });
    }

    /// Sends a part of a body; `end`: the last one, which may be empty. Answers how many bytes it
    /// took. If not all of them, the stream is named by [`Connection::next_writable`] once it can
    /// take more. On a stream that is over it takes everything, to nowhere.
    pub fn send_data(&mut self, key: StreamKey, bytes: &[u8], end: bool) -> usize {
        let mut taken = 0;
        loop {
            let is_congested = self.is_congested();
            let room = self.config.output_bytes.saturating_sub(self.output.len() + HEAD_BYTES);
            let Some(stream) = self.streams.get_mut(key).filter(|stream| stream.sending) else {
                return bytes.len();
            };
            let rest = &bytes[taken..];
            if rest.is_empty() {
                if end {
                    if taken == 0 {
                        self.output.end_data(key.id);
                    }
                    self.end_sending(key);
                }
                return taken;
            }
            let window = stream.send_window.min(self.send_window).max(0) as usize;
            if stream.send_window <= 0 {
                stream.stalled = true;
                return taken;
            }
            if window == 0 || is_congested {
                self.enqueue(key);
                return taken;
            }
            let length = rest.len().min(window).min(self.peer.payload_max).min(room);
            stream.send_window -= length as i64;
            self.send_window -= length as i64;
            taken += length;
            self.output.data(key.id, &rest[..length], end && taken == bytes.len());
            if length == rest.len() || length < window || length >= DRIBBLE_BYTES {
                self.window_updates.earn(DATA_EARNS);
            }
        }
    }

    fn end_sending(&mut self, key: StreamKey) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        stream.sending = false;
        if !stream.receiving {
            self.streams.close(key);
        }
        self.resets.earn(1);
    }

    /// May a head be sent now, or should it wait, like data does? If it should, the stream is named
    /// by [`Connection::next_writable`].
    pub fn poll_room(&mut self, key: StreamKey) -> bool {
        if !self.is_congested() || !self.is_open(key) {
            return true;
        }
        if let Some(stream) = self.streams.get_mut(key)
            && !std::mem::replace(&mut stream.has_head, true)
        {
            thin(&mut self.heads, &self.streams);
            self.heads.push_back(key);
        }
        false
    }

    /// Can data be sent now? If not, the stream is named by [`Connection::next_writable`] once it
    /// can. On a stream that is over data can be sent: it goes nowhere.
    pub fn poll_data_room(&mut self, key: StreamKey) -> bool {
        let is_blocked = self.send_window <= 0 || self.is_congested();
        match self.streams.get_mut(key).filter(|stream| stream.sending) {
            None => true,
            Some(stream) if stream.send_window <= 0 => {
                stream.stalled = true;
                false
            }
            Some(_) if is_blocked => {
                self.enqueue(key);
                false
            }
            Some(_) => true,
        }
    }

    /// Can data be sent now? Unlike [`Connection::poll_data_room`] nobody is told later.
    pub fn has_data_room(&self, key: StreamKey) -> bool {
        let is_blocked = self.send_window <= 0 || self.is_congested();
        match self.streams.get(key).filter(|stream| stream.sending) {
            None => true,
            Some(stream) => stream.send_window > 0 && !is_blocked,
        }
    }

    pub(super) fn enqueue(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.stalled = false;
            if !std::mem::replace(&mut stream.queued, true) {
                thin(&mut self.queue, &self.streams);
                self.queue.push_back(key);
            }
        }
    }

    /// Would [`Connection::next_writable`] name a stream now?
    pub fn has_writable(&self) -> bool {
        let has_data = self.send_window > 0 && !self.queue.is_empty();
        !self.is_congested() && (has_data || !self.heads.is_empty())
    }

    /// Bytes that can be sent before streams are told to wait.
    pub fn room(&self) -> usize {
        self.config.output_bytes.saturating_sub(self.output.len())
    }

    /// A stream that was told to wait, and can go on. In turns: it is named again only after those
    /// that wait now, if it is told to wait again.
    pub fn next_writable(&mut self) -> Option<StreamKey> {
        if self.is_congested() {
            return None;
        }
        // Heads first: they are small, and need no window (RFC 9113 section 5.2.1: "only DATA frames
        // are subject to flow control").
        while let Some(key) = self.heads.pop_front() {
            if let Some(stream) = self.streams.get_mut(key) {
                stream.has_head = false;
                if stream.sending {
                    return Some(key);
                }
            }
        }
        if self.send_window <= 0 {
            return None;
        }
        while let Some(key) = self.queue.pop_front() {
            if let Some(stream) = self.streams.get_mut(key) {
                stream.queued = false;
                if stream.sending {
                    return Some(key);
                }
            }
        }
        None
    }

    /// The caller has taken so many bytes of the body to where they go: the peer may send as many
    /// again. It is told once that is worth a frame.
    pub fn consume(&mut self, key: StreamKey, count: usize) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        // Never more than was passed up.
        let count = u32::try_from(count).unwrap_or(u32::MAX).min(stream.unconsumed);
        stream.unconsumed -= count;
        self.credit_stream(key, count);
        self.return_credit(count);
    }

    pub(super) fn credit_stream(&mut self, key: StreamKey, count: u32) {
        let Some(stream) = self.streams.get_mut(key).filter(|stream| stream.receiving) else {
            return;
        };
        stream.credit += count;
        if stream.credit >= self.config.stream_window / 2 {
            let credit = std::mem::take(&mut stream.credit);
            stream.receive_window += i64::from(credit);
            self.output.window_update(key.id, credit);
        }
    }

    pub(super) fn return_credit(&mut self, count: u32) {
        self.credit += count;
        if self.credit >= self.config.connection_window / 2 && self.failed.is_none() {
            let credit = std::mem::take(&mut self.credit);
            self.receive_window += i64::from(credit);
            self.output.window_update(0, credit);
        }
    }

    /// Ends a stream before its time. Nothing happens if it is over.
    pub fn reset(&mut self, key: StreamKey, code: ErrorCode) {
        if self.streams.close(key) {
            self.output.rst_stream(key.id, code);
            self.remember(key.id);
        }
    }

    /// The caller has no more use for the stream: what it did not consume is given back, and if the
    /// stream is still open, it is cancelled.
    pub fn forget(&mut self, key: StreamKey) {
        self.reset(key, ErrorCode::CANCEL);
        if let Some(stream) = self.streams.forget(key) {
            self.return_credit(stream.unconsumed);
        }
    }

    /// Asks the peer for a sign of life: [`super::Event::Pong`].
    pub fn ping(&mut self) {
        self.output.frame(kind::PING, 0, 0, &[0; 8]);
    }

    /// Begins an end in order (RFC 9113 section 6.8): the peer is told to open no more streams; what
    /// it opened before it could know is still served. To be told again does nothing.
    pub fn drain(&mut self) {
        if self.draining != Draining::No || self.failed.is_some() {
            return;
        }
        match self.role {
            Role::Server => {
                self.draining = Draining::Announced;
                self.output.go_away(Config::WINDOW_MAX, ErrorCode::NO_ERROR, "");
                self.output.frame(kind::PING, 0, 0, &DRAIN_PING);
            }
            // Endpoints open no streams.
            Role::Client => self.finish_drain(),
        }
    }

    /// The second half of a drain, without waiting for the peer: what it opens from now on it must
    /// open again elsewhere.
    pub fn finish_drain(&mut self) {
        if matches!(self.draining, Draining::Final(_)) || self.failed.is_some() {
            return;
        }
        let last = if self.role == Role::Server { self.last_peer } else { 0 };
        self.draining = Draining::Final(last);
        self.output.go_away(last, ErrorCode::NO_ERROR, "");
    }
}

/// Takes out of a queue what was forgotten, before it is more than what is held. A peer that gives no
/// window, and whose streams come and go, would let it grow for ever: nothing else empties it then.
fn thin(queue: &mut VecDeque<StreamKey>, streams: &Streams) {
    if queue.len() + 1 >= (2 * streams.places()).max(QUEUE_MIN) {
        queue.retain(|key| streams.get(*key).is_some());
    }
}
