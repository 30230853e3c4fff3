//! What must hold for any bytes whatever, one function per decoder. The fuzz targets call these,
//! and so do the tests beside this folder: over generated messages and over the fuzz corpus.
//!
//! Where a rule would be tested against the code that implements it, there is a second opinion:
//! `httparse` for heads, an encoder for bodies and PROXY headers.
#![allow(dead_code, reason = "each user of this file takes some of it")]

use model::{AgentReply, AgentStanding};
use wire::agent_reply;
use wire::client_hello;
use wire::dns::{self, Data, MESSAGE_BYTES_MAX, Message, Section, Writer};
use wire::grpc_health::{self, ServingStatus};
use wire::http1::{
    ChunkError, ChunkStep, ChunkedDecoder, Framing, HeadLimits, Header, HeaderKind, Progress,
    RequestError, RequestHead, RequestKind, ResponseError, ResponseHead, Span, TargetForm,
    TrailerLimits, Version, is_field_value, is_token, validate_host,
};
use wire::lars;
use wire::orca::{self, LoadReport};
use wire::proxy_protocol::{self, Decoded};
use wire::resp;

const ROOMY: HeadLimits = HeadLimits { bytes: 64 * 1024, count: 100, uri_bytes: 8 * 1024 };
const TIGHT: HeadLimits = HeadLimits { bytes: 80, count: 3, uri_bytes: 16 };

/// Prefixes up to here are all tried; behind it only some, or long inputs would take their square
/// and the fuzzer would get through few of them.
const PREFIX_BYTES: usize = 48;
const LONG_PREFIXES: usize = 24;

fn prefixes(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let step = data.len() / LONG_PREFIXES + 1;
    let all = 0..data.len().min(PREFIX_BYTES);
    all.chain((PREFIX_BYTES..data.len()).step_by(step)).map(|end| &data[..end])
}

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

pub(crate) fn proxy_protocol(data: &[u8]) {
    let whole = proxy_protocol::decode(data);
    let longer = [data, b"\r\nGET"].concat();
    match whole {
        Ok(Decoded::Complete { header, len }) => {
            assert!(len <= data.len() && len <= proxy_protocol::HEADER_BYTES_MAX);
            assert_eq!(proxy_protocol::decode(&longer), whole);
            check_encoded(header);
        }
        Ok(Decoded::Partial) => assert!(data.len() < proxy_protocol::HEADER_BYTES_MAX),
        Err(error) => {
            assert!(!error.reason().is_empty());
            assert_eq!(proxy_protocol::decode(&longer), whole);
        }
    }
    for prefix in prefixes(data) {
        let part = proxy_protocol::decode(prefix);
        match whole {
            Ok(Decoded::Complete { len, .. }) if prefix.len() >= len => assert_eq!(part, whole),
            Ok(_) => assert_eq!(part, Ok(Decoded::Partial)),
            Err(_) => assert!(part == Ok(Decoded::Partial) || part == whole),
        }
    }
    // Any two ends of one family are written and read back.
    if let Some((source, rest)) = data.split_first_chunk::<18>()
        && let Some((destination, _)) = rest.split_first_chunk::<18>()
    {
        for is_ipv4 in [true, false] {
            let (source, destination) = (end(source, is_ipv4), end(destination, is_ipv4));
            let addresses = proxy_protocol::Addresses { source, destination };
            check_encoded(proxy_protocol::Header::Proxied(addresses));
        }
    }
}

fn end(bytes: &[u8; 18], is_ipv4: bool) -> std::net::SocketAddr {
    let [a, b, c, d, .., high, low] = *bytes;
    let ipv6: [u8; 16] = *bytes.first_chunk().expect("18 are more than 16");
    let port = u16::from_be_bytes([high, low]);
    if is_ipv4 { ([a, b, c, d], port).into() } else { (ipv6, port).into() }
}

fn check_encoded(header: proxy_protocol::Header) {
    let mut binary = Vec::new();
    proxy_protocol::encode_v2(header, &mut binary);
    let len = binary.len();
    assert_eq!(proxy_protocol::decode(&binary), Ok(Decoded::Complete { header, len }));
    if let proxy_protocol::Header::Proxied(addresses) = header {
        let mut text = Vec::new();
        proxy_protocol::encode_v1(&addresses, &mut text);
        let len = text.len();
        assert_eq!(proxy_protocol::decode(&text), Ok(Decoded::Complete { header, len }));
    }
}

/// Only the first line counts, texts are printable, and amounts have their bounds.
pub(crate) fn agent_reply(data: &[u8]) {
    let reply = agent_reply::decode(data);
    if agent_reply::is_whole(data) {
        assert_eq!(reply, agent_reply::decode(&[data, b" down#later\n"].concat()));
    }
    let Some(AgentReply { standing, percent, utilization }) = reply else { return };
    assert!(percent.is_none_or(|percent| percent <= 25_600));
    if let Some(AgentStanding::Down(text)) = standing {
        // What is no UTF-8 is replaced by three bytes for each.
        assert!(!text.contains(char::is_control) && text.len() <= 3 * agent_reply::REPLY_BYTES_MAX);
    }
    assert!(utilization.is_none_or(|said| said.application.is_none()));
}

/// Whatever is said is an amount, and says the same in each of the forms.
/// What a health message says does not change with what is unknown of it, and no other framing of
/// it is taken.
pub(crate) fn grpc_health(data: &[u8]) {
    let said = grpc_health::decode(data);
    let Some(said) = said else { return };
    assert!(data.len() >= 5 && data[0] == 0, "compressed, or cut short");
    let message = &data[5..];
    let framed = |message: &[u8]| {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0][..], &length, message].concat()
    };
    assert_eq!(framed(message), data, "one message, and nothing behind it");
    // An unknown field in front; and the last status wins.
    let unknown = [b"\x7a\x02ab", message].concat();
    assert_eq!(grpc_health::decode(&framed(&unknown)), Some(said));
    let again = [message, b"\x08\x01"].concat();
    assert_eq!(grpc_health::decode(&framed(&again)), Some(ServingStatus::Serving));
    assert_eq!(grpc_health::decode(&[data, b"x"].concat()), None);
    assert_eq!(grpc_health::decode(&data[..data.len() - 1]), None);
    // A name comes back out of what is sent for it.
    if let Ok(name) = std::str::from_utf8(message) {
        let request = grpc_health::encode_request(name);
        assert_eq!(&request[1..5], u32::try_from(request.len() - 5).unwrap().to_be_bytes());
        assert!(request.ends_with(name.as_bytes()));
    }
}

pub(crate) fn orca(data: &[u8]) {
    let reports = [orca::decode(data), orca::decode_binary(data)];
    for report in reports.into_iter().flatten() {
        let LoadReport { cpu, memory, application, in_flight, latency_ms } = report;
        let unbounded = [cpu, application, in_flight, latency_ms].map(|value| (value, f64::MAX));
        for (value, most) in unbounded.into_iter().chain([(memory, 1.0)]) {
            assert!(value.is_none_or(|value| (0.0..=most).contains(&value)), "{report:?}");
        }
        let fields = [
            ("cpu_utilization", 1, cpu),
            ("mem_utilization", 2, memory),
            ("application_utilization", 9, application),
        ];
        let (mut text, mut json, mut message) = (Vec::new(), Vec::new(), Vec::new());
        for (name, number, value) in fields {
            if let Some(value) = value {
                text.push(format!("{name}={value:e}"));
                json.push(format!("\"{name}\" : {value:e}"));
                message.push(number << 3 | 1);
                message.extend_from_slice(&value.to_le_bytes());
            }
        }
        let mut metrics = Vec::new();
        for (name, value) in [("rif", in_flight), ("latency_ms", latency_ms)] {
            if let Some(value) = value {
                text.push(format!("named_metrics.{name}={value:e}"));
                metrics.push(format!("\"{name}\":{value:e}"));
                let len = name.len() as u8;
                message.extend_from_slice(&[8 << 3 | 2, len + 11, 0x0a, len]);
                message.extend_from_slice(name.as_bytes());
                message.push(0x11);
                message.extend_from_slice(&value.to_le_bytes());
            }
        }
        json.push(format!("\"namedMetrics\":{{{}}}", metrics.join(",")));
        let text = format!("TEXT {}", text.join(","));
        let json = format!("JSON {{{}}}", json.join(","));
        let binary = format!("BIN {}", base64(&message));
        for form in [text, json, binary] {
            assert_eq!(orca::decode(form.as_bytes()), Some(report), "{form}");
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let bits = part.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - part.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= part.len() { digit.into() } else { '=' });
        }
    }
    text
}

/// What is read of a frame is read again from its copy, and nothing behind the frame counts.
pub(crate) fn lars(data: &[u8]) {
    use lars::{BODY_BYTES_MAX, Decoded, HEADER_BYTES, Message, decode, encode};
    let whole = decode(data);
    let longer = [data, &[0xff; 9]].concat();
    match &whole {
        Ok(Decoded::Complete { message, len }) => {
            assert!(*len <= data.len() && *len <= HEADER_BYTES + BODY_BYTES_MAX);
            assert_eq!(decode(&longer), whole);
            let mut copy = Vec::new();
            encode(message, &mut copy);
            assert!(copy.len() <= HEADER_BYTES + BODY_BYTES_MAX);
            let is_cut = match message {
                Message::GetRouteResponse(_, hosts) | Message::ApiGetRouteResponse(_, hosts) => {
                    hosts.len() > lars::HOSTS_MAX
                }
                Message::ReportStatusRequest { results, .. } => results.len() > 1000,
                _ => false,
            };
            if !is_cut {
                let again = Decoded::Complete { message: message.clone(), len: copy.len() };
                assert_eq!(decode(&copy), Ok(again));
            }
        }
        Ok(Decoded::Partial) => assert!(data.len() < HEADER_BYTES + BODY_BYTES_MAX),
        Err(error) => {
            assert!(!error.reason().is_empty());
            assert_eq!(decode(&longer), whole);
        }
    }
    for prefix in prefixes(data) {
        let part = decode(prefix);
        match &whole {
            Ok(Decoded::Complete { len, .. }) if prefix.len() >= *len => assert_eq!(part, whole),
            Ok(_) => assert_eq!(part, Ok(Decoded::Partial)),
            Err(_) => assert!(part == Ok(Decoded::Partial) || part == whole),
        }
    }
}

pub(crate) fn client_hello(data: &[u8]) {
    use client_hello::{Decoded, decode};
    let whole = decode(data);
    let longer = [data, b"\x17\x03\x03"].concat();
    match &whole {
        Ok(Decoded::Complete(hello)) => {
            assert_eq!(decode(&longer), whole);
            assert!(hello.server_name.len() <= 255 && hello.server_name.is_ascii());
            for protocol in hello.protocols() {
                assert!(!protocol.is_empty() && hello.offers(protocol));
            }
            // However it is cut into records.
            for size in [1, 3, 1000] {
                let cut = cut_records(data, size);
                if cut.len() < client_hello::INPUT_BYTES_MAX {
                    assert_eq!(decode(&cut), whole);
                }
            }
        }
        Ok(Decoded::Partial) => assert!(data.len() < client_hello::INPUT_BYTES_MAX),
        Err(error) => {
            assert!(!error.reason().is_empty());
            assert_eq!(decode(&longer), whole);
        }
    }
    for prefix in prefixes(data) {
        let part = decode(prefix);
        match &whole {
            Ok(Decoded::Partial) => assert_eq!(part, Ok(Decoded::Partial)),
            _ => assert!(part == Ok(Decoded::Partial) || part == whole),
        }
    }
}

/// The content of all whole records, in records of `size` bytes.
fn cut_records(mut data: &[u8], size: usize) -> Vec<u8> {
    let mut content = Vec::new();
    while let Some((header, rest)) = data.split_at_checked(5) {
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        let Some((record, rest)) = rest.split_at_checked(length).filter(|_| header[0] == 22) else {
            // The message ended before; or it was complete within a part of this record.
            content.extend_from_slice(rest);
            break;
        };
        content.extend_from_slice(record);
        data = rest;
    }
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&[22, 3, 1][..], &length, part].concat()
    };
    content.chunks(size).flat_map(record).collect()
}

pub(crate) fn resp(data: &[u8]) {
    let whole = resp::decode(data);
    if let Ok(Some((reply, used))) = &whole {
        assert!(*used <= data.len());
        if let resp::Reply::Text(Some(text)) = reply {
            assert!(text.len() <= resp::TEXT_BYTES_MAX);
        }
        assert_eq!(resp::decode(&data[..*used]), whole, "it is all there");
    }
    if !matches!(whole, Ok(None)) {
        let longer = [data, b"+OK\r\n"].concat();
        assert_eq!(resp::decode(&longer), whole, "what follows counts for nothing");
    }
    for prefix in prefixes(data) {
        match resp::decode(prefix) {
            Ok(None) => {}
            part => assert_eq!(part, whole, "a part says another thing"),
        }
    }
}

/// A message of the DNS that is understood is understood the same when it is written anew.
pub(crate) fn dns_message(data: &[u8]) {
    let whole = dns::decode(data);
    for prefix in prefixes(data) {
        if let (Ok(part), Ok(whole)) = (dns::decode(prefix), &whole) {
            assert_eq!(part, *whole, "bytes after the last record count");
        }
    }
    let Ok(mut message) = whole else { return };
    assert!(message.edns.is_some() || message.header.code <= 15);
    let Message { header, question, answers, authorities, additionals, edns } = &mut message;
    let mut writer = Writer::new(*header, question.as_ref(), MESSAGE_BYTES_MAX);
    if let Some(edns) = *edns {
        writer.edns(edns);
    }
    let sections = [
        (Section::Answer, answers),
        (Section::Authority, authorities),
        (Section::Additional, additionals),
    ];
    for (section, records) in sections {
        records.retain(|record| !matches!(record.data, Data::Other(_)));
        if !records.iter().all(|record| writer.record(section, record)) {
            return; // names that were compressed far behind the first 16 KiB
        }
    }
    assert_eq!(dns::decode(&writer.finish()), Ok(message));
}
