use super::*;
use ResponseError::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 4096, count: 10, uri_bytes: 0 };
const GET: RequestKind = RequestKind { is_head: false, is_connect: false };
const HEAD: RequestKind = RequestKind { is_head: true, is_connect: false };
const CONNECT: RequestKind = RequestKind { is_head: false, is_connect: true };

fn parse(input: &[u8], request: RequestKind) -> Result<(Progress, ResponseHead), ResponseError> {
    let mut head = ResponseHead::default();
    head.parse(input, &LIMITS, request).map(|progress| (progress, head))
}

#[track_caller]
fn complete(input: &str, request: RequestKind) -> ResponseHead {
    match parse(input.as_bytes(), request) {
        Ok((Progress::Complete, head)) => head,
        other => panic!("{input:?}: {other:?}"),
    }
}

#[test]
fn malformed_responses_are_refused() {
    let cases: &[(&[u8], ResponseError)] = &[
        // RFC 9112 section 4: status-line = HTTP-version SP status-code SP [ reason-phrase ]
        (b"\r\nHTTP/1.1 200 OK\r\n\r\n", InvalidVersion),
        (b" HTTP/1.1 200 OK\r\n\r\n", InvalidVersion),
        (b"http/1.1 200 OK\r\n\r\n", InvalidVersion),
        (b"ICY 200 OK\r\n\r\n", InvalidVersion),
        (b"HTTP/1.1\r\n\r\n", InvalidVersion),
        (b"HTTP/1.1\t200 OK\r\n\r\n", InvalidVersion),
        (b"HTTP/1.11 200 OK\r\n\r\n", InvalidVersion),
        (b"hello", InvalidVersion),
        (b"\x15\x03\x01\x00\x02\x02\x16", InvalidVersion),
        (b"HTTP/2.0 200 OK\r\n\r\n", UnsupportedVersion),
        (b"HTTP/0.9 200 OK\r\n\r\n", UnsupportedVersion),
        (b"HTTP/1.1  200 OK\r\n\r\n", InvalidStatus),
        (b"HTTP/1.1 20 OK\r\n\r\n", InvalidStatus),
        (b"HTTP/1.1 2000 OK\r\n\r\n", InvalidStatus),
        (b"HTTP/1.1 099 OK\r\n\r\n", InvalidStatus),
        (b"HTTP/1.1 +20 OK\r\n\r\n", InvalidStatus),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", InvalidStatus),
        (b"HTTP/1.1 200\tOK\r\n\r\n", InvalidStatus),
        (b"HTTP/1.1 \r\n\r\n", InvalidStatus),
        (b"HTTP/1.1 200 O\0K\r\n\r\n", ControlInReason),
        (b"HTTP/1.1 200 O\x7fK\r\n\r\n", ControlInReason),
        (b"HTTP/1.1 200 OK\n\r\n", InvalidLineEnd),
        (b"HTTP/1.1 200\n\r\n", InvalidLineEnd),
        (b"HTTP/1.1 200 OK\rX: y\r\n\r\n", InvalidLineEnd),
        (b"HTTP/1.1 200 OK\r\r\n\r\n", InvalidLineEnd),
        // The field section has the rules of requests.
        (b"HTTP/1.1 200 OK\r\nA: b\n\r\n", Field(FieldError::BareLf)),
        (b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", Field(FieldError::BareCr)),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Field(FieldError::ObsoleteFold)),
        (b"HTTP/1.1 200 OK\r\n A: b\r\n\r\n", Field(FieldError::ObsoleteFold)),
        (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", Field(FieldError::WhitespaceBeforeColon)),
        (b"HTTP/1.1 200 OK\r\n: b\r\n\r\n", Field(FieldError::EmptyName)),
        (b"HTTP/1.1 200 OK\r\nA\r\n\r\n", Field(FieldError::MissingColon)),
        (b"HTTP/1.1 200 OK\r\n(: b\r\n\r\n", Field(FieldError::InvalidName)),
        (b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", Field(FieldError::ControlInValue)),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            Field(FieldError::DuplicateContentLength),
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
            Field(FieldError::InvalidContentLength),
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", Field(FieldError::InvalidContentLength)),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            Field(FieldError::ContentLengthWithTransferEncoding),
        ),
        (
            b"HTTP/1.1 304 NM\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            Field(FieldError::ContentLengthWithTransferEncoding),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
            Field(FieldError::ChunkedNotFinal),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            Field(FieldError::UnsupportedTransferCoding),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
            Field(FieldError::ChunkedTwice),
        ),
        (
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            Field(FieldError::TransferEncodingInHttp10),
        ),
        (
            b"HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 1\r\n\r\n",
            Field(FieldError::ConnectionNamesEndToEndField),
        ),
        // RFC 9112 section 6.1: "A server MUST NOT send a Transfer-Encoding header field in any
        // response with a status code of 1xx (Informational) or 204 (No Content)."
        (b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n", ContentInInformational),
        (b"HTTP/1.1 103 Hints\r\nContent-Length: 5\r\n\r\n", ContentInInformational),
        (b"HTTP/1.1 101 Switching\r\n\r\n", SwitchingWithoutUpgrade),
        (b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\n\r\n", SwitchingWithoutUpgrade),
    ];
    for (input, expected) in cases {
        let shown = input.escape_ascii();
        assert_eq!(parse(input, GET).map(|_| ()), Err(*expected), "{shown}");
        for end in 0..input.len() {
            match parse(&input[..end], GET) {
                Ok((Progress::Partial, _)) => {}
                Err(error) => assert_eq!(error, *expected, "{shown} up to {end}"),
                Ok((Progress::Complete, _)) => panic!("{shown}: complete at {end}"),
            }
        }
    }
}

/// RFC 9112 section 6.3, rule by rule: framing and persistence.
#[test]
fn framing() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    let five = "Content-Length: 5\r\n";
    for (request, status, fields, framing, keep_alive) in [
        // Rule 1: "Any response to a HEAD request and any response with a 1xx (Informational), 204
        // (No Content), or 304 (Not Modified) status code is always terminated by the first empty
        // line after the header fields".
        (HEAD, "200", five, Framing::None, true),
        (HEAD, "200", chunked, Framing::None, true),
        (HEAD, "200", "", Framing::None, true),
        (GET, "304", five, Framing::None, true),
        (GET, "304", chunked, Framing::None, true),
        (GET, "204", "", Framing::None, true),
        (GET, "204", "Content-Length: 0\r\n", Framing::None, true),
        (GET, "204", five, Framing::None, false),
        (GET, "204", chunked, Framing::None, false),
        (GET, "100", "", Framing::None, true),
        (GET, "103", "Link: </a>\r\nContent-Length: 0\r\n", Framing::None, true),
        // Rule 2: "Any 2xx (Successful) response to a CONNECT request implies that the connection
        // will become a tunnel".
        (CONNECT, "200", "", Framing::None, false),
        (CONNECT, "299", five, Framing::None, false),
        (CONNECT, "407", five, Framing::Length(5), true),
        // Rules 4, 6 and 8.
        (GET, "200", chunked, Framing::Chunked, true),
        (GET, "200", five, Framing::Length(5), true),
        (GET, "200", "Content-Length: 0\r\n", Framing::Length(0), true),
        (GET, "200", "", Framing::UntilClose, false),
        (GET, "999", "", Framing::UntilClose, false),
        (GET, "500", "Connection: close\r\nContent-Length: 1\r\n", Framing::Length(1), false),
    ] {
        let head = complete(&format!("HTTP/1.1 {status} X\r\n{fields}\r\n"), request);
        assert_eq!(head.framing, framing, "{request:?} {status} {fields:?}");
        assert_eq!(head.keep_alive, keep_alive, "{request:?} {status} {fields:?}");
    }
}

#[test]
fn http10_persists_only_if_it_says_so() {
    for (fields, keep_alive) in [
        ("Content-Length: 5\r\n", false),
        ("Content-Length: 5\r\nConnection: keep-alive\r\n", true),
        ("Connection: keep-alive\r\n", false),
    ] {
        let head = complete(&format!("HTTP/1.0 200 OK\r\n{fields}\r\n"), GET);
        assert_eq!(head.keep_alive, keep_alive, "{fields:?}");
    }
}

#[test]
fn tunnels() {
    let switching = "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let head = complete(switching, GET);
    assert!(head.upgrade && !head.is_informational() && !head.keep_alive);
    assert_eq!(head.framing, Framing::None);
    let zero = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n";
    assert!(complete(zero, GET).upgrade);
    assert!(complete("HTTP/1.1 200 X\r\n\r\n", CONNECT).upgrade);
    assert!(!complete("HTTP/1.1 403 X\r\n\r\n", CONNECT).upgrade);
    let offer = "HTTP/1.1 200 X\r\nUpgrade: h2c\r\n\r\n";
    assert!(!complete(offer, GET).upgrade);
}

#[test]
fn informational() {
    for (status, expected) in [("100", true), ("103", true), ("199", true), ("200", false)] {
        let head = complete(&format!("HTTP/1.1 {status} X\r\n\r\n"), GET);
        assert_eq!(head.is_informational(), expected, "{status}");
    }
}

#[test]
fn a_head_is_taken_apart() {
    for (line, status, reason) in [
        ("HTTP/1.1 200 OK", 200, "OK"),
        ("HTTP/1.0 404 Not  Found\there", 404, "Not  Found\there"),
        ("HTTP/1.1 200 ", 200, ""),
        ("HTTP/1.1 200", 200, ""),
        ("HTTP/1.1 999 caf\u{e9}", 999, "caf\u{e9}"),
    ] {
        let input = format!("{line}\r\nServer: x\r\nSet-Cookie: a=b\r\n\r\nbody");
        let head = complete(&input, GET);
        assert_eq!(head.len, input.len() - 4);
        assert_eq!(head.status, status);
        assert_eq!(head.reason.of(input.as_bytes()), reason.as_bytes());
        assert_eq!(head.headers.len(), 2);
        let cookie = head.first(HeaderKind::SetCookie).unwrap();
        assert_eq!(cookie.value.of(input.as_bytes()), b"a=b");
    }
}

#[test]
fn limits() {
    let parse = |input: &str, limits| ResponseHead::default().parse(input.as_bytes(), &limits, GET);
    let input = "HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
    let exact = HeadLimits { bytes: input.len(), count: 1, uri_bytes: 0 };
    assert_eq!(parse(input, exact), Ok(Progress::Complete));
    assert_eq!(parse(input, HeadLimits { bytes: input.len() - 1, ..exact }), Err(HeadTooLarge));
    assert_eq!(parse(input, HeadLimits { count: 0, ..exact }), Err(Field(FieldError::TooMany)));
}
