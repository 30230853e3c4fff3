//! A small client of HTTP/1.1 for JSON interfaces: the stores' and our own.
//!
//! It keeps some idle connections, takes answers of a bounded size in a bounded time, and follows
//! nothing: no redirects, no proxies.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tls::Dialler;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Of one answer: 20,000 instances with some metadata have about 8 MiB, and etcd writes them in
/// base64.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Connections that are kept while nobody asks: as many as a client of ours has questions at once.
pub(crate) const IDLE_MAX: usize = 32;

/// For so long: on the way there may be somebody who forgets connections on which nothing moves, and
/// says nothing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Since when it has been idle.
struct Idle {
    since: Instant,
    sender: SendRequest<Full<Bytes>>,
}

/// Where an interface is: `http://HOST:PORT`, `https://HOST:PORT`, or without the scheme, which is
/// HTTP.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Authority {
    /// With its port.
    at: String,
    is_secure: bool,
}

impl Authority {
    /// `default_port`: where the text has none.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        let help = || format!("{text:?} is no address; write http://HOST:PORT");
        let (is_secure, bare) = match text.split_once("://") {
            None => (false, text),
            Some((scheme @ ("http" | "https"), rest)) => {
                (scheme == "https", rest.strip_suffix('/').unwrap_or(rest))
            }
            Some((scheme, _)) => {
                return Err(format!("only http and https are spoken here, not {scheme}"));
            }
        };
        let (host, port) = match bare.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| help())?),
            _ => (bare, default_port),
        };
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        if !host.bytes().all(valid) || port == 0 {
            return Err(help());
        }
        let at = format!("{}:{port}", if host.is_empty() { "127.0.0.1" } else { host });
        Ok(Self { at, is_secure })
    }

    /// As it is written.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.is_secure { "https" } else { "http" }, self.at)
    }

    /// Without the port and the brackets of an address.
    fn host(&self) -> &str {
        let host = self.at.rsplit_once(':').map_or(&*self.at, |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.at)
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    pub method: Method,
    /// With its query.
    pub path: &'a str,
    /// Empty: none.
    pub body: Vec<u8>,
    /// For the whole answer; of a stream, for its head.
    pub within: Duration,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON; `null` where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What an answer that refuses says, for people.
    pub fn refusal(&self) -> String {
        let json = self.json();
        let said = ["error", "message"].iter().find_map(|name| json[*name].as_str());
        let text = || String::from_utf8_lossy(&self.body).chars().take(200).collect::<String>();
        let said = said.map_or_else(text, str::to_owned);
        format!("{}: {}", self.status, said.trim())
    }
}

/// One interface; each question that is not answered yet has a connection of its own.
pub struct Client {
    authority: Authority,
    headers: Mutex<HeaderMap>,
    tls: Arc<Dialler>,
    /// The one that was used last is the last.
    idle: Mutex<Vec<Idle>>,
}

impl fmt::Debug for Client {
    // Without the headers: they may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.authority)
    }
}

impl Client {
    pub fn new(authority: Authority) -> Self {
        Self { authority, headers: Mutex::default(), tls: Arc::default(), idle: Mutex::default() }
    }

    /// Each request says so.
    pub fn with_header(self, name: HeaderName, value: &str) -> Result<Self, String> {
        self.set_header(name, value)?;
        Ok(self)
    }

    /// From now on each request says so.
    pub fn set_header(&self, name: HeaderName, value: &str) -> Result<(), String> {
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| "a token has only visible ASCII characters".to_owned())?;
        value.set_sensitive(true);
        lock(&self.headers).insert(name, value);
        Ok(())
    }

    /// What requests say from now on.
    pub fn header(&self, name: &HeaderName) -> Option<HeaderValue> {
        lock(&self.headers).get(name).cloned()
    }

    /// How TLS is spoken where the address is one of HTTPS; by default the certificate must lead
    /// to what this system trusts. That files can be read is found out now.
    pub fn with_tls(self, tls: &Arc<Dialler>) -> Result<Self, String> {
        if self.authority.is_secure {
            tls.dial(self.authority.host())?;
        }
        Ok(self.over(tls))
    }

    /// The same, and what is wrong with the files is found out by each question.
    pub fn over(self, tls: &Arc<Dialler>) -> Self {
        Self { tls: Arc::clone(tls), ..self }
    }

    pub fn with_token(self, token: Option<&str>) -> Result<Self, String> {
        match token {
            Some(token) => self.with_header(AUTHORIZATION, &format!("Bearer {token}")),
            None => Ok(self),
        }
    }

    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The whole answer.
    pub async fn ask(&self, ask: &Ask<'_>) -> Result<Reply, String> {
        let whole = async {
            let (response, sender) = self.send(ask).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            let mut idle = self.recent();
            if idle.len() < IDLE_MAX {
                idle.push(Idle { since: Instant::now(), sender });
            }
            drop(idle);
            Ok(Reply { status: head.status, headers: head.headers, body })
        };
        let late = || format!("no answer within {:?}", ask.within);
        timeout(ask.within, whole).await.unwrap_or_else(|_| Err(late()))
    }

    /// An answer whose end is not waited for, on a connection of its own.
    pub async fn stream(&self, ask: &Ask<'_>) -> Result<Response<Incoming>, String> {
        let begun = async {
            let mut sender = self.connect().await?;
            sender.send_request(self.request(ask)?).await.map_err(|error| cause(&error))
        };
        let late = || format!("no answer within {:?}", ask.within);
        timeout(ask.within, begun).await.unwrap_or_else(|_| Err(late()))
    }

    async fn send(
        &self,
        ask: &Ask<'_>,
    ) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), String> {
        if let Some(mut sender) = self.idle().await {
            match sender.try_send_request(self.request(ask)?).await {
                Ok(response) => return Ok((response, sender)),
                Err(mut error) => {
                    // Either the other side closed it before it saw anything of this, or it may be
                    // asked once more, as a look does no harm.
                    let unseen = error.take_message().is_some();
                    if !unseen && ask.method != Method::GET {
                        return Err(cause(&error.into_error()));
                    }
                }
            }
        }
        let mut sender = self.connect().await?;
        let response = sender.send_request(self.request(ask)?).await;
        Ok((response.map_err(|error| cause(&error))?, sender))
    }

    /// One that is still open, as far as can be seen.
    async fn idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        loop {
            let mut sender = self.recent().pop()?.sender;
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    /// Those that are not idle for too long; the others are closed.
    fn recent(&self) -> MutexGuard<'_, Vec<Idle>> {
        let mut idle = lock(&self.idle);
        // The oldest ones are in front.
        let old = idle.partition_point(|one| one.since.elapsed() > IDLE_TIMEOUT);
        idle.drain(..old);
        idle
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let stream = TcpStream::connect(&self.authority.at).await.map_err(|e| model::reason(&e))?;
        let _ = stream.set_nodelay(true);
        if !self.authority.is_secure {
            return speak(stream).await;
        }
        let (config, name) = self.tls.dial(self.authority.host())?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        speak(stream.map_err(|error| format!("TLS: {error}"))?).await
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(ask.path)
            .header(HOST, &self.authority.at)
            .body(Full::new(Bytes::from(ask.body.clone())))
            .map_err(|error| error.to_string())?;
        request.headers_mut().extend(lock(&self.headers).clone());
        if !ask.body.is_empty() {
            request
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(request)
    }
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<SendRequest<Full<Bytes>>, String> {
    let (sender, connection) =
        handshake(TokioIo::new(stream)).await.map_err(|error| cause(&error))?;
    tokio::spawn(connection); // ends with the sender, or with the other side
    Ok(sender)
}

/// Only ever held for a moment, and what it guards is replaced as a whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// With what lies below it: "connection error" alone hides which alert TLS sent.
fn cause(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(below) => format!("{error}: {below}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use hyper::service::service_fn;
    use tokio::sync::Barrier;
    use tokio::task::JoinSet;

    use super::*;

    /// As many as are asked at once, and again: each round is answered once all of it is there.
    #[tokio::test]
    async fn connections_stay_for_those_who_ask_next() {
        const AT_ONCE: usize = 8;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (count, round) = (Arc::clone(&accepted), Arc::new(Barrier::new(AT_ONCE)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let round = Arc::clone(&round);
                let answer = move |_: Request<Incoming>| {
                    let round = Arc::clone(&round);
                    async move {
                        round.wait().await;
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"{}"))))
                    }
                };
                let connection = hyper::server::conn::http1::Builder::new();
                let served = connection.serve_connection(TokioIo::new(stream), service_fn(answer));
                tokio::spawn(served);
            }
        });
        let client = Arc::new(Client::new(Authority::parse(&at, 1).unwrap()));
        for _ in 0..3 {
            let mut asking = JoinSet::new();
            for _ in 0..AT_ONCE {
                let client = Arc::clone(&client);
                asking.spawn(async move {
                    let (method, within) = (Method::GET, Duration::from_secs(60));
                    client.ask(&Ask { method, path: "/", body: Vec::new(), within }).await
                });
            }
            while let Some(reply) = asking.join_next().await {
                assert_eq!(reply.unwrap().unwrap().status, StatusCode::OK);
            }
        }
        assert_eq!(accepted.load(Ordering::Relaxed), AT_ONCE);
    }

    #[test]
    fn addresses_as_people_write_them() {
        for (text, expected) in [
            ("http://10.0.0.7:9910", Some("10.0.0.7:9910")),
            ("http://registry/", Some("registry:9910")),
            (":9911", Some("127.0.0.1:9911")),
            ("[::1]:80", Some("[::1]:80")),
            ("[::1]", Some("[::1]:9910")),
            ("https://registry", Some("registry:9910")),
            ("ftp://registry", None),
            ("registry:x", None),
            ("registry:0", None),
            ("a b", None),
            ("http://a/b:1", None),
        ] {
            let read = Authority::parse(text, 9910).ok().map(|authority| authority.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
        for (text, host) in [("https://[::1]:80", "::1"), ("https://etcd:1", "etcd")] {
            let authority = Authority::parse(text, 1).unwrap();
            assert_eq!((authority.host(), authority.is_secure), (host, true));
        }
    }
}
