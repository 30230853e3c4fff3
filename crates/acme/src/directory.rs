//! Speaks HTTPS to a CA: one connection for each request, of which an order takes about ten.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http_body_util::Limited;
use hyper::body::Bytes;
use hyper::header::{HOST, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// For one request, from the connection to the head of its answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Of an answer; chains come to some 10 KiB.
const BODY_BYTES_MAX: usize = 1 << 20;
/// RFC 8555 section 6.1: a client says what it is.
const US: &str = concat!("evenkeel/", env!("CARGO_PKG_VERSION"));

/// A client of one CA. Clones tell each other what the CA asked for.
#[derive(Clone)]
pub(crate) struct DirectoryClient {
    connector: TlsConnector,
    retry_after: Arc<AtomicU64>,
}

/// The CA did not answer, or not as a CA.
#[derive(Debug)]
pub(crate) struct Unreached(String);

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreached {}

impl DirectoryClient {
    pub(crate) fn new(trusted: Arc<ClientConfig>) -> Self {
        Self { connector: TlsConnector::from(trusted), retry_after: Arc::default() }
    }

    /// For how long the CA asked to be left alone in the last answers, if it did; asked once.
    pub(crate) fn take_retry_after(&self) -> Option<Duration> {
        let seconds = self.retry_after.swap(0, Relaxed);
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    async fn send(
        self,
        mut request: Request<BodyWrapper<Bytes>>,
    ) -> Result<BytesResponse, Unreached> {
        let uri = request.uri().clone();
        let host = uri.host().unwrap_or_default().to_owned();
        let wrong = |what: &dyn fmt::Display| Unreached(format!("{host}: {what}"));
        // RFC 8555 section 6.1; the directory's own URLs are the CA's text.
        if uri.scheme_str() != Some("https") {
            return Err(wrong(&format!("{uri} is not https")));
        }
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(443);
        let tcp = TcpStream::connect((name.as_str(), port)).await.map_err(|e| wrong(&e))?;
        let name = ServerName::try_from(name).map_err(|e| wrong(&e))?;
        let secured = self.connector.connect(name, tcp).await.map_err(|e| wrong(&e))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(secured));
        let (mut sender, connection) = handshake.await.map_err(|e| wrong(&e))?;
        // It ends with the answer.
        tokio::spawn(connection);
        let authority = uri.authority().map(|a| a.as_str()).unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(authority).map_err(|e| wrong(&e))?);
        let library = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
        let agent = library.map_or_else(|| US.to_owned(), |library| format!("{US} {library}"));
        headers.insert(USER_AGENT, HeaderValue::from_str(&agent).map_err(|e| wrong(&e))?);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse::<Uri>().map_err(|e| wrong(&e))?;
        let answer = sender.send_request(request).await.map_err(|e| wrong(&e))?;
        let (parts, body) = answer.into_parts();
        let asked = parts.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        if matches!(parts.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
            && let Some(seconds) = asked.and_then(|text| text.trim().parse().ok())
        {
            self.retry_after.store(seconds, Relaxed);
        }
        let body = Limited::new(body, BODY_BYTES_MAX);
        Ok(BytesResponse::from(Response::from_parts(parts, body)))
    }
}

impl HttpClient for DirectoryClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let sent = timeout(TIMEOUT, self.clone().send(request));
        Box::pin(async move {
            match sent.await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(unreached)) => Err(Error::Other(Box::new(unreached))),
                Err(_) => {
                    let unreached = Unreached(format!("{host}: no answer within {TIMEOUT:?}"));
                    Err(Error::Other(Box::new(unreached)))
                }
            }
        })
    }
}
