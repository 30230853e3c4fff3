//! Request paths in the one form that routes compare.
//!
//! `/a/../admin`, `/%61dmin` and `/./admin` name the same thing as `/admin` (RFC 3986 section
//! 6.2.2), so they must not take another route than `/admin` does.

/// What [`normalise_path`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalised {
    /// The path was in its normal form already; the buffer holds nothing of use.
    Same,
    /// The buffer holds the normal form.
    Changed,
    /// The path climbs above the root (`/../etc`). RFC 3986 would drop the surplus `..`; nobody
    /// but an attacker sends it, and it deserves a 400.
    Escapes,
}

/// Brings a request path to the form that routes compare and that the endpoint should be sent:
/// unreserved octets decoded (`%41` is `A`) and the hexadecimal digits of the others in capitals
/// (RFC 3986 sections 6.2.2.1 and 6.2.2.2), dot segments removed (section 5.2.4; after decoding,
/// so `%2e%2E/` counts), and a `%` that begins no octet written as `%25`, so that it cannot
/// join with what follows it into a new octet.
///
/// `%2F` stays as it is: an encoded slash is not a slash. Empty segments stay too. A path that
/// does not begin with `/` (`*`, or none) is left alone.
///
/// Most paths need no change, and are known to after one pass without allocation; `out` is
/// touched only for those with a `%` or a segment that begins with a dot.
pub fn normalise_path(raw: &str, out: &mut Vec<u8>) -> Normalised {
    let raw = raw.as_bytes();
    if raw.first() != Some(&b'/') || !may_need_change(raw) {
        return Normalised::Same;
    }
    out.clear();
    decode_unreserved(raw, out);
    if remove_dot_segments(out) == Climb::AboveRoot {
        return Normalised::Escapes;
    }
    if out == raw { Normalised::Same } else { Normalised::Changed }
}

/// Without early exit, so that the compiler can look at many bytes at once.
fn may_need_change(raw: &[u8]) -> bool {
    let percent = raw.iter().fold(false, |found, &byte| found | (byte == b'%'));
    let dot = raw
        .iter()
        .zip(&raw[1..])
        .fold(false, |found, (&before, &byte)| found | ((before == b'/') & (byte == b'.')));
    percent | dot
}

pub(crate) fn decode_unreserved(raw: &[u8], out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        match octet(tail) {
            Some(octet) => {
                rest = &tail[2..];
                if is_unreserved(octet) { out.push(octet) } else { push_encoded(octet, out) }
            }
            None => push_encoded(b'%', out),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Climb {
    Inside,
    AboveRoot,
}

/// RFC 3986 section 5.2.4, in place, for a path that begins with `/`.
pub(crate) fn remove_dot_segments(path: &mut Vec<u8>) -> Climb {
    let mut climb = Climb::Inside;
    let (mut read, mut write) = (0, 0);
    while read < path.len() {
        let after_slash = read + 1;
        let length = path[after_slash..].iter().position(|&byte| byte == b'/');
        let end = length.map_or(path.len(), |length| after_slash + length);
        let is_last = end == path.len();
        let is_dots = match &path[after_slash..end] {
            b"." => true,
            b".." => {
                match path[..write].iter().rposition(|&byte| byte == b'/') {
                    Some(slash) => write = slash,
                    None => climb = Climb::AboveRoot,
                }
                true
            }
            _ => false,
        };
        if !is_dots {
            path.copy_within(read..end, write);
            write += end - read;
        } else if is_last {
            path[write] = b'/';
            write += 1;
        }
        read = end;
    }
    path.truncate(write);
    climb
}

pub(crate) fn has_dot_segment(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/').any(|segment| segment == b"." || segment == b"..")
}

/// The value of the two hexadecimal digits in front.
pub(crate) fn octet(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| digits.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    Some((digit(0)? * 16 + digit(1)?) as u8)
}

pub(crate) fn push_encoded(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(raw: &str, expected: Normalised, normal: &str) {
        let mut out = b"left over".to_vec();
        assert_eq!(normalise_path(raw, &mut out), expected, "{raw}");
        if expected == Normalised::Changed {
            assert_eq!(String::from_utf8_lossy(&out), normal, "{raw}");
        }
    }

    #[test]
    fn paths_in_normal_form_stay() {
        for path in [
            "",
            "*",
            "/",
            "//",
            "/a/b",
            "/a//b/",
            "/a.b/c..",
            "/.well-known/x",
            "/...",
            "/a%20b",
            "/a%2Fb",
            "/a;b=c",
            "../a",
        ] {
            check(path, Normalised::Same, "");
        }
    }

    #[test]
    fn octets_and_dots_are_normalised() {
        for (raw, normal) in [
            ("/%41%62", "/Ab"),
            ("/%7euser", "/~user"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%c3%a9", "/a%C3%A9"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/.", "/"),
            ("/a/..", "/"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            ("/a/.%2e/b", "/b"),
            ("/a//../b", "/a/b"),
            ("/a/b/c/./../../g", "/a/g"),
            ("/%2e%2e%2fa", "/..%2Fa"),
            // A lone percent sign cannot join with what follows.
            ("/100%", "/100%25"),
            ("/%%32%65%%32%65/", "/%252e%252e/"),
            ("/%zz", "/%25zz"),
            ("/%4", "/%254"),
        ] {
            check(raw, Normalised::Changed, normal);
        }
    }

    #[test]
    fn climbing_above_the_root_is_told() {
        for raw in ["/..", "/../a", "/a/../..", "/a/../../b", "/%2e%2e/a", "/a/%2E%2e/.%2e/b"] {
            check(raw, Normalised::Escapes, "");
        }
    }

    proptest! {
        #[test]
        fn the_normal_form_is_normal_and_has_no_dot_segment(
            raw in "/([a.%/]|\\.\\./|%2[eEfF]|%41|%25){0,12}"
        ) {
            let mut out = Vec::new();
            let normal = match normalise_path(&raw, &mut out) {
                Normalised::Same => raw.clone().into_bytes(),
                Normalised::Changed => out,
                Normalised::Escapes => return Ok(()),
            };
            prop_assert!(!has_dot_segment(&normal));
            prop_assert_eq!(normal[0], b'/');
            let normal = String::from_utf8(normal).expect("ASCII");
            prop_assert_eq!(normalise_path(&normal, &mut Vec::new()), Normalised::Same);
        }
    }
}
