//! Connections that end while clients are at work: by age and number, since their listener changes or
//! goes, and since the program stops. Not one request is lost.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;

use super::client::{Client, Outcome};
use crate::e2e::harness::program::Folder;
use crate::e2e::harness::{Evenkeel, Pki, Replica, Secure, Wrk, free_port, peer, until, wait};

/// Clients of HTTP/2 over TLS, each with eight requests at once, that take up a new connection when
/// they are told to go. What was not processed they ask again.
struct Load {
    stopped: Arc<AtomicBool>,
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    answered: AtomicU64,
    not_processed: AtomicU64,
    connections: AtomicU64,
    /// Neither 200 nor to be asked again.
    failed: AtomicU64,
}

impl Load {
    fn start(address: SocketAddr, secure: &Secure, clients: usize) -> Load {
        let stopped = Arc::new(AtomicBool::new(false));
        let counts = Arc::new(Counts::default());
        let threads = (0..clients)
            .map(|_| {
                let (stopped, counts, secure) = (stopped.clone(), counts.clone(), secure.clone());
                std::thread::spawn(move || {
                    while !stopped.load(SeqCst) {
                        match Client::try_connect_tls(address, &secure) {
                            Some(client) => work(client, &stopped, &counts),
                            None => wait::pause(),
                        }
                    }
                })
            })
            .collect();
        Load { stopped, counts, threads }
    }

    fn answered(&self) -> u64 {
        self.counts.answered.load(SeqCst)
    }

    /// Waits until so many more were answered.
    fn wait_for_more(&self, count: u64) {
        let before = self.answered();
        until("further answers", || self.answered() >= before + count);
    }

    fn assert_perfect(self, what: &str) -> Arc<Counts> {
        self.stopped.store(true, SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
        eprintln!("{what}: {:?}", self.counts);
        assert_eq!(self.counts.failed.load(SeqCst), 0, "{what}: {:?}", self.counts);
        self.counts
    }
}

/// Until the connection takes no more requests.
fn work(mut client: Client, stopped: &AtomicBool, counts: &Counts) {
    counts.connections.fetch_add(1, SeqCst);
    while client.capacity() >= 8 && !stopped.load(SeqCst) {
        for key in client.requests(8, "/") {
            let count = match client.outcome(key) {
                Outcome::Answered(200) => &counts.answered,
                Outcome::NotProcessed => &counts.not_processed,
                Outcome::Answered(_) | Outcome::Lost => &counts.failed,
            };
            count.fetch_add(1, SeqCst);
        }
    }
}

struct Site {
    program: Evenkeel,
    web: SocketAddr,
    secure: Secure,
    pki: Pki,
    replicas: [Replica; 2],
}

impl Site {
    fn start(listener: &str) -> Site {
        let folder = Folder::new();
        let pki = Pki::new(&folder.0, "ca");
        pki.issue("a", &["a.test", "127.0.0.1"]);
        let secure = Secure::trusting(&folder.join("ca.pem"), &[b"h2"]);
        let web = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let replicas = [Replica::named("a"), Replica::named("b")];
        let text = Self::config(web, &replicas[0], listener);
        let program = Evenkeel::spawn_in(folder, &text);
        program.wait_ready();
        Site { program, web, secure, pki, replicas }
    }

    fn config(web: SocketAddr, replica: &Replica, listener: &str) -> String {
        format!(
            "stop_grace: 20s\nlisteners:\n  web:\n    bind: {web}\n    service: app\n    \
             tls: {{ certificates: [ {{ certificate: a.crt, key: a.key }} ] }}\n    {listener}\n\
             services: {{ app: {{ endpoints: [ {} ], health: off }} }}\n",
            replica.address
        )
    }

    fn reconfigure(&self, replica: usize, listener: &str) {
        self.program.reconfigure(&Self::config(self.web, &self.replicas[replica], listener));
    }
}

/// Each connection ends after thirty requests: some hundred ends, with requests under way in many.
#[test]
fn connections_end_by_number_and_age_under_load() {
    let site = Site::start("limits: { requests_per_connection: 30 }");
    let load = Load::start(site.web, &site.secure, 4);
    load.wait_for_more(3000);
    let counts = load.assert_perfect("ends by number");
    assert!(counts.connections.load(SeqCst) >= 50);
    let site = Site::start("timeouts: { connection_age: 300ms }");
    let load = Load::start(site.web, &site.secure, 4);
    until("twenty connections", || load.counts.connections.load(SeqCst) >= 20);
    load.assert_perfect("ends by age");
}

/// `h2load`, and what it has done in the end.
struct H2load(Child);

impl H2load {
    fn start(h2load: &str, address: SocketAddr, requests: u32) -> H2load {
        let child = Command::new(h2load)
            .args(["-n", &requests.to_string(), "-c", "4", "-m", "16"])
            .arg(format!("https://127.0.0.1:{}/", address.port()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        H2load(child)
    }

    fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    fn assert_perfect(self, requests: u32) {
        let output = self.0.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let expected = format!(
            "requests: {requests} total, {requests} started, {requests} done, {requests} succeeded, \
             0 failed, 0 errored, 0 timeout"
        );
        assert!(text.contains(&expected), "{text}");
        eprintln!("h2load: {expected}");
    }
}

/// Certificates, listener and endpoints change, round after round, under `h2load`, TLS `wrk` and
/// clients that check each answer.
#[test]
fn certificates_and_listeners_change_under_load() {
    let Some(h2load) = peer::find("h2load") else { return };
    let site = Site::start("");
    let load = Load::start(site.web, &site.secure, 2);
    let wrk = Wrk::start_tls(site.web, "/", 8, 60);
    let requests = 20_000;
    let mut others = H2load::start(&h2load, site.web, requests);
    let mut rounds = 0;
    while rounds < 6 || others.is_running() {
        site.pki.issue("a", &["a.test", "127.0.0.1"]);
        load.wait_for_more(50);
        let changes = ["limits: { header_count: 50 }", "http2: { streams: 200 }"];
        site.reconfigure(rounds % 2, changes[rounds % 2]);
        load.wait_for_more(50);
        site.reconfigure((rounds + 1) % 2, "");
        load.wait_for_more(50);
        rounds += 1;
    }
    others.assert_perfect(requests);
    load.assert_perfect("certificates and listeners that change");
    wrk.stop().assert_perfect("the same over HTTP/1.1");
    eprintln!("{rounds} rounds");
}

/// A listener goes and comes back, five times: who was connected is told, and what was asked is
/// answered.
#[test]
fn a_listener_goes_and_comes_back_under_load() {
    let site = Site::start("");
    let load = Load::start(site.web, &site.secure, 4);
    let other = SocketAddr::from(([127, 0, 0, 1], free_port()));
    for _ in 0..5 {
        load.wait_for_more(200);
        let gone = Site::config(other, &site.replicas[0], "").replace("  web:", "  other:");
        site.program.reconfigure(&gone);
        until("nobody is served", || std::net::TcpStream::connect(site.web).is_err());
        site.reconfigure(0, "");
    }
    load.wait_for_more(200);
    load.assert_perfect("a listener that goes and comes back");
}

#[test]
fn five_stops_lose_no_request() {
    for _ in 0..5 {
        let mut site = Site::start("");
        let load = Load::start(site.web, &site.secure, 4);
        load.wait_for_more(200);
        site.program.signal("TERM");
        assert_eq!(site.program.wait_exit(), Some(0));
        load.assert_perfect("a stop");
    }
}
