//! Generated frames against the contract, and two sides that must understand each other.

mod contract;

use std::collections::BTreeMap;

use http2::{Config, Connection, Event, HeadKind, StreamKey};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Frames that are nearly right reach deeper than random bytes.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let payloads: &'static [&'static [u8]] = &[
        b"",
        b"\0",
        b"\0\0\0\0",
        b"\0\0\0\x01",
        b"\x7f\xff\xff\xff",
        b"\0\0\0\x08",
        b"\0\0\0\0\0",
        b"12345678",
        b"\x82\x86\x84\x41\x01a",
        b"\x83\x86\x84\x01\x01a\x0f\x0d\x015",
        b"\x83\x86\x84\xbe",
        b"\x05\x82\x86\x84\x41\x01a\0\0\0\0\0",
        b"\0\0\0\0\x0f\x82\x86\x84\x41\x01a",
        b"\0\x01a\x01b",
        b"\x40\x01a\x01b\xbe\xbe",
        b"\0\x01A\x01b",
        b"\x20",
        b"\x88",
        b"\x08\x03100",
        b"\x89\x0f\x0d\x019",
        b"\0\x04\0\0\0\0",
        b"\0\x04\0\0\0\x05",
        b"\0\x04\x7f\xff\xff\xff",
        b"\0\x03\0\0\0\0",
        b"\0\x01\0\0\0\0",
        b"\0\x08\0\0\0\x01",
        b"hello",
    ];
    let payload = prop_oneof![
        8 => select(payloads).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..40),
        1 => (0..3000_usize).prop_map(|length| vec![0; length]),
    ];
    let kind = prop_oneof![9 => 0..10_u8, 1 => any::<u8>()];
    let flags = prop_oneof![
        8 => select(&[0, 1, 4, 5, 8, 0x0d, 0x20, 0x25][..]),
        1 => any::<u8>()
    ];
    let stream =
        prop_oneof![9 => select(&[0, 1, 1, 1, 3, 3, 5, 7, 9, 11, 2][..]), 1 => any::<u32>()];
    (kind, flags, stream, payload).prop_map(|(kind, flags, stream, payload): (_, _, u32, _)| {
        let length = (payload.len() as u32).to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(&payload);
        bytes
    })
}

/// Pieces of field blocks, behind their lengths.
const BLOCKS: &[&[u8]] = &[
    b"\x06\x82\x86\x84\x41\x01a",
    b"\x07\x40\x01a\x05hello",
    b"\x01\xbe",
    b"\x01\xbf",
    b"\x03\x3f\xe1\x1f",
    b"\x01\x20",
    b"\x05\0\x01x\x01y",
    b"\x04\x41\x82\xf1\xe3",
    b"\x05\x83\x86\x84\x81\xbe",
    b"\x06\x0f\x0d\x0212\x82",
    b"\x07\x60\x03a=b\x90",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_frames_keep_the_contract(frames in vec(frame(), 0..60)) {
        contract::connection(&frames.concat());
    }

    #[test]
    fn any_bytes_keep_the_contract(bytes in vec(any::<u8>(), 0..200)) {
        contract::connection(&bytes);
        contract::hpack(&bytes);
    }

    #[test]
    fn any_field_blocks_keep_the_contract(
        pieces in vec(
            select(BLOCKS),
            0..30,
        )
    ) {
        contract::hpack(&pieces.concat());
    }
}

const CONFIG: Config = Config {
    streams_max: 5,
    stream_window: 65_535,
    connection_window: 70_000,
    field_bytes_max: 16 * 1024,
    field_count_max: 64,
    output_bytes: 20_000,
    extended_connect: false,
    resets_max: 100,
    idle_frames_max: 1000,
    continuations_max: 32,
    window_updates_max: 1000,
};

/// One side with the bytes that are on their way to it.
struct Side {
    connection: Connection,
    input: Vec<u8>,
    /// What a stream still has to send, and whether its end was taken.
    sending: BTreeMap<u32, (StreamKey, Vec<u8>)>,
    received: BTreeMap<u32, Vec<u8>>,
    ended: Vec<u32>,
    unconsumed: Vec<(StreamKey, usize)>,
}

impl Side {
    fn new(connection: Connection) -> Side {
        Side {
            connection,
            input: Vec::new(),
            sending: BTreeMap::new(),
            received: BTreeMap::new(),
            ended: Vec::new(),
            unconsumed: Vec::new(),
        }
    }

    fn receive(&mut self) -> Vec<StreamKey> {
        let mut opened = Vec::new();
        loop {
            let received = self.connection.receive(&self.input).expect("both keep to the RFC");
            let Some(event) = received.event else {
                self.input.drain(..received.consumed);
                return opened;
            };
            match event {
                Event::Request { stream, end, .. } => {
                    opened.push(stream);
                    self.received.insert(stream.id, Vec::new());
                    self.ended.extend(end.then_some(stream.id));
                }
                Event::Response { stream, end, .. } => {
                    self.received.insert(stream.id, Vec::new());
                    self.ended.extend(end.then_some(stream.id));
                }
                Event::Data { stream, range, end } => {
                    self.unconsumed.push((stream, range.len()));
                    let body = self.received.get_mut(&stream.id).expect("a head came first");
                    body.extend_from_slice(&self.input[range]);
                    self.ended.extend(end.then_some(stream.id));
                }
                Event::Settings => {}
                other => panic!("{other:?}"),
            }
            self.input.drain(..received.consumed);
        }
    }

    fn send(&mut self, key: StreamKey) {
        if let Some((_, body)) = self.sending.get_mut(&key.id) {
            let taken = self.connection.send_data(key, body, true);
            body.drain(..taken);
            if body.is_empty() {
                self.sending.remove(&key.id);
            }
        }
    }

    fn consume(&mut self) {
        for (key, count) in self.unconsumed.drain(..) {
            self.connection.consume(key, count);
        }
    }

    /// Moves up to `count` bytes over to the other side.
    fn flush(&mut self, count: usize, other: &mut Side) {
        let length = self.connection.output().len().min(count);
        other.input.extend_from_slice(&self.connection.output()[..length]);
        self.connection.advance(length);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// Requests whose bodies are sent back: all of them arrive, whole, whatever the windows and
    /// however the bytes are split.
    #[test]
    fn two_sides_understand_each_other(
        bodies in vec(prop_oneof![0..200_usize, 0..150_000_usize], 1..12),
        pieces in vec(prop_oneof![1 => 1..50_usize, 3 => 50..40_000_usize], 1..20),
        lazy in any::<bool>(),
    ) {
        let mut client = Side::new(Connection::client(CONFIG));
        let mut server = Side::new(Connection::server(CONFIG));
        let body = |number: usize| (0..bodies[number]).map(|at| (at * 7 + number) as u8).collect();
        let mut opened = 0;
        let mut done = 0;
        let mut finished = Vec::new();
        for turn in 0..20_000 {
            while opened < bodies.len() && client.connection.capacity() > 0 {
                let key = client.connection.request(false, false, false, |fields| {
                    fields.method(b"POST");
                    fields.scheme(b"http");
                    fields.authority(b"localhost");
                    fields.path(b"/");
                    fields.field(b"X-Number", opened.to_string().as_bytes());
                }).expect("there is capacity");
                client.sending.insert(key.id, (key, body(opened)));
                client.send(key);
                opened += 1;
            }
            // Now and then more than a few bytes, or it would take for ever.
            let piece = if turn % 20 == 0 { 40_000 } else { pieces[turn % pieces.len()] };
            client.flush(piece, &mut server);
            for key in server.receive() {
                server.connection.send_head(key, HeadKind::Final, |fields| fields.status(200));
                server.sending.insert(key.id, (key, Vec::new()));
            }
            // The body goes back once it is whole.
            for id in std::mem::take(&mut server.ended) {
                let body = server.received.remove(&id).unwrap_or_default();
                let (key, sending) = server.sending.get_mut(&id).expect("a stream");
                *sending = body;
                let key = *key;
                server.send(key);
                finished.push(key);
            }
            while let Some(key) = server.connection.next_writable() {
                server.send(key);
            }
            server.flush(piece, &mut client);
            prop_assert!(client.receive().is_empty());
            while let Some(key) = client.connection.next_writable() {
                client.send(key);
            }
            if !lazy || turn % 7 == 0 {
                client.consume();
                server.consume();
            }
            for id in std::mem::take(&mut client.ended) {
                let number = (id as usize - 1) / 2;
                let expected: Vec<u8> = body(number);
                prop_assert!(client.received.remove(&id) == Some(expected), "stream {id}");
                let key = key_of(&client, id);
                client.connection.forget(key);
                done += 1;
            }
            finished.retain(|key| {
                let over = !server.connection.is_open(*key);
                if over {
                    server.connection.forget(*key);
                }
                !over
            });
            if done == bodies.len() {
                return Ok(());
            }
        }
        prop_assert!(false, "{done} of {} done", bodies.len());
    }
}

/// The key of a stream that is held.
fn key_of(side: &Side, id: u32) -> StreamKey {
    let found = (0..64).map(|slot| StreamKey { id, slot });
    found.into_iter().find(|key| side.connection.is_held(*key)).expect("a stream")
}
