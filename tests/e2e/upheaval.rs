//! What happens to replicas and configuration while `wrk` runs at full speed: not one request may
//! fail, not one connection may close, and streams that were open before still work.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::harness::program::signal;
use super::harness::replica::ok;
use super::harness::streams::is_end;
use super::harness::{
    Client, Evenkeel, LOAD_SECONDS, Lines, Quickstart, Replica, WebSocket, Wrk, free_port, until,
};

const CONNECTIONS: usize = 64;
/// Requests after a change until it is believed that the load goes on.
const CALM: u64 = 5000;

fn requests(program: &Evenkeel) -> u64 {
    program.listener("web")["requests_total"].as_u64().unwrap()
}

fn wait_more_requests(program: &Evenkeel, count: u64) {
    let goal = requests(program) + count;
    until(&format!("{count} requests more"), || requests(program) >= goal);
}

/// The quickstart under load, with a WebSocket and a TCP stream open.
struct Scene {
    quickstart: Quickstart,
    wrk: Wrk,
    websocket: WebSocket,
    lines: Lines,
    /// Connections that were ever made to the HTTP listener.
    connections: u64,
}

impl Scene {
    /// The streams go to `web-1`.
    fn start(edit: impl Fn(&str) -> String) -> Scene {
        let quickstart = Quickstart::start_with(edit);
        let websocket = open_on("web-1", || WebSocket::open(quickstart.http), |w| &w.replica);
        let lines = open_on("web-1", || Lines::open(quickstart.tcp), |l| &l.replica);
        let wrk = Wrk::start(quickstart.http, "/", CONNECTIONS, LOAD_SECONDS);
        until("all connections", || {
            let open = quickstart.program.listener("web")["connections"].as_u64().unwrap();
            open == CONNECTIONS as u64 + 1
        });
        wait_more_requests(&quickstart.program, CALM);
        let connections = connections_made(&quickstart.program);
        Scene { quickstart, wrk, websocket, lines, connections }
    }

    fn program(&self) -> &Evenkeel {
        &self.quickstart.program
    }

    fn calm(&self) {
        wait_more_requests(self.program(), CALM);
    }

    fn address(&self, id: &str) -> String {
        self.program().endpoint("web", id)["address"].as_str().unwrap_or_default().to_owned()
    }

    fn signal(&self, id: &str, name: &str) {
        signal(self.quickstart.replica_pid(id), name);
    }

    /// Ends the replica by this signal and waits until another one took its place.
    fn replace(&self, id: &str, name: &str) {
        let before = self.address(id);
        self.signal(id, name);
        until("another process", || ![String::new(), before.clone()].contains(&self.address(id)));
        self.quickstart.wait_replicas(3);
        self.calm();
    }

    fn finish(mut self, what: &str) {
        self.calm();
        self.websocket.assert_works();
        self.lines.assert_works();
        assert!(self.wrk.is_running(), "the load ended before the changes did");
        let made = connections_made(self.program());
        self.wrk.stop().assert_perfect(what);
        assert_eq!(made, self.connections, "{what}: connections were closed");
        let service = self.quickstart.program.service("web");
        eprintln!("{what}: {} retries, {} denied", service["retries"], service["retries_denied"]);
    }
}

/// How many were made once all of the load's are open: on a busy machine a worker may take its part
/// of them in late.
fn connections_of_load(program: &Evenkeel) -> u64 {
    let open = || program.listener("web")["connections"].as_u64().unwrap();
    until("all connections of the load", || open() >= CONNECTIONS as u64);
    connections_made(program)
}

fn connections_made(program: &Evenkeel) -> u64 {
    program.listener("web")["connections_total"].as_u64().unwrap()
}

/// Opens streams until one is on this replica.
fn open_on<T>(replica: &str, open: impl Fn() -> T, on: impl Fn(&T) -> &String) -> T {
    let mut found = None;
    until(&format!("a stream on {replica}"), || {
        found = Some(open()).filter(|stream| on(stream) == replica);
        found.is_some()
    });
    found.unwrap()
}

fn unchanged(config: &str) -> String {
    config.to_owned()
}

#[test]
fn a_killed_replica_costs_no_request() {
    let scene = Scene::start(unchanged);
    for id in ["web-2", "web-3", "web-2"] {
        scene.replace(id, "KILL");
    }
    scene.finish("kill -9 of one of three, three times");
}

#[test]
fn a_replica_that_is_stopped_and_started_again_costs_no_request() {
    let scene = Scene::start(unchanged);
    for id in ["web-3", "web-2"] {
        scene.replace(id, "TERM");
    }
    scene.finish("stop and start of one of three, twice");
}

#[test]
fn a_frozen_replica_costs_no_request() {
    // A user who wants this says how long a request may hang, and that it may then move on.
    let scene = Scene::start(|config| {
        config.to_owned()
            + "    timeouts: { first_byte: 1s }\n    retry: { on: [reset, first_byte_timeout] }\n"
    });
    for _ in 0..2 {
        scene.signal("web-2", "STOP");
        until("it is found out", || scene.program().count("web", "unhealthy") == 1);
        scene.calm();
        scene.signal("web-2", "CONT");
        scene.quickstart.wait_replicas(3);
        scene.calm();
    }
    scene.finish("SIGSTOP and SIGCONT of one of three, twice");
}

#[test]
fn scaling_costs_no_request() {
    let scene = Scene::start(unchanged);
    for count in [6, 2, 3] {
        let (done, said) = scene.program().verb(&["scale", &format!("web={count}")]);
        assert!(done, "{said}");
        scene.quickstart.wait_replicas(count);
        scene.calm();
    }
    scene.finish("scale 3 -> 6 -> 2 -> 3");
}

#[test]
fn a_drained_endpoint_gets_nothing_and_costs_no_request() {
    let scene = Scene::start(unchanged);
    let served = || scene.program().endpoint("web", "web-2")["requests"].as_u64().unwrap();
    for _ in 0..2 {
        let (done, said) = scene.program().verb(&["drain", "web", "web-2"]);
        assert!(done, "{said}");
        until("nothing is in flight there", || {
            let endpoint = scene.program().endpoint("web", "web-2");
            endpoint["state"] == "draining" && endpoint["in_flight"] == 0
        });
        let before = served();
        scene.calm();
        scene.calm();
        assert_eq!(served(), before, "a drained endpoint got requests");
        let (done, said) = scene.program().verb(&["undrain", "web", "web-2"]);
        assert!(done, "{said}");
        until("it takes part again", || served() > before + 100);
    }
    scene.finish("drain and undrain, twice");
}

/// Lines for the listener and for the service of the quickstart, and more at the end.
const CHANGES: [(&str, &str, &str); 10] = [
    ("", "policy: random", ""),
    ("", "policy: least_request", ""),
    ("timeouts: { header: 5s, keep_alive: 30s, idle: 20s }", "policy: least_request", ""),
    (
        "routes: [ { path: /images/*, service: web } ]",
        "timeouts: { first_byte: 20s, total: 30s }",
        "",
    ),
    (
        "routes: [ { path: /images/*, service: web }, { path: /gone, respond: 410 },
          { path: /*, service: web, rewrite: { response_headers: { set: { x-edited: a } } } } ]",
        "retry: { attempts: 4, budget: 50% }",
        "",
    ),
    (
        "routes: [ { path: /*, service: web, rewrite: { request_headers: { set: { x-a: b } },
            response_headers: { set: { x-edited: b }, remove: [ date ] } } } ]",
        "pool: { idle_max: 16, age_max: 1s }",
        "  more: { endpoints: [ 127.0.0.1:MORE ] }\n",
    ),
    (
        "routes: [ { path: /*, services: { web: 3, more: 0 } } ]",
        "drain_grace: 5s",
        "  more: { endpoints: [ 127.0.0.1:MORE ] }\n",
    ),
    ("limits: { header_bytes: 16KiB, header_count: 50 }", "pool: { idle_max: 0 }", ""),
    ("forwarding: { via: false, forwarded: true, request_id: off }", "policy: random", ""),
    ("", "", ""),
];

#[test]
fn ten_changes_of_the_configuration_cost_no_request() {
    let more = Replica::named("more");
    let scene = Scene::start(unchanged);
    let address = scene.quickstart.http;
    let mut edited = Vec::new();
    for (index, (listener, service, end)) in CHANGES.iter().enumerate() {
        let mut config = scene
            .quickstart
            .config()
            .replace("    protocol: http\n", &format!("    protocol: http\n    {listener}\n"))
            .replace("    health:", &format!("    {service}\n    health:"));
        if listener.contains("path: /*,") {
            config = config.replacen("    service: web\n", "", 1);
        }
        let end = end.replace("MORE", &more.port().to_string());
        scene.program().reconfigure(&(config + &end));
        let weight = format!("{{\"weight\": {}}}", index + 1);
        let weighed = scene.program().call("PATCH", "/v1/services/web/endpoints/web-3", &weight);
        assert_eq!(weighed.status, 200, "{}", weighed.text());
        scene.calm();
        // Not one of the load's connections, and closed by the client.
        let response = Client::get(address, "/");
        assert_eq!(response.status, 200);
        edited.push(response.header("x-edited").unwrap_or("-").to_owned());
    }
    assert_eq!(edited.join(" "), "- - - - a b - - - -");
    let connections = scene.connections + CHANGES.len() as u64;
    Scene { connections, ..scene }.finish("ten changes of the configuration");
}

#[test]
fn everything_at_once_costs_no_request() {
    let scene = Scene::start(unchanged);
    let (done, said) = scene.program().verb(&["scale", "web=5"]);
    assert!(done, "{said}");
    scene.signal("web-2", "KILL");
    scene.program().reconfigure(
        &scene.quickstart.config().replace("    health:", "    policy: least_request\n    health:"),
    );
    scene.quickstart.wait_replicas(5);
    scene.program().verb(&["drain", "web", "web-4"]);
    scene.signal("web-3", "KILL");
    scene.calm();
    scene.program().verb(&["undrain", "web", "web-4"]);
    let (done, said) = scene.program().verb(&["scale", "web=2"]);
    assert!(done, "{said}");
    scene.quickstart.wait_replicas(2);
    scene.finish("scale, kills, drain and a change of policy together");
}

#[test]
fn streams_of_a_removed_endpoint_have_a_grace_and_an_end() {
    let quickstart = Quickstart::start_with(|config| config.to_owned() + "    drain_grace: 3s\n");
    let open_both = |replica| {
        let websocket = open_on(replica, || WebSocket::open(quickstart.http), |w| &w.replica);
        (websocket, open_on(replica, || Lines::open(quickstart.tcp), |l| &l.replica))
    };
    let (mut websocket, mut lines) = open_both("web-1");
    let (mut leaving_websocket, mut leaving_lines) = open_both("web-3");
    let (done, said) = quickstart.program.verb(&["scale", "web=2"]);
    assert!(done, "{said}");
    until("it leaves", || quickstart.program.endpoint("web", "web-3")["state"] == "draining");
    leaving_websocket.assert_works();
    leaving_lines.assert_works();
    let mut echoes = 0;
    until("the WebSocket's end", || {
        echoes += 1;
        leaving_websocket.echo("there?").is_err_and(|e| is_end(&e))
    });
    until("the TCP stream's end", || leaving_lines.echo("there?").is_err_and(|e| is_end(&e)));
    quickstart.wait_replicas(2);
    websocket.assert_works();
    lines.assert_works();
    eprintln!("streams of a removed endpoint: {echoes} echoes until the end of the grace");
}

#[test]
fn streams_of_an_endpoint_taken_back_go_on() {
    let quickstart = Quickstart::start_with(|config| config.to_owned() + "    drain_grace: 5s\n");
    let mut kept = open_on("web-2", || WebSocket::open(quickstart.http), |w| &w.replica);
    let mut ended = open_on("web-3", || WebSocket::open(quickstart.http), |w| &w.replica);
    for arguments in
        [["drain", "web", "web-2"], ["undrain", "web", "web-2"], ["drain", "web", "web-3"]]
    {
        let (done, said) = quickstart.program.verb(&arguments);
        assert!(done, "{said}");
    }
    until("the end of the drained one", || ended.echo("there?").is_err_and(|e| is_end(&e)));
    kept.assert_works();
}

fn counted(name: &'static str, address: SocketAddr) -> Replica {
    Replica::http_at(address, move |_| ok(name))
}

#[test]
fn a_static_endpoint_that_comes_back_returns_by_itself() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (a, b) = (counted("a", any), counted("b", any));
    let http = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = |weight: u32| {
        format!(
            "listeners: {{ web: {{ bind: {http}, service: web }} }}\n\
             services:\n  web:\n    health: {{ tcp: true, interval: 200ms }}\n    \
             endpoints: [ {{ address: {}, weight: {weight} }}, {} ]\n",
            a.address, b.address
        )
    };
    let program = Evenkeel::run(&config(1));
    until("both healthy", || program.count("web", "healthy") == 2);
    let mut wrk = Wrk::start(http, "/", CONNECTIONS, LOAD_SECONDS);
    wait_more_requests(&program, CALM);
    let connections = connections_of_load(&program);
    let id = a.address.to_string();
    for weight in [3, 5] {
        a.stop();
        until("found out", || program.endpoint("web", &id)["state"] == "unhealthy");
        wait_more_requests(&program, CALM);
        let again = counted("a", a.address);
        until("returned", || program.count("web", "healthy") == 2);
        let before = again.connections();
        until("it serves again", || again.connections() > before || !again.received().is_empty());
        wait_more_requests(&program, CALM);
        program.reconfigure(&config(weight));
        wait_more_requests(&program, CALM);
        again.stop();
    }
    until("found out", || program.endpoint("web", &id)["state"] == "unhealthy");
    wait_more_requests(&program, CALM);
    assert!(wrk.is_running());
    let made = connections_made(&program);
    wrk.stop().assert_perfect("a static endpoint that stops and comes back, twice");
    assert_eq!(made, connections, "connections were closed");
    let mut names = BTreeMap::<String, u32>::new();
    for _ in 0..4 {
        *names.entry(Client::get(http, "/").text()).or_default() += 1;
    }
    assert_eq!(names.into_iter().collect::<Vec<_>>(), [("b".to_owned(), 4)]);
}
