//! An HTTP/1.1 response, as it is written, becomes frames.

use std::io;

use http2::{Connection, HeadKind, StreamKey};
use wire::http1::{Framing, HeadLimits, Progress, RequestKind, ResponseHead};

use super::body::{Body, Out};

/// What we write ourselves: an endpoint's head, and what configuration adds to it.
const LIMITS: HeadLimits = HeadLimits { bytes: 256 * 1024, count: 1024, uri_bytes: 0 };

/// How far a response has come.
#[derive(Debug)]
pub(super) struct Response {
    kind: RequestKind,
    /// The request opens a tunnel (RFC 8441).
    is_tunnel: bool,
    /// None: the head is still to come.
    body: Option<Body>,
}

impl Response {
    pub(super) fn new(is_head: bool, is_connect: bool, is_tunnel: bool) -> Self {
        // A tunnel was asked for by an upgrade.
        let kind = RequestKind { is_head, is_connect: is_connect && !is_tunnel };
        Self { kind, is_tunnel, body: None }
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
        matches!(self.body, Some(Body::Done))
    }

    /// Ends with the connection, which has ended now.
    pub(super) fn end(&mut self, connection: &mut Connection, key: StreamKey) {
        if matches!(self.body, Some(Body::UntilClose)) {
            connection.send_data(key, &[], true);
            self.body = Some(Body::Done);
        }
    }

    /// See [`super::StreamEnd::end_call`].
    pub(super) fn end_call(
        &mut self,
        connection: &mut Connection,
        key: StreamKey,
        code: u8,
        message: &str,
    ) -> bool {
        // Nothing but trailers may follow a body, and a length would make them a lie.
        if !matches!(self.body, Some(Body::Chunked(_))) {
            return false;
        }
        connection.send_head(key, HeadKind::Trailers, |fields| {
            fields.field(b"grpc-status", code.to_string().as_bytes());
            fields.field(b"grpc-message", message.as_bytes());
        });
        self.body = Some(Body::Done);
        true
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
                None => {
                    if !connection.poll_room(key) {
                        return Ok(taken);
                    }
                    self.head(rest, parsed, connection, key)?
                }
                Some(body) => body.write(rest, &mut Out { connection, key, text: None })?,
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
            _ if upgraded && self.is_tunnel => Some(Body::UntilClose),
            (_, HeadKind::Informational) => None,
            (_, HeadKind::FinalWithoutBody) => Some(Body::Done),
            (framing, _) => Some(Body::new(framing)),
        };
        Ok(parsed.len)
    }
}
