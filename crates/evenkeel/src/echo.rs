//! `evenkeel echo`: a tiny service to balance over, which says in every answer which replica gave
//! it. For trying things out and for tests; it never pretends to be a web server.
//!
//! One port serves HTTP (with WebSocket), lines over TCP, and datagrams: `detect` looks at the
//! first bytes of a connection. What HTTP paths do is in `http`.

mod datagrams;
mod detect;
mod http;
mod lines;
mod load;
#[cfg(test)]
mod tests;
mod websocket;

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use detect::Kind;

/// Where HTTP is served when neither `--http` nor `PORT` says so.
const DEFAULT_PORT: u16 = 5000;
/// How long requests in flight may take after SIGTERM.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// A pause when the system gives us no more connections, so that we do not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What to serve, and under which name
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Serve HTTP and WebSocket here, and lines over TCP unless --tcp is given
    /// [default: 127.0.0.1:$PORT, else 127.0.0.1:5000]
    #[arg(long, value_name = "ADDRESS", value_parser = config::parse_bind)]
    http: Option<SocketAddr>,
    /// Answer each line with "NAME line" here, and serve only HTTP on the other port
    #[arg(long, value_name = "ADDRESS", value_parser = config::parse_bind)]
    tcp: Option<SocketAddr>,
    /// Answer each datagram with "NAME datagram" here [default: 127.0.0.1:$PORT if it is free]
    #[arg(long, value_name = "ADDRESS", value_parser = config::parse_bind)]
    udp: Option<SocketAddr>,
    /// The name in every answer [default: the port]
    #[arg(long, env = "REPLICA")]
    name: Option<String>,
    /// Wait so long before each HTTP answer, e.g. 20ms
    #[arg(long, value_name = "DURATION", value_parser = config::parse_duration, default_value = "0")]
    delay: Duration,
    /// The port that a runner chose
    #[arg(long, env = "PORT", hide = true)]
    port: Option<u16>,
}

/// Serves until SIGTERM or SIGINT, then finishes what is in flight.
pub(crate) fn run(options: Options) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = runtime.and_then(|runtime| runtime.block_on(serve(options)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(options: Options) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let echo = Echo::bind(options).await?;
    // Whoever started us may have closed our output; that is no reason not to serve.
    let _ = writeln!(io::stdout(), "{}", echo.banner());
    let (stop, told) = watch::channel(false);
    let serving = tokio::spawn(echo.serve(told));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.send_replace(true);
    serving.await.map_err(io::Error::other)
}

/// Everything that is bound, before anything is served.
struct Echo {
    replica: Arc<Replica>,
    http: TcpListener,
    tcp: Option<TcpListener>,
    udp: Option<UdpSocket>,
}

/// What every answer needs to know.
struct Replica {
    name: String,
    header: HeaderValue,
    delay: Duration,
    busy: load::Busy,
}

impl Echo {
    async fn bind(options: Options) -> io::Result<Self> {
        let port = options.port.unwrap_or(DEFAULT_PORT);
        let default = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let http = listen(options.http.unwrap_or(default)).await?;
        let tcp = match options.tcp {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let udp = match options.udp {
            Some(address) => {
                Some(UdpSocket::bind(address).await.map_err(|e| at(address, "UDP", e))?)
            }
            // A runner means one port for everything; that nobody asked for UDP is no error.
            None if options.port.is_some() => UdpSocket::bind(http.local_addr()?).await.ok(),
            None => None,
        };
        let name = match options.name {
            Some(name) => name,
            None => http.local_addr()?.port().to_string(),
        };
        let header = HeaderValue::from_str(&name)
            .map_err(|_| io::Error::other(format!("the name {name:?} does not fit a header")))?;
        let busy = load::Busy::new();
        let replica = Arc::new(Replica { name, header, delay: options.delay, busy });
        Ok(Self { replica, http, tcp, udp })
    }

    /// `web-1: HTTP and TCP on 127.0.0.1:5000`
    fn banner(&self) -> String {
        let mut banner = format!("{}:", self.replica.name);
        let mut add = |what: &str, address: io::Result<SocketAddr>| {
            if let Ok(address) = address {
                let comma = if banner.ends_with(':') { "" } else { "," };
                banner += &format!("{comma} {what} on {address}");
            }
        };
        match &self.tcp {
            None => add("HTTP and TCP", self.http.local_addr()),
            Some(tcp) => {
                add("HTTP", self.http.local_addr());
                add("TCP", tcp.local_addr());
            }
        }
        if let Some(udp) = &self.udp {
            add("UDP", udp.local_addr());
        }
        banner
    }

    async fn serve(self, stop: Stop) {
        let (alive, mut all_done) = mpsc::channel(1);
        let task = Task { replica: self.replica, stop, _alive: alive };
        let kind = if self.tcp.is_some() { Some(Kind::Http) } else { None };
        tokio::spawn(accept(self.http, kind, task.clone()));
        if let Some(tcp) = self.tcp {
            tokio::spawn(accept(tcp, Some(Kind::Lines), task.clone()));
        }
        if let Some(udp) = self.udp {
            tokio::spawn(datagrams::answer(udp, task.clone()));
        }
        let mut stop = task.stop.clone();
        drop(task);
        stopped(&mut stop).await;
        // Nothing is ever sent: this ends when the last task has ended.
        let _ = timeout(STOP_GRACE, all_done.recv()).await;
    }
}

/// Becomes true when we must stop.
type Stop = watch::Receiver<bool>;

async fn stopped(stop: &mut Stop) {
    // An error means that whoever could say so is gone, which is the same.
    let _ = stop.wait_for(|&stop| stop).await;
}

/// What each connection carries; the last one to end lets `serve` end.
#[derive(Clone)]
struct Task {
    replica: Arc<Replica>,
    stop: Stop,
    _alive: mpsc::Sender<Infallible>,
}

async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| at(address, "TCP", e))
}

fn at(address: SocketAddr, protocol: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {address} ({protocol}): {error}"))
}

async fn accept(listener: TcpListener, kind: Option<Kind>, mut task: Task) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut task.stop) => return,
        };
        match accepted {
            Ok((stream, _)) => drop(tokio::spawn(converse(stream, kind, task.clone()))),
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// One connection to its end. A client that breaks off ends it, which concerns nobody else.
async fn converse(stream: TcpStream, kind: Option<Kind>, mut task: Task) {
    let _ = stream.set_nodelay(true);
    let (kind, stream) = match kind {
        Some(kind) => (kind, detect::Begun::new(stream)),
        None => tokio::select! {
            detected = detect::detect(stream) => match detected {
                Ok(Some(detected)) => detected,
                Ok(None) | Err(_) => return,
            },
            () = stopped(&mut task.stop) => return,
        },
    };
    match kind {
        Kind::Http => http::serve(stream, task).await,
        Kind::Lines => drop(lines::answer(stream, task).await),
    }
}
