//! The ring, and the operations the relay asks of it, as it is set up: with descriptors that only
//! the ring knows, or with ordinary ones.

use std::io;
use std::net::SocketAddr;

use io_uring::types::{DestinationSlot, Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::Options;
use super::buffers::Buffers;

/// Of the submission queue. A turn that has more to ask than that submits in between.
const ENTRIES: u32 = 4096;
/// Of the completion queue: what operations that go on by themselves tell at once. Beyond that the
/// kernel keeps a list, which costs more.
const COMPLETIONS: u32 = 4 * ENTRIES;
/// Connections' descriptors, two for each client, where files allow so many.
const FILES_MAX: u32 = 32_768;

/// What an operation was, told back with its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Accept,
    Open,
    Connect,
    Receive,
    Send,
    /// Its end, when it is told at all, is of no use.
    Quiet,
}

/// What an operation is to be known by: its kind, the leg, and the block it sends from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) leg: u32,
    pub(super) block: u16,
}

impl Token {
    fn pack(self) -> u64 {
        u64::from(self.leg) << 32 | u64::from(self.block) << 16 | u64::from(self.kind as u8)
    }

    pub(super) fn unpack(data: u64) -> Self {
        let kinds =
            [Kind::Accept, Kind::Open, Kind::Connect, Kind::Receive, Kind::Send, Kind::Quiet];
        let kind = kinds.get((data & 0xff) as usize).copied().unwrap_or(Kind::Quiet);
        Self { kind, leg: (data >> 32) as u32, block: (data >> 16 & 0xffff) as u16 }
    }
}

/// Several pieces in one send. Lies still while the kernel reads it.
pub(super) struct Message {
    parts: [libc::iovec; Self::PARTS_MAX],
    head: libc::msghdr,
}

impl Message {
    /// 128 KiB in blocks of 16 KiB.
    pub(super) const PARTS_MAX: usize = 8;

    pub(super) fn new() -> Box<Self> {
        let nothing = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: all bytes zero is a `msghdr`: null pointers and lengths of zero.
        let head = unsafe { std::mem::zeroed() };
        Box::new(Self { parts: [nothing; Self::PARTS_MAX], head })
    }

    /// Of these bytes, at most `PARTS_MAX`.
    fn of(&mut self, bytes: impl Iterator<Item = (*const u8, u32)>) {
        let mut count = 0;
        for (part, (start, length)) in self.parts.iter_mut().zip(bytes) {
            *part = libc::iovec { iov_base: start.cast_mut().cast(), iov_len: length as usize };
            count += 1;
        }
        self.head.msg_iov = self.parts.as_mut_ptr();
        self.head.msg_iovlen = count;
    }
}

pub(super) struct Ring {
    inner: IoUring,
    options: Options,
    /// Where upstream connections go. Lies still: connecting reads it when it likes.
    to: Box<libc::sockaddr_in>,
    /// What `TCP_NODELAY` is set to.
    on: Box<libc::c_int>,
}

/// To either kind of descriptor: the table's or the process's.
macro_rules! with_file {
    ($ring:expr, $file:expr, |$name:ident| $entry:expr) => {
        if $ring.options.files {
            let $name = Fixed($file);
            $entry
        } else {
            let $name = Fd($file as i32);
            $entry
        }
    };
}

impl Ring {
    /// Errors: the kernel has no rings, or this process may have none (`EPERM` where
    /// `kernel.io_uring_disabled` or a container's profile forbids it), or it is too old for what
    /// is asked (`EINVAL`).
    pub(super) fn new(options: Options, to: SocketAddr) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(COMPLETIONS).setup_submit_all().setup_single_issuer();
        builder.setup_coop_taskrun();
        if options.defer {
            builder.setup_defer_taskrun();
        }
        let inner = builder.build(ENTRIES)?;
        if options.files {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
            let files = limit.map_or(FILES_MAX, |most| most.min(FILES_MAX.into()) as u32);
            inner.submitter().register_files_sparse(files)?;
        }
        let SocketAddr::V4(to) = to else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "TO has to be IPv4"));
        };
        let to = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: to.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from(*to.ip()).to_be() },
            sin_zero: [0; 8],
        };
        Ok(Self { inner, options, to: Box::new(to), on: Box::new(1) })
    }

    /// Lends the kernel the buffers.
    pub(super) fn register(&self, buffers: &Buffers) -> io::Result<()> {
        let (ring, count) = buffers.ring();
        // SAFETY: both lie still on the heap, and the relay drops the ring before them.
        unsafe {
            let submitter = self.inner.submitter();
            submitter.register_buf_ring_with_flags(ring, count, GROUP, 0)?;
            if self.options.zero_copy {
                submitter.register_buffers(&[buffers.all()])?;
            }
        }
        Ok(())
    }

    fn push(&mut self, entry: squeue::Entry, token: Token) -> io::Result<()> {
        let entry = entry.user_data(token.pack());
        loop {
            // SAFETY: what entries point to are the blocks, a leg's message and the boxes above.
            // All of them live as long as the ring, and none is changed or given away before the
            // end of the operation was told.
            if unsafe { self.inner.submission().push(&entry) }.is_ok() {
                return Ok(());
            }
            self.inner.submit()?;
        }
    }

    fn push_quiet(&mut self, entry: squeue::Entry) -> io::Result<()> {
        let token = Token { kind: Kind::Quiet, leg: 0, block: 0 };
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS), token)
    }

    /// One system call: all that was asked, and the wait for what has ended.
    pub(super) fn turn(&mut self, ended: &mut Vec<cqueue::Entry>) -> io::Result<()> {
        match self.inner.submit_and_wait(1) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // So much has ended that the kernel wants that seen first.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {}
            other => drop(other?),
        }
        ended.extend(self.inner.completion());
        Ok(())
    }

    /// Goes on until it says that it does not.
    pub(super) fn accept(&mut self, listener: i32) -> io::Result<()> {
        let entry = opcode::AcceptMulti::new(Fd(listener)).allocate_file_index(self.options.files);
        self.push(entry.build(), Token { kind: Kind::Accept, leg: 0, block: 0 })
    }

    /// A socket for the upstream.
    pub(super) fn open(&mut self, leg: u32) -> io::Result<()> {
        let slot = self.options.files.then(DestinationSlot::auto_target);
        let entry = opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).file_index(slot);
        self.push(entry.build(), Token { kind: Kind::Open, leg, block: 0 })
    }

    pub(super) fn connect(&mut self, leg: u32, file: u32) -> io::Result<()> {
        let (level, option) = (libc::IPPROTO_TCP as u32, libc::TCP_NODELAY as u32);
        let (value, size) = ((&raw const *self.on).cast(), size_of::<libc::c_int>() as u32);
        let entry = with_file!(self, file, |file| {
            opcode::SetSockOpt::new(file, level, option, value, size).build()
        });
        self.push_quiet(entry)?;
        let (to, size) = ((&raw const *self.to).cast(), size_of::<libc::sockaddr_in>() as u32);
        let entry = with_file!(self, file, |file| opcode::Connect::new(file, to, size).build());
        self.push(entry, Token { kind: Kind::Connect, leg, block: 0 })
    }

    /// Into blocks that the kernel takes from the ring of them; once, or until it says that it
    /// does not go on.
    pub(super) fn receive(&mut self, leg: u32, file: u32) -> io::Result<()> {
        let Options { multishot, bundles, block_bytes, .. } = self.options;
        let entry = with_file!(self, file, |file| match (multishot, bundles) {
            (true, true) => opcode::RecvMultiBundle::new(file, GROUP).build(),
            (true, false) => opcode::RecvMulti::new(file, GROUP).build(),
            // What is to come is not there yet, as a rule: no try before the wait.
            (false, _) => opcode::Recv::new(file, std::ptr::null_mut(), block_bytes)
                .buf_group(GROUP)
                .ioprio(POLL_FIRST)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT),
        });
        self.push(entry, Token { kind: Kind::Receive, leg, block: 0 })
    }

    /// Ends a `receive` that goes on.
    pub(super) fn cancel_receive(&mut self, leg: u32) -> io::Result<()> {
        let token = Token { kind: Kind::Receive, leg, block: 0 };
        self.push_quiet(opcode::AsyncCancel::new(token.pack()).build())
    }

    /// Of one block. Whether it is without a copy, in which case the block is the kernel's until
    /// it gives notice.
    pub(super) fn send(
        &mut self,
        leg: u32,
        file: u32,
        block: u16,
        (start, length): (*const u8, u32),
    ) -> io::Result<bool> {
        let flags = self.send_flags();
        let zero_copy = self.options.zero_copy && length >= ZERO_COPY_MIN_BYTES;
        let entry = with_file!(self, file, |file| match zero_copy {
            true => {
                let entry = opcode::SendZc::new(file, start, length).buf_index(Some(0));
                entry.flags(flags).build()
            }
            false => opcode::Send::new(file, start, length).flags(flags).build(),
        });
        self.push(entry, Token { kind: Kind::Send, leg, block })?;
        Ok(zero_copy)
    }

    /// Of several blocks.
    pub(super) fn send_all(
        &mut self,
        leg: u32,
        file: u32,
        message: &mut Message,
        bytes: impl Iterator<Item = (*const u8, u32)>,
    ) -> io::Result<()> {
        message.of(bytes);
        let (head, flags) = (&raw const message.head, self.send_flags() as u32);
        let entry =
            with_file!(self, file, |file| opcode::SendMsg::new(file, head).flags(flags).build());
        self.push(entry, Token { kind: Kind::Send, leg, block: 0 })
    }

    fn send_flags(&self) -> i32 {
        libc::MSG_NOSIGNAL | if self.options.wait_all { libc::MSG_WAITALL } else { 0 }
    }

    pub(super) fn shutdown(&mut self, file: u32, how: i32) -> io::Result<()> {
        let entry = with_file!(self, file, |file| opcode::Shutdown::new(file, how).build());
        self.push_quiet(entry)
    }

    pub(super) fn close(&mut self, file: u32) -> io::Result<()> {
        let entry = with_file!(self, file, |file| opcode::Close::new(file).build());
        self.push_quiet(entry)
    }
}

/// Of the buffers that are lent: there is one group.
const GROUP: u16 = 0;
/// `IORING_RECVSEND_POLL_FIRST` of `linux/io_uring.h`.
const POLL_FIRST: u16 = 1;
/// For less than a page nobody would think of it.
const ZERO_COPY_MIN_BYTES: u32 = 4096;
