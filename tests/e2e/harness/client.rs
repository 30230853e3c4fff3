use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A client that sends just the bytes it is given.
pub struct Client {
    pub stream: TcpStream,
    /// Read, but not yet part of a response.
    rest: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
pub struct Response {
    pub status: u16,
    /// Status line and headers as they came.
    pub head: String,
    pub body: Vec<u8>,
    pub trailers: String,
}

impl Response {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        Self::try_connect(address).unwrap()
    }

    pub fn try_connect(address: SocketAddr) -> io::Result<Client> {
        Self::over(TcpStream::connect_timeout(&address, Duration::from_secs(10))?)
    }

    /// On a connection that exists.
    pub fn over(stream: TcpStream) -> io::Result<Client> {
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, rest: Vec::new() })
    }

    pub fn get(address: SocketAddr, path: &str) -> Response {
        Self::ask(address, path).unwrap_or_else(|e| panic!("GET http://{address}{path}: {e}"))
    }

    pub fn try_get(address: SocketAddr, path: &str) -> Option<Response> {
        Self::ask(address, path).ok()
    }

    fn ask(address: SocketAddr, path: &str) -> io::Result<Response> {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        Self::exchange(address, request)
    }

    /// One request of any shape on a connection of its own.
    pub fn exchange(address: SocketAddr, request: impl AsRef<[u8]>) -> io::Result<Response> {
        let mut client = Self::try_connect(address)?;
        client.send(request)?;
        client.response()
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// The next response, by its framing; to the connection's end where it has none.
    pub fn response(&mut self) -> io::Result<Response> {
        self.response_to(false)
    }

    /// `head`: the request was HEAD.
    pub fn response_to(&mut self, head: bool) -> io::Result<Response> {
        let mut response = self.head()?;
        if head || matches!(response.status, 100..=199 | 204 | 304) {
            return Ok(response);
        }
        if response.header("transfer-encoding").is_some() {
            self.chunked(&mut response)?;
        } else if let Some(length) = response.header("content-length") {
            let length = length.parse().unwrap();
            response.body = self.take(length)?;
        } else {
            self.stream.read_to_end(&mut self.rest)?;
            response.body = std::mem::take(&mut self.rest);
        }
        Ok(response)
    }

    /// Only status line and headers.
    pub fn head(&mut self) -> io::Result<Response> {
        let end = self.find(b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&self.take(end + 4)?).into_owned();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status: {head:?}")))?;
        Ok(Response { status, head, ..Response::default() })
    }

    fn chunked(&mut self, response: &mut Response) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or(""), 16)
                .map_err(|e| io::Error::other(format!("chunk {line:?}: {e}")))?;
            if size == 0 {
                break;
            }
            response.body.extend(self.take(size)?);
            assert_eq!(self.take(2)?, b"\r\n");
        }
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(());
            }
            response.trailers.push_str(&line);
            response.trailers.push('\n');
        }
    }

    /// Up to the next CRLF, without it.
    pub fn line(&mut self) -> io::Result<String> {
        let end = self.find(b"\r\n")?;
        let line = self.take(end + 2)?;
        Ok(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    /// What was read already, behind the last response.
    pub fn buffered(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rest)
    }

    pub fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.rest.len() < count {
            self.fill()?;
        }
        let rest = self.rest.split_off(count);
        Ok(std::mem::replace(&mut self.rest, rest))
    }

    fn find(&mut self, needle: &[u8]) -> io::Result<usize> {
        loop {
            if let Some(at) = self.rest.windows(needle.len()).position(|w| w == needle) {
                return Ok(at);
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut block = [0; 16 * 1024];
        let count = self.stream.read(&mut block)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.rest.extend_from_slice(&block[..count]);
        Ok(())
    }

    /// Does the other side close (or reset) without sending anything more?
    pub fn is_closed(&mut self) -> bool {
        self.rest.is_empty() && matches!(self.stream.read(&mut [0; 1]), Ok(0) | Err(_))
    }
}
