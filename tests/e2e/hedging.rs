//! Requests that go to a second endpoint because the first takes long, and what responses say of
//! their endpoints.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::harness::program::Folder;
use super::harness::replica::ok;
use super::harness::wait::pause;
use super::harness::{Client, Evenkeel, Replica, Web, free_port, until};

/// How often something happened.
#[derive(Clone, Default)]
struct Count(Arc<AtomicUsize>);

impl Count {
    /// It is so many now.
    fn add(&self) -> usize {
        self.0.fetch_add(1, SeqCst) + 1
    }
    fn get(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// Answers `/quick`; of other requests it counts the ones that came, answers none, and counts
/// the connections on which it was given up.
fn stalling() -> (Replica, Count, Count) {
    let (asked, closed) = (Count::default(), Count::default());
    let counts = (asked.clone(), closed.clone());
    let replica = Replica::raw(move |connection| {
        while let Some(seen) = connection.request() {
            if seen.line().contains("/quick") {
                connection.send(ok("quick")).unwrap();
                continue;
            }
            counts.0.add();
            while connection.fill().is_some() {}
            counts.1.add();
        }
    });
    (replica, asked, closed)
}

/// Does so with each request when the test lets it: answers, or without an answer breaks off.
fn gated(answer: Option<Vec<u8>>) -> (Replica, Sender<()>) {
    let (go, gate): (Sender<()>, Receiver<()>) = channel();
    let gate = Mutex::new(gate);
    let replica = Replica::raw(move |connection| {
        while connection.request().is_some() {
            let _ = gate.lock().unwrap().recv();
            let Some(answer) = &answer else { return };
            if connection.send(answer).is_err() {
                return;
            }
        }
    });
    (replica, go)
}

/// Answers after this many pauses of the harness (5 ms and more each), and counts.
fn slow(pauses: u32, answer: Vec<u8>) -> (Replica, Count) {
    let count = Count::default();
    let asked = count.clone();
    let replica = Replica::http(move |_| {
        asked.add();
        (0..pauses).for_each(|_| pause());
        answer.clone()
    });
    (replica, count)
}

#[test]
fn what_one_replica_holds_up_another_answers() {
    let (stalling, asked, closed) = stalling();
    let good = Replica::named("good");
    let web =
        Web::start(&[&stalling, &good], "", "retry: off\nhedge: { after: 100ms, budget: 100% }");
    let mut client = Client::connect(web.address);
    let mut longest = Duration::ZERO;
    for n in 0..20 {
        let method = ["GET", "PUT"][n / 2 % 2];
        let begin = Instant::now();
        let body = "Content-Length: 5\r\n\r\nhello";
        client.send(format!("{method} / HTTP/1.1\r\nHost: h\r\n{body}")).unwrap();
        assert_eq!(client.response().unwrap().text(), "good", "{method} {n}");
        longest = longest.max(begin.elapsed());
    }
    // The replica would never have answered, and the first byte is waited for for a minute.
    assert!(longest < Duration::from_secs(10), "{longest:?}");
    let (hedges, won) = (web.count("hedges"), web.count("hedges_won"));
    until("the losers' connections closed", || {
        closed.get() == asked.get() && closed.get() as u64 >= won
    });
    until("nothing in flight", || web.in_flight() == 0);
    // All that the one held up; and perhaps some for which the other one needed longer, too.
    let stalled = asked.get() as u64;
    assert!(won >= 5 && won <= stalled && stalled <= hedges, "{won} {stalled} {hedges}");
    assert_eq!((web.count("hedges_denied"), web.count("retries")), (0, 0));
    let endpoint = &web.program.service("app")["endpoints"][0];
    assert_eq!(endpoint["failures"], 0, "what was cancelled is no failure");
    eprintln!("20 requests, {stalled} hedged, the longest took {longest:?}");
}

#[test]
fn the_moment_is_the_live_percentile() {
    let (stalling, asked, closed) = stalling();
    let good = Replica::named("good");
    let web = Web::start(&[&stalling, &good], "", "retry: off\nhedge: {}");
    let mut held_up = 0;
    until("one that was held up, and answered by the other", || {
        let mut client = Client::connect(web.address);
        for _ in 0..100 {
            client.send("GET /quick HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
            assert_eq!(client.response().unwrap().status, 200);
        }
        // The quantile is worked out ten times a second; a budget of 5 % has room for this few,
        // unless quick ones took it.
        (0..40).for_each(|_| pause());
        let mut client = Client::connect(web.address);
        client.stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        for _ in 0..2 {
            let before = asked.get();
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
            let Ok(answer) = client.response() else { break };
            assert_eq!(answer.text(), "good");
            held_up += asked.get() - before;
        }
        held_up > 0
    });
    until("the losers' connections closed", || closed.get() == asked.get());
    assert!(web.count("hedges") >= 1, "{}", web.program.service("app"));
}

#[test]
fn a_post_is_not_hedged_unless_the_configuration_says_so() {
    for (retry, hedged) in [("", false), ("retry: { non_idempotent: true }\n", true)] {
        let bodies = Count::default();
        let replica = || {
            let bodies = bodies.clone();
            Replica::http(move |seen| {
                assert_eq!(seen.body, b"hello");
                let number = bodies.add();
                if hedged {
                    until("the other one has it, too", || {
                        bodies.get() >= number.next_multiple_of(2)
                    });
                } else {
                    (0..20).for_each(|_| pause());
                }
                ok("done")
            })
        };
        let (a, b) = (replica(), replica());
        let service = format!("{retry}hedge: {{ after: 20ms, budget: 100% }}");
        let web = Web::start(&[&a, &b], "", &service);
        let mut client = Client::connect(web.address);
        // In chunks, too, as the replica reads them.
        for body in [
            "Content-Length: 5\r\n\r\nhello",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ] {
            client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{body}")).unwrap();
            assert_eq!(client.response().unwrap().text(), "done");
        }
        until("nothing in flight", || web.in_flight() == 0);
        assert_eq!(bodies.get(), if hedged { 4 } else { 2 });
        assert_eq!(web.count("hedges"), if hedged { 2 } else { 0 });
    }
}

#[test]
fn hedges_stay_within_their_budget() {
    let replicas = [slow(10, ok("a")), slow(10, ok("b"))];
    let web =
        Web::start(&[&replicas[0].0, &replicas[1].0], "", "hedge: { after: 10ms, budget: 10% }");
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                let mut client = Client::connect(web.address);
                for _ in 0..10 {
                    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
                    assert_eq!(client.response().unwrap().status, 200);
                }
            });
        }
    });
    until("nothing in flight", || web.in_flight() == 0);
    let asked: usize = replicas.iter().map(|(_, count)| count.get()).sum();
    let hedges = web.count("hedges");
    // Two workers may both get the last one.
    assert!((5..=14).contains(&hedges), "{hedges}");
    assert!(asked as u64 <= 100 + hedges, "{asked} requests for 100, with {hedges} hedges");
    assert!(web.count("hedges_denied") > 50, "{}", web.program.service("app"));
    eprintln!("100 requests, {asked} at the replicas, {hedges} hedges, budget 10 %");
}

#[test]
fn a_fast_failure_does_not_win() {
    let error = b"HTTP/1.1 500 Oh\r\nContent-Length: 3\r\n\r\nbad".to_vec();
    let (bad, failures) = slow(0, error);
    // In each round, once the bad one was asked, and some pauses later.
    let round = Count::default();
    let steady = Replica::http({
        let (round, failures) = (round.clone(), failures.clone());
        move |_| {
            until("the other one's failure", || failures.get() >= round.get());
            (0..30).for_each(|_| pause());
            ok("steady")
        }
    });
    let web = Web::start(&[&steady, &bad], "", "retry: off\nhedge: { after: 200ms, budget: 100% }");
    let mut client = Client::connect(web.address);
    let mut answers = Vec::new();
    for _ in 0..6 {
        round.add();
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        answers.push(client.response().unwrap().text());
    }
    let (hedges, won) = (web.count("hedges") as usize, web.count("hedges_won") as usize);
    // The steady one won where the bad one was late.
    assert!(hedges > won, "{}", web.program.service("app"));
    let steady = answers.iter().filter(|answer| *answer == "steady").count();
    assert_eq!(steady, hedges, "{answers:?}");
    until("nothing in flight", || web.in_flight() == 0);
}

#[test]
fn the_second_answers_when_the_first_breaks_off_meanwhile() {
    let (breaking, break_off) = gated(None);
    let (steady, answer) = gated(Some(ok("steady")));
    // Both are at it, and then one of them is.
    let begin = |web: &Web, break_off: &Sender<()>| {
        let mut client = Client::connect(web.address);
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        until("both are at it", || web.in_flight() == 2);
        break_off.send(()).unwrap();
        until("the one has broken off", || web.in_flight() == 1);
        client
    };
    let web =
        Web::start(&[&breaking, &steady], "", "retry: off\nhedge: { after: 20ms, budget: 100% }");
    for _ in 0..4 {
        let mut client = begin(&web, &break_off);
        answer.send(()).unwrap();
        assert_eq!(client.response().unwrap().text(), "steady");
    }
    let endpoint = &web.program.service("app")["endpoints"][0];
    assert!(endpoint["failures"].as_u64().unwrap() > 0, "it is held against the one: {endpoint}");
    // Both break: the client is told.
    let (other, break_other_off) = gated(None);
    let web =
        Web::start(&[&breaking, &other], "", "retry: off\nhedge: { after: 20ms, budget: 100% }");
    let mut client = begin(&web, &break_off);
    break_other_off.send(()).unwrap();
    assert_eq!(client.response().unwrap().status, 502);
    assert_eq!(web.count("hedges"), 1);
    until("nothing in flight", || web.in_flight() == 0);
}

#[test]
fn a_client_that_leaves_ends_both_attempts() {
    let (first, _, first_closed) = stalling();
    let (second, _, second_closed) = stalling();
    let web =
        Web::start(&[&first, &second], "", "retry: off\nhedge: { after: 20ms, budget: 100% }");
    let mut client = Client::connect(web.address);
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    until("both were asked", || web.in_flight() == 2);
    super::harness::replica::reset_on_close(&client.stream);
    drop(client);
    until("both were given up", || first_closed.get() == 1 && second_closed.get() == 1);
    until("nothing in flight", || web.in_flight() == 0);
    // The time-out of the whole ends both, too.
    let web = Web::start(
        &[&first, &second],
        "",
        "retry: off\ntimeouts: { total: 4s }\nhedge: { after: 20ms, budget: 100% }",
    );
    assert_eq!(Client::get(web.address, "/").status, 504);
    until("both were given up", || first_closed.get() == 2 && second_closed.get() == 2);
    until("nothing in flight", || web.in_flight() == 0);
}

/// Either of the two endpoints may leave while both are at it: the other one answers.
#[test]
fn an_endpoint_that_leaves_ends_its_attempt_alone() {
    for stalls_first in [true, false] {
        let (stalling, _, closed) = stalling();
        let (steady, answer) = gated(Some(ok("steady")));
        let replicas = if stalls_first { [&stalling, &steady] } else { [&steady, &stalling] };
        let service = "retry: off\ndrain_grace: 0s\nhedge: { after: 20ms, budget: 100% }";
        let web = Web::start(&replicas, "", service);
        let mut client = Client::connect(web.address);
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        until("both are at it", || web.in_flight() == 2);
        let path = format!("/v1/services/app/endpoints/{}/drain", stalling.address);
        assert_eq!(web.program.call("POST", &path, "").status, 200);
        until("the one was given up", || closed.get() == 1);
        until("the other goes on alone", || web.in_flight() == 1);
        answer.send(()).unwrap();
        assert_eq!(client.response().unwrap().text(), "steady", "{stalls_first}");
        until("nothing in flight", || web.in_flight() == 0);
        assert_eq!(web.count("hedges_won"), u64::from(stalls_first));
        // The connection goes on.
        answer.send(()).unwrap();
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!(client.response().unwrap().text(), "steady");
    }
}

#[test]
fn the_access_log_tells_of_hedges_and_who_won() {
    let (stalling, ..) = stalling();
    let good = Replica::named("good");
    let folder = Folder::new();
    let (log, port) = (folder.join("access.log"), free_port());
    let _program = Evenkeel::run(&format!(
        "access_log: {{ file: {} }}\n\
         listeners: {{ web: {{ bind: 127.0.0.1:{port}, service: app }} }}\n\
         services:\n  app:\n    health: off\n    hedge: {{ after: 500ms, budget: 100% }}\n    \
           endpoints: [{{ address: {}, id: stalling }}, {{ address: {}, id: good }}]\n",
        log.display(),
        stalling.address,
        good.address,
    ));
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    for _ in 0..2 {
        assert_eq!(Client::get(address, "/").text(), "good");
        assert_eq!(Client::get(address, "/quick").status, 200);
    }
    until("four lines", || fs::read_to_string(&log).is_ok_and(|text| text.lines().count() == 4));
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (hedged, alone): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["hedged"] == true);
    assert!(hedged.iter().any(|line| line["path"] == "/"), "{text}");
    for line in hedged {
        assert_eq!((&line["attempts"], &line["status"]), (&2.into(), &200.into()));
        assert!(line["path"] != "/" || line["endpoint"] == "good", "{line}");
    }
    // Only what is held up for half a second has a second attempt.
    assert!(alone.iter().any(|line| line["path"] == "/quick"), "{text}");
    for line in alone {
        assert!(line.get("hedged").is_none() && line["attempts"] == 1, "{line}");
    }
}

#[test]
fn what_a_response_says_of_its_endpoint_is_kept_and_not_passed_on() {
    let replica = Replica::http(|seen| {
        match seen.line().split(' ').nth(1) {
        Some("/busy") => b"HTTP/1.1 503 Busy\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n".into(),
        Some("/bin") => b"HTTP/1.1 200 OK\r\nendpoint-load-metrics-bin: CQAAAAAAAOA/\r\nContent-Length: 0\r\n\r\n".into(),
        Some("/trailer") => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nendpoint-load-metrics: TEXT mem_utilization=0.25\r\n\r\n".into(),
        _ => b"HTTP/1.1 200 OK\r\nEndpoint-Load-Metrics: TEXT cpu_utilization=0.3,mem_utilization=0.8,application_utilization=1.25\r\nX-Other: 1\r\nContent-Length: 0\r\n\r\n".into(),
    }
    });
    let web = Web::start(&[&replica], "", "retry: off");
    let endpoint = || web.program.service("app")["endpoints"][0].clone();
    assert!(endpoint().get("utilization").is_none() && endpoint().get("resting").is_none());
    let response = Client::get(web.address, "/");
    assert_eq!(response.header("endpoint-load-metrics"), None, "{}", response.head);
    assert_eq!(response.header("x-other"), Some("1"));
    let said = serde_json::json!({ "cpu": 0.3, "memory": 0.8, "application": 1.25 });
    until("its utilization is known", || endpoint()["utilization"] == said);
    let response = Client::get(web.address, "/bin");
    assert_eq!(response.header("endpoint-load-metrics-bin"), None, "{}", response.head);
    let said = serde_json::json!({ "cpu": 0.5 });
    until("the latest report counts", || endpoint()["utilization"] == said);
    assert_eq!(Client::get(web.address, "/trailer").text(), "a");
    let said = serde_json::json!({ "memory": 0.25 });
    until("trailers count as well", || endpoint()["utilization"] == said);
    let response = Client::get(web.address, "/busy");
    assert_eq!((response.status, response.header("retry-after")), (503, Some("30")));
    until("it rests", || endpoint()["resting"] == true);
}
