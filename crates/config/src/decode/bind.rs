//! Two sockets cannot share an address.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};

use crate::defect::{Report, Span};

/// Ports are counted per transport: TCP and UDP do not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

/// Something that listens.
pub(super) struct Bind {
    /// In messages: listener `web`.
    pub(super) owner: String,
    pub(super) address: SocketAddr,
    pub(super) span: Span,
    pub(super) transport: Transport,
}

#[derive(Default)]
pub(super) struct Binds(RefCell<Vec<Bind>>);

impl Binds {
    pub(super) fn add(&self, bind: Bind) {
        self.0.borrow_mut().push(bind);
    }

    /// Reports each address that an earlier one of the text covers.
    pub(super) fn check(&self, report: &Report<'_>) {
        let mut binds = self.0.take();
        // The system chooses port 0 so that it is free.
        binds.retain(|bind| bind.address.port() != 0);
        binds.sort_by_key(|bind| (bind.transport, bind.address.port(), bind.span));
        let port = |bind: &Bind| (bind.transport, bind.address.port());
        for same_port in binds.chunk_by(|a, b| port(a) == port(b)) {
            for (at, bind) in same_port.iter().enumerate() {
                if report.is_full() {
                    return;
                }
                let ip = bind.address.ip();
                let taken = same_port[..at].iter().find(|b| overlap(b.address.ip(), ip));
                if let Some(other) = taken {
                    report.error_help(
                        bind.span,
                        format!(
                            "{} and {} would both listen on {}",
                            other.owner,
                            bind.owner,
                            shared(other, bind)
                        ),
                        "give one of them another port",
                    );
                }
            }
        }
    }
}

/// Whether a connection could belong to both. `[::]` also takes IPv4, as Linux does by default.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    let (a, b) = (a.to_canonical(), b.to_canonical());
    let covers = |any: IpAddr, other: IpAddr| {
        any.is_unspecified() && (any.is_ipv6() || other.is_ipv4() || other.is_unspecified())
    };
    a == b || covers(a, b) || covers(b, a)
}

/// The narrower of two overlapping addresses.
fn shared(a: &Bind, b: &Bind) -> SocketAddr {
    if a.address.ip().is_unspecified() { b.address } else { a.address }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps() {
        for (a, b, expected) in [
            ("0.0.0.0", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("::", "127.0.0.1", true),
            ("::", "0.0.0.0", true),
            ("::1", "0.0.0.0", false),
            ("::1", "::", true),
            ("::ffff:127.0.0.1", "127.0.0.1", true),
        ] {
            let (a, b): (IpAddr, IpAddr) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(overlap(a, b), expected, "{a} {b}");
            assert_eq!(overlap(b, a), expected, "{b} {a}");
        }
    }
}
