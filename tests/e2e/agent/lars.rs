//! The wire of Lars, spoken by protobuf's own library; see `lars.py`, which has a model of the
//! specification.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::json;

use crate::e2e::harness::wait::PATIENCE;
use crate::e2e::harness::{Evenkeel, free_port, until};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/e2e/agent/lars.py");

/// Ports for callers, routes and reports.
struct Ports {
    udp: [u16; 3],
    routes: u16,
    reports: u16,
}

impl Ports {
    fn free() -> Ports {
        Ports { udp: [0; 3].map(|_| free_port()), routes: free_port(), reports: free_port() }
    }

    /// The section `lars`, with these keys.
    fn section(&self, keys: &str) -> String {
        let [a, b, c] = self.udp;
        format!(
            "agent:\n  bind: off\n  lars:\n    \
             udp: [ 127.0.0.1:{a}, 127.0.0.1:{b}, 127.0.0.1:{c} ]\n    \
             routes: 127.0.0.1:{}\n    reports: 127.0.0.1:{}\n    keys: [ {keys} ]\n",
            self.routes, self.reports
        )
    }

    fn udp(&self) -> String {
        self.udp.map(|port| port.to_string()).join(",")
    }
}

fn script(arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.arg(SCRIPT).args(arguments);
    command
}

/// What it prints; fails if it does.
fn run(arguments: &[&str]) -> String {
    let output = script(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}\n{complaint}");
    said
}

const HOSTS: [&str; 5] = [
    "127.0.0.1:5001",
    "10.0.0.2:5002",
    "192.168.1.177:8080",
    "255.255.255.254:1",
    "128.0.0.1:65535",
];

#[test]
fn lars_picks_and_ejections_are_those_of_the_specification() {
    for (seed, defaults) in (1..).zip(["readme", "code", "readme", "code"]) {
        // A window of Lars ends after 15 s: a machine that is too slow for the trace tries again.
        let mut said = String::new();
        until(&format!("a trace with defaults {defaults} in time"), || {
            let ports = Ports::free();
            let (modid, cmdid) = (seed, 7 * seed);
            let key = format!("{{ modid: {modid}, cmdid: {cmdid}, service: web }}");
            let _program = Evenkeel::run(&format!(
                "{}services:\n  web:\n    policy: {{ lars: {{ defaults: {defaults} }} }}\n    \
                 health: off\n    endpoints: [ {} ]\n",
                ports.section(&key),
                HOSTS.map(|host| format!("{host:?}")).join(", ")
            ));
            let (seed, modid, cmdid) = (seed.to_string(), modid.to_string(), cmdid.to_string());
            let hosts = HOSTS.join(",");
            let all = ["trace", defaults, &modid, &cmdid, &hosts, &seed, "12000", &ports.udp()];
            said = run(&all);
            said != "too slow"
        });
        eprintln!("defaults {defaults}, seed {seed}: {said}");
    }
}

#[test]
fn lars_frames_are_those_of_protobuf_and_hostile_ones_harm_nobody() {
    let ports = Ports::free();
    let keys = "{ modid: 1, cmdid: 1, service: web }, { modid: 1, cmdid: 2, service: empty }";
    let program = Evenkeel::run(&format!(
        "{}services:\n  web: {{ policy: lars, health: off, endpoints: [ 192.168.1.177:8080, :5001 ] }}\n  \
         empty: {{ endpoints: [] }}\n",
        ports.section(keys)
    ));
    let said = run(&["wire", "1", "1", &ports.udp()]);
    assert_eq!(said, "192.168.1.177:8080 127.0.0.1:5001");
    let lars = || program.api("/v1/agent")["agent"]["counts"][0].clone();
    until("all of it to be counted", || lars()["malformed"] == 7);
    assert_eq!((&lars()["wire"], &lars()["unknown"]), (&json!("lars"), &json!(1)));
    // Whatever comes, callers are served.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state = 1u64;
    for round in 0..20_000u32 {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let noise = [state.to_le_bytes(), state.rotate_left(17).to_be_bytes()].concat();
        let length = (state >> 40) as usize % 16;
        let frame = [&(round % 10).to_le_bytes()[..], &(length as u32).to_le_bytes()].concat();
        let datagram = [&frame[..], &noise[..length]].concat();
        let _ = socket.send_to(&datagram, ("127.0.0.1", ports.udp[round as usize % 3]));
    }
    let long = [&4u32.to_le_bytes()[..], &60_000u32.to_le_bytes(), &[0; 60_000]].concat();
    socket.send_to(&long, ("127.0.0.1", ports.udp[2])).unwrap();
    assert_eq!(run(&["wire", "1", "1", &ports.udp()]), said);
}

/// A script that goes on and prints lines.
struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start(arguments: &[&str]) -> Follower {
        let mut child = script(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Follower { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line within bounds")
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn lars_routes_are_told_and_told_again_when_they_change() {
    let ports = Ports::free();
    let keys = "{ modid: 1, cmdid: 1, service: web }, { modid: 1, cmdid: 2, service: app }";
    let config = |keys: &str, web: &str| {
        format!(
            "{}services:\n  web: {{ health: off, endpoints: [ {web} ] }}\n  \
             app: {{ health: off, endpoints: [ 10.0.0.1:80 ] }}\n",
            ports.section(keys)
        )
    };
    let program = Evenkeel::run(&config(keys, ":5001, 200.1.2.3:5002"));
    let follower = Follower::start(&["routes", &ports.routes.to_string(), "1:1", "1:2", "5:5"]);
    assert_eq!(follower.line(), "1:1 127.0.0.1:5001 200.1.2.3:5002");
    assert_eq!(follower.line(), "1:2 10.0.0.1:80");
    assert_eq!(follower.line(), "5:5");
    program.reconfigure(&config(keys, ":5001, :5003, 200.1.2.3:5002"));
    // What did not change is not told again; the order is that in which they came.
    assert_eq!(follower.line(), "1:1 127.0.0.1:5001 200.1.2.3:5002 127.0.0.1:5003");
    // Who is drained is given to nobody.
    assert!(program.verb(&["drain", "web", "127.0.0.1:5003"]).0);
    assert_eq!(follower.line(), "1:1 127.0.0.1:5001 200.1.2.3:5002");
    // A key that stands for nothing any more has no hosts, which makes an agent forget it.
    program.reconfigure(&config("{ modid: 5, cmdid: 5, service: app }", ":5001, 200.1.2.3:5002"));
    let mut lines = [follower.line(), follower.line(), follower.line()];
    lines.sort();
    assert_eq!(lines, ["1:1", "1:2", "5:5 10.0.0.1:80"]);
}

/// A route service that is killed takes nobody away, and is heard again when it is back.
#[test]
fn lars_routes_of_another_are_followed() {
    let ports = Ports::free();
    let routes = |hosts: &str| {
        format!(
            "{}services: {{ web: {{ health: off, endpoints: [ {hosts} ] }} }}\n",
            ports.section("{ modid: 3, cmdid: 4, service: web }")
        )
    };
    let service = Evenkeel::run(&routes("10.0.0.1:80, 200.0.0.2:81"));
    let program = Evenkeel::run(&format!(
        "agent: {{ bind: 127.0.0.1:{} }}\nservices:\n  web:\n    health: off\n    \
         discover: {{ lars: {{ address: 127.0.0.1:{}, modid: 3, cmdid: 4 }} }}\n",
        free_port(),
        ports.routes
    ));
    let wait_for = |expected: &[&str]| {
        until(&format!("{expected:?}"), || {
            let all = program.service("web")["endpoints"].as_array().unwrap().clone();
            let mut ids: Vec<_> = all.iter().map(|e| e["id"].as_str().unwrap()).collect();
            ids.sort_unstable();
            ids == expected
        });
    };
    wait_for(&["10.0.0.1:80", "200.0.0.2:81"]);
    service.reconfigure(&routes("10.0.0.1:80, 10.0.0.3:82"));
    wait_for(&["10.0.0.1:80", "10.0.0.3:82"]);
    drop(service);
    let discovery = || program.api("/v1/discovery")["discovery"][0].clone();
    until("the loss to be told", || discovery()["connected"] == false);
    assert_eq!(discovery()["provider"], "lars");
    wait_for(&["10.0.0.1:80", "10.0.0.3:82"]);
    let _service = Evenkeel::run(&routes("10.0.0.4:80"));
    wait_for(&["10.0.0.4:80"]);
    until("it is connected again", || discovery()["connected"] == true);
}

#[test]
fn lars_reports_of_other_agents_are_kept() {
    let ports = Ports::free();
    let program = Evenkeel::run(&format!(
        "{}services: {{ web: {{ health: off, endpoints: [ :5001 ] }} }}\n",
        ports.section("{ modid: 1, cmdid: 1, service: web }")
    ));
    assert_eq!(run(&["status", &ports.reports.to_string()]), "told");
    let agent = program.api("/v1/agent")["agent"].clone();
    let expected = json!([
        { "modid": 1, "cmdid": 2, "host": "10.0.0.1:80", "caller": -9, "succ": u32::MAX, "err": 0,
          "overload": false, "unix_s": 1_700_000_000 },
        { "modid": 1, "cmdid": 2, "host": "192.168.1.177:8080", "caller": -9, "succ": 7, "err": 2,
          "overload": true, "unix_s": 1_700_000_000 },
    ]);
    let mut latest = agent["lars"]["told"]["latest"].as_array().unwrap().clone();
    latest.sort_by_key(|report| report["host"].to_string());
    assert_eq!(json!(latest), expected);
    assert_eq!(agent["lars"]["told"]["dropped"], 0);
    assert_eq!(agent["counts"][0]["malformed"], 4);
}
