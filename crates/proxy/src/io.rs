//! The seam between protocols and the runtime: everything above asks for bytes here, so that
//! another driver (io_uring) or another transport is a change of this module alone, as TLS was.

mod socket;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use rustix::net::Shutdown;
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream};

use crate::http2::{Asking, StreamEnd};
pub(crate) use socket::Socket;
pub(crate) use tls::{TlsStream, reset};

/// A byte stream to a client or an endpoint.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(Socket),
    Tls(Box<TlsStream>),
    /// A client's stream of an HTTP/2 connection, which carries one request as HTTP/1.1 does.
    Http2(StreamEnd),
    /// A request to an endpoint on a connection of HTTP/2, as if it had one of its own.
    Asking(Box<Asking>),
}

impl Stream {
    /// Connects, with small writes sent at once.
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Stream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_nodelay(true)?;
        bound_unsent(&socket);
        Ok(Stream::Tcp(Socket::known(socket.connect(address).await?)))
    }

    /// Reads into `into`; 0 is the end. Bytes are there without a system call only if the
    /// runtime already knows; a short read ends the turn without asking the kernel again.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(stream) => stream.poll_read(cx, into),
            Stream::Tls(stream) => stream.poll_read(cx, into),
            Stream::Http2(stream) => stream.poll_read(cx, into),
            Stream::Asking(stream) => stream.poll_read(cx, into),
        }
    }

    /// Waits until a read would give something, so that an idle connection needs no buffer.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_readable(cx),
            Stream::Tls(stream) => stream.poll_readable(cx),
            Stream::Http2(stream) => stream.poll_readable(cx),
            Stream::Asking(stream) => stream.poll_readable(cx),
        }
    }

    /// Writes `first` and `second`, as far as the kernel takes them. While it is pending it has to
    /// be called with the same bytes in front.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(stream) => stream.poll_write(cx, first, second),
            Stream::Tls(stream) => stream.poll_write(cx, first, second, false),
            Stream::Http2(stream) => stream.poll_write(cx, first, second),
            Stream::Asking(stream) => stream.poll_write(cx, first, second),
        }
    }

    /// The same with bytes after which our direction ends at once, so that they and the end go
    /// together: a segment less. The kernel holds a part of them back until the end comes.
    pub(crate) fn poll_write_last(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(stream) => stream.poll_write_last(cx, first, second),
            Stream::Tls(stream) => stream.poll_write(cx, first, second, true),
            Stream::Http2(_) | Stream::Asking(_) => self.poll_write(cx, first, second),
        }
    }

    /// Sends the end of our direction; the other goes on.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_shutdown(cx),
            Stream::Tls(stream) => stream.poll_shutdown(cx),
            Stream::Http2(stream) => stream.poll_shutdown(),
            Stream::Asking(stream) => stream.poll_shutdown(),
        }
    }

    /// Ends both directions at once, for a peer that is to stop what it does for us.
    pub(crate) fn end(&mut self) {
        match self {
            // Failure means that it has ended already.
            Stream::Tcp(stream) => {
                let _ = stream.as_fd().map(|fd| rustix::net::shutdown(fd, Shutdown::Both));
            }
            Stream::Tls(stream) => {
                let _ = rustix::net::shutdown(stream.tcp(), Shutdown::Both);
            }
            Stream::Http2(stream) => stream.reset_on_close(),
            Stream::Asking(stream) => stream.cancel(),
        }
    }

    /// Ends a call of gRPC with a status of ours: see [`StreamEnd::end_call`]. False: there is no
    /// place for it.
    pub(crate) fn end_call(&mut self, code: u8, message: &str) -> bool {
        match self {
            Stream::Http2(stream) => stream.end_call(code, message),
            Stream::Tcp(_) | Stream::Tls(_) | Stream::Asking(_) => false,
        }
    }

    /// Makes the close a reset, so that the peer cannot take what it got for the whole.
    pub(crate) fn reset_on_close(&mut self) {
        match self {
            Stream::Tcp(stream) => {
                let _ = stream.as_fd().map(reset);
            }
            Stream::Tls(stream) => {
                stream.silence();
                tls::reset(stream.tcp());
            }
            Stream::Http2(stream) => stream.reset_on_close(),
            Stream::Asking(stream) => stream.cancel(),
        }
    }

    /// Nothing to read and not closed, as far as the runtime has heard.
    pub(crate) fn is_quiet(&mut self) -> bool {
        match self {
            Stream::Tcp(stream) => stream.is_quiet(),
            Stream::Tls(stream) => stream.is_quiet(false),
            Stream::Http2(_) | Stream::Asking(_) => false,
        }
    }

    /// The same, asking the kernel.
    pub(crate) fn is_quiet_now(&mut self) -> bool {
        match self {
            Stream::Tcp(stream) => stream.is_quiet_now(),
            Stream::Tls(stream) => stream.is_quiet(true),
            Stream::Http2(_) | Stream::Asking(_) => false,
        }
    }

    /// Has nobody waited for it yet, so that the runtime does not know of it, nor tells of its end?
    pub(crate) fn is_fresh(&self) -> bool {
        matches!(self, Stream::Tcp(stream) if stream.is_fresh())
    }

    /// Waits until what would be read for it could be passed on: a stream of HTTP/2 whose client
    /// takes nothing holds nothing meanwhile. Sockets have the kernel's room, and wait in writing.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Stream::Tcp(_) | Stream::Tls(_) => Poll::Ready(()),
            Stream::Http2(stream) => stream.poll_room(cx),
            Stream::Asking(stream) => stream.poll_room(cx),
        }
    }

    /// Would [`Stream::poll_room`] wait?
    pub(crate) fn has_room(&self) -> bool {
        match self {
            Stream::Tcp(_) | Stream::Tls(_) => true,
            Stream::Http2(stream) => stream.has_room(),
            Stream::Asking(stream) => stream.has_room(),
        }
    }

    /// How many bytes wait to be read; `None`: nobody knows.
    pub(crate) fn waiting(&self) -> Option<usize> {
        match self {
            // Of what endpoints answer more is likely to be on its way.
            Stream::Tcp(_) | Stream::Tls(_) | Stream::Asking(_) => None,
            Stream::Http2(stream) => Some(stream.waiting()),
        }
    }

    /// Is it a stream of HTTP/2 that its client gave up? Of others reading tells. Wakes when it is.
    pub(crate) fn is_broken(&self, cx: &Context<'_>) -> bool {
        matches!(self, Stream::Http2(stream) if stream.is_broken(cx))
    }

    /// Is it a stream of HTTP/2, which carries one request?
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self, Stream::Http2(_))
    }

    /// Is it a stream of HTTP/2 whose request is HEAD?
    pub(crate) fn is_head(&self) -> bool {
        matches!(self, Stream::Http2(stream) if stream.is_head())
    }

    /// Is it a stream of HTTP/2 that asks for a tunnel?
    pub(crate) fn is_tunnel(&self) -> bool {
        matches!(self, Stream::Http2(stream) if stream.is_tunnel())
    }

    /// The socket, where bytes may be moved inside the kernel.
    pub(crate) fn as_tcp(&mut self) -> Option<&TcpStream> {
        match self {
            Stream::Tcp(stream) => stream.stream().ok().map(|stream| &*stream),
            Stream::Tls(_) | Stream::Http2(_) | Stream::Asking(_) => None,
        }
    }

    /// The same, given away.
    pub(crate) fn into_tcp(self) -> io::Result<TcpStream> {
        match self {
            Stream::Tcp(stream) => stream.into_stream(),
            Stream::Tls(_) | Stream::Http2(_) | Stream::Asking(_) => {
                Err(io::Error::other("not a socket"))
            }
        }
    }
}

/// Bytes that the kernel takes of us beyond what it may send: a peer that stops reading would else
/// hold some 4 MiB of the memory that all of the machine's TCP shares (`net.ipv4.tcp_mem`). What is
/// on its way does not count, so fast and distant peers are not slowed.
const UNSENT_BYTES_MAX: u32 = 256 * 1024;

pub(crate) fn bound_unsent<'a, S>(socket: &'a S)
where
    socket2::SockRef<'a>: From<&'a S>,
{
    // Without it all works as well, with more memory.
    let _ = socket2::SockRef::from(socket).set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
}

/// Runs `operation` on the socket when it is ready, as `poll_read` would.
pub(crate) fn poll_io<T>(
    stream: &TcpStream,
    interest: Interest,
    cx: &mut Context<'_>,
    mut operation: impl FnMut() -> io::Result<T>,
) -> Poll<io::Result<T>> {
    loop {
        if interest.is_readable() {
            ready!(stream.poll_read_ready(cx))?;
        } else {
            ready!(stream.poll_write_ready(cx))?;
        }
        match stream.try_io(interest, &mut operation) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
    }
}
