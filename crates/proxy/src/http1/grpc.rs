//! What of a request is gRPC's: its deadline, and how a failure of ours is told.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>. What moves is a request
//! like any other; nothing here looks into messages.

use std::time::Duration;

use wire::http1::{HeaderKind, RequestHead};

/// A request that is a gRPC call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// The type of an answer of ours.
    pub(crate) content_type: &'static str,
    /// How long the client waits, from when it asked. None: for ever.
    pub(crate) timeout: Option<Duration>,
    /// The status that a failure of ours has in place of its HTTP status' counterpart.
    pub(crate) code: Option<u8>,
}

const TIMEOUT: &[u8] = b"grpc-timeout";

impl Call {
    /// None: it is not gRPC, and not gRPC-Web either.
    pub(crate) fn of(bytes: &[u8], head: &RequestHead) -> Option<Self> {
        let content_type = head.first(HeaderKind::ContentType)?.value.of(bytes);
        let content_type = kind(content_type)?;
        let is_timeout = |header: &&wire::http1::Header| {
            header.kind == HeaderKind::Other && header.name.of(bytes).eq_ignore_ascii_case(TIMEOUT)
        };
        let timeout = head.headers.iter().find(is_timeout);
        let timeout = timeout.and_then(|header| parse_timeout(header.value.of(bytes)));
        Some(Self { content_type, timeout, code: None })
    }
}

/// `application/grpc`, or one of gRPC-Web; each may name in what its messages are.
fn kind(content_type: &[u8]) -> Option<&'static str> {
    const NAMES: [&str; 3] =
        ["application/grpc-web-text", "application/grpc-web", "application/grpc"];
    NAMES.into_iter().find(|name| {
        let (start, rest) = match content_type.split_at_checked(name.len()) {
            Some(split) => split,
            None => return false,
        };
        start.eq_ignore_ascii_case(name.as_bytes())
            && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
    })
}

/// `Timeout → "grpc-timeout" TimeoutValue TimeoutUnit`: at most eight digits, and a unit.
fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0u64, |count, digit| count * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

/// The value of `grpc-timeout`, in the finest unit that has room for it.
fn write_timeout(left: Duration) -> String {
    const MOST: u128 = 99_999_999;
    if left.as_micros() <= MOST {
        // 0 is no value (`positive integer`).
        format!("{}u", left.as_micros().max(1))
    } else if left.as_millis() <= MOST {
        format!("{}m", left.as_millis())
    } else {
        format!("{}S", u128::from(left.as_secs()).min(MOST))
    }
}

/// Puts how long the client still waits into the head that an endpoint is to see, in place of what
/// it said at first.
pub(crate) fn set_timeout(outbound: &mut Vec<u8>, left: Duration) {
    let mut at = 0;
    let position = |bytes: &[u8], wanted: u8| bytes.iter().position(|byte| *byte == wanted);
    while let Some(end) = position(&outbound[at..], b'\n').map(|length| at + length) {
        let line = &outbound[at..end];
        if let Some(colon) = position(line, b':')
            && line[..colon].eq_ignore_ascii_case(TIMEOUT)
        {
            let value = format!(" {}\r", write_timeout(left));
            outbound.splice(at + colon + 1..end, value.into_bytes());
            return;
        }
        at = end + 1;
    }
}

#[cfg(test)]
mod tests {
    use wire::http1::{HeadLimits, Progress};

    use super::*;

    fn call(fields: &str) -> Option<Call> {
        let limits = HeadLimits { bytes: 4096, count: 16, uri_bytes: 64 };
        let mut head = RequestHead::default();
        let text = format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        assert_eq!(head.parse(text.as_bytes(), &limits), Ok(Progress::Complete), "{text}");
        Call::of(text.as_bytes(), &head)
    }

    #[test]
    fn what_is_a_call() {
        for (content_type, expected) in [
            ("application/grpc", Some("application/grpc")),
            ("Application/gRPC+proto", Some("application/grpc")),
            ("application/grpc-web+proto", Some("application/grpc-web")),
            ("application/grpc-web-text", Some("application/grpc-web-text")),
            ("application/grpcs", None),
            ("application/json", None),
        ] {
            let found = call(&format!("Content-Type: {content_type}\r\n"));
            assert_eq!(found.map(|call| call.content_type), expected, "{content_type}");
        }
        assert!(call("grpc-timeout: 1S\r\n").is_none());
    }

    #[test]
    fn deadlines() {
        let timeout = |value: &str| {
            let found =
                call(&format!("Content-Type: application/grpc\r\nGrpc-Timeout: {value}\r\n"));
            found.and_then(|call| call.timeout)
        };
        for (value, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("30S", Some(Duration::from_secs(30))),
            ("99999999m", Some(Duration::from_millis(99_999_999))),
            ("5u", Some(Duration::from_micros(5))),
            ("7n", Some(Duration::from_nanos(7))),
            ("100000000m", None),
            ("1s", None),
            ("S", None),
            ("-1S", None),
            ("1.5S", None),
            ("", None),
        ] {
            assert_eq!(timeout(value), expected, "{value}");
        }
        for (left, expected) in [
            (Duration::ZERO, "1u"),
            (Duration::from_millis(1500), "1500000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::from_secs(u64::MAX), "99999999S"),
        ] {
            assert_eq!(write_timeout(left), expected);
        }
    }

    #[test]
    fn what_is_left_is_passed_on() {
        let mut head = b"POST /a HTTP/1.1\r\nHost: a\r\ngrpc-timeout: 10S\r\nX: y\r\n\r\n".to_vec();
        for (millis, expected) in [(9500, "9500000u"), (200_000, "200000m"), (1, "1000u")] {
            set_timeout(&mut head, Duration::from_millis(millis));
            let expected =
                format!("POST /a HTTP/1.1\r\nHost: a\r\ngrpc-timeout: {expected}\r\nX: y\r\n\r\n");
            assert_eq!(String::from_utf8_lossy(&head), expected);
        }
        let mut without = b"GET / HTTP/1.1\r\n\r\n".to_vec();
        set_timeout(&mut without, Duration::from_secs(1));
        assert_eq!(without, b"GET / HTTP/1.1\r\n\r\n");
    }
}
