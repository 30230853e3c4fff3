use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A first line that is longer is taken for what it begins like.
const FIRST_LINE_LEN_MAX: usize = 8 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Http,
    Lines,
}

/// Reads until it is clear what the client speaks. `None`: it left without a word, as health
/// checks do.
pub(super) async fn detect(mut stream: TcpStream) -> io::Result<Option<(Kind, Begun)>> {
    let mut begun = Vec::with_capacity(FIRST_LINE_LEN_MAX);
    loop {
        let len = stream.read_buf(&mut begun).await?;
        let over = len == 0 || begun.len() >= FIRST_LINE_LEN_MAX;
        let kind = match kind(&begun) {
            _ if begun.is_empty() => return Ok(None),
            None if over => Kind::Lines,
            None => continue,
            Some(kind) => kind,
        };
        return Ok(Some((kind, Begun { stream, begun, taken: 0 })));
    }
}

/// `None`: more must be seen.
fn kind(begun: &[u8]) -> Option<Kind> {
    const METHODS: [&[u8]; 9] = [
        b"GET ",
        b"HEAD ",
        b"POST ",
        b"PUT ",
        b"DELETE ",
        b"CONNECT ",
        b"OPTIONS ",
        b"TRACE ",
        b"PATCH ",
    ];
    if METHODS.iter().any(|method| begun.starts_with(method)) {
        return Some(Kind::Http);
    }
    let end = begun.iter().position(|&byte| byte == b'\n')?;
    let line = begun[..end].trim_ascii_end();
    let is_http = line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0");
    Some(if is_http { Kind::Http } else { Kind::Lines })
}

/// A connection whose first bytes were read already; they are read again before the rest.
pub(super) struct Begun {
    stream: TcpStream,
    begun: Vec<u8>,
    taken: usize,
}

impl Begun {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, begun: Vec::new(), taken: 0 }
    }
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.taken == self.begun.len() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let rest = &self.begun[self.taken..];
        let len = rest.len().min(into.remaining());
        into.put_slice(&rest[..len]);
        self.taken += len;
        if self.taken == self.begun.len() {
            (self.begun, self.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes() {
        for (begun, expected) in [
            ("", None),
            ("GET", None),
            ("GET ", Some(Kind::Http)),
            ("GETTING\n", Some(Kind::Lines)),
            ("OPTIONS * HTTP/1.1\r\n", Some(Kind::Http)),
            ("QUERY / HT", None),
            ("QUERY / HTTP/1.1\r\n", Some(Kind::Http)),
            ("hello", None),
            ("hello\n", Some(Kind::Lines)),
            ("\n", Some(Kind::Lines)),
        ] {
            assert_eq!(kind(begun.as_bytes()), expected, "{begun:?}");
        }
    }
}
