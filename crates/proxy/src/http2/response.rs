//! An HTTP/1.1 response, as it is written, becomes frames.

use std::io;

use http2::{Connection, HeadKind, StreamKey};
use wire::http1::{
    ChunkStep, ChunkedDecoder, Framing, HeadLimits, Progress, RequestKind, ResponseHead,
    TrailerLimits,
};

/// What we write ourselves: an endpoint's head, and what configuration adds to it.
const LIMITS: HeadLimits = HeadLimits { bytes: 256 * 1024, count: 1024, uri_bytes: 0 };
/// As the pump has checked them.
const TRAILER_LIMITS: TrailerLimits = TrailerLimits { bytes: 8 * 1024, count: 32 };

/// How far a response has come.
#[derive(Debug)]
pub(super) struct Response {
    kind: RequestKind,
    /// The request opens a tunnel (RFC 8441).
    is_tunnel: bool,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// The head is still to come.
    Head,
    Length(u64),
    /// Boxed: most responses tell their length.
    Chunked(Box<Chunked>),
    /// Ends with the connection, or is none: a tunnel.
    UntilClose,
    Done,
}

#[derive(Debug)]
struct Chunked {
    decoder: ChunkedDecoder,
    /// Bytes of payload that were recognised and not sent yet.
    payload: usize,
    /// What was framing since the last payload: in the end, the trailers.
    framing: Vec<u8>,
}

impl Response {
    pub(super) fn new(is_head: bool, is_connect: bool, is_tunnel: bool) -> Self {
        // A tunnel was asked for by an upgrade.
        let kind = RequestKind { is_head, is_connect: is_connect && !is_tunnel };
        Self { kind, is_tunnel, body: Body::Head }
    }

    /// The request is HEAD.
    pub(super) fn is_head(&self) -> bool {
        self.kind.is_head
    }

    /// Bytes go both ways, without requests and responses.
    pub(super) fn is_tunnel(&self) -> bool {
        self.is_tunnel
    }

    /// The client has all of it.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.body, Body::Done)
    }

    /// Ends with the connection, which has ended now.
    pub(super) fn end(&mut self, connection: &mut Connection, key: StreamKey) {
        if matches!(self.body, Body::UntilClose) {
            connection.send_data(key, &[], true);
            self.body = Body::Done;
        }
    }

    /// Takes bytes of the message; answers how many. Fewer than all: the client's windows are used
    /// up, or much waits for its socket.
    pub(super) fn write(
        &mut self,
        bytes: &[u8],
        parsed: &mut ResponseHead,
        connection: &mut Connection,
        key: StreamKey,
    ) -> io::Result<usize> {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            if rest.is_empty() {
                return Ok(taken);
            }
            let count = match &mut self.body {
                Body::Head => {
                    if !connection.poll_room(key) {
                        return Ok(taken);
                    }
                    self.head(rest, parsed, connection, key)?
                }
                Body::Length(left) => {
                    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    let is_last = length as u64 == *left;
                    let count = connection.send_data(key, &rest[..length], is_last);
                    *left -= count as u64;
                    if *left == 0 {
                        self.body = Body::Done;
                    }
                    count
                }
                Body::Chunked(chunked) => {
                    let (count, is_done) = chunked.write(rest, connection, key)?;
                    if is_done {
                        self.body = Body::Done;
                    }
                    count
                }
                Body::UntilClose => connection.send_data(key, rest, false),
                Body::Done => return Err(io::ErrorKind::InvalidData.into()),
            };
            if count == 0 {
                return Ok(taken);
            }
            taken += count;
        }
    }

    fn head(
        &mut self,
        bytes: &[u8],
        parsed: &mut ResponseHead,
        connection: &mut Connection,
        key: StreamKey,
    ) -> io::Result<usize> {
        // Heads are written as a whole, since we always take a whole one.
        match parsed.parse(bytes, &LIMITS, self.kind) {
            Ok(Progress::Complete) => {}
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        let upgraded = parsed.status == 101;
        // RFC 8441 section 5: "a 2xx response" takes the place of 101, and there is no key to answer.
        let status = if upgraded { 200 } else { parsed.status };
        let kind = match parsed.framing {
            _ if upgraded => HeadKind::Final,
            _ if parsed.is_informational() => HeadKind::Informational,
            Framing::None | Framing::Length(0) => HeadKind::FinalWithoutBody,
            _ => HeadKind::Final,
        };
        connection.send_head(key, kind, |fields| {
            fields.status(status);
            for header in &parsed.headers {
                let name = header.name.of(bytes);
                let is_key = upgraded && name.eq_ignore_ascii_case(b"sec-websocket-accept");
                if !header.hop_by_hop && !is_key {
                    fields.field(name, header.value.of(bytes));
                }
            }
        });
        self.body = match (&parsed.framing, kind) {
            _ if upgraded && self.is_tunnel => Body::UntilClose,
            (_, HeadKind::Informational) => Body::Head,
            (_, HeadKind::FinalWithoutBody) => Body::Done,
            (Framing::Length(length), _) => Body::Length(*length),
            (Framing::Chunked, _) => Body::Chunked(Box::new(Chunked {
                decoder: ChunkedDecoder::new(TRAILER_LIMITS),
                payload: 0,
                framing: Vec::new(),
            })),
            _ => Body::UntilClose,
        };
        Ok(parsed.len)
    }
}

impl Chunked {
    /// Answers how many bytes it took, and whether the body is complete.
    fn write(
        &mut self,
        bytes: &[u8],
        connection: &mut Connection,
        key: StreamKey,
    ) -> io::Result<(usize, bool)> {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            if self.payload > 0 {
                let length = self.payload.min(rest.len());
                let count = connection.send_data(key, &rest[..length], false);
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
                        self.finish(connection, key);
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

    fn finish(&self, connection: &mut Connection, key: StreamKey) {
        let trailers: Vec<(&[u8], &[u8])> = trailers(&self.framing).collect();
        if trailers.is_empty() {
            connection.send_data(key, &[], true);
            return;
        }
        connection.send_head(key, HeadKind::Trailers, |fields| {
            for (name, value) in trailers {
                fields.field(name, value);
            }
        });
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
