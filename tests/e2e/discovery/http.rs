//! `discover: { http: ... }`

use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::{answer, discovered, ports};
use crate::e2e::harness::pki::Pki;
use crate::e2e::harness::program::Folder;
use crate::e2e::harness::registrar::local;
use crate::e2e::harness::replica::Seen;
use crate::e2e::harness::{Client, Evenkeel, LOAD_SECONDS, Replica, Wrk, free_port, until};

/// What the server of lists does.
#[derive(Clone)]
struct Says {
    status: &'static str,
    body: String,
    index: u64,
    requests: Vec<Seen>,
}

struct Lists {
    says: Arc<(Mutex<Says>, Condvar)>,
    server: Replica,
}

impl Lists {
    /// It holds questions with an index that it has nothing newer than.
    fn start(body: String) -> Lists {
        let says = Says { status: "200 OK", body, index: 1, requests: Vec::new() };
        let says = Arc::new((Mutex::new(says), Condvar::new()));
        let shared = says.clone();
        let server = Replica::http(move |seen| {
            let mut says = shared.0.lock().unwrap();
            says.requests.push(seen.clone());
            if let Some((_, rest)) = seen.line().split_once("index=") {
                let index: u64 = rest.split('&').next().unwrap().parse().unwrap();
                let hold = Duration::from_secs(60);
                says =
                    shared.1.wait_timeout_while(says, hold, |says| says.index <= index).unwrap().0;
            }
            let etag = format!("\"{}\"", says.index);
            let (status, body) = match seen.header("if-none-match") == Some(&*etag) {
                true if says.status == "200 OK" => ("304 Not Modified", ""),
                _ => (says.status, &*says.body),
            };
            let index = says.index;
            let length = match status {
                "304 Not Modified" => String::new(),
                _ => format!("Content-Length: {}\r\n", body.len()),
            };
            format!(
                "HTTP/1.1 {status}\r\nETag: {etag}\r\nX-Test-Index: {index}\r\n{length}\r\n{body}"
            )
            .into_bytes()
        });
        Lists { says, server }
    }

    fn say(&self, status: &'static str, body: String) {
        let mut says = self.says.0.lock().unwrap();
        (says.status, says.body) = (status, body);
        says.index += 1;
        self.says.1.notify_all();
    }

    fn requests(&self) -> Vec<Seen> {
        self.says.0.lock().unwrap().requests.clone()
    }
}

fn json(replicas: &[&Replica]) -> String {
    let all: Vec<String> =
        replicas.iter().map(|r| format!("{:?}", r.address.to_string())).collect();
    format!("[{}]", all.join(","))
}

fn reason(program: &Evenkeel) -> String {
    let discovery = program.api("/v1/discovery");
    discovery["discovery"][0]["reason"].as_str().unwrap_or_default().to_owned()
}

fn check(options: &str, held: bool) {
    let [a, b] = ["a", "b"].map(Replica::named);
    let lists = Lists::start(json(&[&a]));
    let bind = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let url = format!("http://{}/lists/web?x=1", lists.server.address);
    let http = format!("{{ http: {{ url: {url:?}, token: secret-token, {options} }} }}");
    let program = Evenkeel::run(&discovered(bind, &http));
    until("a", || program.count("web", "healthy") == 1);
    assert_eq!(answer(bind), "a");
    let first = &lists.requests()[0];
    assert_eq!(first.line(), "GET /lists/web?x=1 HTTP/1.1");
    assert_eq!(first.header("authorization"), Some("Bearer secret-token"));
    assert!(!Client::get(program.admin, "/v1/config").text().contains("secret-token"));

    let load = Wrk::start(bind, "/", 8, LOAD_SECONDS);
    lists.say("200 OK", json(&[&a, &b]));
    until("both", || program.count("web", "healthy") == 2);
    lists.say("200 OK", json(&[&b]));
    until("b alone", || ports(&program) == [b.port()]);
    for (status, body, said) in [
        ("500 Internal Server Error", json(&[&a]), "it answers 500"),
        ("200 OK", "[".to_owned(), "the answer:1:1: this `[` is never closed"),
        ("302 Found", String::new(), "it answers 302"),
        ("200 OK", "x".repeat(9 << 20), "it has more than 8 MiB"),
    ] {
        lists.say(status, body);
        until(said, || reason(&program).contains(said));
        assert_eq!(ports(&program), [b.port()]);
        lists.say("200 OK", json(&[&b]));
        until("all is well", || reason(&program).is_empty());
    }
    let seen = lists.requests();
    assert!(seen.iter().any(|seen| seen.header("if-none-match").is_some()));
    assert_eq!(seen.iter().any(|seen| seen.line().contains("?x=1&index=")), held);
    // Away altogether.
    let address = lists.server.address;
    lists.server.stop();
    lists.say("200 OK", json(&[&a]));
    until("its absence is told", || !reason(&program).is_empty());
    assert_eq!((ports(&program), program.count("web", "healthy")), (vec![b.port()], 1));
    let body = json(&[&a]);
    let _again = Replica::http_at(address, move |_| crate::e2e::harness::replica::ok(&body));
    until("a again", || ports(&program) == [a.port()]);
    let load = load.stop();
    eprintln!("a list over HTTP ({options}): {load:?}, {} questions", seen.len());
    assert!(load.is_perfect(), "{load:?}");
}

#[test]
fn a_list_is_polled() {
    check("interval: 100ms, timeout: 500ms", false);
}

/// The interval would be far too long: what changes is told by the questions that are held.
#[test]
fn a_question_is_held_until_there_is_news() {
    check("interval: 1h, wait: 30s, timeout: 2s", true);
}

#[test]
fn a_list_is_asked_for_over_tls() {
    let folder = Folder::new();
    let (pki, _others) = (Pki::new(&folder.0, "ca"), Pki::new(&folder.0, "others"));
    pki.issue("lists", &["lists.test"]);
    pki.issue("balancer", &["balancer.test"]);
    let at = |name: &str| folder.join(name).display().to_string();
    let [a, b] = ["a", "b"].map(Replica::named);
    let lists = Lists::start(json(&[&a]));
    let (front, bind) = (local(), local());
    let _front = Evenkeel::run(&format!(
        "listeners:\n  front:\n    bind: {front}\n    service: lists\n    tls:\n      \
         certificates: [ {{ certificate: {}, key: {} }} ]\n      client_auth: {{ ca: {} }}\n\
         services:\n  lists:\n    endpoints: [ '{}' ]\n",
        at("lists.crt"),
        at("lists.key"),
        at("ca.pem"),
        lists.server.address,
    ));
    // At first the wrong ones are trusted.
    fs::copy(folder.join("others.pem"), folder.join("trusted.pem")).unwrap();
    let program = Evenkeel::spawn(&discovered(
        bind,
        &format!(
            "{{ http: {{ url: 'https://{front}/web', interval: 100ms, tls: {{ ca: {}, \
             server_name: lists.test, certificate: {{ certificate: {}, key: {} }} }} }} }}",
            at("trusted.pem"),
            at("balancer.crt"),
            at("balancer.key"),
        ),
    ));
    until("its admin API", || Client::try_get(program.admin, "/readyz").is_some());
    until("the CA is found wrong", || reason(&program).contains("certificate"));
    assert!(lists.requests().is_empty());
    fs::copy(folder.join("ca.pem"), folder.join("trusted.pem")).unwrap();
    until("a", || program.count("web", "healthy") == 1);
    assert_eq!(answer(bind), "a");
    lists.say("200 OK", json(&[&b]));
    until("b alone", || ports(&program) == [b.port()]);
    // What was known stays when the list's certificate is trusted no more.
    fs::copy(folder.join("others.pem"), folder.join("trusted.pem")).unwrap();
    until("the CA is found wrong again", || reason(&program).contains("certificate"));
    assert_eq!((ports(&program), answer(bind)), (vec![b.port()], "b".to_owned()));
}
