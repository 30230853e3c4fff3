//! The pairs of a `Cookie` header (RFC 6265 section 4.2.1).

/// Names and values of one header line, in order. The white space around them and one pair of
/// quotes around the value are left out. A pair without `=`, with a name that is no token, or
/// with a control byte in its value is passed over; other bytes outside cookie-octet (spaces,
/// commas, quotes) are let through, because applications send them.
pub(crate) fn pairs(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    line.split(|&byte| byte == b';').filter_map(|pair| {
        let equals = pair.iter().position(|&byte| byte == b'=')?;
        let (name, value) = (trim(&pair[..equals]), unquote(trim(&pair[equals + 1..])));
        let is_sound = !name.is_empty()
            && name.iter().all(|&byte| is_token(byte))
            && !value.iter().any(u8::is_ascii_control);
        is_sound.then_some((name, value))
    })
}

fn trim(text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(start) = text.iter().position(|byte| !is_space(byte)) else { return &[] };
    let end = text.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

fn unquote(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_split_trimmed_and_checked() {
        let check = |line: &[u8], expected: &[(&str, &str)]| {
            let found: Vec<_> = pairs(line).collect();
            let expected: Vec<_> =
                expected.iter().map(|&(n, v)| (n.as_bytes(), v.as_bytes())).collect();
            assert_eq!(found, expected, "{}", line.escape_ascii());
        };
        check(b"", &[]);
        check(b"a=1", &[("a", "1")]);
        check(b"a=1; b=2;c=3 ;\td=4", &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]);
        check(b"a=\"quoted\"; b=\"; c=\"\"", &[("a", "quoted"), ("b", "\""), ("c", "")]);
        check(b"a=x=y; b=", &[("a", "x=y"), ("b", "")]);
        check(b"flag; =nameless; a b=1; c=2", &[("c", "2")]);
        check(b"a=1\x012; b=2", &[("b", "2")]);
    }
}
