use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use admin::Control;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};
use tokio::task::JoinHandle;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// The admin API as it is served now; ends when dropped, after the requests under way.
pub(super) struct AdminServer {
    listener: TcpListener,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl AdminServer {
    /// Only binds, so that a failure changes nothing. `beside`: where the API is served until
    /// now. On the same port (127.0.0.1 becomes 0.0.0.0) both are open for a moment.
    pub(super) fn bind(address: SocketAddr, beside: Option<SocketAddr>) -> io::Result<TcpListener> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        // Bound without SO_REUSEPORT, as with it another balancer of this user could share the port.
        let alone = beside.is_none_or(|beside| beside.port() != address.port());
        sockopt::set_socket_reuseport(&socket, !alone)?;
        rustix::net::bind(&socket, &address)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(socket.into())
    }

    pub(super) fn serve(
        listener: TcpListener,
        token: Option<String>,
        control: Arc<dyn Control>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let accepting = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
        let task = tokio::spawn(admin::serve(accepting, token, control));
        Ok(Self { listener, address, task })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same socket, for a server with another token: nobody finds the door closed meanwhile.
    pub(super) fn listener(&self) -> io::Result<TcpListener> {
        self.listener.try_clone()
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_shared_with_ourselves_only() {
        let first = AdminServer::bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let ours = first.local_addr().unwrap();
        let everywhere = SocketAddr::new([0, 0, 0, 0].into(), ours.port());
        let error = AdminServer::bind(everywhere, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(
            AdminServer::bind(everywhere, Some(ours)).unwrap().local_addr().unwrap(),
            everywhere
        );
        let foreign = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let _held = TcpListener::bind(foreign).unwrap();
        assert!(AdminServer::bind(foreign, Some(foreign)).is_err());
    }
}
