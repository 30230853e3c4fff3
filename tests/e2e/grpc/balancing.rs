//! gRPC while replicas come, go, fail and turn ill.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::*;
use crate::e2e::harness::{Client, until};

/// Calls without pause.
struct Load(Child);

impl Load {
    fn start(address: SocketAddr) -> Load {
        let mut child = Command::new("python3")
            .arg(script("load.py"))
            .args([&address.to_string(), "8"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The rest of what it says comes at its end.
        let mut line = [0; 8];
        child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        assert_eq!(&line, b"started\n");
        Load(child)
    }

    fn stop(mut self) -> Value {
        drop(self.0.stdin.take());
        let mut said = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        self.0.wait().unwrap();
        serde_json::from_str(&said).unwrap()
    }
}

fn until_more(web: &Web, count: u64) {
    let before = web.requests();
    until("more calls", || web.requests() > before + count);
}

const SERVICE: &str = "protocol: h2c\npolicy: round_robin\n\
                       health: { grpc: true, interval: 100ms, unhealthy_after: 1, healthy_after: 1 }";

#[test]
fn a_replica_that_stops_in_order_fails_no_call() {
    let (Some(one), Some(mut two)) = (Server::start("one"), Server::start("two")) else { return };
    // The library's servers end calls with CANCELLED that come when a stop has begun and the client
    // cannot know of it yet.
    let service = format!("{SERVICE}\nretry: {{ on: [reset, grpc_cancelled] }}");
    let web = Web::before(&[one.address, two.address], "", &service);
    until("both are healthy", || web.program.count("app", "healthy") == 2);
    let load = Load::start(web.address);
    until_more(&web, 500);
    // It says GOAWAY, finishes what it has, and is gone.
    two.signal("TERM");
    until("it is gone", || two.child.try_wait().unwrap().is_some());
    until_more(&web, 500);
    let two = Server::start_at("two", two.address);
    until("it is back", || web.program.count("app", "healthy") == 2);
    until_more(&web, 500);
    let said = load.stop();
    assert_eq!(said["failures"], serde_json::json!({}), "{said}");
    assert!(said["replicas"]["one"].as_u64() > said["replicas"]["two"].as_u64(), "{said}");
    drop((one, two));
}

#[test]
fn a_replica_that_is_killed_fails_only_what_it_had() {
    let (Some(one), Some(two)) = (Server::start("one"), Server::start("two")) else { return };
    let web = Web::before(&[one.address, two.address], "", SERVICE);
    until("both are healthy", || web.program.count("app", "healthy") == 2);
    let load = Load::start(web.address);
    until_more(&web, 1000);
    two.signal("KILL");
    until_more(&web, 1000);
    let said = load.stop();
    let failures = said["failures"].as_object().unwrap();
    // Calls that it may have processed are not repeated, unless configuration says so; there were
    // at most eight.
    let count: u64 = failures.values().map(|count| count.as_u64().unwrap()).sum();
    assert!(failures.keys().all(|code| code == "UNAVAILABLE") && count <= 8, "{said}");
    assert!(said["calls"].as_u64().unwrap() > 2000);
}

#[test]
fn calls_are_repeated_where_configuration_says_so() {
    let (Some(one), Some(two)) = (Server::start("one"), Server::start("two")) else { return };
    let service =
        format!("{SERVICE}\nretry: {{ non_idempotent: true, budget: 100%, on: [reset] }}");
    let web = Web::before(&[one.address, two.address], "", &service);
    let log = web.program.folder.join("access.log");
    let config = Client::get(web.program.admin, "/v1/config").text();
    let config = config.replace(&web.program.admin.to_string(), "ADMIN");
    web.program.reconfigure(&format!("{config}access_log: {{ file: {} }}\n", log.display()));
    until("both are healthy", || web.program.count("app", "healthy") == 2);
    let load = Load::start(web.address);
    until_more(&web, 500);
    two.signal("KILL");
    until_more(&web, 500);
    let said = load.stop();
    // What cannot be asked again is a call whose answer had begun; the log has no status for it.
    let failures = said["failures"].as_object().unwrap();
    assert!(failures.keys().all(|code| code == "UNAVAILABLE"), "{said}");
    let failed: u64 = failures.values().map(|count| count.as_u64().unwrap()).sum();
    until(&format!("{said}: as many answers that were cut in the log"), || {
        let text = fs::read_to_string(&log).unwrap();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["status"] == 0).count() as u64 == failed
    });
    assert!(failed <= 8 && said["calls"].as_u64().unwrap() > 1000, "{said}");
}

#[test]
fn a_drained_replica_fails_no_call() {
    let (Some(one), Some(two)) = (Server::start("one"), Server::start("two")) else { return };
    let web = Web::before(&[one.address, two.address], "", SERVICE);
    until("both are healthy", || web.program.count("app", "healthy") == 2);
    let load = Load::start(web.address);
    until_more(&web, 300);
    let id = two.address.to_string();
    let (done, said) = web.program.verb(&["drain", "app", &id]);
    assert!(done, "{said}");
    let of_two = || web.program.endpoint("app", &id)["requests"].as_u64().unwrap();
    until("it has nothing", || web.program.endpoint("app", &id)["in_flight"] == 0);
    let before = of_two();
    until_more(&web, 300);
    assert_eq!(of_two(), before);
    assert!(web.program.verb(&["undrain", "app", &id]).0);
    until("it serves again", || of_two() > before);
    let said = load.stop();
    assert_eq!(said["failures"], serde_json::json!({}), "{said}");
}

#[test]
fn what_the_health_protocol_says_counts() {
    let (Some(one), Some(two)) = (Server::start("one"), Server::start("two")) else { return };
    let service = SERVICE.replace("grpc: true", "grpc: { service: test.Echo }");
    let web = Web::before(&[one.address, two.address], "", &service);
    until("both are healthy", || web.program.count("app", "healthy") == 2);
    two.signal("USR1");
    until("one is ill", || web.program.count("app", "unhealthy") == 1);
    let endpoint = web.program.endpoint("app", &two.address.to_string());
    assert!(endpoint.to_string().contains("NOT_SERVING"), "{endpoint}");
    // The server as a whole still serves; and nobody knows this one.
    let service = SERVICE.replace("grpc: true", "grpc: { service: test.Nobody }");
    let service = service.replace('\n', ", ");
    let program = Evenkeel::spawn(&format!(
        "listeners: {{ web: {{ bind: '127.0.0.1:{}', service: app }} }}\n\
         services: {{ app: {{ endpoints: [ {} ], {service} }} }}\n",
        free_port(),
        one.address
    ));
    until("it says why", || {
        let status = Client::try_get(program.admin, "/v1/services/app");
        status.is_some_and(|status| status.text().contains("status NOT_FOUND"))
    });
}

/// A call by Python, with this metadata; answers the name of its status, or the answer.
fn call(address: SocketAddr, metadata: &str, timeout: &str) -> String {
    let program = format!(
        "import grpc, sys\n\
         call = grpc.insecure_channel('{address}', [('grpc.enable_retries', 0)]).unary_unary('/test.Echo/Unary')\n\
         try:\n    print(call(b'x', timeout={timeout}, metadata=[{metadata}]).decode())\n\
         except grpc.RpcError as error:\n    print(error.code().name, error.details())\n"
    );
    let output = Command::new("python3").args(["-c", &program]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn statuses_are_retried_where_configuration_says_so() {
    let (Some(one), Some(two)) = (Server::start("one"), Server::start("two")) else { return };
    let addresses = [one.address, two.address];
    let service = "protocol: h2c\nretry: { attempts: 2, on: [grpc_unavailable] }";
    let web = Web::before(&addresses, "", service);
    // All of them say so: the last status is what the client gets.
    assert!(call(web.address, "('fail', '14')", "20").starts_with("UNAVAILABLE"));
    assert_eq!((web.requests(), web.count("retries")), (3, 2));
    // Another status is not asked about.
    assert!(call(web.address, "('fail', '8')", "20").starts_with("RESOURCE_EXHAUSTED told to"));
    assert_eq!((web.requests(), web.count("retries")), (4, 2));
}

#[test]
fn failures_of_ours_have_a_grpc_status() {
    let Some(one) = Server::start("one") else { return };
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let web = Web::before(&[nobody], "", "protocol: h2c");
    assert_eq!(call(web.address, "", "20"), "UNAVAILABLE connection refused");
    // The deadline of the client, which then hears it from us or from itself.
    let web = Web::before(&[one.address], "", "protocol: h2c\ntimeouts: { total: 300ms }");
    let said = call(web.address, "('sleep', '20')", "None");
    assert_eq!(said, "DEADLINE_EXCEEDED total time-out");
    // What is passed on is the shorter of both, so that the server may be first to say so.
    let said = call(web.address, "('sleep', '20')", "10");
    assert!(said.starts_with("DEADLINE_EXCEEDED"), "{said}");
    // More than the service takes.
    let service = "protocol: h2c\nlimits: { concurrency: 1 }";
    let web = Web::before(&[one.address], "", service);
    std::thread::scope(|scope| {
        let held = scope.spawn(|| call(web.address, "('sleep', '5')", "20"));
        until("one is there", || web.in_flight() == 1);
        let said = call(web.address, "", "20");
        assert!(said.starts_with("RESOURCE_EXHAUSTED"), "{said}");
        assert_eq!(held.join().unwrap(), "one:x");
    });
    // No route.
    let listener = "routes: [ { path: /else, service: app } ]";
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let program = Evenkeel::run(&format!(
        "listeners: {{ web: {{ bind: {address}, {listener} }} }}\n\
         services: {{ app: {{ endpoints: [ {} ], protocol: h2c, health: off }} }}\n",
        one.address
    ));
    assert_eq!(call(address, "", "20"), "UNIMPLEMENTED no route");
    drop(program);
}

#[test]
fn a_status_in_trailers_counts_as_a_failure() {
    let Some(one) = Server::start("one") else { return };
    let web = Web::before(&[one.address], "", "protocol: h2c");
    let failures =
        || web.program.endpoint("app", &one.address.to_string())["failures"].as_u64().unwrap();
    for (metadata, expected) in [
        ("('fail', '13')", 1),
        // Behind a head that said 200.
        ("('late', '14')", 2),
        // What clients do wrong is none of the endpoint's.
        ("('fail', '3')", 2),
        ("('late', '12')", 2),
        ("", 2),
    ] {
        call(web.address, metadata, "20");
        assert_eq!(failures(), expected, "{metadata}");
    }
}
