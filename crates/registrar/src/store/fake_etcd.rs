//! For tests: a member of etcd, as its gateway answers.

use std::convert::Infallible;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::AUTHORIZATION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;

/// What it answers to a path, asked with a token or without one. Answers where it is.
pub(super) async fn serve<F>(
    answer: impl Fn(String, Option<String>) -> F + Clone + Send + 'static,
) -> String
where
    F: Future<Output = (StatusCode, Json)> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let respond = move |request: Request<Incoming>| {
                let token = request.headers().get(AUTHORIZATION);
                let token = token.map(|token| token.to_str().unwrap().to_owned());
                let answered = answer(request.uri().path().to_owned(), token);
                async move {
                    let (status, body) = answered.await;
                    let mut response = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
                    *response.status_mut() = status;
                    Ok::<_, Infallible>(response)
                }
            };
            let connection = http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service_fn(respond)));
        }
    });
    format!("http://{at}")
}

/// Each lease that is asked for exists, and everything is at revision 7.
pub(super) fn plain(path: &str) -> (StatusCode, Json) {
    match path {
        "/v3/lease/grant" => {
            let exists = json!({ "code": 9, "message": "etcdserver: lease already exists" });
            (StatusCode::BAD_REQUEST, exists)
        }
        "/v3/lease/keepalive" => (StatusCode::OK, json!({ "result": { "TTL": "3" } })),
        "/v3/kv/txn" => {
            let written = json!({ "header": { "revision": "7" }, "succeeded": true });
            (StatusCode::OK, written)
        }
        _ => (StatusCode::OK, json!({ "header": { "revision": "7" } })),
    }
}

/// One that answers so.
pub(super) async fn member() -> String {
    serve(|path, _| async move { plain(&path) }).await
}
