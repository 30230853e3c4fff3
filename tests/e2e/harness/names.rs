//! Servers of the Domain Name System: dnsmasq, and one whose answers the test writes.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use super::peer::skip;
use super::program::{Folder, free_port, signal};
use super::wait::until;

/// dnsmasq, which answers with what stands in a file of hosts.
pub struct Dnsmasq {
    child: Option<Child>,
    pub address: SocketAddr,
    folder: Folder,
    options: Vec<String>,
}

impl Dnsmasq {
    /// With these hosts (`ADDRESS NAME` in each line) and further options; lifetimes are one
    /// second. `None`, which is told: it is not installed.
    pub fn start(hosts: &str, options: &[&str]) -> Option<Dnsmasq> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], free_port())), hosts, options)
    }

    pub fn start_at(address: SocketAddr, hosts: &str, options: &[&str]) -> Option<Dnsmasq> {
        if Command::new("dnsmasq").arg("--version").stdout(Stdio::null()).status().is_err() {
            skip("discovery by DNS", "dnsmasq is not installed");
            return None;
        }
        let mut dnsmasq = Dnsmasq {
            child: None,
            address,
            folder: Folder::new(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        };
        fs::write(dnsmasq.folder.join("hosts"), hosts).unwrap();
        dnsmasq.go_on();
        Some(dnsmasq)
    }

    /// Starts it again, with the options as they are now.
    pub fn go_on(&mut self) {
        let (hosts, log) = (self.folder.join("hosts"), self.folder.join("log"));
        let child = Command::new("dnsmasq")
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"])
            .args(["--bind-interfaces", "--pid-file="])
            .arg(format!("--listen-address={}", self.address.ip()))
            .args(["--local=/test/", "--local-ttl=1", "--log-queries", "--user=", "--group="])
            .arg(format!("--port={}", self.address.port()))
            .arg(format!("--addn-hosts={}", hosts.display()))
            .arg(format!("--log-facility={}", log.display()))
            .args(&self.options)
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        self.child = Some(child);
        until("dnsmasq listens", || std::net::TcpStream::connect(self.address).is_ok());
    }

    pub fn set_hosts(&self, hosts: &str) {
        fs::write(self.folder.join("hosts"), hosts).unwrap();
        if let Some(child) = &self.child {
            signal(child.id(), "HUP");
        }
    }

    /// Takes effect with [`Dnsmasq::go_on`].
    pub fn set_options(&mut self, options: &[&str]) {
        self.options = options.iter().map(|option| (*option).to_owned()).collect();
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// How often it was asked this so far: `query[A] web.test`.
    pub fn count(&self, query: &str) -> usize {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        log.matches(&format!("{query} from")).count()
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What is asked: a name in lower case, and the kind of records.
pub type Asked = (String, u16);

/// What a server answers.
#[derive(Clone, Default)]
pub struct Reply {
    pub code: u8,
    /// Kind, lifetime in seconds, and data.
    pub records: Vec<(u16, u32, Vec<u8>)>,
    /// Over UDP nothing but the word that it does not fit.
    pub truncated: bool,
    /// Before it, one with the wrong identity, which says something else.
    pub forged: bool,
}

impl Reply {
    pub fn addresses(last: &[u8]) -> Reply {
        let record = |last: &u8| (1, 1, vec![127, 0, 0, *last]);
        Reply { records: last.iter().map(record).collect(), ..Reply::default() }
    }

    pub fn code(code: u8) -> Reply {
        Reply { code, ..Reply::default() }
    }
}

/// A server whose answers the test writes, with an encoder of its own. `None`: it is silent.
pub struct NameServer {
    pub address: SocketAddr,
    pub over_udp: Arc<AtomicUsize>,
    pub over_tcp: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

type Answer = dyn Fn(&Asked) -> Option<Reply> + Send + Sync;

impl NameServer {
    pub fn start(answer: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static) -> NameServer {
        // A port may be free for one protocol and not for the other.
        let pair = || {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            let tcp = TcpListener::bind(udp.local_addr().unwrap()).ok()?;
            Some((udp, tcp))
        };
        let (udp, tcp) = (0..100).find_map(|_| pair()).unwrap();
        let address = udp.local_addr().unwrap();
        let server = NameServer {
            address,
            over_udp: Arc::default(),
            over_tcp: Arc::default(),
            stopped: Arc::default(),
        };
        let answer: Arc<Answer> = Arc::new(answer);
        let (count, stopped, answers) =
            (server.over_udp.clone(), server.stopped.clone(), answer.clone());
        std::thread::spawn(move || {
            let mut query = [0; 1500];
            while let Ok((length, client)) = udp.recv_from(&mut query) {
                if stopped.load(SeqCst) {
                    return;
                }
                count.fetch_add(1, SeqCst);
                let query = &query[..length];
                let Some(reply) = answers(&asked(query)) else { continue };
                if reply.forged {
                    let mut forged = encode(query, &Reply::addresses(&[66]), true);
                    forged[0] ^= 1;
                    udp.send_to(&forged, client).unwrap();
                    udp.send_to(&[0xff; 7], client).unwrap();
                }
                udp.send_to(&encode(query, &reply, true), client).unwrap();
            }
        });
        let (count, stopped) = (server.over_tcp.clone(), server.stopped.clone());
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().map_while(Result::ok) {
                if stopped.load(SeqCst) {
                    return;
                }
                count.fetch_add(1, SeqCst);
                let mut length = [0; 2];
                if stream.read_exact(&mut length).is_err() {
                    continue;
                }
                let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut query).unwrap();
                let Some(reply) = answer(&asked(&query)) else { continue };
                let message = encode(&query, &reply, false);
                let length = u16::try_from(message.len()).unwrap();
                let _ = stream.write_all(&[&length.to_be_bytes()[..], &message].concat());
            }
        });
        server
    }

    /// Answers with what this holds at the time.
    pub fn says(reply: &Arc<Mutex<Option<Reply>>>) -> NameServer {
        let reply = reply.clone();
        Self::start(move |_| reply.lock().unwrap().clone())
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
        let _ = UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[0; 12], self.address);
        let _ = std::net::TcpStream::connect(self.address);
    }
}

fn asked(query: &[u8]) -> Asked {
    let mut labels = Vec::new();
    let mut at = 12;
    while query.get(at).is_some_and(|length| *length > 0) {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    let kind = query.get(at + 1..at + 3).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]));
    (labels.join("."), kind)
}

fn encode(query: &[u8], reply: &Reply, over_udp: bool) -> Vec<u8> {
    let cut = reply.truncated && over_udp;
    let records: &[_] = if cut { &[] } else { &reply.records };
    let mut end = 12;
    while query.get(end).is_some_and(|length| *length > 0) {
        end += 1 + usize::from(query[end]);
    }
    let question = query.get(12..end + 5).unwrap_or_default();
    let mut message = query[..2].to_vec();
    message.extend([0x81 | u8::from(cut) << 1, 0x80 | reply.code, 0, 1]);
    message.extend((records.len() as u16).to_be_bytes());
    message.extend([0; 4]);
    message.extend(question);
    for (kind, ttl, data) in records {
        message.extend([0xc0, 12]);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message.extend(ttl.to_be_bytes());
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(data);
    }
    message
}
