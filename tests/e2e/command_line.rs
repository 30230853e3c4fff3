//! The verbs that speak to a running balancer, or start one. Those that need nothing running are
//! in `crates/evenkeel/tests/command_line.rs`.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::harness::peer::{find, skip};
use super::harness::program::{BINARY, Folder};
use super::harness::{Client, Evenkeel, Quickstart, Replica, local, until};

fn evenkeel(arguments: &[&str]) -> Output {
    Command::new(BINARY)
        .args(arguments)
        .env_remove("EVENKEEL_ADMIN")
        .env_remove("EVENKEEL_TOKEN")
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn echo(http: SocketAddr, name: &str) -> Evenkeel {
    let mut command = Command::new(BINARY);
    command.args(["echo", "--http", &http.to_string(), "--name", name]);
    let echo = Evenkeel::start(command, http, Folder::new());
    until("the echo service", || {
        Client::try_get(http, "/healthz").is_some_and(|response| response.status == 200)
    });
    echo
}

#[test]
fn start_up_says_what_listens_where_and_how_many_are_up() {
    let quickstart = Quickstart::start();
    let admin = quickstart.program.admin;
    for line in [
        format!("http://{} -> service web (3 of 3 endpoints healthy)", quickstart.http),
        format!("{} ", quickstart.tcp),
        format!("http://{admin} -> admin API, /metrics"),
    ] {
        until(&line, || quickstart.program.log().contains(&line));
    }
}

#[test]
fn a_wrong_name_is_answered_with_the_right_ones() {
    let quickstart = Quickstart::start();
    let admin = quickstart.program.admin.to_string();
    for (arguments, expected) in [
        (&["scale", "wbe=2"][..], "there is no service \"wbe\"; did you mean `web`?"),
        (&["scale", "x=2"], "there is no service \"x\"; services: `web`"),
        (&["scale", "web=100000"], "100000"),
        (&["drain", "wbe", "web-1"], "did you mean `web`?"),
        (&["undrain", "wbe", "web-1"], "did you mean `web`?"),
        (&["drain", "web", "web-7"], "has no endpoint \"web-7\"; it has web-1, web-2, web-3"),
        (&["undrain", "web", "1"], "has no endpoint \"1\"; it has web-1, web-2, web-3"),
    ] {
        let output = evenkeel(&[arguments, &["--admin", &admin]].concat());
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
        let said = stderr(&output);
        assert!(said.starts_with("error: ") && said.contains(expected), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    quickstart.wait_replicas(3);
}

#[test]
fn what_is_not_ours_cannot_be_scaled() {
    let replica = Replica::named("a");
    let program = Evenkeel::run(&format!(
        "listeners: {{ web: {{ bind: {}, service: web }} }}\n\
         services: {{ web: {{ endpoints: [ {} ] }} }}\n",
        local(),
        replica.address
    ));
    let output = evenkeel(&["scale", "web=2", "--admin", &program.admin.to_string()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("listed in the configuration"), "{output:?}");
}

#[test]
fn drain_and_undrain_say_the_state_and_json_parses() {
    let quickstart = Quickstart::start();
    let program = &quickstart.program;
    let (done, said) = program.verb(&["drain", "web", "web-2"]);
    assert!(done && said.starts_with("web-2 of service web: draining ("), "{said}");
    for _ in 0..6 {
        assert_ne!(Client::get(quickstart.http, "/").text(), "web-2 GET /\n");
    }
    let (done, said) = program.verb(&["status", "--json"]);
    let status: Value = serde_json::from_str(&said).unwrap();
    assert!(done && status["listeners"].as_array().unwrap().len() == 2, "{said}");
    let endpoints = status["services"][0]["endpoints"].as_array().unwrap();
    let state = |id: &str| endpoints.iter().find(|e| e["id"] == id).unwrap()["state"].clone();
    assert_eq!([state("web-1"), state("web-2")], ["healthy", "draining"], "{said}");
    let (done, said) = program.verb(&["undrain", "web", "web-2"]);
    assert!(done && said.starts_with("web-2 of service web: healthy ("), "{said}");
    let (done, said) = program.verb(&["status"]);
    assert!(done && said.contains("3 of 3"), "{said}");
    let (done, said) = program.verb(&["policies", "--json"]);
    assert!(done && serde_json::from_str::<Value>(&said).is_ok(), "{said}");
}

#[test]
fn proxy_balances_without_a_file() {
    let (first, second, http, tcp) = (local(), local(), local(), local());
    let replicas = [echo(first, "one"), echo(second, "two")];
    let proxy = |listen: SocketAddr, protocol: &str| {
        let admin = local();
        let mut command = Command::new(BINARY);
        command.args(["proxy", "--protocol", protocol, "--listen", &listen.to_string()]);
        // As on one machine: only the port.
        command.args(["--to", &format!(":{}", first.port()), "--to", &second.to_string()]);
        command.args(["--admin", &admin.to_string()]);
        let proxy = Evenkeel::start(command, admin, Folder::new());
        proxy.wait_ready();
        until("both", || proxy.count("proxy", "healthy") == 2);
        proxy
    };
    let mut over_http = proxy(http, "http");
    let mut names: Vec<_> = (0..4).map(|_| Client::get(http, "/").text()).collect();
    names.sort();
    assert_eq!(names, ["one GET /\n", "one GET /\n", "two GET /\n", "two GET /\n"]);
    until("the overview", || {
        over_http.log().contains("-> service proxy (2 of 2 endpoints healthy)")
    });

    let over_tcp = proxy(tcp, "tcp");
    let mut names: Vec<_> = (0..2)
        .map(|_| {
            let mut client = Client::connect(tcp);
            client.send("hello\r\n").unwrap();
            client.line().unwrap()
        })
        .collect();
    names.sort();
    assert_eq!(names, ["one hello", "two hello"]);

    drop(replicas);
    until("503 without any endpoint", || Client::get(http, "/").status == 503);
    over_http.signal("TERM");
    assert_eq!(over_http.wait_exit(), Some(0));
    drop(over_tcp);
}

#[test]
fn echo_names_itself_and_ends_on_sigterm() {
    let address = local();
    let mut program = echo(address, "me");
    assert_eq!(Client::get(address, "/x").text(), "me GET /x\n");
    assert_eq!(Client::get(address, "/x").header("x-replica"), Some("me"));
    until("where it is", || program.log().contains(&address.to_string()));
    program.signal("TERM");
    assert_eq!(program.wait_exit(), Some(0));
}

#[test]
fn each_verb_has_a_help_text() {
    let help = String::from_utf8(evenkeel(&["--help"]).stdout).unwrap();
    let verbs: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.split_whitespace().next())
        .collect();
    for verb in [
        "run", "proxy", "check", "status", "scale", "drain", "undrain", "policies", "schema",
        "echo",
    ] {
        assert!(verbs.contains(&verb), "{verb} is not in {verbs:?}");
    }
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/command-line.md");
    let manual = fs::read_to_string(manual).unwrap();
    for verb in verbs {
        let output = evenkeel(&[verb, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{verb}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&format!("Usage: evenkeel {verb}")), "{text}");
        assert!(manual.contains(&format!("`{verb}")), "docs/command-line.md has no {verb}");
    }
}

const TWO_LISTENERS: &str = "\
listeners:
  web: { bind: 127.0.0.1:8080, service: web }
  tcp: { bind: 127.0.0.1:8081, protocol: tcp, service: web }
services:
  web:
    endpoints: [ 127.0.0.1:5001 ]
    health: { http: /healthz, interval: 2s }
";

/// What is replaced in a good file, by what, and what `check` must say of it.
const MISTAKES: [(&str, &str, &[&str]); 7] = [
    (
        "interval",
        "intreval",
        &[":7:31: error:", "unknown key `intreval`", "did you mean `interval`?"],
    ),
    ("tcp, service: web", "tcp, service: wbe", &[":3:", "error:", "`wbe`", "did you mean `web`?"]),
    ("8081", "8080", &[":3:", "error:", "127.0.0.1:8080"]),
    ("5001", "70000", &[":6:", "error:", "70000"]),
    ("2s", "-1s", &[":7:41: error:"]),
    ("2s", "2", &[":7:41: error:", "2s"]),
    ("protocol: tcp", "protocol: tpc", &[":3:", "did you mean `tcp`?"]),
];

#[test]
fn check_names_the_place_of_each_mistake() {
    let folder = Folder::new();
    let file = folder.join("evenkeel.yaml");
    let name = file.display().to_string();
    fs::write(&file, TWO_LISTENERS).unwrap();
    assert_eq!(evenkeel(&["check", "-c", &name]).status.code(), Some(0));
    for (good, bad, expected) in MISTAKES {
        let text = TWO_LISTENERS.replacen(good, bad, 1);
        fs::write(&file, &text).unwrap();
        let output = evenkeel(&["check", "-c", &name]);
        assert_eq!(output.status.code(), Some(1), "{bad}: {output:?}");
        let said = stderr(&output);
        assert!(said.starts_with(&format!("{name}:")), "{said}");
        let line =
            text.lines().zip(TWO_LISTENERS.lines()).find(|(bad, good)| bad != good).unwrap().0;
        for part in expected.iter().copied().chain([line.trim(), "^"]) {
            assert!(said.contains(part), "{part:?} is not in\n{said}");
        }
    }
}

#[test]
fn the_schema_agrees_with_check() {
    if find("python3").is_none() {
        return;
    }
    let modules = Command::new("python3").args(["-c", "import jsonschema, yaml"]).output();
    if !modules.is_ok_and(|output| output.status.success()) {
        return skip("python3 with jsonschema and yaml", "is not installed");
    }
    let folder = Folder::new();
    let schema = folder.join("schema.json");
    fs::write(&schema, evenkeel(&["schema"]).stdout).unwrap();
    let script = "import json, sys, jsonschema, yaml\n\
                  schema = json.load(open(sys.argv[1]))\n\
                  jsonschema.Draft202012Validator.check_schema(schema)\n\
                  # `on` is a word in YAML 1.2, and in YAML 1.1 a boolean.\n\
                  words = yaml.SafeLoader.yaml_implicit_resolvers\n\
                  del words['o'], words['O']\n\
                  jsonschema.validate(yaml.safe_load(open(sys.argv[2])), schema)\n";
    let validates = |file: &Path| {
        let mut command = Command::new("python3");
        let output = command.args(["-c", script]).arg(&schema).arg(file).output().unwrap();
        output.status.success().then_some(()).ok_or_else(|| stderr(&output))
    };
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut count = 0;
    for example in fs::read_dir(examples).unwrap().flatten() {
        let file = example.path().join("evenkeel.yaml");
        if file.is_file() {
            validates(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            count += 1;
        }
    }
    assert!(count >= 4, "{count} examples");
    let file = folder.join("evenkeel.yaml");
    fs::write(&file, TWO_LISTENERS).unwrap();
    validates(&file).unwrap();
    for (good, bad) in [("interval", "intreval"), ("protocol: tcp", "protocol: tpc")] {
        fs::write(&file, TWO_LISTENERS.replacen(good, bad, 1)).unwrap();
        assert!(validates(&file).is_err(), "{bad}");
    }
}
