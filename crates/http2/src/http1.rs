//! Messages as HTTP/1.1 writes them (RFC 9113 section 8, RFC 9112).
//!
//! The proxy has one path for requests of all versions, and that path reads HTTP/1.1. What is
//! written here was checked by [`RequestHead::check`] or [`ResponseHead::check`], so no part of it
//! can end a line, a head or a body before its time: a request that is smuggled into HTTP/1.1
//! behind an HTTP/2 one needs such a part.

use crate::Fields;
use crate::message::{RequestHead, ResponseHead};

/// What readers of HTTP/1.1 take behind a body: so many fields, and so many bytes.
pub const TRAILERS_MAX: usize = 64;
pub const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// Writes the head of a request.
///
/// A body whose length is not told becomes a chunked one, unless `end`: no body follows. A tunnel
/// to another protocol becomes an upgrade (RFC 8441 section 5): `key` is then its
/// `Sec-WebSocket-Key`, which HTTP/2 has no use for.
///
/// Without an authority there is no Host, which readers of HTTP/1.1 refuse.
pub fn write_request(
    fields: &Fields,
    head: &RequestHead,
    end: bool,
    key: &[u8],
    out: &mut Vec<u8>,
) {
    let value = |position: Option<usize>| position.map_or(&b""[..], |at| fields.get(at).1);
    let authority = value(head.authority);
    let is_tunnel = head.is_connect;
    match (is_tunnel, head.protocol) {
        (true, Some(_)) => {
            out.extend_from_slice(b"GET ");
            out.extend_from_slice(value(head.path));
        }
        (true, None) => {
            out.extend_from_slice(b"CONNECT ");
            out.extend_from_slice(authority);
        }
        (false, _) => {
            out.extend_from_slice(value(Some(head.method)));
            out.push(b' ');
            out.extend_from_slice(value(head.path));
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if head.authority.is_some() {
        line(out, b"host", authority);
    }
    let mut has_cookie = false;
    for (name, value) in fields.iter().skip(head.fields) {
        match name {
            b"host" => {}
            b"cookie" => has_cookie = true,
            // Content-Length means nothing in a tunnel, and must not make a body there.
            b"content-length" | b"sec-websocket-key" | b"http2-settings" if is_tunnel => {}
            _ => line(out, name, value),
        }
    }
    if has_cookie {
        write_cookie(fields, head.fields, out);
    }
    if let Some(protocol) = head.protocol {
        out.extend_from_slice(b"connection: upgrade\r\n");
        line(out, b"upgrade", value(Some(protocol)));
        line(out, b"sec-websocket-key", key);
    } else if !is_tunnel && !end && head.content_length.is_none() {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// RFC 9113 section 8.2.3: "If there are multiple Cookie header fields after decompression, these
/// MUST be concatenated into a single octet string using the two-octet delimiter of 0x3b, 0x20 (the
/// ASCII string "; ") before being passed into a non-HTTP/2 context".
fn write_cookie(fields: &Fields, from: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"cookie: ");
    let cookies = fields.iter().skip(from).filter(|(name, _)| *name == b"cookie");
    for (index, (_, value)) in cookies.enumerate() {
        if index > 0 {
            out.extend_from_slice(b"; ");
        }
        out.extend_from_slice(value);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of a response; answers whether its body is to be a chunked one: where the length
/// is not told, and where trailers may follow, for which HTTP/1.1 has no other place. `end`: no body
/// follows. `is_head`: it answers HEAD, and Content-Length tells of what GET would bring.
/// `content_type`: in place of what the endpoint said, and the body's length changes with it.
pub fn write_response(
    fields: &Fields,
    head: &ResponseHead,
    end: bool,
    is_head: bool,
    content_type: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> bool {
    let status = [100, 10, 1].map(|unit| b'0' + (head.status / unit % 10) as u8);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(&status);
    // RFC 9112 section 4: the space stands even where the reason is empty.
    out.extend_from_slice(b" \r\n");
    let bodiless = is_head || head.is_informational() || matches!(head.status, 204 | 304);
    let has_trailers = |(name, value): (&[u8], &[u8])| {
        name == b"trailer" || (name == b"content-type" && value.starts_with(b"application/grpc"))
    };
    let is_chunked = !bodiless
        && !end
        && (head.content_length.is_none()
            || content_type.is_some()
            || fields.iter().skip(head.fields).any(has_trailers));
    for (name, value) in fields.iter().skip(head.fields) {
        match name {
            b"content-length" if is_chunked => {}
            b"content-type" => line(out, name, content_type.unwrap_or(value)),
            _ => line(out, name, value),
        }
    }
    if is_chunked {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    } else if head.content_length.is_none() && !bodiless {
        out.extend_from_slice(b"content-length: 0\r\n");
    }
    out.extend_from_slice(b"\r\n");
    is_chunked
}

/// Writes the head of a response that opened a tunnel (RFC 8441 section 5.1). `accept`: its
/// `Sec-WebSocket-Accept`, which HTTP/2 has no use for.
pub fn write_upgraded(
    fields: &Fields,
    head: &ResponseHead,
    protocol: &[u8],
    accept: Option<&[u8]>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n");
    line(out, b"upgrade", protocol);
    if let Some(accept) = accept {
        line(out, b"sec-websocket-accept", accept);
    }
    for (name, value) in fields.iter().skip(head.fields) {
        // Neither means anything in a tunnel.
        if !matches!(name, b"content-length" | b"sec-websocket-accept") {
            line(out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes what stands before `length` bytes of a chunked body (RFC 9112 section 7.1). They are
/// followed by CRLF, and `length` is not 0.
pub fn write_chunk_size(length: usize, out: &mut Vec<u8>) {
    debug_assert!(length > 0, "an empty chunk is the last one");
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    for position in (0..digits).rev() {
        out.push(b"0123456789abcdef"[length >> (4 * position) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the end of a chunked body, with these trailers, if there are any: those that
/// [`may_trail`], within [`TRAILER_BYTES_MAX`] and [`TRAILERS_MAX`].
pub fn write_last_chunk(trailers: Option<&Fields>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(fields) = trailers {
        let start = out.len();
        let mut count = 0;
        for (name, value) in fields.iter().filter(|(name, _)| may_trail(name)) {
            let length = name.len() + value.len() + b": \r\n".len();
            // A short one may still have room behind a long one that has none.
            if count < TRAILERS_MAX && out.len() - start + length <= TRAILER_BYTES_MAX {
                line(out, name, value);
                count += 1;
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// May a field come after the body? `name` is in lower case.
///
/// RFC 9110 section 6.5.1: not what is part of the message's frame, or says where it goes, how it is
/// to be handled, who asks, or what its content is. Readers of HTTP/1.1 refuse the whole message for
/// such a field.
pub fn may_trail(name: &[u8]) -> bool {
    let forbidden: &[&[u8]] = match name.first() {
        Some(b'a') => &[b"age", b"authorization"],
        Some(b'c') => &[
            b"cache-control",
            b"client-cert",
            b"client-cert-chain",
            b"connection",
            b"content-encoding",
            b"content-length",
            b"content-range",
            b"content-type",
            b"cookie",
        ],
        Some(b'd' | b'e') => &[b"date", b"expect", b"expires"],
        Some(b'f' | b'h') => &[b"forwarded", b"host", b"http2-settings"],
        Some(b'i') => &[
            b"if-match",
            b"if-modified-since",
            b"if-none-match",
            b"if-range",
            b"if-unmodified-since",
        ],
        Some(b'k' | b'l' | b'm') => &[b"keep-alive", b"location", b"max-forwards"],
        Some(b'p') => {
            &[b"pragma", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"]
        }
        Some(b'r' | b's') => &[b"range", b"retry-after", b"set-cookie"],
        Some(b't') => &[b"te", b"trailer", b"transfer-encoding"],
        Some(b'u' | b'v' | b'w') => &[b"upgrade", b"vary", b"via", b"www-authenticate"],
        Some(b'x') => &[
            b"x-client-cert-names",
            b"x-client-cert-sha256",
            b"x-client-cert-subject",
            b"x-forwarded-for",
            b"x-forwarded-host",
            b"x-forwarded-proto",
        ],
        _ => &[],
    };
    !forbidden.contains(&name)
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        fields.begin(64 * 1024, 100);
        for (name, value) in list {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    #[test]
    fn requests() {
        let check = |list: &[(&str, &str)], end: bool, expected: &str| {
            let fields = fields(list);
            let head = RequestHead::check(&fields, true).unwrap();
            let mut out = Vec::new();
            write_request(&fields, &head, end, b"a2V5", &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        let post = [(":method", "POST"), (":path", "/a?b"), (":scheme", "https")];
        let with = |more: &[(&'static str, &'static str)]| [&post[..], more].concat();
        check(
            &with(&[(":authority", "a:1"), ("cookie", "a=b"), ("x", "y"), ("cookie", "c=d")]),
            true,
            "POST /a?b HTTP/1.1\r\nhost: a:1\r\nx: y\r\ncookie: a=b; c=d\r\n\r\n",
        );
        check(
            &with(&[("host", "a")]),
            false,
            "POST /a?b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
        );
        check(
            &with(&[(":authority", "a"), ("host", "a"), ("content-length", "3")]),
            false,
            "POST /a?b HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n",
        );
        check(
            &[
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "https"),
                (":path", "/chat"),
                (":authority", "a"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", "mine"),
            ],
            false,
            "GET /chat HTTP/1.1\r\nhost: a\r\nsec-websocket-version: 13\r\n\
             connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: a2V5\r\n\r\n",
        );
        check(
            &[(":method", "CONNECT"), (":authority", "a:1"), ("content-length", "3")],
            false,
            "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n",
        );
    }

    #[test]
    fn responses() {
        let check = |list: &[(&str, &str)], end: bool, is_head: bool, expected: &str| {
            let fields = fields(list);
            let head = ResponseHead::check(&fields).unwrap();
            let mut out = Vec::new();
            let is_chunked = write_response(&fields, &head, end, is_head, None, &mut out);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(is_chunked, text.contains("chunked"));
            assert_eq!(text, expected);
        };
        let ok = [(":status", "200"), ("x", "y")];
        check(&ok, false, false, "HTTP/1.1 200 \r\nx: y\r\ntransfer-encoding: chunked\r\n\r\n");
        check(&ok, true, false, "HTTP/1.1 200 \r\nx: y\r\ncontent-length: 0\r\n\r\n");
        check(&ok, true, true, "HTTP/1.1 200 \r\nx: y\r\n\r\n");
        check(&[(":status", "304")], true, false, "HTTP/1.1 304 \r\n\r\n");
        check(&[(":status", "103")], false, false, "HTTP/1.1 103 \r\n\r\n");
        let sized = [(":status", "200"), ("content-length", "5")];
        check(&sized, false, false, "HTTP/1.1 200 \r\ncontent-length: 5\r\n\r\n");
        // Trailers have a place behind chunks alone.
        let announced = [&sized[..], &[("trailer", "x")]].concat();
        check(
            &announced,
            false,
            false,
            "HTTP/1.1 200 \r\ntrailer: x\r\ntransfer-encoding: chunked\r\n\r\n",
        );
        check(&announced, true, true, "HTTP/1.1 200 \r\ncontent-length: 5\r\ntrailer: x\r\n\r\n");
    }

    #[test]
    fn responses_in_other_clothes() {
        let sent = fields(&[
            (":status", "200"),
            ("content-type", "application/grpc"),
            ("content-length", "5"),
        ]);
        let head = ResponseHead::check(&sent).unwrap();
        let mut out = Vec::new();
        let text = b"application/grpc-web-text";
        assert!(write_response(&sent, &head, false, false, Some(text), &mut out));
        let expected = "HTTP/1.1 200 \r\ncontent-type: application/grpc-web-text\r\n\
                        transfer-encoding: chunked\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);

        let sent = fields(&[(":status", "200"), ("content-length", "5"), ("x", "y")]);
        let head = ResponseHead::check(&sent).unwrap();
        let mut out = Vec::new();
        write_upgraded(&sent, &head, b"websocket", Some(b"abc"), &mut out);
        let expected = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                        upgrade: websocket\r\nsec-websocket-accept: abc\r\nx: y\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn chunks() {
        for (length, expected) in
            [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (16_384, "4000\r\n")]
        {
            let mut out = Vec::new();
            write_chunk_size(length, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        let mut out = Vec::new();
        write_last_chunk(Some(&fields(&[("grpc-status", "0"), ("content-length", "9")])), &mut out);
        assert_eq!(out, b"0\r\ngrpc-status: 0\r\n\r\n");
        out.clear();
        // What is too much is left out, and what comes behind it is not.
        let long = "y".repeat(TRAILER_BYTES_MAX);
        let trailers = fields(&[("x", &long), ("date", "now"), ("grpc-status", "0")]);
        write_last_chunk(Some(&trailers), &mut out);
        assert_eq!(out, b"0\r\ngrpc-status: 0\r\n\r\n");
        out.clear();
        write_last_chunk(Some(&fields(&[("x", "y"); TRAILERS_MAX + 1])), &mut out);
        assert_eq!(out.len(), 3 + TRAILERS_MAX * 6 + 2);
        out.clear();
        write_last_chunk(None, &mut out);
        assert_eq!(out, b"0\r\n\r\n");
    }
}
