//! etcd itself, and a relay between it and those who ask it, which can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use serde_json::Value;

use super::client::{Client, Response};
use super::peer::find;
use super::program::{Folder, free_port, signal};
use super::wait::{pause, until};

/// One member, with its data in a folder; killed at the end.
pub struct Etcd {
    program: String,
    folder: Folder,
    child: Child,
    pub address: SocketAddr,
    peers: u16,
    /// It speaks TLS, with what this folder holds.
    secured: Option<PathBuf>,
}

impl Etcd {
    /// `None`: it is not installed, which is noted.
    pub fn start() -> Option<Etcd> {
        Self::start_as(None)
    }

    /// Over TLS, with `etcd.crt` and `etcd.key` in the folder; it wants a certificate of `ca.pem`
    /// from who asks, and shows it `client.crt` of that folder when the harness itself asks.
    pub fn start_secured(pki: &Path) -> Option<Etcd> {
        find("curl")?;
        Self::start_as(Some(pki.to_owned()))
    }

    fn start_as(secured: Option<PathBuf>) -> Option<Etcd> {
        let program = find("etcd")?;
        let folder = Folder::new();
        let (address, peers) = (SocketAddr::from(([127, 0, 0, 1], free_port())), free_port());
        let child = Self::spawn(&program, &folder, address, peers, secured.as_deref());
        let etcd = Etcd { program, folder, child, address, peers, secured };
        etcd.wait_ready();
        Some(etcd)
    }

    fn spawn(
        program: &str,
        folder: &Folder,
        address: SocketAddr,
        peers: u16,
        secured: Option<&Path>,
    ) -> Child {
        let scheme = if secured.is_some() { "https" } else { "http" };
        let (client, peer) = (format!("{scheme}://{address}"), format!("http://127.0.0.1:{peers}"));
        let mut command = Command::new(program);
        if let Some(pki) = secured {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(pki.join("ca.pem"));
            command.arg("--cert-file").arg(pki.join("etcd.crt"));
            command.arg("--key-file").arg(pki.join("etcd.key"));
        }
        command
            .args(["--name", "one", "--data-dir"])
            .arg(folder.join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn wait_ready(&self) {
        until("etcd is ready", || match &self.secured {
            Some(_) => self.curl("/health", None).contains("true"),
            None => {
                Client::try_get(self.address, "/health").is_some_and(|r| r.text().contains("true"))
            }
        });
    }

    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// kill -9, and again with what it had on disk.
    pub fn restart(&mut self) {
        self.signal("KILL");
        let _ = self.child.wait();
        self.child = Self::spawn(
            &self.program,
            &self.folder,
            self.address,
            self.peers,
            self.secured.as_deref(),
        );
        self.wait_ready();
    }

    /// Over TLS, by another program; empty: it does not answer. With a token, if there is one.
    pub fn curl(&self, path: &str, body: Option<(&Value, &str)>) -> String {
        let pki = self.secured.as_ref().unwrap();
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "5", "--cacert"]).arg(pki.join("ca.pem"));
        command.arg("--cert").arg(pki.join("client.crt"));
        command.arg("--key").arg(pki.join("client.key"));
        if let Some((body, token)) = body {
            command.args(["-d", &body.to_string(), "-H", &format!("Authorization: {token}")]);
        }
        let output = command.arg(format!("https://{}{path}", self.address)).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn ask(&self, path: &str, body: &Value) -> Value {
        let reply = self.post(path, body);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        serde_json::from_slice(&reply.body).unwrap()
    }

    fn post(&self, path: &str, body: &Value) -> Response {
        let (body, host) = (body.to_string(), self.address);
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        );
        Client::exchange(self.address, request).unwrap()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes on what comes, both ways, unless it is cut: then nothing arrives, and nobody is told.
pub struct Relay {
    pub address: SocketAddr,
    cut: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
}

impl Relay {
    pub fn to(target: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let flags = (cut.clone(), ended.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if flags.1.load(SeqCst) {
                    return;
                }
                let flags = flags.clone();
                std::thread::spawn(move || {
                    wait_while(&flags);
                    let Ok(server) = TcpStream::connect(target) else { return };
                    let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                    let both = flags.clone();
                    std::thread::spawn(move || copy(back.0, back.1, &both));
                    copy(client, server, &flags);
                });
            }
        });
        Relay { address, cut, ended }
    }

    pub fn cut(&self) {
        self.cut.store(true, SeqCst);
    }

    pub fn heal(&self) {
        self.cut.store(false, SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// Of the flags: that it is cut, and that it has ended.
type Flags = (Arc<AtomicBool>, Arc<AtomicBool>);

fn wait_while(flags: &Flags) {
    while flags.0.load(SeqCst) && !flags.1.load(SeqCst) {
        pause();
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, flags: &Flags) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(count) = from.read(&mut bytes) {
        wait_while(flags);
        if count == 0 || to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
