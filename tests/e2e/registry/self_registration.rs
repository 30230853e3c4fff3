//! `evenkeel register`: three processes come, die, hang and return, and no request fails.

use std::io::Read;
use std::process::Command;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use super::until_timed;
use crate::e2e::harness::pki::Pki;
use crate::e2e::harness::program::{BINARY, Folder, free_port, pids_with_env, signal};
use crate::e2e::harness::registrar::{
    Registrant, Registry, are_healthy, ask, balancer, balancing, list, local, states,
};
use crate::e2e::harness::replica::ok;
use crate::e2e::harness::wait::PATIENCE;
use crate::e2e::harness::{Client, Evenkeel, LOAD_SECONDS, Replica, Wrk, until, within};

const TTL: [&str; 2] = ["--ttl", "1500ms"];

const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

/// In front of the registry, which speaks HTTP, a listener that speaks TLS.
#[test]
fn it_registers_over_tls_where_it_trusts_who_answers() {
    let folder = Folder::new();
    Pki::new(&folder.0, "ca").issue("registry", &["127.0.0.1"]);
    Pki::new(&folder.0, "others");
    let at = |name: &str| folder.join(name).display().to_string();
    let (registry, front) = (Registry::start(""), local());
    let _front = Evenkeel::run(&format!(
        "listeners:\n  front:\n    bind: {front}\n    service: registry\n    tls:\n      \
         certificates: [ {{ certificate: {}, key: {} }} ]\n\
         services: {{ registry: {{ endpoints: [ '{}' ], health: off }} }}\n",
        at("registry.crt"),
        at("registry.key"),
        registry.address,
    ));
    let start = |id: &str, ca: &str| {
        let (url, ca) = (format!("https://{front}"), at(ca));
        Registrant::start_at(&url, front, free_port(), id, &["--ca", &ca])
    };
    let stranger = start("stranger", "others.pem");
    let known = start("known", "ca.pem");
    until("one is listed", || is_listed(&registry, "known"));
    until("the other is told why not", || stranger.program.log().contains("certificate"));
    assert!(!is_listed(&registry, "stranger"));

    let look_with = |ca: &str| {
        let (ca, bind) = (at(ca), local());
        let there = format!("registry: {{ url: 'https://{front}', tls: {{ ca: {ca} }} }}\n");
        let config = there + &balancing(bind);
        let program = Evenkeel::spawn(&config);
        until("it answers", || Client::try_get(program.admin, "/healthz").is_some());
        (program, bind, config)
    };
    let (finds, bind, config) = look_with("ca.pem");
    let (refuses, ..) = look_with("others.pem");
    until("it is an endpoint", || are_healthy(&finds, &["known"]));
    assert_eq!(Client::get(bind, "/").status, 200);
    assert!(finds.verb(&["status"]).1.contains(&format!("https://{front}, web")));
    until("it says why it finds nobody", || refuses.verb(&["status"]).1.contains("certificate"));
    assert!(states(&refuses).is_empty());
    // A service that comes while the file is not there finds it once it is.
    let (there, away) = (at("ca.pem"), at("away.pem"));
    std::fs::rename(&there, &away).unwrap();
    let more = "services:\n  more: { discover: { registry: { service: web } } }\n";
    finds.reconfigure(&config.replace("services:\n", more));
    until("it is told", || finds.verb(&["status"]).1.contains("ca.pem"));
    std::fs::rename(&away, &there).unwrap();
    until("it is found", || finds.endpoint("more", "known").is_object());
    known.program.signal("TERM");
    until("that it left is heard of", || !are_healthy(&finds, &["known"]));
}

fn is_listed(registry: &Registry, id: &str) -> bool {
    registry.list("web").iter().any(|instance| instance["id"] == id)
}

#[test]
fn three_instances_die_hang_and_return_and_the_registry_restarts() {
    let mut registry = Registry::start("");
    let bind = local();
    let start = |registry: &Registry, id: &str| Registrant::start(registry.address, id, &TTL);
    let [one, two, three] = ["web-1", "web-2", "web-3"].map(|id| start(&registry, id));
    let program = balancer(registry.address, bind);
    until_timed("three register and take traffic", || {
        are_healthy(&program, &["web-1", "web-2", "web-3"])
    });
    let load = Wrk::start(bind, "/", 8, LOAD_SECONDS);

    // The command dies: who registered it says so at once, and ends with its status.
    let mut one = one;
    signal(one.child(), "KILL");
    until_timed("kill -9 of a command: its endpoint is gone", || {
        are_healthy(&program, &["web-2", "web-3"])
    });
    assert_eq!(one.program.wait_exit(), Some(128 + 9));
    let one = Registrant::start_on(registry.address, one.port, "web-1", &TTL);
    until("it is back", || are_healthy(&program, &["web-1", "web-2", "web-3"]));

    // Its machine dies: nobody says anything, and its TTL ends.
    one.die();
    until_timed("kill -9 of both: no traffic any more", || {
        !states(&program).contains(&("web-1".into(), "healthy".into()))
    });
    until_timed("kill -9 of both: it has left after its TTL", || !is_listed(&registry, "web-1"));
    until("and here, too", || are_healthy(&program, &["web-2", "web-3"]));
    let one = start(&registry, "web-1");
    until("another takes its place", || are_healthy(&program, &["web-1", "web-2", "web-3"]));

    // It hangs: no heartbeats are sent for what does not work.
    let child = two.child();
    signal(child, "STOP");
    until_timed("SIGSTOP: no traffic any more", || {
        !states(&program).contains(&("web-2".into(), "healthy".into()))
    });
    until_timed("SIGSTOP: it has left after its TTL", || !is_listed(&registry, "web-2"));
    signal(child, "CONT");
    until_timed("SIGCONT: it is back", || are_healthy(&program, &["web-1", "web-2", "web-3"]));

    // The registry dies, and one of the instances while it is away.
    let (folder, address) = (Folder::new(), registry.address);
    drop(folder);
    let kept = registry.kill();
    until("the loss is told", || {
        let discovery = program.api("/v1/discovery");
        discovery["discovery"][0]["connected"] == false
    });
    three.die();
    until("no traffic for the dead", || {
        !states(&program).contains(&("web-3".into(), "healthy".into()))
    });
    registry = Registry::start_in(kept, address, "");
    until_timed("registry restarted: the others are proven there", || {
        let all = registry.list("web");
        let is_up = |id: &str| all.iter().any(|i| i["id"] == id && i["state"] == "up");
        is_up("web-1") && is_up("web-2")
    });
    until("the dead has left", || are_healthy(&program, &["web-1", "web-2"]));
    let _three = start(&registry, "web-3");
    until("a third is back", || are_healthy(&program, &["web-1", "web-2", "web-3"]));

    let load = load.stop();
    load.assert_perfect("three that die, hang and return, and a registry that restarts");
    eprintln!("{load:?}");
    drop((one, two));
}

/// A command that ignores SIGTERM, as does what it starts: both end with who registered them.
#[test]
fn a_command_ends_with_who_registered_it() {
    let registry = Registry::start("");
    let mark = format!("MARK={}", local());
    let mut command = std::process::Command::new(BINARY);
    let port = free_port().to_string();
    let script = "trap '' TERM HUP INT; sleep 1000 & exec \"$0\" echo";
    command.args(["register", "--service", "web", "--port", &port, "--registry", &registry.url()]);
    command.args(["--ttl", "1500ms", "--grace", "300ms", "--", "sh", "-c", script, BINARY]);
    let (name, value) = mark.split_once('=').unwrap();
    command.env(name, value);
    let mut program = Evenkeel::start(command, registry.address, Folder::new());
    until("it is registered", || registry.list("web").len() == 1);
    let alive = || pids_with_env(&mark).into_iter().filter(|pid| *pid != program.child.id());
    // The watchdog, the command, and what that started.
    assert_eq!(alive().count(), 3);
    program.signal("KILL");
    until_timed("kill -9 of who registered it: the command has ended", || alive().count() == 0);
    until_timed("it has left after its TTL", || registry.list("web").is_empty());
    program.wait_exit();
}

/// Nothing is on disk: what begins anew knows nobody, and so removes nobody.
#[test]
fn a_registry_that_forgot_everything_removes_nobody() {
    let registry = Registry::start("data: off");
    let bind = local();
    let start = |id: &str| Registrant::start(registry.address, id, &["--ttl", "3s"]);
    let _instances = ["web-1", "web-2"].map(start);
    let program = balancer(registry.address, bind);
    until("two", || are_healthy(&program, &["web-1", "web-2"]));
    let load = Wrk::start(bind, "/", 4, LOAD_SECONDS);
    let registry = registry.restart("data: off");
    until_timed("both register again", || registry.list("web").len() == 2);
    until("it is told that it has just begun", || {
        let discovery = program.api("/v1/discovery");
        discovery["discovery"][0]["reason"].as_str().is_some_and(|r| r.contains("just begun"))
    });
    assert!(are_healthy(&program, &["web-1", "web-2"]));
    until("until it has heard of all", || {
        program.api("/v1/discovery")["discovery"][0]["connected"] == true
    });
    load.stop().assert_perfect("a registry without memory that restarts");
}

#[test]
fn the_balancer_that_is_the_registry_restarts_without_sending_to_the_dead() {
    let (address, bind) = (local(), local());
    let config = format!("registry: {{ bind: {address} }}\n{}", balancing(bind));
    let mut program = Evenkeel::run(&config);
    let start = |id: &str| Registrant::start(address, id, &["--ttl", "4s"]);
    let [one, two, three] = ["web-1", "web-2", "web-3"].map(start);
    until("three", || are_healthy(&program, &["web-1", "web-2", "web-3"]));
    // What was registered is on disk a moment later.
    until("it is kept", || program.api("/v1/registry")["registry"]["durable"] == true);
    let data = program.folder.join("evenkeel-registry.redb");
    let written = || std::fs::metadata(&data).unwrap().modified().unwrap();
    // What comes after them is written with them, or after.
    let known = std::time::SystemTime::now();
    ask(address, "PUT", "/v1/services/later/instances/one", r#"{"port": 1, "ttl_ms": 60000}"#);
    until("it is written", || {
        written() > known && written().elapsed().unwrap() > Duration::from_millis(300)
    });

    program.signal("KILL");
    program.wait_exit();
    let folder = std::mem::replace(&mut program.folder, Folder(Default::default()));
    three.die();
    let program = Evenkeel::spawn_in(folder, &config);
    program.wait_ready();
    let load = Wrk::start(bind, "/", 4, LOAD_SECONDS);
    // All three are known from before; the dead never proves itself.
    assert!(list(address, "web").len() >= 2, "{:?}", list(address, "web"));
    until("two are proven", || {
        let all = states(&program);
        all.iter().filter(|(_, state)| state == "healthy").count() == 2
    });
    until_timed("the dead has left", || are_healthy(&program, &["web-1", "web-2"]));
    load.stop().assert_perfect("after the restart of registry and balancer");
    let log = program.log();
    assert!(log.contains("4 instances are known from before, and must prove themselves"), "{log}");
    drop((one, two));
}

#[test]
fn a_command_is_drained_before_it_stops() {
    let registry = Registry::start("data: off");
    let bind = local();
    let mut first = Registrant::start(registry.address, "web-1", &[]);
    let program = balancer(registry.address, bind);
    until("it serves", || are_healthy(&program, &["web-1"]));
    let child = first.child();
    let mut slow = Client::connect(bind);
    slow.send("GET /delay/1500 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    until("it is under way", || program.endpoint("web", "web-1")["in_flight"] == 1);
    let _second = Registrant::start(registry.address, "web-2", &[]);
    until("another serves", || are_healthy(&program, &["web-1", "web-2"]));
    let load = Wrk::start(bind, "/", 4, LOAD_SECONDS);

    first.program.signal("TERM");
    // Although this registry has just begun, and does not know who else is missing.
    within(Duration::from_secs(10), "deregistered: it gets nothing new", || {
        !states(&program).contains(&("web-1".into(), "healthy".into()))
    });
    assert_eq!(slow.response().unwrap().status, 200, "what it had is finished");
    assert_eq!(first.program.wait_exit(), Some(0));
    assert!(!std::path::Path::new(&format!("/proc/{child}")).exists(), "it was stopped");
    until("it says what it did", || {
        let log = first.program.log();
        log.contains("deregistered") && log.contains("drained within")
    });
    load.stop().assert_perfect("a drained command");
}

#[test]
fn what_is_wrong_ends_it_with_a_reason() {
    let registry = Registry::start("data: off, token: 0123456789abcdef");
    let mut wrong = Registrant::start(registry.address, "web-1", &["--token", "wrong"]);
    assert_eq!(wrong.program.wait_exit(), Some(1));
    until("it says why", || wrong.program.log().contains("the registry refuses it: 401"));
    let folder = Folder::new();
    let file = folder.join("token");
    std::fs::write(&file, "0123456789abcdef\n").unwrap();
    let token = ["--token-file", file.to_str().unwrap()];
    let right = Registrant::start(registry.address, "web-2", &token);
    until("it is taken", || right.program.log().contains("registered as web-2 for web"));

    let never = ["--check", "http:/status/500", "--start-within", "300ms"];
    let mut ill = Registrant::start(registry.address, "web-3", &never);
    assert_eq!(ill.program.wait_exit(), Some(1));
    until("it says why", || {
        let log = ill.program.log();
        log.contains("GET /status/500 on port") && log.contains("did not succeed")
    });
    until("its command is stopped", || {
        crate::e2e::harness::program::pids_with_env(&format!("PORT={}", ill.port)).is_empty()
    });
}

#[test]
fn something_that_runs_already_is_registered_for_as_long_as_asked() {
    let registry = Registry::start("data: off");
    let replica = Replica::named("here before");
    let port = replica.port().to_string();
    let mut command = Command::new(BINARY);
    command.args(["register", "--service", "web", "--port", &port, "--registry", &registry.url()]);
    command.args(["--weight", "7", "--zone", "a", "--meta", "version=2"]);
    let mut registrant = Evenkeel::start(command, registry.address, Folder::new());
    until("it is registered", || registry.list("web").len() == 1);
    let listed = &registry.list("web")[0];
    assert_eq!((&listed["weight"], &listed["zone"]), (&7.into(), &"a".into()));
    assert_eq!(listed["metadata"]["version"], "2");
    // From where it came.
    assert_eq!(listed["address"], "127.0.0.1");
    registrant.signal("INT");
    assert_eq!(registrant.wait_exit(), Some(0));
    within(Duration::from_secs(5), "it has left", || registry.list("web").is_empty());
    assert_eq!(Client::get(replica.address, "/").status, 200, "and was not stopped");
}

/// A registry (fake: it answers when it is told to) has taken a registration, and its answer comes
/// after the end was asked for.
#[test]
fn what_a_registry_took_at_the_last_moment_is_taken_out() {
    let (asked_in, asked) = mpsc::channel();
    let (told_in, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let registry = Replica::raw(move |connection| {
        while let Some(seen) = connection.request() {
            asked_in.send(seen.line().to_owned()).unwrap();
            if seen.line().starts_with("PUT") {
                told.lock().unwrap().recv().unwrap();
                // Who gives it up does so now.
                let patience = Some(Duration::from_millis(100));
                connection.stream.set_read_timeout(patience).unwrap();
                let read = connection.stream.read(&mut [0]);
                assert!(!matches!(read, Ok(0)), "it did not wait for the answer");
                connection.stream.set_read_timeout(None).unwrap();
            }
            let body = r#"{"heartbeat_ms": 5000}"#;
            connection.send(ok(body)).unwrap();
        }
    });
    let replica = Replica::named("here before");
    let mut command = Command::new(BINARY);
    let (port, url) = (replica.port().to_string(), format!("http://{}", registry.address));
    command.args(["register", "--service", "web", "--port", &port, "--registry", &url]);
    let mut registrant = Evenkeel::start(command, registry.address, Folder::new());
    let next = || asked.recv_timeout(PATIENCE).unwrap();
    let put = next();
    assert!(put.starts_with("PUT /v1/services/web/instances/web-"), "{put}");
    registrant.signal("INT");
    told_in.send(()).unwrap();
    assert_eq!(next(), put.replace("PUT", "DELETE"));
    assert_eq!(registrant.wait_exit(), Some(0));
}

/// Its successor is told to end before it ever worked.
#[test]
fn who_never_registered_takes_out_nobody() {
    let registry = Registry::start("data: off");
    let (replica, ill) = (Replica::named("serves"), Replica::http(|_| UNAVAILABLE.into()));
    let body = format!(r#"{{"port": {}, "ttl_ms": 60000}}"#, replica.port());
    registry.ask("PUT", "/v1/services/web/instances/web-1", &body);
    let mut command = Command::new(BINARY);
    let (port, url) = (ill.port().to_string(), registry.url());
    command.args(["register", "--service", "web", "--id", "web-1", "--port", &port]);
    command.args(["--check", "http:/healthz", "--registry", &url]);
    let mut successor = Evenkeel::start(command, registry.address, Folder::new());
    until("it was looked whether it works", || ill.connections() > 0);
    successor.signal("INT");
    assert_eq!(successor.wait_exit(), Some(0));
    assert_eq!(registry.list("web")[0]["id"], "web-1");
}

/// Weight, zone and address follow; the balancer's own status tells of the registry.
#[test]
fn what_is_registered_is_followed() {
    let (address, bind) = (local(), local());
    let config = format!("registry: {{ bind: {address} }}\n{}", balancing(bind));
    let program = Evenkeel::run(&config);
    let [a, b] = ["a", "b"].map(Replica::named);
    let put = |id: &str, port: u16, more: &str| {
        let body = format!(r#"{{"port": {port}, "ttl_ms": 60000 {more}}}"#);
        let path = format!("/v1/services/web/instances/{id}");
        let reply = crate::e2e::harness::registrar::ask(address, "PUT", &path, &body);
        assert!(matches!(reply.status, 200 | 201), "{}", reply.text());
    };
    put("x", a.port(), r#", "weight": 4, "zone": "north", "priority": 1"#);
    until("it is an endpoint", || are_healthy(&program, &["x"]));
    let endpoint = program.endpoint("web", "x");
    assert_eq!((&endpoint["weight"], &endpoint["zone"]), (&4.into(), &"north".into()));
    assert_eq!(endpoint["priority"], 1);
    put("x", a.port(), r#", "weight": 9"#);
    until("its weight follows", || program.endpoint("web", "x")["weight"] == 9);
    put("x", b.port(), "");
    until("its address follows", || Client::get(bind, "/").text() == "b");

    let registry = program.api("/v1/registry")["registry"].clone();
    assert_eq!((&registry["store"], &registry["instances"]), (&"local".into(), &1.into()));
    let (good, status) = program.verb(&["status"]);
    assert!(good && status.contains("REGISTRY") && status.contains("in order"), "{status}");
    assert!(status.contains("here, web (for web)"), "{status}");
    let metrics = Client::get(program.admin, "/metrics").text();
    assert!(metrics.contains("\nevenkeel_registry_instances 1\n"), "{metrics}");

    // Another registry is another answer; none at all leaves what there is.
    let other = Registry::start("data: off");
    crate::e2e::harness::registrar::ask(
        other.address,
        "PUT",
        "/v1/services/web/instances/y",
        &format!(r#"{{"port": {}}}"#, a.port()),
    );
    let url = other.url();
    program.reconfigure(&format!("registry: {{ url: '{url}' }}\n{}", balancing(bind)));
    until("the other registry's", || are_healthy(&program, &["y"]));
    until("the former one is closed", || Client::try_get(address, "/healthz").is_none());
}

/// Self-preservation, as an operator sees it.
#[test]
fn when_most_fall_silent_at_once_they_stay_and_it_is_told() {
    let registry = Registry::start("data: off");
    for number in 1..=4 {
        let body = format!(r#"{{"port": {number}, "ttl_ms": 4000}}"#);
        registry.ask("PUT", &format!("/v1/services/web/instances/web-{number}"), &body);
    }
    let status = || registry.program.api("/v1/registry")["registry"].clone();
    until("it is told", || status()["preserving_ms"].is_u64());
    assert_eq!(registry.list("web").len(), 4);
    let list = registry.ask("GET", "/v1/services/web/instances", "").text();
    assert!(list.contains("\"preserving\":true"), "{list}");
    let (_, text) = registry.program.verb(&["status"]);
    assert!(text.contains("self-preservation for "), "{text}");
    // Three are back: the fourth is dead, and leaves.
    until("the fourth leaves", || {
        for number in 1..=3 {
            let path = format!("/v1/services/web/instances/web-{number}/heartbeat");
            assert_eq!(registry.ask("POST", &path, "").status, 200);
        }
        registry.list("web").len() == 3
    });
    assert_eq!(status()["preserving_ms"], serde_json::Value::Null);
    assert_eq!(status()["preservations"], 1);
}
