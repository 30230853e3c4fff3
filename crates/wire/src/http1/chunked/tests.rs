use super::*;
use crate::http1::FieldError;

const LIMITS: TrailerLimits = TrailerLimits { bytes: 64, count: 3 };

/// Walks `input`, of which first `first` bytes are there and then `more` at a time. Returns the
/// payload, and how many bytes the message had if it ended.
fn walk(input: &[u8], first: usize, more: usize) -> Result<(Vec<u8>, Option<usize>), ChunkError> {
    let mut decoder = ChunkedDecoder::new(LIMITS);
    let (mut at, mut there) = (0, first.min(input.len()));
    let mut payload = Vec::new();
    loop {
        match decoder.step(&input[at..there])? {
            ChunkStep::Frame(length) => at += length,
            ChunkStep::Data(length) => {
                payload.extend_from_slice(&input[at..at + length]);
                at += length;
            }
            ChunkStep::End => {
                assert!(decoder.is_done());
                return Ok((payload, Some(at)));
            }
            ChunkStep::NeedMore if there == input.len() => return Ok((payload, None)),
            ChunkStep::NeedMore => there = (there + more).min(input.len()),
        }
    }
}

/// The same result however the bytes come in.
#[track_caller]
fn check(input: &[u8], expected: Result<(&[u8], Option<usize>), ChunkError>) {
    let expected = expected.map(|(payload, length)| (payload.to_vec(), length));
    let shown = input.escape_ascii();
    assert_eq!(walk(input, input.len(), 0), expected, "{shown}");
    for first in 0..input.len() {
        assert_eq!(walk(input, first, input.len()), expected, "{shown} split at {first}");
    }
    for more in 1..4 {
        assert_eq!(walk(input, 0, more), expected, "{shown} by {more}");
    }
}

fn check_whole(input: &[u8], payload: &[u8]) {
    check(input, Ok((payload, Some(input.len()))));
    // What follows belongs to the next message.
    let longer = [input, &b"\0GET / HTTP/1.1\r\n"[..]].concat();
    check(&longer, Ok((payload, Some(input.len()))));
}

#[test]
fn bodies() {
    check_whole(b"0\r\n\r\n", b"");
    check_whole(b"5\r\nhello\r\n0\r\n\r\n", b"hello");
    check_whole(b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc");
    check_whole(b"A\r\n0123456789\r\n00\r\n\r\n", b"0123456789");
    check_whole(b"0000000000000003\r\nabc\r\n0000000000000000\r\n\r\n", b"abc");
    check_whole(b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n");
    check_whole(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n");
    check_whole(b"1;a\r\nx\r\n0;b=c;d=\"e\\\" ;\t\x80\"\r\n\r\n", b"x");
    check_whole(b"0\r\nA: b\r\nX-Sum:\r\n\r\n", b"");
    check_whole(
        b"1\r\nx\r\n0\r\nGrpc-Status: 0\r\nServer-Timing: a;dur=1\r\nETag: x\r\n\r\n",
        b"x",
    );
}

#[test]
fn incomplete_bodies() {
    check(b"", Ok((b"", None)));
    check(b"5", Ok((b"", None)));
    check(b"5\r\nhel", Ok((b"hel", None)));
    check(b"5\r\nhello", Ok((b"hello", None)));
    check(b"5\r\nhello\r", Ok((b"hello", None)));
    check(b"5\r\nhello\r\n0\r\n", Ok((b"hello", None)));
    check(b"5\r\nhello\r\n0\r\nA: b\r\n", Ok((b"hello", None)));
    check(b"FFFFFFFFFFFFFFFF\r\nx", Ok((b"x", None)));
}

#[test]
fn malformed_bodies_are_refused() {
    use ChunkError::*;
    let cases: &[(&[u8], ChunkError)] = &[
        // RFC 9112 section 7.1: chunk-size = 1*HEXDIG
        (b"\r\n", InvalidSize),
        (b"\n", InvalidSize),
        (b" 5\r\nhello\r\n", InvalidSize),
        (b"5 \r\nhello\r\n", InvalidSize),
        (b"5\t\r\nhello\r\n", InvalidSize),
        (b"+5\r\nhello\r\n", InvalidSize),
        (b"-5\r\nhello\r\n", InvalidSize),
        (b"0x5\r\nhello\r\n", InvalidSize),
        (b"5h\r\nhello\r\n", InvalidSize),
        (b"g\r\n", InvalidSize),
        (b"5,5\r\nhello\r\n", InvalidSize),
        (b";a\r\n", InvalidSize),
        (b"5\0\r\nhello\r\n", InvalidSize),
        (b"1_0\r\n", InvalidSize),
        (b"\xef\xbc\x95\r\n", InvalidSize),
        // "recipients MUST anticipate potentially large hexadecimal numerals and prevent parsing
        // errors due to integer conversion overflows"
        (b"10000000000000000\r\n", SizeTooLong),
        (b"00000000000000005\r\nhello\r\n", SizeTooLong),
        (b"FFFFFFFFFFFFFFFFF\r\n", SizeTooLong),
        // Line ends are CRLF and nothing else.
        (b"5\nhello\r\n0\r\n\r\n", InvalidLineEnd),
        (b"5\rhello\r\n0\r\n\r\n", InvalidLineEnd),
        (b"5\r\rhello\r\n0\r\n\r\n", InvalidLineEnd),
        (b"5;a\nhello\r\n0\r\n\r\n", InvalidLineEnd),
        (b"5;a\rX\r\nhello\r\n0\r\n\r\n", InvalidLineEnd),
        (b"0\n\r\n", InvalidLineEnd),
        // Section 7.1.1: *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )
        (b"5;\r\nhello\r\n", InvalidExtension),
        (b"5;;a\r\nhello\r\n", InvalidExtension),
        (b"5; a\r\nhello\r\n", InvalidExtension),
        (b"5;a \r\nhello\r\n", InvalidExtension),
        (b"5;a=\r\nhello\r\n", InvalidExtension),
        (b"5;a=b=c\r\nhello\r\n", InvalidExtension),
        (b"5;=b\r\nhello\r\n", InvalidExtension),
        (b"5;a=\"b\r\nhello\r\n", InvalidExtension),
        (b"5;a=\"b\"c\r\nhello\r\n", InvalidExtension),
        (b"5;a=\"\n\"\r\nhello\r\n", InvalidExtension),
        (b"5;a=\"\\\n\"\r\nhello\r\n", InvalidExtension),
        (b"5;a\0\r\nhello\r\n", InvalidExtension),
        (b"5;a\x80\r\nhello\r\n", InvalidExtension),
    ];
    for (input, expected) in cases {
        check(input, Err(*expected));
    }
}

#[test]
fn data_ends_with_crlf() {
    for input in [
        &b"5\r\nhello0\r\n\r\n"[..],
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"5\r\nhelloo\r\n0\r\n\r\n",
        b"5\r\nhello\r\r\n",
    ] {
        check(input, Err(ChunkError::MissingDataEnd));
    }
}

#[test]
fn malformed_trailers_are_refused() {
    use ChunkError::*;
    let cases: &[(&[u8], ChunkError)] = &[
        (b"A: b\n\r\n", Trailer(FieldError::BareLf)),
        (b"A: b\r\n\n", Trailer(FieldError::BareLf)),
        (b"\n", Trailer(FieldError::BareLf)),
        (b"\rX", Trailer(FieldError::BareCr)),
        (b"A: b\rc\r\n\r\n", Trailer(FieldError::BareCr)),
        (b"A: b\r\n c\r\n\r\n", Trailer(FieldError::ObsoleteFold)),
        (b"A : b\r\n\r\n", Trailer(FieldError::WhitespaceBeforeColon)),
        (b"GET / HTTP/1.1\r\n\r\n", Trailer(FieldError::WhitespaceBeforeColon)),
        (b": b\r\n\r\n", Trailer(FieldError::EmptyName)),
        (b"A\r\n\r\n", Trailer(FieldError::MissingColon)),
        (b"A\0: b\r\n\r\n", Trailer(FieldError::InvalidName)),
        (b"A: \0\r\n\r\n", Trailer(FieldError::ControlInValue)),
        // RFC 9110 section 6.5.1: "Many fields cannot be processed outside the header section
        // because their evaluation is necessary prior to receiving the content, such as those that
        // describe message framing, routing, authentication, request modifiers, response controls,
        // or content format."
        (b"Content-Length: 5\r\n\r\n", ForbiddenTrailer),
        (b"TRANSFER-ENCODING: chunked\r\n\r\n", ForbiddenTrailer),
        (b"Host: a\r\n\r\n", ForbiddenTrailer),
        (b"Trailer: a\r\n\r\n", ForbiddenTrailer),
        (b"Connection: close\r\n\r\n", ForbiddenTrailer),
        (b"Upgrade: x\r\n\r\n", ForbiddenTrailer),
        (b"TE: trailers\r\n\r\n", ForbiddenTrailer),
        (b"Set-Cookie: a=b\r\n\r\n", ForbiddenTrailer),
        (b"Cookie: a=b\r\n\r\n", ForbiddenTrailer),
        (b"Authorization: a\r\n\r\n", ForbiddenTrailer),
        (b"Content-Type: a\r\n\r\n", ForbiddenTrailer),
        (b"Content-Encoding: a\r\n\r\n", ForbiddenTrailer),
        (b"X-Forwarded-For: ::1\r\n\r\n", ForbiddenTrailer),
        (b"If-None-Match: x\r\n\r\n", ForbiddenTrailer),
        (b"A:\r\nB:\r\nC:\r\nD:\r\n\r\n", TrailersTooLarge),
    ];
    for (trailers, expected) in cases {
        check(&[b"0\r\n", *trailers].concat(), Err(*expected));
    }
}

#[test]
fn trailers_are_bounded_in_bytes() {
    // 64 bytes with the CRLF of the line.
    let exact = format!("0\r\nA: {}\r\n\r\n", "b".repeat(59));
    check_whole(exact.as_bytes(), b"");
    for length in [60, 61, 62, 200] {
        let long = format!("0\r\nA: {}\r\n\r\n", "b".repeat(length));
        check(long.as_bytes(), Err(ChunkError::TrailersTooLarge));
    }
    let many = format!("0\r\nA: {}\r\nB: {}\r\n\r\n", "b".repeat(40), "b".repeat(40));
    check(many.as_bytes(), Err(ChunkError::TrailersTooLarge));
    let mut none = ChunkedDecoder::new(TrailerLimits { bytes: 0, count: 0 });
    assert_eq!(none.step(b"0\r\n\r\n"), Ok(ChunkStep::Frame(5)));
    assert!(none.is_done());
}

#[test]
fn extensions_are_bounded() {
    let exact = format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(EXTENSION_BYTES_MAX - 1));
    check_whole(exact.as_bytes(), b"x");
    let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(EXTENSION_BYTES_MAX));
    check(long.as_bytes(), Err(ChunkError::ExtensionsTooLong));
    let endless = format!("1;a=\"{}", "a".repeat(1000));
    check(endless.as_bytes(), Err(ChunkError::ExtensionsTooLong));
    // Many small ones cost as much as a large one.
    let chunk = format!("1;{}\r\nx\r\n", "a".repeat(127));
    let chunks = EXTENSION_BYTES_TOTAL_MAX / 128;
    let body = chunk.repeat(chunks) + "0\r\n\r\n";
    assert_eq!(walk(body.as_bytes(), body.len(), 0), Ok((vec![b'x'; chunks], Some(body.len()))));
    let body = chunk.repeat(chunks + 1);
    assert_eq!(walk(body.as_bytes(), body.len(), 0), Err(ChunkError::ExtensionsTooLong));
}

#[test]
fn framing_parts_come_together() {
    let mut decoder = ChunkedDecoder::new(LIMITS);
    let body = b"3\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\nNEXT";
    let mut steps = Vec::new();
    let mut at = 0;
    loop {
        let step = decoder.step(&body[at..]).unwrap();
        steps.push(step);
        match step {
            ChunkStep::Frame(length) | ChunkStep::Data(length) => at += length,
            _ => break,
        }
    }
    use ChunkStep::*;
    assert_eq!(steps, [Frame(3), Data(3), Frame(5), Data(2), Frame(13), End]);
}

#[test]
fn a_size_line_fits_its_bound() {
    let line = format!("0000000000000001;{}\r\n", "a".repeat(EXTENSION_BYTES_MAX - 1));
    assert_eq!(line.len(), ChunkedDecoder::LINE_BYTES_MAX);
}

#[test]
fn a_load_report_is_read_from_the_trailers() {
    for (trailers, cpu) in [
        ("", None),
        ("X: y\r\n", None),
        ("endpoint-load-metrics: nonsense\r\n", None),
        ("X: y\r\nEndpoint-Load-Metrics: TEXT cpu_utilization=0.5\r\n", Some(0.5)),
        ("endpoint-load-metrics-bin: CQAAAAAAAOA/\r\nX: y\r\n", Some(0.5)),
    ] {
        let text = format!("1\r\na\r\n0\r\n{trailers}\r\n");
        let mut decoder = ChunkedDecoder::new(TrailerLimits { bytes: 1024, count: 4 });
        let mut rest = text.as_bytes();
        while !decoder.is_done() {
            match decoder.step(rest) {
                Ok(ChunkStep::Frame(count) | ChunkStep::Data(count)) => rest = &rest[count..],
                other => panic!("{trailers}: {other:?}"),
            }
        }
        assert_eq!(decoder.load_report().and_then(|report| report.cpu), cpu, "{trailers}");
    }
}
