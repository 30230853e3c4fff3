//! The socket that clients write to.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// A listener's socket. One that is bound to all addresses of the machine learns with each
/// datagram to which it was sent (`IP_PKTINFO`, `IPV6_RECVPKTINFO`: RFC 3542 section 6), so that
/// replies come from there; else the kernel would choose, and clients would not know the sender.
#[derive(Debug)]
pub(super) struct ClientSocket {
    socket: UdpSocket,
    bound: Bound,
    /// Space for what comes beside a datagram.
    control: RefCell<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    OneAddress,
    AnyV4,
    /// And any IPv4 address, written as IPv6.
    AnyV6,
}

/// What is known of a datagram beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Datagram {
    pub(super) len: usize,
    pub(super) client: SocketAddr,
    /// Where it was sent to, on a socket with several addresses.
    pub(super) local: Option<IpAddr>,
}

/// To be called before the socket is bound, so that no datagram comes without its destination.
pub(crate) fn tell_destinations(socket: &impl AsFd, bind: IpAddr) -> io::Result<()> {
    match Bound::of(bind) {
        Bound::OneAddress => {}
        Bound::AnyV4 => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        Bound::AnyV6 => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    Ok(())
}

impl Bound {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Bound::AnyV4,
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Bound::AnyV6,
            _ => Bound::OneAddress,
        }
    }
}

impl ClientSocket {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let bound = Bound::of(socket.local_addr()?.ip());
        // An IPv6 socket tells IPv4 destinations in the IPv6 form, so one of the two suffices.
        let control = nix::cmsg_space!(in6_pktinfo);
        let socket = UdpSocket::from_std(socket)?;
        Ok(Self { socket, bound, control: RefCell::new(control) })
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// The next datagram, or `WouldBlock`.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<Datagram> {
        if self.bound == Bound::OneAddress {
            let (len, client) = self.socket.try_recv_from(buffer)?;
            return Ok(Datagram { len, client, local: None });
        }
        self.socket.try_io(Interest::READABLE, || {
            let mut control = self.control.borrow_mut();
            let mut pieces = [IoSliceMut::new(buffer)];
            let message = recvmsg::<SockaddrStorage>(
                self.socket.as_raw_fd(),
                &mut pieces,
                Some(&mut control),
                MsgFlags::MSG_DONTWAIT,
            )?;
            let client = message.address.and_then(socket_address);
            let client = client.ok_or_else(|| io::Error::other("a datagram without a sender"))?;
            // What else comes beside a datagram was not asked for and does not fit.
            let local = message.cmsgs().ok().and_then(|mut all| all.find_map(destination));
            Ok(Datagram { len: message.bytes, client, local })
        })
    }

    /// Sends at once or not at all.
    pub(super) fn send(
        &self,
        bytes: &[u8],
        client: SocketAddr,
        local: Option<IpAddr>,
    ) -> io::Result<()> {
        let Some(local) = local else {
            // Past the runtime, which after a full socket would hold back until it heard.
            let flags = rustix::net::SendFlags::DONTWAIT;
            rustix::net::sendto(&self.socket, bytes, flags, &client)?;
            return Ok(());
        };
        let (v4, v6);
        let control = match local {
            IpAddr::V4(local) => {
                v4 = in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: in_addr { s_addr: u32::from_ne_bytes(local.octets()) },
                    ipi_addr: in_addr { s_addr: 0 },
                };
                ControlMessage::Ipv4PacketInfo(&v4)
            }
            IpAddr::V6(local) => {
                v6 = in6_pktinfo {
                    ipi6_addr: in6_addr { s6_addr: local.octets() },
                    ipi6_ifindex: 0,
                };
                ControlMessage::Ipv6PacketInfo(&v6)
            }
        };
        sendmsg(
            self.socket.as_raw_fd(),
            &[IoSlice::new(bytes)],
            &[control],
            MsgFlags::MSG_DONTWAIT,
            Some(&SockaddrStorage::from(client)),
        )?;
        Ok(())
    }
}

fn socket_address(address: SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*v4).into());
    }
    address.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into())
}

/// The address that a datagram was sent to, if it can be sent from.
fn destination(message: ControlMessageOwned) -> Option<IpAddr> {
    let address = match message {
        // For a broadcast or multicast datagram this is the address of the interface.
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes())
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => IpAddr::from(info.ipi6_addr.s6_addr),
        _ => return None,
    };
    (!address.is_unspecified() && !address.is_multicast()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent to one of several addresses is answered from there.
    #[test]
    fn replies_come_from_the_address_that_was_written_to() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for (bind, to, from) in [
            ("0.0.0.0:0", "127.0.0.5", "0.0.0.0:0"),
            ("[::]:0", "127.0.0.5", "0.0.0.0:0"),
            ("[::]:0", "::1", "[::]:0"),
            ("127.0.0.9:0", "127.0.0.9", "0.0.0.0:0"),
            ("[::1]:0", "::1", "[::]:0"),
        ] {
            // Machines without IPv6 exist.
            let Ok(socket) = std::net::UdpSocket::bind(bind) else { continue };
            let port = socket.local_addr().unwrap().port();
            let client = std::net::UdpSocket::bind(from).unwrap();
            client.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
            let to = SocketAddr::new(to.parse().unwrap(), port);
            runtime.block_on(async {
                tell_destinations(&socket, socket.local_addr().unwrap().ip()).unwrap();
                let server = ClientSocket::new(socket).unwrap();
                let mut buffer = [0; 100];
                for payload in [&b"hello"[..], b""] {
                    client.send_to(payload, to).unwrap();
                    let datagram = loop {
                        server.readable().await.unwrap();
                        match server.receive(&mut buffer) {
                            Ok(datagram) => break datagram,
                            Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
                        }
                    };
                    assert_eq!(&buffer[..datagram.len], payload, "{bind}");
                    server.send(b"answer", datagram.client, datagram.local).unwrap();
                    let (len, sender) = client.recv_from(&mut buffer).unwrap();
                    assert_eq!((&buffer[..len], sender), (&b"answer"[..], to), "{bind}");
                }
            });
        }
    }
}
