//! RFC 9113 section 5: states of streams, and what is not known.

use super::super::Case;
use super::super::Expect::{Closed, ConnectionError, Response, StreamError};
use super::super::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, WHOLE, WITH_PRIORITY, block,
    data, field, frame, get, last_data, post, request, reset, settings, window,
};
use super::{ANY, CLOSED, PROTOCOL, REFUSED, case, repeated};

pub(super) fn stream_states() -> Vec<Case> {
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

pub(super) fn extensions() -> Vec<Case> {
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
