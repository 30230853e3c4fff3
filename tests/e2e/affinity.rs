//! Clients with a session come back to where they were: here those with a cookie of ours, one at a
//! time; what the kinds differ in, and all of them under load, in the modules below.

mod kinds;
mod load;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::harness::{Client, Evenkeel, Replica, Response, free_port, replica, until};

const NAMES: [&str; 3] = ["0", "1", "2"];

/// Three replicas that answer with their number, and what stands before them.
struct Scene {
    program: Evenkeel,
    address: SocketAddr,
    replicas: Vec<Replica>,
}

impl Scene {
    /// With these options of the cookie, after its name, and further keys of the service.
    fn start(cookie: &str, service: &str) -> Scene {
        Self::before(NAMES.map(Replica::named).into(), cookie, service)
    }

    fn before(replicas: Vec<Replica>, cookie: &str, service: &str) -> Scene {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let program = Evenkeel::run(&config(address, &replicas, cookie, service));
        let count = replicas.len();
        until("healthy replicas", || program.count("web", "healthy") == count);
        Scene { program, address, replicas }
    }

    fn id(&self, name: &str) -> String {
        self.replicas[name.parse::<usize>().unwrap()].address.to_string()
    }

    /// So many clients, each with its first request behind it.
    fn visitors(&self, count: usize) -> Vec<Visitor> {
        (0..count).map(|_| Visitor::new(self.address)).collect()
    }
}

fn config(address: SocketAddr, replicas: &[Replica], cookie: &str, service: &str) -> String {
    let endpoints: Vec<String> = replicas.iter().map(|r| r.address.to_string()).collect();
    format!(
        "listeners: {{ web: {{ bind: {address}, service: web }} }}\n\
         services:\n  web:\n    endpoints: [ {} ]\n    \
         affinity: {{ cookie: {{ name: KEEL{cookie} }} }}\n    {service}\n",
        endpoints.join(", ")
    )
}

/// A client that keeps its cookie, as a browser does.
struct Visitor {
    address: SocketAddr,
    cookie: String,
    home: String,
    /// How often it was given a cookie.
    given: usize,
}

impl Visitor {
    fn new(address: SocketAddr) -> Visitor {
        let mut new = Visitor { address, cookie: String::new(), home: String::new(), given: 0 };
        new.home = new.ask();
        assert_eq!(new.given, 1, "the first answer sets the cookie");
        new
    }

    fn request(&self) -> String {
        format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: a=b; KEEL={}; c=d\r\n\r\n", self.cookie)
    }

    /// On a connection of its own; the replica's name.
    fn ask(&mut self) -> String {
        let answer = Client::exchange(self.address, self.request()).unwrap();
        self.take(&answer)
    }

    fn take(&mut self, answer: &Response) -> String {
        assert_eq!(answer.status, 200, "{}", answer.head);
        if let Some(value) = cookie(answer) {
            self.cookie = value.to_owned();
            self.given += 1;
        }
        answer.text()
    }
}

/// The value of the cookie that an answer sets.
fn cookie(answer: &Response) -> Option<&str> {
    let line = answer.header("set-cookie")?;
    line.strip_prefix("KEEL=")?.split(';').next()
}

fn spread<'a>(homes: impl Iterator<Item = &'a String>) -> BTreeMap<&'a String, usize> {
    homes.fold(BTreeMap::new(), |mut counts, home| {
        *counts.entry(home).or_default() += 1;
        counts
    })
}

#[test]
fn sessions_stick_and_new_clients_are_spread() {
    let scene = Scene::start("", "");
    let mut visitors = scene.visitors(30);
    let homes: Vec<String> = visitors.iter().map(|v| v.home.clone()).collect();
    assert!(spread(homes.iter()).values().all(|count| *count == 10), "{:?}", spread(homes.iter()));
    for visitor in &mut visitors[..3] {
        let mut kept = Client::connect(scene.address);
        for _ in 0..50 {
            kept.send(visitor.request()).unwrap();
            let answer = kept.response().unwrap();
            assert_eq!(visitor.take(&answer), visitor.home);
            assert_eq!(visitor.ask(), visitor.home);
        }
        assert_eq!(visitor.given, 1, "a client that has its cookie gets no other");
    }
    // Many clients over one connection, as from a proxy before us.
    let mut shared = Client::connect(scene.address);
    for _ in 0..3 {
        for visitor in &mut visitors {
            shared.send(visitor.request()).unwrap();
            let answer = shared.response().unwrap();
            assert_eq!(visitor.take(&answer), visitor.home);
        }
    }
}

#[test]
fn the_cookie_says_what_is_configured_and_no_address() {
    let scene = Scene::start("", "");
    let answer = Client::get(scene.address, "/");
    let value = cookie(&answer).unwrap();
    assert!(value.len() == 16 && value.bytes().all(|b| b.is_ascii_hexdigit()), "{value}");
    let line = format!("KEEL={value}; Path=/; HttpOnly");
    assert_eq!(answer.header("set-cookie"), Some(&*line));

    let options = ", ttl: 1h, path: /app, http_only: false, secure: true, same_site: lax, \
                   secret: 0123456789abcdef";
    let other = config(scene.address, &scene.replicas, options, "");
    scene.program.reconfigure(&other);
    let answer = Client::get(scene.address, "/");
    let value = cookie(&answer).unwrap();
    let line = format!("KEEL={value}; Path=/app; Max-Age=3600; Secure; SameSite=Lax");
    assert_eq!(answer.header("set-cookie"), Some(&*line));
}

#[test]
fn sessions_outlive_a_restart() {
    let mut scene = Scene::start("", "");
    let mut visitors = scene.visitors(6);
    scene.program.signal("TERM");
    scene.program.wait_exit();
    let mut scene = Scene::before(scene.replicas, "", "");
    for visitor in &mut visitors {
        visitor.address = scene.address;
        assert_eq!(visitor.ask(), visitor.home);
        assert_eq!(visitor.given, 1);
    }
    scene.replicas.clear();
}

#[test]
fn a_forged_cookie_is_ignored_and_replaced() {
    let scene = Scene::start("", "");
    let visitor = Visitor::new(scene.address);
    let upper = visitor.cookie.to_uppercase();
    let with_letter = if upper == visitor.cookie { "f".repeat(16) } else { upper };
    for forged in ["", "0", "0123456789abcdef", &with_letter, &scene.id("0"), &"f".repeat(4000)] {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: KEEL={forged}\r\n\r\n");
        let answer = Client::exchange(scene.address, request).unwrap();
        assert_eq!(answer.status, 200);
        assert!(cookie(&answer).is_some_and(|value| value != forged), "{}", answer.head);
    }
    // Beside a true one of the same name, as with an older cookie of another path.
    let both =
        format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: KEEL=x; KEEL={}\r\n\r\n", visitor.cookie);
    let answer = Client::exchange(scene.address, both).unwrap();
    assert_eq!((answer.text(), cookie(&answer)), (visitor.home, None));
}

#[test]
fn sessions_of_a_dead_replica_move_once_and_stay_moved() {
    let scene = Scene::start("", "health: { interval: 200ms }");
    let mut visitors = scene.visitors(30);
    let dead = &scene.replicas[1];
    dead.stop();
    for _ in 0..3 {
        for visitor in &mut visitors {
            let now = visitor.ask();
            if visitor.home == "1" {
                assert_ne!(now, "1");
                assert_eq!(visitor.given, 2, "told once of its new home");
                visitor.home = now;
            } else {
                assert_eq!(now, visitor.home);
            }
        }
    }
    assert_eq!(visitors.iter().filter(|v| v.given == 2).count(), 10);
    let homes = spread(visitors.iter().map(|v| &v.home));
    assert!(homes.len() == 2 && homes.values().all(|count| *count >= 12), "{homes:?}");

    // It comes back: new clients find it, those that moved stay.
    let _back = Replica::http_at(dead.address, |_| replica::ok("1"));
    until("it is back", || scene.program.count("web", "healthy") == 3);
    for visitor in &mut visitors {
        assert_eq!(visitor.ask(), visitor.home);
    }
    assert!(scene.visitors(6).iter().any(|visitor| visitor.home == "1"));
}

#[test]
fn a_drained_replica_keeps_its_sessions_until_the_grace_is_over() {
    let grace = Duration::from_secs(4);
    let scene = Scene::start("", "drain_grace: 4s");
    let mut visitors = scene.visitors(9);
    let start = Instant::now();
    let (ok, said) = scene.program.verb(&["drain", "web", &scene.id("2")]);
    assert!(ok, "{said}");
    for _ in 0..5 {
        for visitor in &mut visitors {
            assert_eq!(visitor.ask(), visitor.home);
        }
    }
    assert!(scene.visitors(9).iter().all(|new| new.home != "2"), "a new client came to it");
    let checked = start.elapsed();
    assert!(checked < grace, "this machine is too slow for a grace of {grace:?}: {checked:?}");
    let (mut moving, mut staying): (Vec<_>, Vec<_>) =
        visitors.into_iter().partition(|visitor| visitor.home == "2");
    assert_eq!((moving.len(), staying.len()), (3, 6));
    until("the session to move", || moving[0].ask() != "2");
    assert!(start.elapsed() >= grace, "moved after {:?}", start.elapsed());
    for visitor in &mut moving {
        visitor.home = visitor.ask();
        assert_ne!(visitor.home, "2");
        assert_eq!(visitor.ask(), visitor.home);
        assert_eq!(visitor.given, 2);
    }
    // Back again, it gets new clients, and none of those that moved.
    let (ok, said) = scene.program.verb(&["undrain", "web", &scene.id("2")]);
    assert!(ok, "{said}");
    for visitor in moving.iter_mut().chain(&mut staying) {
        assert_eq!(visitor.ask(), visitor.home);
    }
    assert!(scene.visitors(6).iter().any(|new| new.home == "2"));
}

#[test]
fn no_session_begins_with_a_failure() {
    let failing = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
    let replicas = vec![Replica::http(move |_| failing.to_vec())];
    let scene = Scene::before(replicas, "", "");
    let answer = Client::get(scene.address, "/");
    assert_eq!((answer.status, cookie(&answer)), (500, None));
}

#[test]
fn a_request_that_is_tried_again_moves_its_session() {
    let refuses = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    let refusing = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asked = refusing.clone();
    let first = Replica::http(move |_| match asked.load(std::sync::atomic::Ordering::SeqCst) {
        true => refuses.to_vec(),
        false => replica::ok("0"),
    });
    let replicas = vec![first, Replica::named("1")];
    let scene = Scene::before(replicas, "", "retry: { on: [ 503 ] }");
    let mut visitors = scene.visitors(2);
    refusing.store(true, std::sync::atomic::Ordering::SeqCst);
    for visitor in &mut visitors {
        assert_eq!(visitor.ask(), "1");
        assert_eq!(visitor.ask(), "1");
        assert_eq!(visitor.given, if visitor.home == "0" { 2 } else { 1 });
    }
    // The client has its answer a moment before the endpoint is told.
    until("nothing in flight", || {
        let service = scene.program.service("web");
        service["endpoints"].as_array().unwrap().iter().all(|e| e["in_flight"] == 0)
    });
}
