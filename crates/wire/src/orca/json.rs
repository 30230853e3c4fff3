//! The message as an object (the JSON mapping of protobuf: names in either case style, numbers as
//! numbers or as strings). Strict about the syntax of RFC 8259; of values that nobody reads, only
//! as far as finding their end needs it.

use super::{LoadReport, number};

/// Objects within objects: the message has maps, and nothing deeper.
const DEPTH_MAX: u32 = 8;

pub(super) fn decode_json(text: &[u8]) -> Option<LoadReport> {
    let mut scanner = Scanner { text, at: 0 };
    let mut report = LoadReport::default();
    scanner.object(|scanner, name| {
        if matches!(name, b"named_metrics" | b"namedMetrics") && scanner.peek()? == b'{' {
            return scanner.object(|scanner, name| {
                if let Value::Plain(value) = scanner.value(1)?
                    && let Some(value) = number(value)
                {
                    report.set_named(name, value);
                }
                Some(())
            });
        }
        let value = scanner.value(0)?;
        if let Value::Plain(value) = value
            && let Some(value) = number(value)
        {
            report.set(name, value);
        }
        Some(())
    })?;
    (scanner.peek().is_none()).then_some(report)
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

enum Value<'a> {
    /// A string without its quotes, a number or a word.
    Plain(&'a [u8]),
    Nested,
}

impl<'a> Scanner<'a> {
    /// The next byte that is no whitespace, left in place.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.text.get(self.at) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn object(&mut self, mut entry: impl FnMut(&mut Self, &'a [u8]) -> Option<()>) -> Option<()> {
        self.take(b'{')?;
        if self.take(b'}').is_some() {
            return Some(());
        }
        loop {
            let name = self.string()?;
            self.take(b':')?;
            entry(self, name)?;
            if self.take(b',').is_none() {
                return self.take(b'}');
            }
        }
    }

    fn value(&mut self, depth: u32) -> Option<Value<'a>> {
        if depth > DEPTH_MAX {
            return None;
        }
        match self.peek()? {
            b'"' => self.string().map(Value::Plain),
            b'{' => {
                self.object(|scanner, _| scanner.value(depth + 1).map(drop))?;
                Some(Value::Nested)
            }
            b'[' => {
                self.take(b'[')?;
                if self.take(b']').is_some() {
                    return Some(Value::Nested);
                }
                loop {
                    self.value(depth + 1)?;
                    if self.take(b',').is_none() {
                        self.take(b']')?;
                        return Some(Value::Nested);
                    }
                }
            }
            _ => {
                let rest = &self.text[self.at..];
                let ends =
                    |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
                let word = &rest[..rest.iter().position(ends).unwrap_or(rest.len())];
                let known = matches!(word, b"true" | b"false" | b"null");
                // JSON has no NaN outside of strings.
                let finite = number(word).is_some_and(|number| !number.is_nan());
                self.at += word.len();
                (known || finite).then_some(Value::Plain(word))
            }
        }
    }

    /// Escapes stay as they are: no name or value that counts holds any.
    fn string(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        let start = self.at;
        loop {
            match self.text.get(self.at)? {
                b'"' => break,
                b'\\' => self.at += 2,
                0..0x20 => return None,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(start..self.at - 1)
    }
}
