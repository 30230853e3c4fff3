//! A small client of HTTP/1.1 for JSON interfaces: the stores' and our own.
//!
//! It keeps one idle connection, takes answers of a bounded size in a bounded time, and follows
//! nothing: no redirects, no proxies.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use model::spec::ClientTlsSpec;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// Of one answer: 20,000 instances with some metadata have about 8 MiB, and etcd writes them in
/// base64.
const ANSWER_BYTES_MAX: usize = 64 << 20;

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

/// One interface, asked over one connection at a time.
pub struct Client {
    authority: Authority,
    headers: Mutex<HeaderMap>,
    tls: Arc<ClientTlsSpec>,
    idle: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl fmt::Debug for Client {
    // Without the headers: they may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.authority)
    }
}

impl Client {
    pub fn new(authority: Authority) -> Self {
        Self { authority, headers: Mutex::default(), tls: Arc::default(), idle: Mutex::new(None) }
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

    /// Whether requests say so; and none does any more.
    pub fn take_header(&self, name: &HeaderName) -> bool {
        lock(&self.headers).remove(name).is_some()
    }

    pub fn has_header(&self, name: &HeaderName) -> bool {
        lock(&self.headers).contains_key(name)
    }

    /// How TLS is spoken where the address is one of HTTPS; by default the certificate must lead
    /// to what this system trusts. Files are read for each connection, so that renewed ones are
    /// in use without further ado; that they can be read is found out now.
    pub fn with_tls(self, tls: &Arc<ClientTlsSpec>) -> Result<Self, String> {
        if self.authority.is_secure {
            tls::towards(tls)?;
        }
        Ok(Self { tls: Arc::clone(tls), ..self })
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
            *lock(&self.idle) = Some(sender);
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
        let idle = lock(&self.idle).take();
        if let Some(mut sender) = idle
            && sender.ready().await.is_ok()
        {
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

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let stream = TcpStream::connect(&self.authority.at).await.map_err(|e| model::reason(&e))?;
        let _ = stream.set_nodelay(true);
        if !self.authority.is_secure {
            return speak(stream).await;
        }
        let name = self.tls.server_name.as_deref().unwrap_or(self.authority.host());
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("{name:?} is no name of a server"))?;
        let connector = TlsConnector::from(tls::towards(&self.tls)?);
        let stream = connector.connect(name, stream).await;
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
    use super::*;

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
