//! `examples/registry`, as its README says, on ports of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::e2e::harness::program::{BINARY, Folder, pids_with_env, signal};
use crate::e2e::harness::registrar::{ask, list, local};
use crate::e2e::harness::{Client, Evenkeel, LOAD_SECONDS, Wrk, free_port, until};

#[test]
fn the_example_does_what_its_readme_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/registry");
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let (web, registry) = (local(), local());
    let config = fs::read_to_string(root.join("evenkeel.yaml"))
        .unwrap()
        .replace("127.0.0.1:9900", "ADMIN")
        .replace("127.0.0.1:9910", &registry.to_string())
        .replace("127.0.0.1:8080", &web.to_string());
    let program = Evenkeel::run(&config);
    let here = |text: &str| text.replace("127.0.0.1:9910", &registry.to_string());

    // The three commands, word for word.
    let mut ports = Vec::new();
    let commands: Vec<Evenkeel> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("evenkeel register "))
        .map(|line| {
            let port = free_port();
            ports.push(port);
            let words: Vec<String> = line
                .split(' ')
                .map(|word| match word {
                    "5001" | "5002" | "5003" => port.to_string(),
                    "evenkeel" => BINARY.to_owned(),
                    word => word.to_owned(),
                })
                .collect();
            let mut command = Command::new(BINARY);
            command.arg("register").args(&words).env("EVENKEEL_REGISTRY", registry.to_string());
            Evenkeel::start(command, registry, Folder::new())
        })
        .collect();
    assert_eq!(commands.len(), 3);
    until("three serve", || program.count("web", "healthy") == 3);
    let load = Wrk::start(web, "/", 4, LOAD_SECONDS);
    let child = |port: u16| pids_with_env(&format!("PORT={port}"))[0];

    // Ctrl-C.
    let mut commands = commands.into_iter();
    let (mut first, second, third) =
        (commands.next().unwrap(), commands.next().unwrap(), commands.next().unwrap());
    first.signal("INT");
    assert_eq!(first.wait_exit(), Some(0));
    until("two serve", || program.count("web", "healthy") == 2);
    // It hangs, and is back.
    signal(child(ports[2]), "STOP");
    until("it has left", || list(registry, "web").len() == 1);
    signal(child(ports[2]), "CONT");
    until("it is back", || program.count("web", "healthy") == 2);
    // kill -9 of the command.
    signal(child(ports[1]), "KILL");
    until("one serves", || program.count("web", "healthy") == 1);

    // By curl.
    let replica = crate::e2e::harness::Replica::named("mine");
    let bare = readme.lines().find(|line| line.starts_with("curl -X PUT")).unwrap();
    let body = bare.split('\'').nth(1).unwrap().replace("5004", &replica.port().to_string());
    assert!(here(bare).contains(&format!("http://{registry}/v1/services/web/instances/mine")));
    let path = "/v1/services/web/instances/mine";
    assert_eq!(ask(registry, "PUT", path, &body).status, 201);
    until("it serves", || program.count("web", "healthy") == 2);
    assert_eq!(ask(registry, "DELETE", path, "").status, 200);
    until("it does not", || program.count("web", "healthy") == 1);
    load.stop().assert_perfect("the example");
    assert_eq!(Client::get(web, "/").status, 200);
    drop((second, third));
    for pid in pids_with_env(&format!("PORT={}", ports[2])) {
        signal(pid, "KILL");
    }
}
