//! Which bytes may stand where: the character classes of RFC 9110 section 5.6 and RFC 3986.

const TOKEN: u8 = 1;
const TARGET: u8 = 2;

/// One look-up instead of a chain of comparisons.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let byte = index as u8;
        // RFC 9110 section 5.6.2: tchar = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" /
        // "." / "^" / "_" / "`" / "|" / "~" / DIGIT / ALPHA
        if byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            )
        {
            table[index] |= TOKEN;
        }
        // Wider than RFC 3986, which would also forbid `"<>\^{|}` and the backquote: browsers send
        // some of them. None is a delimiter in a request line.
        if byte.is_ascii_graphic() && byte != b'#' {
            table[index] |= TARGET;
        }
        index += 1;
    }
    table
}

pub(super) fn is_token_byte(byte: u8) -> bool {
    CLASSES[byte as usize] & TOKEN != 0
}

/// A byte that may stand in a request target. No space, control, fragment or non-ASCII byte.
pub(super) fn is_target_byte(byte: u8) -> bool {
    CLASSES[byte as usize] & TARGET != 0
}

pub(super) fn is_whitespace(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Whether `bytes` is a token (RFC 9110 section 5.6.2): a method, a field name, an option.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

/// Whether `bytes` may be sent as the value of a header field: no control byte, no line end.
pub fn is_field_value(bytes: &[u8]) -> bool {
    find_control(bytes, 0) == bytes.len()
}

/// Removes optional whitespace (RFC 9110 section 5.6.3) from both ends.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_whitespace(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_whitespace(*last)
    {
        bytes = rest;
    }
    bytes
}

/// The position of the first control byte other than a tab, or the length.
///
/// Eight bytes at a time: header values are most of a head.
pub(super) fn find_control(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        match control_in(u64::from_le_bytes(*word)) {
            None => at += 8,
            Some(offset) if bytes[at + offset] == b'\t' => at += offset + 1,
            Some(offset) => return at + offset,
        }
    }
    while let Some(byte) = bytes.get(at) {
        if byte.is_ascii_control() && *byte != b'\t' {
            return at;
        }
        at += 1;
    }
    bytes.len()
}

/// Which of eight bytes is the first below 0x20 or equal to 0x7F.
///
/// The subtraction trick of Hacker's Delight section 6-1: a borrow can only mark a byte above
/// another marked one, so the lowest mark is always right.
fn control_in(word: u64) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let below_space = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
    let against_delete = word ^ (ONES * 0x7F);
    let delete = against_delete.wrapping_sub(ONES) & !against_delete & HIGH;
    let marks = below_space | delete;
    (marks != 0).then(|| marks.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn find_control_agrees_with_a_plain_loop() {
        for length in 0..20 {
            for position in 0..length {
                for byte in 0..=255_u8 {
                    let mut bytes = vec![b'a'; length];
                    bytes[position] = byte;
                    bytes[length / 2] = if position == length / 2 { byte } else { 0x80 };
                    let expected = bytes
                        .iter()
                        .position(|byte| byte.is_ascii_control() && *byte != b'\t')
                        .unwrap_or(length);
                    assert_eq!(find_control(&bytes, 0), expected, "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn tokens() {
        for (input, expected) in [
            (&b"GET"[..], true),
            (b"!#$%&'*+-.^_`|~09azAZ", true),
            (b"", false),
            (b"a b", false),
            (b"a:", false),
            (b"(a)", false),
            (b"a\x7f", false),
            (b"\xc3\xa9", false),
        ] {
            assert_eq!(is_token(input), expected, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn field_values() {
        assert!(is_field_value(b"a\tb \xff"));
        assert!(!is_field_value(b"a\r\nb"));
        assert!(!is_field_value(b"a\0"));
    }
}
