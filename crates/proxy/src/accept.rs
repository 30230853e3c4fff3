//! From a listener's queue to a task that serves the client, on the worker that has the fewest.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use model::Instant;
use model::spec::Protocol;
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::arrival::arrive;
use crate::http1;
use crate::io::{Socket, Stream};
use crate::listener::{Admission, Bound, Door, Listener};
use crate::metrics::ListenerShard;
use crate::tcp;
use crate::udp;
use crate::worker::{Command, Worker};

/// After an accept that failed for want of files or memory, before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// How often such failures are told of.
const ACCEPT_TOLD_EVERY: Duration = Duration::from_secs(10);

/// Accepts until `stopped` resolves (or its other end is dropped).
pub(crate) fn accept(
    worker: Rc<Worker>,
    listener: Arc<Listener>,
    bound: Bound,
    stopped: oneshot::Receiver<()>,
) {
    let door = Door { worker, listener };
    match bound {
        Bound::Tcp(socket) => {
            tokio::task::spawn_local(accept_tcp(door, socket, stopped));
        }
        Bound::Udp(socket) => {
            tokio::task::spawn_local(udp::serve(door, socket, stopped));
        }
    }
}

async fn accept_tcp(door: Door, socket: TcpListener, mut stopped: oneshot::Receiver<()>) {
    #[expect(deprecated, reason = "a standard listener owns its descriptor, as is asked for")]
    let queue = match AsyncFd::with_interest(socket, Interest::READABLE) {
        Ok(queue) => queue,
        Err(e) => {
            tracing::error!("{}: cannot accept: {e}", door.listener.name);
            return;
        }
    };
    let mut told: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            accepted = queue.async_io(Interest::READABLE, next) => match accepted {
                Ok((stream, peer)) => place(&door, stream, peer),
                Err(e) if is_of_one_connection(&e) => {}
                Err(e) => {
                    let now = door.worker.clock.now();
                    if told.is_none_or(|told| now.since(told) >= ACCEPT_TOLD_EVERY) {
                        tracing::warn!("{}: clients wait to be accepted: {e}", door.listener.name);
                        told = Some(now);
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // Closing the socket resets those who wait in its queue, so they are taken in first.
    let queue = queue.into_inner();
    loop {
        match next(&queue) {
            Ok((stream, peer)) => admit(&door, stream, peer),
            Err(e) if is_of_one_connection(&e) => {}
            Err(_) => break,
        }
    }
}

/// The next connection in the queue. The runtime is told of it when somebody waits for it.
fn next(queue: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (stream, peer) = acceptfrom_with(queue, flags)?;
    let stream = TcpStream::from(stream);
    match peer.map(SocketAddr::try_from) {
        Some(Ok(peer)) => Ok((stream, peer)),
        // It is gone already.
        Some(Err(_)) | None => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

/// Serves the connection here or, if this worker has markedly more than another one, there: the
/// kernel spreads connections by a hash, that is by chance, and of two hundred on two workers one
/// would often get 14 % more than its half.
fn place(door: &Door, stream: TcpStream, peer: SocketAddr) {
    let shards = &door.listener.shards;
    let lighter = match shards.len() {
        1 => None,
        _ => lighter(door.worker.index, shards.iter().map(ListenerShard::load)),
    };
    let sibling = lighter.and_then(|index| Some((index, door.worker.siblings.upgrade()?)));
    if let Some((index, siblings)) = sibling
        && let Some(sibling) = siblings.get().and_then(|workers| workers.get(index))
    {
        shards[index].hand();
        sibling.send(Command::Adopt(door.listener.clone(), stream, peer));
        return;
    }
    admit(door, stream, peer);
}

/// The one with the fewest connections, if it has so many fewer than `mine` that it is worth the
/// trouble: a sixteenth, and one or two more, since a hand-over costs some microseconds.
fn lighter(mine: usize, loads: impl Iterator<Item = u64> + Clone) -> Option<usize> {
    let own = loads.clone().nth(mine)?;
    let (index, least) = loads.enumerate().min_by_key(|(_, load)| *load)?;
    (own >= least + least / 16 + 2).then_some(index)
}

/// Serves a connection that another worker accepted.
pub(crate) fn adopt(
    worker: &Rc<Worker>,
    listener: Arc<Listener>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let door = Door { worker: worker.clone(), listener };
    admit(&door, stream, peer);
    // Once it is among those that are open.
    door.counters().take_in();
}

/// Errors of the connection that was to be accepted, not of the listener (accept(2)).
fn is_of_one_connection(e: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(e.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

fn admit(door: &Door, stream: TcpStream, peer: SocketAddr) {
    let mut stream = Stream::Tcp(Socket::fresh(stream));
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let counters = door.counters();
    let Some(admission) = door.listener.admit(peer.ip()) else {
        counters.refused.add(1);
        stream.reset_on_close();
        return;
    };
    counters.connections.add(1);
    counters.open.add(1);
    let open = Open { door: door.clone(), _admission: admission };
    // A task for each protocol, so that none is as large as the largest.
    match door.listener.protocol {
        Protocol::Http => {
            tokio::task::spawn_local(async move {
                if let Some(arrival) = arrive(&open.door, stream, peer).await {
                    http1::serve(open.door.clone(), arrival).await;
                }
            });
        }
        Protocol::Tcp | Protocol::Udp | Protocol::Tls => {
            tokio::task::spawn_local(async move {
                if let Some(arrival) = arrive(&open.door, stream, peer).await {
                    tcp::serve(&open.door, arrival).await;
                }
            });
        }
    }
}

/// A connection that is counted as open.
struct Open {
    door: Door,
    _admission: Admission,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.door.counters().open.sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_markedly_more_hands_over() {
        let lighter = |mine, loads: &[u64]| lighter(mine, loads.iter().copied());
        assert_eq!(lighter(0, &[0, 0]), None);
        assert_eq!(lighter(0, &[1, 0]), None);
        assert_eq!(lighter(0, &[2, 0]), Some(1));
        assert_eq!(lighter(1, &[2, 0]), None);
        assert_eq!(lighter(0, &[100, 95]), None);
        assert_eq!(lighter(0, &[103, 95]), Some(1));
        assert_eq!(lighter(2, &[40, 30, 50]), Some(1));
    }
}
