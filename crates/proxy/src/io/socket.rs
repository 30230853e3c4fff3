//! A TCP socket, which the runtime is told of when somebody waits for it.
//!
//! A client that asks one thing and goes mostly has said it when its connection is accepted. Such
//! a socket is read and written at once; told to the runtime, it would cost two system calls, an
//! event and a turn of its task.

use std::io::{self, IoSlice};
use std::mem;
use std::net::{Shutdown, TcpStream as Accepted};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::poll_io;

#[derive(Debug)]
pub(crate) struct Socket(State);

#[derive(Debug)]
enum State {
    /// `was_read`: what it had to say was taken, so that the next read would find nothing.
    Fresh {
        stream: Accepted,
        was_read: bool,
    },
    Known(TcpStream),
    /// The runtime did not take it.
    Lost,
}

impl Socket {
    /// One that was just accepted and does not block.
    pub(crate) fn fresh(stream: Accepted) -> Self {
        Self(State::Fresh { stream, was_read: false })
    }

    pub(super) fn known(stream: TcpStream) -> Self {
        Self(State::Known(stream))
    }

    /// Has nobody waited for it yet?
    pub(super) fn is_fresh(&self) -> bool {
        matches!(self.0, State::Fresh { .. })
    }

    /// Tells the runtime of it, once.
    #[inline]
    pub(super) fn stream(&mut self) -> io::Result<&mut TcpStream> {
        if !matches!(self.0, State::Known(_)) {
            self.introduce()?;
        }
        match &mut self.0 {
            State::Known(stream) => Ok(stream),
            State::Fresh { .. } | State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    #[cold]
    fn introduce(&mut self) -> io::Result<()> {
        if let State::Fresh { stream, .. } = mem::replace(&mut self.0, State::Lost) {
            self.0 = State::Known(TcpStream::from_std(stream)?);
        }
        Ok(())
    }

    pub(super) fn into_stream(mut self) -> io::Result<TcpStream> {
        self.stream()?;
        match self.0 {
            State::Known(stream) => Ok(stream),
            State::Fresh { .. } | State::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// What can be closed, or had its options set; `None`: it is gone.
    pub(super) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            State::Fresh { stream, .. } => Some(stream.as_fd()),
            State::Known(stream) => Some(stream.as_fd()),
            State::Lost => None,
        }
    }

    /// Ready at once for one that was not read yet: it is worth a try.
    #[inline]
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            State::Known(stream) => stream.poll_read_ready(cx),
            State::Fresh { was_read: false, .. } => Poll::Ready(Ok(())),
            State::Fresh { .. } | State::Lost => self.stream()?.poll_read_ready(cx),
        }
    }

    #[inline]
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let stream = match &mut self.0 {
            State::Known(stream) => stream,
            State::Fresh { .. } | State::Lost => {
                if let Some(result) = self.read_fresh(into) {
                    return Poll::Ready(result);
                }
                self.stream()?
            }
        };
        let mut buf = ReadBuf::new(into);
        ready!(Pin::new(stream).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// `None`: it has to be waited for.
    fn read_fresh(&mut self, into: &mut [u8]) -> Option<io::Result<usize>> {
        let State::Fresh { stream, was_read: was_read @ false } = &mut self.0 else { return None };
        *was_read = true;
        match recv(&*stream, into, RecvFlags::DONTWAIT) {
            Ok((count, _)) => Some(Ok(count)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => None,
            Err(e) => Some(Err(e.into())),
        }
    }

    #[inline]
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = match &mut self.0 {
            State::Known(stream) => stream,
            State::Fresh { .. } | State::Lost => {
                if let Some(result) = self.write_fresh(first, second, SendFlags::NOSIGNAL) {
                    return Poll::Ready(result);
                }
                self.stream()?
            }
        };
        let stream = Pin::new(stream);
        if second.is_empty() {
            stream.poll_write(cx, first)
        } else if first.is_empty() {
            stream.poll_write(cx, second)
        } else {
            stream.poll_write_vectored(cx, &[IoSlice::new(first), IoSlice::new(second)])
        }
    }

    /// See [`Stream::poll_write_last`](super::Stream::poll_write_last).
    pub(super) fn poll_write_last(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.write_fresh(first, second, LAST) {
            Some(result) => Poll::Ready(result),
            None => poll_write_last(self.stream()?, cx, first, second),
        }
    }

    /// `None`: it has to be waited for.
    fn write_fresh(
        &self,
        first: &[u8],
        second: &[u8],
        flags: SendFlags,
    ) -> Option<io::Result<usize>> {
        let State::Fresh { stream, .. } = &self.0 else { return None };
        match send(stream, first, second, flags) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => None,
            result => Some(result.map_err(Into::into)),
        }
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            State::Fresh { stream, .. } => Poll::Ready(stream.shutdown(Shutdown::Write)),
            _ => Pin::new(self.stream()?).poll_shutdown(cx),
        }
    }

    /// Nothing to read and not closed; of one that the runtime knows, as far as that has heard.
    pub(super) fn is_quiet(&self) -> bool {
        match &self.0 {
            State::Known(stream) => {
                let mut byte = [0u8; 1];
                matches!(stream.try_read(&mut byte), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
            }
            State::Fresh { .. } | State::Lost => self.is_quiet_now(),
        }
    }

    /// The same, asking the kernel.
    pub(super) fn is_quiet_now(&self) -> bool {
        let Some(socket) = self.as_fd() else { return false };
        let mut byte = [0u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(recv(socket, &mut byte[..], flags), Err(rustix::io::Errno::AGAIN))
    }
}

/// The end of our direction follows at once.
const LAST: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::MORE);

/// See [`Stream::poll_write_last`](super::Stream::poll_write_last).
pub(super) fn poll_write_last(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    first: &[u8],
    second: &[u8],
) -> Poll<io::Result<usize>> {
    poll_io(stream, Interest::WRITABLE, cx, || Ok(send(stream, first, second, LAST)?))
}

fn send(
    socket: impl AsFd,
    first: &[u8],
    second: &[u8],
    flags: SendFlags,
) -> rustix::io::Result<usize> {
    let bytes = [IoSlice::new(first), IoSlice::new(second)];
    let bytes = if first.is_empty() { &bytes[1..] } else { &bytes[..] };
    sendmsg(socket, bytes, &mut SendAncillaryBuffer::default(), flags)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (Accepted, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Accepted::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        (client, Socket::fresh(server))
    }

    #[tokio::test]
    async fn one_exchange_needs_no_runtime() {
        let (mut client, mut socket) = pair();
        client.write_all(b"ask").unwrap();
        let mut into = [0; 8];
        let count = poll_fn(|cx| socket.poll_read(cx, &mut into)).await.unwrap();
        assert_eq!(&into[..count], b"ask");
        assert!(socket.is_quiet());
        let count = poll_fn(|cx| socket.poll_write_last(cx, b"an", b"swer")).await.unwrap();
        assert!(count == 6 && socket.is_fresh());
        drop(socket);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "answer");
    }

    #[tokio::test]
    async fn who_is_waited_for_is_told_to_the_runtime() {
        let (mut client, mut socket) = pair();
        let mut into = [0; 8];
        let pending = poll_fn(|cx| Poll::Ready(socket.poll_read(cx, &mut into).is_pending()));
        assert!(pending.await && !socket.is_fresh());
        client.write_all(b"late").unwrap();
        let count = poll_fn(|cx| socket.poll_read(cx, &mut into)).await.unwrap();
        assert_eq!(&into[..count], b"late");
        // A peer that takes nothing is waited for as well.
        let (client, mut socket) = pair();
        let block = vec![0; 1 << 20];
        while poll_fn(|cx| Poll::Ready(socket.poll_write(cx, &block, &[]).is_ready())).await {}
        assert!(!socket.is_fresh());
        drop(client);
    }
}
