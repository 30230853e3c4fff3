//! The end: what is in flight is finished, nothing stays behind.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use super::harness::program::{BINARY, pids_with_env, signal};
use super::harness::{Client, Evenkeel, Response, free_port, until};

/// A service of three replicas that carry a mark by which they, and what they start, are found.
struct Marked {
    program: Evenkeel,
    http: SocketAddr,
    mark: String,
}

impl Marked {
    fn start(command: &str, run: &str, rest: &str) -> Marked {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let http = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let program = Evenkeel::run(&format!(
            "{rest}\n\
             listeners: {{ web: {{ bind: {http}, service: web }} }}\n\
             services:\n  web:\n    health: {{ http: /healthz, interval: 1s }}\n    \
             run: {{ command: {command}, replicas: 3, env: {{ MARK: {mark} }}, {run} }}\n"
        ));
        let marked = Marked { program, http, mark: format!("MARK={mark}") };
        until("three replicas", || marked.program.count("web", "healthy") == 3);
        marked
    }

    fn processes(&self) -> usize {
        pids_with_env(&self.mark).len()
    }

    /// Sends requests in threads of their own and waits until all are in flight.
    fn hold(&self, path: &'static str, count: u64) -> Vec<JoinHandle<std::io::Result<Response>>> {
        let http = self.http;
        let ask = move || {
            let mut client = Client::try_connect(http)?;
            client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))?;
            client.response()
        };
        let threads = (0..count).map(|_| std::thread::spawn(ask)).collect();
        until(&format!("{count} requests in flight"), || self.in_flight() >= count);
        threads
    }

    fn in_flight(&self) -> u64 {
        let service = self.program.service("web");
        let endpoints = service["endpoints"].as_array().unwrap();
        endpoints.iter().map(|e| e["in_flight"].as_u64().unwrap()).sum()
    }

    fn wait_nothing_left(&self) {
        until("the end of all replicas", || self.processes() == 0);
    }
}

const ECHO: &str = "[evenkeel, echo]";

#[test]
fn sigterm_finishes_what_is_in_flight() {
    let mut marked = Marked::start(ECHO, "", "");
    let http = marked.http;
    let mut idle = Client::connect(http);
    idle.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    assert_eq!(idle.response().unwrap().status, 200);
    // Some that ask as fast as they can until they are told to leave.
    let answered = std::sync::Arc::new(AtomicU64::new(0));
    let resting = std::sync::Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = (0..8)
        .map(|_| {
            std::thread::spawn({
                let (answered, resting) = (answered.clone(), resting.clone());
                move || ask_until_closed(http, &answered, &resting)
            })
        })
        .collect();
    until("they are busy", || answered.load(Relaxed) > 1000);
    // They rest while requests come that take long, so that these can be counted; then they go on.
    resting.store(true, Relaxed);
    until("their rest", || marked.in_flight() == 0);
    let slow = marked.hold("/delay/5000", 8);
    let before = answered.load(Relaxed);
    resting.store(false, Relaxed);
    until("they are busy again", || answered.load(Relaxed) > before);

    marked.program.signal("TERM");
    until("no new connection is taken", || TcpStream::connect(http).is_err());
    assert!(idle.is_closed(), "an idle connection is closed");
    let told: usize = busy.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum();
    for response in slow {
        let response = response.join().unwrap().expect("an answer to what was in flight");
        assert_eq!(response.status, 200, "{}", response.head);
        assert_eq!(response.header("connection"), Some("close"), "{}", response.head);
    }
    assert_eq!(marked.program.wait_exit(), Some(0), "{}", marked.program.log());
    assert_eq!(marked.processes(), 0, "replicas are gone before it is");
    let answered = answered.load(Relaxed);
    eprintln!("SIGTERM: 8 slow and {answered} quick answers whole, {told} of 8 told to leave");
}

/// Every answer that begins must be whole and good. A connection may end between two; then
/// the request that was perhaps on its way is the client's to repeat (RFC 9112 section 9.3.1).
/// Answers whether the end was announced.
fn ask_until_closed(http: SocketAddr, answered: &AtomicU64, resting: &AtomicBool) -> bool {
    let mut client = Client::connect(http);
    loop {
        until("the end of its rest", || !resting.load(Relaxed));
        if client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").is_err() {
            return false;
        }
        let Ok(first) = client.take(1) else { return false };
        assert_eq!(first, b"H");
        let response = client.response().expect("the rest of an answer that began");
        assert!(response.head.starts_with("TTP/1.1 200 "), "{}", response.head);
        answered.fetch_add(1, Relaxed);
        if response.header("connection") == Some("close") {
            return true;
        }
    }
}

#[test]
fn a_request_longer_than_the_grace_ends_with_it() {
    let mut marked = Marked::start(ECHO, "stop_grace: 500ms", "stop_grace: 1s");
    let long = marked.hold("/delay/300000", 2);
    marked.program.signal("TERM");
    assert_eq!(marked.program.wait_exit(), Some(0), "{}", marked.program.log());
    for response in long {
        let response = response.join().unwrap();
        // Cut off, or told so; but not left to hang.
        let status = response.as_ref().map_or(503, |response| response.status);
        assert_eq!(status, 503, "{response:?}");
        eprintln!("a request longer than the grace: {:?}", response.map(|r| r.head));
    }
    assert_eq!(marked.processes(), 0);
}

#[test]
fn a_second_signal_ends_at_once() {
    for second in ["TERM", "INT"] {
        let mut marked = Marked::start(ECHO, "", "");
        let long = marked.hold("/delay/300000", 2);
        marked.program.signal("TERM");
        until("it says so", || marked.program.log().contains("a second signal ends it at once"));
        marked.program.signal(second);
        // The grace is 30 s, and no longer waited for.
        assert_eq!(marked.program.wait_exit(), Some(1), "{}", marked.program.log());
        for response in long {
            assert!(response.join().unwrap().is_err());
        }
        marked.wait_nothing_left();
    }
}

#[test]
fn a_killed_balancer_leaves_nothing_behind() {
    let tame = format!("sleep 1000 & exec {BINARY} echo");
    // Deaf to SIGTERM, and so is its child.
    let deaf = format!("trap '' TERM; sleep 1000 & exec {BINARY} echo");
    for script in [tame, deaf] {
        let command = format!("[sh, -c, \"{script}\"]");
        let mut marked = Marked::start(&command, "stop_grace: 500ms", "");
        until("three replicas and three grandchildren", || marked.processes() == 6);
        marked.program.signal("KILL");
        let _ = marked.program.child.wait();
        marked.wait_nothing_left();
        eprintln!("kill -9 of the balancer: 6 of 6 processes gone ({script})");
    }
}

#[test]
fn grandchildren_go_with_an_orderly_stop_and_with_their_replica() {
    let command = format!("[sh, -c, \"sleep 1000 & exec {BINARY} echo\"]");
    let mut marked = Marked::start(&command, "stop_grace: 500ms", "");
    until("three replicas and three grandchildren", || marked.processes() == 6);
    let endpoint = marked.program.endpoint("web", "web-2");
    let port = endpoint["address"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    let both = pids_with_env(&format!("PORT={port}"));
    let replica = both.iter().copied().find(|pid| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        !command.starts_with(b"sleep")
    });
    signal(replica.expect("the replica"), "KILL");
    until("its child follows, and others take their place", || {
        let gone = both.iter().all(|pid| !pids_with_env(&marked.mark).contains(pid));
        gone && marked.processes() == 6 && marked.program.count("web", "healthy") == 3
    });
    marked.program.signal("TERM");
    assert_eq!(marked.program.wait_exit(), Some(0));
    assert_eq!(marked.processes(), 0);
}
