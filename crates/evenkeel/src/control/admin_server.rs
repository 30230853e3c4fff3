use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use admin::Control;
use tokio::task::JoinHandle;

/// The admin API as it is served now; ends when dropped, after the requests under way.
pub(super) struct AdminServer {
    listener: TcpListener,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl AdminServer {
    /// Only binds, so that a failure changes nothing.
    pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
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
