//! The bounds that a listener names for its HTTP/2 connections, and when connections end in order.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::client::Client;
use super::conformance::{Frame, GOAWAY, PING, frame, parse};
use crate::e2e::harness::{Client as Http1, Replica, Web, until};

const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const START: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A client that sends bytes and looks at frames.
struct Raw {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Raw {
    fn connect(address: SocketAddr) -> Raw {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(START).unwrap();
        Raw { stream, bytes: Vec::new() }
    }

    /// Reads until there is such a frame, or the end; what there was then.
    fn frames_until(&mut self, found: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        let mut buffer = [0; 4096];
        loop {
            let (frames, _) = parse(&self.bytes);
            if frames.iter().any(&found) {
                return frames;
            }
            match self.stream.read(&mut buffer) {
                Ok(count) if count > 0 => self.bytes.extend_from_slice(&buffer[..count]),
                _ => return frames,
            }
        }
    }

    /// Reads to the end of the connection.
    fn frames(&mut self) -> Vec<Frame> {
        self.frames_until(|_| false)
    }
}

fn setting(frames: &[Frame], identifier: u16) -> Option<u32> {
    let settings = frames.iter().find(|f| f.kind == SETTINGS && f.flags == 0)?;
    let of = |entry: &&[u8]| entry.starts_with(&identifier.to_be_bytes());
    let entry = settings.payload.chunks_exact(6).find(of)?;
    Some(u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]))
}

#[test]
fn what_is_configured_is_announced() {
    let replica = Replica::named("a");
    for (listener, expected, more) in [
        ("", [Some(100), Some(256 << 10), Some(32 << 10), Some(1)], (1 << 20) - 65_535),
        (
            "http2: { streams: 7, stream_window: 64KiB, connection_window: 128KiB }\n\
             limits: { header_bytes: 16KiB }",
            [Some(7), Some(64 << 10), Some(16 << 10), Some(1)],
            (128 << 10) - 65_535,
        ),
    ] {
        let web = Web::start(&[&replica], listener, "");
        let mut raw = Raw::connect(web.address);
        let frames = raw.frames_until(|f| f.kind == SETTINGS && f.flags == 1);
        let found = [3, 4, 6, 8].map(|identifier| setting(&frames, identifier));
        assert_eq!(found, expected, "{listener}");
        let update = frames.iter().find(|f| f.kind == WINDOW_UPDATE).unwrap();
        assert_eq!((update.stream, &update.payload[..]), (0, &u32::to_be_bytes(more)[..]));
    }
}

#[test]
fn streams_beyond_the_bound_are_refused() {
    let replica = Replica::raw(|connection| while connection.request().is_some() {});
    let web = Web::start(&[&replica], "http2: { streams: 2 }", "");
    let mut client = Client::connect(web.address);
    let keys = [(); 2].map(|()| client.request("GET", "/", true, &[]));
    until("both at the endpoint", || web.in_flight() == 2);
    assert_eq!(client.capacity(), 0);
    for key in keys {
        client.cancel(key);
    }
    until("both given up", || web.in_flight() == 0);
    assert_eq!(client.capacity(), 2);
}

/// Each flood ends with ENHANCE_YOUR_CALM at the bound that is configured.
#[test]
fn floods_end_at_their_bounds() {
    let replica = Replica::raw(|connection| while connection.request().is_some() {});
    let listener = "http2: { resets: 5, idle_frames: 100, continuations: 2, window_updates: 100 }";
    let web = Web::start(&[&replica], listener, "");
    let post = |stream: u32| {
        let block = b"\x83\x86\x84\x41\x09localhost";
        frame(1, 4, stream, block)
    };
    let reset = |stream: u32| frame(3, 0, stream, &[0, 0, 0, 8]);
    let cancelled = |count: u32| -> Vec<u8> {
        (0..count).flat_map(|n| [post(2 * n + 1), reset(2 * n + 1)].concat()).collect()
    };
    let ping = |count: usize| frame(PING, 0, 0, &[0; 8]).repeat(count);
    let update = |count: usize| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(count);
    let continued = |count: usize| {
        let start = frame(1, 1, 1, b"\x82\x86\x84\x41\x09localhost");
        let middle = frame(9, 0, 1, b"\0\x01a\x01b").repeat(count - 1);
        [start, middle, frame(9, 4, 1, b"\0\x01a\x01b")].concat()
    };
    for (what, within, beyond) in [
        ("resets", cancelled(5), cancelled(6)),
        ("pings", ping(99), ping(101)),
        ("settings", frame(SETTINGS, 0, 0, &[]).repeat(99), frame(SETTINGS, 0, 0, &[]).repeat(101)),
        ("empty data", [post(1), frame(0, 0, 1, &[]).repeat(99)].concat(), {
            [post(1), frame(0, 0, 1, &[]).repeat(101)].concat()
        }),
        ("window updates", update(100), update(101)),
        ("continuations", continued(2), continued(3)),
    ] {
        let last = frame(PING, 0, 0, b"the last");
        let answered = |f: &Frame| f.kind == PING && f.payload == b"the last";
        let mut raw = Raw::connect(web.address);
        raw.stream.write_all(&within).unwrap();
        if what != "pings" && what != "settings" {
            raw.stream.write_all(&last).unwrap();
            let frames = raw.frames_until(answered);
            assert!(!frames.iter().any(|f| f.kind == GOAWAY), "{what}: {frames:?}");
            assert!(frames.iter().any(answered), "{what}");
        }
        let mut raw = Raw::connect(web.address);
        // It may end before all is written.
        let _ = raw.stream.write_all(&beyond);
        let frames = raw.frames();
        let goaway = frames.iter().find(|f| f.kind == GOAWAY);
        let goaway = goaway.unwrap_or_else(|| panic!("{what}: no GOAWAY"));
        assert_eq!(goaway.payload[4..8], [0, 0, 0, 0xb], "{what}");
    }
    until("no request is left", || web.in_flight() == 0);
}

#[test]
fn without_http2_its_preface_is_a_request_of_another_version() {
    let replica = Replica::named("a");
    let web = Web::start(&[&replica], "http2: off", "");
    let mut raw = Raw::connect(web.address);
    raw.frames();
    assert!(raw.bytes.starts_with(b"HTTP/1.1 505 "), "{}", raw.bytes.escape_ascii());
    assert_eq!(Http1::get(web.address, "/").text(), "a");
}

/// The two steps of RFC 9113 section 6.8: first nothing is refused, then what had come is named.
#[test]
fn a_connection_ends_after_so_many_requests() {
    let replica = Replica::named("a");
    let web = Web::start(&[&replica], "limits: { requests_per_connection: 3 }", "");
    let mut client = Client::connect(web.address);
    for number in 1..=3 {
        let key = client.request("GET", "/", true, &[]);
        assert_eq!(client.answer(key).status, 200, "{number}");
    }
    client.turn_until(|client| client.told_to_go);
    assert!(client.is_ended());
    assert_eq!(client.last_streams, [(1 << 31) - 1, 5]);
    // The same of HTTP/1.1.
    let mut client = Http1::connect(web.address);
    for number in 1..=3 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let response = client.response().unwrap();
        let said = response.header("connection");
        assert_eq!(said, (number == 3).then_some("close"), "{number}");
    }
    assert!(client.is_closed());
}

#[test]
fn a_connection_ends_at_its_age_and_not_in_the_middle() {
    let replica = Replica::http(|seen| {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", seen.body.len());
        answer.push_str(&String::from_utf8_lossy(&seen.body));
        answer.into_bytes()
    });
    let web = Web::start(&[&replica], "timeouts: { connection_age: 1s }", "");
    let mut client = Client::connect(web.address);
    let key = client.request("POST", "/", false, &[]);
    client.data(key, b"be", false);
    client.turn_until(|client| client.told_to_go);
    client.data(key, b"gun", true);
    let answer = client.answer(key);
    assert_eq!((answer.status, &answer.body[..]), (200, &b"begun"[..]));
    assert!(client.is_ended());
    // One of HTTP/1.1 is told with a response.
    let mut client = Http1::connect(web.address);
    let mut count = 0;
    until("the last response", || {
        count += 1;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        client.response().unwrap().header("connection") == Some("close")
    });
    assert!(count > 1 && client.is_closed());
}

#[test]
fn a_client_that_is_gone_without_a_word_is_found_by_a_ping() {
    let replica = Replica::raw(|connection| while connection.request().is_some() {});
    let listener = "http2: { ping_interval: 300ms, ping_timeout: 5s }";
    let web = Web::start(&[&replica], listener, "");
    // One that answers stays, with a request that takes long.
    let mut alive = Client::connect(web.address);
    let key = alive.request("GET", "/", true, &[]);
    let mut gone = Raw::connect(web.address);
    gone.frames_until(|f| f.kind == PING);
    let (head, block) = (5, b"\x82\x86\x84\x41\x09localhost");
    gone.stream.write_all(&frame(1, head, 1, block)).unwrap();
    until("both at the endpoint", || {
        alive.read_for_a_moment();
        web.in_flight() == 2
    });
    until("the silent one given up", || {
        alive.read_for_a_moment();
        web.in_flight() == 1
    });
    assert!(alive.pings() > 0, "it was asked, and answered");
    alive.cancel(key);
    until("the other one given up", || web.in_flight() == 0);
}

/// Answers to our pings are no work: `keep_alive` is over in spite of them.
#[test]
fn pings_keep_nobody_for_ever() {
    let replica = Replica::named("a");
    let listener = "http2: { ping_interval: 100ms }\ntimeouts: { keep_alive: 1s }";
    let web = Web::start(&[&replica], listener, "");
    let mut client = Client::connect(web.address);
    let key = client.request("GET", "/", true, &[]);
    assert_eq!(client.answer(key).status, 200);
    assert!(client.is_ended());
    assert!(client.pings() > 0);
}
