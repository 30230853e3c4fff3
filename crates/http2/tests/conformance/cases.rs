//! The list itself.

use super::Expect::{
    Acknowledged, Closed, ConnectionError, Data, Nothing, Pong, Response, Status, StreamError,
};
use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WHOLE, WINDOW_UPDATE, WITH_PRIORITY, block, data, field,
    frame, get, last_data, post, request, reset, settings, window,
};
use super::{
    COMPRESSION_ERROR, Case, ENHANCE_YOUR_CALM, Expect, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR,
    PROTOCOL_ERROR, REFUSED_STREAM, STREAM_CLOSED,
};

const PROTOCOL: &[u32] = &[PROTOCOL_ERROR];
const SIZE: &[u32] = &[FRAME_SIZE_ERROR];
const FLOW: &[u32] = &[FLOW_CONTROL_ERROR];
const CLOSED: &[u32] = &[STREAM_CLOSED];
const COMPRESSION: &[u32] = &[COMPRESSION_ERROR];
const CALM: &[u32] = &[ENHANCE_YOUR_CALM];
const REFUSED: &[u32] = &[REFUSED_STREAM];
/// RFC 9113 section 5.4.1: "an endpoint MAY choose to treat a stream error as a connection error".
const ANY: &[u32] = &[PROTOCOL_ERROR, FRAME_SIZE_ERROR, STREAM_CLOSED];

/// All cases.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(connection_preface());
    cases.extend(frame_format());
    cases.extend(field_compression());
    cases.extend(stream_states());
    cases.extend(extensions());
    cases.extend(data_and_headers());
    cases.extend(small_frames());
    cases.extend(settings_frames());
    cases.extend(windows());
    cases.extend(continuations());
    cases.extend(representations());
    cases.extend(well_formed());
    cases.extend(malformed());
    cases.extend(floods());
    cases
}

/// After a preface that is as it should be.
fn case(section: &'static str, name: &'static str, frames: &[Vec<u8>], expect: Expect) -> Case {
    let start = [PREFACE, &settings(&[])].concat();
    Case { section, name, send: [start, frames.concat()].concat(), expect }
}

fn raw(section: &'static str, name: &'static str, send: &[&[u8]], expect: Expect) -> Case {
    Case { section, name, send: send.concat(), expect }
}

fn repeated(count: u32, frame: impl Fn(u32) -> Vec<u8>) -> Vec<Vec<u8>> {
    (0..count).map(frame).collect()
}

fn connection_preface() -> Vec<Case> {
    let ok = settings(&[]);
    vec![
        raw("3.4", "the preface and an empty SETTINGS", &[PREFACE, &ok], Nothing),
        raw(
            "3.4",
            "another text instead of the preface",
            &[&[b'x'; 24]],
            ConnectionError(PROTOCOL),
        ),
        raw(
            "3.4",
            "a preface with one wrong byte",
            &[b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n", &ok],
            ConnectionError(PROTOCOL),
        ),
        raw("3.4", "no SETTINGS after it", &[PREFACE, &get(1)], ConnectionError(PROTOCOL)),
        raw(
            "3.4",
            "an acknowledgement instead of SETTINGS",
            &[PREFACE, &frame(SETTINGS, 1, 0, &[])],
            ConnectionError(PROTOCOL),
        ),
        raw("3.4", "a request before the server's SETTINGS", &[PREFACE, &ok, &get(1)], Response(1)),
    ]
}

fn frame_format() -> Vec<Case> {
    let block = request("GET", &[]);
    vec![
        case("4.1", "a frame of unknown type", &[frame(0xbe, 0xff, 0, b"x"), get(1)], Response(1)),
        case(
            "4.1",
            "flags that mean nothing",
            &[frame(PING, 0xfe, 0, b"12345678")],
            Pong(*b"12345678"),
        ),
        case(
            "4.1",
            "the reserved bit of a stream number",
            &[frame(HEADERS, WHOLE, 1 | 1 << 31, &block)],
            Response(1),
        ),
        case(
            "4.2",
            "DATA of 16,384 bytes",
            &[post(1, &[]), last_data(1, &[0; 16_384])],
            Response(1),
        ),
        case(
            "4.2",
            "DATA of 16,385 bytes",
            &[post(1, &[]), last_data(1, &[0; 16_385])],
            ConnectionError(SIZE),
        ),
        case(
            "4.2",
            "HEADERS of 16,385 bytes",
            &[frame(HEADERS, WHOLE, 1, &[0; 16_385])],
            ConnectionError(SIZE),
        ),
        case(
            "4.2",
            "an unknown frame of 16,385 bytes",
            &[frame(0xbe, 0, 0, &[0; 16_385])],
            ConnectionError(SIZE),
        ),
    ]
}

fn field_compression() -> Vec<Case> {
    let with = |bytes: &[u8]| frame(HEADERS, WHOLE, 1, &[&request("GET", &[]), bytes].concat());
    vec![
        case(
            "4.3",
            "an index that no table has",
            &[with(&[0xff, 0x7f])],
            ConnectionError(COMPRESSION),
        ),
        case(
            "4.3, RFC 7541 2.3.3",
            "a name of an index that no table has",
            &[with(&[0x7f, 0x7f, 1, b'x'])],
            ConnectionError(COMPRESSION),
        ),
        case(
            "4.3, RFC 7541 5.2",
            "padding of a Huffman string longer than seven bits",
            &[with(&[0, 1, b'x', 0x82, 0x1f, 0xff])],
            ConnectionError(COMPRESSION),
        ),
        case("4.3", "index 0", &[with(&[0x80])], ConnectionError(COMPRESSION)),
        case("4.3", "a literal that is cut", &[with(&[0, 5, b'a'])], ConnectionError(COMPRESSION)),
        case(
            "4.3",
            "an integer without end",
            &[with(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff])],
            ConnectionError(COMPRESSION),
        ),
        case(
            "4.3, RFC 7541 5.2",
            "wrong padding of a Huffman string",
            &[with(&[0, 1, b'x', 0x81, 0])],
            ConnectionError(COMPRESSION),
        ),
        case(
            "4.3, RFC 7541 5.2",
            "the end-of-string symbol within a string",
            &[with(&[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff])],
            ConnectionError(COMPRESSION),
        ),
        case(
            "4.3, RFC 7541 4.2",
            "a change of the table size after a field",
            &[with(&[0x20])],
            ConnectionError(COMPRESSION),
        ),
        case(
            "4.3, RFC 7541 6.3",
            "a table larger than allowed",
            &[frame(HEADERS, WHOLE, 1, &[&[0x3f, 0xe2, 0x1f], &request("GET", &[])[..]].concat())],
            ConnectionError(COMPRESSION),
        ),
        case(
            "4.3, RFC 7541 4.2",
            "two changes of the table size at the start",
            &[frame(
                HEADERS,
                WHOLE,
                1,
                &[&[0x20, 0x3f, 0xe1, 0x1f], &request("GET", &[])[..]].concat(),
            )],
            Response(1),
        ),
        case(
            "4.3",
            "fields of a refused request still change the table",
            &[
                // Malformed by its upper case, with `x: y` in the table.
                frame(
                    HEADERS,
                    WHOLE,
                    1,
                    &[&block(&[("X", "y")])[..], &[0x40, 1, b'x', 1, b'y']].concat(),
                ),
                frame(HEADERS, WHOLE, 3, &[&request("GET", &[])[..], &[0xbe]].concat()),
            ],
            Response(3),
        ),
    ]
}

fn stream_states() -> Vec<Case> {
    let trailers = frame(HEADERS, WHOLE, 1, &block(&[("a", "b")]));
    vec![
        case("5.1", "DATA on an idle stream", &[data(1, b"x")], ConnectionError(PROTOCOL)),
        case("5.1", "RST_STREAM on an idle stream", &[reset(1)], ConnectionError(PROTOCOL)),
        case("5.1", "WINDOW_UPDATE on an idle stream", &[window(1, 1)], ConnectionError(PROTOCOL)),
        case(
            "5.1",
            "CONTINUATION on an idle stream",
            &[frame(CONTINUATION, END_HEADERS, 1, &request("GET", &[]))],
            ConnectionError(PROTOCOL),
        ),
        case(
            "5.1",
            "PRIORITY on an idle stream",
            &[frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), get(3)],
            Response(3),
        ),
        case(
            "5.1",
            "DATA on a half-closed stream",
            &[settings(&[(4, 0)]), get(1), data(1, b"x")],
            StreamError(1, CLOSED),
        ),
        case(
            "5.1",
            "HEADERS on a half-closed stream",
            &[settings(&[(4, 0)]), get(1), trailers.clone()],
            StreamError(1, CLOSED),
        ),
        case(
            "5.1",
            "WINDOW_UPDATE on a half-closed stream",
            &[settings(&[(4, 0)]), get(1), window(1, 5)],
            Response(1),
        ),
        case(
            "5.1",
            "RST_STREAM on a half-closed stream",
            &[settings(&[(4, 0)]), get(1), reset(1), get(3), window(3, 5)],
            Response(3),
        ),
        case(
            "5.1",
            "PRIORITY on a half-closed stream",
            &[settings(&[(4, 0)]), get(1), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 7]), window(1, 5)],
            Response(1),
        ),
        case(
            "5.1",
            "CONTINUATION on a half-closed stream",
            &[settings(&[(4, 0)]), get(1), frame(CONTINUATION, END_HEADERS, 1, &field("a", "b"))],
            ConnectionError(ANY),
        ),
        case("5.1", "DATA on a closed stream", &[get(1), data(1, b"x")], Closed(1)),
        case(
            "5.1",
            "CONTINUATION on a closed stream",
            &[get(1), frame(CONTINUATION, END_HEADERS, 1, &field("a", "b"))],
            ConnectionError(ANY),
        ),
        case(
            "5.1",
            "CONTINUATION after RST_STREAM",
            &[post(1, &[]), reset(1), frame(CONTINUATION, END_HEADERS, 1, &field("a", "b"))],
            ConnectionError(ANY),
        ),
        case(
            "5.1",
            "DATA after RST_STREAM",
            &[post(1, &[]), reset(1), data(1, b"x")],
            ConnectionError(CLOSED),
        ),
        case(
            "5.1",
            "HEADERS after RST_STREAM",
            &[post(1, &[]), reset(1), trailers.clone()],
            ConnectionError(CLOSED),
        ),
        case("5.1", "RST_STREAM twice", &[post(1, &[]), reset(1), reset(1), get(3)], Response(3)),
        case(
            "5.1",
            "WINDOW_UPDATE after RST_STREAM",
            &[post(1, &[]), reset(1), window(1, 1), get(3)],
            Response(3),
        ),
        case(
            "5.1",
            "PRIORITY after RST_STREAM",
            &[post(1, &[]), reset(1), frame(PRIORITY, 0, 1, &[0; 5]), get(3)],
            Response(3),
        ),
        case(
            "5.1",
            "DATA that was under way when the server reset the stream",
            &[frame(HEADERS, END_HEADERS, 1, &block(&[("X", "y")])), data(1, b"x"), get(3)],
            Response(3),
        ),
        case("5.1.1", "an even stream number", &[get(2)], ConnectionError(PROTOCOL)),
        case("5.1.1", "a number below the last one", &[get(5), get(3)], ConnectionError(ANY)),
        case("5.1.1", "a number that was used", &[get(1), get(1)], Closed(1)),
        case("5.1.1", "numbers that are left out", &[get(1), get(101)], Response(101)),
        case("5.1.1", "the largest number", &[get(0x7fff_ffff)], Response(0x7fff_ffff)),
        case(
            "5.1.2",
            "more streams than allowed",
            &repeated(101, |number| post(2 * number + 1, &[])),
            StreamError(201, REFUSED),
        ),
        case(
            "5.3.2",
            "HEADERS with a priority",
            &[frame(
                HEADERS,
                WHOLE | WITH_PRIORITY,
                1,
                &[&[0x80, 0, 0, 0, 15], &request("GET", &[])[..]].concat(),
            )],
            Response(1),
        ),
        // RFC 7540 section 5.3.1 made these stream errors; RFC 9113 section 5.3.2 has no priorities
        // of streams any more, and what is said of them is read over.
        case(
            "5.3.2",
            "HEADERS that depend on their own stream",
            &[frame(
                HEADERS,
                WHOLE | WITH_PRIORITY,
                1,
                &[&[0, 0, 0, 1, 15], &request("GET", &[])[..]].concat(),
            )],
            Response(1),
        ),
        case(
            "5.3.2",
            "PRIORITY that depends on its own stream",
            &[frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 15]), get(1)],
            Response(1),
        ),
        case(
            "5.3.2",
            "PRIORITY of every kind, and a lower stream after it",
            &[
                frame(PRIORITY, 0, 5, &[0, 0, 0, 0, 0]),
                frame(PRIORITY, 0, 5, &[0, 0, 0, 0, 255]),
                frame(PRIORITY, 0, 3, &[0, 0, 0, 5, 15]),
                frame(PRIORITY, 0, 3, &[0x80, 0, 0, 5, 15]),
                get(1),
            ],
            Response(1),
        ),
        case(
            "5.4.1",
            "nothing is served after a connection error",
            &[frame(PING, 0, 1, &[0; 8]), get(1)],
            ConnectionError(PROTOCOL),
        ),
    ]
}

fn extensions() -> Vec<Case> {
    vec![
        case("5.5", "an unknown setting", &[settings(&[(0xfafa, 7)]), get(1)], Response(1)),
        case(
            "5.5",
            "an unknown frame on a stream",
            &[post(1, &[]), frame(0xfa, 0, 1, b"grease"), last_data(1, b"x")],
            Response(1),
        ),
        case(
            "5.5",
            "an unknown frame within a field block",
            &[
                frame(HEADERS, END_STREAM, 1, &request("GET", &[])),
                frame(0xfa, 0, 1, b""),
                frame(CONTINUATION, END_HEADERS, 1, &[]),
            ],
            ConnectionError(PROTOCOL),
        ),
        case(
            "RFC 9218 7.1",
            "PRIORITY_UPDATE and the priority field",
            &[
                frame(0x10, 0, 0, b"\0\0\0\x01u=1"),
                frame(HEADERS, WHOLE, 1, &request("GET", &[("priority", "u=1, i")])),
            ],
            Response(1),
        ),
    ]
}

fn data_and_headers() -> Vec<Case> {
    let padded =
        |padding: u8, text: &[u8], zeroes: usize| [&[padding], text, &vec![0; zeroes][..]].concat();
    let head = request("GET", &[]);
    vec![
        case("6.1", "DATA on stream 0", &[post(1, &[]), data(0, b"x")], ConnectionError(PROTOCOL)),
        case(
            "6.1",
            "DATA with padding",
            &[
                post(1, &[("content-length", "2")]),
                frame(DATA, PADDED | END_STREAM, 1, &padded(7, b"ab", 7)),
            ],
            Response(1),
        ),
        case(
            "6.1",
            "DATA of nothing but padding",
            &[post(1, &[]), frame(DATA, PADDED | END_STREAM, 1, &padded(255, b"", 255))],
            Response(1),
        ),
        case(
            "6.1",
            "DATA with padding as long as its payload",
            &[post(1, &[]), frame(DATA, PADDED, 1, &padded(3, b"", 2))],
            ConnectionError(PROTOCOL),
        ),
        case(
            "6.1",
            "padded DATA without a payload",
            &[post(1, &[]), frame(DATA, PADDED, 1, &[])],
            ConnectionError(SIZE),
        ),
        case("6.1", "a body in an empty frame", &[post(1, &[]), last_data(1, b"")], Response(1)),
        case(
            "6.2",
            "HEADERS on stream 0",
            &[frame(HEADERS, WHOLE, 0, &head)],
            ConnectionError(PROTOCOL),
        ),
        case(
            "6.2",
            "HEADERS with padding",
            &[frame(HEADERS, WHOLE | PADDED, 1, &padded(9, &head, 9))],
            Response(1),
        ),
        case(
            "6.2",
            "HEADERS with padding and a priority",
            &[frame(
                HEADERS,
                WHOLE | PADDED | WITH_PRIORITY,
                1,
                &padded(3, &[&[0, 0, 0, 0, 1], &head[..]].concat(), 3),
            )],
            Response(1),
        ),
        case(
            "6.2",
            "HEADERS with padding longer than the rest",
            &[frame(HEADERS, WHOLE | PADDED, 1, &padded(200, &head, 0))],
            ConnectionError(PROTOCOL),
        ),
        case(
            "6.2",
            "HEADERS too short for its priority",
            &[frame(HEADERS, WHOLE | WITH_PRIORITY, 1, &[0; 4])],
            ConnectionError(SIZE),
        ),
    ]
}

fn small_frames() -> Vec<Case> {
    vec![
        case(
            "6.3",
            "PRIORITY on stream 0",
            &[frame(PRIORITY, 0, 0, &[0; 5])],
            ConnectionError(PROTOCOL),
        ),
        case(
            "6.3",
            "PRIORITY of 4 bytes",
            &[post(1, &[]), frame(PRIORITY, 0, 1, &[0; 4])],
            StreamError(1, SIZE),
        ),
        case("6.4", "RST_STREAM on stream 0", &[reset(0)], ConnectionError(PROTOCOL)),
        case(
            "6.4",
            "RST_STREAM of 3 bytes",
            &[post(1, &[]), frame(RST_STREAM, 0, 1, &[0; 3])],
            ConnectionError(SIZE),
        ),
        case(
            "6.4",
            "RST_STREAM of 5 bytes",
            &[post(1, &[]), frame(RST_STREAM, 0, 1, &[0; 5])],
            ConnectionError(SIZE),
        ),
        case(
            "6.4, 7",
            "RST_STREAM with an unknown code",
            &[post(1, &[]), frame(RST_STREAM, 0, 1, &[0xff; 4]), get(3)],
            Response(3),
        ),
        case(
            "6.6, 8.4",
            "PUSH_PROMISE from a client",
            &[post(1, &[]), frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])],
            ConnectionError(PROTOCOL),
        ),
        case("6.7", "PING", &[frame(PING, 0, 0, b"ping me!")], Pong(*b"ping me!")),
        case("6.7", "PING of 6 bytes", &[frame(PING, 0, 0, &[0; 6])], ConnectionError(SIZE)),
        case("6.7", "PING of 9 bytes", &[frame(PING, 0, 0, &[0; 9])], ConnectionError(SIZE)),
        case("6.7", "PING on a stream", &[frame(PING, 0, 1, &[0; 8])], ConnectionError(PROTOCOL)),
        case("6.7", "an answer that nobody asked for", &[frame(PING, 1, 0, &[9; 8])], Nothing),
        case(
            "6.8",
            "GOAWAY on a stream",
            &[frame(GOAWAY, 0, 1, &[0; 8])],
            ConnectionError(PROTOCOL),
        ),
        case("6.8", "GOAWAY of 7 bytes", &[frame(GOAWAY, 0, 0, &[0; 7])], ConnectionError(SIZE)),
        case(
            "6.8, 7",
            "GOAWAY with an unknown code",
            &[frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 0xff]), get(1)],
            Response(1),
        ),
        case(
            "6.8",
            "what was asked before GOAWAY is answered",
            &[get(1), frame(GOAWAY, 0, 0, &[0; 8])],
            Response(1),
        ),
    ]
}

fn settings_frames() -> Vec<Case> {
    vec![
        case(
            "6.5",
            "an acknowledgement with a payload",
            &[frame(SETTINGS, 1, 0, &[0; 6])],
            ConnectionError(SIZE),
        ),
        case(
            "6.5",
            "SETTINGS on a stream",
            &[frame(SETTINGS, 0, 1, &[])],
            ConnectionError(PROTOCOL),
        ),
        case(
            "6.5",
            "SETTINGS of 5 bytes",
            &[frame(SETTINGS, 0, 0, &[0; 5])],
            ConnectionError(SIZE),
        ),
        case("6.5.2", "ENABLE_PUSH of 2", &[settings(&[(2, 2)])], ConnectionError(PROTOCOL)),
        case("6.5.2", "ENABLE_PUSH of 0", &[settings(&[(2, 0)]), get(1)], Response(1)),
        case(
            "6.5.2",
            "INITIAL_WINDOW_SIZE above 2^31-1",
            &[settings(&[(4, 1 << 31)])],
            ConnectionError(FLOW),
        ),
        case(
            "6.5.2",
            "MAX_FRAME_SIZE below 16,384",
            &[settings(&[(5, 16_383)])],
            ConnectionError(PROTOCOL),
        ),
        case(
            "6.5.2",
            "MAX_FRAME_SIZE above 2^24-1",
            &[settings(&[(5, 1 << 24)])],
            ConnectionError(PROTOCOL),
        ),
        case(
            "6.5.2",
            "MAX_FRAME_SIZE of 2^24-1",
            &[settings(&[(5, 16_777_215)]), get(1)],
            Response(1),
        ),
        case(
            "6.5.2",
            "HEADER_TABLE_SIZE of 0",
            &[settings(&[(1, 0)]), get(1), get(3)],
            Response(3),
        ),
        case("6.5.2", "MAX_CONCURRENT_STREAMS of 0", &[settings(&[(3, 0)]), get(1)], Response(1)),
        case(
            "6.5.3",
            "SETTINGS are acknowledged, each",
            &[settings(&[(3, 100)]), settings(&[])],
            Acknowledged(3),
        ),
        case(
            "6.5.3",
            "the last of two values counts",
            &[settings(&[(4, 0), (4, 2)]), get(1)],
            Data(1, 2),
        ),
        case(
            "RFC 8441 3",
            "ENABLE_CONNECT_PROTOCOL of 2",
            &[settings(&[(8, 2)])],
            ConnectionError(PROTOCOL),
        ),
        case(
            "RFC 8441 3",
            "ENABLE_CONNECT_PROTOCOL of 0 after 1",
            &[settings(&[(8, 1)]), settings(&[(8, 0)])],
            ConnectionError(PROTOCOL),
        ),
        case(
            "RFC 9218 2.1",
            "NO_RFC7540_PRIORITIES of 2",
            &[settings(&[(9, 2)])],
            ConnectionError(PROTOCOL),
        ),
    ]
}

fn windows() -> Vec<Case> {
    // More than the stream's window of 256 KiB, in frames of 16 KiB.
    let flood = repeated(17, |_| data(1, &[0; 16_384]));
    vec![
        case("6.9.1", "a window of 1", &[settings(&[(4, 1)]), get(1)], Data(1, 1)),
        case("6.9", "a window of 0", &[settings(&[(4, 0)]), get(1)], Data(1, 0)),
        case(
            "6.9",
            "WINDOW_UPDATE of 0 for a stream",
            &[post(1, &[]), window(1, 0)],
            StreamError(1, PROTOCOL),
        ),
        case("6.9", "WINDOW_UPDATE of 0", &[window(0, 0)], ConnectionError(PROTOCOL)),
        case(
            "6.9",
            "WINDOW_UPDATE of 3 bytes",
            &[frame(WINDOW_UPDATE, 0, 0, &[0; 3])],
            ConnectionError(SIZE),
        ),
        case(
            "6.9",
            "WINDOW_UPDATE of 5 bytes",
            &[frame(WINDOW_UPDATE, 0, 0, &[0; 5])],
            ConnectionError(SIZE),
        ),
        case(
            "6.9.1",
            "the window of the connection above 2^31-1",
            &[window(0, 0x7fff_ffff), window(0, 0x7fff_ffff)],
            ConnectionError(FLOW),
        ),
        case(
            "6.9.1",
            "the window of a stream above 2^31-1",
            &[post(1, &[]), window(1, 0x7fff_ffff)],
            StreamError(1, FLOW),
        ),
        case(
            "6.9.1",
            "more data than the window",
            &[vec![post(1, &[("x-hold", "1")])], flood].concat(),
            StreamError(1, FLOW),
        ),
        case(
            "6.9.2",
            "a window that is raised later",
            &[settings(&[(4, 0)]), get(1), settings(&[(4, 3)])],
            Data(1, 3),
        ),
        case(
            "6.9.2",
            "a window that becomes negative",
            &[settings(&[(4, 3)]), get(1), settings(&[(4, 0)]), window(1, 2)],
            Data(1, 3),
        ),
        case(
            "6.9.2",
            "a window that overflows by a setting",
            &[
                settings(&[(4, 0)]),
                get(1),
                window(1, 0x7fff_ffff),
                settings(&[(4, 1)]),
                post(3, &[]),
                window(3, 0x7fff_fffe),
                settings(&[(4, 2)]),
            ],
            ConnectionError(FLOW),
        ),
    ]
}

fn continuations() -> Vec<Case> {
    let head = request("GET", &[("x-a", "b")]);
    let (first, rest) = head.split_at(10);
    let start = || frame(HEADERS, END_STREAM, 1, first);
    vec![
        case(
            "6.10",
            "a field block in two frames",
            &[start(), frame(CONTINUATION, END_HEADERS, 1, rest)],
            Response(1),
        ),
        case(
            "6.10",
            "a field block in as many frames as bytes",
            &[
                vec![frame(HEADERS, END_STREAM, 1, &head[..head.len() - 20])],
                head[head.len() - 20..].iter().map(|b| frame(CONTINUATION, 0, 1, &[*b])).collect(),
                vec![frame(CONTINUATION, END_HEADERS, 1, &[])],
            ]
            .concat(),
            Response(1),
        ),
        case("6.10", "DATA in between", &[start(), data(1, b"x")], ConnectionError(PROTOCOL)),
        case(
            "6.10",
            "PRIORITY in between",
            &[start(), frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])],
            ConnectionError(PROTOCOL),
        ),
        case("6.10", "another HEADERS in between", &[start(), get(3)], ConnectionError(PROTOCOL)),
        case(
            "6.10",
            "PING in between",
            &[start(), frame(PING, 0, 0, &[0; 8])],
            ConnectionError(PROTOCOL),
        ),
        case("6.10", "SETTINGS in between", &[start(), settings(&[])], ConnectionError(PROTOCOL)),
        case("6.10", "RST_STREAM in between", &[start(), reset(1)], ConnectionError(PROTOCOL)),
        case(
            "6.10",
            "CONTINUATION of another stream",
            &[start(), frame(CONTINUATION, END_HEADERS, 3, rest)],
            ConnectionError(PROTOCOL),
        ),
        case(
            "6.10",
            "CONTINUATION on stream 0",
            &[start(), frame(CONTINUATION, END_HEADERS, 0, rest)],
            ConnectionError(PROTOCOL),
        ),
        case(
            "6.10",
            "CONTINUATION after the last CONTINUATION",
            &[post_in_two(), frame(CONTINUATION, END_HEADERS, 1, &field("a", "b"))],
            ConnectionError(PROTOCOL),
        ),
        case(
            "6.10",
            "CONTINUATION after DATA",
            &[post(1, &[]), data(1, b"x"), frame(CONTINUATION, END_HEADERS, 1, &field("a", "b"))],
            ConnectionError(PROTOCOL),
        ),
        case(
            "6.10",
            "CONTINUATION after the end of the block",
            &[post(1, &[]), frame(CONTINUATION, END_HEADERS, 1, &field("a", "b"))],
            ConnectionError(PROTOCOL),
        ),
    ]
}

/// A request in HEADERS and CONTINUATION, whose body is still to come.
fn post_in_two() -> Vec<u8> {
    let head = request("POST", &[]);
    let (first, rest) = head.split_at(10);
    [frame(HEADERS, 0, 1, first), frame(CONTINUATION, END_HEADERS, 1, rest)].concat()
}

/// Every way to write a field (RFC 7541 section 6), with the examples of its appendix C.
fn representations() -> Vec<Case> {
    const HUFFMAN: u8 = 0x80;
    let no_cache = [0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf];
    let key = [0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f];
    let value = [0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf];
    let plain = |text: &[u8]| [&[text.len() as u8], text].concat();
    let coded = |text: &[u8]| [&[HUFFMAN | text.len() as u8], text].concat();
    // The index of `cache-control` in the static table is 24.
    let (indexing, without, never) =
        ([0x58].as_slice(), [0x0f, 9].as_slice(), [0x1f, 9].as_slice());
    let check = |section, name, field: Vec<u8>| {
        let block = [&request("GET", &[])[..], &field].concat();
        case(section, name, &[frame(HEADERS, WHOLE, 1, &block)], Response(1))
    };
    let known = |start: &[u8], value: Vec<u8>| [start, &value].concat();
    let new = |start: u8, name: Vec<u8>, value: Vec<u8>| [vec![start], name, value].concat();
    let (one, two, three, four) =
        ("RFC 7541 6.1", "RFC 7541 6.2.1", "RFC 7541 6.2.2", "RFC 7541 6.2.3");
    // `accept-encoding: gzip, deflate`.
    vec![
        check(one, "an indexed field", vec![0x90]),
        check(two, "indexing, a known name", known(indexing, plain(b"no-cache"))),
        check(two, "indexing, a known name, Huffman", known(indexing, coded(&no_cache))),
        check(two, "indexing, a new name", new(0x40, plain(b"custom-key"), plain(b"value"))),
        check(two, "indexing, a new name, Huffman", new(0x40, coded(&key), coded(&value))),
        check(three, "no indexing, a known name", known(without, plain(b"no-cache"))),
        check(three, "no indexing, a known name, Huffman", known(without, coded(&no_cache))),
        check(three, "no indexing, a new name", new(0, plain(b"custom-key"), plain(b"value"))),
        check(three, "no indexing, a new name, Huffman", new(0, coded(&key), coded(&value))),
        check(four, "never indexed, a known name", known(never, plain(b"no-cache"))),
        check(four, "never indexed, a known name, Huffman", known(never, coded(&no_cache))),
        check(four, "never indexed, a new name", new(0x10, plain(b"custom-key"), plain(b"value"))),
        check(four, "never indexed, a new name, Huffman", new(0x10, coded(&key), coded(&value))),
    ]
}

fn well_formed() -> Vec<Case> {
    let whole = |block: &[u8]| frame(HEADERS, WHOLE, 1, block);
    vec![
        case("8.1", "a request without a body", &[get(1)], Response(1)),
        case("8.1", "a request with a body", &[post(1, &[]), last_data(1, b"abc")], Response(1)),
        case(
            "8.1",
            "a request with trailers",
            &[post(1, &[]), data(1, b"abc"), frame(HEADERS, WHOLE, 1, &block(&[("a", "b")]))],
            Response(1),
        ),
        case(
            "8.1",
            "trailers without a body",
            &[post(1, &[]), frame(HEADERS, WHOLE, 1, &block(&[("a", "b")]))],
            Response(1),
        ),
        case(
            "8.1",
            "three requests at once",
            &[post(1, &[]), get(3), get(5), last_data(1, b"x")],
            Response(1),
        ),
        case("8.1", "OPTIONS", &[whole(&request("OPTIONS", &[]))], Response(1)),
        case(
            "8.2.3",
            "cookies in several fields",
            &[whole(&request("GET", &[("cookie", "a=b"), ("cookie", "c=d")]))],
            Response(1),
        ),
        case(
            "8.2.2",
            "te: trailers",
            &[whole(&request("GET", &[("te", "trailers")]))],
            Response(1),
        ),
        case(
            "8.3.1",
            "Host instead of :authority",
            &[whole(&block(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/"),
                ("host", "localhost"),
            ]))],
            Response(1),
        ),
        case(
            "8.3.1",
            "Host that says the same as :authority",
            &[whole(&request("GET", &[("host", "localhost")]))],
            Response(1),
        ),
        case(
            "8.1.1",
            "a body as long as content-length says",
            &[post(1, &[("content-length", "3")]), data(1, b"ab"), last_data(1, b"c")],
            Response(1),
        ),
    ]
}

fn malformed() -> Vec<Case> {
    let check = |section, name, list: &[(&str, &str)]| {
        case(
            section,
            name,
            &[frame(HEADERS, WHOLE, 1, &block(list)), get(3)],
            StreamError(1, PROTOCOL),
        )
    };
    let with = |section, name, more: &[(&str, &str)]| {
        let head = frame(HEADERS, WHOLE, 1, &request("GET", more));
        case(section, name, &[head, get(3)], StreamError(1, PROTOCOL))
    };
    let (m, s, p, a) =
        ((":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"));
    vec![
        with("8.2.1", "a name in upper case", &[("X-A", "b")]),
        with("8.2.1", "a space in a name", &[("x a", "b")]),
        with("8.2.1", "a name that is empty", &[("", "b")]),
        with("8.2.1", "a colon in a name", &[("x:a", "b")]),
        with("8.2.1", "a line end in a name", &[("x\r\na", "b")]),
        with("8.2.1", "a line feed in a value", &[("x", "a\nb: c")]),
        with("8.2.1", "a carriage return in a value", &[("x", "a\rb")]),
        with("8.2.1", "NUL in a value", &[("x", "a\0b")]),
        with("8.2.1", "a value that starts with a space", &[("x", " a")]),
        with("8.2.1", "a value that ends with a tab", &[("x", "a\t")]),
        with("8.2.2", "connection", &[("connection", "close")]),
        with("8.2.2", "keep-alive", &[("keep-alive", "timeout=5")]),
        with("8.2.2", "proxy-connection", &[("proxy-connection", "close")]),
        with("8.2.2", "transfer-encoding", &[("transfer-encoding", "chunked")]),
        with("8.2.2", "upgrade", &[("upgrade", "h2c")]),
        with("8.2.2", "te with another value", &[("te", "trailers, gzip")]),
        with("8.3", "an unknown pseudo-header field", &[(":x", "y")]),
        with("8.3", ":status in a request", &[(":status", "200")]),
        with("8.3", "a pseudo-header field after a field", &[("x", "y"), (":path", "/b")]),
        with("8.3", ":path twice", &[(":path", "/")]),
        with("8.3", ":method twice", &[(":method", "GET")]),
        with("8.3", ":scheme twice", &[(":scheme", "http")]),
        check("8.3.1", "no :method", &[s, p, a]),
        check("8.3.1", "no :scheme", &[m, p, a]),
        check("8.3.1", "no :path", &[m, s, a]),
        check("8.3.1", "an empty :path", &[m, s, (":path", ""), a]),
        check("8.3.1", ":path without a slash", &[m, s, (":path", "a"), a]),
        check("8.3.1", "an asterisk without OPTIONS", &[m, s, (":path", "*"), a]),
        check("8.3.1", "a space in :path", &[m, s, (":path", "/ HTTP/1.1"), a]),
        check("8.3.1", "a line end in :path", &[m, s, (":path", "/\r\nx: y"), a]),
        check("8.3.1", "a fragment in :path", &[m, s, (":path", "/a#b"), a]),
        check("8.3.1", "a space in :method", &[(":method", "GET /x"), s, p, a]),
        check("8.3.1", "user information in :authority", &[m, s, p, (":authority", "u@a")]),
        with("8.3.1", "Host that differs from :authority", &[("host", "other")]),
        with("8.3.1", "Host twice", &[("host", "localhost"), ("host", "localhost")]),
        check("8.5", "CONNECT with :path", &[(":method", "CONNECT"), p, a]),
        check("8.5", "CONNECT without :authority", &[(":method", "CONNECT")]),
        check("RFC 8441 4", ":protocol without CONNECT", &[m, (":protocol", "websocket"), s, p, a]),
        with("8.1.1", "content-length without a body", &[("content-length", "3")]),
        with("8.1.1", "content-length that is no number", &[("content-length", "3 ")]),
        with("8.1.1", "content-length twice", &[("content-length", "0"), ("content-length", "0")]),
        case(
            "8.1.1",
            "a body longer than content-length says",
            &[post(1, &[("content-length", "1")]), last_data(1, b"ab")],
            StreamError(1, PROTOCOL),
        ),
        case(
            "8.1.1",
            "a body shorter than content-length says",
            &[post(1, &[("content-length", "9")]), data(1, b"ab"), last_data(1, b"c")],
            StreamError(1, PROTOCOL),
        ),
        case(
            "8.1.1",
            "trailers before content-length is reached",
            &[
                post(1, &[("content-length", "9")]),
                data(1, b"ab"),
                frame(HEADERS, WHOLE, 1, &block(&[("a", "b")])),
            ],
            StreamError(1, PROTOCOL),
        ),
        case(
            "8.1",
            "trailers that do not end the stream",
            &[post(1, &[]), frame(HEADERS, END_HEADERS, 1, &block(&[("a", "b")]))],
            StreamError(1, PROTOCOL),
        ),
        case(
            "8.1",
            "a pseudo-header field in trailers",
            &[post(1, &[]), frame(HEADERS, WHOLE, 1, &block(&[(":method", "GET")]))],
            StreamError(1, PROTOCOL),
        ),
    ]
}

fn floods() -> Vec<Case> {
    let large = "x".repeat(15_000);
    let fields: Vec<(String, &str)> =
        (0..5).map(|number| (format!("x-{number}"), &large[..])).collect();
    let list: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&name[..], *value)).collect();
    let oversized = request("GET", &list);
    let continued = |block: &[u8], pieces: usize| {
        let mut parts = block.chunks(pieces);
        let mut frames = vec![frame(HEADERS, END_STREAM, 1, parts.next().unwrap_or_default())];
        frames.extend(parts.map(|part| frame(CONTINUATION, 0, 1, part)));
        frames.push(frame(CONTINUATION, END_HEADERS, 1, &[]));
        frames
    };
    // 4,000 bytes in the table, asked for 16,000 times: 64 MB.
    let mut bomb = request("GET", &[]);
    bomb.extend_from_slice(&[0x40, 1, b'a', 0x7f, 0xa1, 0x1e]);
    bomb.extend_from_slice(&[b'x'; 4000]);
    bomb.extend_from_slice(&[0xbe; 16_000]);
    vec![
        case("10.5.1", "fields beyond the bound", &continued(&oversized, 16_384), Status(1, 431)),
        case(
            "10.5.1",
            "the connection goes on after such fields",
            &[continued(&oversized, 16_384), vec![get(3)]].concat(),
            Response(3),
        ),
        case("10.5.1", "a bomb of indexed fields", &continued(&bomb, 16_384), Status(1, 431)),
        case(
            "10.5, CVE-2024-27316",
            "CONTINUATION without end",
            &[
                vec![frame(HEADERS, END_STREAM, 1, &request("GET", &[]))],
                repeated(200, |_| frame(CONTINUATION, 0, 1, &field("a", "b"))),
            ]
            .concat(),
            ConnectionError(CALM),
        ),
        case(
            "10.5, CVE-2019-9518",
            "empty CONTINUATION frames without end",
            &[
                vec![frame(HEADERS, END_STREAM, 1, &request("GET", &[]))],
                repeated(200, |_| frame(CONTINUATION, 0, 1, &[])),
            ]
            .concat(),
            ConnectionError(CALM),
        ),
        case(
            "10.5, CVE-2023-44487",
            "requests that are cancelled at once",
            &repeated(2000, |number| [post(2 * number + 1, &[]), reset(2 * number + 1)].concat()),
            ConnectionError(CALM),
        ),
        case(
            "10.5, CVE-2025-8671",
            "requests that make the server reset them",
            &repeated(2000, |number| {
                [post(2 * number + 1, &[]), window(2 * number + 1, 0)].concat()
            }),
            ConnectionError(CALM),
        ),
        case(
            "10.5",
            "malformed requests without end",
            &repeated(2000, |number| frame(HEADERS, WHOLE, 2 * number + 1, &block(&[("X", "y")]))),
            ConnectionError(CALM),
        ),
        case(
            "10.5, CVE-2019-9512",
            "PING without end",
            &repeated(20_000, |_| frame(PING, 0, 0, &[0; 8])),
            ConnectionError(CALM),
        ),
        case(
            "10.5, CVE-2019-9515",
            "SETTINGS without end",
            &repeated(20_000, |_| settings(&[])),
            ConnectionError(CALM),
        ),
        case(
            "10.5",
            "PRIORITY without end",
            &repeated(20_000, |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
            ConnectionError(CALM),
        ),
        case(
            "10.5, CVE-2019-9518",
            "empty DATA frames without end",
            &[vec![post(1, &[])], repeated(20_000, |_| data(1, b""))].concat(),
            ConnectionError(CALM),
        ),
        case(
            "10.5",
            "unknown frames without end",
            &repeated(20_000, |_| frame(0xbe, 0, 0, &[])),
            ConnectionError(CALM),
        ),
        case(
            "10.5",
            "WINDOW_UPDATE without end",
            &repeated(20_000, |_| window(0, 1)),
            ConnectionError(CALM),
        ),
    ]
}
