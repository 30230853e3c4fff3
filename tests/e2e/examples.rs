//! Each folder of `examples/`, as its README says, on ports of its own.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use super::harness::peer::{find, skip};
use super::harness::program::{Folder, pid_with_env, signal};
use super::harness::wait::PATIENCE;
use super::harness::{Beside, Client, Evenkeel, Quickstart, free_port, until};

/// An example that runs, with the files of its folder beside its configuration.
struct Example {
    program: Evenkeel,
    address: SocketAddr,
    service: &'static str,
    config: String,
}

impl Example {
    /// `port` is where its one listener is in the file.
    fn start(folder: &str, port: u16, service: &'static str) -> Example {
        Self::start_with(folder, port, service, str::to_owned)
    }

    fn start_with(
        folder: &str,
        port: u16,
        service: &'static str,
        edit: impl Fn(&str) -> String,
    ) -> Example {
        let copy = Folder::new();
        for file in fs::read_dir(root(folder)).unwrap().flatten() {
            if file.path().is_file() {
                fs::copy(file.path(), copy.0.join(file.file_name())).unwrap();
            }
        }
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let text = fs::read_to_string(copy.join("evenkeel.yaml")).unwrap();
        let written = format!("127.0.0.1:{port}");
        assert!(text.contains(&written), "{folder} listens on {written}");
        let text = text.replace("127.0.0.1:9900", "ADMIN").replace(&written, &address.to_string());
        let config = edit(&text);
        let program = Evenkeel::spawn_in(copy, &config);
        program.wait_ready();
        let example = Example { program, address, service, config };
        example.wait_replicas(3);
        example
    }

    fn endpoints(&self) -> Vec<Value> {
        self.program.service(self.service)["endpoints"].as_array().unwrap().clone()
    }

    /// Waits until exactly `count` replicas are there and healthy.
    fn wait_replicas(&self, count: usize) {
        until(&format!("{count} replicas; it said:\n{}", self.program.log()), || {
            let endpoints = self.endpoints();
            endpoints.len() == count && endpoints.iter().all(|e| e["state"] == "healthy")
        });
    }

    fn scale(&self, replicas: usize) {
        let (done, said) = self.program.verb(&["scale", &format!("{}={replicas}", self.service)]);
        assert!(done, "{said}");
        self.wait_replicas(replicas);
    }

    /// A change of the file that takes hold: one more listener.
    fn change(&self) {
        let listener = format!(
            "listeners:\n  more: {{ bind: 127.0.0.1:{}, service: {} }}",
            free_port(),
            self.service
        );
        self.program.reconfigure(&self.config.replace("listeners:", &listener));
        assert_eq!(self.program.listener("more")["name"], "more");
    }

    /// Connections per replica.
    fn in_flight(&self) -> Vec<u64> {
        self.endpoints().iter().map(|e| e["in_flight"].as_u64().unwrap()).collect()
    }

    fn client(&self, target: &str, count: usize) -> Interactive {
        Interactive::start(
            Command::new("python3")
                .arg(self.program.folder.join("client.py"))
                .args([target, &count.to_string()]),
        )
    }
}

fn root(folder: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(folder)
}

/// A program that is told something by lines and answers by lines.
struct Interactive {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
}

impl Interactive {
    fn start(command: &mut Command) -> Interactive {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the client");
        let (lines, output) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let input = child.stdin.take();
        Interactive { child, input, output }
    }

    /// As a person who presses Enter.
    fn enter(&mut self) {
        self.input.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn line(&self) -> String {
        self.output.recv_timeout(PATIENCE).expect("another line from the client")
    }

    /// Ends its input; it must then end well.
    fn finish(mut self) -> Vec<String> {
        self.input = None;
        let mut status = None;
        until("the client's end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success(), "{status:?}");
        self.output.iter().collect()
    }
}

impl Drop for Interactive {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Does `python3` have the module? `./test` puts its own first on the path, which does.
fn has_module(module: &str) -> bool {
    let output = Command::new("python3").args(["-c", &format!("import {module}")]).output();
    let has = output.is_ok_and(|output| output.status.success());
    if !has {
        skip(&format!("python3 with {module}"), "is not installed");
    }
    has
}

/// `examples/quickstart`
#[test]
fn the_quickstart_goes_round_over_http_and_tcp() {
    let quickstart = Quickstart::start();
    let mut names: Vec<_> = (0..6).map(|_| Client::get(quickstart.http, "/").text()).collect();
    names.sort();
    assert_eq!(
        names.concat(),
        "web-1 GET /\nweb-1 GET /\nweb-2 GET /\nweb-2 GET /\nweb-3 GET /\nweb-3 GET /\n"
    );
    let mut names: Vec<_> = (0..3)
        .map(|_| {
            let mut client = Client::connect(quickstart.tcp);
            client.send("hello\r\n").unwrap();
            client.line().unwrap()
        })
        .collect();
    names.sort();
    assert_eq!(names, ["web-1 hello", "web-2 hello", "web-3 hello"]);
}

/// `examples/flask-style`
#[test]
fn a_python_application_loses_a_replica_and_no_request() {
    if find("python3").is_none() {
        return;
    }
    let example = Example::start("examples/flask-style", 8080, "app");
    let mut visits = std::collections::BTreeMap::<String, u64>::new();
    until("an answer of each replica", || {
        let answer: Value =
            serde_json::from_slice(&Client::get(example.address, "/").body).unwrap();
        let count = visits.entry(answer["replica"].as_str().unwrap().to_owned()).or_default();
        *count += 1;
        assert_eq!(answer["visits"], *count, "each replica counts for itself");
        visits.len() == 3
    });
    assert_eq!(visits.keys().collect::<Vec<_>>(), ["app-1", "app-2", "app-3"]);

    let mut client = Client::connect(example.address);
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello").unwrap();
    let answer: Value = serde_json::from_slice(&client.response().unwrap().body).unwrap();
    assert_eq!(answer["body"], "hello");
    client.send("DELETE / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().status, 404);
    assert_eq!(Client::get(example.address, "/slow").status, 200);

    let beside = Beside::start(example.address, "/");
    let killed = example.program.endpoint("app", "app-2")["address"].as_str().unwrap().to_owned();
    let (_, port) = killed.rsplit_once(':').unwrap();
    signal(pid_with_env(&format!("PORT={port}")).unwrap(), "KILL");
    until("another process for app-2", || {
        let endpoint = example.program.endpoint("app", "app-2");
        endpoint["state"] == "healthy" && endpoint["address"] != *killed
    });
    beside.goes_on();
    example.scale(5);
    beside.goes_on();
    example.scale(2);
    let answered = beside.assert_unharmed();
    eprintln!("python application, killed and scaled 3-5-2: {answered} requests, 0 failed");
}

/// `examples/mqtt`
#[test]
fn mqtt_sessions_spread_over_brokers_and_outlive_changes() {
    if find("mosquitto").is_none() || !has_module("paho.mqtt") {
        return;
    }
    let example = Example::start("examples/mqtt", 1883, "broker");
    let mut client = example.client(&example.address.port().to_string(), 6);
    assert!(client.line().starts_with("6 sessions"));
    assert_eq!(example.in_flight(), [2, 2, 2], "two sessions for each broker");
    for step in 0..4 {
        match step {
            0 => {}
            1 => example.change(),
            2 => example.scale(5),
            _ => example.scale(3),
        }
        client.enter();
        assert_eq!(client.line(), "6 of 6 came back, 0 disconnects", "step {step}");
    }
    assert_eq!(example.in_flight(), [2, 2, 2], "where they were");
    client.finish();
    until("no session", || example.in_flight() == [0, 0, 0]);
}

/// `examples/mqtt`
#[test]
fn the_clients_of_mosquitto_speak_through_the_balancer() {
    let programs = ["mosquitto", "mosquitto_rr", "mosquitto_sub", "mosquitto_pub"];
    if programs.iter().any(|program| find(program).is_none()) {
        return;
    }
    let example = Example::start("examples/mqtt", 1883, "broker");
    let port = example.address.port().to_string();
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(["-p", &port]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run("mosquitto_rr", &["-t", "ping", "-e", "ping", "-m", "hello"]), "hello\n");

    // Each subscriber goes to a broker of its own, so one of them gets what is published.
    until("no session", || example.in_flight() == [0, 0, 0]);
    let subscribers: Vec<_> = (1..=3)
        .map(|count| {
            let mut command = Command::new("mosquitto_sub");
            let subscriber =
                Interactive::start(command.args(["-p", &port, "-t", "news", "-q", "1"]));
            until("the subscriber's session", || example.in_flight().iter().sum::<u64>() == count);
            subscriber
        })
        .collect();
    assert_eq!(example.in_flight(), [1, 1, 1]);
    let publish = |text: &str| {
        // Again until it comes: a subscription is made a moment after its session.
        until("the message at a subscriber", || {
            run("mosquitto_pub", &["-t", "news", "-q", "1", "-m", text]);
            subscribers.iter().any(|s| s.output.try_iter().any(|line| line == text))
        });
    };
    publish("before");
    example.change();
    example.scale(4);
    example.scale(3);
    publish("after");
    // The last publisher's session ends a moment after its program.
    until("the three sessions, and no other", || example.in_flight().iter().sum::<u64>() == 3);
}

/// `examples/agent`
#[test]
fn callers_of_the_agent_lose_a_replica_and_no_call() {
    if find("python3").is_none() {
        return;
    }
    let example = Example::start_with("examples/agent", 9901, "web", |text| {
        let ports = ["8888", "8889", "8890", "7778", "7779"];
        ports.iter().fold(text.to_owned(), |text, port| {
            assert!(text.contains(port), "the ports of Lars are written down");
            text.replace(port, &free_port().to_string())
        })
    });
    let python = root("clients/python");
    let start = |calls: &str| {
        let mut command = Command::new("python3");
        command.arg(example.program.folder.join("client.py"));
        command.args([&example.address.to_string(), calls]).env("PYTHONPATH", &python);
        Interactive::start(command.env("PYTHONDONTWRITEBYTECODE", "1"))
    };
    let said = start("30").finish();
    assert_eq!(said.len(), 31);
    assert_eq!(said[30], "0 of 30 failed");
    for replica in ["web-1", "web-2", "web-3"] {
        let answers =
            said.iter().filter(|line| line.starts_with(&format!("{replica}: {replica} ")));
        assert_eq!(answers.count(), 10, "in turn: {said:?}");
    }
    // A replica is killed: its callers go elsewhere, and it is picked again once it is well.
    let client = start("400");
    client.line();
    let killed = example.program.endpoint("web", "web-2")["address"].as_str().unwrap().to_owned();
    let (_, port) = killed.rsplit_once(':').unwrap();
    signal(pid_with_env(&format!("PORT={port}")).unwrap(), "KILL");
    assert_eq!(client.finish().last().unwrap(), "0 of 400 failed");
    example.wait_replicas(3);
    assert_eq!(start("30").finish().last().unwrap(), "0 of 30 failed");
    let counts = example.program.api("/v1/agent")["agent"]["counts"].clone();
    assert_eq!((&counts[0]["outstanding"], &counts[1]["wire"]), (&0.into(), &"lars".into()));
    // Hung, it is missed by nobody who has asked before.
    let client = start("2000");
    client.line();
    example.program.signal("STOP");
    let said = client.finish();
    example.program.signal("CONT");
    assert_eq!(said.last().unwrap(), "0 of 2000 failed");
    assert!(said.iter().any(|line| line.contains(", last known: ")), "{said:?}");
}

/// `examples/grpc`
#[test]
fn calls_of_one_channel_go_to_all_replicas() {
    if !has_module("grpc_health.v1") {
        return;
    }
    let example = Example::start("examples/grpc", 8080, "greeter");
    let client = |calls: usize| {
        let output = Command::new("python3")
            .arg(example.program.folder.join("client.py"))
            .args([&example.address.to_string(), &calls.to_string()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let said = client(30);
    for replica in 1..=3 {
        assert!(said.contains(&format!("greeter-{replica} answered 10 calls\n")), "{said}");
    }
    assert!(said.contains(" counts 3\n"), "{said}");
    example.scale(5);
    example.change();
    let said = client(50);
    assert_eq!(said.matches(" answered 10 calls\n").count(), 5, "{said}");
    // As a browser would call it.
    let mut browser = Client::connect(example.address);
    let head = "POST /demo.Greeter/Greet HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc-web\r\nContent-Length: 8\r\n\r\n";
    browser.send([head.as_bytes(), b"\0\0\0\0\x03you"].concat()).unwrap();
    let answer = browser.response().unwrap();
    let text = answer.text();
    assert!(text.contains(" greets you") && text.contains("grpc-status: 0\r\n"), "{text}");
}

/// `examples/websocket`
#[test]
fn websockets_answer_before_and_after_every_change() {
    if !has_module("websockets") {
        return;
    }
    let own = "[python3, server.py]";
    for command in ["[evenkeel, echo]", own] {
        let example = Example::start_with("examples/websocket", 8080, "echo", |text| {
            assert!(text.contains(own), "the other server is named");
            text.replace("command: [evenkeel, echo]", &format!("command: {command}"))
        });
        let mut client = example.client(&format!("ws://{}/", example.address), 6);
        assert!(client.line().starts_with("6 connections"));
        assert_eq!(example.in_flight(), [2, 2, 2], "two connections for each replica");
        for step in 0..4 {
            match step {
                0 => {}
                1 => example.change(),
                2 => example.scale(5),
                _ => example.scale(3),
            }
            client.enter();
            assert_eq!(client.line(), "6 of 6 answered", "{command}, step {step}");
        }
        assert_eq!(client.finish(), ["closed with [4000]"]);
        until("no connection", || example.in_flight() == [0, 0, 0]);
    }
}

/// `examples/dns`
#[test]
fn dns_tells_who_serves_and_is_believed() {
    let names = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let example = Example::start_with("examples/dns", 8080, "web", |text| {
        text.replace("127.0.0.1:5353", &names.to_string())
    });
    let ports = |service: &str| {
        let service = example.program.service(service);
        let port = |endpoint: &Value| {
            let address: SocketAddr = endpoint["address"].as_str()?.parse().ok()?;
            (endpoint["state"] == "healthy").then_some(address.port())
        };
        let mut ports: Vec<u16> =
            service["endpoints"].as_array().unwrap().iter().filter_map(port).collect();
        ports.sort_unstable();
        ports
    };
    let same = |count: usize| {
        until(&format!("{count} found by their names"), || {
            ports("web").len() == count && ports("found") == ports("web")
        });
    };
    same(3);
    let mut said: Vec<String> =
        (0..3).map(|_| Client::get(example.address, "/found/").text()).collect();
    said.sort();
    assert_eq!(said.concat(), "web-1 GET /found/\nweb-2 GET /found/\nweb-3 GET /found/\n");

    if find("dig").is_some() {
        let dig = |name: &str, kind: &str| {
            let mut dig = Command::new("dig");
            dig.args(["+short", "-p", &names.port().to_string(), "@127.0.0.1", name, kind]);
            String::from_utf8(dig.output().unwrap().stdout).unwrap()
        };
        assert_eq!(dig("web.evenkeel.internal", "A"), "127.0.0.1\n");
        let services = dig("_http._tcp.web.evenkeel.internal", "SRV");
        let mut told: Vec<u16> =
            services.lines().map(|line| line.split(' ').nth(2).unwrap().parse().unwrap()).collect();
        told.sort_unstable();
        assert_eq!(told, ports("web"), "{services}");
    }
    let beside = Beside::start(example.address, "/found/");
    example.scale(5);
    same(5);
    beside.goes_on();
    example.scale(2);
    same(2);
    let answered = beside.assert_unharmed();
    eprintln!("found by DNS, scaled 3-5-2: {answered} requests, 0 failed");
}
