//! Requests that another endpoint answers when the first fails them, and those that none may.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use crate::e2e::harness::replica::ok;
use crate::e2e::harness::{Client, Replica, Seen, Web, free_port, until};

const POST: &str =
    "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";

/// Reads whole requests and closes without a word.
fn mute() -> Replica {
    Replica::raw(|connection| {
        connection.request();
    })
}

/// Keeps what it is asked, and answers with the body's length.
fn counting() -> (Replica, Arc<Mutex<Vec<Seen>>>) {
    let all: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let seen = all.clone();
    let replica = Replica::http(move |request| {
        seen.lock().unwrap().push(request.clone());
        ok(&request.body.len().to_string())
    });
    (replica, all)
}

#[test]
fn a_refused_connection_costs_no_request() {
    let good = Replica::named("good");
    let refusing = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let web = Web::before(&[refusing, good.address], "", "");
    let mut client = Client::connect(web.address);
    for n in 0..20 {
        let method = if n % 2 == 0 { "GET" } else { "POST" };
        client
            .send(format!("{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"))
            .unwrap();
        assert_eq!(client.response().unwrap().text(), "good");
    }
    let failures = web.program.service("app")["endpoints"][0]["failures"].as_u64().unwrap();
    assert!(failures > 0 && web.count("retries") == failures, "{}", web.program.service("app"));
    eprintln!(
        "20 requests, 0 failed; {failures} connections refused, {} retries",
        web.count("retries")
    );
}

#[test]
fn a_reset_before_the_answer_is_tried_elsewhere() {
    let (mute, good) = (mute(), Replica::named("good"));
    let web = Web::start(&[&mute, &good], "", "");
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        // One of two picks meets the one that fails, until it is taken out.
        for _ in 0..2 {
            let request = format!("{method} / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
            let mut client = Client::connect(web.address);
            client.send(request).unwrap();
            assert_eq!(client.response_to(method == "HEAD").unwrap().status, 200, "{method}");
        }
    }
    assert!(mute.connections() > 0 && web.count("retries") > 0);
}

#[test]
fn a_post_that_was_sent_is_not_repeated() {
    let (mute, (good, seen)) = (mute(), counting());
    let web = Web::start(&[&mute, &good], "", "");
    let statuses: Vec<u16> =
        (0..2).map(|_| Client::exchange(web.address, POST).unwrap().status).collect();
    assert!(statuses.contains(&502) && statuses.contains(&200), "{statuses:?}");
    assert_eq!(mute.received().windows(5).filter(|bytes| bytes == b"hello").count(), 1);
    assert_eq!(seen.lock().unwrap().len(), 1);
    assert_eq!(web.count("retries"), 0);
}

#[test]
fn a_post_is_repeated_when_the_configuration_says_so() {
    let (mute, (good, seen)) = (mute(), counting());
    let web = Web::start(&[&mute, &good], "", "retry: { non_idempotent: true }");
    for _ in 0..2 {
        assert_eq!(Client::exchange(web.address, POST).unwrap().status, 200);
    }
    assert!(seen.lock().unwrap().iter().all(|request| request.body == b"hello"));
    assert!(mute.connections() > 0);
    assert_eq!(web.count("retries"), mute.connections() as u64);
}

/// The endpoint closes a kept-alive connection, as it may: that is no failure.
#[test]
fn a_stale_connection_costs_no_request() {
    let closed = Arc::new(AtomicUsize::new(0));
    let closing = closed.clone();
    let replica = Replica::raw(move |connection| {
        connection.request();
        let _ = connection.send(ok("a"));
        let _ = connection.stream.shutdown(std::net::Shutdown::Both);
        closing.fetch_add(1, SeqCst);
    });
    let web = Web::start(&[&replica], "", "retry: off");
    let mut client = Client::connect(web.address);
    for n in 0..20 {
        let method = ["GET", "POST"][n % 2];
        client
            .send(format!("{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"))
            .unwrap();
        assert_eq!(client.response().unwrap().text(), "a", "{method} {n}");
        until("the connection closed", || closed.load(SeqCst) == n + 1);
    }
    assert_eq!(replica.connections(), 20);
}

/// It closes just when the next request arrives: the request may be lost, and is not the
/// endpoint's failure either.
#[test]
fn a_connection_that_turns_stale_on_the_way_costs_no_request() {
    let replica = Replica::raw(|connection| {
        if connection.request().is_some() {
            let _ = connection.send(ok("a"));
            // The second is read, and never answered.
            connection.request();
        }
    });
    let web = Web::start(&[&replica], "", "retry: { attempts: 0 }");
    let mut client = Client::connect(web.address);
    for n in 0..10 {
        client.send(format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n")).unwrap();
        assert_eq!(client.response().unwrap().text(), "a", "{n}");
    }
    let endpoint = web.program.service("app")["endpoints"][0].clone();
    assert_eq!(
        (&endpoint["failures"], &endpoint["state"]),
        (&0.into(), &"healthy".into()),
        "{endpoint}"
    );
}

#[test]
fn a_body_is_replayed_whole_up_to_the_limit() {
    const LIMIT: usize = 64 * 1024;
    let (mute, (good, seen)) = (mute(), counting());
    let web = Web::start(&[&mute, &good], "", "retry: { replay_bytes: 64KiB }");
    for size in [1, 4096, 40_000, LIMIT - 1000] {
        let body: Vec<u8> = (0..size).map(|n| (n % 249) as u8).collect();
        for framing in ["length", "chunked"] {
            // Both are asked, one of the two by a retry if the endpoint that fails is picked.
            for _ in 0..2 {
                let mut client = Client::connect(web.address);
                if framing == "length" {
                    client
                        .send(format!(
                            "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n"
                        ))
                        .unwrap();
                    client.send(&body).unwrap();
                } else {
                    client.send(format!("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n")).unwrap();
                    client.send(&body).unwrap();
                    client.send("\r\n0\r\n\r\n").unwrap();
                }
                let response = client.response().unwrap();
                assert_eq!(
                    (response.status, response.text()),
                    (200, size.to_string()),
                    "{framing}"
                );
            }
        }
        assert!(seen.lock().unwrap().drain(..).all(|request| request.body == body), "{size}");
    }
    let replayed = web.count("retries");
    assert!(replayed > 0);
    // Beyond it there is nothing left to send.
    let web = Web::start(&[&mute, &good], "", "retry: { replay_bytes: 64KiB }");
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(web.address);
        client
            .send(format!("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", 4 * LIMIT))
            .unwrap();
        client.send(vec![b'x'; 4 * LIMIT]).unwrap();
        statuses.push(client.response().unwrap().status);
    }
    eprintln!("{replayed} bodies replayed; beyond the limit: {statuses:?}");
    assert_eq!(seen.lock().unwrap().len(), 1, "{statuses:?}");
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 502]);
}

#[test]
fn an_exhausted_budget_denies_retries() {
    let (mute, good) = (mute(), Replica::named("good"));
    let web = Web::start(&[&mute, &good], "", "retry: { budget: 0%, budget_min: 0 }");
    let statuses: Vec<u16> = (0..2).map(|_| Client::get(web.address, "/").status).collect();
    assert!(statuses.contains(&502) && statuses.contains(&200), "{statuses:?}");
    assert_eq!((web.count("retries"), web.count("retries_denied")), (0, 1));
}

#[test]
fn a_status_is_tried_elsewhere_when_the_configuration_says_so() {
    let busy = Replica::http(|_| {
        b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy".to_vec()
    });
    let good = Replica::named("good");
    let web = Web::start(&[&busy, &good], "", "retry: { on: [reset, 503] }");
    for _ in 0..6 {
        assert_eq!(Client::get(web.address, "/").text(), "good");
    }
    let post: Vec<u16> =
        (0..2).map(|_| Client::exchange(web.address, POST).unwrap().status).collect();
    assert!(web.count("retries") > 0 && busy.connections() > 0);
    eprintln!("{} retries; POST, which is not repeated: {post:?}", web.count("retries"));
    // The last one's answer is the client's.
    let alone = Web::start(&[&busy], "", "retry: { on: 503 }");
    let response = Client::get(alone.address, "/");
    assert_eq!((response.status, response.header("retry-after")), (503, Some("7")));
    assert_eq!(response.text(), "busy");
    // Without being told, a 503 is an answer like any other.
    let plain = Web::start(&[&busy, &good], "", "");
    let statuses: Vec<u16> = (0..2).map(|_| Client::get(plain.address, "/").status).collect();
    assert!(statuses.contains(&503) && statuses.contains(&200), "{statuses:?}");
}

#[test]
fn a_silent_endpoint_is_left_for_another_when_the_configuration_says_so() {
    let silent = Replica::raw(|connection| while connection.fill().is_some() {});
    let good = Replica::named("good");
    let service = "timeouts: { first_byte: 1s }\nretry: { on: first_byte_timeout }";
    let web = Web::start(&[&silent, &good], "", service);
    for _ in 0..2 {
        assert_eq!(Client::get(web.address, "/").text(), "good");
    }
    assert!(silent.connections() > 0);
    assert_eq!(web.count("retries"), silent.connections() as u64);
}

#[test]
fn no_more_attempts_are_made_than_allowed() {
    let replicas = [mute(), mute(), mute(), mute()];
    let all: Vec<&Replica> = replicas.iter().collect();
    for (attempts, expected) in [(0, 1), (1, 2), (3, 4)] {
        let web = Web::start(&all, "", &format!("retry: {{ attempts: {attempts} }}"));
        let before: usize = replicas.iter().map(Replica::connections).sum();
        assert_eq!(Client::get(web.address, "/").status, 502);
        let after: usize = replicas.iter().map(Replica::connections).sum();
        assert_eq!(after - before, expected, "{attempts} further attempts");
    }
}
