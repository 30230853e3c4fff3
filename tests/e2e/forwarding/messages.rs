//! Messages: bodies, trailers, informational responses, and responses without a body.

use std::io::Read;

use crate::e2e::harness::replica::ok;
use crate::e2e::harness::{Client, Replica, Web, until};

/// Nothing of ours is added.
const PLAIN: &str = "forwarding: { x_forwarded: false, via: false, request_id: off }";

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn to_end(client: &mut Client) -> Vec<u8> {
    let mut bytes = Vec::new();
    client.stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn chunks_and_trailers_pass_byte_for_byte() {
    const BODY: &[u8] = b"5;a=b;c=\"d \\\" e\"\r\nhello\r\n00A\r\n0123456789\r\n0;last\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n";
    let answer = [
        b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice(),
        BODY,
    ]
    .concat();
    let answered = answer.clone();
    let replica = Replica::raw(move |connection| {
        while connection.head().is_some() {
            while connection.line().is_some_and(|line| line != "x-sum: 2") {}
            // The empty line.
            if connection.line().is_none() || connection.send(&answered).is_err() {
                return;
            }
        }
    });
    let web = Web::start(&[&replica], PLAIN, "");
    let head =
        b"POST /a HTTP/1.1\r\nHost: h\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
    let request = [head.as_slice(), BODY].concat();
    for step in [request.len(), 7, 1] {
        let before = replica.received().len();
        let mut client = Client::connect(web.address);
        for part in request.chunks(step) {
            client.send(part).unwrap();
        }
        let mut received = vec![0; answer.len()];
        client.stream.read_exact(&mut received).unwrap();
        assert_eq!(text(&received), text(&answer), "to the client, {step} bytes at a time");
        let received = replica.received();
        assert_eq!(text(&received[before..]), text(&request), "{step} bytes at a time");
    }
    assert_eq!(replica.connections(), 1);
}

#[test]
fn an_interim_response_is_passed_on_once() {
    let replica = Replica::raw(|connection| {
        while let Some(head) = connection.head() {
            assert_eq!(head.header("expect"), Some("100-continue"));
            connection.send("HTTP/1.1 100 Continue\r\nX-Interim: 1\r\n\r\n").unwrap();
            let body = connection.take(5).unwrap();
            // One too many.
            connection.send("HTTP/1.1 100 Continue\r\n\r\n").unwrap();
            connection.send(ok(&String::from_utf8(body).unwrap())).unwrap();
        }
    });
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    for _ in 0..3 {
        client
            .send("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            .unwrap();
        let interim = client.head().unwrap();
        assert_eq!(interim.head, "HTTP/1.1 100 Continue\r\nX-Interim: 1\r\n\r\n");
        client.send("hello").unwrap();
        let response = client.response().unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    }
    assert_eq!(replica.connections(), 1);
}

#[test]
fn a_final_status_instead_of_100_closes() {
    let replica = Replica::raw(|connection| {
        connection.head();
        connection.send("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno").unwrap();
        // Waits for the end: the body does not come.
        while connection.fill().is_some() {}
    });
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    client
        .send("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .unwrap();
    let response = client.response().unwrap();
    assert_eq!((response.status, response.text().as_str()), (417, "no"));
    assert_eq!(response.header("connection"), Some("close"));
    assert!(client.is_closed());
    until("the endpoint free", || web.in_flight() == 0);
    assert!(replica.received().ends_with(b"\r\n\r\n"), "no body was made up");
}

/// RFC 9110 section 15.2: "A proxy MUST forward 1xx responses unless the proxy itself requested
/// the generation of the 1xx response", and "a server MUST NOT send a 1xx response to an HTTP/1.0
/// client".
#[test]
fn early_hints_are_passed_on_but_not_to_http_10() {
    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
    let replica = Replica::http(|_| {
        [HINTS.as_bytes(), HINTS.as_bytes(), b"HTTP/1.1 100 Continue\r\n\r\n", &ok("a")].concat()
    });
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!(client.head().unwrap().head, HINTS);
        assert_eq!(client.head().unwrap().head, HINTS);
        // Nobody asked for the 100.
        assert_eq!(client.response().unwrap().text(), "a");
    }
    let response = Client::exchange(web.address, "GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "a"));
}

#[test]
fn responses_without_a_body_keep_the_connection_in_step() {
    let replica = Replica::http(|seen| match seen.line().split(' ').nth(1) {
        Some("/204") => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        Some("/304") => {
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: \"a\"\r\n\r\n".to_vec()
        }
        Some("/304-chunked") => {
            b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()
        }
        Some("/chunked") if seen.line().starts_with("HEAD") => {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()
        }
        Some("/open") if seen.line().starts_with("HEAD") => b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        _ if seen.line().starts_with("HEAD") => {
            b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n".to_vec()
        }
        _ => ok("a"),
    });
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    let cases = [
        ("HEAD", "/", 200, Some("500")),
        ("GET", "/204", 204, None),
        ("HEAD", "/204", 204, None),
        ("GET", "/304", 304, Some("500")),
        ("HEAD", "/304", 304, Some("500")),
        ("GET", "/304-chunked", 304, None),
        ("HEAD", "/chunked", 200, None),
        ("HEAD", "/open", 200, None),
        ("GET", "/", 200, Some("1")),
    ];
    for (method, path, status, length) in cases {
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: h\r\n\r\n")).unwrap();
        let response = client.response_to(method == "HEAD").unwrap();
        assert_eq!(
            (response.status, response.header("content-length")),
            (status, length),
            "{path}"
        );
    }
    assert_eq!(replica.connections(), 1);
}

#[test]
fn http_10_clients_are_served() {
    let replica = Replica::raw(|connection| {
        while let Some(seen) = connection.request() {
            let chunked = seen.line().contains("/chunked");
            let open = seen.line().contains("/open");
            let answer: &[u8] = match (chunked, open) {
                (true, _) => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n",
                (_, true) => b"HTTP/1.1 200 OK\r\n\r\nabcde",
                _ => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde",
            };
            if connection.send(answer).is_err() || open {
                return;
            }
        }
    });
    let web = Web::start(&[&replica], "", "");
    // Path, kept alive, answer.
    let kept = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nabcde";
    let closed = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nabcde";
    let open = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde";
    for (path, keep_alive, expected) in [
        ("/", false, closed),
        ("/chunked", false, open),
        ("/chunked", true, open),
        ("/open", false, open),
        ("/open", true, open),
    ] {
        let header = if keep_alive { "Connection: keep-alive\r\n" } else { "" };
        let mut client = Client::connect(web.address);
        client.send(format!("GET {path} HTTP/1.0\r\n{header}\r\n")).unwrap();
        assert_eq!(text(&to_end(&mut client)), text(expected.as_bytes()), "{path} {keep_alive}");
    }
    let mut client = Client::connect(web.address);
    for _ in 0..3 {
        client.send("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").unwrap();
        let answer = client.take(kept.len()).unwrap();
        assert_eq!(text(&answer), text(kept.as_bytes()));
    }
    // What it asks is asked in HTTP/1.1.
    let received = String::from_utf8(replica.received()).unwrap();
    assert!(!received.contains("HTTP/1.0\r\n") && !received.contains("Connection:"), "{received}");
}

#[test]
fn a_response_without_a_length_ends_with_the_connection() {
    let replica = Replica::raw(|connection| {
        connection.request();
        connection.send("HTTP/1.0 200 OK\r\nX-A: b\r\n\r\none").unwrap();
        connection.send(vec![b'x'; 300_000]).unwrap();
    });
    let web = Web::start(&[&replica], "", "");
    let response = Client::exchange(web.address, "GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!((response.status, response.body.len()), (200, 300_003));
    assert_eq!(response.header("connection"), Some("close"));
    assert!(response.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", response.head);
}

#[test]
fn large_bodies_pass_whole_both_ways() {
    let replica = Replica::http(|seen| {
        let body = &seen.body;
        match seen.line().contains("chunked") {
            true => {
                let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
                for part in body.chunks(7777) {
                    answer.extend(format!("{:x}\r\n", part.len()).into_bytes());
                    answer.extend(part);
                    answer.extend(b"\r\n");
                }
                answer.extend(b"0\r\n\r\n");
                answer
            }
            false => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                [head.as_bytes(), body].concat()
            }
        }
    });
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    for size in [0, 1, 16 * 1024, 65_535, 65_536, 65_537, 300_000, 5_000_000] {
        let body: Vec<u8> = (0..size).map(|n: u32| (n % 251) as u8).collect();
        for path in ["/length", "/chunked"] {
            client
                .send(format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n"))
                .unwrap();
            client.send(&body).unwrap();
            let response = client.response().unwrap();
            assert!(response.body == body, "{path} {size}: {} came back", response.body.len());
        }
    }
    assert_eq!(replica.connections(), 1);
}

/// The client learns at once that its body is not wanted.
#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let replica = Replica::raw(|connection| {
        connection.head();
        connection.send("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig").unwrap();
        // As servers do: takes some more, so that its answer is not lost.
        while connection.fill().is_some() {}
    });
    let web = Web::start(&[&replica], "", "");
    for head in
        ["Content-Length: 500000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n1DCD6500\r\n"]
    {
        let mut client = Client::connect(web.address);
        client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{head}")).unwrap();
        client.send(vec![b'x'; 100_000]).unwrap();
        let response = client.response().unwrap();
        assert_eq!((response.status, response.text().as_str()), (413, "big"));
        assert_eq!(response.header("connection"), Some("close"));
        assert!(client.is_closed());
        until("the endpoint free", || web.in_flight() == 0);
    }
}
