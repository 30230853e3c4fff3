//! Clients that do not mean it: garbage, half handshakes, handshakes that stop.

use std::io::Write;
use std::net::TcpStream;

use super::super::harness::{Client, Memory, until};
use super::*;

/// A handshake record that promises 16 KiB, and the beginning of a ClientHello that promises as
/// much.
const HALF: [u8; 9] = [22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc];

#[test]
fn half_handshakes_cost_little_and_end() {
    let site = Site::start(", handshake_timeout: 3s", "");
    let memory = Memory::watch(site.program.child.id());
    let count = 2000;
    let mut clients: Vec<TcpStream> = (0..count)
        .map(|_| {
            let mut stream = TcpStream::connect(site.web).unwrap();
            stream.write_all(&HALF).unwrap();
            stream
        })
        .collect();
    // Others are served meanwhile.
    assert!(site.curl("a.test", &[]).unwrap().starts_with("HTTP/1.1 200"));
    let open = || site.program.listener("web")["connections"].as_u64().unwrap();
    until("all are closed", || open() == 0);
    let each = memory.growth_kib() / count;
    // A block of the buffers that connections share would be 16 KiB by itself.
    assert!(each < 14, "{each} KiB for each half handshake");
    for client in &mut clients {
        assert!(Client::over(client.try_clone().unwrap()).unwrap().is_closed());
    }
}

#[test]
fn handshakes_under_way_are_bounded_in_number() {
    const MOST: u64 = 40;
    let limits = format!("\n    limits: {{ handshakes: {MOST} }}");
    let site = Site::start(", handshake_timeout: 60s", &limits);
    let mut waiting: Vec<TcpStream> = (0..MOST)
        .map(|_| {
            let mut stream = TcpStream::connect(site.web).unwrap();
            stream.write_all(&HALF).unwrap();
            stream
        })
        .collect();
    let count = |what: &str| site.program.listener("web")[what].as_u64().unwrap();
    until("all of them wait", || count("connections") == MOST);
    let refused = || {
        let text = Client::get(site.program.admin, "/metrics").text();
        let name = "evenkeel_listener_refused_total{listener=\"web\"} ";
        text.lines().find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok()).unwrap()
    };
    for _ in 0..10 {
        assert!(site.curl("a.test", &[]).is_err());
    }
    assert_eq!((refused(), count("connections")), (10, MOST));
    // A place that is free again is one for the next, however it ended,
    waiting.pop();
    until("a place", || site.curl("a.test", &[]).is_ok());
    // and who has shaken hands needs none.
    let kept: Vec<_> = (0..3).map(|_| site.curl("a.test", &[]).unwrap()).collect();
    assert!(kept.iter().all(|answer| answer.starts_with("HTTP/1.1 200")));
    let _one_more = Client::connect(site.web);
    until("it is full again", || site.curl("a.test", &[]).is_err());
    drop(waiting);
    until("places are free", || site.curl("a.test", &[]).is_ok());
}

#[test]
fn handshakes_are_bounded_in_size() {
    let site = Site::start("", "");
    // A message of 16 MiB, in records that are whole.
    let mut client = TcpStream::connect(site.web).unwrap();
    let memory = Memory::watch(site.program.child.id());
    client.write_all(&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff]).unwrap();
    let mut sent = 0;
    while sent < 4 << 20 {
        let mut record = vec![22, 3, 1, 0x40, 0];
        record.resize(5 + (1 << 14), 0);
        if client.write_all(&record).is_err() {
            break;
        }
        sent += record.len();
    }
    assert!(Client::over(client).unwrap().is_closed());
    assert!(memory.growth_kib() < 2048, "{} KiB", memory.growth_kib());
    assert!(site.curl("a.test", &[]).unwrap().starts_with("HTTP/1.1 200"));
}

#[test]
fn garbage_is_answered_by_an_alert_or_the_end() {
    let site = Site::start(", handshake_timeout: 1s", "");
    for (what, bytes) in [
        ("nothing", &b""[..]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("zeros", &[0; 100]),
        ("SSL 2", &[0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10, 1, 0, 0x80]),
        ("an empty record", &[22, 3, 1, 0, 0]),
        ("application data", &[23, 3, 3, 0, 5, 1, 2, 3, 4, 5]),
        ("a change of cipher", &[20, 3, 3, 0, 1, 1]),
    ] {
        let mut client = Client::connect(site.web);
        client.send(bytes).unwrap();
        let mut answer = Vec::new();
        let ended = std::io::Read::read_to_end(&mut client.stream, &mut answer);
        let is_alert = answer.first() == Some(&21);
        assert!(is_alert || answer.is_empty(), "{what}: {ended:?} {answer:?}");
    }
    assert!(site.curl("a.test", &[]).unwrap().starts_with("HTTP/1.1 200"));
}

#[test]
fn a_cut_is_told_from_an_end() {
    // The endpoint's answer ends with its connection: by TLS it is whole only if that was said.
    let server = "import socket, ssl, sys\n\
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
        context.load_cert_chain(sys.argv[1], sys.argv[2])\n\
        l = socket.create_server(('127.0.0.1', int(sys.argv[3])), backlog=16)\n\
        while True:\n\
        \x20 c, _ = l.accept()\n\
        \x20 s = context.wrap_socket(c, server_side=True, suppress_ragged_eofs=True)\n\
        \x20 path = s.recv(4096).split()[1]\n\
        \x20 s.sendall(b'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\nwhole?')\n\
        \x20 if path == b'/said':\n\
        \x20   try: s.unwrap()\n\
        \x20   except OSError: pass\n\
        \x20 s.close()\n";
    let folder = super::super::harness::program::Folder::new();
    super::super::harness::Pki::new(&folder.0, "ca").issue("a", &["app.internal"]);
    let (front, at) = (local(), local());
    let path = |name: &str| folder.join(name).display().to_string();
    let arguments = [path("a.crt"), path("a.key"), at.port().to_string()];
    let _server = super::super::harness::Peer::start(
        std::process::Command::new("python3").args(["-c", server]).args(arguments),
    );
    let program = super::super::harness::Evenkeel::spawn_in(
        folder,
        &format!(
            "listeners: {{ front: {{ bind: {front}, service: app }} }}\n\
             services:\n  app: {{ endpoints: [ {at} ], health: off, retry: off, \
               tls: {{ server_name: app.internal, ca: ca.pem }} }}\n"
        ),
    );
    program.wait_ready();
    until("the server", || {
        Client::exchange(front, "GET /said HTTP/1.1\r\nHost: x\r\n\r\n")
            .is_ok_and(|r| r.status == 200)
    });
    let ask = |path: &str| {
        Client::exchange(
            front,
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        )
    };
    assert_eq!(ask("/said").unwrap().text(), "whole?");
    let cut = ask("/cut");
    assert!(cut.is_err(), "{cut:?}");
}
