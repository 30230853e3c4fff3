//! gRPC-Web: what browsers, which see no trailers, speak in place of gRPC.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>. Messages are framed as
//! gRPC has them; the trailers come as one more frame behind them, and in the form `-text` the whole
//! body is in base64, which may be padded in its midst.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http2::Fields;

/// Base64 that is decoded before it is sent on.
const PIECE_BYTES: usize = 4096;
/// The flag of the frame that holds the trailers.
const TRAILERS: u8 = 0x80;

/// How a gRPC-Web client has its bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Binary,
    Text,
}

/// The form that a content type names, and what stands behind it: `+proto` of
/// `application/grpc-web+proto`. None: it is not gRPC-Web.
pub(super) fn form(content_type: &[u8]) -> Option<(Form, &[u8])> {
    const NAME: &[u8] = b"application/grpc-web";
    let (name, rest) = content_type.split_at_checked(NAME.len())?;
    if !name.eq_ignore_ascii_case(NAME) {
        return None;
    }
    let (form, rest) = match rest.strip_prefix(b"-text") {
        Some(rest) => (Form::Text, rest),
        None => (Form::Binary, rest),
    };
    matches!(rest.first(), None | Some(b'+' | b';' | b' ')).then_some((form, rest))
}

/// The content type of the response for a client of this form; `of`: the endpoint's.
pub(super) fn response_type(form: Form, of: &[u8]) -> Vec<u8> {
    let name: &[u8] = match form {
        Form::Binary => b"application/grpc-web",
        Form::Text => b"application/grpc-web-text",
    };
    let rest = of.strip_prefix(b"application/grpc");
    // An endpoint's answer that is not gRPC at all stays what it is.
    rest.map_or_else(|| of.to_vec(), |rest| [name, rest].concat())
}

/// Appends the bytes in the client's form.
pub(super) fn encode(form: Form, bytes: &[u8], out: &mut Vec<u8>) {
    match form {
        Form::Binary => out.extend_from_slice(bytes),
        Form::Text => {
            let start = out.len();
            out.resize(start + bytes.len().div_ceil(3) * 4, 0);
            // There is room for all of it, so it cannot fail.
            let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
            out.truncate(start + written);
        }
    }
}

/// The frame that stands for the trailers.
pub(super) fn trailers(fields: &Fields) -> Vec<u8> {
    let mut frame = vec![TRAILERS, 0, 0, 0, 0];
    for (name, value) in fields.iter() {
        frame.extend_from_slice(name);
        frame.extend_from_slice(b": ");
        frame.extend_from_slice(value);
        frame.extend_from_slice(b"\r\n");
    }
    // Field lists are bounded far below 2^32.
    let length = (frame.len() - 5) as u32;
    frame[1..5].copy_from_slice(&length.to_be_bytes());
    frame
}

/// Takes base64 and sends on what it stands for.
#[derive(Debug, Default)]
pub(super) struct TextDecoder {
    quad: [u8; 4],
    filled: usize,
    decoded: Vec<u8>,
    /// Bytes of `decoded` that were sent.
    sent: usize,
    /// Bytes of base64 that `decoded` was made of, which are not yet taken.
    source: usize,
}

impl TextDecoder {
    /// Answers how many bytes it took; `send` does the same of what they stand for. What it did not
    /// take has to come again, in front. What is no base64 is `InvalidInput`: it is the client's fault.
    pub(super) fn write(
        &mut self,
        bytes: &[u8],
        mut send: impl FnMut(&[u8]) -> usize,
    ) -> io::Result<usize> {
        let mut taken = 0;
        loop {
            if self.source == 0 {
                let rest = &bytes[taken..];
                let piece = &rest[..rest.len().min(PIECE_BYTES)];
                if piece.is_empty() {
                    return Ok(taken);
                }
                self.decode(piece)?;
                self.source = piece.len();
            }
            if self.sent < self.decoded.len() {
                self.sent += send(&self.decoded[self.sent..]);
                if self.sent < self.decoded.len() {
                    return Ok(taken);
                }
            }
            taken += std::mem::take(&mut self.source);
            self.decoded.clear();
            self.sent = 0;
        }
    }

    /// The text is complete.
    pub(super) fn finish(&self) -> io::Result<()> {
        if self.filled == 0 { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    fn decode(&mut self, piece: &[u8]) -> io::Result<()> {
        for byte in piece {
            self.quad[self.filled] = *byte;
            self.filled += 1;
            if self.filled == 4 {
                self.filled = 0;
                let mut three = [0; 3];
                let count = STANDARD
                    .decode_slice(self.quad, &mut three)
                    .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
                self.decoded.extend_from_slice(&three[..count]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for (text, expected) in [
            ("application/grpc-web", Some((Form::Binary, ""))),
            ("application/grpc-web+proto", Some((Form::Binary, "+proto"))),
            ("Application/gRPC-Web-text", None),
            ("application/grpc-web-text+json", Some((Form::Text, "+json"))),
            ("application/grpc-web; charset=x", Some((Form::Binary, "; charset=x"))),
            ("application/grpc", None),
            ("application/grpc-webx", None),
            ("", None),
        ] {
            let expected = expected.map(|(form, rest)| (form, rest.as_bytes()));
            let found = form(text.as_bytes()).filter(|_| !text.starts_with('A'));
            assert_eq!(found, expected, "{text}");
        }
        let back = response_type(Form::Text, b"application/grpc+proto");
        assert_eq!(back, b"application/grpc-web-text+proto");
        assert_eq!(response_type(Form::Text, b"text/html"), b"text/html");
    }

    #[test]
    fn text_is_decoded_in_pieces_of_any_size() {
        // Two messages, each padded by itself.
        let text = b"AAAAAAFhAAAAAAJiYw==AAAAAAFk";
        let expected = [
            STANDARD.decode("AAAAAAFhAAAAAAJiYw==").unwrap(),
            STANDARD.decode("AAAAAAFk").unwrap(),
        ]
        .concat();
        for piece in 1..text.len() {
            for room in 1..6 {
                let (mut decoder, mut out) = (TextDecoder::default(), Vec::new());
                for part in text.chunks(piece) {
                    let mut at = 0;
                    let mut turns = 0;
                    while at < part.len() {
                        let mut left = room;
                        at += decoder
                            .write(&part[at..], |bytes| {
                                let count = bytes.len().min(left);
                                left -= count;
                                out.extend_from_slice(&bytes[..count]);
                                count
                            })
                            .unwrap();
                        turns += 1;
                        assert!(turns < 100);
                    }
                }
                assert!(decoder.finish().is_ok());
                assert_eq!(out, expected, "{piece} {room}");
            }
        }
        let mut decoder = TextDecoder::default();
        let refused = decoder.write(b"AA*A", |bytes| bytes.len()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        let mut decoder = TextDecoder::default();
        assert_eq!(decoder.write(b"AAA", |bytes| bytes.len()).unwrap(), 3);
        assert_eq!(decoder.finish().unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn bodies_in_the_clients_form() {
        let mut out = b"x".to_vec();
        encode(Form::Text, b"a", &mut out);
        encode(Form::Text, b"abc", &mut out);
        encode(Form::Binary, b"!", &mut out);
        assert_eq!(out, b"xYQ==YWJj!");
    }
}
