//! Every path over a real socket.

use std::net::SocketAddr;
use std::path::Path;

use model::spec::{EmbeddedRegistrySpec, RegistryDataSpec, SecretSpec};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Registrar;

struct Server {
    address: SocketAddr,
    _registrar: Registrar,
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

fn spec() -> EmbeddedRegistrySpec {
    EmbeddedRegistrySpec { data: RegistryDataSpec::Off, ..EmbeddedRegistrySpec::default() }
}

impl Server {
    async fn start(spec: EmbeddedRegistrySpec) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let registrar = Registrar::start(&spec, Path::new("."), listener).unwrap();
        Self { address, _registrar: registrar }
    }

    async fn raw(&self, request: impl AsRef<[u8]>) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may answer and close before it has read all.
        let _ = stream.write_all(request.as_ref()).await;
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Reply { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    async fn ask(&self, line: &str, headers: &str, body: &str) -> Reply {
        let (host, length) = (self.address, body.len());
        self.raw(format!(
            "{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\
             {headers}\r\n{body}"
        ))
        .await
    }

    async fn register(&self, id: &str, port: u16) -> Value {
        let path = format!("PUT /v1/services/web/instances/{id}");
        let reply = self.ask(&path, "", &json!({ "port": port }).to_string()).await;
        assert!(matches!(reply.status, 200 | 201), "{reply:?}");
        reply.json()
    }
}

const WEB: &str = "/v1/services/web/instances";

#[tokio::test]
async fn an_instance_comes_lives_and_goes() {
    let server = Server::start(spec()).await;
    let body = r#"{"port": 5000, "weight": 3, "zone": "a", "metadata": {"version": "7"}}"#;
    let made = server.ask(&format!("POST {WEB}"), "", body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let id = made["instance"]["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("web-"), "{id}");
    assert_eq!(made["instance"]["address"], "127.0.0.1", "where it came from");
    assert_eq!(made["heartbeat_ms"], 5000);

    let listed = server.ask(&format!("GET {WEB}"), "", "").await.json();
    assert_eq!(listed["version"], made["version"]);
    assert_eq!(listed["instances"][0]["metadata"]["version"], "7");
    assert_eq!(listed["instances"][0]["state"], "up");
    assert_eq!(listed["preserving"], false);
    let one = server.ask(&format!("GET {WEB}/{id}"), "", "").await.json();
    assert_eq!(one, listed["instances"][0]);
    let beat = server.ask(&format!("POST {WEB}/{id}/heartbeat"), "", "").await;
    assert_eq!((beat.status, beat.json()), (200, json!({ "ttl_ms": 15000, "heartbeat_ms": 5000 })));
    let services = server.ask("GET /v1/services", "", "").await.json();
    assert_eq!(services["services"][0]["instances"], 1);

    let gone = server.ask(&format!("DELETE {WEB}/{id}"), "", "").await;
    assert_eq!(gone.status, 200);
    for line in ["DELETE", "GET"] {
        assert_eq!(server.ask(&format!("{line} {WEB}/{id}"), "", "").await.status, 404);
    }
    let beat = server.ask(&format!("POST {WEB}/{id}/heartbeat"), "", "").await;
    assert_eq!(beat.status, 404);
    assert!(beat.json()["error"].as_str().unwrap().contains("register it again"));
    let status = server.ask("GET /v1/status", "", "").await.json();
    assert_eq!(
        [&status["registrations"], &status["heartbeats"], &status["deregistrations"]],
        [1, 1, 1]
    );
}

#[tokio::test]
async fn who_watches_learns_of_the_next_change() {
    let server = Server::start(spec()).await;
    let first = server.register("a", 1).await["version"].as_u64().unwrap();
    let watch = format!("GET {WEB}?since={first}&wait=30s");
    let (changed, ()) = tokio::join!(server.ask(&watch, "", ""), async {
        until(async || status(&server).await["watchers"] == 1).await;
        server.register("b", 2).await;
    });
    let changed = changed.json();
    assert_eq!(changed["instances"].as_array().unwrap().len(), 2);
    assert_ne!(changed["version"], first);
    // A version from before a restart is another one: the answer comes at once.
    let stale = server.ask(&format!("GET {WEB}?since=1&wait=60s"), "", "").await.json();
    assert_eq!(stale["version"], changed["version"]);
    // Nothing changes: the same list after the wait.
    let version = &changed["version"];
    let same = server.ask(&format!("GET {WEB}?since={version}&wait=50ms"), "", "").await.json();
    assert_eq!(same["version"], *version);
    // A service that is not there yet has version 0.
    let (fresh, _) = tokio::join!(
        server.ask("GET /v1/services/new/instances?since=0&wait=30s", "", ""),
        async {
            until(async || status(&server).await["watchers"] == 1).await;
            server.ask("PUT /v1/services/new/instances/x", "", r#"{"port":1}"#).await
        }
    );
    assert_eq!(fresh.json()["instances"][0]["id"], "x");
    for query in ["since=x", "since=-1", "wait=1s", "since=1&wait=1", "since=1&until=2"] {
        let reply = server.ask(&format!("GET {WEB}?{query}"), "", "").await;
        assert_eq!(reply.status, 400, "{query}: {reply:?}");
    }
}

async fn status(server: &Server) -> Value {
    server.ask("GET /v1/status", "", "").await.json()
}

async fn until(condition: impl AsyncFn() -> bool) {
    let met = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), met).await.unwrap();
}

#[tokio::test]
async fn events_have_versions_and_go_on_where_they_ended() {
    let server = Server::start(EmbeddedRegistrySpec { watchers_max: 2, ..spec() }).await;
    let version = server.register("a", 1).await["version"].as_u64().unwrap();
    let open = async |last: Option<u64>| {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let last = last.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let request =
            format!("GET /v1/services/web/events HTTP/1.1\r\nHost: 127.0.0.1\r\n{last}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };
    let read_until = async |stream: &mut TcpStream, wanted: &str| {
        let mut text = String::new();
        while !text.contains(wanted) {
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).await.unwrap();
            assert!(count > 0, "{text}");
            text += &String::from_utf8_lossy(&bytes[..count]);
        }
        text
    };
    let mut first = open(None).await;
    let text = read_until(&mut first, "\"id\":\"a\"").await;
    assert!(text.contains("text/event-stream"), "{text}");
    assert!(text.contains(&format!("id: {version}\nevent: instances\ndata: {{")), "{text}");
    let next = server.register("b", 2).await["version"].as_u64().unwrap();
    read_until(&mut first, &format!("id: {next}\n")).await;
    // Preserving or not is told once; the list itself not again until it changes.
    let mut second = open(Some(next)).await;
    read_until(&mut second, "200 OK").await;
    // Both places are taken.
    let full = server.ask("GET /v1/services/web/events", "", "").await;
    assert_eq!(full.status, 503, "{full:?}");
    assert!(full.head.contains("retry-after: 1") && full.body.contains("watchers_max"), "{full:?}");
    drop((first, second));
    until(async || status(&server).await["watchers"] == 0).await;
    let bad = server.ask("GET /v1/services/web/events", "Last-Event-ID: x\r\n", "").await;
    assert_eq!(bad.status, 400);
}

#[tokio::test]
async fn tokens_open_what_they_are_for() {
    let tokens = [("web".into(), SecretSpec::Text("w3b".into()))].into();
    let token = Some(SecretSpec::Text("root".into()));
    let server = Server::start(EmbeddedRegistrySpec { token, tokens, ..spec() }).await;
    for (line, token, status) in [
        ("GET /v1/services/web/instances", "", 401),
        ("GET /v1/services/web/instances", "w3b", 200),
        ("GET /v1/services/web/instances", "root", 200),
        ("GET /v1/services/api/instances", "w3b", 401),
        ("GET /v1/services/api/instances", "root", 200),
        ("PUT /v1/services/web/instances/a", "w3", 401),
        ("PUT /v1/services/web/instances/a", "w3b", 201),
        ("PUT /v1/services/api/instances/a", "w3b", 401),
        ("POST /v1/services/web/instances/a/heartbeat", "", 401),
        ("DELETE /v1/services/web/instances/a", "", 401),
        ("GET /v1/services/web/events", "", 401),
        ("GET /v1/services", "w3b", 401),
        ("GET /v1/services", "root", 200),
        ("GET /v1/status", "w3b", 401),
        ("GET /nope", "", 401),
        ("GET /openapi.json", "", 200),
        ("GET /healthz", "", 200),
    ] {
        let header = match token {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        };
        let reply = server.ask(line, &header, r#"{"port":1}"#).await;
        assert_eq!(reply.status, status, "{line} {token}: {reply:?}");
        assert_eq!(status == 401, reply.head.contains("www-authenticate: bearer"), "{reply:?}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_told() {
    let server = Server::start(EmbeddedRegistrySpec { instances_max: 1, ..spec() }).await;
    let long = "a".repeat(200);
    for (line, headers, body, status) in [
        (format!("POST {WEB}"), "", "", 400),
        (format!("POST {WEB}"), "", "{", 400),
        (format!("POST {WEB}"), "", "[]", 400),
        (format!("POST {WEB}"), "", "{}", 400),
        (format!("POST {WEB}"), "", r#"{"port":0}"#, 400),
        (format!("POST {WEB}"), "", r#"{"port":65536}"#, 400),
        (format!("POST {WEB}"), "", r#"{"port":1,"wieght":1}"#, 400),
        (format!("POST {WEB}"), "", r#"{"port":1,"address":"0.0.0.0"}"#, 400),
        (format!("POST {WEB}"), "", r#"{"port":1,"address":"web.example"}"#, 400),
        (format!("POST {WEB}"), "", r#"{"port":1,"ttl_ms":1}"#, 400),
        (format!("PUT {WEB}/a"), "", r#"{"port":1,"id":"b"}"#, 400),
        (format!("PUT {WEB}/{long}"), "", r#"{"port":1}"#, 400),
        ("PUT /v1/services/a%2Fb/instances/a".into(), "", r#"{"port":1}"#, 400),
        (format!("PATCH {WEB}/a"), "", r#"{"port":1}"#, 405),
        ("GET /v1".into(), "", "", 404),
        (format!("PUT {WEB}/a"), "Origin: http://evil.example\r\n", r#"{"port":1}"#, 403),
        (format!("PUT {WEB}/a"), "Content-Type: text/plain\r\n", r#"{"port":1}"#, 415),
        (format!("PUT {WEB}/a"), "Content-Type: application/json\r\n", r#"{"port":1}"#, 201),
        (format!("PUT {WEB}/b"), "", r#"{"port":2}"#, 507),
    ] {
        let reply = server.ask(&line, headers, body).await;
        assert_eq!(reply.status, status, "{line} {body}: {reply:?}");
        assert!(status == 201 || reply.json()["error"].is_string(), "{line} {body}: {reply:?}");
    }
    let large = vec![b'a'; super::BODY_BYTES_MAX + 1];
    let mut request = format!(
        "POST {WEB} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        large.len()
    )
    .into_bytes();
    request.extend(large);
    assert_eq!(server.raw(request).await.status, 413);
    assert_eq!(server.raw("nonsense\r\n\r\n").await.status, 400);
    let foreign = "GET /v1/services HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_eq!(server.raw(foreign).await.status, 403);
    assert_eq!(server.ask("GET /healthz", "", "").await.body, "ok\n");
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_is_cut_off() {
    let server = Server::start(spec()).await;
    let begun = format!(
        "POST {WEB} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\nConnection: close\r\n\r\n{{"
    );
    assert_eq!(server.raw(begun).await.status, 408);
}

#[tokio::test]
async fn what_is_registered_survives_a_restart_unproven() {
    let folder = std::env::temp_dir().join(format!("registrar-restart-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let data = RegistryDataSpec::File(folder.join("registry.redb"));
    let spec = EmbeddedRegistrySpec { data, ..spec() };
    let server = Server::start(spec.clone()).await;
    server.register("a", 1).await;
    let version = server.register("b", 2).await["version"].as_u64().unwrap();
    server.ask(&format!("DELETE {WEB}/a"), "", "").await;
    drop(server);
    // Its tasks let go of the file when they have ended.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    drop(listener);
    until(async || crate::journal::Journal::open(&folder.join("registry.redb")).is_ok()).await;
    let server = Server::start(spec).await;
    let list = server.ask(&format!("GET {WEB}"), "", "").await.json();
    assert_eq!(list["instances"].as_array().unwrap().len(), 1);
    assert_eq!(list["instances"][0]["state"], "restored");
    assert!(list["version"].as_u64().unwrap() > version);
    assert_eq!(server.ask(&format!("POST {WEB}/b/heartbeat"), "", "").await.status, 200);
    let list = server.ask(&format!("GET {WEB}"), "", "").await.json();
    assert_eq!(list["instances"][0]["state"], "up");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn the_registry_asks_those_that_registered_with_a_check() {
    let server = Server::start(spec()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let body = json!({ "port": port, "ttl_ms": 600, "check": "tcp" }).to_string();
    server.ask(&format!("PUT {WEB}/checked"), "", &body).await;
    let body = json!({ "port": 1, "ttl_ms": 600, "check": { "http": "/" } }).to_string();
    server.ask(&format!("PUT {WEB}/dead"), "", &body).await;
    let there = async |id: &str| server.ask(&format!("GET {WEB}/{id}"), "", "").await.status == 200;
    until(async || !there("dead").await).await;
    assert!(there("checked").await);
    assert!(status(&server).await["heartbeats"].as_u64().unwrap() > 0);
    drop(listener);
    until(async || !there("checked").await).await;
}
