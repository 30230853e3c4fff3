//! TLS towards endpoints. They are listeners of the same program, whose counters show what
//! reached them, and OpenSSL's servers by Python.

use std::process::Command;

use super::super::harness::program::Folder;
use super::super::harness::{Client, Evenkeel, Peer, Pki, Replica, until};
use super::*;

/// A listener `front` before the listener `inner`, which speaks TLS before a mirror.
struct Chain {
    program: Evenkeel,
    front: SocketAddr,
    _mirror: Replica,
}

impl Chain {
    /// `inner` is added to the inner listener's `tls`; `service` is the rest of the outer service.
    fn start(inner: &str, service: &str) -> Chain {
        let folder = Folder::new();
        let pki = Pki::new(&folder.0, "ca");
        pki.issue("a", &["app.internal", "127.0.0.1"]);
        pki.issue("client", &["front.internal"]);
        Pki::new(&folder.0, "other");
        let (front, at, mirror) = (local(), local(), mirror());
        let program = Evenkeel::spawn_in(
            folder,
            &format!(
                "listeners:\n  front: {{ bind: {front}, service: secure }}\n  \
                   inner: {{ bind: {at}, service: web, tls: {{ certificates: [ {{ certificate: a.crt, key: a.key }} ]{inner} }} }}\n\
                 services:\n  secure: {{ endpoints: [ {at} ], {service} }}\n  \
                   web: {{ endpoints: [ {} ] }}\n",
                mirror.address
            ),
        );
        until("the listeners", || {
            Client::try_get(program.admin, "/healthz").is_some()
                && program.listener("inner") != serde_json::Value::Null
        });
        until("the mirror", || program.count("web", "healthy") == 1);
        Chain { program, front, _mirror: mirror }
    }

    fn status(&self) -> u16 {
        Client::get(self.front, "/").status
    }
}

#[test]
fn endpoints_are_verified_and_connections_kept() {
    let chain =
        Chain::start(", strict_names: true", "tls: { server_name: app.internal, ca: ca.pem }");
    until("it is healthy", || chain.program.count("secure", "healthy") == 1);
    let connections = || chain.program.listener("inner")["connections_total"].as_u64().unwrap();
    let mut client = Client::connect(chain.front);
    let mut ask = || {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        client.response().unwrap()
    };
    let first = ask();
    assert_eq!((first.status, first.text().contains("X-Forwarded-Proto: https")), (200, true));
    let before = connections();
    for _ in 0..500 {
        assert_eq!(ask().status, 200);
    }
    let made = connections() - before;
    assert!(made < 50, "{made} connections for 500 requests");
}

#[test]
fn who_cannot_be_verified_gets_no_traffic() {
    for (tls, healthy) in [
        ("{ server_name: app.internal, ca: ca.pem }", true),
        ("{ ca: ca.pem }", true), // by its address
        ("{ server_name: other.internal, ca: ca.pem }", false),
        ("{ server_name: app.internal, ca: other.pem }", false),
        ("true", false), // the system trusts no CA of a test
        ("{ verify: false }", true),
        ("{ server_name: app.internal, ca: ca.pem, min_version: 1.3 }", true),
    ] {
        let chain = Chain::start(
            "",
            &format!("tls: {tls}, health: {{ unhealthy_after: 1, interval: 100ms }}"),
        );
        if healthy {
            until(tls, || chain.program.count("secure", "healthy") == 1);
            // A check that this machine was too slow for makes it 503 for a moment.
            until(tls, || chain.status() == 200);
        } else {
            until(tls, || {
                let service = chain.program.service("secure").to_string();
                service.contains("TLS handshake: ")
            });
            assert_eq!(chain.status(), 503, "{tls}");
        }
        let unchecked = Chain::start("", &format!("tls: {tls}, health: off"));
        if healthy {
            until(tls, || unchecked.status() == 200);
        } else {
            assert_eq!(unchecked.status(), 502, "{tls}");
        }
    }
}

#[test]
fn endpoints_may_ask_for_our_certificate() {
    let auth = ", client_auth: { ca: ca.pem }";
    let tls = "server_name: app.internal, ca: ca.pem";
    let with = "certificate: { certificate: client.crt, key: client.key }";
    for health in ["tcp", "{ https: /healthz }"] {
        let chain = Chain::start(auth, &format!("tls: {{ {tls}, {with} }}, health: {health}"));
        until("it is healthy", || chain.program.count("secure", "healthy") == 1);
        assert!(Client::get(chain.front, "/").text().contains("CN=client"));
    }
    // The answer to our half of the handshake comes after it: TLS 1.3 has no more turns.
    let chain = Chain::start(
        auth,
        &format!("tls: {{ {tls} }}, health: {{ https: /healthz, unhealthy_after: 1 }}"),
    );
    until("that is seen", || {
        chain.program.service("secure").to_string().contains("CertificateRequired")
    });
    assert_eq!(chain.status(), 503);
}

/// Serves HTTP over TLS; says in each answer whether the session was resumed.
const SERVER: &str = "import socket, ssl, sys, threading\n\
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
    context.load_cert_chain(sys.argv[1], sys.argv[2])\n\
    if sys.argv[4] == '1.2': context.maximum_version = ssl.TLSVersion.TLSv1_2\n\
    l = socket.create_server(('127.0.0.1', int(sys.argv[3])), backlog=128)\n\
    def serve(c):\n\
    \x20 try:\n\
    \x20   s = context.wrap_socket(c, server_side=True)\n\
    \x20   while True:\n\
    \x20     head = b''\n\
    \x20     while b'\\r\\n\\r\\n' not in head:\n\
    \x20       more = s.recv(4096)\n\
    \x20       if not more: return\n\
    \x20       head += more\n\
    \x20     body = b'resumed' if s.session_reused else b'full'\n\
    \x20     s.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n' % len(body) + body)\n\
    \x20 except OSError: pass\n\
    while True:\n\
    \x20 c, _ = l.accept()\n\
    \x20 threading.Thread(target=serve, args=(c,), daemon=True).start()\n";

#[test]
fn sessions_with_endpoints_are_resumed() {
    for version in ["1.2", "1.3"] {
        let folder = Folder::new();
        Pki::new(&folder.0, "ca").issue("a", &["app.internal"]);
        let (front, at) = (local(), local());
        let path = |name: &str| folder.join(name).display().to_string();
        let port = at.port().to_string();
        let server = [&path("a.crt"), &path("a.key"), &port, version];
        let _server = Peer::start(Command::new("python3").args(["-c", SERVER]).args(server));
        let program = Evenkeel::spawn_in(
            folder,
            &format!(
                "listeners: {{ front: {{ bind: {front}, service: app }} }}\n\
                 services:\n  app: {{ endpoints: [ {at} ], pool: {{ idle_max: 0 }}, \
                   tls: {{ server_name: app.internal, ca: ca.pem }} }}\n"
            ),
        );
        program.wait_ready();
        until("it is healthy", || program.count("app", "healthy") == 1);
        until("a session is resumed", || Client::get(front, "/").text() == "resumed");
        // One that is cut is no end of an answer, and nothing is served in clear.
    }
}

#[test]
fn new_files_hold_for_new_connections() {
    let chain = Chain::start("", "tls: { server_name: app.internal, ca: other.pem }, health: off");
    assert_eq!(chain.status(), 502);
    let folder = &chain.program.folder;
    std::fs::copy(folder.join("ca.pem"), folder.join("other.pem")).unwrap();
    until("the right CA", || chain.status() == 200);
}

/// `prequal` asks as traffic goes: over TLS, verified, on connections that are kept.
#[test]
fn policies_ask_over_tls() {
    let asked = |chain: &Chain| {
        let head = String::from_utf8_lossy(&chain._mirror.received()).into_owned();
        head.matches("GET /load HTTP/1.1").count()
    };
    // A check would make a connection for itself.
    let tls = "tls: { server_name: app.internal, ca: ca.pem }, health: off, \
               policy: { prequal: { probe: /load } }";
    let chain = Chain::start(", strict_names: true", tls);
    until("it is healthy", || chain.program.count("secure", "healthy") == 1);
    let mut client = Client::connect(chain.front);
    let mut sent = 0;
    until("twenty answers", || {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(client.response().unwrap().status, 200);
        sent += 1;
        asked(&chain) >= 20
    });
    let counted = |what: &str| chain.program.listener("inner")[what].as_u64().unwrap();
    until("all are counted", || counted("requests_total") >= sent + 20);
    let connections = counted("connections_total");
    assert!(connections < 20, "{connections} connections");
    // Whom traffic does not trust is not asked either.
    let tls = "tls: { server_name: app.internal, ca: other.pem }, health: off, \
               policy: { prequal: { probe: /load } }";
    let chain = Chain::start("", tls);
    for _ in 0..20 {
        assert_eq!(chain.status(), 502);
    }
    assert_eq!(asked(&chain), 0);
}
