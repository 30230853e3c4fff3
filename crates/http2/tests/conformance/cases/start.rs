//! RFC 9113 sections 3 and 4: how a connection starts, how frames look, and what fields are written as.

use super::super::Case;
use super::super::Expect::{ConnectionError, Nothing, Pong, Response};
use super::super::frames::{
    HEADERS, PING, PREFACE, SETTINGS, WHOLE, block, frame, get, last_data, post, request, settings,
};
use super::{COMPRESSION, PROTOCOL, SIZE, case, raw};

pub(super) fn connection_preface() -> Vec<Case> {
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

pub(super) fn frame_format() -> Vec<Case> {
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

pub(super) fn field_compression() -> Vec<Case> {
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

/// Every way to write a field (RFC 7541 section 6), with the examples of its appendix C.
pub(super) fn representations() -> Vec<Case> {
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
