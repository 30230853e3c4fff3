//! Can the new addresses be listened on? Asked before anything is changed.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;

use config::Difference;
use model::spec::{ListenerSpec, Protocol, Spec};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

/// Names the first address that cannot be bound. Addresses on ports that we listen on ourselves
/// are not tried: whether they can be had shows when the listener that has them is changed.
pub(super) fn check(old: &Spec, new: &Spec, difference: &Difference) -> Result<(), String> {
    let listeners = &difference.listeners;
    for name in listeners.added.iter().chain(&listeners.changed) {
        let Some(listener) = new.listeners.get(name) else { continue };
        if !is_ours(listener, old)
            && let Err(error) = try_bind(listener.bind, listener.protocol)
        {
            return Err(explain(&format!("listener {name}"), listener.bind, &error));
        }
    }
    Ok(())
}

/// Do we listen on this port already?
fn is_ours(listener: &ListenerSpec, old: &Spec) -> bool {
    let datagrams = listener.protocol == Protocol::Udp;
    let admin = old.admin.as_ref().map(|admin| (admin.bind.port(), false));
    let listeners = old.listeners.values().map(|l| (l.bind.port(), l.protocol == Protocol::Udp));
    let names = old.dns.iter().flat_map(|dns| [true, false].map(|udp| (dns.bind.port(), udp)));
    listeners.chain(admin).chain(names).any(|taken| taken == (listener.bind.port(), datagrams))
}

/// Binds without listening, so that no client connects meanwhile.
fn try_bind(address: SocketAddr, protocol: Protocol) -> io::Result<()> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let datagrams = protocol == Protocol::Udp;
    let kind = if datagrams { SocketType::DGRAM } else { SocketType::STREAM };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if !datagrams {
        // Connections of an earlier run that linger in TIME_WAIT are no obstacle.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(())
}

/// What a person can do about it.
pub(super) fn explain(name: &str, address: SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    let help = match error.kind() {
        ErrorKind::AddrInUse => {
            format!("; something else listens there: `ss -lntup 'sport = :{port}'` names it")
        }
        ErrorKind::PermissionDenied if port < 1024 => {
            "; ports below 1024 need the capability CAP_NET_BIND_SERVICE".to_owned()
        }
        ErrorKind::AddrNotAvailable => "; this machine has no such address".to_owned(),
        _ => String::new(),
    };
    format!("{name} cannot listen on {address}: {error}{help}")
}

/// The same of a Unix socket.
pub(super) fn explain_path(name: &str, path: &Path, error: &io::Error) -> String {
    let help = match error.kind() {
        ErrorKind::AddrInUse => "; another process listens there",
        ErrorKind::AlreadyExists => "; something that is no socket has this name",
        ErrorKind::NotFound => "; make its folder first",
        _ => "",
    };
    format!("{name} cannot listen on {}: {error}{help}", path.display())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn taken_addresses_are_found() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (tcp_address, udp_address) = (tcp.local_addr().unwrap(), udp.local_addr().unwrap());
        for (address, protocol, taken) in [
            (tcp_address, Protocol::Tcp, true),
            (tcp_address, Protocol::Http, true),
            (udp_address, Protocol::Udp, true),
        ] {
            let outcome = try_bind(address, protocol).map_err(|error| error.kind());
            assert_eq!(outcome.is_err(), taken, "{address} {protocol:?}");
        }
        drop(tcp);
        assert!(try_bind(tcp_address, Protocol::Tcp).is_ok());
        assert!(try_bind("[::1]:0".parse().unwrap(), Protocol::Tcp).is_ok());
    }
}
