//! TLS that passes through, routed by what the client asks for.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::super::harness::program::Folder;
use super::super::harness::{Client, Evenkeel, Pki, Replica, until};
use super::*;

/// Two sites behind one passthrough, each of which ends TLS itself, and a raw replica that keeps
/// what it got, for names of `raw.test`.
struct Front {
    program: Evenkeel,
    at: SocketAddr,
    raw: Replica,
    _mirror: Replica,
}

impl Front {
    fn start(more: &str) -> Front {
        let folder = Folder::new();
        let pki = Pki::new(&folder.0, "ca");
        pki.issue("a", &["a.test"]);
        pki.issue("b", &["*.b.test"]);
        let raw = Replica::raw(|connection| {
            let _ = connection.stream.write_all(b"raw\n");
            let _ = std::io::copy(&mut connection.stream, &mut std::io::sink());
        });
        let (at, a, b, mirror) = (local(), local(), local(), mirror());
        let listener = |name: &str, at| {
            format!(
                "  {name}:\n    bind: {at}\n    service: web\n    \
                 proxy_protocol: {{ from: [ 127.0.0.1 ] }}\n    \
                 tls: {{ certificates: [ {{ certificate: {name}.crt, key: {name}.key }} ] }}\n"
            )
        };
        let program = Evenkeel::spawn_in(
            folder,
            &format!(
                "listeners:\n{}{}  \
                   front:\n    bind: {at}\n    protocol: tls\n    timeouts: {{ header: 4s }}{more}\n    \
                   routes:\n      - {{ host: a.test, service: a }}\n      \
                     - {{ host: '*.b.test', service: b }}\n      \
                     - {{ host: raw.test, alpn: [ h2, mqtt ], service: raw }}\n      \
                     - {{ host: raw.test, service: a }}\n\
                 services:\n  a: {{ endpoints: [ {a} ], health: off, proxy_protocol: v2 }}\n  \
                   b: {{ endpoints: [ {b} ], health: off, proxy_protocol: v2 }}\n  \
                   raw: {{ endpoints: [ {} ], health: off }}\n  web: {{ endpoints: [ {} ] }}\n",
                listener("a", a),
                listener("b", b),
                raw.address,
                mirror.address,
            ),
        );
        program.wait_ready();
        Front { program, at, raw, _mirror: mirror }
    }
}

/// The ClientHello of OpenSSL, as Python gets it.
fn hello(name: &str, alpn: &str) -> Vec<u8> {
    let said = python(
        "import ssl, sys\n\
         context = ssl.create_default_context()\n\
         if sys.argv[2]: context.set_alpn_protocols(sys.argv[2].split())\n\
         i, o = ssl.MemoryBIO(), ssl.MemoryBIO()\n\
         if not sys.argv[1]: context.check_hostname = False\n\
         s = context.wrap_bio(i, o, server_hostname=sys.argv[1] or None)\n\
         try: s.do_handshake()\n\
         except ssl.SSLWantReadError: print(o.read().hex())\n",
        &[name, alpn],
    );
    let hex = said.trim();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// The same message in records of `size` bytes.
fn cut(hello: &[u8], size: usize) -> Vec<u8> {
    let records = hello[5..].chunks(size).map(|part| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&hello[..3], &length, part].concat()
    });
    records.collect::<Vec<_>>().concat()
}

#[test]
fn names_lead_to_services() {
    let front = Front::start("");
    let ca = front.program.folder.join("ca.pem").display().to_string();
    for host in ["a.test", "x.b.test"] {
        let said = curl(&ca, host, front.at, "/", &[]).unwrap();
        assert!(
            said.contains("HTTP/1.1 200") && said.contains("X-Forwarded-Proto: https"),
            "{said}"
        );
    }
    let refused = curl(&ca, "nobody.test", front.at, "/", &[]).unwrap_err();
    assert!(refused.contains("unrecognized name"), "{refused}");
    let refused = s_client(front.at, &["-noservername"], LAST);
    assert!(refused.contains("unrecognized name"), "{refused}");
    assert_eq!(front.raw.connections(), 0);
}

#[test]
fn a_service_for_all_other_names() {
    let front = Front::start("\n    service: a");
    let said = s_client(front.at, &["-noservername"], LAST);
    assert!(said.contains("HTTP/1.1 200"), "{said}");
}

#[test]
fn a_hello_may_come_in_pieces() {
    let front = Front::start("");
    let hello = hello("raw.test", "mqtt http/1.1");
    let mut sent = Vec::new();
    for (records, segment) in [(16384, 16384), (1, 16384), (7, 100), (16384, 1), (50, 3)] {
        let bytes = cut(&hello, records);
        let mut stream = TcpStream::connect(front.at).unwrap();
        stream.set_nodelay(true).unwrap();
        for part in bytes.chunks(segment) {
            stream.write_all(part).unwrap();
        }
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"raw\n", "{records} {segment}");
        stream.write_all(b"and more").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        sent.push([&bytes[..], b"and more"].concat());
    }
    // Not a byte was changed.
    let all: usize = sent.iter().map(Vec::len).sum();
    until("everything arrived", || {
        front.raw.received().len() >= all || front.raw.connections() == 5
    });
}

#[test]
fn alpn_decides_between_routes() {
    let front = Front::start("");
    for (alpn, expected) in [("h2", &b"raw\n"[..]), ("http/1.1", b"\x16\x03"), ("", b"\x16\x03")] {
        // Made before the time for it runs.
        let hello = hello("raw.test", alpn);
        let mut stream = TcpStream::connect(front.at).unwrap();
        stream.write_all(&hello).unwrap();
        let mut answer = vec![0; expected.len()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, expected, "{alpn:?}");
    }
}

#[test]
fn what_is_no_hello_is_closed() {
    let front = Front::start("");
    let hello = hello("raw.test", "");
    let half = &hello[..hello.len() / 2];
    for (what, bytes) in [
        ("nothing", &b""[..]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: raw.test\r\n\r\n"),
        ("half a hello", half),
        ("an alert", &[21, 3, 1, 0, 2, 2, 0]),
        ("an empty record", &[22, 3, 1, 0, 0]),
    ] {
        let mut client = Client::connect(front.at);
        client.send(bytes).unwrap();
        assert!(client.is_closed(), "{what}");
    }
    assert_eq!(front.raw.connections(), 0);
}
