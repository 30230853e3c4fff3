//! The one pump: moves one message body, or one direction of a stream, from a socket to another.
//!
//! HTTP/1 bodies, upgraded connections and TCP all go through [`Pump::poll`]. What differs is the
//! [`Body`] that says where the message ends, and whether what was sent is kept for another
//! attempt.

use std::io;
use std::task::{Context, Poll, ready};

use wire::http1::{ChunkStep, ChunkedDecoder, Framing, TrailerLimits};
use wire::orca::LoadReport;

use crate::buffer::Buffer;
use crate::io::Stream;
use crate::splice::Splice;

/// What moves in bulk moves inside the kernel: a body of which so much is still to come, and a
/// stream of which so much came in large pieces, one after the other. Measured with answers of
/// 64 KiB: half of the CPU time. Small pieces cost 20 % more that way, so they are copied.
const SPLICE_BYTES_MIN: u64 = 32 * 1024;
const SPLICE_AFTER_BYTES: u64 = 64 * 1024;
/// A piece is large from here on.
const LARGE_PIECE_BYTES: u64 = 8 * 1024;
/// So many small pieces in a row, and a stream is copied again until it proves large once more.
const SMALL_PIECES_MAX: u32 = 8;
/// Trailers are few where they are used at all; those of gRPC hold an application's own, to which
/// its libraries grant 8 to 16 KiB.
pub(crate) const TRAILER_LIMITS: TrailerLimits = TrailerLimits { bytes: 16 * 1024, count: 64 };
/// What is read ahead of the writer, per direction.
const READ_AHEAD_BYTES: usize = 64 * 1024;

/// Where a message ends, and how much of it is still to come.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Length(u64),
    /// Passed on as it is, framing and all.
    Chunked(ChunkedDecoder),
    /// Only the payload is passed on, for a peer that knows no chunks.
    Unchunked(ChunkedDecoder),
    UntilClose,
}

impl Body {
    pub(crate) fn new(framing: &Framing) -> Self {
        match framing {
            Framing::None => Body::Length(0),
            Framing::Length(length) => Body::Length(*length),
            Framing::Chunked => Body::Chunked(ChunkedDecoder::new(TRAILER_LIMITS)),
            Framing::UntilClose => Body::UntilClose,
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Body::Length(left) => *left == 0,
            Body::Chunked(decoder) | Body::Unchunked(decoder) => decoder.is_done(),
            Body::UntilClose => false,
        }
    }
}

/// Why a pump stopped before the end of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PumpError {
    /// Reading from the source failed.
    Read,
    /// Writing to the destination failed.
    Write,
    /// The source ended in the middle of the message.
    Ended,
    /// It is not well-formed, as the pump sees or the destination, which understands it.
    Malformed,
    /// The payload passed the limit.
    TooLarge,
}

fn write_error(e: &io::Error) -> PumpError {
    match e.kind() {
        io::ErrorKind::InvalidInput => PumpError::Malformed,
        _ => PumpError::Write,
    }
}

#[derive(Debug)]
pub(crate) struct Pump {
    body: Body,
    /// As it was at the start, while another attempt can begin from there.
    start: Option<Start>,
    /// The buffer's bytes from `sent` to `scanned` belong to the message and wait to be written.
    sent: usize,
    scanned: usize,
    prefix_sent: usize,
    payload: u64,
    payload_max: u64,
    ended: bool,
    shut: bool,
    /// The destination's connection ends with the message.
    is_last: bool,
    written: u64,
    read: u64,
    starved: bool,
    /// Bytes that came in large pieces since the last small one.
    bulk: u64,
    /// Small pieces since the last large one, while it is spliced.
    small_pieces: u32,
    /// Moves inside the kernel, until the pieces get small.
    splicing: bool,
    /// The pipe, while something moves: an idle stream holds none.
    splice: Option<Splice>,
}

/// What is needed to send the same message again.
#[derive(Debug)]
struct Start {
    body: Body,
    offset: usize,
    bytes_max: usize,
}

impl Pump {
    /// A message whose body begins `offset` bytes into the buffer.
    pub(crate) fn message(framing: &Framing, offset: usize) -> Self {
        Self::new(Body::new(framing), offset)
    }

    /// A response for a peer that knows no chunks.
    pub(crate) fn unchunked(offset: usize) -> Self {
        Self::new(Body::Unchunked(ChunkedDecoder::new(TRAILER_LIMITS)), offset)
    }

    /// One direction of a stream, to its end, which is passed on.
    pub(crate) fn stream() -> Self {
        Self::new(Body::UntilClose, 0)
    }

    fn new(body: Body, offset: usize) -> Self {
        Self {
            body,
            start: None,
            sent: offset,
            scanned: offset,
            prefix_sent: 0,
            payload: 0,
            payload_max: u64::MAX,
            ended: false,
            shut: false,
            is_last: false,
            written: 0,
            read: 0,
            starved: false,
            bulk: 0,
            small_pieces: 0,
            splicing: false,
            splice: None,
        }
    }

    pub(crate) fn limit_payload(&mut self, bytes: u64) {
        self.payload_max = bytes;
    }

    /// The destination's connection ends at once after this message.
    pub(crate) fn mark_last(&mut self) {
        self.is_last = true;
    }

    /// Keeps what is sent, as long as it fits into `bytes_max`, so that `restart` can send it
    /// again.
    pub(crate) fn keep(&mut self, bytes_max: usize) {
        self.start = Some(Start { body: self.body.clone(), offset: self.sent, bytes_max });
    }

    /// Can the message be sent again from its start?
    pub(crate) fn can_restart(&self) -> bool {
        self.start.is_some() || self.is_untouched()
    }

    fn is_untouched(&self) -> bool {
        self.written == 0 && !self.splicing
    }

    /// Begin again, for another destination. What was read is still in the buffer.
    pub(crate) fn restart(&mut self) {
        if let Some(start) = &self.start {
            self.body = start.body.clone();
            self.sent = start.offset;
            self.scanned = start.offset;
            self.payload = 0;
        }
        self.prefix_sent = 0;
        self.written = 0;
        self.read = 0;
    }

    /// Bytes written to the destination, the prefix included.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Bytes that came from the source since the pump was made or restarted.
    pub(crate) fn read(&self) -> u64 {
        self.read
    }

    /// What the trailers that were passed say of their sender's load.
    pub(crate) fn load_report(&self) -> Option<LoadReport> {
        match &self.body {
            Body::Chunked(decoder) | Body::Unchunked(decoder) => decoder.load_report(),
            Body::Length(_) | Body::UntilClose => None,
        }
    }

    /// Does it wait for its source, rather than for its destination?
    pub(crate) fn is_starved(&self) -> bool {
        self.starved
    }

    /// Where in the buffer the message ends, once it was all passed.
    pub(crate) fn end(&self) -> usize {
        self.scanned
    }

    /// Recognises what the buffer already holds, so that malformed bytes are found before the
    /// first one is sent.
    pub(crate) fn scan(&mut self, buffer: &Buffer) -> Result<(), PumpError> {
        let bytes = buffer.bytes();
        loop {
            let rest = &bytes[self.scanned.min(bytes.len())..];
            match &mut self.body {
                Body::UntilClose => {
                    self.scanned += rest.len();
                    return Ok(());
                }
                Body::Length(left) => {
                    let taken = (rest.len() as u64).min(*left);
                    *left -= taken;
                    // `taken` is at most `rest.len()`.
                    self.scanned += taken as usize;
                    return Ok(());
                }
                Body::Chunked(decoder) => {
                    match decoder.step(rest).map_err(|_| PumpError::Malformed)? {
                        ChunkStep::Frame(count) => self.scanned += count,
                        ChunkStep::Data(count) => {
                            self.scanned += count;
                            self.payload += count as u64;
                            if self.payload > self.payload_max {
                                return Err(PumpError::TooLarge);
                            }
                        }
                        ChunkStep::End | ChunkStep::NeedMore => return Ok(()),
                    }
                }
                Body::Unchunked(decoder) => {
                    if self.sent < self.scanned {
                        return Ok(());
                    }
                    match decoder.step(rest).map_err(|_| PumpError::Malformed)? {
                        ChunkStep::Frame(count) => {
                            self.scanned += count;
                            self.sent = self.scanned;
                        }
                        ChunkStep::Data(count) => self.scanned += count,
                        ChunkStep::End | ChunkStep::NeedMore => return Ok(()),
                    }
                }
            }
        }
    }

    /// Moves what can be moved. `prefix` is sent before the body. Ready once the message is
    /// complete at `to`; a stream's end is passed on as a half-close.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        prefix: &[u8],
        buffer: &mut Buffer,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Result<(), PumpError>> {
        loop {
            self.starved = false;
            ready!(self.poll_flush(cx, prefix, buffer, to))?;
            // What a pipe still holds was read from the source, but not written yet.
            let in_pipe = self.splice.as_ref().is_some_and(|splice| !splice.is_empty());
            if self.body.is_done() && !in_pipe {
                return Poll::Ready(Ok(()));
            }
            if self.ended {
                return self.poll_end(cx, to);
            }
            if self.start.is_none() {
                buffer.consume(self.scanned);
                self.sent = 0;
                self.scanned = 0;
                if self.may_splice(buffer, from, to)
                    && let Some(result) = ready!(self.poll_splice(cx, buffer, from, to))
                {
                    return Poll::Ready(result);
                }
            }
            if self.start.is_none() && to.poll_room(cx).is_pending() {
                buffer.release();
                return Poll::Pending;
            }
            self.starved = true;
            ready!(self.poll_read(cx, buffer, from))?;
        }
    }

    fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        prefix: &[u8],
        buffer: &mut Buffer,
        to: &mut Stream,
    ) -> Poll<Result<(), PumpError>> {
        loop {
            self.scan(buffer)?;
            let head = &prefix[self.prefix_sent..];
            let body = &buffer.bytes()[self.sent..self.scanned];
            if head.is_empty() && body.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let head_len = head.len();
            let written = match self.is_last && self.body.is_done() {
                true => to.poll_write_last(cx, head, body),
                false => to.poll_write(cx, head, body),
            };
            let count = ready!(written).map_err(|e| write_error(&e))?;
            if count == 0 {
                return Poll::Ready(Err(PumpError::Write));
            }
            self.written += count as u64;
            self.prefix_sent += count.min(head_len);
            self.sent += count.saturating_sub(head_len);
        }
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
        from: &mut Stream,
    ) -> Poll<Result<(), PumpError>> {
        let bound = match &self.start {
            Some(start) => (start.offset + start.bytes_max).max(READ_AHEAD_BYTES),
            None => READ_AHEAD_BYTES,
        };
        match ready!(buffer.poll_fill(cx, from, bound)) {
            Ok(0) if matches!(self.body, Body::UntilClose) => self.ended = true,
            Ok(0) => return Poll::Ready(Err(PumpError::Ended)),
            Ok(count) => {
                let count = count as u64;
                self.read += count;
                self.bulk = if count < LARGE_PIECE_BYTES { 0 } else { self.bulk + count };
            }
            Err(e) if e.kind() == io::ErrorKind::OutOfMemory => {}
            Err(_) => return Poll::Ready(Err(PumpError::Read)),
        }
        if let Some(start) = &self.start
            && buffer.len().saturating_sub(start.offset) >= start.bytes_max
        {
            // Too long to be sent again: from here on the buffer is only a window.
            self.start = None;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_end(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<Result<(), PumpError>> {
        if !self.shut {
            // A peer that is already gone needs no end.
            let _ = ready!(to.poll_shutdown(cx));
            self.shut = true;
        }
        Poll::Ready(Ok(()))
    }

    fn may_splice(&mut self, buffer: &Buffer, from: &mut Stream, to: &mut Stream) -> bool {
        if !self.splicing {
            let suits = match self.body {
                Body::UntilClose => self.bulk >= SPLICE_AFTER_BYTES,
                Body::Length(left) => left >= SPLICE_BYTES_MIN && self.small_pieces == 0,
                _ => false,
            };
            self.splicing =
                suits && buffer.is_empty() && from.as_tcp().is_some() && to.as_tcp().is_some();
        }
        self.splicing
    }

    /// `None`: there is no pipe to be had, and copying goes on.
    fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Buffer,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Option<Result<(), PumpError>>> {
        buffer.release();
        self.starved = true;
        if self.splice.is_none() {
            if ready!(from.poll_readable(cx)).is_err() {
                return Poll::Ready(Some(Err(PumpError::Read)));
            }
            self.splice = buffer.take_pipe();
        }
        let (Some(splice), Some(source), Some(sink)) =
            (&mut self.splice, from.as_tcp(), to.as_tcp())
        else {
            self.splicing = false;
            return Poll::Ready(None);
        };
        let bound = match self.body {
            Body::Length(left) => left,
            _ => u64::MAX,
        };
        let moved = splice.poll(cx, source, sink, bound);
        let (taken, given) = splice.take_counts();
        self.read += taken;
        self.written += given;
        self.starved = splice.is_empty();
        match taken {
            0 => {}
            LARGE_PIECE_BYTES.. => self.small_pieces = 0,
            _ => self.small_pieces += 1,
        }
        if let Body::Length(left) = &mut self.body {
            *left = left.saturating_sub(taken);
        }
        if self.starved
            && !splice.is_ended()
            && let Some(pipe) = self.splice.take()
        {
            buffer.put_pipe(pipe);
            if self.small_pieces >= SMALL_PIECES_MAX {
                self.splicing = false;
                self.bulk = 0;
            }
        }
        match ready!(moved) {
            Ok(true) if matches!(self.body, Body::UntilClose) => {
                self.ended = true;
                self.poll_end(cx, to).map(Some)
            }
            Ok(true) => Poll::Ready(Some(Err(PumpError::Ended))),
            Ok(false) => Poll::Ready(Some(Ok(()))),
            Err(e) => Poll::Ready(Some(Err(e))),
        }
    }
}
