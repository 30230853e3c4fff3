//! JSON strings (RFC 8259 section 7) out of bytes that a stranger chose.

/// Stands for what was cut off.
const CUT: &str = "\u{2026}";

/// Appends `bytes`, at most `max` of them, as a JSON string with its quotes. Control characters
/// are escaped, so that a line stays a line and a terminal stays what it was; what is no UTF-8
/// becomes U+FFFD.
pub(super) fn text(out: &mut Vec<u8>, bytes: &[u8], max: usize) {
    let (bytes, cut) = match bytes.get(..max) {
        Some(front) if front.len() < bytes.len() => (front, true),
        _ => (bytes, false),
    };
    out.push(b'"');
    let plain = bytes.iter().position(|b| !is_plain(*b)).unwrap_or(bytes.len());
    out.extend_from_slice(&bytes[..plain]);
    for chunk in bytes[plain..].utf8_chunks() {
        chunk.valid().chars().for_each(|c| character(out, c));
        // Half a character at the cut is no sender's fault.
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    if cut {
        out.extend_from_slice(CUT.as_bytes());
    }
    out.push(b'"');
}

/// Printable ASCII that stands for itself.
fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\'
}

fn character(out: &mut Vec<u8>, character: char) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        // U+2028 and U+2029 end a line for some readers.
        c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => escape(out, c),
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

fn escape(out: &mut Vec<u8>, character: char) {
    let code = u32::from(character);
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(b"0123456789abcdef"[(code >> shift) as usize & 15]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: &[u8], max: usize) -> String {
        let mut out = Vec::new();
        text(&mut out, bytes, max);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_strings() {
        for (bytes, expected) in [
            (&b""[..], r#""""#),
            (b"/a?b=c", r#""/a?b=c""#),
            (b"say \"hi\" \\ bye", r#""say \"hi\" \\ bye""#),
            (b"a\r\n\tb\0\x1b[31m\x7f", r#""a\r\n\tb\u0000\u001b[31m\u007f""#),
            (
                "gr\u{fc}\u{df} \u{85}\u{2028}\u{1f600}".as_bytes(),
                "\"gr\u{fc}\u{df} \\u0085\\u2028\u{1f600}\"",
            ),
            (b"\xff\xfe{}", "\"\u{fffd}\u{fffd}{}\""),
        ] {
            assert_eq!(written(bytes, 100), expected);
        }
        assert_eq!(written(b"abcdef", 3), "\"abc\u{2026}\"");
        assert_eq!(written(b"abc", 3), "\"abc\"");
    }

    #[test]
    fn any_bytes_come_back_as_one_line() {
        let mut rng = model::Rng::from_seed(11);
        for round in 0..2000 {
            let bytes: Vec<u8> = (0..rng.below(40)).map(|_| rng.next_u64() as u8).collect();
            let line = written(&bytes, 1000);
            assert!(!line.bytes().any(|b| b < 0x20 || b == 0x7f), "round {round}: {line:?}");
            let back: String = serde_json::from_str(&line).unwrap();
            assert_eq!(back, String::from_utf8_lossy(&bytes), "round {round}");
        }
    }
}
