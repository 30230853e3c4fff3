//! Bytes to frames to events (RFC 9113 sections 4 to 6 and 8).

use super::{
    Block, Connection, Draining, Event, FIELD_BYTES_KEPT, PREFACE, RECENT_MAX, Reading, Received,
    Role,
};
use crate::error::{MessageError, Violation};
use crate::frame::{FrameHead, HEAD_BYTES, PAYLOAD_MAX, flag, kind};
use crate::message::{RequestHead, ResponseHead, check_trailers};
use crate::streams::{Stream, StreamKey};

/// Informational responses before the final one; more are taken for garbage.
const INFORMATIONAL_MAX: u8 = 16;
/// What a request earns back of the budget of idle frames, and what a piece of a body does.
const REQUEST_EARNS: u32 = 8;
const DATA_EARNS: u32 = 2;

impl Connection {
    /// Looks at the front of `input`: how many bytes are done with, and what they meant, if that
    /// concerns the caller. To be called again with the rest, until there is no event.
    ///
    /// Frames but for DATA are judged whole, so `input` must be able to hold 16,393 bytes.
    ///
    /// # Errors
    /// The connection failed. Its GOAWAY is in the output; all streams are over.
    pub fn receive(&mut self, input: &[u8]) -> Result<Received, Violation> {
        if let Some(violation) = self.failed {
            return Err(violation);
        }
        let mut consumed = 0;
        loop {
            match self.step(input, &mut consumed) {
                Ok(Step::NeedMore) => return Ok(Received { consumed, event: None }),
                Ok(Step::Done) => {}
                Ok(Step::Event(event)) => return Ok(Received { consumed, event: Some(event) }),
                Err(violation) => {
                    self.fail(violation);
                    return Err(violation);
                }
            }
        }
    }

    fn fail(&mut self, violation: Violation) {
        let last = match self.draining {
            Draining::Final(last) => last.min(self.last_peer),
            _ => self.last_peer,
        };
        self.output.go_away(last, violation.code(), violation.reason());
        self.failed = Some(violation);
        self.block = None;
        self.queue.clear();
        self.heads.clear();
        let keys: Vec<StreamKey> = self.streams.open_keys().collect();
        for key in keys {
            self.streams.close(key);
        }
    }

    fn step(&mut self, input: &[u8], consumed: &mut usize) -> Result<Step, Violation> {
        let rest = &input[*consumed..];
        match self.reading {
            Reading::Preface => {
                let length = rest.len().min(PREFACE.len());
                if rest[..length] != PREFACE[..length] {
                    return Err(Violation::InvalidPreface);
                }
                if length < PREFACE.len() {
                    return Ok(Step::NeedMore);
                }
                *consumed += length;
                self.reading = Reading::Frame;
                Ok(Step::Done)
            }
            Reading::Data { .. } => self.data(input, consumed),
            Reading::Frame => {
                let Some(head) = FrameHead::parse(rest) else {
                    return Ok(Step::NeedMore);
                };
                self.check_order(&head)?;
                if head.kind == kind::DATA {
                    *consumed += HEAD_BYTES;
                    return self.begin_data(&head);
                }
                let Some(payload) = rest.get(HEAD_BYTES..HEAD_BYTES + head.length) else {
                    return Ok(Step::NeedMore);
                };
                *consumed += HEAD_BYTES + head.length;
                self.frame(&head, payload)
            }
        }
    }

    /// What a frame's head alone tells.
    fn check_order(&mut self, head: &FrameHead) -> Result<(), Violation> {
        // Section 3.4: the preface "MUST be followed by a SETTINGS frame".
        if !self.peer.has_sent_settings && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(Violation::SettingsExpected);
        }
        // Section 4.2: "An endpoint MUST send an error code of FRAME_SIZE_ERROR if a frame exceeds
        // the size defined in SETTINGS_MAX_FRAME_SIZE".
        if head.length > PAYLOAD_MAX {
            return Err(Violation::FrameTooLarge);
        }
        // Section 6.10: "A receiver MUST treat the receipt of any other type of frame or a frame on
        // a different stream as a connection error (Section 5.4.1) of type PROTOCOL_ERROR."
        match &self.block {
            Some(block) if head.kind != kind::CONTINUATION || head.stream != block.stream => {
                Err(Violation::ContinuationExpected)
            }
            _ => Ok(()),
        }
    }

    fn frame(&mut self, head: &FrameHead, payload: &[u8]) -> Result<Step, Violation> {
        match head.kind {
            kind::HEADERS => self.headers(head, payload),
            kind::CONTINUATION => self.continuation(head, payload),
            kind::PRIORITY => self.priority(head),
            kind::RST_STREAM => self.rst_stream(head, payload),
            kind::SETTINGS => self.settings(head, payload),
            // Section 8.4: a client that gets one while push is disabled, and a server always,
            // "MUST treat it as a connection error (Section 5.4.1) of type PROTOCOL_ERROR".
            kind::PUSH_PROMISE => Err(Violation::PushPromise),
            kind::PING => self.ping_frame(head, payload),
            kind::GOAWAY => self.go_away_frame(head, payload),
            kind::WINDOW_UPDATE => self.window_update(head, payload),
            // Section 5.5: "Implementations MUST ignore unknown or unsupported values in all
            // extensible protocol elements."
            _ => self.waste().map(|()| Step::Done),
        }
    }

    /// A frame that carries nothing was received.
    pub(super) fn waste(&mut self) -> Result<(), Violation> {
        if self.idle_frames.spend() { Ok(()) } else { Err(Violation::IdleFrameFlood) }
    }

    // Section 6.1: DATA.

    fn begin_data(&mut self, head: &FrameHead) -> Result<Step, Violation> {
        if head.stream == 0 {
            return Err(Violation::StreamZero);
        }
        let padded = head.has(flag::PADDED);
        if padded && head.length == 0 {
            return Err(Violation::InvalidFrameLength);
        }
        let end = head.has(flag::END_STREAM);
        // Section 6.9: all of the payload counts, the padding and its length included.
        let length = head.length as i64;
        if length > self.receive_window {
            return Err(Violation::WindowExceeded);
        }
        self.receive_window -= length;
        let mut reading =
            Reading::Data { stream: None, left: head.length, padding: 0, padded, end };
        let Some(key) = self.find(head.stream)? else {
            self.return_credit(head.length as u32);
            self.reading = reading;
            return Ok(Step::Done);
        };
        let wrong = match self.streams.get_mut(key) {
            // Section 5.1: "half-closed (remote)": "it MUST respond with a stream error (Section
            // 5.4.2) of type STREAM_CLOSED".
            Some(stream) if !stream.receiving => Some(Violation::ClosedStream),
            Some(stream) if !stream.head_received => Some(MessageError::DataBeforeHead.into()),
            Some(stream) if length > stream.receive_window => Some(Violation::WindowExceeded),
            Some(stream) => {
                stream.receive_window -= length;
                None
            }
            None => None,
        };
        if let Some(wrong) = wrong {
            self.return_credit(head.length as u32);
            self.reading = reading;
            return self.stream_error(key, wrong);
        }
        if let Reading::Data { stream, .. } = &mut reading {
            *stream = Some(key);
        }
        self.reading = reading;
        if head.length == 0 && !end {
            self.waste()?;
        } else {
            self.idle_frames.earn(DATA_EARNS);
        }
        Ok(Step::Done)
    }

    fn data(&mut self, input: &[u8], consumed: &mut usize) -> Result<Step, Violation> {
        let Reading::Data { mut stream, mut left, mut padding, mut padded, end } = self.reading
        else {
            return Ok(Step::Done);
        };
        let mut rest = &input[*consumed..];
        if padded {
            let Some((length, after)) = rest.split_first() else {
                return Ok(Step::NeedMore);
            };
            padding = usize::from(*length);
            left -= 1;
            *consumed += 1;
            rest = after;
            padded = false;
            // Section 6.1: "If the length of the padding is the length of the frame payload or
            // greater, the recipient MUST treat this as a connection error".
            if padding > left {
                return Err(Violation::InvalidPadding);
            }
            // Nobody consumes padding.
            if let Some(key) = stream {
                self.credit_stream(key, padding as u32 + 1);
                self.return_credit(padding as u32 + 1);
            }
        }
        let content = left - padding;
        let mut event = None;
        if stream.is_some() || content == 0 {
            let length = content.min(rest.len());
            if content > 0 && length == 0 {
                self.reading = Reading::Data { stream, left, padding, padded, end };
                return Ok(Step::NeedMore);
            }
            let range = *consumed..*consumed + length;
            *consumed += length;
            left -= length;
            if let Some(key) = stream.take() {
                let last = left == padding;
                stream = (!last).then_some(key);
                // A stream that was reset takes the pieces that follow as well: to nowhere.
                event = self.piece(key, range, end && last)?;
            }
        }
        // What is left for nobody.
        if stream.is_none() {
            let dropped = left.min(input.len() - *consumed);
            left -= dropped;
            *consumed += dropped;
        }
        let done = left == 0;
        self.reading = match done {
            true => Reading::Frame,
            // The padding is counted off with what is dropped.
            false => Reading::Data {
                padding: if stream.is_none() { 0 } else { padding },
                stream,
                left,
                padded,
                end,
            },
        };
        match event {
            Some(event) => Ok(Step::Event(event)),
            None if done => Ok(Step::Done),
            None => Ok(Step::NeedMore),
        }
    }

    /// A piece of a body, which may be its last, and empty.
    fn piece(
        &mut self,
        key: StreamKey,
        range: std::ops::Range<usize>,
        end: bool,
    ) -> Result<Option<Event>, Violation> {
        let length = range.len() as u32;
        let Some(stream) = self.streams.get_mut(key) else {
            self.return_credit(length);
            return Ok(None);
        };
        if !stream.receiving {
            // It was reset in the middle of the frame.
            self.return_credit(length);
            return Ok(None);
        }
        if let Some(left) = &mut stream.content_left {
            // Section 8.1.1: "A request or response is also malformed if the value of a
            // content-length header field does not equal the sum of the DATA frame payload lengths
            // that form the content".
            let rest = left.checked_sub(u64::from(length));
            if rest.is_none_or(|rest| end && rest > 0) {
                self.return_credit(length);
                let wrong = MessageError::ContentLengthDiffers.into();
                return self.stream_error(key, wrong).map(Step::into_event);
            }
            *left = rest.unwrap_or(0);
        }
        if length == 0 && !end {
            return Ok(None);
        }
        stream.unconsumed += length;
        if end {
            self.end_receiving(key);
        }
        Ok(Some(Event::Data { stream: key, range, end }))
    }

    /// The peer sends no more on this stream.
    fn end_receiving(&mut self, key: StreamKey) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.receiving = false;
            if !stream.sending {
                self.streams.close(key);
            }
        }
    }

    // Sections 6.2 and 6.10: HEADERS and CONTINUATION.

    fn headers(&mut self, head: &FrameHead, payload: &[u8]) -> Result<Step, Violation> {
        if head.stream == 0 {
            return Err(Violation::StreamZero);
        }
        let mut fragment = payload;
        let mut padding = 0;
        if head.has(flag::PADDED) {
            let (length, rest) = fragment.split_first().ok_or(Violation::InvalidFrameLength)?;
            padding = usize::from(*length);
            fragment = rest;
        }
        if head.has(flag::PRIORITY) {
            // Section 5.3.2: the priorities of RFC 7540 are read over.
            fragment = fragment.get(5..).ok_or(Violation::InvalidFrameLength)?;
        }
        let length = fragment.len().checked_sub(padding).ok_or(Violation::InvalidPadding)?;
        let fragment = &fragment[..length];
        let end = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.field_block(head.stream, end, fragment);
        }
        self.block =
            Some(Box::new(Block { stream: head.stream, end, bytes: fragment.to_vec(), frames: 0 }));
        Ok(Step::Done)
    }

    fn continuation(&mut self, head: &FrameHead, payload: &[u8]) -> Result<Step, Violation> {
        let block = self.block.as_mut().ok_or(Violation::UnexpectedContinuation)?;
        block.frames += 1;
        if block.frames > self.config.continuations_max {
            return Err(Violation::ContinuationFlood);
        }
        // A compressed block is smaller than the list that it holds, or its sender wants to waste
        // our time. Without decoding all of it the connection cannot go on.
        if block.bytes.len() + payload.len() > 2 * self.config.field_bytes_max as usize {
            return Err(Violation::FieldBlockTooLarge);
        }
        block.bytes.extend_from_slice(payload);
        if !head.has(flag::END_HEADERS) {
            return Ok(Step::Done);
        }
        match self.block.take() {
            Some(block) => self.field_block(block.stream, block.end, &block.bytes),
            None => Ok(Step::Done),
        }
    }

    fn field_block(&mut self, id: u32, end: bool, block: &[u8]) -> Result<Step, Violation> {
        self.fields.shrink(FIELD_BYTES_KEPT);
        let bounds = (self.config.field_bytes_max, self.config.field_count_max);
        self.fields.begin(bounds.0 as usize, bounds.1 as usize);
        // Whatever becomes of the fields, the table must follow (section 4.3).
        self.decoder.decode(block, &mut self.fields)?;
        if self.role == Role::Server && id > self.last_peer {
            return self.open(id, end);
        }
        let Some(key) = self.find(id)? else {
            // It was reset by us a while ago.
            return Ok(Step::Done);
        };
        let (receiving, head_received) = match self.streams.get(key) {
            Some(stream) => (stream.receiving, stream.head_received),
            None => return Ok(Step::Done),
        };
        if !receiving {
            return self.stream_error(key, Violation::ClosedStream);
        }
        if head_received { self.trailers(key, end) } else { self.response(key, end) }
    }

    /// A request opens a stream.
    fn open(&mut self, id: u32, end: bool) -> Result<Step, Violation> {
        // Section 5.1.1: "Streams initiated by a client MUST use odd-numbered stream identifiers".
        if id.is_multiple_of(2) {
            return Err(Violation::WrongStreamParity);
        }
        self.last_peer = id;
        if let Draining::Final(_) = self.draining {
            // Section 6.8: what is above the last stream of our GOAWAY is ignored.
            self.remember(id);
            return Ok(Step::Done);
        }
        self.idle_frames.earn(REQUEST_EARNS);
        let most = self.config.streams_max as usize;
        // Section 5.1.2. What a peer reset may still be under way on our side; that it does not
        // count would be what makes rapid resets (CVE-2023-44487) worthwhile.
        if self.streams.open_count() >= most || self.streams.held_count() >= 2 * most {
            self.refuse(id, Violation::TooManyStreams)?;
            return Ok(Step::Done);
        }
        let head = match self.fields.is_over() {
            true => RequestHead::default(),
            false => match RequestHead::check(&self.fields, self.config.extended_connect) {
                Ok(head) if end && head.content_length.is_some_and(|length| length > 0) => {
                    return self.refuse_malformed(id, MessageError::ContentLengthDiffers);
                }
                Ok(head) => head,
                Err(error) => return self.refuse_malformed(id, error),
            },
        };
        let send_window = i64::from(self.peer.window);
        let mut stream = Stream::new(id, send_window, i64::from(self.config.stream_window));
        stream.head_received = true;
        stream.is_connect = head.is_connect;
        if !head.is_connect && !self.fields.is_over() {
            stream.content_left = head.content_length;
        }
        stream.receiving = !end;
        let stream = self.streams.insert(stream);
        Ok(Step::Event(Event::Request { stream, head, end }))
    }

    fn refuse_malformed(&mut self, id: u32, error: MessageError) -> Result<Step, Violation> {
        self.refuse(id, error.into())?;
        Ok(Step::Event(Event::Refused { error }))
    }

    /// Resets a stream that never came to be.
    fn refuse(&mut self, id: u32, violation: Violation) -> Result<(), Violation> {
        self.output.rst_stream(id, violation.code());
        self.remember(id);
        if self.resets.spend() { Ok(()) } else { Err(Violation::ResetFlood) }
    }

    fn response(&mut self, key: StreamKey, end: bool) -> Result<Step, Violation> {
        let head = match self.fields.is_over() {
            true => Err(MessageError::HeadTooLarge),
            false => ResponseHead::check(&self.fields),
        };
        let head = match head {
            Ok(head) => head,
            Err(error) => return self.stream_error(key, error.into()),
        };
        let Some(stream) = self.streams.get_mut(key) else {
            return Ok(Step::Done);
        };
        if head.is_informational() {
            // Section 8.1: "An endpoint that receives a HEADERS frame without the END_STREAM flag
            // set after receiving the HEADERS frame that opens a request or after receiving a final
            // (non-informational) status code" has a malformed message; so has one that ends here.
            stream.informational += 1;
            if end || stream.informational > INFORMATIONAL_MAX {
                return self.stream_error(key, MessageError::InvalidInformational.into());
            }
            return Ok(Step::Event(Event::Response { stream: key, head, end }));
        }
        stream.head_received = true;
        self.idle_frames.earn(REQUEST_EARNS);
        self.resets.earn(1);
        let bodiless = stream.is_head || matches!(head.status, 204 | 304);
        if !(stream.is_connect && (200..300).contains(&head.status)) {
            stream.content_left = if bodiless { Some(0) } else { head.content_length };
        }
        if end && stream.content_left.is_some_and(|left| left > 0) {
            return self.stream_error(key, MessageError::ContentLengthDiffers.into());
        }
        if end {
            self.end_receiving(key);
        }
        Ok(Step::Event(Event::Response { stream: key, head, end }))
    }

    fn trailers(&mut self, key: StreamKey, end: bool) -> Result<Step, Violation> {
        let left = self.streams.get(key).and_then(|stream| stream.content_left);
        let wrong = match check_trailers(&self.fields) {
            // Section 8.1: only the last block of fields may follow the body.
            _ if !end => Some(MessageError::TrailersWithoutEnd),
            _ if self.fields.is_over() => Some(MessageError::TrailersTooLarge),
            Err(error) => Some(error),
            Ok(()) if left.is_some_and(|left| left > 0) => Some(MessageError::ContentLengthDiffers),
            Ok(()) => None,
        };
        if let Some(wrong) = wrong {
            return self.stream_error(key, wrong.into());
        }
        self.end_receiving(key);
        Ok(Step::Event(Event::Trailers { stream: key }))
    }

    // What frames of streams have in common.

    /// The open stream of this number; None if it was closed, and what comes for it is dropped.
    pub(super) fn find(&mut self, id: u32) -> Result<Option<StreamKey>, Violation> {
        if let Some(key) = self.streams.find(id) {
            return Ok(Some(key));
        }
        // Section 5.1: "idle": "Receiving any frame other than HEADERS or PRIORITY on a stream in
        // this state MUST be treated as a connection error (Section 5.4.1) of type PROTOCOL_ERROR."
        if self.is_idle(id) {
            return Err(Violation::IdleStream);
        }
        // "closed": after we reset it, frames that were under way are ignored; after the peer ended
        // it, there is no reason for any. Towards endpoints nothing is counted: clients cancel as
        // often as they like, and each time up to a window of bytes is under way.
        if self.role == Role::Client {
            return Ok(None);
        }
        if self.recent.contains(&id) {
            self.waste()?;
            return Ok(None);
        }
        Err(Violation::ClosedStream)
    }

    pub(super) fn is_idle(&self, id: u32) -> bool {
        match self.role {
            Role::Server => id.is_multiple_of(2) || id > self.last_peer,
            Role::Client => id.is_multiple_of(2) || id >= self.next_own,
        }
    }

    /// The peer did something wrong on a stream.
    pub(super) fn stream_error(
        &mut self,
        key: StreamKey,
        violation: Violation,
    ) -> Result<Step, Violation> {
        let code = violation.code();
        self.output.rst_stream(key.id, code);
        self.streams.close(key);
        self.remember(key.id);
        // Who makes us reset wastes as much as who resets (CVE-2025-8671).
        if !self.resets.spend() {
            return Err(Violation::ResetFlood);
        }
        Ok(Step::Event(Event::Reset { stream: key, code }))
    }

    /// Frames for this stream may still be under way.
    pub(super) fn remember(&mut self, id: u32) {
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(id);
    }
}

/// What a part of the input led to.
pub(super) enum Step {
    /// The input does not hold the next part in full.
    NeedMore,
    /// Nothing that concerns the caller.
    Done,
    Event(Event),
}

impl Step {
    fn into_event(self) -> Option<Event> {
        match self {
            Step::Event(event) => Some(event),
            Step::NeedMore | Step::Done => None,
        }
    }
}
