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
    let text = e.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = words.chars();
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
            Connection::Secured(stream) => stream.poll_write(cx, bytes, &[]),
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
mod tests {
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::aws_lc_rs;
    use tokio_rustls::rustls::pki_types::PrivateKeyDer;

    use super::*;

    fn http(method: &str) -> HealthSpec {
        HealthSpec {
            kind: HealthKind::Http {
                path: "/healthz".into(),
                method: method.into(),
                host: Some("app.example".into()),
                headers: vec![("X-Check".into(), "1".into())],
                expect: StatusSet(vec![(200, 299), (418, 418)]),
                tls: false,
            },
            timeout: Duration::from_secs(20),
            ..HealthSpec::default()
        }
    }

    /// A server with a certificate of its own making.
    fn acceptor(name: &str) -> TlsAcceptor {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    fn on_runtime<T>(run: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run)
    }

    /// Checks an endpoint that says `answer` to the whole request and closes. Gives the request
    /// that it got.
    fn check(spec: &HealthSpec, answer: &[u8]) -> (Verdict, String) {
        on_runtime(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let endpoint = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
                }
                stream.write_all(answer).await.unwrap();
                String::from_utf8(request).unwrap()
            };
            tokio::join!(run(spec, address, &Secure::Plain, EndpointProtocol::Http1), endpoint)
        })
    }

    #[test]
    fn answers() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ""),
            ("HTTP/1.0 204 No Content\r\n\r\n", ""),
            (
                "HTTP/1.1 418 I am a teapot\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                "",
            ),
            ("HTTP/1.1 200\r\n\r\nuntil the end", ""),
            ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", "status 503, expected 200-299, 418"),
            ("", "connection closed before an answer"),
            ("HTTP/1.1 200 OK\r\n", "not an HTTP answer: it ends within the head"),
            ("SSH-2.0-OpenSSH_9.6\r\n", "not an HTTP answer: invalid protocol version"),
        ] {
            let (verdict, request) = check(&http("GET"), answer.as_bytes());
            match verdict {
                Verdict::Passed => assert_eq!("", expected, "{answer:?}"),
                Verdict::Failed(reason) => assert_eq!(reason, expected, "{answer:?}"),
                Verdict::NotRun(e) => panic!("{e}"),
            }
            let lines = "GET /healthz HTTP/1.1\r\nHost: app.example\r\n\
                User-Agent: evenkeel-health\r\nConnection: close\r\nX-Check: 1\r\n\r\n";
            assert_eq!(request, lines);
        }
    }

    #[test]
    fn an_endless_head_is_bounded() {
        let mut answer = b"HTTP/1.1 200 OK\r\n".to_vec();
        for line in 0..10_000 {
            answer.extend_from_slice(format!("X-{line}: y\r\n").as_bytes());
        }
        on_runtime(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let endpoint = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                // Cut off by the check at some point.
                let _ = stream.write_all(&answer).await;
            };
            let (verdict, ()) = tokio::join!(
                async { run(&http("GET"), address, &Secure::Plain, EndpointProtocol::Http1).await },
                endpoint
            );
            assert!(
                matches!(&verdict, Verdict::Failed(r) if r.starts_with("not an HTTP")),
                "{verdict:?}"
            );
        });
    }

    #[test]
    fn head_requests_and_configured_headers() {
        let mut spec = http("HEAD");
        if let HealthKind::Http { headers, .. } = &mut spec.kind {
            headers.push(("user-agent".into(), "mine".into()));
        }
        let (verdict, request) = check(&spec, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
        assert!(matches!(verdict, Verdict::Passed));
        assert!(request.starts_with("HEAD /healthz HTTP/1.1\r\n"));
        assert!(request.contains("user-agent: mine\r\n") && !request.contains("evenkeel-health"));
        let text = request_text("POST");
        assert!(text.contains("Content-Length: 0\r\n"));
    }

    fn request_text(method: &str) -> String {
        String::from_utf8(request(method, "/", "a", &[])).unwrap()
    }

    #[test]
    fn https_passes_with_a_certificate_that_nobody_vouches_for() {
        let mut spec = http("GET");
        if let HealthKind::Http { tls, .. } = &mut spec.kind {
            *tls = true;
        }
        on_runtime(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let acceptor = acceptor("somebody.else");
            let endpoint = async {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = acceptor.accept(stream).await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
                stream.flush().await.unwrap();
                String::from_utf8(request).unwrap()
            };
            let (verdict, request) = tokio::join!(
                run(&spec, address, &Secure::Plain, EndpointProtocol::Http1),
                endpoint
            );
            assert!(matches!(verdict, Verdict::Passed), "{verdict:?}");
            assert!(request.starts_with("GET /healthz HTTP/1.1\r\nHost: app.example\r\n"));

            let plain = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
                let _ = stream.read_buf(&mut Vec::new()).await;
            };
            let (verdict, ()) =
                tokio::join!(run(&spec, address, &Secure::Plain, EndpointProtocol::Http1), plain);
            let said = format!("{verdict:?}");
            assert!(said.contains("TLS handshake"), "{said}");
        });
    }

    #[test]
    fn refused_and_silent_endpoints() {
        on_runtime(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let tcp = HealthSpec::default();
            assert!(matches!(
                run(&tcp, address, &Secure::Plain, EndpointProtocol::Http1).await,
                Verdict::Passed
            ));
            // Accepted by the kernel, answered by nobody.
            let silent = HealthSpec { timeout: Duration::from_millis(250), ..http("GET") };
            match run(&silent, address, &Secure::Plain, EndpointProtocol::Http1).await {
                Verdict::Failed(reason) => assert_eq!(reason, "no answer within 250ms"),
                other => panic!("{other:?}"),
            }
            drop(listener);
            for spec in [tcp, http("GET")] {
                match run(&spec, address, &Secure::Plain, EndpointProtocol::Http1).await {
                    Verdict::Failed(reason) => assert_eq!(reason, "connection refused"),
                    other => panic!("{other:?}"),
                }
            }
        });
    }
}
