use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use super::wait::until;

/// A replica whose behaviour the test writes: a real server on a real socket, every connection
/// in a thread of its own.
pub struct Replica {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    stopped: AtomicBool,
    connections: AtomicUsize,
    /// All bytes that ever arrived, over all connections.
    received: Mutex<Vec<u8>>,
    open: Mutex<Vec<TcpStream>>,
}

/// A request as the replica saw it.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).first().copied()
    }
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|l| l.split_once(':'));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()).collect()
    }
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or("")
    }
}

impl Replica {
    /// Each connection is given to `serve`.
    pub fn raw(serve: impl Fn(&mut Connection) + Send + Sync + 'static) -> Replica {
        Self::raw_at(SocketAddr::from(([127, 0, 0, 1], 0)), serve)
    }

    /// The same at this address, as when a replica comes back; waits until it is free.
    pub fn raw_at(
        address: SocketAddr,
        serve: impl Fn(&mut Connection) + Send + Sync + 'static,
    ) -> Replica {
        let mut bound = None;
        until("a free address", || {
            bound = TcpListener::bind(address).ok();
            bound.is_some()
        });
        let listener = bound.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            stopped: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            received: Mutex::default(),
            open: Mutex::default(),
        });
        let (accepting, serve) = (shared.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.stopped.load(SeqCst) {
                    return;
                }
                accepting.connections.fetch_add(1, SeqCst);
                accepting.open.lock().unwrap().push(stream.try_clone().unwrap());
                let (shared, serve) = (accepting.clone(), serve.clone());
                std::thread::spawn(move || {
                    let mut connection = Connection { stream, rest: Vec::new(), shared };
                    serve(&mut connection);
                    let _ = connection.stream.shutdown(Shutdown::Both);
                });
            }
        });
        Replica { address, shared }
    }

    /// Answers each request with what `answer` returns for it, on kept-alive connections.
    pub fn http(answer: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static) -> Replica {
        Self::http_at(SocketAddr::from(([127, 0, 0, 1], 0)), answer)
    }

    pub fn http_at(
        address: SocketAddr,
        answer: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static,
    ) -> Replica {
        Self::raw_at(address, move |connection| {
            while let Some(seen) = connection.request() {
                if connection.send(answer(&seen)).is_err() {
                    return;
                }
            }
        })
    }

    /// Answers 200 with `name` as the body.
    pub fn named(name: &'static str) -> Replica {
        Self::http(move |_| ok(name))
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Everything that reached it; health checks by TCP send nothing.
    pub fn received(&self) -> Vec<u8> {
        self.shared.received.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }

    /// Breaks all open connections by a reset.
    pub fn reset_all(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            reset_on_close(&stream);
            // Linux resets at once what is connected to nowhere.
            let _ = rustix::net::connect_unspec(&stream);
        }
    }

    /// Refuses connections from now on and breaks those that are open.
    pub fn stop(&self) {
        self.shared.stopped.store(true, SeqCst);
        // The accept that is under way is the last.
        let _ = TcpStream::connect(self.address);
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Drops our other handle of the stream.
    fn forget(&self, stream: &TcpStream) {
        let peer = stream.peer_addr().ok();
        self.open.lock().unwrap().retain(|open| open.peer_addr().ok() != peer);
    }
}

/// Makes the close of this socket a reset.
pub fn reset_on_close(stream: &TcpStream) {
    let linger = Some(std::time::Duration::ZERO);
    rustix::net::sockopt::set_socket_linger(stream, linger).unwrap();
}

pub fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// One connection to a replica.
pub struct Connection {
    pub stream: TcpStream,
    rest: Vec<u8>,
    shared: Arc<Shared>,
}

impl Connection {
    /// The next request with its body; `None` at the end.
    pub fn request(&mut self) -> Option<Seen> {
        let mut seen = self.head()?;
        seen.body = self.body_of(&seen)?;
        Some(seen)
    }

    /// The body of the request whose head was read.
    pub fn body_of(&mut self, seen: &Seen) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        if seen.header("transfer-encoding").is_some() {
            loop {
                let line = self.line()?;
                let size = usize::from_str_radix(&line, 16).ok()?;
                if size == 0 {
                    while !self.line()?.is_empty() {}
                    break;
                }
                body.extend(self.take(size)?);
                self.take(2)?;
            }
        } else if let Some(length) = seen.header("content-length") {
            let length = length.parse().ok()?;
            body = self.take(length)?;
        }
        Some(body)
    }

    pub fn head(&mut self) -> Option<Seen> {
        let end = loop {
            if let Some(at) = self.rest.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill()?;
        };
        let head = String::from_utf8_lossy(&self.take(end)?).into_owned();
        Some(Seen { head, body: Vec::new() })
    }

    pub fn line(&mut self) -> Option<String> {
        let end = loop {
            if let Some(at) = self.rest.windows(2).position(|w| w == b"\r\n") {
                break at;
            }
            self.fill()?;
        };
        let line = self.take(end + 2)?;
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    pub fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.rest.len() < count {
            self.fill()?;
        }
        let rest = self.rest.split_off(count);
        Some(std::mem::replace(&mut self.rest, rest))
    }

    /// What has come, at least one byte and at most so many.
    pub fn take_some(&mut self, most: usize) -> Option<Vec<u8>> {
        if self.rest.is_empty() {
            self.fill()?;
        }
        let rest = self.rest.split_off(most.min(self.rest.len()));
        Some(std::mem::replace(&mut self.rest, rest))
    }

    /// The end of this connection is a reset.
    pub fn reset_on_close(&mut self) {
        reset_on_close(&self.stream);
        // So that the usual shutdown, which is an orderly end, comes too late.
        let (stream, _) = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| Ok((TcpStream::connect(l.local_addr()?)?, l)))
            .unwrap();
        self.shared.forget(&self.stream);
        self.stream = stream;
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Reads once; `None` at the end.
    pub fn fill(&mut self) -> Option<()> {
        let mut block = [0; 16 * 1024];
        let count = self.stream.read(&mut block).ok().filter(|count| *count > 0)?;
        self.rest.extend_from_slice(&block[..count]);
        let mut received = self.shared.received.lock().unwrap();
        // Enough to assert on; big uploads are counted by their tests.
        if received.len() < 1 << 20 {
            received.extend_from_slice(&block[..count]);
        }
        Some(())
    }
}
