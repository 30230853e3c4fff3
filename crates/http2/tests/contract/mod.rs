//! What must hold for any bytes whatever, one function per decoder. The fuzz targets call these,
//! and so do the tests beside this folder: over generated frames and over the fuzz corpus.
#![allow(dead_code, reason = "each user of this file takes some of it")]

use http2::hpack::{Decoder, Encoder};
use http2::{Config, Connection, Event, Fields, HeadKind, RequestHead, StreamKey, http1};

const CONFIG: Config = Config {
    streams_max: 8,
    stream_window: 65_535,
    connection_window: 100_000,
    field_bytes_max: 8 * 1024,
    field_count_max: 32,
    output_bytes: 16 * 1024,
    extended_connect: true,
    resets_max: 32,
    idle_frames_max: 64,
    continuations_max: 32,
    window_updates_max: 64,
};

const PREFACE_AND_SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Field blocks: bounded, and the same after an encoder and another decoder.
pub(crate) fn hpack(data: &[u8]) {
    let mut decoder = Decoder::new(4096);
    let mut encoder = Encoder::new(4096);
    let mut second = Decoder::new(4096);
    // Blocks of one connection, of the length that a byte tells.
    let mut rest = data;
    while let Some((length, after)) = rest.split_first() {
        let (block, after) = after.split_at(after.len().min(usize::from(*length)));
        rest = after;
        let mut fields = Fields::default();
        fields.begin(1024, 16);
        let result = decoder.decode(block, &mut fields);
        let (size, entries) = decoder.table_size();
        assert!(size <= 4096 && entries <= 4096 / 32);
        let kept: usize = fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
        assert!(kept <= 1024 && fields.len() <= 16);
        assert!(fields.is_over() || fields.size() == kept || result.is_err());
        if result.is_err() {
            // The connection ends here.
            return;
        }
        let mut block = Vec::new();
        encoder.begin(&mut block);
        for (name, value) in fields.iter() {
            encoder.field(name, value, &mut block);
        }
        let mut again = Fields::default();
        again.begin(64 * 1024, 100);
        assert_eq!(second.decode(&block, &mut again), Ok(()));
        let lower: Vec<_> = fields.iter().map(|(n, v)| (n.to_ascii_lowercase(), v)).collect();
        assert!(again.iter().eq(lower.iter().map(|(name, value)| (&name[..], *value))));
        assert_eq!(second.table_size(), encoder.table_size());
        if let Ok(head) = RequestHead::check(&fields, true) {
            request_has_one_reading(&fields, &head);
        }
    }
}

/// What a request becomes in HTTP/1.1 has as many lines as it has fields, and ends once.
fn request_has_one_reading(fields: &Fields, head: &RequestHead) {
    for end in [false, true] {
        let mut out = Vec::new();
        http1::write_request(fields, head, end, b"key", &mut out);
        let text = out.strip_suffix(b"\r\n\r\n").expect("a head ends with an empty line");
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        assert!(lines.len() <= fields.len() + 4);
        let (first, rest) = lines.split_first().expect("there is a request line");
        let first = first.strip_suffix(b"\r").unwrap_or(first);
        assert_eq!(first.iter().filter(|byte| **byte == b' ').count(), 2);
        assert!(first.ends_with(b" HTTP/1.1"));
        let mut framings = 0;
        for line in rest {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            assert!(!line.is_empty() && !line.contains(&b'\r') && !line.contains(&0));
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            framings += usize::from(matches!(name, b"content-length" | b"transfer-encoding"));
        }
        assert!(framings <= 1, "{}", out.escape_ascii());
    }
}

/// A peer's bytes, for both roles: no panic, bounded memory, and the same whatever the pieces.
pub(crate) fn connection(data: &[u8]) {
    for role in [Connection::server, Connection::client] {
        let is_server = role(CONFIG).output().starts_with(b"\0");
        let start: &[u8] =
            if is_server { PREFACE_AND_SETTINGS } else { &PREFACE_AND_SETTINGS[24..] };
        for input in [data.to_vec(), [start, data].concat()] {
            let whole = Passive::run(role(CONFIG), &input, usize::MAX);
            let split = Passive::run(role(CONFIG), &input, 5);
            assert_eq!(whole, split, "what arrives in pieces has another meaning");
            Active::run(role(CONFIG), &input, 11);
            Active::run(role(CONFIG), &input, 4096);
        }
    }
}

/// All that a connection said while nobody did anything about it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Passive {
    events: Vec<Event>,
    bytes: Vec<(StreamKey, u8)>,
    output: Vec<u8>,
    failed: bool,
}

impl Passive {
    fn run(mut connection: Connection, input: &[u8], piece: usize) -> Passive {
        if connection.capacity() > 0 {
            connection.request(false, false, false, |fields| fields.method(b"GET"));
            connection.request(true, true, false, |fields| fields.method(b"HEAD"));
        }
        let mut passive = Passive::default();
        let mut buffer = Vec::new();
        'input: for piece in input.chunks(piece.max(1)) {
            buffer.extend_from_slice(piece);
            loop {
                let Ok(received) = connection.receive(&buffer) else {
                    passive.failed = true;
                    break 'input;
                };
                assert!(received.consumed <= buffer.len());
                let done = received.event.is_none();
                match received.event {
                    Some(Event::Data { stream, range, end }) => {
                        let data = &buffer[range];
                        passive.bytes.extend(data.iter().map(|byte| (stream, *byte)));
                        if end {
                            // Its range says how the bytes came.
                            passive.events.push(Event::Data { stream, range: 0..0, end });
                        }
                    }
                    Some(event) => passive.events.push(event),
                    None => {}
                }
                buffer.drain(..received.consumed);
                if done {
                    break;
                }
            }
            // What waits for more is one frame at most.
            assert!(buffer.len() < 9 + 16_384, "{} bytes wait", buffer.len());
        }
        passive.output = connection.output().to_vec();
        // How much came of what was reset in the end depends on the pieces: a frame is passed on as
        // it comes, and may prove too long at its end.
        let is_reset = |key: &StreamKey| {
            let of_it =
                |event: &Event| matches!(event, Event::Reset { stream, .. } if stream == key);
            passive.events.iter().any(of_it)
        };
        let failed = passive.failed;
        passive.bytes.retain(|(key, _)| !failed && !is_reset(key));
        passive
    }
}

/// One who answers what can be answered, and takes what there is.
struct Active {
    connection: Connection,
    streams: Vec<StreamKey>,
    sent: usize,
}

impl Active {
    fn run(connection: Connection, input: &[u8], piece: usize) {
        let mut active = Active { connection, streams: Vec::new(), sent: 0 };
        active.ask();
        let mut buffer = Vec::new();
        for (turn, piece) in input.chunks(piece).enumerate() {
            buffer.extend_from_slice(piece);
            while let Ok(received) = active.connection.receive(&buffer) {
                buffer.drain(..received.consumed);
                match received.event {
                    Some(event) => active.handle(event),
                    None => break,
                }
            }
            active.turn(turn);
        }
        while let Some(key) = active.streams.pop() {
            active.connection.forget(key);
        }
        assert_eq!(active.connection.open_count(), 0);
        active.connection.shrink();
    }

    fn ask(&mut self) {
        let key = self.connection.request(false, false, false, |fields| {
            fields.method(b"POST");
            fields.scheme(b"http");
            fields.path(b"/");
        });
        self.streams.extend(key);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Request { stream, head, .. } => {
                self.streams.push(stream);
                if !self.connection.fields().is_over() {
                    let mut out = Vec::new();
                    http1::write_request(self.connection.fields(), &head, false, b"k", &mut out);
                }
                self.connection.send_head(stream, HeadKind::Final, |fields| {
                    fields.status(200);
                    fields.field(b"x-a", b"b");
                });
                self.connection.send_data(stream, &[b'x'; 3000], false);
            }
            Event::Data { stream, range, end } => {
                assert!(range.len() <= 16_384);
                self.connection.consume(stream, range.len());
                if end {
                    self.connection.send_data(stream, b"the end", true);
                }
            }
            Event::Reset { stream, .. } => {
                assert!(!self.connection.is_open(stream));
                self.connection.forget(stream);
                self.streams.retain(|key| *key != stream);
            }
            Event::GoAway { .. } => {
                let connection = &self.connection;
                self.streams.retain(|key| connection.is_open(*key));
            }
            _ => {}
        }
        assert!(self.connection.open_count() <= CONFIG.streams_max as usize);
    }

    fn turn(&mut self, turn: usize) {
        while let Some(key) = self.connection.next_writable() {
            if self.connection.send_data(key, &[b'y'; 500], false) < 500 {
                break;
            }
        }
        let waiting = self.connection.output().len();
        // Data up to its bound, and what budgets allow of everything else.
        assert!(waiting <= 3 * CONFIG.output_bytes + 64 * 1024, "{waiting} bytes wait");
        self.sent += waiting;
        self.connection.advance(if turn.is_multiple_of(3) { waiting / 2 } else { waiting });
        match turn % 11 {
            4 => self.ask(),
            7 => {
                if let Some(key) = self.streams.pop() {
                    self.connection.forget(key);
                }
            }
            10 if turn > 100 => self.connection.drain(),
            _ => {}
        }
    }
}
