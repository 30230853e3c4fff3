//! Heads and chunked bodies of HTTP/1.

use wire::http1::{
    ChunkError, ChunkStep, ChunkedDecoder, Framing, HeadLimits, Header, HeaderKind, Progress,
    RequestError, RequestHead, RequestKind, ResponseError, ResponseHead, Span, TargetForm,
    TrailerLimits, Version, is_field_value, is_token, validate_host,
};

use super::prefixes;

const ROOMY: HeadLimits = HeadLimits { bytes: 64 * 1024, count: 100, uri_bytes: 8 * 1024 };
const TIGHT: HeadLimits = HeadLimits { bytes: 80, count: 3, uri_bytes: 16 };

pub(crate) fn request_head(data: &[u8]) {
    for limits in [ROOMY, TIGHT] {
        let whole = parse_request(data, &limits);
        let longer = [data, b"\0\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
        match &whole {
            Ok(Some(head)) => {
                check_request(data, head, &limits);
                assert_eq!(parse_request(&longer, &limits), whole, "bytes after the head count");
            }
            Ok(None) => assert!(data.len() < limits.bytes),
            Err(error) => {
                assert!(matches!(error.status(), 400 | 414 | 431 | 501 | 505));
                assert!(!error.reason().is_empty());
                assert_eq!(parse_request(&longer, &limits), whole, "more bytes undo an error");
            }
        }
        // A head that has held another message is as good as a new one.
        let mut reused = RequestHead::default();
        let other = b"CONNECT a:1 HTTP/1.0\r\nHost: a:1\r\nConnection: x\r\n\r\n";
        assert_eq!(reused.parse(other, &ROOMY), Ok(Progress::Complete));
        match reused.parse(data, &limits) {
            Ok(Progress::Complete) => assert_eq!(Ok(Some(reused)), whole),
            Ok(Progress::Partial) => assert_eq!(Ok(None), whole),
            Err(error) => assert_eq!(Err(error), whole),
        }
        for prefix in prefixes(data) {
            let part = parse_request(prefix, &limits);
            match &whole {
                Ok(Some(head)) if prefix.len() >= head.len => assert_eq!(part, whole),
                Ok(_) => assert_eq!(part, Ok(None), "{}", prefix.escape_ascii()),
                Err(_) => assert!(part == Ok(None) || part == whole),
            }
        }
    }
}

fn parse_request(data: &[u8], limits: &HeadLimits) -> Result<Option<RequestHead>, RequestError> {
    let mut head = RequestHead::default();
    let progress = head.parse(data, limits)?;
    Ok((progress == Progress::Complete).then_some(head))
}

fn check_request(data: &[u8], head: &RequestHead, limits: &HeadLimits) {
    assert!(head.len <= data.len() && head.len <= limits.bytes);
    assert!(head.target.len() <= limits.uri_bytes);
    let start = if data.starts_with(b"\r\n") { 2 } else { 0 };
    check_lines(&data[start..head.len], &head.headers, limits);
    assert_eq!(head.method.start as usize, start);
    let spans = [head.method, head.target, head.path, head.query, head.scheme, head.authority];
    assert!(spans.iter().all(|span| span.end as usize <= head.len));
    assert!(is_token(head.method.of(data)));
    assert!(head.target.of(data).iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#'));

    let (target, path) = (head.target.of(data), head.path.of(data));
    let path_and_query = match head.has_query {
        true => [path, b"?", head.query.of(data)].concat(),
        false => path.to_vec(),
    };
    match head.form {
        TargetForm::Origin => assert_eq!(path_and_query, target),
        TargetForm::Asterisk => assert_eq!((path, target), (&b"*"[..], &b"*"[..])),
        TargetForm::Authority => assert!(path.is_empty() && head.authority == head.target),
        TargetForm::Absolute => {
            assert!(path.starts_with(b"/"));
            let authority = [head.scheme.of(data), b"://", head.authority.of(data)].concat();
            let rest = target.strip_prefix(&authority[..]).expect("the target has these parts");
            let bare = rest.is_empty() || rest.starts_with(b"?");
            assert_eq!(path_and_query, if bare { [b"/", rest].concat() } else { rest.to_vec() });
        }
    }
    let is_http11 = head.version == Version::Http11;
    assert!(if head.authority.is_empty() {
        !is_http11
    } else {
        validate_host(head.authority.of(data))
    });
    assert_eq!(
        count(&head.headers, HeaderKind::Host) == 1,
        is_http11 || head.first(HeaderKind::Host).is_some()
    );
    assert_ne!(head.framing, Framing::UntilClose);
    check_framing(data, &head.headers, head.framing, head.version);
    assert!(!head.expect_continue || !matches!(head.framing, Framing::None | Framing::Length(0)));
    assert!(is_http11 || (!head.upgrade && !head.expect_continue));

    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut second = httparse::Request::new(&mut fields);
    assert_eq!(second.parse(data), Ok(httparse::Status::Complete(head.len)));
    assert_eq!(second.method.map(str::as_bytes), Some(head.method.of(data)));
    assert_eq!(second.path.map(str::as_bytes), Some(target));
    assert_eq!(second.version, Some(u8::from(is_http11)));
    check_same_fields(data, &head.headers, second.headers);

    check_request_copy(data, head);
}

/// A copy made of the parts, as a proxy makes one, has the same meaning.
fn check_request_copy(data: &[u8], head: &RequestHead) {
    let version = if head.version == Version::Http11 { "HTTP/1.1" } else { "HTTP/1.0" };
    let line =
        [head.method.of(data), b" ", head.target.of(data), b" ", version.as_bytes()].concat();
    let copy = copy_of(&line, data, &head.headers);
    let limits = HeadLimits { bytes: 128 * 1024, ..ROOMY };
    let second = parse_request(&copy, &limits).expect("valid").expect("whole");
    assert_eq!(second.len, copy.len());
    for (a, b) in
        [(head.path, second.path), (head.query, second.query), (head.authority, second.authority)]
    {
        assert_eq!(a.of(data), b.of(&copy));
    }
    assert_eq!(
        (second.form, second.framing, second.keep_alive, second.upgrade, second.expect_continue),
        (head.form, head.framing, head.keep_alive, head.upgrade, head.expect_continue)
    );
}

pub(crate) fn response_head(data: &[u8]) {
    let flags = [(false, false), (true, false), (false, true), (true, true)];
    for (limits, (is_head, is_connect)) in
        [ROOMY, TIGHT].into_iter().flat_map(|limits| flags.map(|flags| (limits, flags)))
    {
        let request = RequestKind { is_head, is_connect };
        let whole = parse_response(data, &limits, request);
        let longer = [data, b"\0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"].concat();
        match &whole {
            Ok(Some(head)) => {
                check_response(data, head, &limits, request);
                assert_eq!(parse_response(&longer, &limits, request), whole);
            }
            Ok(None) => assert!(data.len() < limits.bytes),
            Err(error) => {
                assert!(!error.reason().is_empty());
                assert_eq!(parse_response(&longer, &limits, request), whole);
            }
        }
        for prefix in prefixes(data) {
            let part = parse_response(prefix, &limits, request);
            match &whole {
                Ok(Some(head)) if prefix.len() >= head.len => assert_eq!(part, whole),
                Ok(_) => assert_eq!(part, Ok(None), "{}", prefix.escape_ascii()),
                Err(_) => assert!(part == Ok(None) || part == whole),
            }
        }
    }
}

fn parse_response(
    data: &[u8],
    limits: &HeadLimits,
    request: RequestKind,
) -> Result<Option<ResponseHead>, ResponseError> {
    let mut head = ResponseHead::default();
    let progress = head.parse(data, limits, request)?;
    Ok((progress == Progress::Complete).then_some(head))
}

fn check_response(data: &[u8], head: &ResponseHead, limits: &HeadLimits, request: RequestKind) {
    assert!(head.len <= data.len() && head.len <= limits.bytes);
    check_lines(&data[..head.len], &head.headers, limits);
    assert!((100..1000).contains(&head.status));
    assert!(is_field_value(head.reason.of(data)));
    let is_success = (200..300).contains(&head.status);
    let has_no_body = request.is_head
        || (request.is_connect && is_success)
        || matches!(head.status, 100..200 | 204 | 304);
    assert_eq!(head.framing == Framing::None, has_no_body);
    if !has_no_body && head.framing != Framing::UntilClose {
        check_framing(data, &head.headers, head.framing, head.version);
    }
    assert!(!(head.keep_alive && (head.upgrade || head.framing == Framing::UntilClose)));
    assert_eq!(head.upgrade, head.status == 101 || (request.is_connect && is_success));
    assert!(!(head.is_informational() && head.upgrade));

    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut second = httparse::Response::new(&mut fields);
    assert_eq!(second.parse(data), Ok(httparse::Status::Complete(head.len)));
    assert_eq!(second.code, Some(head.status));
    check_same_fields(data, &head.headers, second.headers);

    let version = if head.version == Version::Http11 { "HTTP/1.1" } else { "HTTP/1.0" };
    let line = [format!("{version} {} ", head.status).as_bytes(), head.reason.of(data)].concat();
    let copy = copy_of(&line, data, &head.headers);
    let limits = HeadLimits { bytes: 128 * 1024, ..ROOMY };
    let second = parse_response(&copy, &limits, request).expect("valid").expect("whole");
    assert_eq!(
        (second.len, second.status, second.framing, second.keep_alive, second.upgrade),
        (copy.len(), head.status, head.framing, head.keep_alive, head.upgrade)
    );
}

/// The head is lines that end in CRLF, as many as there are fields and two, and no other CR or LF.
fn check_lines(head: &[u8], headers: &[Header], limits: &HeadLimits) {
    assert!(head.ends_with(b"\r\n\r\n"));
    assert!(headers.len() <= limits.count);
    for end in [b'\r', b'\n'] {
        assert_eq!(head.iter().filter(|byte| **byte == end).count(), headers.len() + 2);
    }
    let is_text = |byte: &u8| !byte.is_ascii_control() || matches!(byte, b'\r' | b'\n' | b'\t');
    assert!(head.iter().all(is_text));
}

fn count(headers: &[Header], kind: HeaderKind) -> usize {
    headers.iter().filter(|header| header.kind == kind).count()
}

/// There is one field that says what the framing is, and none that says otherwise.
fn check_framing(data: &[u8], headers: &[Header], framing: Framing, version: Version) {
    let lengths = count(headers, HeaderKind::ContentLength);
    let codings = count(headers, HeaderKind::TransferEncoding);
    match framing {
        Framing::None | Framing::UntilClose => assert_eq!((lengths, codings), (0, 0)),
        Framing::Chunked => {
            assert_eq!((lengths, codings, version), (0, 1, Version::Http11));
        }
        Framing::Length(length) => {
            assert_eq!((lengths, codings), (1, 0));
            let header = headers.iter().find(|header| header.kind == HeaderKind::ContentLength);
            let text =
                std::str::from_utf8(header.expect("counted").value.of(data)).expect("digits");
            assert!(text.bytes().all(|byte| byte.is_ascii_digit()));
            assert_eq!(text.parse(), Ok(length));
        }
    }
}

fn check_same_fields(data: &[u8], headers: &[Header], second: &[httparse::Header<'_>]) {
    assert_eq!(headers.len(), second.len());
    for (header, second) in headers.iter().zip(second) {
        let (name, value) = (header.name.of(data), header.value.of(data));
        assert_eq!(header.kind, HeaderKind::of(name));
        assert!(is_token(name) && is_field_value(value));
        assert_eq!((name, value), (second.name.as_bytes(), second.value));
    }
}

fn copy_of(line: &[u8], data: &[u8], headers: &[Header]) -> Vec<u8> {
    let mut copy = [line, b"\r\n"].concat();
    for header in headers {
        let parts: [Span; 2] = [header.name, header.value];
        copy.extend_from_slice(&[parts[0].of(data), b": ", parts[1].of(data), b"\r\n"].concat());
    }
    copy.extend_from_slice(b"\r\n");
    copy
}

pub(crate) fn chunked(data: &[u8]) {
    const ROOMY: TrailerLimits = TrailerLimits { bytes: 4096, count: 20 };
    const TIGHT: TrailerLimits = TrailerLimits { bytes: 16, count: 1 };
    for limits in [ROOMY, TIGHT] {
        let whole = walk(data, limits, data.len());
        for window in [1, 2, 3, 7, 64] {
            assert_eq!(walk(data, limits, window), whole, "{window} bytes at a time");
        }
        if let Body { payload, end: Ok(Some(length)) } = &whole {
            // The bytes of the message are framing and payload, and what follows is not touched.
            assert!(payload.len() + 5 <= *length && *length <= data.len());
            assert!(data[..*length].ends_with(b"\r\n"));
            assert_eq!(walk(&data[..*length], limits, data.len()), whole);
            let short = walk(&data[..length - 1], limits, data.len());
            assert_eq!(short, Body { payload: payload.clone(), end: Ok(None) });
        }
    }
    // What an encoder makes of any payload, cut anywhere, is read back.
    let mut body = Vec::new();
    let mut rest = data;
    while let [size, ..] = rest {
        let (chunk, after) = rest.split_at(rest.len().min(usize::from(*size) + 1));
        body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(&[chunk, b"\r\n"].concat());
        rest = after;
    }
    body.extend_from_slice(b"0\r\nA: b\r\n\r\n");
    let expected = Body { payload: data.to_vec(), end: Ok(Some(body.len())) };
    assert_eq!(walk(&body, TIGHT, body.len()), expected);
    assert_eq!(walk(&body, TIGHT, 5), expected);
}

#[derive(Debug, PartialEq)]
struct Body {
    payload: Vec<u8>,
    /// The length of the message, if it ended.
    end: Result<Option<usize>, ChunkError>,
}

/// Walks a body of which `window` more bytes are there whenever the decoder asks.
fn walk(data: &[u8], limits: TrailerLimits, window: usize) -> Body {
    let mut decoder = ChunkedDecoder::new(limits);
    let (mut at, mut there) = (0, 0);
    let mut payload = Vec::new();
    let end = loop {
        match decoder.step(&data[at..there]) {
            Ok(ChunkStep::Frame(length)) => {
                assert!(0 < length && length <= there - at);
                at += length;
            }
            Ok(ChunkStep::Data(length)) => {
                assert!(0 < length && length <= there - at && !decoder.is_done());
                payload.extend_from_slice(&data[at..at + length]);
                at += length;
            }
            Ok(ChunkStep::End) => {
                assert!(decoder.is_done());
                break Ok(Some(at));
            }
            Ok(ChunkStep::NeedMore) => {
                let line_bytes_max = ChunkedDecoder::LINE_BYTES_MAX.max(limits.bytes + 2);
                assert!(there - at < line_bytes_max, "asks for more than a line");
                if there == data.len() {
                    break Ok(None);
                }
                there = (there + window).min(data.len());
            }
            Err(error) => {
                assert!(!error.reason().is_empty());
                break Err(error);
            }
        }
    };
    Body { payload, end }
}
