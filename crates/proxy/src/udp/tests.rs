use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Instant as Clock;

use model::spec::{
    AccessLogSpec, EndpointSource, HealthKind, HealthSpec, HttpSpec, LimitSpec, ListenerSpec,
    ServiceSpec, TimeoutSpec, UdpSpec,
};
use model::{Endpoint, ListenerName, ServiceName};
use service::Service;

use super::*;
use crate::proxy::{Proxy, ProxyOptions};

/// More than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// A data plane with one UDP listener in front of one service.
struct Bench {
    runtime: tokio::runtime::Runtime,
    proxy: Proxy,
    service: Arc<Service>,
    address: SocketAddr,
    spec: ListenerSpec,
}

impl Bench {
    fn new(bind: &str, endpoints: &[&UdpSocket], change: impl FnOnce(&mut ListenerSpec)) -> Self {
        Self::with_log(bind, endpoints, None, change)
    }

    fn with_log(
        bind: &str,
        endpoints: &[&UdpSocket],
        access_log: Option<AccessLogSpec>,
        change: impl FnOnce(&mut ListenerSpec),
    ) -> Self {
        let options = ProxyOptions { workers: 4, access_log, seed: 7 };
        let proxy = Proxy::start(&options).unwrap();
        let endpoint = |socket: &&UdpSocket| Endpoint::at(socket.local_addr().unwrap());
        let name = ServiceName::from("app");
        let spec = ServiceSpec {
            source: EndpointSource::Static(endpoints.iter().map(endpoint).collect()),
            health: HealthSpec { kind: HealthKind::Off, ..HealthSpec::default() },
            drain_grace: Duration::ZERO,
            ..ServiceSpec::new(name.clone())
        };
        let service = Service::new(&spec, proxy.events(), proxy.now(), 7);
        proxy.watch(service.clone());
        let mut spec = ListenerSpec {
            name: ListenerName::from("udp"),
            bind: bind.parse().unwrap(),
            protocol: Protocol::Udp,
            routes: Default::default(),
            labelled: Default::default(),
            service: Some(name),
            timeouts: TimeoutSpec::default(),
            limits: LimitSpec::default(),
            http: HttpSpec::default(),
            udp: UdpSpec::default(),
            proxy_protocol: None,
            tls: None,
            http2: None,
        };
        change(&mut spec);
        let address = proxy.set_listener(&spec).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, proxy, service, address, spec }
    }

    fn open(&self) -> u64 {
        self.proxy.metrics().listeners.iter().map(|l| l.connections_open).sum()
    }

    fn client(&self) -> UdpSocket {
        let client = socket(if self.address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" });
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(client.local_addr().unwrap().ip());
        }
        client.connect(address).unwrap();
        client
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.runtime.block_on(self.proxy.stop(Duration::ZERO));
    }
}

fn socket(bind: &str) -> UdpSocket {
    let socket = UdpSocket::bind(bind).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    socket
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Clock::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Answers each datagram with its own bytes and `name` before them, until it gets `end`.
fn echo(socket: &UdpSocket, name: u8) -> std::thread::JoinHandle<()> {
    let socket = socket.try_clone().unwrap();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        loop {
            match socket.recv_from(&mut buffer[1..]) {
                Ok((3, _)) if &buffer[1..4] == b"end" => return,
                Ok((len, from)) => {
                    buffer[0] = name;
                    socket.send_to(&buffer[..=len], from).unwrap();
                }
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => {}
                Err(e) => panic!("{e}"),
            }
        }
    })
}

fn ask(client: &UdpSocket, payload: &[u8]) -> Vec<u8> {
    client.send(payload).unwrap();
    let mut buffer = vec![0; 65_536];
    let len = client.recv(&mut buffer).unwrap();
    buffer.truncate(len);
    buffer
}

#[test]
fn flows_keep_their_endpoint_and_payloads_of_all_sizes() {
    for bind in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(probe) = UdpSocket::bind(bind) else { continue };
        drop(probe);
        let endpoints = [socket(bind), socket(bind)];
        let threads = [echo(&endpoints[0], b'a'), echo(&endpoints[1], b'b')];
        let bench = Bench::new(bind, &[&endpoints[0], &endpoints[1]], |_| {});
        let mut names = Vec::new();
        for number in 0..8 {
            let client = bench.client();
            let name = ask(&client, b"")[0];
            for size in [1, 1000, 1472, 9000, 65_000] {
                let payload = vec![number; size];
                let reply = ask(&client, &payload);
                assert!(reply[0] == name && reply[1..] == payload[..], "{size}");
            }
            names.push(name);
        }
        assert!(names.contains(&b'a') && names.contains(&b'b'));
        assert_eq!(bench.open(), 8);
        // A reply is counted after it was sent.
        let sent = || bench.proxy.metrics().listeners[0].downstream_bytes_out;
        wait_until("the count of replies", || sent() == 8 * (76_473 + 6));
        let metrics = bench.proxy.metrics();
        let (listener, service) = (&metrics.listeners[0], &metrics.services[0]);
        assert_eq!(listener.connections, 8);
        assert_eq!(listener.downstream_bytes_in, 8 * 76_473);
        assert_eq!(service.latency_us.iter().map(|(_, count)| count).sum::<u64>(), 8);
        for endpoint in &endpoints {
            UdpSocket::bind(bind).unwrap().send_to(b"end", endpoint.local_addr().unwrap()).unwrap();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// The client sees nothing of an endpoint that is gone, neither at first nor in the middle.
#[test]
fn a_gone_endpoint_is_stepped_over() {
    let (gone, living) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let _echo = echo(&living, b'l');
    let bench = Bench::new("127.0.0.1:0", &[&gone, &living], |_| {});
    drop(gone);
    for number in 0..20 {
        assert_eq!(ask(&bench.client(), &[number]), [b'l', number]);
    }
    let failures: u64 = bench.service.status().endpoints.iter().map(|e| e.failures).sum();
    assert!(failures > 0);

    let (first, second) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let (_echo, end) = (echo(&second, b's'), echo(&first, b'f'));
    let bench = Bench::new("127.0.0.1:0", &[&first, &second], |_| {});
    let clients: Vec<_> = (0..6).map(|_| bench.client()).collect();
    let names: Vec<_> = clients.iter().map(|client| ask(client, b"x")[0]).collect();
    assert!(names.contains(&b'f') && names.contains(&b's'));
    living.send_to(b"end", first.local_addr().unwrap()).unwrap();
    end.join().unwrap();
    drop(first);
    for client in &clients {
        assert_eq!(ask(client, b"x"), [b's', b'x']);
    }
    wait_until("only flows to the living", || bench.open() == 6);
}

#[test]
fn no_endpoint_left() {
    let gone = socket("127.0.0.1:0");
    let bench = Bench::new("127.0.0.1:0", &[&gone], |_| {});
    drop(gone);
    let client = bench.client();
    client.send(b"x").unwrap();
    wait_until("the flow", || bench.proxy.metrics().listeners[0].connections == 1);
    wait_until("the flow's end", || bench.open() == 0);
    assert!(bench.service.status().endpoints[0].failures > 0);
    assert_eq!(bench.service.status().endpoints[0].in_flight, 0);
}

#[test]
fn flows_end_by_time_by_replies_and_with_their_endpoint() {
    let endpoint = socket("127.0.0.1:0");
    let _echo = echo(&endpoint, b'e');
    let mut bench = Bench::new("127.0.0.1:0", &[&endpoint], |spec| {
        spec.udp.flow_idle = Duration::from_millis(300);
    });
    ask(&bench.client(), b"x");
    assert_eq!(bench.open(), 1);
    wait_until("the idle flow's end", || bench.open() == 0);

    bench.spec.udp = UdpSpec { flow_idle: LONG, replies: Some(1) };
    bench.proxy.set_listener(&bench.spec).unwrap();
    ask(&bench.client(), b"x");
    wait_until("the answered flow's end", || bench.open() == 0);

    bench.spec.udp = UdpSpec { flow_idle: LONG, replies: None };
    bench.proxy.set_listener(&bench.spec).unwrap();
    let client = bench.client();
    ask(&client, b"x");
    assert_eq!(bench.open(), 1);
    let id = bench.service.status().endpoints[0].id.clone();
    bench.service.drain(&id, bench.proxy.now()).unwrap();
    wait_until("the drained endpoint's flow's end", || bench.open() == 0);
    assert_eq!(bench.service.status().endpoints[0].in_flight, 0);

    // No endpoint is left for new ones.
    client.send(b"x").unwrap();
    wait_until("a refusal", || bench.proxy.metrics().listeners[0].refused == 1);
    bench.service.undrain(&id, bench.proxy.now()).unwrap();
    assert_eq!(ask(&client, b"x"), b"ex");
}

#[test]
fn limits_refuse_further_flows() {
    let endpoint = socket("127.0.0.1:0");
    let _echo = echo(&endpoint, b'e');
    let bench = Bench::new("127.0.0.1:0", &[&endpoint], |spec| {
        spec.limits.connections_per_client = Some(2);
    });
    let clients: Vec<_> = (0..3).map(|_| bench.client()).collect();
    ask(&clients[0], b"x");
    ask(&clients[1], b"x");
    clients[2].send(b"x").unwrap();
    wait_until("a refusal", || bench.proxy.metrics().listeners[0].refused == 1);
    ask(&clients[0], b"y");
    assert_eq!(bench.open(), 2);
}

/// Open flows outlive their listener for its grace, as long as they are used.
#[test]
fn a_removed_listener_ends_its_flows_in_order() {
    let endpoint = socket("127.0.0.1:0");
    let _echo = echo(&endpoint, b'e');
    let bench = Bench::new("0.0.0.0:0", &[&endpoint], |_| {});
    let port = bench.address.port();
    let (busy, quiet) = (bench.client(), bench.client());
    ask(&quiet, b"x");
    ask(&busy, b"x");
    bench.proxy.remove_listener(&bench.spec.name, LONG);
    let in_flight = || bench.service.status().endpoints[0].in_flight;
    let start = Clock::now();
    while in_flight() == 2 {
        assert!(start.elapsed() < LONG / 2);
        assert_eq!(ask(&busy, b"x"), b"ex");
    }
    for _ in 0..100 {
        assert_eq!(ask(&busy, b"x"), b"ex");
    }
    wait_until("the other flow's end", || in_flight() == 0);
    assert!(start.elapsed() < LONG / 2);
    // The port is free again.
    wait_until("the sockets' end", || UdpSocket::bind(("0.0.0.0", port)).is_ok());
}

/// A listener of another name gets the sockets while flows of the old one are still open.
#[test]
fn an_address_is_handed_over_with_flows_open() {
    let endpoint = socket("127.0.0.1:0");
    let _echo = echo(&endpoint, b'e');
    let bench = Bench::new("127.0.0.1:0", &[&endpoint], |_| {});
    let clients: Vec<_> = (0..8).map(|_| bench.client()).collect();
    clients.iter().for_each(|client| drop(ask(client, b"x")));
    let mut renamed = bench.spec.clone();
    renamed.name = ListenerName::from("renamed");
    renamed.bind = bench.address;
    bench.proxy.set_listeners(&[&renamed], std::slice::from_ref(&bench.spec.name), LONG).unwrap();
    for _ in 0..50 {
        clients.iter().for_each(|client| assert_eq!(ask(client, b"x"), b"ex"));
        assert_eq!(ask(&bench.client(), b"x"), b"ex");
    }
}

#[test]
fn each_flow_is_logged_at_its_end() {
    let endpoint = socket("127.0.0.1:0");
    let _echo = echo(&endpoint, b'e');
    let name = format!("udp-log-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let log = Some(AccessLogSpec::File(path.clone()));
    let bench = Bench::with_log("127.0.0.1:0", &[&endpoint], log, |spec| {
        spec.udp.replies = Some(1);
    });
    ask(&bench.client(), b"four");
    wait_until("a line", || bench.proxy.metrics().access_log_written == 1);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (field, expected) in [
        ("listener", serde_json::json!("udp")),
        ("protocol", "udp".into()),
        ("client", "127.0.0.1".into()),
        ("service", "app".into()),
        ("endpoint", endpoint.local_addr().unwrap().to_string().into()),
        ("bytes_in", 4.into()),
        ("bytes_out", 5.into()),
        ("attempts", 1.into()),
        ("error", serde_json::Value::Null),
    ] {
        assert_eq!(line[field], expected, "{field}");
    }
}
