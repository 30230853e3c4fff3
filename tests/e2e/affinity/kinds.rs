//! What is particular to each kind of session.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::super::harness::replica::ok;
use super::super::harness::{
    Client, Evenkeel, Lines, Quickstart, Replica, Response, Web, free_port, until,
};
use super::super::streams::Datagrams;

const REFUSES: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

fn send(address: SocketAddr, lines: &str) -> Response {
    Client::exchange(address, format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).unwrap()
}

fn as_user(address: SocketAddr, user: &str) -> String {
    let answer = send(address, &format!("X-User: {user}\r\n"));
    assert_eq!(answer.status, 200, "{}", answer.head);
    answer.text()
}

/// What the application sees of `cookie`, and what the client gets of `set`.
fn passed(web: &Web, replica: &Replica, cookie: &str) -> (String, Vec<String>) {
    let before = replica.received().len();
    let answer = send(web.address, &format!("{cookie}\r\n"));
    let received = String::from_utf8(replica.received()[before..].to_vec()).unwrap();
    let seen: Vec<&str> =
        received.lines().filter(|line| line.to_lowercase().starts_with("cookie")).collect();
    let set = answer.head.lines().filter(|line| line.to_lowercase().starts_with("set-cookie"));
    (seen.join("|"), set.map(str::to_owned).collect())
}

#[test]
fn the_applications_cookie_is_rewritten_both_ways() {
    let replica = Replica::http(|_| {
        b"HTTP/1.1 200 OK\r\nSet-Cookie: x=1\r\nset-cookie: SID=a~b; Path=/app; HttpOnly; SameSite=Lax\r\n\
          Set-Cookie: SID=\"q\"; Domain=a\r\nContent-Length: 0\r\n\r\n"
            .to_vec()
    });
    let service = "affinity: { cookie: { name: SID, mode: rewrite } }";
    let web = Web::start(&[&replica], "", service);
    let (_, set) = passed(&web, &replica, "X: y");
    let token = set[1].strip_prefix("set-cookie: SID=").unwrap()[..16].to_owned();
    assert!(token.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let expected = [
        "Set-Cookie: x=1".to_owned(),
        format!("set-cookie: SID={token}~a~b; Path=/app; HttpOnly; SameSite=Lax"),
        format!("Set-Cookie: SID=\"{token}~q\"; Domain=a"),
    ];
    assert_eq!(set, expected);
    for (sent, seen) in [
        (format!("Cookie: SID={token}~a~b"), "Cookie: SID=a~b"),
        (format!("Cookie: x=1; SID=\"{token}~q\"; y=2"), "Cookie: x=1; SID=\"q\"; y=2"),
        // Of an endpoint that there is not, of a client from before, twice, in two lines.
        ("Cookie: SID=0123456789abcdef~z".into(), "Cookie: SID=z"),
        ("Cookie: SID=old; z".into(), "Cookie: SID=old; z"),
        (format!("Cookie: SID={token}~a; SID={token}~b"), "Cookie: SID=a; SID=b"),
        (format!("Cookie: SID={token}~a\r\ncookie: SID={token}~b"), "Cookie: SID=a|cookie: SID=b"),
    ] {
        assert_eq!(passed(&web, &replica, &sent).0, seen);
    }
}

#[test]
fn a_learnt_cookie_passes_unchanged() {
    let replica = Replica::http(|_| {
        b"HTTP/1.1 200 OK\r\nSet-Cookie: SID=0123456789abcdef~b; Path=/\r\nContent-Length: 0\r\n\r\n"
            .to_vec()
    });
    let web = Web::start(&[&replica], "", "affinity: { cookie: { name: SID, mode: learn } }");
    let (seen, set) = passed(&web, &replica, "Cookie: SID=0123456789abcdef~c");
    assert_eq!(seen, "Cookie: SID=0123456789abcdef~c");
    assert_eq!(set, ["Set-Cookie: SID=0123456789abcdef~b; Path=/"]);
    assert_eq!(web.program.service("app")["sessions"]["entries"], 2);
}

/// A replica that answers with its name, or 503 as long as it is told to.
fn moody(name: &'static str) -> (Replica, Arc<AtomicBool>) {
    let refuses = Arc::new(AtomicBool::new(false));
    let asked = refuses.clone();
    let replica = Replica::http(move |_| match asked.load(SeqCst) {
        true => REFUSES.to_vec(),
        false => ok(name),
    });
    (replica, refuses)
}

#[test]
fn a_remembered_session_moves_to_where_its_retry_succeeded() {
    let (first, refuses) = moody("0");
    let second = Replica::named("1");
    let service = "affinity: { header: X-User }\nretry: { on: [ 503 ], budget: 100% }";
    let web = Web::start(&[&first, &second], "", service);
    let homes = ["a", "b"].map(|user| as_user(web.address, user));
    assert_eq!(homes, ["0", "1"]);
    refuses.store(true, SeqCst);
    assert_eq!(["a", "b"].map(|user| as_user(web.address, user)), ["1", "1"]);
    refuses.store(false, SeqCst);
    for _ in 0..4 {
        assert_eq!(["a", "b"].map(|user| as_user(web.address, user)), ["1", "1"], "it stays");
    }
    assert_eq!(web.count("retries"), 1);
}

#[test]
fn no_remembered_session_begins_with_a_failure() {
    let (first, refuses) = moody("0");
    refuses.store(true, SeqCst);
    let web = Web::start(&[&first], "", "affinity: { header: X-User }");
    let entries = || web.program.service("app")["sessions"]["entries"].clone();
    assert_eq!(send(web.address, "X-User: a\r\n").status, 503);
    // The client has its answer a moment before the claim is taken back.
    until("no session", || entries() == 0);
    refuses.store(false, SeqCst);
    as_user(web.address, "a");
    assert_eq!(entries(), 1);
    refuses.store(true, SeqCst);
    assert_eq!(send(web.address, "X-User: a\r\n").status, 503);
    assert_eq!(entries(), 1, "a failure ends none");
    assert_eq!(send(web.address, "").status, 503);
    assert_eq!(send(web.address, "X-User: \r\n").status, 503);
    assert_eq!(entries(), 1, "a request without a value has no session");
}

#[test]
fn the_table_is_bounded_and_says_so() {
    let replica = Replica::named("0");
    let service = "affinity: { header: { name: X-User, max: 64, ttl: 1h } }";
    let web = Web::start(&[&replica], "", service);
    let mut client = Client::connect(web.address);
    for user in 0..1000 {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX-User: {user}\r\n\r\n")).unwrap();
        assert_eq!(client.response().unwrap().status, 200);
    }
    let sessions = &web.program.service("app")["sessions"];
    let number = |name: &str| sessions[name].as_u64().unwrap();
    assert_eq!(number("max"), 64);
    assert!((64..=128).contains(&number("entries")), "{sessions}");
    assert_eq!(number("entries") + number("evictions"), 1000);
    let metrics = Client::get(web.program.admin, "/metrics").text();
    for line in [
        format!("evenkeel_service_sessions{{service=\"app\"}} {}", number("entries")),
        "evenkeel_service_sessions_max{service=\"app\"} 64".into(),
        format!(
            "evenkeel_service_session_evictions_total{{service=\"app\"}} {}",
            number("evictions")
        ),
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}");
    }
    let (ok, json) = web.program.verb(&["status", "--json"]);
    assert!(ok && json.contains("\"evictions\""), "{json}");
}

#[test]
fn an_unused_session_is_forgotten() {
    let replicas = [Replica::named("0"), Replica::named("1")];
    let service = "affinity: { header: { name: X-User, ttl: 1s } }";
    let web = Web::start(&[&replicas[0], &replicas[1]], "", service);
    as_user(web.address, "a");
    let entries = || web.program.service("app")["sessions"]["entries"].clone();
    assert_eq!(entries(), 1);
    until("it is forgotten", || entries() == 0);
}

/// All connections of one address go to one endpoint, over every worker.
#[test]
fn streams_of_one_address_go_to_one_endpoint() {
    let site = Quickstart::start_with(|config| {
        config.to_owned() + "    affinity: { source: true }\n    drain_grace: 10m\n"
    });
    let home = Lines::open(site.tcp).replica;
    for _ in 0..20 {
        assert_eq!(Lines::open(site.tcp).replica, home);
        let answer = Client::get(site.http, "/");
        assert_eq!(answer.header("x-replica"), Some(&*home), "and over HTTP");
    }
    let (ok, said) = site.program.verb(&["drain", "web", &home]);
    assert!(ok, "{said}");
    assert_eq!(Lines::open(site.tcp).replica, home, "a drained one keeps its sessions");
    super::super::harness::program::signal(site.replica_pid(&home), "KILL");
    let mut moved = String::new();
    until("it moved", || {
        moved = Lines::try_open(site.tcp).map_or_else(|_| home.clone(), |lines| lines.replica);
        moved != home
    });
    // What the runner starts in its place is not drained.
    site.wait_replicas(3);
    for _ in 0..10 {
        assert_eq!(Lines::open(site.tcp).replica, moved);
    }
}

#[test]
fn flows_of_one_address_go_to_one_endpoint() {
    let home = [127, 0, 0, 1];
    let mut replicas = ["a", "b", "c"].map(|name| Datagrams::start(home, name, 1));
    let address = SocketAddr::from((home, free_port()));
    let endpoints = replicas.each_ref().map(|replica| replica.address.to_string()).join(", ");
    let _program = Evenkeel::run(&format!(
        "listeners: {{ udp: {{ bind: {address}, protocol: udp, service: dns }} }}\nservices:\n  dns: {{ \
         endpoints: [ {endpoints} ], affinity: {{ source: true }}, health: off }}\n"
    ));
    // Each time from another port, which is another flow.
    let ask = |from: [u8; 4]| {
        let mut answer = [0; 16];
        let mut name = String::new();
        until("an answer", || {
            let socket = UdpSocket::bind((std::net::IpAddr::from(from), 0)).unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
            socket.send_to(b"x", address).unwrap();
            let received = socket.recv(&mut answer);
            name = String::from_utf8_lossy(&answer[..1]).into_owned();
            received.is_ok()
        });
        name
    };
    let clients: Vec<[u8; 4]> = (1..10).map(|last| [127, 0, 0, last]).collect();
    let homes: Vec<String> = clients.iter().map(|client| ask(*client)).collect();
    for _ in 0..5 {
        for (client, home) in clients.iter().zip(&homes) {
            assert_eq!(ask(*client), *home);
        }
    }
    for name in ["a", "b", "c"] {
        assert_eq!(homes.iter().filter(|home| *home == name).count(), 3);
    }
    replicas[1].kill();
    let moved: Vec<String> = clients.iter().map(|client| ask(*client)).collect();
    for (before, after) in homes.iter().zip(&moved) {
        assert!(after != "b" && (before == after || before == "b"), "{before} {after}");
    }
    for (client, home) in clients.iter().zip(&moved) {
        assert_eq!(ask(*client), *home);
    }
}

#[test]
fn the_secret_is_not_shown() {
    let replica = Replica::named("0");
    let secret = "0d9f6c1e5b7a4832";
    let service = format!("affinity: {{ cookie: {{ name: K, secret: {secret} }} }}");
    let web = Web::start(&[&replica], "", &service);
    let shown = Client::get(web.program.admin, "/v1/config");
    assert_eq!(shown.status, 200);
    let text = shown.text();
    assert!(text.contains("{ name: K, secret: REDACTED }") && !text.contains(secret), "{text}");
    let (_, status) = web.program.verb(&["status", "--json"]);
    assert!(!status.contains(secret) && !web.program.log().contains(secret));
    // What was shown cannot be taken for the real one.
    let refused = web.program.post_config(&text);
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("`secret` has 8 characters"), "{}", refused.text());
}
