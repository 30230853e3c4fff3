//! The response's head as the client is to see it.

use model::spec::HeaderEdit;
use wire::http1::{Framing, Header, HeaderKind, ResponseHead, Version};

use crate::http1::hints::Hints;
use crate::http1::lines::Lines;
use crate::http1::request_head::{is_edited, line, write_edits};
use crate::http1::session::Keeping;

/// What becomes of the client's connection after this response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// Kept; HTTP/1.1 says so by saying nothing.
    Keep,
    /// Kept, and an HTTP/1.0 client must be told.
    KeepHttp10,
    Close,
    /// It becomes a tunnel.
    Upgrade,
}

/// Appends the head to `out`, and answers what it says of the endpoint, which is not passed on.
pub(crate) fn write(
    out: &mut Vec<u8>,
    bytes: &[u8],
    head: &ResponseHead,
    client: Version,
    persistence: Persistence,
    edits: &[HeaderEdit],
    keeping: Option<&Keeping<'_>>,
) -> Hints {
    let mut hints = Hints::default();
    status_line(out, bytes, head);
    let mut lines = Lines::new(bytes);
    for header in &head.headers {
        hints.note(bytes, head, header);
        if !passes(header, head.status) {
            continue;
        }
        let name = header.name.of(bytes);
        if !edits.is_empty() && is_edited(edits, name) {
            continue;
        }
        match keeping {
            Some(keeping) if header.kind == HeaderKind::SetCookie => {
                lines.flush(out);
                keeping.write_set_cookie(out, name, header.value.of(bytes), head.status);
            }
            _ => lines.pass(out, header),
        }
    }
    lines.flush(out);
    if head.framing == Framing::Chunked && client == Version::Http11 {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    match persistence {
        Persistence::Keep => {}
        Persistence::KeepHttp10 => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        Persistence::Close => out.extend_from_slice(b"Connection: close\r\n"),
        Persistence::Upgrade => {
            out.extend_from_slice(b"Connection: upgrade\r\n");
            for header in head.headers.iter().filter(|h| h.kind == HeaderKind::Upgrade) {
                line(out, b"Upgrade", header.value.of(bytes));
            }
        }
    }
    write_edits(out, edits);
    if let Some(keeping) = keeping {
        keeping.write_own(out, head.status);
    }
    out.extend_from_slice(b"\r\n");
    hints
}

/// An informational response (RFC 9110 section 15.2) passes with its end-to-end headers.
pub(crate) fn write_informational(out: &mut Vec<u8>, bytes: &[u8], head: &ResponseHead) {
    status_line(out, bytes, head);
    for header in head.headers.iter().filter(|header| passes(header, head.status)) {
        line(out, header.name.of(bytes), header.value.of(bytes));
    }
    out.extend_from_slice(b"\r\n");
}

/// RFC 9110 section 8.6: "A server MUST NOT send a Content-Length header field in any response with
/// a status code of 1xx (Informational) or 204 (No Content)": a client could wait for that content.
fn passes(header: &Header, status: u16) -> bool {
    match header.kind {
        HeaderKind::TransferEncoding => false,
        // What endpoints say of their load is for us, and nobody else's business.
        HeaderKind::EndpointLoadMetrics | HeaderKind::EndpointLoadMetricsBin => false,
        HeaderKind::ContentLength => !matches!(status, 100..=199 | 204),
        _ => !header.hop_by_hop,
    }
}

fn status_line(out: &mut Vec<u8>, bytes: &[u8], head: &ResponseHead) {
    let digits = [
        b'0' + (head.status / 100 % 10) as u8,
        b'0' + (head.status / 10 % 10) as u8,
        b'0' + (head.status % 10) as u8,
    ];
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(&digits);
    out.push(b' ');
    out.extend_from_slice(head.reason.of(bytes));
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use wire::http1::{HeadLimits, Progress, RequestKind};

    use super::*;

    #[test]
    fn what_has_no_content_tells_no_length() {
        let check = |sent: &str, expected: &str| {
            let limits = HeadLimits { bytes: 1024, count: 8, uri_bytes: 0 };
            let mut head = ResponseHead::default();
            let parsed = head.parse(sent.as_bytes(), &limits, RequestKind::default());
            assert_eq!(parsed, Ok(Progress::Complete), "{sent}");
            let mut out = Vec::new();
            let keep = Persistence::Keep;
            write(&mut out, sent.as_bytes(), &head, Version::Http11, keep, &[], None);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\nX-A: b\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
        );
        // It tells what a GET would have brought.
        check(
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        );
    }
}
