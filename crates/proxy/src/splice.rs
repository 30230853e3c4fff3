use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::io::poll_io;
use crate::pump::PumpError;

/// Asked of the kernel for each pipe; what it gives is taken.
const PIPE_BYTES: usize = 256 * 1024;

/// Moves bytes from socket to socket through a pipe inside the kernel (splice(2)), so that they
/// never enter our memory.
#[derive(Debug)]
pub(crate) struct Splice {
    reader: OwnedFd,
    writer: OwnedFd,
    in_pipe: usize,
    capacity: usize,
    ended: bool,
    taken: u64,
    given: u64,
}

impl Splice {
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        let capacity = rustix::pipe::fcntl_setpipe_size(&writer, PIPE_BYTES)
            .or_else(|_| rustix::pipe::fcntl_getpipe_size(&writer))?;
        Ok(Self { reader, writer, in_pipe: 0, capacity, ended: false, taken: 0, given: 0 })
    }

    /// Bytes taken from the source and given to the destination since last asked.
    pub(crate) fn take_counts(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.taken), std::mem::take(&mut self.given))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.in_pipe == 0
    }

    /// Has the source ended?
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Moves up to `bound` bytes more from the source. Ready with `true` at the source's end, with
    /// `false` once `bound` was moved.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
        bound: u64,
    ) -> Poll<Result<bool, PumpError>> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        loop {
            while self.in_pipe > 0 {
                let (reader, count) = (&self.reader, self.in_pipe);
                let given = ready!(poll_io(to, Interest::WRITABLE, cx, || {
                    Ok(splice(reader, None, to, None, count, flags)?)
                }))
                .map_err(|_| PumpError::Write)?;
                self.in_pipe -= given.min(count);
                self.given += given as u64;
            }
            if self.ended {
                return Poll::Ready(Ok(true));
            }
            let left = usize::try_from(bound.saturating_sub(self.taken)).unwrap_or(usize::MAX);
            if left == 0 {
                return Poll::Ready(Ok(false));
            }
            let (writer, count) = (&self.writer, left.min(self.capacity));
            let taken = ready!(poll_io(from, Interest::READABLE, cx, || {
                Ok(splice(from, None, writer, None, count, flags)?)
            }))
            .map_err(|_| PumpError::Read)?;
            self.ended = taken == 0;
            self.in_pipe += taken;
            self.taken += taken as u64;
        }
    }
}
