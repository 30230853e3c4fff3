//! What is said of requests of HTTP/2, to endpoints, to clients and in the access log.

use serde_json::Value;

use super::client::Client;
use crate::e2e::harness::program::Folder;
use crate::e2e::harness::replica::ok;
use crate::e2e::harness::{Client as Http1, Evenkeel, Replica, Web, free_port, until};

#[test]
fn the_endpoint_is_told_the_version_that_the_client_speaks() {
    let replica = Replica::http(|seen| ok(&seen.head));
    let web = Web::start(&[&replica], "forwarding: { forwarded: true }", "");
    let mut client = Client::connect(web.address);
    let key = client.request("GET", "/", true, &[]);
    let head = String::from_utf8(client.answer(key).body).unwrap();
    for line in
        ["Via: 2 evenkeel", "X-Forwarded-Proto: http", "Forwarded: for=127.0.0.1;proto=http;"]
    {
        assert!(head.contains(line), "{line}: {head}");
    }
    assert!(Http1::get(web.address, "/").text().contains("Via: 1.1 evenkeel\r\n"));
    let old = Http1::exchange(web.address, "GET / HTTP/1.0\r\n\r\n").unwrap().text();
    assert!(old.contains("Via: 1.0 evenkeel\r\n"), "{old}");
}

#[test]
fn what_is_refused_is_answered_and_logged() {
    let replica = Replica::named("a");
    let folder = Folder::new();
    let log = folder.join("access.log");
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let program = Evenkeel::spawn_in(
        folder,
        &format!(
            "workers: 1\naccess_log: {{ file: {} }}\nlisteners:\n  web:\n    bind: {address}\n    \
             service: app\n    limits: {{ header_bytes: 4096, body_bytes: 10 }}\n\
             services: {{ app: {{ endpoints: [ {} ], health: off }} }}\n",
            log.display(),
            replica.address
        ),
    );
    program.wait_ready();
    let mut client = Client::connect(address);
    let large = "x".repeat(5000);
    for (method, body) in [("GET", "431 Request Header Fields Too Large\n"), ("HEAD", "")] {
        let key = client.request(method, "/large", true, &[("x-large", &large)]);
        let answer = client.answer(key);
        assert_eq!((answer.status, answer.reset), (431, None), "{answer:?}");
        assert_eq!(String::from_utf8(answer.body.clone()).unwrap(), body);
        assert!(answer.ended && answer.field("content-type").is_some(), "{answer:?}");
    }
    // Of an upload nothing more is wanted; what was under way of it does no harm.
    let key = client.request("POST", "/upload", false, &[("x-large", &large)]);
    let answer = client.answer(key);
    assert_eq!(answer.status, 431);
    let key = client.request("POST", "/body", false, &[("content-length", "11")]);
    let answer = client.answer(key);
    assert_eq!((answer.status, &answer.body[..]), (413, &b"413 Content Too Large\n"[..]));
    let key = client.request("HEAD", "/../..", true, &[]);
    let answer = client.answer(key);
    assert_eq!((answer.status, answer.body.len(), answer.reset), (400, 0, None));
    let key = client.request("GET", "/malformed", true, &[("x-a", " padded")]);
    assert!(client.answer(key).reset.is_some());
    let key = client.request("GET", "/fine", true, &[("user-agent", "me")]);
    assert_eq!(client.answer(key).status, 200);

    let lines = || -> Vec<Value> {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    until("all lines", || lines().len() == 7);
    let mut found: Vec<(String, u64, String)> = lines()
        .iter()
        .map(|line| {
            assert_eq!(line["version"], "2", "{line}");
            assert_eq!(line["host"], "localhost", "{line}");
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            let what = format!("{} {}", text("method"), text("path"));
            (what, line["status"].as_u64().unwrap(), text("error"))
        })
        .collect();
    found.sort();
    let expected = [
        ("GET /fine", 200, ""),
        ("GET /large", 431, "head too large"),
        ("GET /malformed", 0, "invalid character in a field value"),
        ("HEAD /../..", 400, "path above the root"),
        ("HEAD /large", 431, "head too large"),
        ("POST /body", 413, "body too large"),
        ("POST /upload", 431, "head too large"),
    ];
    let expected: Vec<_> =
        expected.iter().map(|(a, b, c)| (a.to_string(), *b as u64, c.to_string())).collect();
    assert_eq!(found, expected);
}

/// Frames are counted once, heads and all.
#[test]
fn bytes_are_counted_as_they_pass() {
    let replica = Replica::http(|seen| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", seen.body.len());
        [head.as_bytes(), &seen.body].concat()
    });
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    let body = vec![b'x'; 1_000_000];
    let key = client.request("POST", "/", false, &[]);
    client.data(key, &body, true);
    assert_eq!(client.answer(key).body.len(), body.len());
    let count = |name: &str| {
        let metrics = Http1::get(web.program.admin, "/metrics").text();
        let line = format!("{name}{{listener=\"web\"}} ");
        let found = metrics.lines().find_map(|l| l.strip_prefix(&line)).expect(name);
        found.parse::<u64>().unwrap()
    };
    for name in ["evenkeel_listener_received_bytes_total", "evenkeel_listener_sent_bytes_total"] {
        until(name, || count(name) >= 1_000_000);
        assert!(count(name) < 1_020_000, "{name}: {}", count(name));
    }
}

/// To the client any 2xx means that its tunnel is open.
#[test]
fn an_endpoint_that_opens_no_tunnel_does_not_seem_to() {
    let replica = Replica::http(|seen| match seen.line().contains("/forbidden") {
        true => b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno".to_vec(),
        false => ok("a page"),
    });
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    for (path, status) in [("/page", 502), ("/forbidden", 403)] {
        let key = client.websocket(path);
        assert_eq!(client.answer(key).status, status, "{path}");
    }
    until("the endpoint free", || web.in_flight() == 0);
}
