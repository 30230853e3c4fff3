//! Chunked bodies (RFC 9112 section 7.1), walked in place.

use super::field::{Line, scan_line};
use super::grammar::is_token_byte;
use super::{ChunkError, Halt, HeaderKind};
use crate::orca::{self, LoadReport};

/// Digits of a chunk size: 16 hold 64 bits. RFC 9112 section 7.1: "recipients MUST anticipate
/// potentially large hexadecimal numerals and prevent parsing errors due to integer conversion
/// overflows".
const SIZE_DIGITS_MAX: usize = 16;

/// Bytes of extensions on one size line. Nobody uses them; RFC 9112 section 7.1.1: "A server ought
/// to limit the total length of chunk extensions received in a request".
const EXTENSION_BYTES_MAX: usize = 256;

/// Bytes of extensions in one message: else one-byte chunks make a sender's bytes cost 256 times as
/// many framing bytes (CVE-2023-39326; Go chose the same bound).
const EXTENSION_BYTES_TOTAL_MAX: usize = 16 * 1024;

/// Bounds on the trailer section after the last chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrailerLimits {
    /// Bytes of all trailer lines together.
    pub bytes: usize,
    /// Number of trailer fields.
    pub count: usize,
}

/// Walks a chunked body, strictly, without copying. A clone of a fresh decoder restarts for a retry.
///
/// A size line or trailer line is judged whole, so the caller's buffer must be able to hold
/// [`ChunkedDecoder::LINE_BYTES_MAX`] and `TrailerLimits::bytes` bytes, whichever is more.
#[derive(Clone, Debug)]
pub struct ChunkedDecoder {
    limits: TrailerLimits,
    state: State,
    extension_bytes: usize,
    /// Boxed, since hardly any message has one.
    load_report: Option<Box<LoadReport>>,
}

/// What the front of the buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum ChunkStep {
    /// So many bytes of framing: size lines, the CRLF after data, trailers.
    Frame(usize),
    /// So many bytes of payload.
    Data(usize),
    /// The last byte of the message was passed before; nothing is consumed.
    End,
    /// The buffer holds too little to decide; nothing is consumed.
    NeedMore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Data { left: u64 },
    DataEnd,
    Trailers { bytes: usize, count: usize },
    Done,
}

impl ChunkedDecoder {
    /// Longest size line: digits, extensions, CRLF.
    pub const LINE_BYTES_MAX: usize = SIZE_DIGITS_MAX + EXTENSION_BYTES_MAX + 2;

    pub fn new(limits: TrailerLimits) -> ChunkedDecoder {
        ChunkedDecoder { limits, state: State::Size, extension_bytes: 0, load_report: None }
    }

    /// Looks at the front of `buf`: how many bytes belong together, and what they are. The caller
    /// takes them off before the next step.
    pub fn step(&mut self, buf: &[u8]) -> Result<ChunkStep, ChunkError> {
        // Framing parts that follow each other are taken together: the CRLF after data and the next
        // size line, or the last chunk and the trailers.
        let mut taken = 0;
        loop {
            if let State::Data { left } = self.state
                && taken == 0
            {
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
                if length == 0 {
                    return Ok(ChunkStep::NeedMore);
                }
                let left = left - length as u64;
                self.state = if left == 0 { State::DataEnd } else { State::Data { left } };
                return Ok(ChunkStep::Data(length));
            }
            let rest = &buf[taken..];
            let length = match self.state {
                State::Size => self.size_line(rest),
                State::DataEnd => self.data_end(rest),
                State::Trailers { bytes, count } => self.trailer_line(rest, bytes, count),
                State::Data { .. } => return Ok(ChunkStep::Frame(taken)),
                State::Done if taken == 0 => return Ok(ChunkStep::End),
                State::Done => return Ok(ChunkStep::Frame(taken)),
            };
            match length {
                Ok(length) => taken += length,
                Err(Halt::Error(error)) => return Err(error),
                Err(Halt::Partial) if taken == 0 => return Ok(ChunkStep::NeedMore),
                Err(Halt::Partial) => return Ok(ChunkStep::Frame(taken)),
            }
        }
    }

    /// Whether the last byte of the message was passed.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// What the trailers that were passed say of their sender's load.
    pub fn load_report(&self) -> Option<LoadReport> {
        self.load_report.as_deref().copied()
    }

    /// `chunk-size [ chunk-ext ] CRLF`
    fn size_line(&mut self, line: &[u8]) -> Result<usize, Halt<ChunkError>> {
        let mut size = 0_u64;
        let mut digits = 0;
        while let Some(digit) = line.get(digits).and_then(|byte| (*byte as char).to_digit(16)) {
            if digits == SIZE_DIGITS_MAX {
                return Err(ChunkError::SizeTooLong.into());
            }
            size = size << 4 | u64::from(digit);
            digits += 1;
        }
        let end = match line.get(digits) {
            None => return Err(Halt::Partial),
            Some(_) if digits == 0 => return Err(ChunkError::InvalidSize.into()),
            Some(b'\r' | b'\n') => digits,
            Some(b';') => digits + scan_extensions(&line[digits..])?,
            Some(_) => return Err(ChunkError::InvalidSize.into()),
        };
        match (line.get(end), line.get(end + 1)) {
            (None, _) | (Some(b'\r'), None) => return Err(Halt::Partial),
            (Some(b'\r'), Some(b'\n')) => {}
            _ => return Err(ChunkError::InvalidLineEnd.into()),
        }
        self.extension_bytes += end - digits;
        if self.extension_bytes > EXTENSION_BYTES_TOTAL_MAX {
            return Err(ChunkError::ExtensionsTooLong.into());
        }
        self.state = match size {
            0 => State::Trailers { bytes: 0, count: 0 },
            left => State::Data { left },
        };
        Ok(end + 2)
    }

    fn data_end(&mut self, rest: &[u8]) -> Result<usize, Halt<ChunkError>> {
        match rest {
            [] | [b'\r'] => Err(Halt::Partial),
            [b'\r', b'\n', ..] => {
                self.state = State::Size;
                Ok(2)
            }
            _ => Err(ChunkError::MissingDataEnd.into()),
        }
    }

    /// One trailer field, or the CRLF that ends the message.
    fn trailer_line(
        &mut self,
        rest: &[u8],
        bytes: usize,
        count: usize,
    ) -> Result<usize, Halt<ChunkError>> {
        // The final CRLF is not counted, so that a limit of 0 allows a message without trailers.
        let bound = (self.limits.bytes - bytes).saturating_add(2).min(u32::MAX as usize);
        let view = &rest[..rest.len().min(bound)];
        let (line, length) = match scan_line(view, 0) {
            Ok(line) => line,
            Err(Halt::Partial) if view.len() == bound => {
                return Err(ChunkError::TrailersTooLarge.into());
            }
            Err(halt) => return Err(halt.map(ChunkError::Trailer)),
        };
        let Line::Field { name, value } = line else {
            self.state = State::Done;
            return Ok(length);
        };
        let (bytes, count) = (bytes + length, count + 1);
        if bytes > self.limits.bytes || count > self.limits.count {
            return Err(ChunkError::TrailersTooLarge.into());
        }
        if is_forbidden_trailer(name.of(view)) {
            return Err(ChunkError::ForbiddenTrailer.into());
        }
        let report = match HeaderKind::of(name.of(view)) {
            HeaderKind::EndpointLoadMetrics => orca::decode(value.of(view)),
            HeaderKind::EndpointLoadMetricsBin => orca::decode_binary(value.of(view)),
            _ => None,
        };
        if let Some(report) = report {
            self.load_report = Some(Box::new(report));
        }
        self.state = State::Trailers { bytes, count };
        Ok(length)
    }
}

/// Checks `*( ";" chunk-ext-name [ "=" chunk-ext-val ] )`; returns where it ends. The whitespace
/// that RFC 9112 section 7.1.1 calls bad is refused.
fn scan_extensions(bytes: &[u8]) -> Result<usize, Halt<ChunkError>> {
    let view = &bytes[..bytes.len().min(EXTENSION_BYTES_MAX + 1)];
    match extensions_end(view) {
        Err(Halt::Partial) if view.len() > EXTENSION_BYTES_MAX => {
            Err(ChunkError::ExtensionsTooLong.into())
        }
        end => end,
    }
}

fn extensions_end(bytes: &[u8]) -> Result<usize, Halt<ChunkError>> {
    let mut at = 0;
    loop {
        match bytes.get(at) {
            None => return Err(Halt::Partial),
            Some(b'\r' | b'\n') => return Ok(at),
            Some(b';') => at = token_end(bytes, at + 1)?,
            Some(_) => return Err(ChunkError::InvalidExtension.into()),
        }
        match (bytes.get(at), bytes.get(at + 1)) {
            (None, _) | (Some(b'='), None) => return Err(Halt::Partial),
            (Some(b'='), Some(b'"')) => at = quoted_end(bytes, at + 2)?,
            (Some(b'='), _) => at = token_end(bytes, at + 1)?,
            _ => {}
        }
    }
}

fn token_end(bytes: &[u8], start: usize) -> Result<usize, Halt<ChunkError>> {
    let rest = bytes.get(start..).unwrap_or_default();
    match rest.iter().position(|byte| !is_token_byte(*byte)) {
        None => Err(Halt::Partial),
        Some(0) => Err(ChunkError::InvalidExtension.into()),
        Some(length) => Ok(start + length),
    }
}

/// The position after the closing quote of a quoted-string (RFC 9110 section 5.6.4).
fn quoted_end(bytes: &[u8], mut at: usize) -> Result<usize, Halt<ChunkError>> {
    let mut is_escaped = false;
    while let Some(byte) = bytes.get(at) {
        if byte.is_ascii_control() && *byte != b'\t' {
            return Err(ChunkError::InvalidExtension.into());
        }
        at += 1;
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Ok(at),
            _ => {}
        }
    }
    Err(Halt::Partial)
}

/// RFC 9110 section 6.5.1: "A sender MUST NOT generate a trailer field unless the sender knows the
/// corresponding header field name's definition permits". It names message framing, routing,
/// request modifiers, authentication, response control data, and content format.
fn is_forbidden_trailer(name: &[u8]) -> bool {
    const MORE: [&[u8]; 16] = [
        b"age",
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"expires",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"location",
        b"pragma",
        b"range",
        b"vary",
        b"www-authenticate",
    ];
    match HeaderKind::of(name) {
        HeaderKind::Other => MORE.iter().any(|known| name.eq_ignore_ascii_case(known)),
        HeaderKind::Server
        | HeaderKind::EndpointLoadMetrics
        | HeaderKind::EndpointLoadMetricsBin => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
