//! gRPC by its own library, `grpcio`: all kinds of calls through the balancer, replicas that come and
//! go, health, retries, and gRPC-Web by hand.

mod balancing;
mod web;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::harness::peer::{find, skip};
use super::harness::program::{Folder, free_port};
use super::harness::{Evenkeel, Pki, Web};

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/e2e/grpc").join(name)
}

/// Does `python3` have the module? `./test` puts its own first on the path, which does.
pub fn has_python(module: &str) -> bool {
    if find("python3").is_none() {
        return false;
    }
    let output = Command::new("python3").args(["-c", &format!("import {module}")]).output();
    let has = output.is_ok_and(|output| output.status.success());
    if !has {
        skip(&format!("python3 with {module}"), "is not installed");
    }
    has
}

/// A server of `grpcio`; killed at the end.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// None: the library is not there.
    fn start(name: &str) -> Option<Server> {
        if !has_python("grpc_health.v1") {
            return None;
        }
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        Some(Self::start_at(name, address))
    }

    fn start_at(name: &str, address: SocketAddr) -> Server {
        let mut child = Command::new("python3")
            .arg(script("server.py"))
            .args([&address.port().to_string(), name])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Server { child, address }
    }

    fn signal(&self, name: &str) {
        super::harness::program::signal(self.child.id(), name);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs all the calls, and answers how many kinds there were.
fn calls(arguments: &[&str]) -> usize {
    let output = Command::new("python3").arg(script("calls.py")).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "after {said}: {error}");
    said.lines().count()
}

#[test]
fn every_kind_of_call() {
    let (Some(one), Some(two)) = (Server::start("one"), Server::start("two")) else { return };
    let web = Web::before(&[one.address, two.address], "", "protocol: h2c\nhealth: grpc");
    assert_eq!(calls(&[&web.address.to_string()]), 14);
    assert_eq!(web.in_flight(), 0);
    let of = |server: &Server| {
        web.program.endpoint("app", &server.address.to_string())["requests"].as_u64().unwrap()
    };
    // One connection of one client, spread call by call.
    let (first, second) = (of(&one), of(&two));
    assert!(first.abs_diff(second) <= 1 && first > 100, "{first} and {second}");
}

#[test]
fn every_kind_of_call_over_tls() {
    let Some(one) = Server::start("one") else { return };
    let folder = Folder::new();
    let pki = Pki::new(&folder.0, "ca");
    pki.issue("a", &["localhost", "127.0.0.1"]);
    let ca = folder.join("ca.pem").display().to_string();
    let (front, inner) = (free_port(), free_port());
    // TLS on both sides: the inner listener is the endpoint of the outer.
    let program = Evenkeel::spawn_in(
        folder,
        &format!(
            "listeners:\n  front: {{ bind: '127.0.0.1:{front}', service: secure, tls: {{ certificates: [ {{ certificate: a.crt, key: a.key }} ] }} }}\n  \
               inner: {{ bind: '127.0.0.1:{inner}', service: app, tls: {{ certificates: [ {{ certificate: a.crt, key: a.key }} ] }} }}\n\
             services:\n  secure: {{ endpoints: [ '127.0.0.1:{inner}' ], protocol: h2, tls: {{ ca: ca.pem, server_name: localhost }} }}\n  \
               app: {{ endpoints: [ '{}' ], protocol: h2c, health: {{ grpc: {{ service: test.Echo }} }} }}\n",
            one.address
        ),
    );
    program.wait_ready();
    super::harness::until("both are healthy", || {
        program.count("secure", "healthy") == 1 && program.count("app", "healthy") == 1
    });
    assert_eq!(calls(&[&format!("localhost:{front}"), &ca]), 14);
}
