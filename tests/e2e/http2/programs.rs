//! Clients of others: Python's h2, hyperframe and httpx, Node's http2, curl, nghttp.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::e2e::harness::peer::{self, skip};
use crate::e2e::harness::program::{BINARY, Folder};
use crate::e2e::harness::{Evenkeel, Peer, Pki, Replica, free_port, until};

/// A listener in clear and one over TLS, in front of an endpoint that answers with the body that it
/// was sent, and of one that echoes WebSocket messages at `/ws`.
struct Site {
    program: Evenkeel,
    clear: SocketAddr,
    secure: SocketAddr,
    _replica: Replica,
    _echo: Peer,
}

impl Site {
    fn start() -> Site {
        let folder = Folder::new();
        Pki::new(&folder.0, "ca").issue("a", &["a.test", "127.0.0.1"]);
        let replica = Replica::raw(|connection| {
            while let Some(mut seen) = connection.head() {
                if seen.header("expect").is_some()
                    && connection.send("HTTP/1.1 100 Continue\r\n\r\n").is_err()
                {
                    return;
                }
                let Some(body) = connection.body_of(&seen) else { return };
                seen.body = body;
                let length = seen.body.len();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                let body = if seen.line().starts_with("HEAD") { &[][..] } else { &seen.body };
                if connection.send([head.as_bytes(), body].concat()).is_err() {
                    return;
                }
            }
        });
        let [clear, secure, echo] =
            [(); 3].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let echoes = Peer::start(Command::new(BINARY).args(["echo", "--http", &echo.to_string()]));
        let routes = "routes: [ { path: /ws, service: echo } ]\n    service: app";
        let program = Evenkeel::spawn_in(
            folder,
            &format!(
                "listeners:\n  clear:\n    bind: {clear}\n    {routes}\n  secure:\n    \
                   bind: {secure}\n    {routes}\n    \
                   tls: {{ certificates: [ {{ certificate: a.crt, key: a.key }} ] }}\n\
                 services:\n  app: {{ endpoints: [ {} ], health: off }}\n  \
                   echo: {{ endpoints: [ {echo} ] }}\n",
                replica.address
            ),
        );
        program.wait_ready();
        until("the echo", || program.count("echo", "healthy") == 1);
        Site { program, clear, secure, _replica: replica, _echo: echoes }
    }

    fn ca(&self) -> String {
        self.program.folder.join("ca.pem").display().to_string()
    }
}

/// A program of the folder `clients`, which says "all done" in the end.
fn run(interpreter: &str, file: &str, arguments: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/e2e/http2/clients");
    let output = Command::new(interpreter).arg(folder.join(file)).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("all done"), "{file} {arguments:?}: {said}");
    eprintln!("{file}: {}", said.trim().replace('\n', ", "));
}

fn has_python(module: &str) -> bool {
    let found = Command::new("python3").args(["-c", &format!("import {module}")]).output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        skip(&format!("python3 with {module}"), "is not installed");
    }
    found
}

#[test]
fn python_h2() {
    if !has_python("h2") {
        return;
    }
    let site = Site::start();
    for (address, ca) in [(site.clear, "-"), (site.secure, &site.ca()[..])] {
        let port = address.port().to_string();
        run("python3", "h2_client.py", &["127.0.0.1", &port, ca]);
    }
}

#[test]
fn python_hyperframe() {
    if !has_python("hyperframe") {
        return;
    }
    let site = Site::start();
    for (address, ca) in [(site.clear, "-"), (site.secure, &site.ca()[..])] {
        let port = address.port().to_string();
        run("python3", "frames.py", &["127.0.0.1", &port, ca]);
    }
}

#[test]
fn python_httpx() {
    if !has_python("httpx, h2") {
        return;
    }
    let site = Site::start();
    run("python3", "httpx_client.py", &[&format!("https://{}/", site.secure), &site.ca()]);
}

#[test]
fn node_http2() {
    let Some(node) = peer::find("node") else { return };
    let site = Site::start();
    for (url, ca) in [
        (format!("http://{}", site.clear), "-"),
        (format!("https://{}", site.secure), &site.ca()[..]),
    ] {
        run(&node, "client.mjs", &[&url, ca]);
    }
}

#[test]
fn curl_in_parallel() {
    let site = Site::start();
    let upload = site.program.folder.join("upload");
    std::fs::write(&upload, vec![b'x'; 500_000]).unwrap();
    // Not with prior knowledge: curl 7.88 fails there with more than one transfer, whatever serves.
    let output = Command::new("curl")
        .args(["-sS", "--parallel", "--parallel-max", "50", "--http2", "--cacert", &site.ca()])
        .args(["--data-binary", &format!("@{}", upload.display()), "-o", "/dev/null"])
        .args(["-w", "%{http_version} %{http_code} %{size_download}\n"])
        .arg(format!("https://{}/[1-50]", site.secure))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let good = said.lines().filter(|line| *line == "2 200 500000").count();
    assert_eq!(good, 50, "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn nghttp_many_times() {
    let Some(nghttp) = peer::find("nghttp") else { return };
    let site = Site::start();
    let upload = site.program.folder.join("upload");
    std::fs::write(&upload, vec![b'x'; 100_000]).unwrap();
    for url in [format!("http://{}/", site.clear), format!("https://{}/", site.secure)] {
        let output = Command::new(&nghttp)
            .args(["-s", "-n", "-m", "80", "-d"])
            .arg(&upload)
            .args(["--trailer", "x-sum: 7", &url])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let good =
            said.lines().filter(|line| line.contains(" 200 ") && line.contains(" 97K")).count();
        assert_eq!(good, 80, "{said}{}", String::from_utf8_lossy(&output.stderr));
    }
}
