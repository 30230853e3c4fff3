//! Every path over a real socket, against a fake control.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::fake::FakeControl;

struct Server {
    address: SocketAddr,
    control: Arc<FakeControl>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(token: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let control = Arc::new(FakeControl::new());
        let task =
            tokio::spawn(serve(listener, token.map(str::to_owned), Arc::clone(&control) as _));
        Self { address, control, task }
    }

    /// Sends these bytes, and reads until the server closes.
    async fn raw(&self, request: impl AsRef<[u8]>) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may answer and close before it has read all.
        let _ = stream.write_all(request.as_ref()).await;
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        Reply::parse(&bytes)
    }

    async fn ask(&self, line: &str, headers: &str, body: &str) -> Reply {
        let host = if headers.to_ascii_lowercase().contains("host:") {
            String::new()
        } else {
            format!("Host: {}\r\n", self.address)
        };
        let length = body.len();
        self.raw(format!(
            "{line} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: {length}\r\n\
             {headers}\r\n{body}"
        ))
        .await
    }
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }
}

#[tokio::test]
async fn every_path_answers() {
    let server = Server::start(None).await;
    let check = async |line: &str, body: &str, status: u16, pointer: &str, expected: Value| {
        let reply = server.ask(line, "", body).await;
        assert_eq!(reply.status, status, "{line} {body}: {reply:?}");
        assert_eq!(reply.json().pointer(pointer), Some(&expected), "{line} {body}: {reply:?}");
    };
    check("GET /v1/services", "", 200, "/services/0/name", json!("web")).await;
    check("GET /v1/services/web", "", 200, "/endpoints/0/state", json!("healthy")).await;
    check("GET /v1/services/nope", "", 404, "/error", json!("there is no service \"nope\"")).await;
    check("GET /v1/services/web/endpoints", "", 200, "/endpoints/1/id", json!("[::1]:80")).await;
    check("GET /v1/services/web/endpoints/web-1", "", 200, "/in_flight", json!(4)).await;
    check(
        "GET /v1/services/web/endpoints/x",
        "",
        404,
        "/error",
        json!("service \"web\" has no endpoint \"x\""),
    )
    .await;
    check("GET /v1/discovery", "", 200, "/discovery/0/containers", json!(3)).await;
    check("GET /v1/agent", "", 200, "/agent/counts/0/picks", json!(10)).await;
    check("GET /v1/registry", "", 200, "/registry/preserving_ms", json!(7)).await;
    check("GET /v1/autoscale", "", 200, "/autoscale", json!([])).await;
    let scaling = json!({ "service": "web", "from": 1, "to": 3, "reason": "9.0 in flight each" });
    check("POST /v1/autoscale", &scaling.to_string(), 200, "/unix_ms", json!(7)).await;
    check("GET /v1/autoscale", "", 200, "/autoscale/0/reason", scaling["reason"].clone()).await;
    check("GET /v1/demand", "", 200, "/seq", json!(1)).await;
    check("GET /v1/demand?after=6", "", 200, "/seq", json!(7)).await;
    check("GET /v1/demand?after=6", "", 200, "/demand/0/held", json!(3)).await;
    let message = "write `/v1/demand`, or `/v1/demand?after=` and a number";
    for wrong in ["after=", "after=-1", "since=1", ""] {
        check(&format!("GET /v1/demand?{wrong}"), "", 400, "/error", json!(message)).await;
    }
    for (key, value, message) in [
        ("reason", "x".repeat(1025), "`reason` must have 1 to 1024 bytes, not 1025"),
        ("service", String::new(), "`service` must have 1 to 256 bytes, not 0"),
    ] {
        let mut scaling = scaling.clone();
        scaling[key] = value.into();
        check("POST /v1/autoscale", &scaling.to_string(), 400, "/error", json!(message)).await;
    }
    check("GET /v1/listeners", "", 200, "/listeners/0/bind", json!("127.0.0.1:8080")).await;

    check("POST /v1/services/web/scale", r#"{"replicas":6}"#, 200, "/replicas", json!(6)).await;
    check("GET /v1/services/web", "", 200, "/replicas", json!(6)).await;
    check("POST /v1/services/nope/scale", r#"{"replicas":6}"#, 404, "/error", json!("no nope"))
        .await;
    check(
        "POST /v1/services/images/scale",
        r#"{"replicas":6}"#,
        409,
        "/error",
        json!("it has no replicas of ours"),
    )
    .await;

    let endpoint = "/v1/services/web/endpoints/%5B::1%5D:80";
    check(&format!("POST {endpoint}/drain"), "", 200, "/state", json!("draining")).await;
    check(&format!("POST {endpoint}/undrain"), "", 200, "/state", json!("healthy")).await;
    check(&format!("PATCH {endpoint}"), r#"{"weight":9}"#, 200, "/weight", json!(9)).await;
    check(&format!("PATCH {endpoint}"), r#"{"weight":null}"#, 200, "/weight", json!(1)).await;
    check("POST /v1/services/web/endpoints/x/drain", "", 404, "/error", json!("no web/x")).await;

    check("POST /v1/config", "listeners: {}", 200, "/summary", json!("changed: everything")).await;
    assert_eq!(server.ask("GET /v1/config", "", "").await.body, "listeners: {}");
    let message = json!("posted:1:1: unknown key \"bad\"");
    check("POST /v1/config", "bad: 1", 400, "/error", message).await;
    assert_eq!(server.ask("GET /v1/config", "", "").await.body, "listeners: {}");

    assert_eq!(server.ask("GET /healthz", "", "").await.body, "ok\n");
    assert_eq!(server.ask("GET /readyz", "", "").await.body, "ready\n");
    *server.control.unready.lock().unwrap() = Some("service web has no healthy endpoint".into());
    let reply = server.ask("GET /readyz", "", "").await;
    assert_eq!(
        (reply.status, &*reply.body),
        (503, "not ready: service web has no healthy endpoint\n")
    );
    let reply = server.ask("GET /metrics", "", "").await;
    assert!(reply.head.contains("content-type: text/plain; version=0.0.4"), "{reply:?}");
    assert!(reply.body.contains("evenkeel_ready 0\n"), "{reply:?}");
    let head = server.ask("HEAD /v1/services", "", "").await;
    assert_eq!((head.status, &*head.body), (200, ""));
}

#[tokio::test]
async fn bad_bodies_are_explained() {
    let server = Server::start(None).await;
    for (line, body) in [
        ("POST /v1/services/web/scale", ""),
        ("POST /v1/services/web/scale", "{"),
        ("POST /v1/services/web/scale", "[]"),
        ("POST /v1/services/web/scale", "{}"),
        ("POST /v1/services/web/scale", r#"{"replicas":-1}"#),
        ("POST /v1/services/web/scale", r#"{"replicas":"3"}"#),
        ("POST /v1/services/web/scale", r#"{"replicas":3,"x":1}"#),
        ("PATCH /v1/services/web/endpoints/web-1", "{}"),
        ("PATCH /v1/services/web/endpoints/web-1", r#"{"weight":65536}"#),
        ("PATCH /v1/services/web/endpoints/web-1", r#"{"weight":1,"drain":true}"#),
        ("POST /v1/config", ""),
    ] {
        let reply = server.ask(line, "", body).await;
        assert_eq!(reply.status, 400, "{line} {body}: {reply:?}");
        assert!(reply.json()["error"].is_string(), "{line} {body}: {reply:?}");
    }
    assert_eq!(server.control.services()[0].replicas, Some(2));
}

#[tokio::test]
async fn unknown_paths_and_methods() {
    let server = Server::start(None).await;
    for (line, status, allow) in [
        ("GET /", 404, ""),
        ("GET /v1", 404, ""),
        ("GET /v1/services/", 404, ""),
        ("GET /v1/services/%ff", 404, ""),
        ("POST /v1/services", 405, "allow: get, head"),
        ("DELETE /v1/config", 405, "allow: get, head, post"),
        ("GET /v1/services/web/scale", 405, "allow: post"),
        ("POST /v1/services/web/endpoints/web-1", 405, "allow: get, head, patch"),
        ("POST /healthz", 405, "allow: get, head"),
        ("OPTIONS /v1/config", 405, "allow: get, head, post"),
    ] {
        let reply = server.ask(line, "", "").await;
        assert_eq!(reply.status, status, "{line}: {reply:?}");
        assert!(reply.head.contains(allow), "{line}: {reply:?}");
        assert!(reply.json()["error"].is_string(), "{line}: {reply:?}");
    }
}

#[tokio::test]
async fn a_token_is_demanded_everywhere_but_at_the_probes() {
    let server = Server::start(Some("s3cret")).await;
    for (line, authorization, status) in [
        ("GET /v1/services", "", 401),
        ("GET /v1/services", "Authorization: Bearer wrong!\r\n", 401),
        ("GET /v1/services", "Authorization: Bearer s3cre\r\n", 401),
        ("GET /v1/services", "Authorization: Bearer \r\n", 401),
        ("GET /v1/services", "Authorization: Basic s3cret\r\n", 401),
        ("GET /v1/services", "Authorization: Bearer s3cret\r\n", 200),
        ("GET /v1/services", "authorization: bearer  s3cret\r\n", 200),
        ("GET /v1/services", "Host: keel.internal\r\nAuthorization: Bearer s3cret\r\n", 200),
        ("GET /metrics", "", 401),
        ("GET /nope", "", 401),
        ("POST /v1/services/web/scale", "", 401),
        ("POST /v1/config", "", 401),
        ("GET /healthz", "", 200),
        ("GET /readyz", "Host: keel.internal\r\n", 200),
    ] {
        let reply = server.ask(line, authorization, "").await;
        assert_eq!(reply.status, status, "{line} {authorization}: {reply:?}");
        if status == 401 {
            assert!(reply.head.contains("www-authenticate: bearer"), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn web_pages_are_refused() {
    let server = Server::start(None).await;
    let same = format!("Origin: http://{}\r\n", server.address);
    for (line, headers, status) in [
        ("GET /v1/services", "Origin: http://evil.example\r\n", 403),
        ("GET /v1/services", "Origin: null\r\n", 403),
        ("GET /v1/services", &same, 200),
        ("GET /v1/services", "Host: evil.example\r\n", 403),
        ("GET /v1/services", "Host: evil.example\r\nOrigin: http://evil.example\r\n", 403),
        ("GET /v1/services", "Host: localhost:9900\r\n", 200),
        ("POST /v1/config", "Content-Type: text/plain\r\n", 415),
        ("POST /v1/config", "Content-Type: application/x-www-form-urlencoded\r\n", 415),
        ("POST /v1/config", "Content-Type: multipart/form-data; boundary=x\r\n", 415),
        ("POST /v1/config", "Content-Type: application/yaml; charset=utf-8\r\n", 200),
        ("POST /v1/config", "Content-Type: application/JSON\r\n", 200),
        ("POST /v1/config", "Origin: http://evil.example\r\n", 403),
        ("GET /healthz", "Host: anything\r\n", 200),
    ] {
        let reply = server.ask(line, headers, "a: 1").await;
        assert_eq!(reply.status, status, "{line} {headers}: {reply:?}");
    }
}

#[tokio::test]
async fn malformed_requests_and_limits() {
    let server = Server::start(None).await;
    let long = "a".repeat(HEADER_BYTES_MAX);
    let headers: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    for (request, statuses) in [
        ("\x16\x03\x01\x02\r\n\r\n".to_owned(), &[400][..]),
        ("GET\r\n\r\n".into(), &[400]),
        ("GET / HTTP/9.9\r\nHost: x\r\n\r\n".into(), &[400, 505]),
        (format!("GET /{long} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), &[414, 431]),
        (format!("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {long}\r\n\r\n"), &[431]),
        (format!("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n"), &[431]),
        ("GET /v1/services HTTP/1.1\r\nConnection: close\r\n\r\n".into(), &[400]),
        ("GET /v1/services HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n".into(), &[400]),
        ("POST /v1/config HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc".into(), &[400]),
        ("POST /v1/config HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 1\r\n\r\n\u{ff}".into(), &[400]),
        ("POST /v1/config HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n".into(), &[400]),
    ] {
        let reply = server.raw(&request).await;
        assert!(statuses.contains(&reply.status), "{request:.60}: {reply:?}");
    }
    let body = vec![b'a'; (8 << 20) + 1];
    let mut request =
        format!("POST /v1/config HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len())
            .into_bytes();
    request.extend(body);
    assert_eq!(server.raw(request).await.status, 413);
    assert_eq!(server.ask("GET /healthz", "", "").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_cut_off() {
    let server = Server::start(None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: ").await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    assert!(bytes.is_empty() || Reply::parse(&bytes).status == 408, "{bytes:?}");
}

#[tokio::test]
async fn connections_close_when_serving_ends() {
    let server = Server::start(None).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    server.task.abort();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let server = Server::start(None).await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        held.push(stream);
    }
    let waiting = server.ask("GET /healthz", "", "");
    let mut waiting = pin!(waiting);
    let early = timeout(Duration::from_millis(50), waiting.as_mut()).await;
    assert!(early.is_err(), "{early:?}");
    held.pop();
    assert_eq!(waiting.await.status, 200);
}
