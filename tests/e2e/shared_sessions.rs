//! Sessions that two balancers share in a real Redis, which is killed, hangs, and comes back empty.

use std::net::SocketAddr;
use std::process::Command;

use super::harness::peer::find;
use super::harness::pki::Pki;
use super::harness::program::{Folder, signal};
use super::harness::{Client, Evenkeel, Peer, Replica, free_port, until};

struct Redis {
    program: String,
    port: u16,
    _folder: Folder,
    running: Option<Peer>,
}

impl Redis {
    /// `None`: it is not installed, which is noted.
    fn start() -> Option<Redis> {
        let program = find("redis-server")?;
        let mut redis = Redis { program, port: free_port(), _folder: Folder::new(), running: None };
        redis.begin();
        Some(redis)
    }

    /// Nothing is kept on a disk: each time it is empty.
    fn begin(&mut self) {
        let mut command = Command::new(&self.program);
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no", "--requirepass", "knock knock"])
            .current_dir(&self._folder.0);
        self.running = Some(Peer::start(&mut command));
    }

    fn kill(&mut self) {
        self.running = None;
    }

    fn signal(&self, name: &str) {
        signal(self.running.as_ref().unwrap().0.id(), name);
    }
}

struct Balancer {
    program: Evenkeel,
    address: SocketAddr,
}

impl Balancer {
    fn start(redis: &Redis, replicas: &[Replica], affinity: &str) -> Balancer {
        let at = format!("redis: \"redis://127.0.0.1:{}/1\", password: knock knock", redis.port);
        Self::start_at(&at, replicas, affinity)
    }

    fn start_at(store: &str, replicas: &[Replica], affinity: &str) -> Balancer {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let endpoints: Vec<String> = replicas.iter().map(|r| r.address.to_string()).collect();
        let program = Evenkeel::run(&format!(
            "listeners: {{ web: {{ bind: {address}, service: app }} }}\nservices:\n  app:\n    \
             policy: random\n    endpoints: [ {} ]\n    affinity:\n      {affinity}\n      \
             store: {{ {store}, secret: 0123456789abcdef, timeout: 100ms }}\n",
            endpoints.join(", "),
        ));
        let balancer = Balancer { program, address };
        until("all healthy", || balancer.program.count("app", "healthy") == replicas.len());
        balancer
    }

    fn visit(&self, user: usize) -> String {
        let request =
            format!("GET / HTTP/1.1\r\nHost: h\r\nX-User: u{user}\r\nConnection: close\r\n\r\n");
        let answer = Client::exchange(self.address, request).unwrap();
        assert_eq!(answer.status, 200);
        answer.text()
    }

    fn visits(&self, users: std::ops::Range<usize>) -> Vec<String> {
        users.map(|user| self.visit(user)).collect()
    }

    fn store(&self) -> serde_json::Value {
        self.program.service("app")["sessions"]["store"].clone()
    }

    fn until_connected(&self, connected: bool) {
        until(&format!("connected: {connected}"), || self.store()["connected"] == connected);
    }

    fn count(&self, name: &str) -> u64 {
        self.store()[name].as_u64().unwrap()
    }
}

fn until_both(one: &Balancer, two: &Balancer, connected: bool) {
    one.until_connected(connected);
    two.until_connected(connected);
}

fn replicas() -> Vec<Replica> {
    ["a", "b", "c", "d"].map(Replica::named).into_iter().collect()
}

#[test]
fn balancers_share_sessions_and_outlive_their_store() {
    let Some(mut redis) = Redis::start() else { return };
    let replicas = replicas();
    let start = || Balancer::start(&redis, &replicas, "header: X-User");
    let (one, two) = (start(), start());
    until_both(&one, &two, true);

    // Begun at one, and gone on with at the other.
    let homes = one.visits(0..40);
    assert!(homes.iter().any(|home| *home != homes[0]), "{homes:?}");
    until("all were told", || one.count("told") + one.count("adopted") >= 40);
    assert_eq!(two.visits(0..40), homes);
    assert_eq!((two.count("hits"), two.count("misses")), (40, 0), "{}", two.store());
    assert_eq!(two.visits(0..40), homes);
    assert_eq!(two.count("hits"), 40, "what it knows it does not ask for");
    let metrics = Client::get(two.program.admin, "/metrics").text();
    for line in [
        "evenkeel_service_session_store_up{service=\"app\"} 1",
        "evenkeel_service_session_store_lookups_total{service=\"app\",result=\"hit\"} 40",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let shown = Client::get(one.program.admin, "/v1/config").text();
    assert!(!shown.contains("knock") && !shown.contains("0123456789abcdef"), "{shown}");

    // Without it each goes on with what it knows, and new clients are served.
    redis.kill();
    until_both(&one, &two, false);
    assert!(two.store()["reason"].is_string());
    assert_eq!((one.visits(0..40), two.visits(0..40)), (homes.clone(), homes.clone()));
    let new = one.visits(40..50);
    assert_eq!(one.visits(40..50), new);
    assert!(one.count("skipped") >= 10 && one.count("untold") >= 10, "{}", one.store());

    // It comes back with nothing in it, and is told again of what is used.
    redis.begin();
    until_both(&one, &two, true);
    let told = one.count("told");
    until("all were told again", || {
        assert_eq!((one.visits(0..40), one.visits(40..50)), (homes.clone(), new.clone()));
        one.count("told") + one.count("adopted") >= told + 50
    });
    let three = Balancer::start(&redis, &replicas, "header: X-User");
    three.until_connected(true);
    assert_eq!((three.visits(0..40), three.visits(40..50)), (homes.clone(), new));

    // It hangs: who is unknown waits for no more than the bound, and then for nothing.
    redis.signal("STOP");
    let served = three.visits(100..110);
    three.until_connected(false);
    assert_eq!((three.visits(100..110), three.visits(0..40)), (served, homes));
    assert!(three.count("failures") + three.count("skipped") >= 10, "{}", three.store());
    redis.signal("CONT");
    three.until_connected(true);
}

/// With a certificate of the client, a user of its own (ACL) and another database.
#[test]
fn a_store_over_tls_that_wants_certificates_and_passwords() {
    let Some(program) = find("redis-server") else { return };
    let folder = Folder::new();
    let (pki, _others) = (Pki::new(&folder.0, "ca"), Pki::new(&folder.0, "others"));
    pki.issue("redis", &["127.0.0.1"]);
    pki.issue("client", &["client.test"]);
    let port = free_port().to_string();
    let at = |name: &str| folder.join(name).display().to_string();
    let mut command = Command::new(program);
    command
        .args(["--port", "0", "--tls-port", &port, "--bind", "127.0.0.1", "--save", ""])
        .args(["--tls-cert-file", &at("redis.crt"), "--tls-key-file", &at("redis.key")])
        .args(["--tls-ca-cert-file", &at("ca.pem"), "--tls-auth-clients", "yes"])
        .args(["--user", "keel", "on", ">kn0ck-kn0ck", "~evenkeel:*", "+@all"])
        .args(["--user", "default", "off"])
        .current_dir(&folder.0);
    let _redis = Peer::start(&mut command);
    let store = |database: u8, ca: &str, password: &str| {
        format!(
            "redis: \"rediss://127.0.0.1:{port}/{database}\", username: keel, password: {password}, \
             tls: {{ ca: {}, certificate: {{ certificate: {}, key: {} }} }}",
            at(ca),
            at("client.crt"),
            at("client.key"),
        )
    };
    let replicas = replicas();
    std::fs::copy(folder.join("others.pem"), folder.join("changing.pem")).unwrap();
    let start = |database: u8, ca: &str, password: &str| {
        Balancer::start_at(&store(database, ca, password), &replicas, "header: X-User")
    };
    std::fs::write(folder.join("password"), "kn0ck-kn0ck\n").unwrap();
    let by_file = format!("{{ file: {} }}", at("password"));
    let (one, two) = (start(2, "ca.pem", "kn0ck-kn0ck"), start(2, "changing.pem", &by_file));
    let wrong = start(2, "ca.pem", "kn0ck");
    let told = |balancer: &Balancer, why: &str| {
        until(&format!("{why:?} is told"), || {
            balancer.store()["reason"].as_str().is_some_and(|reason| reason.contains(why))
        });
    };
    told(&wrong, "WRONGPASS");
    told(&two, "certificate");
    one.until_connected(true);
    let homes = one.visits(0..20);
    until("all were told", || one.count("told") + one.count("adopted") >= 20);
    // It is tried again, with what the file holds then.
    std::fs::copy(folder.join("ca.pem"), folder.join("changing.pem")).unwrap();
    two.until_connected(true);
    assert_eq!(two.visits(0..20), homes);
    assert_eq!(two.count("hits"), 20);
    let elsewhere = start(3, "ca.pem", &by_file);
    elsewhere.until_connected(true);
    elsewhere.visits(0..20);
    until("all were told there", || elsewhere.count("told") >= 20);
    assert_eq!(elsewhere.count("hits"), 0, "another database");
}

#[test]
fn a_session_of_two_balancers_is_where_the_first_put_it() {
    let Some(redis) = Redis::start() else { return };
    let replicas = replicas();
    let affinity = "cookie: { name: SID, mode: learn }";
    let (one, two) = (
        Balancer::start(&redis, &replicas, affinity),
        Balancer::start(&redis, &replicas, affinity),
    );
    until_both(&one, &two, true);
    let visit = |balancer: &Balancer, user: usize| {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: h\r\nCookie: SID=s{user}\r\nConnection: close\r\n\r\n"
        );
        Client::exchange(balancer.address, request).unwrap().text()
    };
    // Both at the same time, so that neither may find what the other begins.
    std::thread::scope(|scope| {
        for balancer in [&one, &two] {
            scope.spawn(move || (0..60).for_each(|user| drop(visit(balancer, user))));
        }
    });
    until("both agree", || (0..60).all(|user| visit(&one, user) == visit(&two, user)));
    // Its endpoint fails at one of them: both go where it moved.
    let home = visit(&one, 0);
    let failing = replicas.iter().find(|r| Client::get(r.address, "/").text() == home).unwrap();
    failing.stop();
    until("it is out everywhere", || {
        [&one, &two].iter().all(|balancer| balancer.program.count("app", "healthy") == 3)
    });
    until("both agree again", || {
        let (first, second) = (visit(&one, 0), visit(&two, 0));
        first == second && first != home
    });
}
