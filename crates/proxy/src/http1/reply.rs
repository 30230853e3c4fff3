//! Our own answers.

use std::future::poll_fn;
use std::io;

use crate::clock::unix_millis;
use crate::http1::date::http_date;
use crate::io::Stream;
use crate::tracked::Ticket;

/// A response that we give ourselves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply<'a> {
    pub(crate) status: u16,
    pub(crate) content_type: &'a str,
    pub(crate) body: &'a [u8],
    /// One more header.
    pub(crate) header: Option<(&'a str, &'a [u8])>,
    pub(crate) close: bool,
    /// The request was HEAD: the body's length is told, the body is not sent.
    pub(crate) head_only: bool,
    /// The client speaks HTTP/1.0 and wants the connection kept.
    pub(crate) keep_alive_http10: bool,
    /// In place of the status and the body: what a gRPC client is told.
    pub(crate) grpc: Option<GrpcStatus<'a>>,
}

/// A response without a message (`Trailers-Only`), which tells only how the call ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GrpcStatus<'a> {
    pub(crate) content_type: &'a str,
    pub(crate) code: u8,
    /// ASCII without `%`, so that nothing is to be encoded.
    pub(crate) message: &'a str,
}

impl<'a> Reply<'a> {
    /// A status with its name as the body.
    pub(crate) fn status(status: u16) -> Reply<'a> {
        Reply {
            status,
            content_type: "text/plain; charset=utf-8",
            body: &[],
            header: match status {
                // RFC 9110 section 15.5.6: a 405 names what is allowed.
                405 => Some(("allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".as_slice())),
                503 => Some(("retry-after", b"1".as_slice())),
                _ => None,
            },
            close: true,
            head_only: false,
            keep_alive_http10: false,
            grpc: None,
        }
    }

    /// The status on the line.
    pub(crate) fn sent_status(&self) -> u16 {
        // "Trailers-Only" is HTTP 200 like any other response of gRPC.
        if self.grpc.is_some() { 200 } else { self.status }
    }

    /// Replaces what is in `out`. `hsts`: the value of `Strict-Transport-Security`.
    pub(crate) fn write(&self, out: &mut Vec<u8>, hsts: Option<&str>) {
        let status = self.sent_status();
        let reason = reason(status);
        let named = format!("{status} {reason}\n");
        let has_body = !matches!(status, 100..=199 | 204 | 304) && self.grpc.is_none();
        let body = if self.body.is_empty() && self.header.is_none_or(|(n, _)| n != "location") {
            named.as_bytes()
        } else {
            self.body
        };
        out.clear();
        out.extend_from_slice(format!("HTTP/1.1 {status} {reason}\r\n").as_bytes());
        out.extend_from_slice(format!("date: {}\r\n", http_date(unix_millis() / 1000)).as_bytes());
        if has_body {
            let entity = format!(
                "content-type: {}\r\ncontent-length: {}\r\n",
                self.content_type,
                body.len()
            );
            out.extend_from_slice(entity.as_bytes());
        }
        if let Some(GrpcStatus { content_type, code, message }) = self.grpc {
            let told = format!(
                "content-type: {content_type}\r\ncontent-length: 0\r\n\
                 grpc-status: {code}\r\ngrpc-message: {message}\r\n"
            );
            out.extend_from_slice(told.as_bytes());
        }
        if let Some((name, value)) = self.header {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        if let Some(hsts) = hsts {
            let line = format!("strict-transport-security: {hsts}\r\n");
            out.extend_from_slice(line.as_bytes());
        }
        if self.close {
            out.extend_from_slice(b"connection: close\r\n");
        } else if self.keep_alive_http10 {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if has_body && !self.head_only {
            out.extend_from_slice(body);
        }
    }
}

/// Writes all of `bytes`, until the ticket's deadline.
pub(crate) async fn send(stream: &mut Stream, ticket: &Ticket, bytes: &[u8]) -> io::Result<()> {
    let mut sent = 0;
    poll_fn(|cx| {
        while sent < bytes.len() {
            match stream.poll_write(cx, &bytes[sent..], &[]) {
                std::task::Poll::Ready(Ok(0)) => {
                    return std::task::Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                std::task::Poll::Ready(Ok(count)) => sent += count,
                std::task::Poll::Ready(Err(e)) => return std::task::Poll::Ready(Err(e)),
                std::task::Poll::Pending if ticket.expired() => {
                    return std::task::Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                std::task::Poll::Pending => return std::task::Poll::Pending,
            }
        }
        std::task::Poll::Ready(Ok(()))
    })
    .await
}

/// The phrases of RFC 9110 section 15 for the statuses that we give, or may be told to give.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        418 => "I'm a teapot",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_framed() {
        let mut out = Vec::new();
        Reply::status(503).write(&mut out, None);
        let text = String::from_utf8(out.clone()).unwrap();
        assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\ndate: "), "{text}");
        assert!(text.contains("retry-after: 1\r\n") && text.contains("connection: close\r\n"));
        assert!(text.ends_with("content-length: 24\r\nretry-after: 1\r\nconnection: close\r\n\r\n503 Service Unavailable\n"), "{text}");
        Reply { close: false, ..Reply::status(204) }.write(&mut out, None);
        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains("content-length") && text.ends_with("\r\n\r\n"), "{text}");
        let grpc =
            Some(GrpcStatus { content_type: "application/grpc", code: 14, message: "no endpoint" });
        let mut out = Vec::new();
        Reply { close: false, grpc, ..Reply::status(503) }.write(&mut out, None);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        let told = "content-type: application/grpc\r\ncontent-length: 0\r\n\
                    grpc-status: 14\r\ngrpc-message: no endpoint\r\n";
        assert!(text.contains(told) && text.ends_with("\r\n\r\n"), "{text}");
    }
}
