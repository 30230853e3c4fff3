//! A TLS session on a socket, with the manners of a plain one: what was written is with the kernel,
//! and a connection at rest holds no buffer.
//!
//! Records are read into memory of the thread, decrypted there, and written from there; a
//! connection keeps only what is incomplete. One turn of the loop costs one read and one write, as
//! it does without TLS.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tls::{Identity, Outgoing, Session, TlsError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::socket::poll_write_last;
use crate::arrival::Terms;

/// Read beyond the room that the reader has, so that a record with its overhead fits.
const READ_MORE_BYTES: usize = 1024;
/// Read at once while the handshake lasts.
const HANDSHAKE_READ_BYTES: usize = 16 * 1024;
/// Plaintext that one write takes: four records, as much as a pump reads ahead.
const WRITE_BYTES_MAX: usize = 64 * 1024;
/// Plaintext of one record: small pieces are joined up to here.
const RECORD_BYTES: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Memory that all connections of a thread use in turns.
#[derive(Default)]
struct Scratch {
    incoming: Vec<u8>,
    outgoing: Outgoing,
    joined: Vec<u8>,
}

pub(crate) struct TlsStream {
    tcp: TcpStream,
    session: Session,
    /// Records that the socket has not taken yet.
    unsent: Vec<u8>,
    unsent_at: usize,
    /// Bytes of plaintext in `unsent` that the writer was not told of yet.
    accepted: usize,
    /// What is unsent is tickets, which can go along with the first answer.
    lazy: bool,
    /// Nothing more is said: the connection was cut, or the close is to be a reset.
    silent: Cell<bool>,
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsStream").field("session", &self.session).finish_non_exhaustive()
    }
}

impl TlsStream {
    /// Before the handshake. `early`: what was read from the socket already.
    ///
    /// # Errors
    /// When what was read is not the beginning of a handshake.
    pub(crate) fn new(tcp: TcpStream, session: Session, early: &[u8]) -> io::Result<Self> {
        let (unsent, silent) = (Vec::new(), Cell::new(false));
        let mut stream =
            Self { tcp, session, unsent, unsent_at: 0, accepted: 0, lazy: false, silent };
        if !early.is_empty() {
            let mut early = early.to_vec();
            SCRATCH.with_borrow_mut(|scratch| {
                scratch.outgoing.clear();
                let processed = stream.session.process(&mut early, &mut [], &mut scratch.outgoing);
                stream.unsent.extend_from_slice(scratch.outgoing.bytes());
                processed.map_err(|e| stream.fail(&e))
            })?;
        }
        Ok(stream)
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.session.alpn()
    }

    /// Who the peer proved to be.
    pub(crate) fn identity(&self) -> Option<Identity> {
        Identity::of(self.session.peer_certificates())
    }

    /// What was agreed on, once the handshake is over.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            version: self.session.version().unwrap_or_default(),
            cipher: self.session.cipher().unwrap_or_default(),
            server_name: self.session.server_name().unwrap_or_default().to_owned(),
        }
    }

    /// Shakes hands. The last records of our side may go along with what is written first.
    pub(crate) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.session.is_handshaking() {
                self.lazy = self.session.sends_only_tickets();
                return Poll::Ready(Ok(()));
            }
            // A client speaks first.
            ready!(SCRATCH.with_borrow_mut(|scratch| self.poll_start(cx, scratch)))?;
            ready!(self.poll_flush(cx))?;
            match SCRATCH.with_borrow_mut(|scratch| self.poll_take(cx, scratch, &mut [])) {
                Poll::Ready(taken) => taken.map(|_| ())?,
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// What is to be said before anything came.
    fn poll_start(&mut self, _: &mut Context<'_>, scratch: &mut Scratch) -> Poll<io::Result<()>> {
        if self.session.partial().is_empty() && self.unsent_at == self.unsent.len() {
            scratch.outgoing.clear();
            let processed = self.session.process(&mut [], &mut [], &mut scratch.outgoing);
            self.keep(&scratch.outgoing);
            if let Err(e) = processed {
                return Poll::Ready(Err(self.fail(&e)));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads plaintext into `into`; 0 is the end that the peer said. An end that it did not say is
    /// an error: somebody else may have cut the connection (RFC 8446 section 6.1).
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                if self.session.has_plaintext() {
                    scratch.outgoing.clear();
                    let processed = self.session.process_more(into, &mut scratch.outgoing);
                    self.keep(&scratch.outgoing);
                    match processed {
                        Ok(processed) if processed.filled > 0 => {
                            return Poll::Ready(Ok(processed.filled));
                        }
                        Ok(_) => {}
                        Err(e) => return Poll::Ready(Err(self.fail(&e))),
                    }
                }
                if self.session.is_peer_closed() || into.is_empty() {
                    return Poll::Ready(Ok(0));
                }
                let filled = ready!(self.poll_take(cx, scratch, into))?;
                if filled > 0 {
                    return Poll::Ready(Ok(filled));
                }
            }
        })
    }

    /// Reads from the socket once, and decrypts. 0: it was no whole record, or none of plaintext.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let held = self.session.partial().len();
        let room = match into.len() {
            0 => HANDSHAKE_READ_BYTES,
            len => len + READ_MORE_BYTES,
        };
        let most = (held + room).min(self.session.incoming_max());
        if most <= held {
            self.silent.set(true);
            let e = io::Error::new(io::ErrorKind::InvalidData, "TLS message too large");
            return Poll::Ready(Err(e));
        }
        if scratch.incoming.len() < most {
            scratch.incoming.resize(most, 0);
        }
        let Scratch { incoming, outgoing, .. } = scratch;
        let mut buf = ReadBuf::new(&mut incoming[held..most]);
        match Pin::new(&mut self.tcp).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(e)) => {
                self.silent.set(true);
                return Poll::Ready(Err(e));
            }
            Poll::Pending => {
                self.flush_idle(cx);
                return Poll::Pending;
            }
        }
        let count = buf.filled().len();
        if count == 0 {
            self.silent.set(true);
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        incoming[..held].copy_from_slice(self.session.partial());
        outgoing.clear();
        let processed = self.session.process(&mut incoming[..held + count], into, outgoing);
        self.keep(outgoing);
        Poll::Ready(processed.map(|p| p.filled).map_err(|e| self.fail(&e)))
    }

    /// Waits until a read may give something.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.session.has_plaintext() || self.session.is_peer_closed() {
            return Poll::Ready(Ok(()));
        }
        let readable = self.tcp.poll_read_ready(cx);
        if readable.is_pending() {
            self.flush_idle(cx);
        }
        readable
    }

    /// Takes bytes of `first`, then of `second`. As long as it is pending it has to be called with
    /// the same bytes in front, for it may have encrypted them: what it answers is with the kernel.
    /// `is_last`: our close_notify goes with them, if all are taken; see
    /// [`Stream::poll_write_last`](super::Stream).
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
        is_last: bool,
    ) -> Poll<io::Result<usize>> {
        if self.accepted > 0 {
            ready!(self.poll_flush(cx))?;
            return Poll::Ready(Ok(std::mem::take(&mut self.accepted)));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let Scratch { outgoing, joined, .. } = scratch;
            outgoing.clear();
            outgoing.push(&self.unsent[self.unsent_at..]);
            let taken = match self.encrypt(first, second, outgoing, joined) {
                Ok(taken) => taken,
                Err(e) => return Poll::Ready(Err(self.fail(&e))),
            };
            let is_last = is_last && taken == first.len() + second.len();
            if is_last {
                // What cannot be encrypted any more has failed before, and said so.
                let _ = self.session.close_notify(outgoing);
            }
            self.lazy = false;
            let mut sent = 0;
            while sent < outgoing.bytes().len() {
                let rest = &outgoing.bytes()[sent..];
                let written = match is_last {
                    true => poll_write_last(&self.tcp, cx, rest, &[]),
                    false => Pin::new(&mut self.tcp).poll_write(cx, rest),
                };
                match written {
                    Poll::Ready(Ok(0)) => {
                        self.silent.set(true);
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    Poll::Ready(Ok(count)) => sent += count,
                    Poll::Ready(Err(e)) => {
                        self.silent.set(true);
                        return Poll::Ready(Err(e));
                    }
                    Poll::Pending => {
                        self.unsent = outgoing.bytes()[sent..].to_vec();
                        self.unsent_at = 0;
                        self.accepted = taken;
                        return Poll::Pending;
                    }
                }
            }
            self.unsent = Vec::new();
            self.unsent_at = 0;
            Poll::Ready(Ok(taken))
        })
    }

    fn encrypt(
        &mut self,
        mut first: &[u8],
        mut second: &[u8],
        outgoing: &mut Outgoing,
        joined: &mut Vec<u8>,
    ) -> Result<usize, TlsError> {
        let mut taken = 0;
        while taken < WRITE_BYTES_MAX && !(first.is_empty() && second.is_empty()) {
            let count = if first.is_empty() {
                self.session.encrypt(second, outgoing)?
            } else if second.is_empty() || first.len() >= RECORD_BYTES {
                self.session.encrypt(first, outgoing)?
            } else {
                // Head and body in one record: a copy costs less than a second seal.
                joined.clear();
                joined.extend_from_slice(first);
                let more = second.len().min(RECORD_BYTES - first.len());
                joined.extend_from_slice(&second[..more]);
                self.session.encrypt(joined, outgoing)?
            };
            taken += count;
            let of_first = count.min(first.len());
            first = &first[of_first..];
            second = &second[count - of_first..];
        }
        Ok(taken)
    }

    /// What waits to go along with the next write goes now, since none is on its way. A writer
    /// hears of an error itself.
    fn flush_idle(&mut self, cx: &mut Context<'_>) {
        if !self.lazy {
            let _ = self.poll_flush(cx);
        }
    }

    /// Writes what the socket has not taken yet.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.unsent_at < self.unsent.len() {
            let unsent = &self.unsent[self.unsent_at..];
            match ready!(Pin::new(&mut self.tcp).poll_write(cx, unsent)) {
                Ok(0) => {
                    self.silent.set(true);
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                Ok(count) => self.unsent_at += count,
                Err(e) => {
                    self.silent.set(true);
                    return Poll::Ready(Err(e));
                }
            }
        }
        if self.unsent_at > 0 {
            self.unsent = Vec::new();
            self.unsent_at = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Says that we send nothing more, and ends our direction.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.silent.get() {
            SCRATCH.with_borrow_mut(|scratch| {
                scratch.outgoing.clear();
                // What cannot be encrypted any more has failed before, and said so.
                let _ = self.session.close_notify(&mut scratch.outgoing);
                self.keep(&scratch.outgoing);
            });
            ready!(self.poll_flush(cx))?;
        }
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    /// From now on the close is a reset, and says nothing.
    pub(crate) fn silence(&self) {
        self.silent.set(true);
    }

    /// Nothing to read and not closed; tickets and the like, which a server sends when it likes,
    /// are taken in. `ask_kernel`: whatever the runtime has heard.
    pub(crate) fn is_quiet(&mut self, ask_kernel: bool) -> bool {
        if self.session.has_plaintext() || self.session.is_peer_closed() || self.silent.get() {
            return false;
        }
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                let held = self.session.partial().len();
                let most = (held + HANDSHAKE_READ_BYTES).min(self.session.incoming_max());
                if most <= held {
                    return false;
                }
                if scratch.incoming.len() < most {
                    scratch.incoming.resize(most, 0);
                }
                let Scratch { incoming, outgoing, .. } = &mut *scratch;
                let room = &mut incoming[held..most];
                let read = match ask_kernel {
                    false => self.tcp.try_read(room),
                    true => {
                        let flags = rustix::net::RecvFlags::DONTWAIT;
                        rustix::net::recv(&self.tcp, room, flags)
                            .map(|(n, _)| n)
                            .map_err(Into::into)
                    }
                };
                let count = match read {
                    Ok(count) if count > 0 => count,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return true,
                    _ => return false,
                };
                incoming[..held].copy_from_slice(self.session.partial());
                outgoing.clear();
                let incoming = &mut incoming[..held + count];
                let processed = self.session.process(incoming, &mut [], outgoing);
                self.keep(outgoing);
                if processed.is_err()
                    || self.session.has_plaintext()
                    || self.session.is_peer_closed()
                {
                    return false;
                }
            }
        })
    }

    fn keep(&mut self, outgoing: &Outgoing) {
        self.unsent.extend_from_slice(outgoing.bytes());
    }

    /// The connection cannot go on. The peer is told why, if the socket takes it.
    fn fail(&mut self, error: &TlsError) -> io::Error {
        if self.unsent_at < self.unsent.len() {
            let _ = self.tcp.try_write(&self.unsent[self.unsent_at..]);
            self.unsent_at = self.unsent.len();
        }
        self.silent.set(true);
        let kind = match error.is_certificate() {
            true => io::ErrorKind::PermissionDenied,
            false => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error.to_string())
    }
}

impl Drop for TlsStream {
    /// A connection that was at rest says that it ends, so that its peer takes it for no attack.
    fn drop(&mut self) {
        if self.silent.get() || self.session.is_close_sent() || self.unsent_at < self.unsent.len() {
            return;
        }
        // Not while another connection of this thread is at work, which would be in a panic.
        let _ = SCRATCH.try_with(|scratch| {
            if let Ok(mut scratch) = scratch.try_borrow_mut() {
                scratch.outgoing.clear();
                if self.session.close_notify(&mut scratch.outgoing).is_ok()
                    && !scratch.outgoing.is_empty()
                {
                    let _ = self.tcp.try_write(scratch.outgoing.bytes());
                }
            }
        });
    }
}

/// Connections of checks are closed with a reset, as plain ones are.
pub(crate) fn reset(tcp: impl AsFd) {
    // Failure means that the socket is already gone, which is what was wanted.
    let _ = rustix::net::sockopt::set_socket_linger(tcp, Some(Duration::ZERO));
}
