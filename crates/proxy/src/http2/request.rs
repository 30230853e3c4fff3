//! An HTTP/1.1 request, as it is written, becomes frames towards an endpoint.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http2::{Connection, FieldWriter, StreamKey};
use sha1::{Digest, Sha1};
use wire::http1::{Framing, HeadLimits, HeaderKind, Progress, RequestHead, TargetForm};

use super::body::{Body, Out};
use super::grpc_web::{self, Form, TextDecoder};
use super::stream::Asked;

/// What we write ourselves: a client's head, and what configuration adds to it.
const LIMITS: HeadLimits = HeadLimits { bytes: 256 * 1024, count: 1024, uri_bytes: 256 * 1024 };

/// What a request is to be sent as.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) scheme: &'static [u8],
    /// gRPC-Web becomes gRPC.
    pub(super) grpc_web: bool,
}

/// How far a request has come.
#[derive(Debug)]
pub(super) struct Request {
    manner: Manner,
    /// None: the head is still to come.
    body: Option<Body>,
    text: Option<Box<TextDecoder>>,
    is_tunnel: bool,
}

impl Request {
    pub(super) fn new(manner: Manner) -> Self {
        Self { manner, body: None, text: None, is_tunnel: false }
    }

    /// Bytes go both ways, without requests and responses.
    pub(super) fn is_tunnel(&self) -> bool {
        self.is_tunnel
    }

    /// Sends the head that `bytes` begin with; answers its length, and the stream that it opened,
    /// with what was asked. No stream: the connection takes no more.
    pub(super) fn head(
        &mut self,
        bytes: &[u8],
        parsed: &mut RequestHead,
        connection: &mut Connection,
    ) -> io::Result<(usize, Option<(StreamKey, Asked)>)> {
        // Heads are written as a whole, since we always take a whole one.
        match parsed.parse(bytes, &LIMITS) {
            Ok(Progress::Complete) => {}
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
        let key = |header: &&wire::http1::Header| {
            header.name.of(bytes).eq_ignore_ascii_case(b"sec-websocket-key")
        };
        let accept = match parsed.upgrade {
            true => parsed.headers.iter().find(key).map(|key| accept_key(key.value.of(bytes))),
            false => None,
        };
        let content_type = parsed.first(HeaderKind::ContentType);
        let web = content_type
            .filter(|_| self.manner.grpc_web)
            .and_then(|header| grpc_web::form(header.value.of(bytes)));
        let is_tunnel = parsed.upgrade;
        let end = !is_tunnel && matches!(parsed.framing, Framing::None | Framing::Length(0));
        let manner = self.manner;
        let opened = connection.request(end, parsed.is_head, is_tunnel, |fields| {
            write_head(fields, bytes, parsed, manner, web);
        });
        self.is_tunnel = is_tunnel;
        self.text = web.filter(|(form, _)| *form == Form::Text).map(|_| Box::default());
        self.body = Some(if is_tunnel { Body::UntilClose } else { Body::new(&parsed.framing) });
        let web = web.map(|(form, _)| form);
        let asked = Asked { is_head: parsed.is_head, is_tunnel, accept, web };
        Ok((parsed.len, opened.map(|key| (key, asked))))
    }

    /// Takes bytes of the body; answers how many. Fewer than all: the endpoint's windows are used
    /// up, or much waits for its socket.
    pub(super) fn body(
        &mut self,
        bytes: &[u8],
        connection: &mut Connection,
        key: StreamKey,
    ) -> io::Result<usize> {
        let mut taken = 0;
        while taken < bytes.len() {
            let Some(body) = &mut self.body else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            let out = &mut Out { connection, key, text: self.text.as_deref_mut() };
            match body.write(&bytes[taken..], out)? {
                0 => break,
                count => taken += count,
            }
        }
        Ok(taken)
    }

    /// A tunnel's direction ends.
    pub(super) fn end(&mut self, connection: &mut Connection, key: StreamKey) {
        if matches!(self.body, Some(Body::UntilClose)) {
            connection.send_data(key, &[], true);
            self.body = Some(Body::Done);
        }
    }
}

fn write_head(
    fields: &mut FieldWriter<'_>,
    bytes: &[u8],
    head: &RequestHead,
    manner: Manner,
    web: Option<(Form, &[u8])>,
) {
    // RFC 8441 section 4: a tunnel to another protocol is asked for by CONNECT.
    fields.method(if head.upgrade { b"CONNECT" } else { head.method.of(bytes) });
    fields.scheme(manner.scheme);
    fields.authority(head.authority.of(bytes));
    let asterisk = head.form == TargetForm::Asterisk;
    fields.path(if asterisk { b"*" } else { head.target.of(bytes) });
    if head.upgrade
        && let Some(upgrade) = head.first(HeaderKind::Upgrade)
    {
        fields.field(b":protocol", upgrade.value.of(bytes));
    }
    let mut is_grpc = web.is_some();
    let mut has_te = false;
    for header in &head.headers {
        let (name, value) = (header.name.of(bytes), header.value.of(bytes));
        match header.kind {
            HeaderKind::Host => continue,
            HeaderKind::Te if names_trailers(value) => has_te = true,
            HeaderKind::ContentLength if web.is_some() => continue,
            HeaderKind::ContentType => match web {
                Some((_, rest)) => {
                    fields.field(name, &[b"application/grpc", rest].concat());
                    continue;
                }
                None => is_grpc |= is_grpc_type(value),
            },
            _ => {}
        }
        let is_key = head.upgrade && name.eq_ignore_ascii_case(b"sec-websocket-key");
        if !header.hop_by_hop && !is_key {
            fields.field(name, value);
        }
    }
    // RFC 9113 section 8.2.2: the one value of TE that there is. gRPC demands it, to find proxies
    // that lose trailers.
    if has_te || is_grpc {
        fields.field(b"te", b"trailers");
    }
}

/// Does a TE field say that trailers are welcome (RFC 9110 section 10.1.4)?
pub(crate) fn names_trailers(value: &[u8]) -> bool {
    value
        .split(|byte| *byte == b',')
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// `application/grpc`, alone or with what the messages are in.
fn is_grpc_type(value: &[u8]) -> bool {
    const NAME: &[u8] = b"application/grpc";
    value.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME))
}

/// The value of `Sec-WebSocket-Accept` (RFC 6455 section 4.2.2), which a client of HTTP/1.1 waits
/// for and HTTP/2 does not have.
fn accept_key(key: &[u8]) -> [u8; 28] {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let mut accept = [0; 28];
    // 20 bytes are 28 digits.
    let _ = STANDARD.encode_slice(hash.finalize(), &mut accept);
    accept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        let accept = accept_key(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept, *b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_te_says() {
        assert!(names_trailers(b"trailers") && names_trailers(b"gzip;q=0.5, Trailers"));
        assert!(!names_trailers(b"gzip") && !names_trailers(b""));
        assert!(is_grpc_type(b"application/grpc+proto") && !is_grpc_type(b"application/json"));
    }
}
