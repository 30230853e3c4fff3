//! A registry, those who register there, and the balancers that look in it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::client::{Client, Response};
pub use super::program::local;
use super::program::{BINARY, Evenkeel, Folder, free_port, pids_with_env, signal};
use super::wait::until;

/// How the services of these tests find out quickly that an endpoint fails.
pub const QUICK: &str = "    health: { http: /healthz, interval: 200ms, timeout: 1s, unhealthy_after: 2 }\n    \
                         timeouts: { first_byte: 2s }\n    retry: { on: [reset, first_byte_timeout] }\n";

/// Where the registry's API of a running program is, and its program.
pub struct Registry {
    pub program: Evenkeel,
    pub address: SocketAddr,
}

impl Registry {
    /// One that does nothing else; `more` of its section.
    pub fn start(more: &str) -> Registry {
        Self::start_in(Folder::new(), local(), more)
    }

    /// In a folder that may hold what it kept before.
    pub fn start_in(folder: Folder, address: SocketAddr, more: &str) -> Registry {
        let text = format!("registry: {{ bind: {address}, {more} }}\n");
        let program = Evenkeel::spawn_in(folder, &text);
        program.wait_ready();
        Registry { program, address }
    }

    /// Killed, and started again where it was.
    pub fn restart(self, more: &str) -> Registry {
        let address = self.address;
        Self::start_in(self.kill(), address, more)
    }

    /// Killed; what it kept is there.
    pub fn kill(mut self) -> Folder {
        self.program.signal("KILL");
        self.program.wait_exit();
        std::mem::replace(&mut self.program.folder, Folder(PathBuf::new()))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn ask(&self, method: &str, path: &str, body: &str) -> Response {
        ask(self.address, method, path, body)
    }

    /// The instances of a service, as they are listed.
    pub fn list(&self, service: &str) -> Vec<Value> {
        list(self.address, service)
    }
}

pub fn ask(registry: SocketAddr, method: &str, path: &str, body: &str) -> Response {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {registry}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    Client::exchange(registry, request).expect("an answer of the registry")
}

pub fn list(registry: SocketAddr, service: &str) -> Vec<Value> {
    let reply = ask(registry, "GET", &format!("/v1/services/{service}/instances"), "");
    assert_eq!(reply.status, 200, "{}", reply.text());
    let list: Value = serde_json::from_slice(&reply.body).unwrap();
    list["instances"].as_array().unwrap().clone()
}

/// `evenkeel register` with an echo service.
pub struct Registrant {
    pub program: Evenkeel,
    pub port: u16,
    /// In the environment of the command, and of nothing else.
    mark: String,
}

impl Registrant {
    pub fn start(registry: SocketAddr, id: &str, more: &[&str]) -> Registrant {
        Self::start_on(registry, free_port(), id, more)
    }

    pub fn start_on(registry: SocketAddr, port: u16, id: &str, more: &[&str]) -> Registrant {
        Self::start_at(&format!("http://{registry}"), registry, port, id, more)
    }

    /// The registry is found at a URL.
    pub fn start_at(
        url: &str,
        registry: SocketAddr,
        port: u16,
        id: &str,
        more: &[&str],
    ) -> Registrant {
        let (mut command, number) = (Command::new(BINARY), port.to_string());
        command.args(["register", "--service", "web", "--port", &number, "--id", id]);
        command.args(["--address", "127.0.0.1", "--registry", url]);
        if !more.contains(&"--check") {
            command.args(["--check", "http:/healthz"]);
        }
        command.args(more).args(["--", BINARY, "echo"]).env("REPLICA", id);
        let program = Evenkeel::start(command, registry, Folder::new());
        Registrant { program, port, mark: format!("PORT={port}") }
    }

    /// The process that it runs.
    pub fn child(&self) -> u32 {
        let mut found = None;
        until("the command", || {
            found = pids_with_env(&self.mark).first().copied();
            found.is_some()
        });
        found.unwrap()
    }

    /// As when its machine dies: the command and who registered it, at once.
    pub fn die(mut self) {
        let child = self.child();
        self.program.signal("KILL");
        signal(child, "KILL");
        self.program.wait_exit();
    }
}

impl Drop for Registrant {
    fn drop(&mut self) {
        let _ = self.program.child.kill();
        // The command ends with it, but may take its time.
        for pid in pids_with_env(&self.mark) {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
    }
}

/// A balancer of `web`, found in a registry elsewhere.
pub fn balancer(registry: SocketAddr, bind: SocketAddr) -> Evenkeel {
    let program =
        Evenkeel::spawn(&format!("registry: {{ url: 'http://{registry}' }}\n{}", balancing(bind)));
    program.wait_ready();
    program
}

/// A listener, and the service `web` behind it.
pub fn balancing(bind: SocketAddr) -> String {
    format!(
        "listeners: {{ web: {{ bind: {bind}, service: web }} }}\n\
         services:\n  web:\n    discover: {{ registry: {{}} }}\n{QUICK}"
    )
}

/// The states of the endpoints of `web`, by id.
pub fn states(program: &Evenkeel) -> Vec<(String, String)> {
    let service = program.service("web");
    let mut states: Vec<(String, String)> = service["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["id"].as_str().unwrap().into(), e["state"].as_str().unwrap().into()))
        .collect();
    states.sort();
    states
}

/// Exactly these are healthy, and none else has a place.
pub fn are_healthy(program: &Evenkeel, ids: &[&str]) -> bool {
    let healthy = |id: &&str| ((*id).to_owned(), "healthy".to_owned());
    states(program) == ids.iter().map(healthy).collect::<Vec<_>>()
}
