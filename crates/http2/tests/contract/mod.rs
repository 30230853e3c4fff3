//! What must hold for any bytes whatever, one function per decoder. The fuzz targets call these,
//! and so do the tests beside this folder: over generated frames and over the fuzz corpus.
#![allow(dead_code, reason = "each user of this file takes some of it")]

use std::collections::BTreeMap;

use http2::hpack::{Decoder, Encoder};
use http2::{
    Config, Connection, ErrorCode, Event, Fields, HeadKind, RequestHead, StreamKey, http1,
};

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

/// Lists of any fields: a decoder reads what the encoder writes, whatever size of table the peer
/// allows meanwhile, and both tables stay the same. A byte says what follows: a size that is allowed,
/// the end of a block, or a field with the lengths of its name and value.
pub(crate) fn fields(data: &[u8]) {
    fn take<'a>(rest: &mut &'a [u8], count: usize) -> &'a [u8] {
        let (taken, after) = rest.split_at(rest.len().min(count));
        *rest = after;
        taken
    }
    let mut encoder = Encoder::new(4096);
    let mut decoder = Decoder::new(4096);
    let mut rest = data;
    while !rest.is_empty() {
        let mut block = Vec::new();
        let mut written: Vec<(Vec<u8>, &[u8])> = Vec::new();
        let mut allowed = Vec::new();
        encoder.begin(&mut block);
        while let [what, ..] = take(&mut rest, 1) {
            match *what {
                // Below the decoder's own bound, above it, and none at all.
                0..8 => {
                    let size = take(&mut rest, 2).iter().fold(0, |n, b| n << 8 | usize::from(*b));
                    // Settings are read between blocks.
                    allowed.push(size);
                }
                8..16 => break,
                lengths => {
                    let length = take(&mut rest, 1).first().map_or(0, |byte| usize::from(*byte));
                    let name = take(&mut rest, usize::from(lengths & 0x1f));
                    let value = take(&mut rest, length);
                    encoder.field(name, value, &mut block);
                    written.push((name.to_ascii_lowercase(), value));
                }
            }
        }
        let mut read = Fields::default();
        read.begin(usize::MAX, usize::MAX);
        assert_eq!(decoder.decode(&block, &mut read), Ok(()));
        assert!(!read.is_over());
        assert!(read.iter().eq(written.iter().map(|(name, value)| (&name[..], *value))));
        assert_eq!(decoder.table_size(), encoder.table_size());
        assert!(decoder.table_size().0 <= 4096);
        allowed.into_iter().for_each(|size| encoder.allow(size));
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
            Whim::run(role(CONFIG), &input);
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
                assert_eq!(connection.sound(), Ok(()));
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
                assert_eq!(active.connection.sound(), Ok(()));
                buffer.drain(..received.consumed);
                match received.event {
                    Some(event) => active.handle(event),
                    None => break,
                }
            }
            active.turn(turn);
            assert_eq!(active.connection.sound(), Ok(()));
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

/// One who does what numbers drawn from the input say, in pieces of lengths that they say: any
/// order of calls that the interface permits. It keeps books of its own about what may still come on
/// each stream.
struct Whim {
    connection: Connection,
    /// Of streams that were not forgotten: the peer may still send on it, and it was not reset.
    streams: BTreeMap<u32, (StreamKey, bool, bool)>,
    /// What was passed up and not consumed.
    unconsumed: Vec<(StreamKey, usize)>,
    seed: u64,
}

impl Whim {
    fn run(connection: Connection, input: &[u8]) {
        let seed = input.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut whim =
            Whim { connection, streams: BTreeMap::new(), unconsumed: Vec::new(), seed: seed | 1 };
        let mut rest = input;
        let mut buffer = Vec::new();
        while !rest.is_empty() {
            let most = if whim.draw(4) == 0 { 2000 } else { 20 };
            let (piece, after) = rest.split_at(rest.len().min(1 + whim.draw(most)));
            rest = after;
            buffer.extend_from_slice(piece);
            loop {
                let received = whim.connection.receive(&buffer);
                assert_eq!(whim.connection.sound(), Ok(()));
                let Ok(received) = received else {
                    assert!(whim.connection.is_over() && whim.connection.open_count() == 0);
                    return;
                };
                if let Some(event) = received.event.clone() {
                    whim.note(&event);
                }
                buffer.drain(..received.consumed);
                if received.event.is_none() {
                    break;
                }
                if whim.draw(3) == 0 {
                    whim.act();
                }
            }
            whim.act();
        }
        for (key, ..) in std::mem::take(&mut whim.streams).into_values() {
            whim.connection.forget(key);
            assert_eq!(whim.connection.sound(), Ok(()));
        }
        assert_eq!(whim.connection.open_count(), 0);
    }

    /// xorshift64; below `most`, which is not 0.
    fn draw(&mut self, most: usize) -> usize {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed % most as u64) as usize
    }

    /// Nothing comes on a stream after its end, or after it was reset or forgotten.
    fn note(&mut self, event: &Event) {
        match event {
            Event::Request { stream, end, .. } => {
                let before = self.streams.insert(stream.id, (*stream, !end, true));
                assert!(before.is_none(), "a stream is opened once");
            }
            Event::Response { stream, end, .. } => self.comes(*stream, *end),
            Event::Data { stream, range, end } => {
                self.comes(*stream, *end);
                self.unconsumed.push((*stream, range.len()));
            }
            Event::Trailers { stream } => self.comes(*stream, true),
            Event::Reset { stream, .. } => {
                let known = self.streams.get_mut(&stream.id).expect("it was not forgotten");
                assert!(known.0 == *stream && known.2, "a stream is reset once");
                (known.1, known.2) = (false, false);
                assert!(!self.connection.is_open(*stream));
            }
            Event::GoAway { last, .. } => {
                for (key, receiving, lives) in self.streams.values_mut() {
                    // Those of the peer's stay; of ours, what it does not process is over.
                    if !self.connection.is_open(*key) {
                        (*receiving, *lives) = (false, false);
                    } else if key.id % 2 == 1 && self.connection.capacity() > 0 {
                        assert!(key.id <= *last);
                    }
                }
            }
            Event::Refused { .. } | Event::Pong | Event::Settings => {}
        }
    }

    fn comes(&mut self, stream: StreamKey, end: bool) {
        let known = self.streams.get_mut(&stream.id).expect("it was not forgotten");
        assert!(known.0 == stream && known.1 && known.2, "{stream:?} was over");
        known.1 = !end;
    }

    fn act(&mut self) {
        for _ in 0..self.draw(4) {
            self.one_act();
            assert_eq!(self.connection.sound(), Ok(()));
        }
        let waiting = self.connection.output().len();
        let count = self.draw(2 * waiting + 1).min(waiting);
        self.connection.advance(count);
    }

    fn one_act(&mut self) {
        let at = self.draw(self.streams.len().max(1));
        let some = self.streams.values().nth(at).map(|(key, ..)| *key);
        let length = self.draw(6000);
        match (self.draw(16), some) {
            (0, _) => {
                let (end, is_head) = (self.draw(2) == 0, self.draw(4) == 0);
                let key = self.connection.request(end, is_head, self.seed & 7 == 0, |fields| {
                    fields.method(b"POST");
                    fields.scheme(b"http");
                    fields.path(b"/");
                });
                if let Some(key) = key {
                    assert!(self.streams.insert(key.id, (key, true, true)).is_none());
                }
            }
            (1..=3, Some(key)) => drop(self.connection.send_data(key, &vec![0; length], false)),
            (4, Some(key)) => drop(self.connection.send_data(key, b"end", true)),
            (5, Some(key)) => self.head(key, HeadKind::Informational),
            (6, Some(key)) => self.head(key, HeadKind::Final),
            (7, Some(key)) => self.head(key, HeadKind::Trailers),
            (8, Some(key)) => {
                self.connection.reset(key, ErrorCode::CANCEL);
                self.streams.insert(key.id, (key, false, false));
            }
            (9, Some(key)) => {
                self.connection.forget(key);
                assert!(!self.connection.is_held(key));
                self.streams.remove(&key.id);
            }
            (10, _) => {
                if let Some((key, count)) = self.unconsumed.pop() {
                    // In parts, and sometimes more than there was.
                    self.connection.consume(key, count / 2);
                    self.connection.consume(key, count);
                }
            }
            (11, Some(key)) => {
                self.connection.poll_room(key);
                self.connection.poll_data_room(key);
            }
            (12, _) => {
                while let Some(key) = self.connection.next_writable() {
                    if self.connection.send_data(key, &vec![0; length], false) < length {
                        break;
                    }
                }
            }
            (13, _) => self.connection.refill(),
            (14, _) if length < 200 => self.connection.drain(),
            (14, _) if length < 300 => self.connection.finish_drain(),
            (15, _) if length < 1000 => self.connection.ping(),
            (15, _) if self.streams.is_empty() => self.connection.shrink(),
            _ => {}
        }
    }

    fn head(&mut self, key: StreamKey, kind: HeadKind) {
        self.connection.send_head(key, kind, |fields| {
            fields.status(200);
            fields.field(b"x-a", b"b");
        });
    }
}
