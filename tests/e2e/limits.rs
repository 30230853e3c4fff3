//! Limits and time-outs towards clients.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType};

use super::harness::replica::ok;
use super::harness::{Client, Replica, Web, until};

/// Sends `bytes` and takes the answer; `None` if there is none.
fn status(web: &Web, bytes: &[u8]) -> Option<u16> {
    let mut client = Client::connect(web.address);
    // It may be refused before its end.
    let _ = client.send(bytes);
    client.response().ok().map(|response| response.status)
}

#[test]
fn a_head_beyond_its_limits_is_refused() {
    let replica = Replica::named("a");
    let limits = "limits: { header_bytes: 4KiB, header_count: 20, uri_bytes: 1KiB }";
    let web = Web::start(&[&replica], limits, "");
    let head = |target: &str, fields: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n").into_bytes()
    };
    let sized = |size: usize| {
        let rest = head("/", "X-A: \r\n").len();
        head("/", &format!("X-A: {}\r\n", "b".repeat(size - rest)))
    };
    let counted = |count: usize| head("/", &"X-A: b\r\n".repeat(count - 1));
    let targeted = |size: usize| head(&format!("/{}", "b".repeat(size - 1)), "");
    for (what, request, expected) in [
        ("bytes at the limit", sized(4096), 200),
        ("a byte more", sized(4097), 431),
        ("many more", sized(1_000_000), 431),
        ("fields at the limit", counted(20), 200),
        ("a field more", counted(21), 431),
        ("a target at the limit", targeted(1024), 200),
        ("a byte more of it", targeted(1025), 414),
        ("far more of it", targeted(1_000_000), 414),
    ] {
        let before = replica.received().len();
        assert_eq!(status(&web, &request), Some(expected), "{what}");
        assert_eq!(replica.received().len() > before, expected == 200, "{what}");
    }
    // One name without an end, and one line without an end.
    assert_eq!(
        status(&web, &[b"GET / HTTP/1.1\r\nHost: h\r\n", &b"x".repeat(5000)[..]].concat()),
        Some(431)
    );
    assert_eq!(status(&web, &[b"GET /", &b"x".repeat(5000)[..]].concat()), Some(414));
}

#[test]
fn a_body_beyond_its_limit_is_refused() {
    let replica = Replica::http(|seen| ok(&seen.body.len().to_string()));
    let web = Web::start(&[&replica], "limits: { body_bytes: 100KiB }", "");
    const LIMIT: usize = 100 * 1024;
    let with_length = |size: usize| {
        let head = format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n");
        [head.as_bytes(), &vec![b'x'; size]].concat()
    };
    let chunked = |size: usize| {
        let mut bytes = b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for part in vec![b'x'; size].chunks(1000) {
            bytes.extend(format!("{:x}\r\n", part.len()).bytes());
            bytes.extend(part);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
        bytes
    };
    for (size, expected) in [(0, 200), (1, 200), (LIMIT, 200), (LIMIT + 1, 413), (10 * LIMIT, 413)]
    {
        assert_eq!(status(&web, &with_length(size)), Some(expected), "length {size}");
        assert_eq!(status(&web, &chunked(size)), Some(expected), "chunked {size}");
    }
    // A length is judged before anything is passed on.
    assert_eq!(
        status(&web, b"PUT /too-long HTTP/1.1\r\nHost: h\r\nContent-Length: 102401\r\n\r\n"),
        Some(413)
    );
    assert!(!replica.received().windows(9).any(|bytes| bytes == b"/too-long"));
    // And a single chunk that announces too much, once it proves it.
    let one = [
        b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n10000000\r\n".as_slice(),
        &vec![b'x'; 2 * LIMIT],
    ]
    .concat();
    assert_eq!(status(&web, &one), Some(413));
    until("the endpoint free", || web.in_flight() == 0);
}

#[test]
fn a_head_that_trickles_is_408() {
    let replica = Replica::named("a");
    let web = Web::start(&[&replica], "timeouts: { header: 1s }", "");
    let endless = b"GET / HTTP/1.1\r\nHost: h\r\n".iter().chain(b"X-A: b\r\n".iter().cycle());
    let mut client = Client::connect(web.address);
    let sent = trickle(&mut client, endless.copied());
    assert_eq!(client.response().unwrap().status, 408);
    assert!(client.is_closed());
    eprintln!("408 after {sent} bytes, one at a time");
    // The same for the second request of a connection.
    let mut client = Client::connect(web.address);
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().status, 200);
    client.send("GET / HTT").unwrap();
    assert_eq!(client.response().unwrap().status, 408);
    assert!(client.is_closed());
    // Who never says anything is let go.
    assert!(Client::connect(web.address).is_closed());
    // Others are served all the while.
    assert_eq!(Client::get(web.address, "/").status, 200);
}

/// Sends a byte every few milliseconds until an answer is there.
fn trickle(client: &mut Client, bytes: impl Iterator<Item = u8>) -> usize {
    client.stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let mut sent = 0;
    for byte in bytes {
        if client.send([byte]).is_err() || client.stream.peek(&mut [0]).is_ok() {
            break;
        }
        sent += 1;
        assert!(sent < 6000, "it is not cut off");
    }
    client.stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    sent
}

#[test]
fn a_body_that_stops_is_given_up() {
    let replica = Replica::named("a");
    let web = Web::start(&[&replica], "timeouts: { idle: 400ms }", "");
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let mut client = Client::connect(web.address);
        client.send(format!("PUT / HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n5\r\nhello")).unwrap();
        assert_eq!(client.response().unwrap().status, 408, "{framing}");
        assert!(client.is_closed());
        until("the endpoint free", || web.in_flight() == 0);
    }
}

#[test]
fn an_idle_connection_is_closed() {
    let replica = Replica::named("a");
    let web = Web::start(&[&replica], "timeouts: { keep_alive: 2s }", "");
    let mut client = Client::connect(web.address);
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!(client.response().unwrap().status, 200);
    }
    assert!(client.is_closed(), "without an answer that nobody asked for");
}

const HOME: [u8; 4] = [127, 0, 0, 1];

/// A connection that is taken in; `None` if it is refused, which may be before it is made.
fn enter(from: [u8; 4], address: SocketAddr) -> Option<Client> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((from, 0))).unwrap();
    rustix::net::connect(&socket, &address).ok()?;
    let mut client = Client::over(TcpStream::from(socket)).ok()?;
    is_served(&mut client).then_some(client)
}

fn is_served(client: &mut Client) -> bool {
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").is_ok()
        && client.response().is_ok_and(|response| response.status == 200)
}

#[test]
fn connections_beyond_the_limit_are_refused_and_come_free_again() {
    let replica = Replica::named("a");
    for limit in ["connections", "connections_per_client"] {
        let web = Web::start(&[&replica], &format!("limits: {{ {limit}: 5 }}"), "");
        for _ in 0..3 {
            let mut clients = Vec::new();
            until("five places", || {
                // Those of the round before may be on their way out.
                clients.extend(enter(HOME, web.address));
                clients.len() == 5
            });
            for _ in 0..3 {
                assert!(enter(HOME, web.address).is_none(), "{limit}");
            }
            assert!(clients.iter_mut().all(is_served), "those that are there stay");
        }
        until("a place", || enter(HOME, web.address).is_some());
        let metrics = Client::get(web.program.admin, "/metrics").text();
        let refused = metrics.lines().find(|line| {
            line.starts_with("evenkeel_listener_")
                && line.contains("refused")
                && !line.ends_with(" 0")
        });
        eprintln!("{limit}: {}", refused.expect("a count of those refused"));
    }
}

#[test]
fn one_client_address_does_not_use_up_what_others_have() {
    let replica = Replica::named("a");
    let web = Web::start(&[&replica], "limits: { connections: 3, connections_per_client: 2 }", "");
    let mut those: Vec<_> = (0..2).filter_map(|_| enter(HOME, web.address)).collect();
    assert_eq!(those.len(), 2);
    assert!(enter(HOME, web.address).is_none());
    let other = enter([127, 0, 0, 2], web.address).expect("a place for another");
    // The listener is full now, whoever asks.
    assert!(enter([127, 0, 0, 3], web.address).is_none());
    drop(other);
    until("a place again", || enter([127, 0, 0, 3], web.address).is_some());
    assert!(those.iter_mut().all(is_served), "those that are there stay");
}
