//! etcd itself, and a relay between it and those who ask it, which can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
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
}

impl Etcd {
    /// `None`: it is not installed, which is noted.
    pub fn start() -> Option<Etcd> {
        let program = find("etcd")?;
        let folder = Folder::new();
        let (address, peers) = (SocketAddr::from(([127, 0, 0, 1], free_port())), free_port());
        let child = Self::spawn(&program, &folder, address, peers);
        let etcd = Etcd { program, folder, child, address, peers };
        etcd.wait_ready();
        Some(etcd)
    }

    fn spawn(program: &str, folder: &Folder, address: SocketAddr, peers: u16) -> Child {
        let (client, peer) = (format!("http://{address}"), format!("http://127.0.0.1:{peers}"));
        Command::new(program)
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
        until("etcd is ready", || {
            Client::try_get(self.address, "/health").is_some_and(|r| r.text().contains("true"))
        });
    }

    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// kill -9, and again with what it had on disk.
    pub fn restart(&mut self) {
        self.signal("KILL");
        let _ = self.child.wait();
        self.child = Self::spawn(&self.program, &self.folder, self.address, self.peers);
        self.wait_ready();
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
