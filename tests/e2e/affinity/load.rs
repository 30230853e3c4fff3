//! Sessions of every kind while many clients ask at the same time, and endpoints die, come back
//! and are drained.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{JoinHandle, spawn};

use rustix::net::{AddressFamily, SocketType};

use super::super::harness::program::signal;
use super::super::harness::{
    Client, Evenkeel, Quickstart, Replica, Response, Seen, free_port, until,
};

const THREADS: usize = 16;
const USERS_PER_THREAD: usize = 10;
/// Times that every user asks, until it is believed that all is as it stays.
const ROUNDS: usize = 5;

/// What a client is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Insert,
    Rewrite,
    Learn,
    Header,
    Source,
}

impl Kind {
    pub fn affinity(self) -> &'static str {
        match self {
            Kind::Insert => "{ cookie: { name: SID } }",
            Kind::Rewrite => "{ cookie: { name: SID, mode: rewrite } }",
            Kind::Learn => "{ cookie: { name: SID, mode: learn } }",
            Kind::Header => "{ header: X-User }",
            Kind::Source => "{ source: true }",
        }
    }

    /// Does the application set the cookie?
    fn is_the_applications(self) -> bool {
        matches!(self, Kind::Rewrite | Kind::Learn)
    }
}

/// An application that answers with its name, knows its own cookie, and gives one to who has none.
pub fn application(name: &'static str, sets_cookie: bool) -> impl Fn(&Seen) -> Vec<u8> {
    static SESSIONS: AtomicUsize = AtomicUsize::new(0);
    move |seen| {
        let known = seen.header("cookie").is_some_and(|line| line.contains("SID="));
        if sets_cookie && known {
            let line = seen.header("cookie").unwrap_or_default();
            assert!(!line.contains('~'), "the application sees what it set: {line}");
        }
        let cookie = match sets_cookie && !known {
            true => {
                let number = SESSIONS.fetch_add(1, SeqCst);
                format!("Set-Cookie: SID=s{number}; Path=/; HttpOnly\r\n")
            }
            false => String::new(),
        };
        format!("HTTP/1.1 200 OK\r\n{cookie}Content-Length: {}\r\n\r\n{name}", name.len()).into()
    }
}

/// A client that asks again and again, one request at a time.
pub struct User {
    kind: Kind,
    number: usize,
    address: SocketAddr,
    client: Option<Client>,
    pub cookie: Option<String>,
    /// Where it was, one after the other.
    pub homes: Vec<String>,
}

impl User {
    pub fn new(kind: Kind, number: usize, address: SocketAddr) -> User {
        User { kind, number, address, client: None, cookie: None, homes: Vec::new() }
    }

    fn connect(&self) -> Client {
        if self.kind != Kind::Source {
            return Client::connect(self.address);
        }
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let from = [127, 0, 1 + (self.number / 200) as u8, 1 + (self.number % 200) as u8];
        rustix::net::bind(&socket, &SocketAddr::from((from, 0))).unwrap();
        rustix::net::connect(&socket, &self.address).unwrap();
        Client::over(TcpStream::from(socket)).unwrap()
    }

    pub fn ask(&mut self) -> &str {
        let mut lines = String::new();
        if let Some(cookie) = &self.cookie {
            lines += &format!("Cookie: a=b; {cookie}; c=d\r\n");
        }
        if self.kind == Kind::Header {
            lines += &format!("X-User: user {}\r\n", self.number);
        }
        let mut client = self.client.take().unwrap_or_else(|| self.connect());
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).unwrap();
        let answer = client.response().unwrap();
        assert_eq!(answer.status, 200, "{:?}: {}", self.kind, answer.head);
        if answer.header("connection") != Some("close") {
            self.client = Some(client);
        }
        if let Some(line) = answer.header("set-cookie") {
            self.cookie = line.split(';').next().map(str::to_owned);
        }
        let home = name(&answer);
        if self.homes.last() != Some(&home) {
            self.homes.push(home);
        }
        self.homes.last().unwrap()
    }
}

/// Our echo names itself in a header, the tests' replicas in the body.
fn name(answer: &Response) -> String {
    answer.header("x-replica").map_or_else(|| answer.text(), str::to_owned)
}

/// Many users who ask all the time, until they are told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    rounds: Arc<[AtomicUsize]>,
    threads: Vec<JoinHandle<Vec<User>>>,
}

impl Load {
    pub fn start(kind: Kind, address: SocketAddr) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds: Arc<[AtomicUsize]> = (0..THREADS).map(|_| AtomicUsize::new(0)).collect();
        let threads = (0..THREADS).map(|thread| {
            let (stop, rounds) = (stop.clone(), rounds.clone());
            spawn(move || {
                let first = thread * USERS_PER_THREAD;
                let mut users: Vec<User> = (first..first + USERS_PER_THREAD)
                    .map(|number| User::new(kind, number, address))
                    .collect();
                while !stop.load(SeqCst) {
                    for user in &mut users {
                        user.ask();
                    }
                    rounds[thread].fetch_add(1, SeqCst);
                }
                users
            })
        });
        let threads = threads.collect();
        let load = Load { stop, rounds, threads };
        load.go_on("at first");
        load
    }

    /// Every user asks a few times more.
    pub fn go_on(&self, when: &str) {
        let goals: Vec<usize> = self.rounds.iter().map(|r| r.load(SeqCst) + ROUNDS).collect();
        until(&format!("more rounds {when}"), || {
            assert!(!self.threads.iter().any(JoinHandle::is_finished), "a user gave up {when}");
            self.rounds.iter().zip(&goals).all(|(round, goal)| round.load(SeqCst) >= *goal)
        });
    }

    pub fn finish(self) -> Vec<User> {
        self.stop.store(true, SeqCst);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

/// Those who were at `dead` moved, once and elsewhere; nobody else did.
fn assert_moved_once(users: &[User], dead: &str, all_of_them: bool) -> usize {
    let mut moved = 0;
    for user in users {
        match &user.homes[..] {
            [home] => assert!(home != dead || !all_of_them, "it never moved from {dead}"),
            [from, to] => {
                assert!(from == dead && to != dead, "{:?}", user.homes);
                moved += 1;
            }
            _ => panic!("{:?}: moved more than once: {:?}", user.kind, user.homes),
        }
    }
    moved
}

/// Under load one of three dies and comes back, and another is drained.
fn sessions_hold(kind: Kind) {
    let answers = |name| application(name, kind.is_the_applications());
    let replicas =
        [Replica::http(answers("0")), Replica::http(answers("1")), Replica::http(answers("2"))];
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let endpoints: Vec<String> = replicas.iter().map(|r| r.address.to_string()).collect();
    let program = Evenkeel::run(&format!(
        "workers: 2\nlisteners: {{ web: {{ bind: {address}, service: web }} }}\nservices:\n  web:\n    \
         endpoints: [ {} ]\n    affinity: {}\n    health: {{ interval: 200ms }}\n    \
         drain_grace: 10m\n    retry: {{ budget: 100% }}\n",
        endpoints.join(", "),
        kind.affinity(),
    ));
    until("healthy replicas", || program.count("web", "healthy") == 3);
    let load = Load::start(kind, address);

    replicas[1].stop();
    until("it is found out", || program.count("web", "healthy") == 2);
    load.go_on("after one died");
    let _back = Replica::http_at(replicas[1].address, answers("1"));
    until("it is back", || program.count("web", "healthy") == 3);
    load.go_on("after it came back");
    let (ok, said) = program.verb(&["drain", "web", &endpoints[2]]);
    assert!(ok, "{said}");
    load.go_on("while one is drained");

    let new: BTreeSet<String> =
        (1000..1030).map(|number| User::new(kind, number, address).ask().to_owned()).collect();
    assert_eq!(new, BTreeSet::from(["0".into(), "1".into()]), "{kind:?}: new clients");
    let users = load.finish();
    let moved = assert_moved_once(&users, "1", true);
    let stayed = users.iter().filter(|user| user.homes == ["2"]).count();
    eprintln!(
        "{kind:?}: of {} clients {moved} moved once, {stayed} stayed at the drained one",
        users.len()
    );
    // Of the policy's thirds; each thread's users began while the others' did.
    assert!((30..=75).contains(&moved) && (30..=75).contains(&stayed), "{moved} {stayed}");
    let status = program.service("web");
    match kind {
        Kind::Insert => assert!(status["sessions"].is_null()),
        // Those that moved, and nobody else: the cookie says the rest.
        Kind::Rewrite => assert_eq!(status["sessions"]["entries"], moved),
        // Those that the new clients were given are there, too.
        Kind::Learn | Kind::Header | Kind::Source => {
            assert_eq!(status["sessions"]["entries"], users.len() + 30);
            assert_eq!(status["sessions"]["evictions"], 0);
        }
    }
}

#[test]
fn sessions_by_our_cookie_hold_under_load() {
    sessions_hold(Kind::Insert);
}

#[test]
fn sessions_by_a_rewritten_cookie_hold_under_load() {
    sessions_hold(Kind::Rewrite);
}

#[test]
fn sessions_by_a_learnt_cookie_hold_under_load() {
    sessions_hold(Kind::Learn);
}

#[test]
fn sessions_by_a_header_hold_under_load() {
    sessions_hold(Kind::Header);
}

#[test]
fn sessions_by_address_hold_under_load() {
    sessions_hold(Kind::Source);
}

/// Replicas that are processes: one is killed, and another one takes its place under its name.
#[test]
fn sessions_of_a_killed_process_move_once() {
    for kind in [Kind::Insert, Kind::Header] {
        let affinity = format!("    affinity: {}\n", kind.affinity());
        let site = Quickstart::start_with(|config| config.to_owned() + &affinity);
        let load = Load::start(kind, site.http);
        let address = || site.program.endpoint("web", "web-2")["address"].to_string();
        let before = address();
        signal(site.replica_pid("web-2"), "KILL");
        until("another process", || ![before.clone(), "null".into()].contains(&address()));
        site.wait_replicas(3);
        load.go_on("after another one took its place");
        let users = load.finish();
        let moved = assert_moved_once(&users, "web-2", false);
        eprintln!("{kind:?}: kill -9 of one of three processes moved {moved} of {}", users.len());
        assert!(moved > 0);
    }
}
