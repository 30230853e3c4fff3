//! HTTP/2 to endpoints: what becomes of requests of either version, and when connections end.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use http2::{Config, ErrorCode};

use super::client::Client as Http2Client;
use super::origin::{Asked, CONFIG, Does, Origin};
use crate::e2e::harness::{Client, Replica, Web, until};

const H2C: &str = "protocol: h2c";

fn start(origins: &[&Origin], service: &str) -> Web {
    let replicas: Vec<&Replica> = origins.iter().map(|origin| &origin.replica).collect();
    Web::start(&replicas, "", &format!("{H2C}\n{service}"))
}

fn says(text: &'static str) -> impl Fn(&Asked) -> Does + Send + Sync + 'static {
    move |_| Does::Answers(text.into())
}

#[test]
fn a_request_of_http_1_becomes_one_of_http_2() {
    let origin = Origin::start(says("hello"));
    let web = start(&[&origin], "");
    let mut client = Client::connect(web.address);
    for _ in 0..3 {
        client
            .send("GET /a?b=c HTTP/1.1\r\nHost: x.test\r\nX-A: B\r\nTE: trailers\r\nConnection: TE, x-gone\r\nX-Gone: 1\r\n\r\n")
            .unwrap();
        let answer = client.response().unwrap();
        assert_eq!((answer.status, answer.text()), (200, "hello".into()));
    }
    let asked = origin.asked.lock().unwrap();
    let first = &asked[0];
    let names: Vec<&str> = first.fields.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!(names[..4], [":method", ":scheme", ":authority", ":path"]);
    for (name, value) in [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "x.test"),
        (":path", "/a?b=c"),
        ("x-a", "B"),
        ("te", "trailers"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(first.field(name), Some(value), "{name}");
    }
    for gone in ["host", "connection", "x-gone"] {
        assert_eq!(first.field(gone), None, "{gone}");
    }
    assert_eq!((asked[2].connection, asked[2].number), (0, 2), "one connection for all");
}

#[test]
fn bodies_and_trailers_pass_between_all_versions() {
    let origin = Origin::start(|_| Does::Echoes(vec![("x-sum", "7")]));
    let web = start(&[&origin], "");
    let mut two = Http2Client::connect(web.address);
    let mut one = Client::connect(web.address);
    for length in [0, 1, 16_384, 65_536, 1_000_000] {
        let body: Vec<u8> = (0..length).map(|at| (at * 31 % 251) as u8).collect();
        let key = two.request("POST", "/", false, &[]);
        two.data(key, &body, true);
        let answer = two.answer(key);
        assert_eq!((answer.status, answer.reset), (200, None));
        assert!(answer.body == body, "{length}");
        assert_eq!(answer.trailers, [("x-sum".to_owned(), "7".to_owned())]);

        one.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"))
            .unwrap();
        one.send(&body).unwrap();
        let answer = one.response().unwrap();
        assert!((answer.status, &answer.body) == (200, &body), "{length}");
    }
    until("all is done", || web.in_flight() == 0);
}

#[test]
fn one_connection_carries_many_and_a_further_one_what_is_beyond() {
    let origin = Origin::with(Config { streams_max: 10, ..CONFIG }, |_| Does::Waits);
    let web = start(&[&origin], "");
    let mut client = Http2Client::connect(web.address);
    let keys: Vec<_> = (0..25).map(|_| client.request("GET", "/", true, &[])).collect();
    until("all are there", || origin.asked_count() == 25);
    let most = origin.asked.lock().unwrap().iter().map(|asked| asked.connection).max();
    assert_eq!(most, Some(2), "ten on each");
    for key in keys {
        client.cancel(key);
    }
    // What a client cancels is cancelled at the endpoint.
    until("they are cancelled", || origin.resets.lock().unwrap().len() == 25);
    assert!(origin.resets.lock().unwrap().iter().all(|code| *code == ErrorCode::CANCEL));
    until("none is in flight", || web.in_flight() == 0);
    // Ours is the lower bound here.
    let origin = Origin::start(|_| Does::Waits);
    let web = start(&[&origin], "pool: { streams_max: 5 }");
    let mut client = Http2Client::connect(web.address);
    for _ in 0..10 {
        client.request("GET", "/", true, &[]);
    }
    until("all are there", || origin.asked_count() == 10);
    let asked = origin.asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|asked| asked.connection == 0).count(), 5);
}

#[test]
fn the_streams_of_one_client_are_spread() {
    let origins = [Origin::start(says("a")), Origin::start(says("b")), Origin::start(says("c"))];
    let web = start(&[&origins[0], &origins[1], &origins[2]], "policy: round_robin");
    let mut client = Http2Client::connect(web.address);
    let keys: Vec<_> = (0..60).map(|_| client.request("GET", "/", true, &[])).collect();
    for key in keys {
        assert_eq!(client.answer(key).status, 200);
    }
    for origin in &origins {
        assert_eq!(origin.asked_count(), 20);
        assert!(origin.asked.lock().unwrap().iter().all(|asked| asked.connection == 0));
    }
}

#[test]
fn what_was_not_processed_is_asked_elsewhere_whatever_it_is() {
    for does in [Does::Resets(ErrorCode::REFUSED_STREAM), Does::Leaves] {
        let refusing = Origin::start(move |_| does.clone());
        let good = Origin::start(|_| Does::Echoes(Vec::new()));
        let web = start(&[&refusing, &good], "policy: round_robin");
        let mut client = Client::connect(web.address);
        for _ in 0..10 {
            client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").unwrap();
            let answer = client.response().unwrap();
            assert_eq!((answer.status, answer.text()), (200, "hi".into()));
        }
        assert!(refusing.asked_count() > 0);
        assert_eq!(good.asked_count(), 10);
    }
}

#[test]
fn other_resets_are_retried_only_where_that_is_safe() {
    let failing = Origin::start(|_| Does::Resets(ErrorCode::INTERNAL_ERROR));
    let good = Origin::start(says("good"));
    let web = start(&[&failing, &good], "policy: round_robin");
    let mut client = Http2Client::connect(web.address);
    let mut statuses = Vec::new();
    for method in ["GET", "GET", "POST", "POST"] {
        let key = client.request(method, "/", true, &[]);
        statuses.push(client.answer(key).status);
    }
    assert_eq!(statuses[..2], [200, 200]);
    statuses[2..].sort_unstable();
    assert_eq!(statuses[2..], [200, 502]);
}

#[test]
fn an_endpoint_that_says_goodbye_finishes_what_it_has() {
    // Of ten requests the sixth is answered with the end of the connection.
    let origin = Origin::start(|asked| match asked.number {
        5 => Does::AnswersAndLeaves,
        _ => Does::Answers(b"ok".to_vec()),
    });
    let web = start(&[&origin], "");
    let mut client = Client::connect(web.address);
    for _ in 0..30 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert_eq!(client.response().unwrap().status, 200);
    }
    let asked = origin.asked.lock().unwrap();
    assert_eq!(asked.len(), 30);
    assert_eq!(asked.last().map(|asked| asked.connection), Some(4));
}

#[test]
fn a_connection_that_is_lost_is_judged_by_the_rules_of_retries() {
    let dying = Origin::start(|_| Does::Dies);
    let good = Origin::start(says("good"));
    let web = start(&[&dying, &good], "policy: round_robin");
    let mut client = Http2Client::connect(web.address);
    let keys: Vec<_> = (0..10).map(|_| client.request("GET", "/", true, &[])).collect();
    for key in keys {
        assert_eq!(client.answer(key).status, 200);
    }
    assert!(dying.asked_count() > 0);
}

#[test]
fn an_answer_that_nobody_takes_holds_up_no_other() {
    let origin = Origin::with(Config { connection_window: 1 << 20, ..CONFIG }, |asked| match asked
        .field(":path")
    {
        Some("/large") => Does::Answers(vec![b'x'; 50_000_000]),
        _ => Does::Answers(b"small".to_vec()),
    });
    let web = start(&[&origin], "");
    let mut stuck = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(web.address);
        client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(client.head().unwrap().status, 200);
        stuck.push(client);
    }
    let mut client = Client::connect(web.address);
    for _ in 0..50 {
        client.send("GET /small HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(client.response().unwrap().text(), "small");
    }
    assert!(origin.asked.lock().unwrap().iter().all(|asked| asked.connection == 0));
    // What waits for the twenty is within the windows: 128 KiB each, and some for their sockets.
    assert!(web.program.resident_kib() < 100 * 1024, "{} KiB", web.program.resident_kib());
}

#[test]
fn old_and_much_used_connections_end_in_order() {
    let origin = Origin::start(says("ok"));
    let web = start(&[&origin], "pool: { requests_max: 4 }");
    let mut client = Client::connect(web.address);
    for _ in 0..10 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(client.response().unwrap().status, 200);
    }
    let last = origin.asked.lock().unwrap().last().map(|asked| asked.connection);
    assert_eq!(last, Some(2));
    until("the used ones say so", || {
        origin.goodbyes.load(std::sync::atomic::Ordering::SeqCst) >= 2
    });
    // One that nobody uses ends as well.
    let origin = Origin::start(says("ok"));
    let web = start(&[&origin], "pool: { idle_timeout: 1s }");
    assert_eq!(Client::get(web.address, "/").status, 200);
    until("it is closed", || origin.goodbyes.load(std::sync::atomic::Ordering::SeqCst) == 1);
    assert_eq!(Client::get(web.address, "/").status, 200);
}

#[test]
fn a_connection_without_a_sign_of_life_is_left() {
    // Says what HTTP/2 begins with, and nothing more.
    let mute = Replica::raw(|connection| {
        connection.send(b"\0\0\0\x04\0\0\0\0\0").unwrap();
        while connection.fill().is_some() {}
    });
    let good = Origin::start(says("good"));
    let web = Web::start(
        &[&mute, &good.replica],
        "",
        "protocol: h2c\npolicy: round_robin\npool: { ping_interval: 1s, ping_timeout: 1s }",
    );
    let mut client = Http2Client::connect(web.address);
    let keys: Vec<_> = (0..4).map(|_| client.request("GET", "/", true, &[])).collect();
    for key in keys {
        assert_eq!(client.answer(key).status, 200);
    }
    let received = mute.received();
    assert!(received.windows(4).any(|bytes| bytes == b"\x08\x06\0\0"), "it was asked");
}

#[test]
fn an_endpoint_of_http_1_is_told_apart() {
    let replica = Replica::named("one");
    let web = Web::start(&[&replica], "", H2C);
    let answer = Client::get(web.address, "/");
    assert_eq!(answer.status, 502);
    let silent = Replica::raw(|connection| while connection.fill().is_some() {});
    let web = Web::start(&[&silent], "", "protocol: h2c\ntimeouts: { connect: 300ms }");
    assert_eq!(Client::get(web.address, "/").status, 504);
}

#[test]
fn a_websocket_is_a_tunnel_in_a_stream() {
    let origin = Origin::start(|asked| match asked.field(":protocol") {
        Some("websocket") => Does::Tunnels,
        _ => Does::Resets(ErrorCode::PROTOCOL_ERROR),
    });
    let web = start(&[&origin], "");
    // From a client of HTTP/1.1.
    let mut client = Client::connect(web.address);
    client
        .send("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        .unwrap();
    let head = client.head().unwrap();
    assert_eq!(head.status, 101);
    assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    for text in ["hello", "again"] {
        client.send(text).unwrap();
        assert_eq!(client.take(5).unwrap(), text.as_bytes());
    }
    // From one of HTTP/2.
    let mut client = Http2Client::connect(web.address);
    let key = client.websocket("/chat");
    assert_eq!(client.status(key), 200);
    client.data(key, b"hello", false);
    assert_eq!(client.take(key, 5), b"hello");
    client.data(key, b"", true);
    assert_eq!(client.answer(key).reset, None);
    let asked = origin.asked.lock().unwrap();
    for asked in asked.iter() {
        assert_eq!(asked.field(":method"), Some("CONNECT"));
        assert_eq!(asked.field("sec-websocket-version"), Some("13"));
        assert_eq!(asked.field("sec-websocket-key"), None);
    }
    assert_eq!((asked.len(), asked[1].connection), (2, 0));
}

#[test]
fn without_rfc_8441_a_websocket_goes_by_http_1() {
    // Speaks both, as the first bytes say, and has no tunnels in HTTP/2.
    let inner = Replica::raw(|connection| {
        let Some(seen) = connection.head() else { return };
        if seen.line().starts_with("PRI ") {
            connection.send(b"\0\0\0\x04\0\0\0\0\0").unwrap();
            while connection.fill().is_some() {}
            return;
        }
        assert_eq!(seen.header("upgrade"), Some("websocket"));
        connection
            .send("HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            .unwrap();
        while let Some(bytes) = connection.take_some(100) {
            connection.send(bytes).unwrap();
        }
    });
    let web = Web::start(&[&inner], "", H2C);
    let mut client = Client::connect(web.address);
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .unwrap();
    assert_eq!(client.head().unwrap().status, 101);
    client.send("hello").unwrap();
    assert_eq!(client.take(5).unwrap(), b"hello");
}

#[test]
fn garbage_after_a_good_beginning_is_the_endpoints_fault() {
    let replica = Replica::raw(|connection| {
        connection.send(b"\0\0\0\x04\0\0\0\0\0").unwrap();
        // The request's head is behind preface, SETTINGS, and what else the start has.
        while connection.fill().is_some() {
            let _ = connection.send(b"\0\0\x04\x05\x04\0\0\0\x01\0\0\0\x02");
        }
    });
    let web = Web::start(&[&replica], "", "protocol: h2c\nretry: { attempts: 0 }");
    // Garbage that is there before the request has gone out makes it an endpoint that cannot be had.
    let status = Client::get(web.address, "/").status;
    assert!([502, 503].contains(&status), "{status}");
}

#[test]
fn a_drained_endpoint_keeps_its_requests_and_gets_no_other() {
    let origins = [Origin::start(|_| Does::Waits), Origin::start(says("b"))];
    let web = start(&[&origins[0], &origins[1]], "policy: round_robin\ndrain_grace: 30s");
    let mut client = Http2Client::connect(web.address);
    let held: Vec<_> = (0..2).map(|_| client.request("GET", "/", true, &[])).collect();
    until("one waits", || origins[0].asked_count() == 1);
    let id = origins[0].address().to_string();
    let (done, said) = web.program.verb(&["drain", "app", &id]);
    assert!(done, "{said}");
    for _ in 0..20 {
        let key = client.request("GET", "/", true, &[]);
        assert_eq!(client.answer(key).status, 200);
    }
    assert_eq!((origins[0].asked_count(), web.in_flight()), (1, 1));
    drop((client, held));
    until("it has nothing", || web.in_flight() == 0);
}

#[test]
fn hedges_go_over_http2_as_well() {
    let slow = Origin::start(|_| Does::Waits);
    let good = Origin::start(says("good"));
    let web = start(&[&slow, &good], "policy: round_robin\nhedge: { after: 50ms, budget: 100% }");
    let mut client = Http2Client::connect(web.address);
    for _ in 0..4 {
        let key = client.request("GET", "/", true, &[]);
        assert_eq!(client.answer(key).status, 200);
    }
    // Who lost is told to stop.
    until("the losers are cancelled", || {
        slow.asked_count() > 0 && slow.resets.lock().unwrap().len() == slow.asked_count()
    });
}

#[test]
fn health_checks_speak_what_traffic_does() {
    let origin = Origin::start(|asked| match asked.field("user-agent") {
        Some("evenkeel-health") => Does::Answers(b"fine".to_vec()),
        _ => Does::Answers(b"traffic".to_vec()),
    });
    let ill = Origin::start(|_| Does::Resets(ErrorCode::INTERNAL_ERROR));
    let service = "health: { http: /healthz, interval: 100ms, unhealthy_after: 1 }";
    let web = start(&[&origin, &ill], service);
    until("the ill one was checked", || ill.asked_count() > 3);
    assert_eq!(web.program.count("app", "healthy"), 1);
    assert_eq!(Client::get(web.address, "/").text(), "traffic");
    let asked = origin.asked.lock().unwrap();
    let check = asked.iter().find(|asked| asked.field(":path") == Some("/healthz")).unwrap();
    assert_eq!(check.field(":scheme"), Some("http"));
}

#[test]
fn a_client_that_goes_away_leaves_no_stream_behind() {
    let origin = Origin::start(|_| Does::Answers(vec![b'x'; 10_000_000]));
    let web = start(&[&origin], "");
    for _ in 0..20 {
        let mut stream = TcpStream::connect(web.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut some = [0; 1000];
        stream.read_exact(&mut some).unwrap();
    }
    until("none is in flight", || web.in_flight() == 0);
    until("all were cancelled", || origin.resets.lock().unwrap().len() == 20);
    assert_eq!(origin.asked.lock().unwrap().last().unwrap().connection, 0);
}
