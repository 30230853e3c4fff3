//! One of the three ports that callers of Lars ask at: a thread that sleeps in the kernel until a
//! datagram comes, takes all that are there (recvmmsg(2)), and answers them in one go
//! (sendmmsg(2)).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::agent::Clock;
use crate::desk::Desk;
use crate::terms::Terms;

/// Datagrams that are taken at once. More save little: with 32 a system call costs each of them a
/// thirtieth of what it would.
const BATCH: usize = 32;

/// The longest datagram over IPv4 (65,535 less 28), rounded up. Pages that none fills cost nothing.
const DATAGRAM_BYTES: usize = 65_536;

/// How often a thread without datagrams looks up, to end what expired, and itself.
const LOOK_UP: Duration = Duration::from_millis(250);

/// Datagrams that come while the thread does something else; the kernel may allow less.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;

/// Room for an answer of [`super::hosts`], which is rare, is given back.
const REPLY_BYTES_KEPT: usize = 4096;

pub(crate) struct UdpServer {
    pub(crate) address: SocketAddrV4,
    /// As it was bound: port 0 lets the system choose.
    pub(crate) bound: SocketAddr,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

pub(crate) fn bind(address: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // Less is still enough to work with.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    socket.set_read_timeout(Some(LOOK_UP))?;
    socket.bind(&SockAddr::from(SocketAddr::V4(address)))?;
    Ok(socket.into())
}

impl UdpServer {
    /// `address`: as it is configured.
    pub(crate) fn start(
        address: SocketAddrV4,
        socket: UdpSocket,
        desk: Desk,
        terms: Arc<ArcSwap<Terms>>,
        clock: Clock,
    ) -> io::Result<Self> {
        let bound = socket.local_addr()?;
        let stopped = Arc::new(AtomicBool::new(false));
        let server = Server { socket, desk, terms, clock, stopped: stopped.clone() };
        let name = format!("lars-{}", address.port());
        let thread = std::thread::Builder::new().name(name).spawn(move || server.run())?;
        Ok(Self { address, bound, stopped, thread: Some(thread) })
    }
}

impl Drop for UdpServer {
    /// Waits until its socket is closed.
    fn drop(&mut self) {
        self.stopped.store(true, Relaxed);
        // Wakes it; without that it looks up within [`LOOK_UP`].
        let _ = UdpSocket::bind(SocketAddr::new(self.bound.ip(), 0))
            .and_then(|socket| socket.send_to(&[], self.bound));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Server {
    socket: UdpSocket,
    desk: Desk,
    terms: Arc<ArcSwap<Terms>>,
    clock: Clock,
    stopped: Arc<AtomicBool>,
}

type Datagrams = Box<[[u8; DATAGRAM_BYTES]; BATCH]>;

impl Server {
    fn run(mut self) {
        let Ok(mut datagrams): Result<Datagrams, _> =
            vec![[0u8; DATAGRAM_BYTES]; BATCH].into_boxed_slice().try_into()
        else {
            return; // It has just this length.
        };
        let mut received = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
        let mut sent = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
        let mut replies: [Vec<u8>; BATCH] = Default::default();
        while !self.stopped.load(Relaxed) {
            let came = match self.receive(&mut datagrams, &mut received) {
                Ok(came) => came,
                Err(Errno::EAGAIN | Errno::EINTR) => Came::default(),
                Err(error) => {
                    tracing::warn!("lars: cannot receive: {error}");
                    std::thread::sleep(LOOK_UP);
                    Came::default()
                }
            };
            let terms = self.terms.load();
            let now = (self.clock)();
            let mut to = [None; BATCH];
            let mut count = 0;
            for ((datagram, len), peer) in datagrams.iter().zip(came.lens).zip(came.peers) {
                let Some(peer) = peer else { continue };
                let (datagram, reply) = (&datagram[..len.min(DATAGRAM_BYTES)], &mut replies[count]);
                reply.clear();
                let ip = IpAddr::V4(peer.ip());
                super::answer(&mut self.desk, &terms, datagram, ip, now, reply);
                if !reply.is_empty() {
                    to[count] = Some(peer);
                    count += 1;
                }
            }
            self.send(&replies[..count], &to, &mut sent);
            replies.iter_mut().for_each(|reply| reply.shrink_to(REPLY_BYTES_KEPT));
            self.desk.expire(&terms.spec, now);
        }
    }

    /// Waits for the first, and takes what is there besides.
    fn receive(
        &self,
        datagrams: &mut Datagrams,
        headers: &mut MultiHeaders<SockaddrIn>,
    ) -> Result<Came, Errno> {
        let mut slices = datagrams.each_mut().map(|datagram| [IoSliceMut::new(datagram)]);
        let flags = MsgFlags::MSG_WAITFORONE;
        let results = recvmmsg(self.socket.as_raw_fd(), headers, slices.iter_mut(), flags, None)?;
        let mut came = Came::default();
        for ((message, len), peer) in results.zip(&mut came.lens).zip(&mut came.peers) {
            (*len, *peer) = (message.bytes, message.address);
        }
        Ok(came)
    }

    /// What the socket does not take now is lost, as datagrams may be.
    fn send(
        &self,
        replies: &[Vec<u8>],
        to: &[Option<SockaddrIn>; BATCH],
        headers: &mut MultiHeaders<SockaddrIn>,
    ) {
        let mut slices = [[IoSlice::new(&[])]; BATCH];
        for (slice, reply) in slices.iter_mut().zip(replies) {
            *slice = [IoSlice::new(reply)];
        }
        let mut done = 0;
        while done < replies.len() {
            let rest = slices[done..replies.len()].iter();
            let flags = MsgFlags::MSG_DONTWAIT;
            let fd = self.socket.as_raw_fd();
            match sendmmsg(fd, headers, rest, &to[done..], [], flags) {
                Ok(results) => done += results.count().max(1),
                Err(Errno::EINTR) => {}
                // The first of them cannot be sent; the others perhaps can.
                Err(_) => done += 1,
            }
        }
    }
}

/// Lengths of datagrams, and who sent them.
#[derive(Clone, Copy, Default)]
struct Came {
    lens: [usize; BATCH],
    peers: [Option<SockaddrIn>; BATCH],
}
