//! Free ports for replicas. No two replicas of this process hold the same one, and one that was
//! given back rests before it is given out again: connections to it may still be dying.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// Ports that rest. A small share of the kernel's 28,000 ephemeral ones.
const RESTING: usize = 512;
/// Ports that the kernel offers until we give up; it offers a free one at random.
const ATTEMPTS: usize = 2_000;

static PORTS: Mutex<Option<Ports>> = Mutex::new(None);

#[derive(Default)]
struct Ports {
    held: HashSet<u16>,
    resting: VecDeque<u16>,
}

/// A port that is ours to give to one replica, until it is dropped.
#[derive(Debug)]
pub(crate) struct PortLease(u16);

impl PortLease {
    /// A port that nobody listens on, for TCP and UDP, on any address.
    pub(crate) fn take() -> io::Result<Self> {
        // Kept open meanwhile, so that the kernel does not offer the same ones again.
        let mut unsuitable = Vec::new();
        for _ in 0..ATTEMPTS {
            let (socket, port) = bind(SocketType::STREAM, 0, false)?;
            let mut ports = lock();
            let ports = ports.get_or_insert_default();
            let known = ports.held.contains(&port) || ports.resting.contains(&port);
            if !known && bind(SocketType::DGRAM, port, false).is_ok() {
                ports.held.insert(port);
                return Ok(Self(port));
            }
            unsuitable.push(socket);
        }
        Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "no free port was found"))
    }

    pub(crate) fn number(&self) -> u16 {
        self.0
    }

    /// Has somebody else taken it? Asked when a replica ended early, to know why.
    pub(crate) fn is_taken(&self) -> bool {
        bind(SocketType::STREAM, self.0, true).is_err_and(|e| e.kind() == io::ErrorKind::AddrInUse)
    }
}

impl Drop for PortLease {
    fn drop(&mut self) {
        let mut ports = lock();
        let ports = ports.get_or_insert_default();
        ports.held.remove(&self.0);
        ports.resting.push_back(self.0);
        if ports.resting.len() > RESTING {
            ports.resting.pop_front();
        }
    }
}

fn lock() -> MutexGuard<'static, Option<Ports>> {
    PORTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Binds, without listening, on all addresses: on both families where there are both.
fn bind(kind: SocketType, port: u16, share: bool) -> io::Result<(OwnedFd, u16)> {
    let v6 = socket(AddressFamily::INET6, kind, share).and_then(|socket| {
        sockopt::set_ipv6_v6only(&socket, false)?;
        rustix::net::bind(&socket, &SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0))?;
        Ok(socket)
    });
    let socket = match v6 {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            let socket = socket(AddressFamily::INET, kind, share)?;
            rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))?;
            socket
        }
        bound => bound?,
    };
    let address: SocketAddr = rustix::net::getsockname(&socket)?.try_into()?;
    Ok((socket, address.port()))
}

fn socket(family: AddressFamily, kind: SocketType, share: bool) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    // Lets us bind beside connections that are merely dying, but never beside a listener.
    sockopt::set_socket_reuseaddr(&socket, share)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn leases_differ_and_returned_ports_rest() {
        let leases: Vec<_> = (0..200).map(|_| PortLease::take().unwrap()).collect();
        let mut seen: HashSet<u16> = leases.iter().map(PortLease::number).collect();
        assert_eq!(seen.len(), 200);
        drop(leases);
        for _ in 0..200 {
            assert!(seen.insert(PortLease::take().unwrap().number()));
        }
    }

    #[test]
    fn a_port_that_was_taken_is_noticed() {
        let lease = PortLease::take().unwrap();
        assert!(!lease.is_taken());
        let _listener = TcpListener::bind(("127.0.0.1", lease.number())).unwrap();
        assert!(lease.is_taken());
    }
}
