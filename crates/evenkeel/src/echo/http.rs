//! What the paths do:
//!
//! | path | answer |
//! |---|---|
//! | `/healthz` | 200 |
//! | `/bytes/N` | N bytes: byte i is i modulo 251 |
//! | `/chunked/N` | the same without a Content-Length |
//! | `/delay/MS` | waits so many milliseconds first |
//! | `/status/CODE` | that status, 200 to 599 |
//! | `/load` | how busy the replica is, at once: `X-Keel-In-Flight`, `X-Keel-Latency-Ms` |
//! | `/headers` | the request's headers as a JSON object, repeated ones joined |
//! | any other | POST, PUT, PATCH: the request's body and trailers; else `NAME METHOD PATH` |
//!
//! Every answer names the replica in `x-replica`. `Upgrade: websocket` echoes messages,
//! `Upgrade: echo` bytes.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, TRAILER,
    UPGRADE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::sleep;

use super::detect::Begun;
use super::{Replica, Task, stopped, websocket};

/// Prime and below 256, so that a byte that is lost or moved is seen wherever blocks begin.
const PATTERN_PERIOD: usize = 251;
/// Whole periods; near 64 KiB.
const PATTERN_LEN: usize = PATTERN_PERIOD * 256;
static PATTERN: [u8; PATTERN_LEN] = {
    let mut pattern = [0; PATTERN_LEN];
    let mut i = 0;
    while i < PATTERN_LEN {
        pattern[i] = (i % PATTERN_PERIOD) as u8;
        i += 1;
    }
    pattern
};
/// The longest `/delay/MS`.
const DELAY_MS_MAX: u64 = 600_000;

pub(super) async fn serve(stream: Begun, mut task: Task) {
    let stop = task.stop.clone();
    let answered = task.clone();
    let service = service_fn(move |request| answer(request, answered.clone()));
    // Clients may close their side once they have asked; they still get the answer.
    let connection = http1::Builder::new()
        .half_close(true)
        .pipeline_flush(true)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stopped(&mut task.stop) => connection.as_mut().graceful_shutdown(),
    }
    drop(stop);
    let _ = connection.await;
}

async fn answer(mut request: Request<Incoming>, task: Task) -> Result<Response<Reply>, Infallible> {
    let replica = &*task.replica;
    if request.uri().path() == "/load" {
        let mut response = text("ok\n".to_owned());
        replica.busy.tell(response.headers_mut());
        return Ok(named(response, replica));
    }
    let _counted = replica.busy.begin();
    if !replica.delay.is_zero() {
        sleep(replica.delay).await;
    }
    let response = match upgrade(&mut request, &task) {
        Some(response) => response,
        None => respond(request, replica).await,
    };
    Ok(named(response, replica))
}

fn named(mut response: Response<Reply>, replica: &Replica) -> Response<Reply> {
    response.headers_mut().insert("x-replica", replica.header.clone());
    response
}

async fn respond(request: Request<Incoming>, replica: &Replica) -> Response<Reply> {
    let path = request.uri().path();
    if path == "/healthz" {
        return text("ok\n".to_owned());
    }
    if path == "/headers" {
        return headers(&request);
    }
    let mut segments = path.split('/').skip(1);
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u64>().ok());
    match (segments.next(), number(segments.next())) {
        (Some("bytes"), Some(left)) => return pattern(Reply::Pattern { left, sized: true }),
        (Some("chunked"), Some(left)) => return pattern(Reply::Pattern { left, sized: false }),
        (Some("delay"), Some(ms)) => sleep(Duration::from_millis(ms.min(DELAY_MS_MAX))).await,
        (Some("status"), Some(code @ 200..=599)) => {
            let mut response = text(format!("{} {code}\n", replica.name));
            *response.status_mut() = StatusCode::from_u16(code as u16).unwrap_or_default();
            return response;
        }
        _ => {}
    }
    if matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH) {
        return echo(request);
    }
    let path = request.uri().path_and_query().map_or("*", |path| path.as_str());
    text(format!("{} {} {path}\n", replica.name, request.method()))
}

fn text(text: String) -> Response<Reply> {
    let mut response = Response::new(Reply::Text(Some(text.into())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn pattern(pattern: Reply) -> Response<Reply> {
    let mut response = Response::new(pattern);
    let bytes = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(CONTENT_TYPE, bytes);
    response
}

fn headers(request: &Request<Incoming>) -> Response<Reply> {
    let mut object = serde_json::Map::new();
    for name in request.headers().keys() {
        let values: Vec<_> = request.headers().get_all(name).iter().collect();
        let values: Vec<_> = values.iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
        object.insert(name.as_str().to_owned(), values.join(", ").into());
    }
    let mut response = text(format!("{}\n", serde_json::Value::from(object)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn echo(request: Request<Incoming>) -> Response<Reply> {
    let (mut head, body) = request.into_parts();
    let mut response = Response::new(Reply::Echo(body));
    // Trailers are sent only if they are announced.
    for name in [CONTENT_TYPE, TRAILER] {
        if let Some(value) = head.headers.remove(&name) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Agrees to a protocol that we speak, and speaks it.
fn upgrade(request: &mut Request<Incoming>, task: &Task) -> Option<Response<Reply>> {
    let wanted = request.headers().get(UPGRADE)?.clone();
    let mut response = Response::new(Reply::Text(None));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    if wanted.as_bytes().eq_ignore_ascii_case(b"websocket") {
        let key = request.headers().get(SEC_WEBSOCKET_KEY)?;
        let accept = HeaderValue::try_from(websocket::accept_key(key.as_bytes())).ok()?;
        response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
        tokio::spawn(speak_websocket(hyper::upgrade::on(request), task.clone()));
    } else if wanted.as_bytes().eq_ignore_ascii_case(b"echo") {
        tokio::spawn(speak_bytes(hyper::upgrade::on(request), task.clone()));
    } else {
        return None;
    }
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, wanted);
    Some(response)
}

async fn speak_websocket(upgraded: OnUpgrade, task: Task) {
    if let Ok(stream) = upgraded.await {
        let _ = websocket::echo(TokioIo::new(stream), task.stop.clone()).await;
    }
}

async fn speak_bytes(upgraded: OnUpgrade, mut task: Task) {
    let Ok(stream) = upgraded.await else { return };
    let (mut reader, mut writer) = tokio::io::split(TokioIo::new(stream));
    tokio::select! {
        _ = async {
            tokio::io::copy(&mut reader, &mut writer).await?;
            tokio::io::AsyncWriteExt::shutdown(&mut writer).await
        } => {}
        () = stopped(&mut task.stop) => {}
    }
}

/// The body of an answer.
enum Reply {
    Text(Option<Bytes>),
    Echo(Incoming),
    Pattern { left: u64, sized: bool },
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Reply::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Reply::Echo(body) => Poll::Ready(ready!(Pin::new(body).poll_frame(context))),
            Reply::Pattern { left: 0, .. } => Poll::Ready(None),
            Reply::Pattern { left, .. } => {
                let len = PATTERN_LEN.min(usize::try_from(*left).unwrap_or(PATTERN_LEN));
                *left -= len as u64;
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PATTERN[..len])))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Text(text) => text.is_none(),
            Reply::Echo(body) => body.is_end_stream(),
            Reply::Pattern { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Reply::Echo(body) => body.size_hint(),
            Reply::Pattern { left, sized: true } => SizeHint::with_exact(*left),
            Reply::Pattern { sized: false, .. } => SizeHint::default(),
        }
    }
}
