//! Concurrency limits and queues: who waits, in which order, and who is turned away.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::harness::replica::ok;
use super::harness::{Client, Evenkeel, Replica, Response, Web, free_port, until};

/// A replica that answers each request, by its path, only when the test says so.
struct Gated {
    replica: Replica,
    /// Paths, in the order in which they came.
    arrived: Arc<Mutex<Vec<String>>>,
    go: Sender<()>,
}

impl Gated {
    fn new() -> Gated {
        let arrived: Arc<Mutex<Vec<String>>> = Arc::default();
        let (go, gate): (Sender<()>, Receiver<()>) = channel();
        let gate = Mutex::new(gate);
        let replica = Replica::http({
            let arrived = arrived.clone();
            move |seen| {
                let path = seen.line().split(' ').nth(1).unwrap_or_default().to_owned();
                arrived.lock().unwrap().push(path.clone());
                let _ = gate.lock().unwrap().recv();
                ok(&path)
            }
        });
        Gated { replica, arrived, go }
    }

    fn open(&self, count: usize) {
        (0..count).for_each(|_| self.go.send(()).unwrap());
    }

    fn arrived(&self) -> Vec<String> {
        self.arrived.lock().unwrap().clone()
    }

    fn until_arrived(&self, count: usize) {
        until(&format!("{count} at the replica"), || self.arrived().len() >= count);
    }
}

fn queued(program: &Evenkeel) -> u64 {
    program.service("app")["queue"]["queued"].as_u64().unwrap()
}

fn until_queued(program: &Evenkeel, count: u64) {
    until(&format!("{count} queued"), || queued(program) == count);
}

fn rejected(program: &Evenkeel, reason: &str) -> u64 {
    program.service("app")["queue"]["rejected"][reason].as_u64().unwrap()
}

/// A request on a connection of its own, whose answer comes later.
fn ask(address: SocketAddr, path: &str, header: &str) -> JoinHandle<Response> {
    let mut client = Client::connect(address);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{header}\r\n")).unwrap();
    std::thread::spawn(move || client.response().expect("an answer"))
}

fn text(answer: JoinHandle<Response>) -> (u16, String) {
    let response = answer.join().unwrap();
    (response.status, response.text())
}

const ONE: &str = "limits: { concurrency: 1 }\n";

#[test]
fn turns_come_in_order_and_the_queue_is_bounded() {
    for per in ["service", "endpoint"] {
        let gated = Gated::new();
        let service = format!("{ONE}queue: {{ per: {per}, max: 3, timeout: 60s }}");
        let web = Web::start(&[&gated.replica], "", &service);
        let mut answers = vec![ask(web.address, "/0", "")];
        gated.until_arrived(1);
        for number in 1..=3 {
            answers.push(ask(web.address, &format!("/{number}"), ""));
            until_queued(&web.program, number);
        }
        let full = Client::get(web.address, "/4");
        assert_eq!((full.status, full.header("retry-after")), (503, Some("1")), "{per}");
        assert_eq!(rejected(&web.program, "queue_full"), 1);
        assert_eq!(gated.arrived(), ["/0"], "one at the same time");
        gated.open(4);
        for (number, answer) in answers.into_iter().enumerate() {
            assert_eq!(text(answer), (200, format!("/{number}")), "{per}");
        }
        assert_eq!(gated.arrived(), ["/0", "/1", "/2", "/3"], "{per}");
        assert_eq!(queued(&web.program), 0);
        let metrics = Client::get(web.program.admin, "/metrics").text();
        for line in [
            "evenkeel_service_queue_duration_seconds_count{service=\"app\"} 3",
            "evenkeel_service_rejected_total{service=\"app\",reason=\"queue_full\"} 1",
            "evenkeel_service_queued{service=\"app\"} 0",
        ] {
            assert!(metrics.contains(line), "{line}\n{metrics}");
        }
    }
}

#[test]
fn without_a_queue_a_full_service_says_so() {
    let gated = Gated::new();
    let web = Web::start(&[&gated.replica], "", ONE);
    let first = ask(web.address, "/0", "");
    gated.until_arrived(1);
    let full = Client::get(web.address, "/1");
    assert_eq!((full.status, full.header("retry-after")), (503, Some("1")));
    gated.open(2);
    assert_eq!(text(first).0, 200);
    assert_eq!(Client::get(web.address, "/2").status, 200);
    assert_eq!(rejected(&web.program, "concurrency"), 1);
}

#[test]
fn a_digit_in_a_header_says_whose_turn_comes_first() {
    let gated = Gated::new();
    let service = format!("{ONE}queue: {{ timeout: 60s, priority: header:x-priority }}");
    let web = Web::start(&[&gated.replica], "", &service);
    let mut answers = vec![ask(web.address, "/0", "")];
    gated.until_arrived(1);
    for (number, priority) in ["9", "urgent", "2", "0", "55", "-1"].into_iter().enumerate() {
        let header = format!("X-Priority: {priority}\r\n");
        answers.push(ask(web.address, &format!("/{priority}"), &header));
        until_queued(&web.program, number as u64 + 1);
    }
    gated.open(7);
    answers.into_iter().for_each(|answer| assert_eq!(text(answer).0, 200));
    assert_eq!(gated.arrived(), ["/0", "/0", "/2", "/urgent", "/55", "/-1", "/9"]);
}

#[test]
fn a_wait_ends_in_time_and_is_logged() {
    let gated = Gated::new();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let program = Evenkeel::run(&format!(
        "workers: 1\naccess_log: stdout\nlisteners: {{ web: {{ bind: {address}, service: app }} }}\n\
         services:\n  app:\n    endpoints: [ {} ]\n    health: off\n    {ONE}    queue: {{ timeout: 300ms }}\n",
        gated.replica.address
    ));
    let first = ask(address, "/0", "");
    gated.until_arrived(1);
    let late = Client::get(address, "/1");
    assert_eq!((late.status, late.header("retry-after")), (503, Some("1")));
    assert_eq!((rejected(&program, "queue_timeout"), queued(&program)), (1, 0));
    gated.open(1);
    assert_eq!(text(first).0, 200);
    assert_eq!(gated.arrived(), ["/0"], "what was answered is not sent on");
    until("both in the log", || {
        let log = program.log();
        log.contains("\"error\":\"queue time-out\"") && log.contains("\"path\":\"/0\"")
    });
    let log = program.log();
    let line = log.lines().find(|line| line.contains("queue time-out")).unwrap();
    let entry: serde_json::Value = serde_json::from_str(line).unwrap();
    let queue_ms = entry["queue_ms"].as_u64().unwrap();
    assert!((200..5000).contains(&queue_ms), "{line}");
    let served = log.lines().find(|line| line.contains("\"path\":\"/0\"")).unwrap();
    assert!(!served.contains("queue_ms"), "{served}");
}

#[test]
fn a_client_that_leaves_gives_its_place_back() {
    let gated = Gated::new();
    let service = format!("{ONE}queue: {{ max: 2, timeout: 60s }}");
    let web = Web::start(&[&gated.replica], "", &service);
    let first = ask(web.address, "/0", "");
    gated.until_arrived(1);
    let mut gone = Client::connect(web.address);
    gone.send("GET /gone HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    until_queued(&web.program, 1);
    let second = ask(web.address, "/1", "");
    until_queued(&web.program, 2);
    assert_eq!(Client::get(web.address, "/full").status, 503);
    drop(gone);
    until_queued(&web.program, 1);
    let third = ask(web.address, "/2", "");
    until_queued(&web.program, 2);
    gated.open(3);
    for answer in [first, second, third] {
        assert_eq!(text(answer).0, 200);
    }
    assert_eq!(gated.arrived(), ["/0", "/1", "/2"]);
    until("nothing in flight", || web.in_flight() == 0);
}

#[test]
fn a_new_endpoint_serves_who_waits() {
    let (old, new) = (Gated::new(), Gated::new());
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = |endpoints: &str| {
        format!(
            "workers: 2\nlisteners: {{ web: {{ bind: {address}, service: app }} }}\n\
             services:\n  app:\n    endpoints: [ {endpoints} ]\n    health: {{ interval: 100ms }}\n    \
             {ONE}    queue: {{ timeout: 60s }}\n"
        )
    };
    let one = old.replica.address.to_string();
    let program = Evenkeel::run(&config(&one));
    let first = ask(address, "/0", "");
    old.until_arrived(1);
    let second = ask(address, "/1", "");
    until_queued(&program, 1);
    program.reconfigure(&config(&format!("{one}, {}", new.replica.address)));
    new.until_arrived(1);
    new.open(1);
    assert_eq!(text(second), (200, "/1".into()));
    old.open(1);
    assert_eq!(text(first), (200, "/0".into()));
}

#[test]
fn a_drain_loses_nothing_that_waits() {
    for per in ["service", "endpoint"] {
        let (a, b) = (Gated::new(), Gated::new());
        let service = format!("{ONE}queue: {{ per: {per}, timeout: 60s }}");
        let web = Web::start(&[&a.replica, &b.replica], "", &service);
        let mut answers: Vec<_> =
            (0..2).map(|number| ask(web.address, &format!("/{number}"), "")).collect();
        a.until_arrived(1);
        b.until_arrived(1);
        for number in 2..8 {
            answers.push(ask(web.address, &format!("/{number}"), ""));
            until_queued(&web.program, number - 1);
        }
        let (drained, said) = web.program.verb(&["drain", "app", &a.replica.address.to_string()]);
        assert!(drained, "{said}");
        a.open(1);
        b.open(7);
        for (number, answer) in answers.into_iter().enumerate() {
            assert_eq!(text(answer), (200, format!("/{number}")), "{per}");
        }
        assert_eq!((a.arrived().len(), b.arrived().len()), (1, 7), "{per}");
    }
}

/// The kernel gives each connection to one of two workers; those of both wait in one line.
#[test]
fn two_workers_share_one_queue() {
    let gated = Gated::new();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let program = Evenkeel::run(&format!(
        "workers: 2\nlisteners: {{ web: {{ bind: {address}, service: app }} }}\n\
         services:\n  app:\n    endpoints: [ {} ]\n    health: off\n    {ONE}    queue: {{ timeout: 60s }}\n",
        gated.replica.address
    ));
    const COUNT: usize = 40;
    let mut answers = vec![ask(address, "/0", "")];
    gated.until_arrived(1);
    for number in 1..COUNT {
        answers.push(ask(address, &format!("/{number}"), ""));
        until_queued(&program, number as u64);
    }
    gated.open(COUNT);
    answers.into_iter().for_each(|answer| assert_eq!(text(answer).0, 200));
    let expected: Vec<String> = (0..COUNT).map(|number| format!("/{number}")).collect();
    assert_eq!(gated.arrived(), expected, "in the order of their arrival, whoever carries them");
}

#[test]
fn streams_wait_as_well() {
    let replica = Replica::raw(|connection| {
        while let Some(line) = connection.line() {
            if connection.send(format!("{line}\r\n")).is_err() {
                return;
            }
        }
    });
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let program = Evenkeel::run(&format!(
        "listeners: {{ echo: {{ bind: {address}, protocol: tcp, service: app }} }}\n\
         services:\n  app:\n    endpoints: [ {} ]\n    health: off\n    {ONE}    queue: {{ max: 1, timeout: 60s }}\n",
        replica.address
    ));
    let mut first = Client::connect(address);
    first.send("one\r\n").unwrap();
    assert_eq!(first.line().unwrap(), "one");
    let mut second = Client::connect(address);
    second.send("two\r\n").unwrap();
    until_queued(&program, 1);
    let mut third = std::net::TcpStream::connect(address).unwrap();
    let mut rest = Vec::new();
    assert!(third.read_to_end(&mut rest).is_err(), "there is no place: reset");
    drop(first);
    assert_eq!(second.line().unwrap(), "two", "what it sent was kept");
    until_queued(&program, 0);
}

#[test]
fn limits_of_the_service_break_the_circuit() {
    let gated = Gated::new();
    let web = Web::start(&[&gated.replica], "", "limits: { requests: 2 }");
    let answers = [ask(web.address, "/0", ""), ask(web.address, "/1", "")];
    gated.until_arrived(2);
    let full = Client::get(web.address, "/2");
    assert_eq!((full.status, full.header("retry-after")), (503, Some("1")));
    gated.open(3);
    let bodies: BTreeSet<String> = answers.into_iter().map(|answer| text(answer).1).collect();
    assert_eq!(bodies.len(), 2);
    assert_eq!(Client::get(web.address, "/3").status, 200);
    assert_eq!(rejected(&web.program, "requests"), 1);
}

#[test]
fn a_stop_serves_who_waits_and_tells_the_rest_when_its_grace_is_over() {
    let gated = Gated::new();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut program = Evenkeel::run(&format!(
        "stop_grace: 3s\nlisteners: {{ web: {{ bind: {address}, service: app }} }}\n\
         services:\n  app:\n    endpoints: [ {} ]\n    health: off\n    {ONE}    queue: {{ timeout: 60s }}\n",
        gated.replica.address
    ));
    let first = ask(address, "/0", "");
    gated.until_arrived(1);
    let second = ask(address, "/1", "");
    until_queued(&program, 1);
    let third = ask(address, "/2", "");
    until_queued(&program, 2);
    program.signal("TERM");
    gated.open(1);
    assert_eq!(text(first), (200, "/0".into()));
    gated.until_arrived(2);
    // Neither the one in flight nor the one that waits is left without an answer.
    let answers = [second, third].map(|answer| answer.join().unwrap());
    assert_eq!(answers.map(|answer| answer.status), [503, 503]);
    assert_eq!(program.wait_exit(), Some(0), "{}", program.log());
    // Workers notice the end within a tenth of a second of each other: one that notices it first
    // may free the slot for who waits at another.
    assert_eq!(gated.arrived()[..2], ["/0", "/1"]);
}

/// An upgraded connection holds its slot for as long as it lives, however it ends.
#[test]
fn a_tunnel_holds_its_slot_until_it_ends() {
    const UPGRADE: &str =
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    let replica = Replica::raw(|connection| {
        while let Some(line) = connection.line() {
            let answer = match line.as_str() {
                "" => {
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
                }
                "end" => return,
                "echo" => "echo\r\n",
                _ => continue,
            };
            if connection.send(answer).is_err() {
                return;
            }
        }
    });
    let listener = "timeouts: { stream_idle: 5s }";
    let web = Web::start(&[&replica], listener, &format!("{ONE}queue: {{ timeout: 60s }}"));
    let open = || {
        let mut tunnel = Client::connect(web.address);
        tunnel.send(UPGRADE).unwrap();
        tunnel
    };
    let works = |tunnel: &mut Client| {
        while !tunnel.line().expect("the head of a 101").is_empty() {}
        tunnel.send("echo\r\n").unwrap();
        assert_eq!(tunnel.line().unwrap(), "echo");
    };
    let mut tunnel = open();
    works(&mut tunnel);
    for end in ["client", "replica", "idle"] {
        let mut next = open();
        until_queued(&web.program, 1);
        match end {
            "client" => drop(tunnel),
            "replica" => tunnel.send("end\r\n").unwrap(),
            _ => {}
        }
        works(&mut next);
        tunnel = next;
    }
    drop(tunnel);
    until("nothing in flight", || web.in_flight() == 0);
}

/// The endpoint closes a kept-alive connection when the next request is on it: that one is sent
/// again in the place that it has, and not behind who came later.
#[test]
fn a_stale_connection_costs_nobody_its_place() {
    let arrived: Arc<Mutex<Vec<String>>> = Arc::default();
    let (go, gate): (Sender<()>, Receiver<()>) = channel();
    let gate = Mutex::new(gate);
    let replica = Replica::raw({
        let arrived = arrived.clone();
        move |connection| {
            let mut is_first = true;
            while let Some(seen) = connection.request() {
                let path = seen.line().split(' ').nth(1).unwrap_or_default().to_owned();
                arrived.lock().unwrap().push(path.clone());
                if path == "/stale" && !is_first {
                    let _ = gate.lock().unwrap().recv();
                    return;
                }
                is_first = false;
                if connection.send(ok(&path)).is_err() {
                    return;
                }
            }
        }
    });
    let service = format!("{ONE}queue: {{ max: 1, timeout: 60s }}\nretry: off");
    let web = Web::start(&[&replica], "", &service);
    let mut client = Client::connect(web.address);
    client.send("GET /first HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().text(), "/first");
    client.send("GET /stale HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    until("the second on its connection", || arrived.lock().unwrap().len() == 2);
    let waits = ask(web.address, "/waits", "");
    until_queued(&web.program, 1);
    go.send(()).unwrap();
    assert_eq!(client.response().unwrap().text(), "/stale");
    assert_eq!(text(waits), (200, "/waits".to_owned()));
    assert_eq!(*arrived.lock().unwrap(), ["/first", "/stale", "/stale", "/waits"]);
}
