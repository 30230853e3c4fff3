//! Host names as they may stand in a Host field or in the authority of a target.

use std::net::Ipv6Addr;

/// Longest name that DNS can hold in text form, with a final dot (RFC 1035 section 3.1).
const NAME_BYTES_MAX: usize = 254;

/// Whether `authority` is a host with an optional port: a DNS-like name, an IPv4 address or an IPv6
/// address in brackets.
///
/// Narrower than RFC 3986 section 3.2.2, which would let a name hold percent-encoding and
/// `!$&'()*+,;=`: no name that is resolved has them, and two programs rarely agree on what they
/// mean. Underscores are taken, because Compose and Kubernetes users have them. An empty host is
/// refused (RFC 9110 section 4.2.1: "A recipient that processes such a URI reference MUST reject it
/// as invalid").
pub fn validate_host(authority: &[u8]) -> bool {
    split_host(authority).is_some()
}

/// Splits into host and port digits (empty if there are none), or None if either is invalid.
pub(super) fn split_host(authority: &[u8]) -> Option<(&[u8], &[u8])> {
    let (host, after) = match authority {
        [b'[', rest @ ..] => {
            let close = memchr::memchr(b']', rest)?;
            // What the brackets hold is ASCII if it is an address at all.
            std::str::from_utf8(&rest[..close]).ok()?.parse::<Ipv6Addr>().ok()?;
            authority.split_at(close + 2)
        }
        _ => {
            let end = memchr::memchr(b':', authority).unwrap_or(authority.len());
            let (name, after) = authority.split_at(end);
            is_name(name).then_some((name, after))?
        }
    };
    match after {
        [] => Some((host, after)),
        [b':', port @ ..] if is_port(port) => Some((host, port)),
        _ => None,
    }
}

fn is_name(name: &[u8]) -> bool {
    let labels = name.strip_suffix(b".").unwrap_or(name);
    let mut previous = b'.';
    for byte in labels {
        match byte {
            b'.' if previous == b'.' => return false,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' | b'.' => {}
            _ => return false,
        }
        previous = *byte;
    }
    previous != b'.' && name.len() <= NAME_BYTES_MAX
}

/// RFC 3986 section 3.2.3 lets the port be empty after its colon.
fn is_port(port: &[u8]) -> bool {
    port.len() <= 5
        && port.iter().all(u8::is_ascii_digit)
        && port.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0')) <= 65_535
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for good in [
            "example.com",
            "example.com.",
            "EXAMPLE.com:80",
            "example.com:",
            "my_service-1:65535",
            "127.0.0.1:8080",
            "[::1]",
            "[2001:db8::1]:443",
            "[::ffff:1.2.3.4]:0",
            "a~b",
        ] {
            assert!(validate_host(good.as_bytes()), "{good}");
        }
        let long = "a".repeat(255);
        for bad in [
            "",
            ".",
            "..",
            ".example.com",
            "a..b",
            "a.com..",
            ":80",
            "a:65536",
            "a:123456",
            "a:+80",
            "a:8 0",
            "a:80:80",
            "::1",
            "[::1",
            "[::1]x",
            "[::1]80",
            "[::g]",
            "[]",
            "[::1%25eth0]",
            "[v1.a]",
            "user@host",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a,b",
            "a%41",
            "a\\b",
            "é.com",
            "a\0b",
            "<script>",
            &long,
        ] {
            assert!(!validate_host(bad.as_bytes()), "{bad}");
        }
    }
}
