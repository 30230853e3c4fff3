//! Replicas that fail: the client gets a status that says so, or an answer that is visibly cut.

use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};

use crate::e2e::harness::{Client, Replica, Web, until};

#[test]
fn garbage_is_answered_with_502() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-A: b\r\n".repeat(1000));
    let long = format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n", "b".repeat(200_000));
    let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100);
    let answers: &[(&str, &str)] = &[
        ("no HTTP", "garbage\r\n\r\n"),
        ("an SMTP greeting", "220 mail ESMTP\r\n"),
        ("9112 4: a status of two digits", "HTTP/1.1 20 OK\r\n\r\n"),
        ("9112 4: a status of letters", "HTTP/1.1 OK\r\n\r\n"),
        ("9112 2.3: another version", "HTTP/2.0 200 OK\r\n\r\n"),
        ("9112 2.2: bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
        (
            "9112 6.3: two lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        ),
        ("9110 8.6: no number", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
        (
            "9112 6.1: both framings",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "9112 5.1: a space before the colon",
            "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello",
        ),
        ("9112 5.2: obs-fold", "HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
        ("9110 5.5: NUL", "HTTP/1.1 200 OK\r\nX-A: \0\r\nContent-Length: 0\r\n\r\n"),
        (
            "9112 7.1: a bad chunk at once",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        ),
        (
            "9110 15.2.2: a switch that nobody asked for",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        ),
        ("no end of informational responses", &hints),
        ("too many headers", &many),
        ("too long a header", &long),
        ("a head that ends early", "HTTP/1.1 200 OK\r\nContent-"),
        ("nothing", ""),
    ];
    for (what, answer) in answers {
        let answer = answer.to_string();
        let replica = Replica::raw(move |connection| {
            connection.request();
            let _ = connection.send(&answer);
        });
        let web = Web::start(&[&replica], "", "retry: off");
        let mut client = Client::connect(web.address);
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let mut response = client.response().unwrap();
        while response.status == 103 {
            response = client.response().unwrap();
        }
        assert_eq!(response.status, 502, "{what}: {}", response.head);
        until("the endpoint free", || web.in_flight() == 0);
    }
    eprintln!("{} kinds of garbage: 502 each", answers.len());
}

/// What was said before stays said; that it is not the whole is plain.
#[test]
fn an_answer_cut_in_the_middle_is_never_complete() {
    let answers: &[(&str, &str)] = &[
        // Short ones are sent on as a whole: see the test below.
        ("a length", "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhello"),
        ("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        ("a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello"),
        (
            "the trailers",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-A: b\r\n",
        ),
    ];
    for (what, answer) in answers {
        let answer = answer.to_string();
        let replica = Replica::raw(move |connection| {
            connection.request();
            let _ = connection.send(&answer);
        });
        let web = Web::start(&[&replica], "", "");
        for version in ["1.1", "1.0"] {
            for _ in 0..5 {
                let request = format!("GET / HTTP/{version}\r\nHost: h\r\n\r\n");
                let response = Client::exchange(web.address, request);
                assert!(response.is_err(), "{what}, HTTP/{version}: {response:?}");
            }
        }
        until("the endpoint free", || web.in_flight() == 0);
    }
}

/// Many applications write head and body apart. One that dies in between has cost no request.
#[test]
fn a_short_answer_cut_in_the_middle_is_asked_for_again() {
    let one = Replica::raw(|connection| {
        connection.request();
        let _ = connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    });
    let web = Web::start(&[&one], "", "");
    let get = "GET /cut HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(Client::exchange(web.address, get).unwrap().status, 502, "nobody has the rest");
    let post = "POST /cut HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(Client::exchange(web.address, post).unwrap().status, 502);

    let good = Replica::named("whole");
    let web = Web::start(&[&one, &good], "", "");
    for _ in 0..20 {
        assert_eq!(Client::exchange(web.address, get).unwrap().text(), "whole");
    }
    assert!(web.count("retries") > 0);
    until("the endpoints free", || web.in_flight() == 0);
}

/// Chunks that turn out malformed after the head was passed on.
#[test]
fn a_malformed_chunk_in_the_middle_is_never_complete() {
    for bad in ["x\r\n", "5 \r\nworld\r\n0\r\n\r\n", "0\r\nContent-Length: 5\r\n\r\n", "0\r\n\n"] {
        let (send, go) = channel::<()>();
        let go = Mutex::new(go);
        let replica = Replica::raw(move |connection| {
            connection.request();
            let _ = connection
                .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
            // Until the client has it.
            go.lock().unwrap().recv().unwrap();
            let _ = connection.send(bad);
        });
        let web = Web::start(&[&replica], "", "");
        let mut client = Client::connect(web.address);
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!(client.head().unwrap().status, 200, "{bad:?}");
        assert_eq!(client.take(10).unwrap(), b"5\r\nhello\r\n");
        send.send(()).unwrap();
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut client.stream, &mut rest);
        assert!(!rest.ends_with(b"\r\n\r\n"), "{bad:?}: {}", rest.escape_ascii());
        until("the endpoint free", || web.in_flight() == 0);
    }
}

#[test]
fn no_answer_in_time_is_504() {
    let silent = Replica::raw(|connection| while connection.fill().is_some() {});
    let web = Web::start(&[&silent], "", "timeouts: { first_byte: 300ms }");
    let mut client = Client::connect(web.address);
    for method in ["GET", "POST"] {
        client
            .send(format!("{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"))
            .unwrap();
        assert_eq!(client.response().unwrap().status, 504);
    }
    assert_eq!(silent.connections(), 2, "a connection with an answer to come is not used again");
    until("the endpoint free", || web.in_flight() == 0);
}

#[test]
fn no_connection_in_time_is_504() {
    let full = FullBacklog::new();
    let web = Web::before(&[full.address], "", "timeouts: { connect: 1s }\nretry: off");
    assert_eq!(Client::get(web.address, "/").status, 504);
    let good = Replica::named("good");
    let web = Web::before(&[full.address, good.address], "", "timeouts: { connect: 1s }");
    for _ in 0..2 {
        assert_eq!(Client::get(web.address, "/").text(), "good");
    }
}

#[test]
fn a_refused_connection_is_502_when_there_is_no_other() {
    let refusing = SocketAddr::from(([127, 0, 0, 1], crate::e2e::harness::free_port()));
    let web = Web::before(&[refusing], "", "");
    let mut client = Client::connect(web.address);
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!(client.response().unwrap().status, 502, "and the client's connection stays");
    }
}

#[test]
fn the_total_time_bounds_an_answer_without_end() {
    let endless = Replica::raw(|connection| {
        connection.request();
        let _ = connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        trickle_chunks(connection);
    });
    let web = Web::start(&[&endless], "", "timeouts: { total: 500ms }");
    until_cut(&web, "/");
    until("the endpoint free", || web.in_flight() == 0);

    let silent = Replica::raw(|connection| while connection.fill().is_some() {});
    let web = Web::start(&[&silent], "", "timeouts: { total: 500ms }");
    assert_eq!(Client::get(web.address, "/").status, 504);
}

#[test]
fn an_answer_that_stops_in_the_middle_is_cut_after_the_idle_time() {
    let stalled = Replica::raw(|connection| {
        let long = connection.request().is_some_and(|seen| seen.line().contains("/long"));
        let length = if long { 100_000 } else { 10 };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nhello");
        let _ = connection.send(head);
        while connection.fill().is_some() {}
    });
    let web = Web::start(&[&stalled], "timeouts: { idle: 400ms }", "");
    until_cut(&web, "/long");
    // Nothing of a short one was sent on yet.
    let response = Client::exchange(web.address, "GET /short HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(response.unwrap().status, 504);
    until("the endpoint free", || web.in_flight() == 0);
}

/// Asks until an answer that had begun is cut off. Of one that was not seen to begin in time, as the
/// replica was slow, it is said so.
fn until_cut(web: &Web, path: &str) {
    until("an answer to be cut", || {
        match Client::exchange(web.address, format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")) {
            Ok(response) => {
                assert_eq!(response.status, 504, "{response:?}");
                false
            }
            Err(_) => true,
        }
    });
}

fn trickle_chunks(connection: &mut crate::e2e::harness::replica::Connection) {
    while connection.send("1\r\nx\r\n").is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An address that neither accepts nor refuses: its queue is full.
struct FullBacklog {
    address: SocketAddr,
    _listener: std::os::fd::OwnedFd,
    _queued: Vec<TcpStream>,
}

impl FullBacklog {
    fn new() -> Self {
        let listener = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = rustix::net::getsockname(&listener).unwrap();
        let address = SocketAddr::try_from(address).unwrap();
        let mut queued = Vec::new();
        let mut unanswered = 0;
        // One may only have been slow.
        while unanswered < 2 {
            match TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
                Ok(stream) => queued.push(stream),
                Err(_) => unanswered += 1,
            }
            assert!(queued.len() < 100, "the queue does not fill");
        }
        Self { address, _listener: listener, _queued: queued }
    }
}
