//! HTTP/1.1 with JSON over kept-alive connections, as much of it as the agent speaks.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

/// Idle connections that are kept, for threads that ask at the same time.
const IDLE_MAX: usize = 16;

/// Bytes of an answer's head, and of its body: ten thousand endpoints have about a megabyte.
const HEAD_BYTES_MAX: u64 = 16 << 10;
const BODY_BYTES_MAX: u64 = 16 << 20;

/// Where the agent is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

pub(crate) struct Http {
    pub(crate) place: Place,
    pub(crate) token: Option<String>,
    /// For each step of an exchange: to connect, to write, to read.
    pub(crate) timeout: Duration,
    idle: Mutex<Vec<Connection>>,
}

type Connection = BufReader<Stream>;

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Http {
    pub(crate) fn new(place: Place, timeout: Duration) -> Self {
        Self { place, token: None, timeout, idle: Mutex::default() }
    }

    /// The status and the JSON of the answer. On a connection that was kept and turns out to be
    /// closed it is asked a second time: a pick that was lost so expires.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> io::Result<(u16, Value)> {
        let kept = self.idle().pop();
        if let Some(connection) = kept {
            match self.exchange(connection, method, path, body) {
                Err(error) if is_closed(error.kind()) => self.idle().clear(),
                outcome => return outcome,
            }
        }
        self.exchange(self.connect()?, method, path, body)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self) -> io::Result<Connection> {
        let timeout = Some(self.timeout);
        let stream = match &self.place {
            Place::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)?;
                Stream::Unix(stream)
            }
            Place::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, self.timeout)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)?;
                Stream::Tcp(stream)
            }
        };
        Ok(BufReader::new(stream))
    }

    fn exchange(
        &self,
        mut connection: Connection,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> io::Result<(u16, Value)> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n",
            body.len()
        );
        if let Some(token) = &self.token {
            request += &format!("Authorization: Bearer {token}\r\n");
        }
        request += "\r\n";
        request += &body;
        connection.get_mut().write_all(request.as_bytes())?;
        let head = Head::read(&mut connection)?;
        let mut text = vec![0; head.length];
        connection.read_exact(&mut text)?;
        let value = serde_json::from_slice(&text)?;
        if head.keep_alive {
            let mut idle = self.idle();
            if idle.len() < IDLE_MAX {
                idle.push(connection);
            }
        }
        Ok((head.status, value))
    }
}

/// Closed by the agent before it answered: idle for long, or restarted.
fn is_closed(kind: ErrorKind) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

struct Head {
    status: u16,
    length: usize,
    keep_alive: bool,
}

impl Head {
    fn read(connection: &mut impl BufRead) -> io::Result<Self> {
        let mut head = connection.take(HEAD_BYTES_MAX);
        let mut next = || {
            let mut line = String::new();
            head.read_line(&mut line)?;
            match line.strip_suffix("\r\n") {
                Some(line) => Ok(line.to_owned()),
                None if line.is_empty() => Err(io::Error::from(ErrorKind::UnexpectedEof)),
                None => Err(io::Error::new(ErrorKind::InvalidData, "no HTTP")),
            }
        };
        let status = next()?;
        let status = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "no HTTP"))?;
        let (mut length, mut keep_alive) = (None, true);
        loop {
            let line = next()?;
            if line.is_empty() {
                break;
            }
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse::<u64>().ok().filter(|length| *length <= BODY_BYTES_MAX);
            } else if name.eq_ignore_ascii_case("connection") {
                keep_alive = !value.eq_ignore_ascii_case("close");
            }
        }
        // The agent always tells the length.
        let length =
            length.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "no length"))? as usize;
        Ok(Self { status, length, keep_alive })
    }
}

impl Read for Stream {
    fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.read(block),
            Stream::Tcp(stream) => stream.read(block),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Unix(stream) => stream.write(bytes),
            Stream::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_within_bounds() {
        let check = |text: &str, expected: Result<(u16, usize, bool), ErrorKind>| {
            let head = Head::read(&mut text.as_bytes());
            let head = head.map(|h| (h.status, h.length, h.keep_alive)).map_err(|e| e.kind());
            assert_eq!(head, expected, "{text:.60}");
        };
        check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", Ok((200, 2, true)));
        check(
            "HTTP/1.1 503 X\r\nContent-Length:0\r\nConnection: close\r\n\r\n",
            Ok((503, 0, false)),
        );
        check("", Err(ErrorKind::UnexpectedEof));
        check("HTTP/1.1 200 OK\r\n", Err(ErrorKind::UnexpectedEof));
        check("SSH-2.0\r\n\r\n", Err(ErrorKind::InvalidData));
        check("HTTP/1.1 200 OK\r\n\r\n", Err(ErrorKind::InvalidData));
        let long = BODY_BYTES_MAX + 1;
        check(
            &format!("HTTP/1.1 200 OK\r\nContent-Length: {long}\r\n\r\n"),
            Err(ErrorKind::InvalidData),
        );
        check(&format!("HTTP/1.1 200 {}", "x".repeat(20_000)), Err(ErrorKind::InvalidData));
    }
}
