//! What a container prints. Without a terminal the engine puts both streams into one, in blocks
//! with a head of eight bytes (`ContainerAttach` in its API): stream, three zeroes, length.

use std::collections::VecDeque;

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;

use super::{EngineError, unreachable};

/// Bytes of one line; a longer one is cut in two.
const LINE_BYTES_MAX: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Output,
    Error,
}

pub struct LogLines {
    body: Incoming,
    decoder: Decoder,
}

impl LogLines {
    /// `terminal`: the container has one, and the stream is as it is.
    pub fn new(response: Response<Incoming>, terminal: bool) -> Self {
        Self { body: response.into_body(), decoder: Decoder::new(terminal) }
    }

    /// `None`: that was all.
    pub async fn next(&mut self) -> Result<Option<(Source, String)>, EngineError> {
        loop {
            if let Some(line) = self.decoder.lines.pop_front() {
                return Ok(Some(line));
            }
            match self.body.frame().await {
                None => return Ok(self.decoder.rest()),
                Some(frame) => {
                    if let Ok(data) = frame.map_err(unreachable)?.into_data() {
                        self.decoder.take(&data);
                    }
                }
            }
        }
    }
}

/// Bytes in, lines out.
struct Decoder {
    terminal: bool,
    head: Vec<u8>,
    /// Of the block, still to come.
    left: usize,
    source: Source,
    /// What has no line end yet, of each stream.
    partial: [Vec<u8>; 2],
    lines: VecDeque<(Source, String)>,
}

impl Decoder {
    fn new(terminal: bool) -> Self {
        Self {
            terminal,
            head: Vec::new(),
            left: 0,
            source: Source::Output,
            partial: Default::default(),
            lines: VecDeque::new(),
        }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        if self.terminal {
            return self.text(bytes);
        }
        while !bytes.is_empty() {
            if self.left == 0 {
                let missing = 8 - self.head.len();
                let (head, rest) = bytes.split_at(missing.min(bytes.len()));
                self.head.extend_from_slice(head);
                bytes = rest;
                if let Ok([stream, _, _, _, length @ ..]) = <[u8; 8]>::try_from(&self.head[..]) {
                    self.source = if stream == 2 { Source::Error } else { Source::Output };
                    self.left = u32::from_be_bytes(length) as usize;
                    self.head.clear();
                }
                continue;
            }
            let (block, rest) = bytes.split_at(self.left.min(bytes.len()));
            self.left -= block.len();
            bytes = rest;
            self.text(block);
        }
    }

    fn text(&mut self, bytes: &[u8]) {
        let partial = &mut self.partial[usize::from(self.source == Source::Error)];
        for byte in bytes {
            if *byte == b'\n' || partial.len() >= LINE_BYTES_MAX {
                let line = String::from_utf8_lossy(partial).trim_end_matches('\r').to_owned();
                self.lines.push_back((self.source, line));
                partial.clear();
            }
            if *byte != b'\n' {
                partial.push(*byte);
            }
        }
    }

    /// What ended without a line end.
    fn rest(&mut self) -> Option<(Source, String)> {
        for source in [Source::Output, Source::Error] {
            let partial = std::mem::take(&mut self.partial[usize::from(source == Source::Error)]);
            if !partial.is_empty() {
                return Some((source, String::from_utf8_lossy(&partial).into_owned()));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_streams_in_one_in_pieces_of_any_size() {
        let mut stream = Vec::new();
        for (source, text) in [(1, "one\ntw"), (2, "err"), (1, "o\r\n"), (2, "or\nlast")] {
            stream.extend([source, 0, 0, 0]);
            stream.extend((text.len() as u32).to_be_bytes());
            stream.extend(text.bytes());
        }
        for size in 1..stream.len() {
            let mut decoder = Decoder::new(false);
            stream.chunks(size).for_each(|piece| decoder.take(piece));
            let mut lines: Vec<_> = decoder.lines.drain(..).collect();
            lines.extend(decoder.rest());
            let expected = [
                (Source::Output, "one"),
                (Source::Output, "two"),
                (Source::Error, "error"),
                (Source::Error, "last"),
            ];
            assert_eq!(lines, expected.map(|(s, text)| (s, text.to_owned())), "{size}");
        }
        let mut decoder = Decoder::new(true);
        decoder.take(b"a\nb");
        assert_eq!(decoder.lines.pop_front(), Some((Source::Output, "a".into())));
        assert_eq!(decoder.rest(), Some((Source::Output, "b".into())));
    }
}
