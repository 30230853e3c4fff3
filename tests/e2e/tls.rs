//! TLS towards clients and endpoints, and TLS that passes through, with curl, OpenSSL, Python and
//! wrk on the other side.

mod acme;
mod changes;
mod clients;
mod endpoints;
mod examples;
mod hostile;
mod http2;
mod passthrough;
mod serving;
mod testssl;
mod trust;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::harness::program::Folder;
use super::harness::{Evenkeel, Pki, Replica, free_port, local};

/// Answers 200 with the request's head as it came.
fn mirror() -> Replica {
    Replica::http(|seen| super::harness::replica::ok(&seen.head))
}

/// The listener `web` over TLS in front of a mirror, with a certificate for `a.test`, and what a
/// test has to add.
struct Site {
    program: Evenkeel,
    web: SocketAddr,
    pki: Pki,
    _mirror: Replica,
}

impl Site {
    /// `tls` is added to the listener's `tls`, `listener` to the listener.
    fn start(tls: &str, listener: &str) -> Site {
        Self::start_in(Folder::new(), tls, listener)
    }

    fn start_in(folder: Folder, tls: &str, listener: &str) -> Site {
        let pki = Pki::new(&folder.0, "ca");
        pki.issue("a", &["a.test", "127.0.0.1"]);
        let (mirror, web) = (mirror(), local());
        let program = Evenkeel::spawn_in(folder, &config(web, mirror.address, tls, listener));
        program.wait_ready();
        Site { program, web, pki, _mirror: mirror }
    }

    fn path(&self, name: &str) -> String {
        self.program.folder.join(name).display().to_string()
    }

    /// What curl gets for `https://HOST/` there; `Err` is what it says.
    fn curl(&self, host: &str, more: &[&str]) -> Result<String, String> {
        curl(&self.path("ca.pem"), host, self.web, "/", more)
    }

    fn openssl(&self, more: &[&str], send: &str) -> String {
        s_client(self.web, more, send)
    }
}

fn config(web: SocketAddr, endpoint: SocketAddr, tls: &str, listener: &str) -> String {
    format!(
        "listeners:\n  web:\n    bind: {web}\n    service: web\n    \
           tls: {{ certificates: [ {{ certificate: a.crt, key: a.key }} ]{tls} }}{listener}\n\
         services:\n  web: {{ endpoints: [ {endpoint} ] }}\n"
    )
}

fn curl(ca: &str, host: &str, at: SocketAddr, path: &str, more: &[&str]) -> Result<String, String> {
    let resolve = format!("{host}:{}:{}", at.port(), at.ip());
    let url = format!("https://{host}:{}{path}", at.port());
    let output = Command::new("curl")
        .args(["-sS", "-i", "--http1.1", "--max-time", "30", "--cacert", ca, "--resolve", &resolve])
        .args(more)
        .arg(url)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// What `openssl s_client` says and gets. It sends `send`, and ends when the other side does.
fn s_client(at: SocketAddr, more: &[&str], send: &str) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &at.to_string(), "-ign_eof"])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is installed by ./test");
    // It may have ended already, for the handshake failed.
    let _ = child.stdin.take().unwrap().write_all(send.as_bytes());
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// A request after which the connection ends.
const LAST: &str = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";

fn python(program: &str, arguments: &[&str]) -> String {
    let output = Command::new("python3").arg("-c").arg(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

fn is_there(path: &Path) -> bool {
    path.is_file()
}
