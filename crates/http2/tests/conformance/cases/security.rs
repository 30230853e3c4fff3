//! RFC 9113 section 10.5: what costs the server more than the client.

use super::super::Case;
use super::super::Expect::{ConnectionError, Response, Status};
use super::super::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, WHOLE, block, data, field,
    frame, get, post, request, reset, settings, window,
};
use super::{CALM, case, repeated};

pub(super) fn floods() -> Vec<Case> {
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
