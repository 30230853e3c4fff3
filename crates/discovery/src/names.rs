//! Who serves, told over the Domain Name System, so that any program can use it.
//!
//! For: a server that is the authority for one domain, in which each service is a name. `zone.rs`
//! says what is answered, purely; `limit.rs` how often; here are the sockets.
//! Never: looks anything up for others, nor answers for other names.
//! Start with [`NameServer`] and [`Directory`].

mod limit;
mod zone;

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::debug;

pub use limit::{Limiter, Verdict};
pub use zone::{Directory, Serving, Transport, Zone, answer};

/// Bytes of a query that are read: a name, EDNS and a cookie have some 350.
const QUERY_BYTES_MAX: usize = 4096;

/// Connections at the same time; further ones wait to be accepted.
const CONNECTIONS: usize = 64;

/// A connection over which nothing is asked for so long is closed (RFC 7766, section 6.2.3).
const IDLE: Duration = Duration::from_secs(10);

/// After an error of a socket, such as a lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Both sockets of a server, bound and not yet served.
#[derive(Debug)]
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    /// Alone: no other program has either. Port 0: the same free one for both.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let udp = UdpSocket::bind(address)?;
        let tcp = TcpListener::bind(udp.local_addr()?)?;
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        Ok(Self { udp, tcp })
    }

    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { udp: self.udp.try_clone()?, tcp: self.tcp.try_clone()? })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }
}

/// Answers until it is dropped.
pub struct NameServer {
    sockets: Sockets,
    task: JoinHandle<()>,
}

impl NameServer {
    /// `rate`: answers in a second over UDP for clients of one network; `None`: as many as are
    /// asked for. In a runtime.
    pub fn serve(
        sockets: Sockets,
        zone: Zone,
        rate: Option<u32>,
        directory: Arc<dyn Directory>,
        seed: u64,
    ) -> io::Result<Self> {
        let kept = sockets.try_clone()?;
        let udp = tokio::net::UdpSocket::from_std(sockets.udp)?;
        let tcp = tokio::net::TcpListener::from_std(sockets.tcp)?;
        let zone = Arc::new(zone);
        let limiter = rate.map(|rate| Limiter::new(rate, Instant::now()));
        let rng = Rng::from_seed(seed);
        let datagrams = answer_datagrams(udp, zone.clone(), limiter, directory.clone(), rng);
        let streams = accept(tcp, zone, directory, Rng::from_seed(!seed));
        let task = tokio::spawn(async move {
            tokio::join!(datagrams, streams);
        });
        Ok(Self { sockets: kept, task })
    }

    /// The same sockets, for a server that answers otherwise.
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer_datagrams(
    socket: tokio::net::UdpSocket,
    zone: Arc<Zone>,
    mut limiter: Option<Limiter>,
    directory: Arc<dyn Directory>,
    mut rng: Rng,
) {
    let mut query = vec![0; QUERY_BYTES_MAX];
    loop {
        let (length, client) = match socket.recv_from(&mut query).await {
            Ok(received) => received,
            Err(error) => {
                debug!("dns over UDP: {error}");
                sleep(PAUSE).await;
                continue;
            }
        };
        let verdict = match &mut limiter {
            Some(limiter) => limiter.judge(client.ip(), Instant::now()),
            None => Verdict::Answer,
        };
        let transport = match verdict {
            Verdict::Answer => Transport::Udp,
            Verdict::AskOverTcp => Transport::UdpEmpty,
            Verdict::Drop => continue,
        };
        let answer = answer(&query[..length], &zone, &*directory, transport, &mut rng);
        if let Some(answer) = answer {
            // A full buffer loses it, as the network might; the client asks again.
            let _ = socket.send_to(&answer, client).await;
        }
    }
}

async fn accept(
    listener: tokio::net::TcpListener,
    zone: Arc<Zone>,
    directory: Arc<dyn Directory>,
    mut rng: Rng,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // Connections end with this.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (zone, directory) = (zone.clone(), directory.clone());
                let rng = Rng::from_seed(rng.next_u64());
                connections.spawn(async move {
                    let _place = place;
                    let _ = answer_stream(stream, &zone, &*directory, rng).await;
                });
            }
            Err(error) => {
                debug!("dns over TCP: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn answer_stream(
    mut stream: TcpStream,
    zone: &Zone,
    directory: &dyn Directory,
    mut rng: Rng,
) -> io::Result<()> {
    loop {
        // From the first byte of a query to the last of its answer, too.
        let turn = async {
            let length = usize::from(stream.read_u16().await?);
            if length > QUERY_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut query = vec![0; length];
            stream.read_exact(&mut query).await?;
            let Some(answer) = answer(&query, zone, directory, Transport::Tcp, &mut rng) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            // What fits a message fits its length.
            let length = (answer.len() as u16).to_be_bytes();
            stream.write_all(&[&length, &*answer].concat()).await
        };
        timeout(IDLE, turn).await.map_err(|_| io::ErrorKind::TimedOut)??;
    }
}
