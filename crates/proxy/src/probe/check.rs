//! One health check: a connection of its own, closed without trace.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use model::spec::{EndpointProtocol, HealthKind, HealthSpec, StatusSet};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use wire::http1::{
    ChunkStep, ChunkedDecoder, Framing, HeadLimits, Progress, RequestKind, ResponseHead,
    TrailerLimits,
};

use super::multiplexed::{self, Question};
use crate::io::TlsStream;
use crate::upstream::{Secure, secure};

/// Bytes of an answer's head, and fields in it: what a health endpoint can reasonably say.
pub(super) const HEAD_LIMITS: HeadLimits =
    HeadLimits { bytes: 16 * 1024, count: 200, uri_bytes: 0 };
/// Interim (1xx) answers before the one that counts.
pub(super) const INTERIM_MAX: usize = 8;
/// An answer is read to its end, so that the endpoint is not cut off while it writes, but no
/// further than this,
const DRAIN_BYTES_MAX: usize = 256 * 1024;
/// nor longer than this after the verdict is known.
const DRAIN_TIME_MAX: Duration = Duration::from_millis(500);
pub(super) const READ_BYTES: usize = 4 * 1024;

/// How a check ended.
#[derive(Debug)]
pub(super) enum Verdict {
    Passed,
    /// With a text for people.
    Failed(String),
    /// We are at fault: no file or port to be had.
    NotRun(io::Error),
}

/// Checks the endpoint whose traffic goes to `address`.
/// `secure` and `protocol`: what is spoken to it.
pub(super) async fn run(
    spec: &HealthSpec,
    address: SocketAddr,
    secure: &Secure,
    protocol: EndpointProtocol,
) -> Verdict {
    let target = spec.target(address);
    let result = match &spec.kind {
        HealthKind::Off => return Verdict::Passed,
        HealthKind::Tcp => {
            // Another port may speak anything.
            let over = match (secure, spec.port) {
                (Secure::Plain, _) | (_, Some(_)) => Over::Clear,
                (secure, None) => Over::Service(secure),
            };
            let opened =
                timeout(spec.timeout, Connection::open(target, over, alpn(protocol))).await;
            opened.map(|opened| opened.map(Connection::close))
        }
        HealthKind::Http { path, method, host, headers, expect, tls } => {
            let host = host.clone().unwrap_or_else(|| target.to_string());
            // Another port may speak anything: what most do is HTTP/1.1.
            let protocol = if spec.port.is_some() { EndpointProtocol::Http1 } else { protocol };
            let question = Question { method, path, authority: &host, headers };
            let request = request(method, path, &host, headers);
            let kind = RequestKind { is_head: method == "HEAD", is_connect: false };
            let mut answer = Answer::default();
            let over = match (tls, secure) {
                (false, _) => Over::Clear,
                (true, Secure::Plain) => Over::AnyCertificate(&host),
                (true, secure) => Over::Service(secure),
            };
            let asked = async {
                let mut stream = Connection::open(target, over, alpn(protocol)).await?;
                if stream.is_http2(protocol) {
                    let status = multiplexed::ask(&mut stream, &question).await?;
                    stream.close();
                    return judge(status, expect).map(|()| None);
                }
                ask(&mut answer, stream, &request, kind, expect).await.map(Some)
            };
            match timeout(spec.timeout, asked).await {
                Ok(Ok(Some(stream))) => {
                    drain(answer, stream).await;
                    Ok(Ok(()))
                }
                Ok(Ok(None)) => Ok(Ok(())),
                Ok(Err(e)) => Ok(Err(e)),
                Err(e) => Err(e),
            }
        }
        HealthKind::Grpc { service, host } => {
            let host = host.clone().unwrap_or_else(|| target.to_string());
            let over = match secure {
                Secure::Plain => Over::Clear,
                secure => Over::Service(secure),
            };
            let asked = async {
                let mut stream = Connection::open(target, over, &[tls::ALPN_HTTP2]).await?;
                multiplexed::ask_grpc(&mut stream, &host, service, spec.timeout).await?;
                stream.close();
                Ok(())
            };
            timeout(spec.timeout, asked).await
        }
    };
    match result {
        Ok(Ok(())) => Verdict::Passed,
        Ok(Err(CheckError::NotRun(e))) => Verdict::NotRun(e),
        Ok(Err(e)) => Verdict::Failed(e.to_string()),
        Err(_) => Verdict::Failed(format!("no answer within {:?}", spec.timeout)),
    }
}

#[derive(Debug)]
pub(super) enum CheckError {
    NotRun(io::Error),
    Io(io::Error),
    /// The handshake failed.
    Tls(io::Error),
    Ended,
    NotHttp(&'static str),
    NotGrpc(String),
    /// What the health protocol of gRPC says.
    NotServing(&'static str),
    Status {
        status: u16,
        expected: String,
    },
}

impl std::fmt::Display for CheckError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CheckError::NotRun(e) | CheckError::Io(e) => f.write_str(&describe(e)),
            CheckError::Tls(e) => write!(f, "TLS handshake: {}", describe(e)),
            CheckError::Ended => f.write_str("connection closed before an answer"),
            CheckError::NotGrpc(reason) => write!(f, "not a good gRPC answer: {reason}"),
            CheckError::NotServing(status) => write!(f, "it says {status}"),
            CheckError::NotHttp(reason) => write!(f, "not an HTTP answer: {reason}"),
            CheckError::Status { status, expected } => {
                write!(f, "status {status}, expected {expected}")
            }
        }
    }
}

/// `connection refused`: the system's words, without its number.
fn describe(e: &io::Error) -> String {
    let reason = model::reason(e);
    let mut letters = reason.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Errors that speak of this machine and not of the endpoint.
fn is_ours(e: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(e),
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL)
    )
}

pub(super) async fn connect(target: SocketAddr) -> Result<TcpStream, CheckError> {
    let connect = async {
        let socket = if target.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_nodelay(true)?;
        socket.connect(target).await
    };
    connect.await.map_err(|e| if is_ours(&e) { CheckError::NotRun(e) } else { CheckError::Io(e) })
}

/// What a check speaks.
#[derive(Clone, Copy)]
pub(super) enum Over<'a> {
    Clear,
    /// TLS, as traffic does.
    Service(&'a Secure),
    /// TLS with whoever answers: the check asks whether it works. The host may have a port.
    AnyCertificate(&'a str),
}

/// What is offered to speak over TLS.
fn alpn(protocol: EndpointProtocol) -> &'static [&'static [u8]] {
    match protocol {
        EndpointProtocol::H2 => &[tls::ALPN_HTTP2],
        EndpointProtocol::Auto => &[tls::ALPN_HTTP2, tls::ALPN_HTTP1],
        EndpointProtocol::Http1 | EndpointProtocol::H2c => &[],
    }
}

/// A connection to check or to ask by, in clear or over TLS.
pub(super) enum Connection {
    Clear(TcpStream),
    Secured(Box<TlsStream>),
}

impl Connection {
    pub(super) async fn open(
        target: SocketAddr,
        over: Over<'_>,
        alpn: &[&[u8]],
    ) -> Result<Connection, CheckError> {
        let socket = connect(target).await?;
        let unusable = || CheckError::Tls(io::Error::other("no usable settings"));
        let dialling = match over {
            Over::Clear => return Ok(Connection::Clear(socket)),
            Over::Service(Secure::Tls(client)) => client.dial(target, alpn),
            Over::Service(_) => return Err(unusable()),
            Over::AnyCertificate(host) => {
                let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
                tls::Client::unverified(name).map_err(|_| unusable())?.dial(target, alpn)
            }
        };
        let dialling = dialling.map_err(|e| CheckError::Tls(io::Error::other(e)))?;
        let secured = secure(socket, dialling.session).await;
        secured.map(|stream| Connection::Secured(Box::new(stream))).map_err(CheckError::Tls)
    }

    /// Is HTTP/2 spoken on it?
    fn is_http2(&self, protocol: EndpointProtocol) -> bool {
        match self {
            Connection::Clear(_) => protocol == EndpointProtocol::H2c,
            Connection::Secured(stream) => stream.alpn() == Some(tls::ALPN_HTTP2),
        }
    }

    /// Of HTTP/2's requests.
    pub(super) fn scheme(&self) -> &'static str {
        match self {
            Connection::Clear(_) => "http",
            Connection::Secured(_) => "https",
        }
    }

    pub(super) async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        while sent < request.len() {
            match poll_fn(|cx| self.poll_write(cx, &request[sent..])).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => sent += count,
            }
        }
        Ok(())
    }

    pub(super) async fn read(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let held = bytes.len();
        bytes.resize(held + READ_BYTES, 0);
        let read = poll_fn(|cx| self.poll_read(cx, &mut bytes[held..])).await;
        bytes.truncate(held + read.as_ref().map_or(0, |count| *count));
        read
    }

    /// Closes with a reset, so that no check leaves a connection in TIME_WAIT behind.
    fn close(self) {
        match self {
            Connection::Clear(stream) => crate::io::reset(&stream),
            Connection::Secured(stream) => {
                stream.silence();
                crate::io::reset(stream.tcp());
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Connection::Clear(stream) => Pin::new(stream).poll_write(cx, bytes),
            Connection::Secured(stream) => stream.poll_write(cx, bytes, &[], false),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Connection::Clear(stream) => {
                let mut into = ReadBuf::new(into);
                ready!(Pin::new(stream).poll_read(cx, &mut into))?;
                Poll::Ready(Ok(into.filled().len()))
            }
            Connection::Secured(stream) => stream.poll_read(cx, into),
        }
    }
}

/// The request, without a body. Configured headers take the place of ours.
fn request(method: &str, path: &str, host: &str, headers: &[(String, String)]) -> Vec<u8> {
    let mut request = format!("{method} {path} HTTP/1.1\r\n");
    let mut field = |name: &str, value: &str| {
        for part in [name, ": ", value, "\r\n"] {
            request.push_str(part);
        }
    };
    let ours = [("Host", host), ("User-Agent", "evenkeel-health"), ("Connection", "close")];
    for (name, value) in ours {
        if !headers.iter().any(|(configured, _)| configured.eq_ignore_ascii_case(name)) {
            field(name, value);
        }
    }
    // RFC 9110 section 8.6: where the method anticipates content, its absence is to be said.
    if matches!(method, "POST" | "PUT" | "PATCH") {
        field("Content-Length", "0");
    }
    for (name, value) in headers {
        field(name, value);
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// What came from the endpoint so far.
#[derive(Default)]
struct Answer {
    bytes: Vec<u8>,
    head: ResponseHead,
}

/// Sends the request and reads the head of the answer.
async fn ask(
    answer: &mut Answer,
    mut stream: Connection,
    request: &[u8],
    kind: RequestKind,
    expect: &StatusSet,
) -> Result<Connection, CheckError> {
    // An endpoint may answer and close before it has read all: the answer decides.
    let sent = stream.send(request).await;
    let mut interim = 0;
    loop {
        match answer.head.parse(&answer.bytes, &HEAD_LIMITS, kind) {
            Err(e) => return Err(CheckError::NotHttp(e.reason())),
            Ok(Progress::Complete) if answer.head.is_informational() => {
                interim += 1;
                if interim > INTERIM_MAX {
                    return Err(CheckError::NotHttp("too many interim answers"));
                }
                answer.bytes.drain(..answer.head.len);
                continue;
            }
            Ok(Progress::Complete) => break,
            Ok(Progress::Partial) => {}
        }
        match stream.read(&mut answer.bytes).await {
            Ok(0) if answer.bytes.is_empty() => return Err(CheckError::Ended),
            Ok(0) => return Err(CheckError::NotHttp("it ends within the head")),
            Ok(_) => {}
            Err(e) => return Err(CheckError::Io(sent.err().unwrap_or(e))),
        }
    }
    judge(answer.head.status, expect).map(|()| stream)
}

fn judge(status: u16, expect: &StatusSet) -> Result<(), CheckError> {
    match expect.contains(status) {
        true => Ok(()),
        false => Err(CheckError::Status { status, expected: ranges(expect) }),
    }
}

/// Reads the rest of a good answer, within bounds, and closes.
async fn drain(mut answer: Answer, mut stream: Connection) {
    let mut body = Rest::new(answer.head.framing);
    answer.bytes.drain(..answer.head.len);
    let to_the_end = async {
        let mut total = 0;
        while !body.is_done(&mut answer.bytes) && total < DRAIN_BYTES_MAX {
            match stream.read(&mut answer.bytes).await {
                Ok(0) | Err(_) => break,
                Ok(count) => total += count,
            }
        }
    };
    // Whether it came to its end does not matter any more.
    let _ = timeout(DRAIN_TIME_MAX, to_the_end).await;
    stream.close();
}

/// What is still to come of an answer.
pub(super) enum Rest {
    Length(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
}

impl Rest {
    pub(super) fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Rest::Length(0),
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => {
                let limits = TrailerLimits { bytes: READ_BYTES, count: 100 };
                Rest::Chunked(ChunkedDecoder::new(limits))
            }
            Framing::UntilClose => Rest::UntilClose,
        }
    }

    /// Forgets what came. Malformed bytes are taken for the end.
    pub(super) fn is_done(&mut self, bytes: &mut Vec<u8>) -> bool {
        match self {
            Rest::Length(left) => {
                *left = left.saturating_sub(bytes.len() as u64);
                bytes.clear();
                *left == 0
            }
            Rest::Chunked(decoder) => loop {
                match decoder.step(bytes) {
                    Ok(ChunkStep::Frame(count) | ChunkStep::Data(count)) => {
                        bytes.drain(..count);
                    }
                    Ok(ChunkStep::NeedMore) => return false,
                    Ok(ChunkStep::End) | Err(_) => return true,
                }
            },
            Rest::UntilClose => {
                bytes.clear();
                false
            }
        }
    }
}

/// `200-399, 404`
fn ranges(set: &StatusSet) -> String {
    let range = |(low, high): &(u16, u16)| {
        if low == high { low.to_string() } else { format!("{low}-{high}") }
    };
    set.0.iter().map(range).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
