//! The contract of requests to endpoints: what is written as HTTP/1.1 arrives as HTTP/2, and what
//! comes back as HTTP/2 is read as HTTP/1.1. The endpoint is the other role of the state machine.

use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use http2::{Config, Connection, ErrorCode, Event, HeadKind, StreamKey};
use wire::http1::{ChunkStep, ChunkedDecoder, RequestHead};

use super::request::{Manner, Request};
use super::stream::Shared;
use crate::pump::TRAILER_LIMITS;

const CONFIG: Config = Config {
    streams_max: 10,
    stream_window: Config::WINDOW_MIN,
    connection_window: Config::WINDOW_MIN,
    field_bytes_max: 64 * 1024,
    field_count_max: 100,
    output_bytes: 64 * 1024,
    extended_connect: true,
    resets_max: 10,
    idle_frames_max: 100,
    continuations_max: 10,
    window_updates_max: 100,
};

/// Both ends of a connection, without sockets.
struct Pair {
    shared: Rc<Shared>,
    server: Connection,
}

/// What the endpoint saw of a request.
#[derive(Debug, Default)]
struct Seen {
    stream: Option<StreamKey>,
    fields: Vec<String>,
    body: Vec<u8>,
    trailers: Vec<String>,
    ended: bool,
    reset: Option<ErrorCode>,
}

fn lines(connection: &Connection) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    connection.fields().iter().map(|(n, v)| format!("{}={}", text(n), text(v))).collect()
}

impl Pair {
    fn new() -> Pair {
        let mut pair = Pair {
            shared: Shared::new(Connection::client(CONFIG)),
            server: Connection::server(CONFIG),
        };
        pair.carry_up(&mut Seen::default());
        pair.carry_down();
        pair
    }

    fn carry_up(&mut self, seen: &mut Seen) {
        let mut client = self.shared.connection.borrow_mut();
        let bytes = client.output().to_vec();
        client.advance(bytes.len());
        drop(client);
        let mut rest = &bytes[..];
        loop {
            let received = self.server.receive(rest).unwrap();
            let Some(event) = received.event else { return };
            match event {
                Event::Request { stream, end, .. } => {
                    seen.stream = Some(stream);
                    seen.fields = lines(&self.server);
                    seen.ended = end;
                }
                Event::Data { range, end, .. } => {
                    seen.body.extend_from_slice(&rest[range]);
                    seen.ended = end;
                }
                Event::Trailers { .. } => {
                    seen.trailers = lines(&self.server);
                    seen.ended = true;
                }
                Event::Reset { code, .. } => seen.reset = Some(code),
                _ => {}
            }
            rest = &rest[received.consumed..];
        }
    }

    fn carry_down(&mut self) {
        let bytes = self.server.output().to_vec();
        self.server.advance(bytes.len());
        let mut rest = &bytes[..];
        loop {
            let received = self.shared.connection.borrow_mut().receive(rest).unwrap();
            let Some(event) = received.event else { return };
            match event {
                Event::Response { stream, head, end } => self.shared.answered(stream, &head, end),
                Event::Data { stream, range, end } => self.shared.data(stream, &rest[range], end),
                Event::Trailers { stream } => self.shared.trailers(stream),
                Event::Reset { stream, code: ErrorCode::REFUSED_STREAM } => {
                    self.shared.refused(stream);
                }
                Event::Reset { stream, .. } => self.shared.broke(stream),
                Event::GoAway { last, .. } => self.shared.refused_above(last),
                _ => {}
            }
            rest = &rest[received.consumed..];
        }
    }

    /// Asks in HTTP/1.1; answers what the endpoint saw, and the stream.
    fn ask(&mut self, request: &str, grpc_web: bool) -> (StreamKey, Seen) {
        let mut writer = Request::new(Manner { scheme: b"http", grpc_web });
        let key = {
            let mut connection = self.shared.connection.borrow_mut();
            let mut parsed = RequestHead::default();
            let bytes = request.as_bytes();
            let (length, opened) = writer.head(bytes, &mut parsed, &mut connection).unwrap();
            let (key, asked) = opened.expect("there is room");
            self.shared.ask(key, asked, &Context::from_waker(Waker::noop()));
            let rest = &bytes[length..];
            assert_eq!(writer.body(rest, &mut connection, key).unwrap(), rest.len());
            key
        };
        let mut seen = Seen::default();
        self.carry_up(&mut seen);
        (key, seen)
    }

    /// All that can be read now; Err: it broke.
    fn read(&self, key: StreamKey) -> Result<String, String> {
        let (mut text, mut block) = (Vec::new(), [0; 100]);
        let cx = Context::from_waker(Waker::noop());
        loop {
            match self.shared.poll_read(key, &cx, &mut block, None) {
                Poll::Ready(Ok(count)) if count > 0 => text.extend_from_slice(&block[..count]),
                Poll::Ready(Err(e)) => return Err(e.to_string()),
                _ => return Ok(String::from_utf8_lossy(&text).into_owned()),
            }
        }
    }
}

#[test]
fn requests() {
    let head = "Host: a.test\r\nConnection: x\r\nX: y\r\n";
    let check = |request: &str, grpc_web, fields: &[&str], body: &str, trailers: &[&str]| {
        let mut pair = Pair::new();
        let (_, seen) = pair.ask(request, grpc_web);
        assert_eq!(seen.fields, fields, "{request}");
        assert_eq!(String::from_utf8_lossy(&seen.body), body, "{request}");
        assert_eq!(seen.trailers, trailers, "{request}");
        assert!(seen.ended || fields[0] == ":method=CONNECT", "{request}");
    };
    let start = |method: &'static str, path: &'static str| {
        [method, ":scheme=http", ":authority=a.test", path]
    };
    check(
        &format!("GET /a?b HTTP/1.1\r\n{head}\r\n"),
        false,
        &start(":method=GET", ":path=/a?b"),
        "",
        &[],
    );
    check(
        &format!("OPTIONS * HTTP/1.1\r\n{head}\r\n"),
        false,
        &start(":method=OPTIONS", ":path=*"),
        "",
        &[],
    );
    let post = start(":method=POST", ":path=/");
    check(
        &format!("POST / HTTP/1.1\r\n{head}Content-Length: 5\r\n\r\nhello"),
        false,
        &[&post[..], &["content-length=5"]].concat(),
        "hello",
        &[],
    );
    check(
        &format!(
            "POST / HTTP/1.1\r\n{head}TE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 7\r\n\r\n"
        ),
        false,
        &[&post[..], &["te=trailers"]].concat(),
        "hello",
        &["x-sum=7"],
    );
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    check(
        &format!("GET /chat HTTP/1.1\r\nHost: a.test\r\n{upgrade}\r\n"),
        false,
        &[&start(":method=CONNECT", ":path=/chat")[..], &[":protocol=websocket"]].concat(),
        "",
        &[],
    );
    // "hello" in base64, as gRPC-Web has it, and the same untranslated.
    let web = "Content-Type: application/grpc-web-text+proto\r\nContent-Length: 8\r\n\r\naGVsbG8=";
    check(
        &format!("POST / HTTP/1.1\r\n{head}{web}"),
        true,
        &[&post[..], &["content-type=application/grpc+proto", "te=trailers"]].concat(),
        "hello",
        &[],
    );
    check(
        &format!("POST / HTTP/1.1\r\n{head}{web}"),
        false,
        &[
            &post[..],
            &["content-type=application/grpc-web-text+proto", "content-length=8", "te=trailers"],
        ]
        .concat(),
        "aGVsbG8=",
        &[],
    );
}

#[test]
fn responses() {
    let check =
        |request: &str, grpc_web, answer: &dyn Fn(&mut Connection, StreamKey), expected: &str| {
            let mut pair = Pair::new();
            let (key, seen) = pair.ask(&format!("{request}\r\n\r\n"), grpc_web);
            answer(&mut pair.server, seen.stream.unwrap());
            pair.carry_down();
            assert_eq!(pair.read(key).unwrap(), expected, "{request}");
        };
    let get = "GET / HTTP/1.1\r\nHost: a";
    let ok = |connection: &mut Connection, key: StreamKey, more: &[(&str, &str)], kind| {
        connection.send_head(key, kind, |fields| {
            fields.status(200);
            more.iter().for_each(|(name, value)| fields.field(name.as_bytes(), value.as_bytes()));
        });
    };
    check(
        get,
        false,
        &|connection, key| {
            connection.send_head(key, HeadKind::Informational, |fields| fields.status(103));
            ok(connection, key, &[("content-length", "2")], HeadKind::Final);
            connection.send_data(key, b"hi", true);
        },
        "HTTP/1.1 103 \r\n\r\nHTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nhi",
    );
    check(
        get,
        false,
        &|connection, key| {
            ok(connection, key, &[], HeadKind::Final);
            connection.send_data(key, b"hi", false);
            connection.send_head(key, HeadKind::Trailers, |fields| fields.field(b"x", b"y"));
        },
        "HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx: y\r\n\r\n",
    );
    check(
        "HEAD / HTTP/1.1\r\nHost: a",
        false,
        &|connection, key| {
            ok(connection, key, &[("content-length", "5")], HeadKind::FinalWithoutBody);
        },
        "HTTP/1.1 200 \r\ncontent-length: 5\r\n\r\n",
    );
    let web = "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web-text\r\nContent-Length: 0";
    check(
        web,
        true,
        &|connection, key| {
            ok(connection, key, &[("content-type", "application/grpc")], HeadKind::Final);
            connection.send_data(key, b"hi", false);
            connection.send_head(key, HeadKind::Trailers, |fields| {
                fields.field(b"grpc-status", b"0");
            });
        },
        // The last frame: 0x80, 16 bytes, `grpc-status: 0`.
        "HTTP/1.1 200 \r\ncontent-type: application/grpc-web-text\r\ntransfer-encoding: chunked\r\n\r\n\
         4\r\naGk=\r\n1c\r\ngAAAABBncnBjLXN0YXR1czogMA0K\r\n0\r\n\r\n",
    );
    check(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        false,
        &|connection, key| {
            ok(connection, key, &[], HeadKind::Final);
            connection.send_data(key, b"hi", true);
        },
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhi",
    );
}

#[test]
fn what_was_certainly_not_processed() {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    let check = |answer: &dyn Fn(&mut Connection, StreamKey), is_refused: bool| {
        let mut pair = Pair::new();
        let (key, seen) = pair.ask(request, false);
        answer(&mut pair.server, seen.stream.unwrap());
        pair.carry_down();
        let _ = pair.read(key);
        assert!(pair.read(key).is_err());
        assert_eq!(pair.shared.is_refused(key), is_refused);
    };
    check(&|connection, key| connection.reset(key, ErrorCode::REFUSED_STREAM), true);
    check(&|connection, key| connection.reset(key, ErrorCode::CANCEL), false);
    // What began to be answered was processed, whatever is said then.
    check(
        &|connection, key| {
            connection.send_head(key, HeadKind::Final, |fields| fields.status(200));
            connection.reset(key, ErrorCode::REFUSED_STREAM);
        },
        false,
    );
}

#[test]
fn how_a_call_ended() {
    let request =
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n";
    for (in_head, expected) in [(true, Some(14)), (false, Some(5))] {
        let mut pair = Pair::new();
        let (key, seen) = pair.ask(request, false);
        let stream = seen.stream.unwrap();
        let kind = if in_head { HeadKind::FinalWithoutBody } else { HeadKind::Final };
        pair.server.send_head(stream, kind, |fields| {
            fields.status(200);
            if in_head {
                fields.field(b"grpc-status", b"14");
            }
        });
        if !in_head {
            pair.server.send_head(stream, HeadKind::Trailers, |fields| {
                fields.field(b"grpc-status", b"5");
            });
        }
        pair.carry_down();
        assert_eq!(pair.shared.grpc_status(key), expected);
    }
}

/// What is left out of an endpoint's trailers is what our own reader would refuse, and no more.
#[test]
fn trailers_are_those_that_are_read() {
    let reads = |text: &[u8]| {
        let (mut decoder, mut at) = (ChunkedDecoder::new(TRAILER_LIMITS), 0);
        while !decoder.is_done() {
            match decoder.step(&text[at..]) {
                Ok(ChunkStep::Frame(count)) => at += count,
                Ok(_) | Err(_) => return false,
            }
        }
        at == text.len()
    };
    // All names that the reader knows stand in these files as literals.
    let sources = [
        include_str!("../../../wire/src/http1/header.rs"),
        include_str!("../../../wire/src/http1/chunked.rs"),
    ];
    let names = sources.iter().flat_map(|text| text.split("b\"").skip(1));
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let names = names.filter_map(|rest| rest.split('"').next());
    let names: Vec<&str> =
        names.filter(|name| !name.is_empty() && name.bytes().all(is_name)).collect();
    assert!(names.contains(&"set-cookie") && names.contains(&"vary") && names.len() > 45);
    for name in names.into_iter().chain(["grpc-status", "x"]) {
        let message = format!("0\r\n{name}: y\r\n\r\n");
        assert_eq!(http2::http1::may_trail(name.as_bytes()), reads(message.as_bytes()), "{name}");
    }
    assert_eq!(http2::http1::TRAILERS_MAX, TRAILER_LIMITS.count);
    assert_eq!(http2::http1::TRAILER_BYTES_MAX, TRAILER_LIMITS.bytes);
}
