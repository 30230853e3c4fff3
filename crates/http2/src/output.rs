//! What waits to be sent: whole frames in one piece of memory, so that one write takes all of it.

use std::cell::Cell;

use crate::error::ErrorCode;
use crate::frame::{FrameHead, HEAD_BYTES, flag, kind};

/// By how much the output grows at least once it is as large as this, in bytes: a DATA frame.
const GROWTH_BYTES: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    /// What is before it was sent.
    sent: usize,
    /// What is before it was shown to whoever sends it, who may have encrypted it by now: it must
    /// stay as it is.
    shown: Cell<usize>,
    /// The DATA frame at the very end, whose flags may still be changed: its position and stream.
    last_data: Option<(usize, u32)>,
}

impl Output {
    pub(crate) fn waiting(&self) -> &[u8] {
        self.shown.set(self.bytes.len());
        &self.bytes[self.sent..]
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// So many bytes were sent.
    pub(crate) fn advance(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.bytes.len());
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
            self.shown.set(0);
            self.last_data = None;
        } else if self.sent >= self.bytes.len() / 2 {
            // More was sent than is moved, so that each byte is moved less than once on average.
            self.bytes.drain(..self.sent);
            self.last_data =
                self.last_data.and_then(|(at, stream)| Some((at.checked_sub(self.sent)?, stream)));
            self.shown.set(self.shown.get().saturating_sub(self.sent));
            self.sent = 0;
        }
    }

    /// Gives the memory back, if nothing waits.
    pub(crate) fn shrink(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }

    pub(crate) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let head = FrameHead { length: payload.len(), kind, flags, stream };
        self.reserve(HEAD_BYTES + payload.len());
        self.bytes.extend_from_slice(&head.to_bytes());
        self.bytes.extend_from_slice(payload);
        self.last_data = None;
    }

    /// Room for so many bytes more. Large ones grow by steps: doubling would leave half of what
    /// waits for a slow peer empty.
    fn reserve(&mut self, count: usize) {
        let capacity = self.bytes.capacity();
        if capacity >= GROWTH_BYTES && self.bytes.len() + count > capacity {
            self.bytes.reserve_exact(count.max(GROWTH_BYTES));
        }
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn window_update(&mut self, stream: u32, increment: u32) {
        self.frame(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
    }

    pub(crate) fn rst_stream(&mut self, stream: u32, code: ErrorCode) {
        self.frame(kind::RST_STREAM, 0, stream, &code.0.to_be_bytes());
    }

    pub(crate) fn go_away(&mut self, last: u32, code: ErrorCode, reason: &str) {
        let payload = [&last.to_be_bytes(), &code.0.to_be_bytes(), reason.as_bytes()].concat();
        self.frame(kind::GOAWAY, 0, 0, &payload);
    }

    pub(crate) fn settings(&mut self, settings: &[(u16, u32)]) {
        let mut payload = Vec::with_capacity(settings.len() * 6);
        for (identifier, value) in settings {
            payload.extend_from_slice(&identifier.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        self.frame(kind::SETTINGS, 0, 0, &payload);
    }

    pub(crate) fn data(&mut self, stream: u32, payload: &[u8], end: bool) {
        let at = self.bytes.len();
        self.frame(kind::DATA, if end { flag::END_STREAM } else { 0 }, stream, payload);
        self.last_data = Some((at, stream));
    }

    /// Ends a stream: in the DATA frame that stands last, if it is the stream's, or with an empty
    /// one.
    pub(crate) fn end_data(&mut self, stream: u32) {
        match self.last_data {
            Some((at, last)) if last == stream && at >= self.shown.get() => {
                self.bytes[at + 4] |= flag::END_STREAM;
                self.last_data = None;
            }
            _ => self.data(stream, &[], true),
        }
    }

    /// A field block, of one HEADERS frame and as many CONTINUATION frames as it takes. `write`
    /// appends the block to what it is given.
    pub(crate) fn headers(
        &mut self,
        stream: u32,
        end: bool,
        payload_max: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEAD_BYTES]);
        write(&mut self.bytes);
        self.last_data = None;
        let end_stream = if end { flag::END_STREAM } else { 0 };
        let length = self.bytes.len() - at - HEAD_BYTES;
        let mut head = FrameHead {
            length: length.min(payload_max),
            kind: kind::HEADERS,
            flags: end_stream | if length <= payload_max { flag::END_HEADERS } else { 0 },
            stream,
        };
        self.bytes[at..at + HEAD_BYTES].copy_from_slice(&head.to_bytes());
        if length > payload_max {
            // Rare: some cookies are this long.
            let rest = self.bytes.split_off(at + HEAD_BYTES + payload_max);
            head.kind = kind::CONTINUATION;
            let mut fragments = rest.chunks(payload_max).peekable();
            while let Some(fragment) = fragments.next() {
                head.length = fragment.len();
                head.flags = if fragments.peek().is_none() { flag::END_HEADERS } else { 0 };
                self.bytes.extend_from_slice(&head.to_bytes());
                self.bytes.extend_from_slice(fragment);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_put_into_the_last_frame_unless_it_is_under_way() {
        let mut output = Output::default();
        output.data(1, b"abc", false);
        output.end_data(1);
        assert_eq!(output.waiting(), b"\0\0\x03\0\x01\0\0\0\x01abc");
        output.data(3, b"d", false);
        output.advance(13);
        output.end_data(3);
        assert_eq!(output.waiting(), b"\0\x01\0\0\0\0\0\x03d\0\0\0\0\x01\0\0\0\x03");
        output.advance(18);
        // Over TLS what was shown may be encrypted before any of it was sent.
        output.data(3, b"d", false);
        assert_eq!(output.waiting().len(), 10);
        output.end_data(3);
        assert_eq!(output.waiting(), b"\0\0\x01\0\0\0\0\0\x03d\0\0\0\0\x01\0\0\0\x03");
        output.advance(19);
        assert_eq!(output.len(), 0);
        output.data(5, b"e", false);
        output.window_update(0, 7);
        output.end_data(5);
        assert_eq!(output.len(), 10 + 13 + 9);
    }

    #[test]
    fn a_long_block_is_continued() {
        let mut output = Output::default();
        output.headers(1, true, 4, |out| out.extend_from_slice(b"abcdefghij"));
        let expected = b"\0\0\x04\x01\x01\0\0\0\x01abcd\0\0\x04\x09\0\0\0\0\x01efgh\0\0\x02\x09\x04\0\0\0\x01ij";
        assert_eq!(output.waiting(), expected);
        output.advance(1000);
        output.headers(1, false, 4, |out| out.extend_from_slice(b"abcd"));
        assert_eq!(output.waiting(), b"\0\0\x04\x01\x04\0\0\0\x01abcd");
    }
}
