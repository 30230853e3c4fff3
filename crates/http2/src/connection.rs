//! One connection: what was received so far, and what follows from it.
//!
//! `receive` takes frames apart and keeps the states of streams, `control` those of the connection;
//! `send` writes frames within what
//! the peer's windows and our own bounds allow. A violation that concerns one stream resets that
//! stream; one that concerns the connection ends it: the GOAWAY is in the output then, and nothing
//! is received any more.

mod control;
mod receive;
mod send;
mod sound;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;

use crate::budget::Budget;
use crate::config::Config;
use crate::error::{ErrorCode, MessageError, Violation};
use crate::fields::Fields;
use crate::frame::{HEAD_BYTES, PAYLOAD_MAX, setting};
use crate::hpack::{Decoder, Encoder};
use crate::message::{RequestHead, ResponseHead};
use crate::output::Output;
use crate::streams::{StreamKey, Streams};

pub use send::{FieldWriter, HeadKind};

/// What a client sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The initial value of SETTINGS_HEADER_TABLE_SIZE, which we leave as it is, in bytes; our own table
/// is no larger either. It holds some 80 fields.
const TABLE_BYTES: usize = 4096;
/// Streams that we reset are remembered for what is still on its way from the peer.
const RECENT_MAX: usize = 256;
/// Field lists and blocks larger than this are not kept after use.
const FIELD_BYTES_KEPT: usize = 16 * 1024;
/// The payload of the PING that marks the first half of a drain.
const DRAIN_PING: [u8; 8] = *b"draining";

/// What [`Connection::receive`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Received {
    /// So many bytes of the input are done with.
    pub consumed: usize,
    /// None: more input is needed to go on.
    pub event: Option<Event>,
}

/// What a peer did that concerns the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A stream was opened. Its fields are [`Connection::fields`]; if there were too many of them,
    /// some are missing ([`Fields::is_over`]), and `head` says nothing. To be forgotten once done.
    Request { stream: StreamKey, head: RequestHead, end: bool },
    /// The head of a response, or of an informational one before it.
    Response { stream: StreamKey, head: ResponseHead, end: bool },
    /// Bytes of a body: a range of the input. The peer may send as many again once they were
    /// consumed ([`Connection::consume`]).
    Data { stream: StreamKey, range: Range<usize>, end: bool },
    /// The end of a body, with fields.
    Trailers { stream: StreamKey },
    /// The stream is over before its end: the peer wants no more of it, or did something wrong.
    Reset { stream: StreamKey, code: ErrorCode },
    /// A request was refused before it became a stream.
    Refused { error: MessageError },
    /// The peer takes no more streams; those above `last` were not processed, and are reset by this.
    GoAway { last: u32, code: ErrorCode },
    /// The answer to [`Connection::ping`].
    Pong,
    /// The peer's settings were read. A client may open streams from now on.
    Settings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

/// What of the input comes next.
#[derive(Clone, Copy, Debug)]
enum Reading {
    Preface,
    Frame,
    /// The payload of a DATA frame, which is passed up as it comes.
    Data {
        /// None: it is dropped.
        stream: Option<StreamKey>,
        /// Bytes of the payload, padding included, that are still to come.
        left: usize,
        padding: usize,
        /// The byte that tells the padding is still to come.
        padded: bool,
        end: bool,
    },
}

/// A field block that goes on in CONTINUATION frames.
#[derive(Debug)]
struct Block {
    stream: u32,
    end: bool,
    bytes: Vec<u8>,
    frames: u32,
}

/// What the peer told us of itself.
#[derive(Clone, Copy, Debug)]
struct Peer {
    window: u32,
    streams_max: u32,
    payload_max: usize,
    extended_connect: bool,
    has_sent_settings: bool,
}

/// How far the end of a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Draining {
    No,
    /// The peer was told to open no more streams, and may not have read it yet.
    Announced,
    /// No stream above this number is processed.
    Final(u32),
}

/// One side of an HTTP/2 connection.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    config: Config,
    reading: Reading,
    block: Option<Box<Block>>,
    decoder: Decoder,
    encoder: Encoder,
    fields: Fields,
    streams: Streams,
    /// The highest number of a stream that the peer opened.
    last_peer: u32,
    /// The number of the next stream that we open.
    next_own: u32,
    /// Streams that we reset, the latest last.
    recent: VecDeque<u32>,
    peer: Peer,
    send_window: i64,
    receive_window: i64,
    /// Bytes that were consumed, of which the peer was not told yet.
    credit: u32,
    output: Output,
    /// Streams that want to send, and wait for the connection's window or for room in the output.
    queue: VecDeque<StreamKey>,
    /// Streams that want to send a head, and wait for room in the output.
    heads: VecDeque<StreamKey>,
    draining: Draining,
    /// The highest stream that the peer says it processes.
    goaway: Option<u32>,
    failed: Option<Violation>,
    resets: Budget,
    idle_frames: Budget,
    window_updates: Budget,
}

impl Connection {
    /// The side that was connected to. It expects the peer's preface in full.
    pub fn server(config: Config) -> Connection {
        let mut connection = Connection::new(Role::Server, config);
        let config = connection.config;
        let settings = [
            (setting::MAX_CONCURRENT_STREAMS, config.streams_max),
            (setting::INITIAL_WINDOW_SIZE, config.stream_window),
            (setting::MAX_HEADER_LIST_SIZE, config.field_bytes_max),
            // RFC 9218 section 2.1: we do not use the priorities of RFC 7540.
            (setting::NO_RFC7540_PRIORITIES, 1),
            (setting::ENABLE_CONNECT_PROTOCOL, 1),
        ];
        let count = settings.len() - usize::from(!config.extended_connect);
        connection.output.settings(&settings[..count]);
        connection.widen();
        connection
    }

    /// The side that connected. Its preface is in the output at once.
    pub fn client(config: Config) -> Connection {
        let mut connection = Connection::new(Role::Client, config);
        let config = connection.config;
        connection.output.raw(PREFACE);
        connection.output.settings(&[
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, config.stream_window),
            (setting::MAX_HEADER_LIST_SIZE, config.field_bytes_max),
            (setting::NO_RFC7540_PRIORITIES, 1),
        ]);
        connection.widen();
        connection
    }

    fn new(role: Role, config: Config) -> Connection {
        let config = config.checked();
        Connection {
            role,
            config,
            reading: if role == Role::Server { Reading::Preface } else { Reading::Frame },
            block: None,
            decoder: Decoder::new(TABLE_BYTES),
            encoder: Encoder::new(TABLE_BYTES),
            fields: Fields::default(),
            streams: Streams::default(),
            last_peer: 0,
            next_own: 1,
            recent: VecDeque::new(),
            peer: Peer {
                window: Config::WINDOW_MIN,
                streams_max: u32::MAX,
                payload_max: PAYLOAD_MAX,
                extended_connect: false,
                has_sent_settings: false,
            },
            send_window: i64::from(Config::WINDOW_MIN),
            receive_window: i64::from(Config::WINDOW_MIN),
            credit: 0,
            output: Output::default(),
            queue: VecDeque::new(),
            heads: VecDeque::new(),
            draining: Draining::No,
            goaway: None,
            failed: None,
            resets: Budget::new(config.resets_max),
            idle_frames: Budget::new(config.idle_frames_max),
            window_updates: Budget::new(config.window_updates_max),
        }
    }

    /// The connection's window is not a setting: it begins at 65,535 and is told to be larger.
    fn widen(&mut self) {
        let more = self.config.connection_window - Config::WINDOW_MIN;
        if more > 0 {
            self.output.window_update(0, more);
            self.receive_window += i64::from(more);
        }
    }

    /// The fields of the last request, response or trailers, until the next call of `receive`.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// What is to be sent: whole frames, though not more than the socket takes has to be taken.
    /// What was shown once does not change until it was sent, and only more comes behind it.
    pub fn output(&self) -> &[u8] {
        self.output.waiting()
    }

    /// Is there anything to be sent?
    pub fn has_output(&self) -> bool {
        self.output.len() > 0
    }

    /// So many bytes of the output were sent.
    pub fn advance(&mut self, count: usize) {
        self.output.advance(count);
    }

    /// Does so much wait for the socket that nothing more should be read from it? A peer that asks
    /// and never listens would fill our memory with answers else.
    pub fn is_congested(&self) -> bool {
        // With less room than this there is no DATA frame that holds anything.
        self.output.len() + HEAD_BYTES >= self.config.output_bytes
    }

    /// Time has passed, some ten seconds: what seemed a flood is one no more.
    pub fn refill(&mut self) {
        self.resets.refill();
        self.idle_frames.refill();
        self.window_updates.refill();
    }

    /// Gives back what memory it can: for a connection on which nothing goes on.
    pub fn shrink(&mut self) {
        self.output.shrink();
        self.streams.shrink();
        self.fields.shrink(0);
        self.queue = VecDeque::new();
        self.heads = VecDeque::new();
        // What the peer sends on streams that we reset may still be under way.
        self.recent.shrink_to_fit();
    }

    /// How many streams are open: those neither closed from both sides nor reset.
    pub fn open_count(&self) -> usize {
        self.streams.open_count()
    }

    /// Is the stream open, in one direction at least?
    pub fn is_open(&self, stream: StreamKey) -> bool {
        self.streams.get(stream).is_some_and(|stream| stream.receiving || stream.sending)
    }

    /// Was the stream not forgotten yet?
    pub fn is_held(&self, stream: StreamKey) -> bool {
        self.streams.get(stream).is_some()
    }

    /// May the peer be asked to tunnel other protocols (RFC 8441)? For clients.
    pub fn has_extended_connect(&self) -> bool {
        self.peer.extended_connect
    }

    /// Has the peer said what it allows?
    pub fn has_settings(&self) -> bool {
        self.peer.has_sent_settings
    }

    /// Could a client open streams, now or once others are closed? Servers open none.
    pub fn accepts_requests(&self) -> bool {
        self.role == Role::Client
            && self.goaway.is_none()
            && self.failed.is_none()
            && self.draining == Draining::No
            // RFC 9113 section 5.1.1: numbers are used once, and there is no more than 2^31.
            && self.next_own <= Config::WINDOW_MAX
    }

    /// How many streams more a client may open now; servers open none.
    pub fn capacity(&self) -> usize {
        if !self.accepts_requests() {
            return 0;
        }
        let most = self.peer.streams_max.min(self.config.streams_max) as usize;
        most.saturating_sub(self.streams.open_count())
    }

    /// Why the connection failed.
    pub fn failure(&self) -> Option<Violation> {
        self.failed
    }

    /// Nothing is to come any more, and nothing to be sent but what is in the output: it failed, or
    /// one side said that it ends, and the last stream is done.
    pub fn is_over(&self) -> bool {
        if self.failed.is_some() {
            return true;
        }
        // A client's GOAWAY concerns the streams that we would open, of which there are none.
        let is_left = self.role == Role::Client && self.goaway.is_some();
        let ending = matches!(self.draining, Draining::Final(_)) || is_left;
        ending && self.streams.open_count() == 0 && self.streams.held_count() == 0
    }
}
