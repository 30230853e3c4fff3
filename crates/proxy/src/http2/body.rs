//! A body, as HTTP/1.1 has it, becomes DATA frames, and its trailers a HEADERS frame.

use std::io;

use http2::{Connection, HeadKind, StreamKey};
use wire::http1::{ChunkStep, ChunkedDecoder, Framing};

use super::grpc_web::TextDecoder;
use crate::pump::TRAILER_LIMITS;

/// How far a body has come, by what ends it.
#[derive(Debug)]
pub(super) enum Body {
    Length(u64),
    /// Boxed: most messages tell their length.
    Chunked(Box<Chunked>),
    /// Ends with the connection, or is none: a tunnel.
    UntilClose,
    Done,
}

#[derive(Debug)]
pub(super) struct Chunked {
    decoder: ChunkedDecoder,
    /// Bytes of payload that were recognised and not sent yet.
    payload: usize,
    /// What was framing since the last payload: in the end, the trailers.
    framing: Vec<u8>,
}

/// Where a body goes.
pub(super) struct Out<'a> {
    pub(super) connection: &'a mut Connection,
    pub(super) key: StreamKey,
    /// What is written is base64 of what is to be sent.
    pub(super) text: Option<&'a mut TextDecoder>,
}

impl Out<'_> {
    /// Answers how many bytes it took: fewer than all if the peer's windows are used up, or much
    /// waits for its socket. `end`: they are the last ones.
    fn data(&mut self, bytes: &[u8], end: bool) -> io::Result<usize> {
        let Some(text) = &mut self.text else {
            return Ok(self.connection.send_data(self.key, bytes, end));
        };
        let (connection, key) = (&mut *self.connection, self.key);
        let taken = text.write(bytes, |piece| connection.send_data(key, piece, false))?;
        if end && taken == bytes.len() {
            text.finish()?;
            connection.send_data(key, &[], true);
        }
        Ok(taken)
    }

    fn finish(&mut self, framing: &[u8]) -> io::Result<()> {
        if let Some(text) = &mut self.text {
            text.finish()?;
        }
        let trailers: Vec<(&[u8], &[u8])> = trailers(framing).collect();
        if trailers.is_empty() {
            self.connection.send_data(self.key, &[], true);
            return Ok(());
        }
        self.connection.send_head(self.key, HeadKind::Trailers, |fields| {
            for (name, value) in trailers {
                fields.field(name, value);
            }
        });
        Ok(())
    }
}

impl Body {
    /// Of a message with a body.
    pub(super) fn new(framing: &Framing) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Body::Done,
            Framing::Length(length) => Body::Length(*length),
            Framing::Chunked => Body::Chunked(Box::new(Chunked {
                decoder: ChunkedDecoder::new(TRAILER_LIMITS),
                payload: 0,
                framing: Vec::new(),
            })),
            Framing::UntilClose => Body::UntilClose,
        }
    }

    /// Takes bytes of the body; answers how many, which may be none: see [`Out::data`].
    pub(super) fn write(&mut self, bytes: &[u8], out: &mut Out<'_>) -> io::Result<usize> {
        match self {
            Body::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                let is_last = length as u64 == *left;
                let count = out.data(&bytes[..length], is_last)?;
                *left -= count as u64;
                if *left == 0 {
                    *self = Body::Done;
                }
                Ok(count)
            }
            Body::Chunked(chunked) => {
                let (count, is_done) = chunked.write(bytes, out)?;
                if is_done {
                    *self = Body::Done;
                }
                Ok(count)
            }
            Body::UntilClose => out.data(bytes, false),
            Body::Done => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Chunked {
    /// Answers how many bytes it took, and whether the body is complete.
    fn write(&mut self, bytes: &[u8], out: &mut Out<'_>) -> io::Result<(usize, bool)> {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            if self.payload > 0 {
                let length = self.payload.min(rest.len());
                let count = out.data(&rest[..length], false)?;
                self.payload -= count;
                taken += count;
                if self.payload > 0 {
                    return Ok((taken, false));
                }
                continue;
            }
            match self.decoder.step(rest) {
                Ok(ChunkStep::Data(count)) => {
                    self.payload = count;
                    self.framing.clear();
                }
                Ok(ChunkStep::Frame(count)) => {
                    self.framing.extend_from_slice(&rest[..count]);
                    taken += count;
                    if self.decoder.is_done() {
                        out.finish(&self.framing)?;
                        return Ok((taken, true));
                    }
                }
                Ok(ChunkStep::End | ChunkStep::NeedMore) if rest.is_empty() => {
                    return Ok((taken, false));
                }
                // The pump passes on whole lines, which it has checked.
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

/// The fields between the last size line and the empty line, which a decoder has checked.
fn trailers(framing: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = framing.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    // The end of the chunk before, then the size line, which has no colon but in an extension.
    let after_size = lines.skip_while(|line| line.is_empty()).skip(1);
    after_size.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let is_framing = [&b"transfer-encoding"[..], b"content-length", b"connection", b"te"];
        let forbidden = is_framing.iter().any(|known| name.eq_ignore_ascii_case(known));
        (!forbidden && !name.is_empty()).then_some((name, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_are_found() {
        let check = |framing: &str, expected: &[(&str, &str)]| {
            let found: Vec<_> = trailers(framing.as_bytes()).collect();
            let expected: Vec<_> =
                expected.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
            assert_eq!(found, expected, "{framing:?}");
        };
        check("0\r\n\r\n", &[]);
        check("\r\n0\r\n\r\n", &[]);
        check("\r\n0;a:b\r\nGrpc-Status: 0\r\n\r\n", &[("Grpc-Status", "0")]);
        check("0\r\na: b\r\nc:d \r\n\r\n", &[("a", "b"), ("c", "d")]);
        check("0\r\nContent-Length: 5\r\n\r\n", &[]);
    }
}
