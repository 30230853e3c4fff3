//! What the list of RFC 9113 cases does not reach: clients, drains, budgets, sending.

use super::*;
use crate::frame::{FrameHead, HEAD_BYTES, flag, kind};

const CONFIG: Config = Config {
    streams_max: 3,
    stream_window: 65_535,
    connection_window: 65_535,
    field_bytes_max: 4096,
    field_count_max: 20,
    output_bytes: 10_000,
    extended_connect: true,
    resets_max: 4,
    idle_frames_max: 4,
    continuations_max: 32,
    window_updates_max: 4,
};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let head = FrameHead { length: payload.len(), kind, flags, stream };
    [&head.to_bytes(), payload].concat()
}

/// Takes the output: kind, flags, stream and length of each frame.
fn sent(connection: &mut Connection) -> Vec<(u8, u8, u32, usize)> {
    let output = connection.output().to_vec();
    connection.advance(output.len());
    let mut rest = output.strip_prefix(PREFACE).unwrap_or(&output);
    let mut frames = Vec::new();
    while let Some(head) = FrameHead::parse(rest) {
        frames.push((head.kind, head.flags, head.stream, head.length));
        rest = &rest[HEAD_BYTES + head.length..];
    }
    assert!(rest.is_empty());
    frames
}

fn feed(connection: &mut Connection, bytes: &[u8]) -> Result<Vec<Event>, Violation> {
    let mut rest = bytes;
    let mut events = Vec::new();
    loop {
        let received = connection.receive(rest)?;
        rest = &rest[received.consumed..];
        match received.event {
            Some(event) => events.push(event),
            None => return Ok(events),
        }
    }
}

fn server() -> Connection {
    let mut server = Connection::server(CONFIG);
    let start = [&PREFACE[..], &frame(kind::SETTINGS, 0, 0, &[])].concat();
    assert_eq!(feed(&mut server, &start), Ok(vec![Event::Settings]));
    sent(&mut server);
    server
}

fn client() -> Connection {
    let mut client = Connection::client(CONFIG);
    assert!(client.output().starts_with(PREFACE));
    assert_eq!(feed(&mut client, &frame(kind::SETTINGS, 0, 0, &[])), Ok(vec![Event::Settings]));
    sent(&mut client);
    client
}

fn get(stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_STREAM | flag::END_HEADERS, stream, b"\x82\x86\x84\x41\x01a")
}

fn post(stream: u32) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS, stream, b"\x83\x86\x84\x41\x01a")
}

fn ask(client: &mut Connection, end: bool) -> Option<StreamKey> {
    client.request(end, false, false, |fields| {
        fields.method(b"GET");
        fields.scheme(b"http");
        fields.path(b"/");
    })
}

fn opened(events: &[Event]) -> StreamKey {
    match events {
        [Event::Request { stream, .. }] => *stream,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_says_what_it_allows() {
    let mut server = Connection::server(CONFIG);
    assert_eq!(sent(&mut server), [(kind::SETTINGS, 0, 0, 30)]);
    let wide = Config { connection_window: 100_000, extended_connect: false, ..CONFIG };
    let mut server = Connection::server(wide);
    assert_eq!(sent(&mut server), [(kind::SETTINGS, 0, 0, 24), (kind::WINDOW_UPDATE, 0, 0, 4)]);
}

#[test]
fn head_body_and_end_are_three_frames_at_most() {
    let mut server = server();
    let stream = opened(&feed(&mut server, &get(1)).unwrap());
    server.send_head(stream, HeadKind::Final, |fields| fields.status(200));
    assert_eq!(server.send_data(stream, b"hello", true), 5);
    let expected = [(kind::HEADERS, flag::END_HEADERS, 1, 1), (kind::DATA, flag::END_STREAM, 1, 5)];
    assert_eq!(sent(&mut server), expected);
    assert!(!server.is_open(stream) && server.is_held(stream));
    server.forget(stream);
    assert!(!server.is_held(stream) && server.output().is_empty());
    // An end that comes later finds the frame that is still here.
    let stream = opened(&feed(&mut server, &get(3)).unwrap());
    server.send_head(stream, HeadKind::Final, |fields| fields.status(200));
    server.send_data(stream, b"hello", false);
    server.send_data(stream, b"", true);
    let expected = [(kind::HEADERS, flag::END_HEADERS, 3, 1), (kind::DATA, flag::END_STREAM, 3, 5)];
    assert_eq!(sent(&mut server), expected);
    server.forget(stream);
    let stream = opened(&feed(&mut server, &get(5)).unwrap());
    server.send_head(stream, HeadKind::Informational, |fields| fields.status(103));
    server.send_head(stream, HeadKind::Final, |fields| fields.status(200));
    server.send_head(stream, HeadKind::Trailers, |fields| fields.field(b"Grpc-Status", b"0"));
    let flags: Vec<u8> = sent(&mut server).iter().map(|frame| frame.1).collect();
    assert_eq!(flags, [4, 4, 5]);
}

#[test]
fn sending_stops_at_the_bound_and_goes_on_in_turns() {
    let mut server = server();
    let mut keys = Vec::new();
    for number in 0..3 {
        let stream = opened(&feed(&mut server, &get(2 * number + 1)).unwrap());
        server.send_head(stream, HeadKind::Final, |fields| fields.status(200));
        keys.push(stream);
    }
    let body = vec![0; 50_000];
    let taken = server.send_data(keys[0], &body, true);
    assert!((9_000..10_000).contains(&taken), "{taken}");
    assert_eq!(server.send_data(keys[1], &body, true), 0);
    assert_eq!(server.send_data(keys[2], &body, true), 0);
    assert!(server.is_congested() && !server.poll_data_room(keys[1]));
    assert_eq!(server.next_writable(), None);
    let mut order = Vec::new();
    for _ in 0..5 {
        sent(&mut server);
        let key = server.next_writable().unwrap();
        order.push(key.id);
        assert!(server.send_data(key, &body, true) > 0);
        assert_eq!(server.next_writable(), None);
    }
    assert_eq!(order, [1, 3, 5, 1, 3]);
    // The window of the connection is next to stop it: all of them together.
    sent(&mut server);
    let key = server.next_writable().unwrap();
    assert!(server.send_data(key, &body, true) < 6_000);
    sent(&mut server);
    assert_eq!(server.next_writable(), None);
    feed(&mut server, &frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0x20, 0])).unwrap();
    assert!(server.next_writable().is_some());
}

#[test]
fn consumed_bytes_open_the_windows_again() {
    let mut server = server();
    let stream = opened(&feed(&mut server, &post(1)).unwrap());
    let piece = vec![0; 16_384];
    for _ in 0..2 {
        feed(&mut server, &frame(kind::DATA, 0, 1, &piece)).unwrap();
    }
    server.consume(stream, 20_000);
    assert_eq!(sent(&mut server), [], "not worth a frame yet");
    server.consume(stream, 1_000_000);
    assert_eq!(
        sent(&mut server),
        [(kind::WINDOW_UPDATE, 0, 1, 4), (kind::WINDOW_UPDATE, 0, 0, 4)],
        "no more than was received"
    );
    for _ in 0..2 {
        feed(&mut server, &frame(kind::DATA, 0, 1, &piece)).unwrap();
    }
    // What nobody took is given back to the connection.
    server.forget(stream);
    assert_eq!(sent(&mut server), [(kind::RST_STREAM, 0, 1, 4), (kind::WINDOW_UPDATE, 0, 0, 4)]);
    let late = frame(kind::DATA, 0, 1, &piece);
    assert_eq!(feed(&mut server, &late), Ok(vec![]), "was under way");
}

#[test]
fn a_drain_serves_what_was_opened_before_it_was_known() {
    let mut server = server();
    let first = opened(&feed(&mut server, &get(1)).unwrap());
    server.drain();
    server.drain();
    assert_eq!(sent(&mut server), [(kind::GOAWAY, 0, 0, 8), (kind::PING, 0, 0, 8)]);
    let second = opened(&feed(&mut server, &get(3)).unwrap());
    assert_eq!(feed(&mut server, &frame(kind::PING, flag::ACK, 0, &DRAIN_PING)), Ok(vec![]));
    assert_eq!(sent(&mut server), [(kind::GOAWAY, 0, 0, 8)]);
    let late = [post(5), frame(kind::DATA, flag::END_STREAM, 5, b"x")].concat();
    assert_eq!(feed(&mut server, &late), Ok(vec![]), "is not processed, and no error");
    for stream in [first, second] {
        assert!(!server.is_over());
        server.send_head(stream, HeadKind::FinalWithoutBody, |fields| fields.status(204));
        server.forget(stream);
    }
    assert!(server.is_over());
}

#[test]
fn what_is_not_forgotten_counts_against_the_streams() {
    let mut server = Connection::server(Config { resets_max: 100, ..CONFIG });
    let start = [&PREFACE[..], &frame(kind::SETTINGS, 0, 0, &[])].concat();
    feed(&mut server, &start).unwrap();
    let cancelled =
        |number: u32| [post(number), frame(kind::RST_STREAM, 0, number, &[0, 0, 0, 8])].concat();
    for number in [1, 3, 5, 7, 9, 11] {
        assert_eq!(feed(&mut server, &cancelled(number)).unwrap().len(), 2);
    }
    sent(&mut server);
    assert_eq!(server.open_count(), 0);
    assert_eq!(feed(&mut server, &post(13)), Ok(vec![]));
    assert_eq!(sent(&mut server), [(kind::RST_STREAM, 0, 13, 4)]);
}

#[test]
fn time_and_useful_requests_refill_budgets() {
    let cancel =
        |number: u32| [post(number), frame(kind::RST_STREAM, 0, number, &[0, 0, 0, 8])].concat();
    let mut server = server();
    let mut number = 1;
    let mut waste = |server: &mut Connection, count: usize| {
        (0..count).try_for_each(|_| {
            let events = feed(server, &cancel(number))?;
            number += 2;
            let Event::Reset { stream, .. } = events[1] else { panic!("{events:?}") };
            server.forget(stream);
            Ok::<(), Violation>(())
        })
    };
    assert_eq!(waste(&mut server, 4), Ok(()));
    server.refill();
    assert_eq!(waste(&mut server, 4), Ok(()));
    assert_eq!(waste(&mut server, 1), Err(Violation::ResetFlood));
    assert_eq!(server.receive(&[]), Err(Violation::ResetFlood));
    assert!(server.is_over());
    let last = sent(&mut server);
    assert_eq!(last.last().map(|frame| frame.0), Some(kind::GOAWAY));
}

#[test]
fn a_window_byte_by_byte_is_a_flood() {
    let mut server = server();
    feed(&mut server, &frame(kind::SETTINGS, 0, 0, b"\0\x04\0\0\0\0")).unwrap();
    let stream = opened(&feed(&mut server, &get(1)).unwrap());
    server.send_head(stream, HeadKind::Final, |fields| fields.status(200));
    let body = vec![0; 50_000];
    assert_eq!(server.send_data(stream, &body, true), 0);
    let mut result = Ok(vec![]);
    for _ in 0..5 {
        result = feed(&mut server, &frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]));
        if let Some(key) = server.next_writable() {
            assert_eq!(server.send_data(key, &body, true), 1);
        }
    }
    assert_eq!(result, Err(Violation::WindowUpdateFlood));
}

#[test]
fn a_client_asks_as_often_as_it_may() {
    let mut client = client();
    let keys: Vec<_> = (0..3).filter_map(|_| ask(&mut client, true)).collect();
    assert_eq!(keys.iter().map(|key| key.id).collect::<Vec<_>>(), [1, 3, 5]);
    assert_eq!((client.capacity(), ask(&mut client, true)), (0, None));
    feed(&mut client, &frame(kind::SETTINGS, 0, 0, b"\0\x03\0\0\0\x02")).unwrap();
    let ok = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, b"\x88");
    let events = feed(&mut client, &ok).unwrap();
    assert!(matches!(events[..], [Event::Response { stream, end: true, .. }] if stream == keys[0]));
    assert_eq!(client.capacity(), 0, "the peer allows two");
    // What it did not process can be asked elsewhere.
    let goaway = frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 0]);
    let events = feed(&mut client, &goaway).unwrap();
    assert_eq!(events, [Event::GoAway { last: 3, code: ErrorCode::NO_ERROR }]);
    assert!(client.is_open(keys[1]) && !client.is_open(keys[2]));
    assert_eq!(client.capacity(), 0);
    for key in keys {
        client.forget(key);
    }
    assert!(client.is_over());
}

#[test]
fn a_client_that_cancels_much_minds_no_late_frames() {
    let mut client = client();
    let cancelled: Vec<StreamKey> = (0..2 * super::RECENT_MAX)
        .map(|_| {
            let key = ask(&mut client, true).unwrap();
            client.forget(key);
            key
        })
        .collect();
    sent(&mut client);
    // Far more than may be idle, and longer ago than is remembered.
    for key in &cancelled {
        let late = [
            frame(kind::HEADERS, flag::END_HEADERS, key.id, b"\x88"),
            frame(kind::DATA, flag::END_STREAM, key.id, b"late"),
        ];
        assert_eq!(feed(&mut client, &late.concat()), Ok(vec![]));
    }
    assert!(client.accepts_requests() && ask(&mut client, true).is_some());
    // A server never sends on what nobody opened.
    let idle = frame(kind::DATA, 0, 9999, b"x");
    assert_eq!(feed(&mut client, &idle), Err(Violation::IdleStream));
}

#[test]
fn what_a_client_takes_for_malformed() {
    let headers = |flags: u8, block: &[u8]| frame(kind::HEADERS, flags | 4, 1, block);
    let check = |is_head: bool, frames: &[Vec<u8>], expected: Option<ErrorCode>| {
        let mut client = client();
        let key = client
            .request(true, is_head, false, |fields| fields.method(b"GET"))
            .expect("there is capacity");
        let events = feed(&mut client, &frames.concat()).unwrap();
        let reset = events.iter().find_map(|event| match event {
            Event::Reset { code, stream } if *stream == key => Some(*code),
            _ => None,
        });
        assert_eq!(reset, expected, "{frames:x?}");
    };
    let protocol = Some(ErrorCode::PROTOCOL_ERROR);
    let data = |flags: u8, bytes: &[u8]| frame(kind::DATA, flags, 1, bytes);
    check(false, &[headers(0, b"\x88"), data(1, b"x")], None);
    check(false, &[headers(0, b"\x08\x03103"), headers(0, b"\x88"), data(1, b"x")], None);
    check(false, &[headers(0, b"\x88"), data(0, b"x"), headers(1, b"\0\x01a\x01b")], None);
    check(true, &[headers(1, b"\x88\x0f\x0d\x015")], None);
    check(false, &[data(1, b"x")], protocol);
    check(false, &[headers(0, b"\x08\x03103"), data(1, b"x")], protocol);
    check(false, &[headers(1, b"\x08\x03103")], protocol);
    check(false, &[headers(0, b"\x08\x03101")], protocol);
    check(false, &[headers(0, b"\0\x01a\x01b")], protocol);
    check(false, &[headers(1, b"\x88\x0f\x0d\x015")], protocol);
    check(true, &[headers(0, b"\x88"), data(1, b"x")], protocol);
    check(false, &[headers(0, b"\x89"), data(1, b"x")], protocol);
    check(false, &[headers(0, b"\x88"), headers(0, b"\0\x01a\x01b")], protocol);
    let hints = vec![headers(0, b"\x08\x03103"); 17];
    check(false, &hints, protocol);
}

#[test]
fn what_ends_a_clients_connection() {
    let check = |frame: Vec<u8>, expected: Violation| {
        let mut client = client();
        ask(&mut client, true);
        assert_eq!(feed(&mut client, &frame), Err(expected));
    };
    let promise = frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, b"\0\0\0\x02\x82\x86\x84");
    check(promise, Violation::PushPromise);
    let push = frame(kind::SETTINGS, 0, 0, b"\0\x02\0\0\0\x01");
    check(push, Violation::InvalidSetting);
    check(frame(kind::HEADERS, 5, 2, b"\x88"), Violation::IdleStream);
    check(frame(kind::HEADERS, 5, 3, b"\x88"), Violation::IdleStream);
    check(frame(kind::DATA, 0, 5, b"x"), Violation::IdleStream);
    let mut early = Connection::client(CONFIG);
    assert_eq!(feed(&mut early, &get(1)), Err(Violation::SettingsExpected));
}

#[test]
fn tunnels_carry_bytes_both_ways() {
    let mut client = client();
    assert!(!client.has_extended_connect());
    feed(&mut client, &frame(kind::SETTINGS, 0, 0, b"\0\x08\0\0\0\x01")).unwrap();
    assert!(client.has_extended_connect());
    let mut server = server();
    let key = client
        .request(false, false, true, |fields| {
            fields.method(b"CONNECT");
            fields.field(b":protocol", b"websocket");
            fields.scheme(b"http");
            fields.path(b"/chat");
            fields.authority(b"a");
        })
        .unwrap();
    let output = client.output().to_vec();
    client.advance(output.len());
    // The acknowledgement of the settings comes first.
    let events = feed(&mut server, &output).unwrap();
    let [Event::Request { stream, head, end: false }] = events[..] else { panic!("{events:?}") };
    assert!(head.is_connect && head.protocol.is_some());
    server.send_head(stream, HeadKind::Final, |fields| fields.status(200));
    server.send_data(stream, b"hi", false);
    let output = server.output().to_vec();
    let events = feed(&mut client, &output).unwrap();
    assert!(
        matches!(&events[..], [Event::Response { .. }, Event::Data { stream, .. }] if *stream == key)
    );
}

/// RFC 9113 section 5.2.1: only DATA frames are subject to flow control, so a client that takes no
/// more of one body still gets the heads of others.
#[test]
fn heads_pass_where_the_window_is_used_up() {
    let mut server = server();
    let keys: Vec<StreamKey> =
        [1, 3].iter().map(|id| opened(&feed(&mut server, &get(*id)).unwrap())).collect();
    server.send_head(keys[0], HeadKind::Final, |fields| fields.status(200));
    let body = vec![0; Config::WINDOW_MIN as usize];
    let mut taken = 0;
    while taken < body.len() {
        taken += server.send_data(keys[0], &body[taken..], false);
        assert!(taken == body.len() || server.is_congested());
        if taken < body.len() {
            sent(&mut server);
        }
    }
    // The window of the connection is used up, and what fills the output leaves no room either.
    while !server.is_congested() {
        server.ping();
    }
    assert!(!server.poll_room(keys[1]) && !server.poll_data_room(keys[1]));
    assert_eq!(server.next_writable(), None);
    sent(&mut server);
    assert_eq!(server.next_writable(), Some(keys[1]));
    assert_eq!(server.next_writable(), None, "data waits for the window");
    assert!(server.poll_room(keys[1]) && !server.poll_data_room(keys[1]));
    server.send_head(keys[1], HeadKind::Final, |fields| fields.status(204));
    assert_eq!(server.send_data(keys[1], b"x", false), 0);
    feed(&mut server, &frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 9])).unwrap();
    let ready: Vec<StreamKey> = std::iter::from_fn(|| server.next_writable()).collect();
    assert_eq!(ready, keys);
    assert!(server.poll_data_room(keys[1]));
}

/// A client whose upload was answered early, and which then has nothing else to ask, may have sent
/// more of it before it could know.
#[test]
fn what_was_under_way_to_a_reset_stream_is_dropped_after_a_rest_too() {
    let mut server = server();
    let stream = opened(&feed(&mut server, &post(1)).unwrap());
    server.send_head(stream, HeadKind::FinalWithoutBody, |fields| fields.status(413));
    server.reset(stream, ErrorCode::NO_ERROR);
    server.forget(stream);
    sent(&mut server);
    server.shrink();
    assert_eq!(feed(&mut server, &frame(kind::DATA, 0, 1, &[0; 100])), Ok(vec![]));
    opened(&feed(&mut server, &get(3)).unwrap());
}

/// Found by the fuzzer.
#[test]
fn streams_that_come_and_go_leave_nothing_in_a_queue_that_stands_still() {
    let mut server = server();
    // INITIAL_WINDOW_SIZE, so that it is the connection's window that is used up.
    let wide = frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0x0f, 0xff, 0xff]);
    assert!(feed(&mut server, &wide).is_ok());
    let first = opened(&feed(&mut server, &get(1)).unwrap());
    while server.send_data(first, &[0; 5000], false) == 5000 {
        sent(&mut server);
    }
    for id in 1..5000 {
        let key = opened(&feed(&mut server, &get(2 * id + 1)).unwrap());
        server.send_head(key, HeadKind::Final, |fields| fields.status(200));
        assert_eq!(server.send_data(key, b"body", true), 0);
        let reset = frame(kind::RST_STREAM, 0, key.id, &[0, 0, 0, 8]);
        assert!(feed(&mut server, &reset).is_ok());
        server.forget(key);
        sent(&mut server);
        assert_eq!(server.sound(), Ok(()));
    }
    assert!(server.queue.len() <= sound::QUEUE_MIN);
    // Who has waited since is still named once there is a window.
    assert!(feed(&mut server, &frame(kind::WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0])).is_ok());
    assert_eq!(server.next_writable(), Some(first));
    assert_eq!(server.next_writable(), None);
}

#[test]
fn an_idle_connection_is_small() {
    let mut server = server();
    let stream = opened(&feed(&mut server, &get(1)).unwrap());
    server.send_head(stream, HeadKind::FinalWithoutBody, |fields| fields.status(204));
    sent(&mut server);
    server.forget(stream);
    server.shrink();
    assert!(size_of::<Connection>() <= 768, "{}", size_of::<Connection>());
}
