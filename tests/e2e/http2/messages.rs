//! Messages between clients of HTTP/2 and endpoints of HTTP/1.1.

use std::process::Command;

use super::client::Client;
use crate::e2e::harness::replica::ok;
use crate::e2e::harness::{Replica, Seen, Web, peer, until};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: grpc-status\r\nX-Name: a\r\nConnection: x-gone\r\nX-Gone: b\r\n\r\n";

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

fn answer_with_body(seen: &Seen) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", seen.body.len());
    [head.as_bytes(), &seen.body].concat()
}

#[test]
fn a_request_reaches_the_endpoint_as_http_1() {
    let replica = Replica::http(|seen| ok(&seen.head));
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    let key = client.request(
        "GET",
        "/a?b=c",
        true,
        &[("x-a", "b"), ("cookie", "a=b"), ("cookie", "c=d"), ("te", "trailers")],
    );
    let answer = client.answer(key);
    assert_eq!((answer.status, answer.reset), (200, None));
    let head = String::from_utf8(answer.body).unwrap();
    assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\nHost: localhost\r\n"), "{head}");
    for line in ["x-a: b", "cookie: a=b; c=d", "X-Forwarded-For: 127.0.0.1"] {
        assert!(head.contains(&format!("{line}\r\n")), "{line} in {head}");
    }
    assert!(!head.contains("te:") && !head.contains("Transfer-Encoding"), "{head}");
}

#[test]
fn bodies_of_all_sizes_pass_both_ways() {
    let replica = Replica::http(answer_with_body);
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    for length in [0, 1, 16_383, 16_384, 65_535, 65_536, 300_000, 3_000_000] {
        let sent = body(length);
        for told in [true, false] {
            let size = length.to_string();
            let more = [("content-length", &size[..])];
            let key = client.request("POST", "/", false, if told { &more } else { &[] });
            client.data(key, &sent, true);
            let answer = client.answer(key);
            assert_eq!((answer.status, answer.reset), (200, None), "{length}");
            assert!(answer.body == sent, "{length}: {} came back", answer.body.len());
        }
    }
    assert_eq!(web.in_flight(), 0);
}

#[test]
fn trailers_pass_both_ways() {
    let replica = Replica::raw(|connection| {
        while let Some(mut seen) = connection.head() {
            assert_eq!(seen.header("transfer-encoding"), Some("chunked"));
            let mut lines = Vec::new();
            while lines.last().is_none_or(|line: &String| !line.is_empty()) {
                let Some(line) = connection.line() else { return };
                lines.push(line);
            }
            seen.body = lines.join("|").into_bytes();
            let text = String::from_utf8(seen.body).unwrap();
            let chunk = format!("{:x}\r\n{text}\r\n", text.len());
            let end = "0\r\nGrpc-Status: 0\r\nX-Last: yes\r\n\r\n";
            if connection.send(format!("{CHUNKED}{chunk}{end}")).is_err() {
                return;
            }
        }
    });
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    for _ in 0..3 {
        let key = client.request("POST", "/", false, &[]);
        client.data(key, b"hello", false);
        client.trailers(key, &[("x-sum", "7")]);
        let answer = client.answer(key);
        assert_eq!(String::from_utf8(answer.body.clone()).unwrap(), "5|hello|0|x-sum: 7|");
        assert_eq!(answer.field("x-name"), Some("a"));
        for gone in ["x-gone", "connection", "transfer-encoding"] {
            assert_eq!(answer.field(gone), None, "{gone}");
        }
        let expected = [("grpc-status", "0"), ("x-last", "yes")];
        assert!(answer.trailers.iter().map(|(n, v)| (&n[..], &v[..])).eq(expected));
    }
}

#[test]
fn many_requests_of_one_connection_are_balanced_apart() {
    let replicas = [Replica::named("a"), Replica::named("b"), Replica::named("c")];
    let web = Web::start(&[&replicas[0], &replicas[1], &replicas[2]], "", "policy: round_robin");
    let mut client = Client::connect(web.address);
    let mut names = Vec::new();
    for _ in 0..10 {
        let keys: Vec<_> = (0..30).map(|_| client.request("GET", "/", true, &[])).collect();
        for key in keys {
            let answer = client.answer(key);
            assert_eq!(answer.status, 200);
            names.push(String::from_utf8(answer.body).unwrap());
        }
    }
    for name in ["a", "b", "c"] {
        assert_eq!(names.iter().filter(|found| *found == name).count(), 100, "{name}");
    }
}

#[test]
fn heads_without_bodies_end_their_streams() {
    let replica = Replica::http(|seen| match seen.line() {
        line if line.starts_with("HEAD") => {
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n".to_vec()
        }
        line if line.contains("/304") => b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec(),
        line if line.contains("/103") => {
            b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n".to_vec()
        }
        _ => ok(""),
    });
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    for (method, path, status, length) in [
        ("HEAD", "/", 200, Some("5")),
        ("GET", "/304", 304, None),
        ("GET", "/103", 204, None),
        ("GET", "/", 200, Some("0")),
    ] {
        let key = client.request(method, path, true, &[]);
        let answer = client.answer(key);
        assert_eq!((answer.status, answer.field("content-length")), (status, length), "{path}");
        assert_eq!((answer.body.len(), answer.reset), (0, None));
        assert_eq!(answer.informational, if path == "/103" { vec![103] } else { vec![] });
    }
}

#[test]
fn a_response_that_is_cut_is_reset_and_the_others_go_on() {
    let replica = Replica::raw(|connection| {
        while let Some(seen) = connection.request() {
            if seen.line().contains("/cut") {
                let _ = connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhello");
                return;
            }
            if connection.send(ok("whole")).is_err() {
                return;
            }
        }
    });
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    let cut = client.request("GET", "/cut", true, &[]);
    let whole = client.request("GET", "/", true, &[]);
    let answer = client.answer(cut);
    assert!(answer.reset.is_some() && !answer.ended, "{answer:?}");
    assert_eq!(client.answer(whole).body, b"whole");
    let after = client.request("GET", "/", true, &[]);
    assert_eq!(client.answer(after).status, 200);
}

#[test]
fn a_cancelled_request_is_given_up() {
    let replica = Replica::raw(|connection| while connection.request().is_some() {});
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    let key = client.request("GET", "/", true, &[]);
    until("the request at the endpoint", || web.in_flight() == 1);
    client.cancel(key);
    // Long before the endpoint's time-out.
    until("the request given up", || web.in_flight() == 0);
}

#[test]
fn a_websocket_is_a_tunnel_through_a_stream() {
    let replica = Replica::raw(|connection| {
        let Some(head) = connection.head() else { return };
        assert_eq!(head.line(), "GET /chat HTTP/1.1");
        assert_eq!(head.header("upgrade"), Some("websocket"));
        assert_eq!(head.header("sec-websocket-key").map(str::len), Some(24));
        let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
        connection.send(switching).unwrap();
        while let Some(byte) = connection.take(1) {
            if connection.send(byte).is_err() {
                return;
            }
        }
        let _ = connection.send("bye");
    });
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    assert!(client.has_extended_connect());
    let key = client.request("CONNECT", "/chat", false, &[("sec-websocket-version", "13")]);
    // `:protocol` must stand among the pseudo-header fields, so this is a CONNECT with a path.
    let answer = client.answer(key);
    assert!(answer.reset.is_some());
    let key = client.websocket("/chat");
    assert_eq!(client.status(key), 200);
    for message in ["hello", "GET / HTTP/1.1\r\n\r\n"] {
        client.data(key, message.as_bytes(), false);
        assert_eq!(client.take(key, message.len()), message.as_bytes());
    }
    client.data(key, b"", true);
    assert_eq!(client.take(key, 3), b"bye", "after the client's end");
    assert!(client.answer(key).ended);
    until("the endpoint free", || web.in_flight() == 0);
}

#[test]
fn a_stop_lets_streams_end_and_tells_the_client() {
    let replica = Replica::http(answer_with_body);
    let mut web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    let key = client.request("POST", "/", false, &[]);
    client.data(key, b"hel", false);
    until("the request at the endpoint", || web.in_flight() == 1);
    web.program.signal("TERM");
    client.turn_until(|client| client.told_to_go);
    client.data(key, b"lo", true);
    let answer = client.answer(key);
    assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
    assert!(client.is_ended());
    assert_eq!(web.program.wait_exit(), Some(0));
}

#[test]
fn curl_sends_and_gets() {
    let Some(curl) = peer::find("curl") else { return };
    let replica = Replica::http(answer_with_body);
    let web = Web::start(&[&replica], "", "");
    let url = format!("http://{}/", web.address);
    let folder = std::env::temp_dir().join(format!("evenkeel-h2-{}", std::process::id()));
    std::fs::write(&folder, body(2_000_000)).unwrap();
    let upload = format!("@{}", folder.display());
    let output = Command::new(curl)
        .args(["-sS", "--http2-prior-knowledge", "-w", "\n%{http_version} %{http_code}"])
        .args(["--data-binary", &upload, &url])
        .output()
        .unwrap();
    let _ = std::fs::remove_file(&folder);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut expected = body(2_000_000);
    expected.extend_from_slice(b"\n2 200");
    assert!(output.stdout == expected, "{} bytes: {text}", output.stdout.len());
}

#[test]
fn h2load_loses_no_request() {
    let Some(h2load) = peer::find("h2load") else { return };
    let replica = Replica::named("hello");
    let web = Web::start(&[&replica], "", "");
    let url = format!("http://{}/", web.address);
    let output =
        Command::new(h2load).args(["-n", "20000", "-c", "8", "-m", "32", &url]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let expected = "requests: 20000 total, 20000 started, 20000 done, 20000 succeeded, 0 failed, 0 errored, 0 timeout";
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("20000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{text}");
}
