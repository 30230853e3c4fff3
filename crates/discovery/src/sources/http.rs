//! Endpoints listed at a URL, which is asked at intervals, or with a question that the server holds
//! until it has something new to say (a long poll).

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ETAG, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use model::spec::{DiscoverSpec, HttpSelector};
use model::{Endpoint, Rng};
use tls::Dialler;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::{BoxFuture, ENDPOINTS_MAX, Provider, Source, Teller, Told, Unheard};
use crate::backoff::Backoff;

/// Bytes of an answer, as many as a file may have.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Bytes of a version that is sent back.
const VERSION_BYTES_MAX: usize = 100;

/// Long polls that are answered at once with nothing new would be a busy loop.
const POLL_PAUSE: Duration = Duration::from_millis(100);

pub const PROVIDER: Provider = Provider {
    name: "http",
    summary: "endpoints listed at a URL, polled or held open",
    open: |spec| match spec {
        DiscoverSpec::Http(http) => Some(Box::new(Http { spec: http.clone() })),
        _ => None,
    },
};

struct Http {
    spec: HttpSelector,
}

impl Source for Http {
    fn place(&self) -> String {
        self.spec.url()
    }

    fn follow(self: Box<Self>, teller: Teller) -> BoxFuture {
        Box::pin(async move {
            let Err(Unheard) = follow(self.spec, teller).await;
        })
    }
}

/// What the last good answer said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Version {
    etag: Option<HeaderValue>,
    /// Of a header `X-...-Index`.
    index: Option<String>,
}

enum Answer {
    Unchanged(HeaderMap),
    List(HeaderMap, Vec<Endpoint>),
}

async fn follow(spec: HttpSelector, teller: Teller) -> Result<Infallible, Unheard> {
    let tls = spec.tls.clone().map(Dialler::new);
    let mut rng = Rng::from_seed(teller.seed);
    let mut backoff = Backoff::new(rng.next_u64());
    let mut version = Version::default();
    let mut known: Option<Vec<Endpoint>> = None;
    let mut wrong: Option<String> = None;
    loop {
        match ask(&spec, tls.as_ref(), &version, &teller).await {
            Ok(answer) => {
                backoff.reset();
                let was_wrong = wrong.take().is_some();
                let (headers, news) = match answer {
                    Answer::Unchanged(headers) => (headers, None),
                    Answer::List(headers, list) => (headers, Some(list)),
                };
                let next = next_version(&version, &headers);
                let former = std::mem::replace(&mut version, next);
                let is_new = news.as_ref().is_some_and(|news| known.as_ref() != Some(news));
                known = news.or(known);
                if is_new || was_wrong {
                    // Only a list is an answer: 304 to a question without a version is none.
                    let told = known.clone().and_then(|known| Told::of(Some(known), None));
                    if let Some(told) = told {
                        teller.tell(told).await?;
                    }
                }
                let held = spec.wait.is_some() && version.index.is_some();
                let pause = if held && former != version {
                    Duration::ZERO
                } else if held {
                    POLL_PAUSE
                } else {
                    spec.interval
                };
                // Never all balancers at once.
                sleep(pause.mul_f64(1.0 + rng.unit() / 10.0)).await;
            }
            Err(reason) => {
                // Who has lost its memory may count versions anew.
                version.index = None;
                if wrong.as_ref() != Some(&reason) {
                    teller.tell(Told::Lost { reason: reason.clone() }).await?;
                    wrong = Some(reason);
                }
                sleep(backoff.wait()).await;
            }
        }
    }
}

/// Of an answer, after one with `former`. A number that goes backwards is forgotten (the server
/// was set back), and asked for anew.
fn next_version(former: &Version, headers: &HeaderMap) -> Version {
    let index = headers.iter().find_map(|(name, value)| {
        let name = name.as_str();
        let is_index = name.starts_with("x-") && name.ends_with("-index");
        let value = value.to_str().ok().filter(|_| is_index)?;
        let fits = !value.is_empty() && value.len() <= VERSION_BYTES_MAX;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        (fits && value.bytes().all(plain)).then(|| value.to_owned())
    });
    let number = |index: &Option<String>| index.as_ref()?.parse::<u64>().ok();
    let backwards = number(&index).zip(number(&former.index)).is_some_and(|(new, old)| new < old);
    // An answer that nothing changed may leave out what it would repeat.
    let etag = headers.get(ETAG).cloned().or_else(|| former.etag.clone());
    Version { etag, index: index.filter(|_| !backwards) }
}

async fn ask(
    spec: &HttpSelector,
    tls: Option<&Dialler>,
    version: &Version,
    teller: &Teller,
) -> Result<Answer, String> {
    let wait = spec.wait.filter(|_| version.index.is_some());
    // Servers add something by chance to how long they hold a question.
    let limit = spec.timeout + wait.map_or(Duration::ZERO, |wait| wait + wait / 8);
    let asked = timeout(limit, send(spec, tls, version, wait)).await;
    let (status, headers, body) = match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no answer within {limit:?}")),
    };
    match status {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED if version.etag.is_some() => {
            return Ok(Answer::Unchanged(headers));
        }
        status => return Err(format!("it answers {status}")),
    }
    let text = std::str::from_utf8(&body).map_err(|_| "its answer is no text".to_owned())?;
    let list = (teller.read_list)("the answer", text, teller.service.as_str())?;
    if list.len() > ENDPOINTS_MAX {
        return Err(format!("there are more than {ENDPOINTS_MAX} endpoints"));
    }
    Ok(Answer::List(headers, list))
}

async fn send(
    spec: &HttpSelector,
    tls: Option<&Dialler>,
    version: &Version,
    wait: Option<Duration>,
) -> io::Result<(StatusCode, HeaderMap, Bytes)> {
    let stream = TcpStream::connect((&*spec.host, spec.port)).await?;
    let Some(tls) = tls else { return exchange(stream, spec, version, wait).await };
    let (config, name) = tls.dial(&spec.host).map_err(io::Error::other)?;
    let stream = TlsConnector::from(config).connect(name, stream).await;
    let stream = stream.map_err(|error| io::Error::other(format!("TLS: {error}")))?;
    exchange(stream, spec, version, wait).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    spec: &HttpSelector,
    version: &Version,
    wait: Option<Duration>,
) -> io::Result<(StatusCode, HeaderMap, Bytes)> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let mut path = spec.path.clone();
    if let Some((index, wait)) = version.index.as_ref().zip(wait) {
        let joint = if path.contains('?') { '&' } else { '?' };
        path = format!("{path}{joint}index={index}&wait={}s", wait.as_secs());
    }
    let mut request = Request::builder()
        .method(Method::GET)
        .uri(path)
        .header("Host", spec.authority())
        .header("Accept", "application/json, application/yaml;q=0.9, */*;q=0.1")
        .header("User-Agent", concat!("evenkeel/", env!("CARGO_PKG_VERSION")))
        .header("Connection", "close");
    if let Some(token) = &spec.token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    if let Some(etag) = &version.etag {
        request = request.header("If-None-Match", etag);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| match error.is::<http_body_util::LengthLimitError>() {
            true => io::Error::other(format!("it has more than {} MiB", ANSWER_BYTES_MAX >> 20)),
            false => io::Error::other(error),
        })?;
        Ok((head.status, head.headers, body.to_bytes()))
    };
    // Both in this future, so that nothing is left of it when it is dropped.
    tokio::pin!(answered, connection);
    tokio::select! {
        answer = &mut answered => answer,
        // It ends before the answer's last byte is taken.
        ended = &mut connection => match ended {
            Ok(()) => answered.await,
            Err(error) => Err(io::Error::other(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let version = |etag: Option<&'static str>, index: Option<&str>| Version {
            etag: etag.map(HeaderValue::from_static),
            index: index.map(str::to_owned),
        };
        let check = |former: &Version, headers: &[(&'static str, &'static str)], next: Version| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, HeaderValue::from_static(value));
            }
            assert_eq!(next_version(former, &map), next, "{headers:?}");
        };
        let none = Version::default();
        check(&none, &[], none.clone());
        check(&none, &[("etag", "\"a\"")], version(Some("\"a\""), None));
        check(&version(Some("\"a\""), None), &[], version(Some("\"a\""), None));
        check(&none, &[("x-consul-index", "7")], version(None, Some("7")));
        check(&version(None, Some("7")), &[("x-evenkeel-index", "8")], version(None, Some("8")));
        check(&version(None, Some("10")), &[("x-etcd-index", "9")], none.clone());
        check(&version(None, Some("b")), &[("x-our-index", "a")], version(None, Some("a")));
        check(&none, &[("x-our-index", "a&b=1")], none.clone());
        check(&none, &[("x-index-of", "7"), ("index", "7")], none.clone());
    }
}
