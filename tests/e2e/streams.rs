//! TCP streams and UDP flows: connecting, ending, choosing endpoints, and their limits.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::harness::wait::pause;
use super::harness::{Client, Evenkeel, Replica, free_port, until};

/// One listener of `protocol` in front of `endpoints`, without health checks.
struct Front {
    program: Evenkeel,
    address: SocketAddr,
}

impl Front {
    fn start(protocol: &str, endpoints: &[String], listener: &str, service: &str) -> Front {
        Self::bound("127.0.0.1", protocol, endpoints, listener, service)
    }

    fn bound(
        host: &str,
        protocol: &str,
        endpoints: &[String],
        listener: &str,
        service: &str,
    ) -> Front {
        let port = free_port();
        let program = Evenkeel::run(&format!(
            "listeners:\n  front:\n    bind: '{host}:{port}'\n    protocol: {protocol}\n    \
               service: app\n    {listener}\n\
             services:\n  app:\n    endpoints: [{}]\n    health: off\n    {service}\n",
            endpoints.join(", ")
        ));
        Front { program, address: format!("{host}:{port}").parse().unwrap() }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    fn open(&self) -> u64 {
        self.program.listener("front")["connections"].as_u64().unwrap()
    }

    fn metric(&self, name: &str) -> u64 {
        let text = Client::get(self.program.admin, "/metrics").text();
        let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        let values = lines.filter(|(n, _)| n.split('{').next() == Some(name));
        values.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    }
}

fn text(address: SocketAddr) -> String {
    format!("'{address}'")
}

/// An address that refuses connections, since nobody listens there.
fn refusing() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// Says its name, then sends back what comes, to the end.
fn echo(name: &'static str) -> Replica {
    Replica::raw(move |connection| {
        let _ = connection.send(name);
        let mut reader = connection.stream.try_clone().unwrap();
        let _ = io::copy(&mut reader, &mut connection.stream);
    })
}

fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(bytes)?;
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back)?;
    Ok(back)
}

/// The name that [`echo`] begins with, of one letter.
fn name(stream: &mut TcpStream) -> u8 {
    let mut name = [0];
    stream.read_exact(&mut name).unwrap();
    name[0]
}

#[test]
fn tcp_bytes_go_both_ways_and_ends_are_passed_on() {
    // Who ends first, and what each side still says after the other's end.
    let replica = Replica::raw(|connection| {
        let mut order = [0];
        if connection.stream.read_exact(&mut order).is_err() {
            return;
        }
        let mut rest = Vec::new();
        if order == *b"c" {
            connection.stream.read_to_end(&mut rest).unwrap();
            connection.send(rest.len().to_string()).unwrap();
        } else {
            connection.send("bye").unwrap();
            connection.stream.shutdown(Shutdown::Write).unwrap();
            connection.stream.read_to_end(&mut rest).unwrap();
            // The test sees it as received; read here past the harness.
            assert_eq!(rest, b"after your end");
            LAST_WORDS.fetch_add(1, SeqCst);
        }
    });
    static LAST_WORDS: AtomicUsize = AtomicUsize::new(0);
    let front = Front::start("tcp", &[text(replica.address)], "", "");

    let mut stream = front.connect();
    stream.write_all(b"c0123456789").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "10", "the client ends first");

    let mut stream = front.connect();
    stream.write_all(b"r").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "bye", "the replica ends first");
    stream.write_all(b"after your end").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    until("the words behind the replica's end", || LAST_WORDS.load(SeqCst) == 1);
    until("both streams to be gone", || front.open() == 0);

    let replica = echo("e");
    let front = Front::bound("[::1]", "tcp", &[text(replica.address)], "", "");
    let mut stream = front.connect();
    assert_eq!(name(&mut stream), b'e');
    assert_eq!(exchange(&mut stream, b"from IPv6 to IPv4").unwrap(), b"from IPv6 to IPv4");
}

#[test]
fn a_refused_connection_goes_to_the_next_endpoint_and_if_all_refuse_it_is_reset() {
    let replica = echo("a");
    let front = Front::start("tcp", &[refusing(), text(replica.address), refusing()], "", "");
    for _ in 0..50 {
        let mut stream = front.connect();
        assert_eq!(name(&mut stream), b'a');
        assert_eq!(exchange(&mut stream, b"hello").unwrap(), b"hello");
    }
    let front = Front::start("tcp", &[refusing(), refusing()], "", "");
    for _ in 0..20 {
        let end = front.connect().read(&mut [0]);
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
    until("no stream left", || front.open() == 0);
    let service = front.program.service("app");
    eprintln!("all refuse: 20 of 20 reset; {}", service["endpoints"][0]["failures"]);
}

#[test]
fn a_stream_without_a_byte_ends_after_the_idle_time_and_one_that_moves_does_not() {
    let replica = echo("a");
    let front = Front::start("tcp", &[text(replica.address)], "timeouts: { stream_idle: 3s }", "");
    let start = Instant::now();
    let (mut moving, mut silent) = (front.connect(), front.connect());
    assert_eq!((name(&mut moving), name(&mut silent)), (b'a', b'a'));
    let end = std::thread::spawn(move || (silent.read(&mut [0]), start.elapsed()));
    // Well beyond the idle time.
    while start.elapsed() < Duration::from_secs(5) {
        assert_eq!(exchange(&mut moving, b"x").unwrap(), b"x");
        pause();
    }
    let (end, after) = end.join().unwrap();
    assert!(!matches!(end, Ok(1..)), "{end:?}");
    assert!(after >= Duration::from_millis(2990), "ended after {after:?}");
    eprintln!("a silent stream ended after {after:?}");
}

#[test]
fn a_stream_of_a_drained_endpoint_ends_after_the_grace_and_not_before() {
    let (a, b) = (echo("a"), echo("b"));
    let endpoints = [text(a.address), text(b.address)];
    let front = Front::start("tcp", &endpoints, "", "drain_grace: 3s");
    let mut streams: Vec<TcpStream> = (0..8).map(|_| front.connect()).collect();
    let names: Vec<u8> = streams.iter_mut().map(name).collect();
    assert!(names.contains(&b'a') && names.contains(&b'b'));
    let start = Instant::now();
    let (ok, said) = front.program.verb(&["drain", "app", &a.address.to_string()]);
    assert!(ok, "{said}");
    let mut ended_after = Vec::new();
    for (stream, name) in streams.iter_mut().zip(&names).filter(|(_, name)| **name == b'a') {
        // To the end of the grace it works as before.
        until("the stream to end", || exchange(stream, b"still here").is_err());
        ended_after.push(start.elapsed());
        assert_eq!(*name, b'a');
    }
    let first = ended_after.iter().min().unwrap();
    assert!(*first >= Duration::from_secs(3), "a stream ended after {first:?}");
    for (stream, _) in streams.iter_mut().zip(&names).filter(|(_, name)| **name == b'b') {
        assert_eq!(exchange(stream, b"unharmed").unwrap(), b"unharmed");
    }
    for _ in 0..10 {
        assert_eq!(name(&mut front.connect()), b'b');
    }
    eprintln!("grace of 3 s: the streams ended after {ended_after:?}");
}

#[test]
fn weights_hold_over_connections() {
    let replicas = [echo("a"), echo("b"), echo("c")];
    let weights = [3, 3, 2];
    let endpoints: Vec<String> = replicas
        .iter()
        .zip(weights)
        .map(|(r, w)| format!("{{ address: {}, weight: {w} }}", r.address))
        .collect();
    let front = Front::start("tcp", &endpoints, "", "");
    let mut counts = [0; 3];
    for _ in 0..400 {
        counts[usize::from(name(&mut front.connect()) - b'a')] += 1;
    }
    eprintln!("weights 3:3:2 over 400 connections: {counts:?}");
    assert_eq!(counts, [150, 150, 100]);
}

/// A UDP endpoint: answers each datagram with its name and the datagram.
pub struct Datagrams {
    pub address: SocketAddr,
    received: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Datagrams {
    pub fn start(
        host: impl Into<std::net::IpAddr>,
        name: &'static str,
        answers: usize,
    ) -> Datagrams {
        let socket = UdpSocket::bind((host.into(), 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let address = socket.local_addr().unwrap();
        let received = Arc::new(AtomicUsize::new(0));
        let stopped = Arc::new(AtomicBool::new(false));
        let (count, stop) = (received.clone(), stopped.clone());
        let thread = std::thread::spawn(move || {
            let mut block = vec![0; 65_536];
            while !stop.load(SeqCst) {
                let Ok((len, from)) = socket.recv_from(&mut block) else { continue };
                count.fetch_add(1, SeqCst);
                for _ in 0..answers {
                    let _ = socket.send_to(&[name.as_bytes(), &block[..len]].concat(), from);
                }
            }
        });
        Datagrams { address, received, stopped, thread: Some(thread) }
    }

    /// From now on its port answers with "unreachable".
    pub fn kill(&mut self) {
        self.stopped.store(true, SeqCst);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.kill();
    }
}

fn udp_client(to: SocketAddr) -> UdpSocket {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
    };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket
}

/// Sends until an answer comes that holds what was sent, since UDP may lose either.
fn ask(socket: &UdpSocket, bytes: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 65_536];
    let mut answer = Vec::new();
    until("an answer by UDP", || {
        let _ = socket.send(bytes);
        match socket.recv(&mut block) {
            Ok(len) if block[1..len] == *bytes => {
                answer = block[..len].to_vec();
                true
            }
            _ => false,
        }
    });
    answer
}

#[test]
fn two_hundred_udp_clients_each_get_their_own_replies() {
    let hosts: [(&str, std::net::IpAddr); 2] =
        [("127.0.0.1", Ipv4Addr::LOCALHOST.into()), ("[::1]", Ipv6Addr::LOCALHOST.into())];
    for (host, ip) in hosts {
        let replicas = [Datagrams::start(ip, "a", 1), Datagrams::start(ip, "b", 1)];
        let endpoints: Vec<String> = replicas.iter().map(|r| text(r.address)).collect();
        let front = Front::bound(host, "udp", &endpoints, "", "");
        let clients: Vec<UdpSocket> = (0..200).map(|_| udp_client(front.address)).collect();
        let mut names = Vec::new();
        for round in 0..5 {
            for (n, client) in clients.iter().enumerate() {
                let answer = ask(client, format!("client {n}, round {round}").as_bytes());
                // A flow keeps its endpoint.
                if round == 0 {
                    names.push(answer[0]);
                } else {
                    assert_eq!(answer[0], names[n], "client {n}");
                }
            }
        }
        let a = names.iter().filter(|name| **name == b'a').count();
        eprintln!("{host}: 200 UDP clients, 1000 replies matched; {a} flows to a");
        assert_eq!((a, front.open()), (100, 200));
    }
}

#[test]
fn a_flow_ends_when_idle_or_when_its_replies_came() {
    let replica = Datagrams::start(Ipv4Addr::LOCALHOST, "a", 1);
    let endpoints = [text(replica.address)];
    let front = Front::start("udp", &endpoints, "udp: { flow_idle: 4s }", "");
    let client = udp_client(front.address);
    let start = Instant::now();
    ask(&client, b"first");
    assert_eq!(front.open(), 1);
    until("the flow to end", || front.open() == 0);
    let after = start.elapsed();
    assert!(after >= Duration::from_millis(3990), "ended after {after:?}");
    ask(&client, b"the same client opens another");
    assert_eq!(front.metric("evenkeel_listener_connections_total"), 2);

    let front = Front::start("udp", &endpoints, "udp: { flow_idle: 1h, replies: 1 }", "");
    let clients: Vec<UdpSocket> = (0..100).map(|_| udp_client(front.address)).collect();
    for client in &clients {
        ask(client, b"a question");
    }
    until("answered flows to end at once", || front.open() == 0);
    eprintln!("flow_idle 4s: ended after {after:?}; replies 1: 100 flows ended at once");
}

#[test]
fn datagrams_of_a_dead_udp_endpoint_go_elsewhere() {
    let mut a = Datagrams::start(Ipv4Addr::LOCALHOST, "a", 1);
    let b = Datagrams::start(Ipv4Addr::LOCALHOST, "b", 1);
    let front = Front::start("udp", &[text(a.address), text(b.address)], "", "");
    let clients: Vec<UdpSocket> = (0..20).map(|_| udp_client(front.address)).collect();
    let before: Vec<u8> = clients.iter().map(|c| ask(c, b"before")[0]).collect();
    assert!(before.contains(&b'a') && before.contains(&b'b'));
    a.kill();
    for client in &clients {
        // One datagram is enough: it is sent again, to the other endpoint.
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        client.send(b"after").unwrap();
        let mut block = [0; 64];
        let len = client.recv(&mut block).unwrap();
        assert_eq!(&block[..len], b"bafter");
    }
    let others: Vec<UdpSocket> = (0..20).map(|_| udp_client(front.address)).collect();
    for client in &others {
        assert_eq!(ask(client, b"new")[0], b'b');
    }
    let received = b.received.load(SeqCst);
    eprintln!(
        "a dead UDP endpoint: no datagram lost for 20 clients; the other received {received}"
    );
}

#[test]
fn empty_and_large_datagrams_pass() {
    for (host, ip) in [
        ("127.0.0.1", std::net::IpAddr::from(Ipv4Addr::LOCALHOST)),
        ("[::1]", Ipv6Addr::LOCALHOST.into()),
    ] {
        let replica = Datagrams::start(ip, "a", 1);
        let front = Front::bound(host, "udp", &[text(replica.address)], "", "");
        let client = udp_client(front.address);
        // The reply is a byte longer; 65,507 is the most that IPv4 carries.
        for len in [0, 1, 1472, 9000, 60 * 1024, 65_506] {
            let datagram: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            assert_eq!(ask(&client, &datagram).len(), len + 1);
        }
    }
}

#[test]
fn udp_flows_beyond_the_limit_are_refused_and_the_others_go_on() {
    let replica = Datagrams::start(Ipv4Addr::LOCALHOST, "a", 1);
    let listener = "limits: { connections: 10 }";
    let front = Front::start("udp", &[text(replica.address)], listener, "");
    let clients: Vec<UdpSocket> = (0..10).map(|_| udp_client(front.address)).collect();
    for client in &clients {
        ask(client, b"one of ten");
    }
    for _ in 0..30 {
        udp_client(front.address).send(b"one too many").unwrap();
    }
    until("thirty to be refused", || front.metric("evenkeel_listener_refused_total") == 30);
    assert_eq!(front.open(), 10);
    for client in &clients {
        ask(client, b"still one of ten");
    }
}
