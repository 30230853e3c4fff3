//! UDP: flows between clients and endpoints.
//!
//! For: a flow per client address and port. Its first datagram picks an endpoint, which keeps it
//! until the flow ends; what the endpoint sends back goes to the client from the address that
//! the client wrote to. The kernel gives all datagrams of one client to one worker.
//! Never: waiting to send. UDP may lose datagrams, and so may we when a socket is full.
//! Start with [`serve`], then [`Flow`].
//!
//! Each flow has a socket, and so a port, of its own towards its endpoint: with Linux's usual
//! range (`net.ipv4.ip_local_port_range`) at most about 28,000 flows at once per process.

mod flow;
mod leg;
mod socket;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use model::Instant;
use model::spec::Protocol;
use tokio::sync::oneshot;

use crate::access_log::Entry;
use crate::listener::{Door, Target};
use crate::tracked::TICK;
use flow::Flow;
use leg::{Leg, LegError};
use socket::ClientSocket;
pub(crate) use socket::tell_destinations;

/// The largest datagram there is, headers not counted (RFC 768: 16 bits of length).
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Datagrams taken from clients before other tasks have their turn.
const BATCH: usize = 64;
/// Datagrams still taken in when the listener stops: more than a socket's buffer holds.
const LAST_BATCH: usize = 4096;
/// Bytes of unanswered datagrams that a worker keeps per listener, to send them to another
/// endpoint if theirs turns out to be gone: some 20,000 of the usual size. Further ones are not
/// kept.
const KEPT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Between two warnings that no flow can be opened.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Takes in datagrams until `stopped` resolves (or its other end is dropped); flows that are
/// open then go on to their end.
pub(crate) async fn serve(
    door: Door,
    socket: std::net::UdpSocket,
    mut stopped: oneshot::Receiver<()>,
) {
    let front = match Front::new(door.clone(), socket) {
        Ok(front) => Rc::new(front),
        Err(e) => {
            tracing::error!("{}: cannot receive: {e}", door.listener.name);
            return;
        }
    };
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    // The kernel spreads clients over the sockets by their number: closing one while another
    // worker has flows would send those to the wrong worker. So all stay until all are done, and
    // this worker with them.
    let _until_done = door.worker.tracked.register(door.listener.id);
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped, if !front.stopping.get() => {
                // What was sent before the stop comes first.
                if !door.listener.is_handed_over() {
                    front.receive(&mut buffer, LAST_BATCH);
                }
                front.stopping.set(true);
            }
            () = tokio::time::sleep(TICK), if front.stopping.get() => {}
            // Another listener that has the same socket now is not robbed of its datagrams; flows
            // that are open here only send on what their endpoints still answer.
            ready = front.socket.readable(), if !door.listener.is_handed_over() => {
                if let Err(e) = ready {
                    tracing::error!("{}: cannot receive any more: {e}", door.listener.name);
                    return;
                }
                if front.receive(&mut buffer, BATCH) {
                    tokio::task::yield_now().await;
                }
            }
        }
        if front.stopping.get() && door.listener.is_idle() {
            return;
        }
    }
}

/// What the flows of one listener share on one worker.
#[derive(Debug)]
struct Front {
    door: Door,
    socket: ClientSocket,
    flows: RefCell<HashMap<FlowKey, Rc<Flow>>>,
    /// No new flows.
    stopping: Cell<bool>,
    /// Replies pass through here, one at a time.
    reply: RefCell<Box<[u8]>>,
    kept_bytes: Cell<usize>,
    warned: Cell<Option<Instant>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FlowKey {
    client: SocketAddr,
    /// The address that the client wrote to, where the socket has several.
    local: Option<IpAddr>,
}

impl FlowKey {
    /// An IPv4 client of an IPv6 socket is an IPv4 client.
    fn client_ip(&self) -> IpAddr {
        self.client.ip().to_canonical()
    }
}

impl Front {
    fn new(door: Door, socket: std::net::UdpSocket) -> io::Result<Self> {
        Ok(Self {
            door,
            socket: ClientSocket::new(socket)?,
            flows: RefCell::default(),
            stopping: Cell::new(false),
            reply: RefCell::new(vec![0; DATAGRAM_BYTES_MAX].into()),
            kept_bytes: Cell::new(0),
            warned: Cell::new(None),
        })
    }

    /// Takes in at most `most` datagrams. Answers whether there may be more.
    fn receive(self: &Rc<Self>, buffer: &mut [u8], most: usize) -> bool {
        let now = self.door.worker.clock.now();
        for _ in 0..most {
            match self.socket.receive(buffer) {
                Ok(datagram) => {
                    let key = FlowKey { client: datagram.client, local: datagram.local };
                    self.forward(key, &buffer[..datagram.len], now);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                // Of one datagram, not of the socket.
                Err(e) => tracing::debug!("{}: receive: {e}", self.door.listener.name),
            }
        }
        true
    }

    fn forward(self: &Rc<Self>, key: FlowKey, bytes: &[u8], now: Instant) {
        self.door.counters().bytes_in.add(bytes.len() as u64);
        let flow = self.flows.borrow().get(&key).cloned();
        match flow {
            Some(flow) => flow.send(self, bytes, now),
            None if self.stopping.get() => {}
            None => self.open_flow(key, bytes, now),
        }
    }

    fn open_flow(self: &Rc<Self>, key: FlowKey, bytes: &[u8], now: Instant) {
        let counters = self.door.counters();
        let Some(admission) = self.door.listener.admit(key.client_ip()) else {
            return counters.refused.add(1);
        };
        let Some(target) = self.door.listener.state.load().rest.clone() else {
            return counters.refused.add(1);
        };
        let leg = match Leg::open(&self.door.worker, &target, key.client_ip(), now, Vec::new()) {
            Ok(leg) => leg,
            Err(e) => return self.no_endpoint(key, &target, bytes.len(), &e, now),
        };
        counters.connections.add(1);
        counters.open.add(1);
        let flow = Rc::new(Flow::new(&self.door, key, target, admission, leg, now));
        self.flows.borrow_mut().insert(key, flow.clone());
        flow.send(self, bytes, now);
        tokio::task::spawn_local(flow.run(self.clone()));
    }

    fn no_endpoint(
        &self,
        key: FlowKey,
        target: &Arc<Target>,
        bytes: usize,
        error: &LegError,
        now: Instant,
    ) {
        self.door.counters().refused.add(1);
        if let LegError::Ours(e) = error
            && self.warned.get().is_none_or(|warned| now.since(warned) >= WARN_EVERY)
        {
            self.warned.set(Some(now));
            tracing::warn!("{}: no socket for a flow: {e}", self.door.listener.name);
        }
        self.door.worker.log.write(&Entry {
            listener: self.door.listener.name.as_str(),
            protocol: Protocol::Udp,
            client: key.client_ip(),
            http: None,
            tls: None,
            duration: Duration::ZERO,
            queued: Duration::ZERO,
            bytes_in: bytes as u64,
            bytes_out: 0,
            service: Some(target.service.name().as_str()),
            endpoint: None,
            attempts: 0,
            hedged: false,
            error: Some(error.reason()),
        });
    }

    /// No more datagrams go to this flow.
    fn remove(&self, flow: &Flow) {
        let mut flows = self.flows.borrow_mut();
        // The client may have another flow by now.
        if flows.get(&flow.key).is_some_and(|current| std::ptr::eq(&raw const **current, flow)) {
            flows.remove(&flow.key);
        }
    }
}
