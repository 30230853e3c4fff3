//! The protocol of Redis (RESP 2, <https://redis.io/docs/latest/develop/reference/protocol-spec/>), as
//! far as a client needs it that sets and gets texts: commands out, simple replies in.
//!
//! Replies that are lists are none that were asked for, and an error like every other surprise: after
//! one, nobody knows where the next reply begins, and the connection must end.

/// Of a line, and of a text; longer ones are none that we have set.
pub const TEXT_BYTES_MAX: usize = 4096;

/// What a store answers to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// `+OK`
    Simple(&'a [u8]),
    /// `-ERR ...`, without the sign.
    Error(&'a [u8]),
    /// `:1`
    Integer(i64),
    /// `$3`, and three bytes; `None`: there is no such key.
    Text(Option<&'a [u8]>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RespError {
    /// It begins with none of `+-:$`.
    UnknownKind,
    /// A line, or a text, of more than [`TEXT_BYTES_MAX`] bytes.
    TooLong,
    /// What should be a number is none.
    Number,
    /// A line that ends without CR LF, or with CR alone.
    LineEnd,
}

impl std::fmt::Display for RespError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::UnknownKind => "an answer of a kind that was not asked for",
            Self::TooLong => "an answer that is too long",
            Self::Number => "an answer with a malformed number",
            Self::LineEnd => "an answer with a malformed line",
        })
    }
}

impl std::error::Error for RespError {}

/// The first reply of `data`, and how many bytes it takes; `None`: it is not all there.
pub fn decode(data: &[u8]) -> Result<Option<(Reply<'_>, usize)>, RespError> {
    let Some((kind, rest)) = data.split_first() else { return Ok(None) };
    if !b"+-:$".contains(kind) {
        return Err(RespError::UnknownKind);
    }
    let Some(line) = line(rest)? else { return Ok(None) };
    // The sign, the line, CR LF.
    let used = 1 + line.len() + 2;
    let reply = match kind {
        b'+' => Reply::Simple(line),
        b'-' => Reply::Error(line),
        b':' => Reply::Integer(number(line)?),
        _ => match number(line)? {
            -1 => Reply::Text(None),
            length => {
                let length = usize::try_from(length).map_err(|_| RespError::Number)?;
                if length > TEXT_BYTES_MAX {
                    return Err(RespError::TooLong);
                }
                let Some(text) = data.get(used..used + length) else { return Ok(None) };
                return match data.get(used + length..).unwrap_or_default() {
                    [b'\r', b'\n', ..] => Ok(Some((Reply::Text(Some(text)), used + length + 2))),
                    [] | [b'\r'] => Ok(None),
                    _ => Err(RespError::LineEnd),
                };
            }
        },
    };
    Ok(Some((reply, used)))
}

/// Up to CR LF.
fn line(data: &[u8]) -> Result<Option<&[u8]>, RespError> {
    let end = data.iter().take(TEXT_BYTES_MAX + 1).position(|byte| matches!(byte, b'\r' | b'\n'));
    match end {
        None if data.len() > TEXT_BYTES_MAX => Err(RespError::TooLong),
        None => Ok(None),
        Some(end) => match &data[end..] {
            [b'\r', b'\n', ..] => Ok(Some(&data[..end])),
            [b'\r'] => Ok(None),
            _ => Err(RespError::LineEnd),
        },
    }
}

fn number(line: &[u8]) -> Result<i64, RespError> {
    let text = str::from_utf8(line).map_err(|_| RespError::Number)?;
    text.parse().map_err(|_| RespError::Number)
}

/// Appends a command: a list of texts, whatever bytes they hold.
pub fn encode(words: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies() {
        for (text, expected) in [
            ("+OK\r\n", Ok(Some((Reply::Simple(b"OK"), 5)))),
            ("-ERR no\r\n+", Ok(Some((Reply::Error(b"ERR no"), 9)))),
            (":-12\r\n", Ok(Some((Reply::Integer(-12), 6)))),
            ("$3\r\na\r\n\r\n:1", Ok(Some((Reply::Text(Some(b"a\r\n")), 9)))),
            ("$0\r\n\r\n", Ok(Some((Reply::Text(Some(b"")), 6)))),
            ("$-1\r\n", Ok(Some((Reply::Text(None), 5)))),
            ("", Ok(None)),
            ("+OK\r", Ok(None)),
            ("$3\r\nab", Ok(None)),
            ("$3\r\nabc\r", Ok(None)),
            ("$3\r\nabcd\r\n", Err(RespError::LineEnd)),
            ("+O\nK\r\n", Err(RespError::LineEnd)),
            ("+O\rK\r\n", Err(RespError::LineEnd)),
            ("$-2\r\n", Err(RespError::Number)),
            ("$4097\r\n", Err(RespError::TooLong)),
            (":1x\r\n", Err(RespError::Number)),
            ("*1\r\n+OK\r\n", Err(RespError::UnknownKind)),
            ("HTTP/1.1 400 Bad Request\r\n", Err(RespError::UnknownKind)),
        ] {
            assert_eq!(decode(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(decode(&[b'+'; TEXT_BYTES_MAX + 2]), Err(RespError::TooLong));
    }

    #[test]
    fn commands() {
        let mut out = Vec::new();
        encode(&[b"SET", b"a\r\n", b""], &mut out);
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$3\r\na\r\n\r\n$0\r\n\r\n");
    }
}
