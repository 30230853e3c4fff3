//! Frames of Lars over TCP: accepted, read and written within bounds.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::ArcSwap;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use wire::lars::{BODY_BYTES_MAX, Decoded, HEADER_BYTES, Message, decode, encode};

use crate::counts::{Counts, count};
use crate::terms::Terms;

/// Connections at once of each role: one for each machine with an agent. More are closed.
const CONNECTIONS_MAX: usize = 1024;

/// How long a peer may take none of what it is sent, or stop within a frame. Between frames it may
/// be silent, as those who wait for a change of a route are.
const PATIENCE: Duration = Duration::from_secs(10);

/// A peer that is silent for so long is asked by the kernel whether it is still there: one that
/// vanished without a word would hold its connection for ever. About two minutes with the probes.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

/// After an accept that failed (no file descriptor left, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Read at once.
const READ_BYTES: usize = 4096;

/// Gives each connection of an admitted peer to `serve`, until dropped; those that are open end
/// then, too.
pub(super) async fn accept<F, S>(
    listener: std::net::TcpListener,
    terms: Arc<ArcSwap<Terms>>,
    counts: Arc<Counts>,
    serve: F,
) where
    F: Fn(Frames) -> S,
    S: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::warn!("lars: cannot listen: {error}"),
    };
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("lars: cannot accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        let admitted = admits(&terms.load(), peer);
        let permit = permits.clone().try_acquire_owned().ok().filter(|_| admitted);
        let Some(permit) = permit else {
            count(&counts.not_admitted);
            continue;
        };
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE);
        let (counts, served) = (counts.clone(), serve(Frames::over(stream)));
        tasks.spawn(async move {
            // A peer that goes away, or is slow, is its own affair.
            if let Err(error) = served.await
                && error.kind() == io::ErrorKind::InvalidData
            {
                counts.malformed.fetch_add(1, Relaxed);
            }
            drop(permit);
        });
    }
}

fn admits(terms: &Terms, peer: SocketAddr) -> bool {
    terms.spec.lars.as_ref().is_some_and(|lars| lars.admits(peer.ip()))
}

pub(super) struct Frames {
    stream: TcpStream,
    /// Of the next frame; never more than the longest and what is read at once.
    read: Vec<u8>,
}

impl Frames {
    fn over(stream: TcpStream) -> Self {
        Self { stream, read: Vec::new() }
    }

    /// The next frame; `None` at the end. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> io::Result<Option<Message>> {
        loop {
            match decode(&self.read) {
                Ok(Decoded::Complete { message, len }) => {
                    self.read.drain(..len);
                    if self.read.is_empty() {
                        self.read = Vec::new();
                    }
                    return Ok(Some(message));
                }
                Ok(Decoded::Partial) => {}
                Err(error) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error.reason()));
                }
            }
            debug_assert!(self.read.len() < HEADER_BYTES + BODY_BYTES_MAX);
            let mut block = [0; READ_BYTES];
            let reading = self.stream.read(&mut block);
            let count = match self.read.is_empty() {
                true => reading.await?,
                false => timeout(PATIENCE, reading).await.map_err(|_| slow())??,
            };
            if count == 0 {
                return Ok(None);
            }
            self.read.extend_from_slice(&block[..count]);
        }
    }

    pub(super) async fn send(&mut self, message: &Message) -> io::Result<()> {
        let mut frame = Vec::new();
        encode(message, &mut frame);
        timeout(PATIENCE, self.stream.write_all(&frame)).await.map_err(|_| slow())?
    }
}

fn slow() -> io::Error {
    io::ErrorKind::TimedOut.into()
}
