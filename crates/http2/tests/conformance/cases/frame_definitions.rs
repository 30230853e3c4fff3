//! RFC 9113 section 6: each kind of frame.

use super::super::Case;
use super::super::Expect::{
    Acknowledged, ConnectionError, Data, Nothing, Pong, Response, StreamError,
};
use super::super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITY,
    PUSH_PROMISE, RST_STREAM, SETTINGS, WHOLE, WINDOW_UPDATE, WITH_PRIORITY, data, field, frame,
    get, last_data, post, request, reset, settings, window,
};
use super::{FLOW, PROTOCOL, SIZE, case, repeated};

pub(super) fn data_and_headers() -> Vec<Case> {
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

pub(super) fn small_frames() -> Vec<Case> {
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

pub(super) fn settings_frames() -> Vec<Case> {
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

pub(super) fn windows() -> Vec<Case> {
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

pub(super) fn continuations() -> Vec<Case> {
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
