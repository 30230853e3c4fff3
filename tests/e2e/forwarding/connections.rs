//! Connections on both sides.

use std::net::Shutdown;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use crate::e2e::harness::replica::ok;
use crate::e2e::harness::{Client, Replica, Web, until};

#[test]
fn kept_alive_connections_are_used_again() {
    let replica = Replica::named("a");
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    for n in 0..20 {
        client.send(format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n")).unwrap();
        let response = client.response().unwrap();
        assert_eq!((response.status, response.header("connection")), (200, None));
    }
    for _ in 0..10 {
        assert_eq!(Client::get(web.address, "/").header("connection"), Some("close"));
    }
    assert_eq!(replica.connections(), 1, "30 requests over 11 connections of clients");
    let listener = &web.program.api("/v1/listeners")["listeners"][0];
    assert_eq!(listener["connections_total"], 11, "{listener}");
}

#[test]
fn without_a_pool_every_request_has_a_connection() {
    let replica = Replica::named("a");
    let web = Web::start(&[&replica], "", "pool: { idle_max: 0 }");
    let mut client = Client::connect(web.address);
    for _ in 0..5 {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!(client.response().unwrap().status, 200);
    }
    assert_eq!(replica.connections(), 5);
}

#[test]
fn a_replica_that_says_close_is_not_used_again() {
    let replica = Replica::http(|_| {
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na".to_vec()
    });
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    for _ in 0..5 {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        // The client's own connection stays.
        assert_eq!(client.response().unwrap().header("connection"), None);
    }
    assert_eq!(replica.connections(), 5);
}

#[test]
fn a_replica_has_no_more_connections_than_allowed() {
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let replica = Replica::http(move |_| {
        let _ = released.lock().unwrap().recv();
        ok("a")
    });
    let web = Web::start(&[&replica], "", "pool: { connections_max: 1 }");
    let mut first = Client::connect(web.address);
    first.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    until("the first at the replica", || !replica.received().is_empty());
    let second = Client::get(web.address, "/");
    assert_eq!((second.status, second.header("retry-after")), (503, Some("1")));
    release.send(()).unwrap();
    assert_eq!(first.response().unwrap().status, 200);
    release.send(()).unwrap();
    assert_eq!(Client::get(web.address, "/").status, 200);
    assert_eq!(replica.connections(), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let replica = Replica::http(move |seen| {
        // The first is the slowest.
        if seen.line().starts_with("GET /0 ") {
            let _ = released.lock().unwrap().recv();
        }
        ok(seen.line())
    });
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    let requests: String = (0..50)
        .map(|n| match n % 5 {
            4 => format!("PUT /{n} HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"),
            3 => format!(
                "PUT /{n} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
            ),
            _ => format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n"),
        })
        .collect();
    client.send(requests).unwrap();
    until("the first at the replica", || !replica.received().is_empty());
    release.send(()).unwrap();
    for n in 0..50 {
        let method = if n % 5 > 2 { "PUT" } else { "GET" };
        assert_eq!(client.response().unwrap().text(), format!("{method} /{n} HTTP/1.1"));
    }
}

#[test]
fn what_was_pipelined_before_a_half_close_is_answered() {
    let replica = Replica::http(|seen| ok(seen.line()));
    let web = Web::start(&[&replica], "", "");
    for count in [1, 2, 5] {
        let mut client = Client::connect(web.address);
        let requests: String =
            (0..count).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n")).collect();
        client.send(requests).unwrap();
        client.stream.shutdown(Shutdown::Write).unwrap();
        for n in 0..count {
            assert_eq!(client.response().unwrap().text(), format!("GET /{n} HTTP/1.1"));
        }
        assert!(client.is_closed());
    }
}

#[test]
fn a_half_closed_client_gets_its_answer_however_late() {
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let replica = Replica::http(move |seen| {
        let _ = released.lock().unwrap().recv();
        ok(&String::from_utf8_lossy(&seen.body))
    });
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello").unwrap();
    client.stream.shutdown(Shutdown::Write).unwrap();
    until("the request at the replica", || replica.received().ends_with(b"hello"));
    release.send(()).unwrap();
    assert_eq!(client.response().unwrap().text(), "hello");
    assert!(client.is_closed());
}

#[test]
fn a_client_that_leaves_frees_its_endpoint() {
    let closed = Arc::new(Mutex::new(0));
    let closing = closed.clone();
    let replica = Replica::raw(move |connection| {
        while let Some(seen) = connection.request() {
            if seen.line().contains("/first") {
                connection.send(ok("first")).unwrap();
            }
        }
        *closing.lock().unwrap() += 1;
    });
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    client.send("GET /first HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    client.send("GET /never HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    until("the second under way", || {
        replica.received().windows(6).any(|bytes| bytes == b"/never") && web.in_flight() == 1
    });
    // What it did not read makes the end of its connection a reset. A mere half-close would be
    // that of a client that still waits.
    client.stream.peek(&mut [0]).unwrap();
    drop(client);
    until("the endpoint free", || web.in_flight() == 0);
    until("its connection closed", || *closed.lock().unwrap() == 1);
    assert_eq!(Client::get(web.address, "/first").status, 200);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_body_frees_its_endpoint() {
    let replica = Replica::named("a");
    let web = Web::start(&[&replica], "", "");
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let before = replica.received().len();
        let mut client = Client::connect(web.address);
        client.send(format!("PUT / HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n5\r\nhello")).unwrap();
        until("the beginning at the replica", || {
            replica.received()[before..].ends_with(b"hello") && web.in_flight() == 1
        });
        drop(client);
        until("the endpoint free", || web.in_flight() == 0);
    }
    assert_eq!(Client::get(web.address, "/").status, 200);
    assert_eq!(replica.connections(), 3);
}
