//! Connections that become tunnels.

use std::io::Read;
use std::net::Shutdown;

use crate::e2e::harness::replica::ok;
use crate::e2e::harness::{Client, Replica, Web, until};

const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Answers the handshake with `switching`, then echoes until the client ends its direction, then
/// says `bye`.
fn echo(switching: &'static str) -> Replica {
    Replica::raw(move |connection| {
        let Some(head) = connection.head() else { return };
        let protocol = head.header("upgrade").expect("an Upgrade").to_owned();
        assert_eq!(head.header("connection"), Some("upgrade"));
        connection.send(switching.replace("websocket", &protocol)).unwrap();
        while let Some(byte) = connection.take(1) {
            if connection.send(byte).is_err() {
                return;
            }
        }
        let _ = connection.send("bye");
    })
}

#[test]
fn an_upgraded_connection_carries_bytes_both_ways() {
    let replica = echo(SWITCHING);
    let web = Web::start(&[&replica], "", "");
    for protocol in ["websocket", "irc/6.9", "custom"] {
        let mut client = Client::connect(web.address);
        client.send(HANDSHAKE.replace("websocket", protocol)).unwrap();
        let response = client.head().unwrap();
        assert_eq!(response.status, 101);
        assert_eq!(response.header("upgrade"), Some(protocol));
        assert!(response.header("connection").is_some_and(|c| c.eq_ignore_ascii_case("upgrade")));
        assert_eq!(response.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        // Not a request, whatever it looks like.
        for message in ["\0\x01\u{ff}\r\n\r\n", "GET /smuggled HTTP/9.9\r\n\r\n", "x"] {
            client.send(message).unwrap();
            assert_eq!(client.take(message.len()).unwrap(), message.as_bytes());
        }
        assert_eq!(web.in_flight(), 1);
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.take(3).unwrap(), b"bye", "after the client's end");
        assert!(client.is_closed());
        until("the endpoint free", || web.in_flight() == 0);
    }
    assert_eq!(replica.connections(), 3, "a tunnel is not used again");
}

/// A client may not wait for the 101, and a replica may speak at once.
#[test]
fn bytes_next_to_the_handshake_are_not_lost() {
    let replica = Replica::raw(|connection| {
        connection.head();
        connection.send(format!("{SWITCHING}welcome")).unwrap();
        let said = connection.take(5).unwrap();
        connection.send(said).unwrap();
    });
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    client.send(format!("{HANDSHAKE}hello")).unwrap();
    assert_eq!(client.head().unwrap().status, 101);
    assert_eq!(client.take(12).unwrap(), b"welcomehello");
    assert!(client.is_closed());
}

#[test]
fn a_replica_may_end_its_direction_first() {
    let replica = Replica::raw(|connection| {
        connection.head();
        connection.send(format!("{SWITCHING}all")).unwrap();
        connection.stream.shutdown(Shutdown::Write).unwrap();
        while connection.fill().is_some() {}
    });
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    client.send(HANDSHAKE).unwrap();
    assert_eq!(client.head().unwrap().status, 101);
    assert_eq!(client.take(3).unwrap(), b"all");
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
    // The other direction is open still.
    client.send("more").unwrap();
    until("the rest at the replica", || replica.received().ends_with(b"more"));
    client.send("last").unwrap();
    until("the last at the replica", || replica.received().ends_with(b"morelast"));
    drop(client);
    until("the endpoint free", || web.in_flight() == 0);
}

#[test]
fn a_replica_may_decline_to_upgrade() {
    let replica = Replica::http(|_| ok("plain"));
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    for _ in 0..3 {
        client.send(HANDSHAKE).unwrap();
        assert_eq!(client.response().unwrap().text(), "plain");
    }
    assert_eq!(replica.connections(), 1);
}

/// Nobody asked for it: what follows would be read by two in two ways.
#[test]
fn an_upgrade_that_was_not_asked_for_is_refused() {
    let replica = Replica::http(|_| SWITCHING.into());
    let web = Web::start(&[&replica], "", "");
    let h2c = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n";
    for request in ["GET / HTTP/1.1\r\nHost: h\r\n\r\n", h2c] {
        assert_eq!(Client::exchange(web.address, request).unwrap().status, 502);
    }
}

#[test]
fn a_tunnel_moves_megabytes() {
    let replica = Replica::raw(|connection| {
        connection.head();
        connection.send(SWITCHING).unwrap();
        let mut stream = connection.stream.try_clone().unwrap();
        let _ = std::io::copy(&mut connection.stream, &mut stream);
    });
    let web = Web::start(&[&replica], "", "");
    let mut client = Client::connect(web.address);
    client.send(HANDSHAKE).unwrap();
    assert_eq!(client.head().unwrap().status, 101);
    let sent: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 253) as u8).collect();
    let mut writer = client.stream.try_clone().unwrap();
    let copy = sent.clone();
    let sending = std::thread::spawn(move || {
        std::io::Write::write_all(&mut writer, &copy).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    client.stream.read_to_end(&mut received).unwrap();
    sending.join().unwrap();
    assert!(received == sent, "{} of {} bytes came back", received.len(), sent.len());
}
