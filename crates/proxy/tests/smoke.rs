//! A data plane in front of two real sockets, through the crate's public face alone.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use model::spec::{
    EndpointProtocol, EndpointSource, HealthKind, ListenerSpec, Protocol, ServiceSpec,
};
use model::{Endpoint, ListenerName, ServiceName};
use proxy::{Proxy, ProxyOptions};
use service::Service;

fn replica(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while let Some(Ok(line)) = lines.next() {
                    if line.is_empty() {
                        let len = name.len();
                        let answer =
                            format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{name}");
                        if (&stream).write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

fn listener(service: &ServiceName) -> ListenerSpec {
    ListenerSpec {
        name: ListenerName::from("web"),
        bind: "127.0.0.1:0".parse().unwrap(),
        protocol: Protocol::Http,
        routes: Default::default(),
        labelled: Default::default(),
        service: Some(service.clone()),
        timeouts: Default::default(),
        limits: Default::default(),
        http: Default::default(),
        udp: Default::default(),
        proxy_protocol: None,
        tls: None,
        http2: Some(Default::default()),
    }
}

#[test]
fn requests_go_round_and_a_stop_is_clean() {
    let proxy = Proxy::start(&ProxyOptions { workers: 2, ..ProxyOptions::default() }).unwrap();
    let name = ServiceName::from("web");
    let mut spec = ServiceSpec::new(name.clone());
    let endpoints = vec![Endpoint::at(replica("a")), Endpoint::at(replica("b"))];
    spec.source = EndpointSource::Static(endpoints);
    let service = Service::new(&spec, proxy.events(), proxy.now(), 1);
    proxy.watch(service.clone());
    let address = proxy.set_listener(&listener(&name)).unwrap();
    let start = Instant::now();
    while service.healthy() < 2 {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", service.status());
        std::thread::yield_now();
    }
    let mut answers = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        answers.push(text.pop().unwrap());
    }
    assert_eq!(answers.iter().filter(|a| **a == 'a').count(), 4, "{answers:?}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(proxy.stop(Duration::from_secs(5)));
    assert!(TcpStream::connect(address).is_err());
    assert!(service.status().endpoints.iter().all(|e| e.in_flight == 0));
}

/// A listener that takes the address of another finds its clients where they were: none is refused,
/// and none is reset where it is the very same address.
#[test]
fn an_address_is_handed_over_without_a_gap() {
    let proxy = Proxy::start(&ProxyOptions { workers: 2, ..ProxyOptions::default() }).unwrap();
    let name = ServiceName::from("web");
    let mut spec = ServiceSpec::new(name.clone());
    spec.source = EndpointSource::Static(vec![Endpoint::at(replica("a"))]);
    spec.health.kind = HealthKind::Off;
    proxy.watch(Service::new(&spec, proxy.events(), proxy.now(), 1));
    let mut old = listener(&name);
    let address = proxy.set_listener(&old).unwrap();

    let (done, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            while !done.load(Relaxed) {
                let mut stream = TcpStream::connect(address).unwrap();
                stream
                    .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    .unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).unwrap();
                assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
                answered.fetch_add(1, Relaxed);
            }
        });
        for turn in 0..50 {
            let mut new = listener(&name);
            new.name = ListenerName::from(format!("web-{turn}").as_str());
            new.bind = address;
            proxy.set_listeners(&[&new], &[old.name.clone()], Duration::from_secs(30)).unwrap();
            old = new;
            let seen = answered.load(Relaxed);
            while answered.load(Relaxed) < seen + 2 && !client.is_finished() {
                std::thread::yield_now();
            }
        }
        done.store(true, Relaxed);
        client.join().unwrap();
    });

    // Beside itself on another address, and back: never refused. (The kernel may reset a client
    // whose handshake is half-way when the socket of the former address closes.)
    for ip in ["0.0.0.0", "127.0.0.1"] {
        old.bind.set_ip(ip.parse().unwrap());
        assert_eq!(proxy.set_listener(&old).unwrap(), old.bind);
        let connected = TcpStream::connect(address).map_err(|error| error.kind());
        assert!(matches!(connected, Ok(_) | Err(ErrorKind::ConnectionReset)), "{connected:?}");
    }
    // What fails changes nothing.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut beside = listener(&name);
    beside.bind = taken.local_addr().unwrap();
    let (failed, error) =
        proxy.set_listeners(&[&beside], &[old.name.clone()], Duration::from_secs(30)).unwrap_err();
    assert_eq!((failed, error.kind()), (beside.name, ErrorKind::AddrInUse));
    assert!(TcpStream::connect(address).is_ok());

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(proxy.stop(Duration::from_secs(5)));
    assert!(TcpStream::connect(address).is_err());
}

/// A body that is too long to be kept passes through a window. When its endpoint fails, what the
/// window holds does not begin with that request, and must not be taken for it.
#[test]
fn a_request_that_failed_does_not_shift_the_next() {
    let endpoint = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = endpoint.local_addr().unwrap();
    let proxy = Proxy::start(&ProxyOptions { workers: 1, ..ProxyOptions::default() }).unwrap();
    let name = ServiceName::from("web");
    let mut spec = ServiceSpec::new(name.clone());
    spec.source = EndpointSource::Static(vec![Endpoint::at(address)]);
    spec.health.kind = HealthKind::Off;
    spec.retry.replay_bytes = 0;
    proxy.watch(Service::new(&spec, proxy.events(), proxy.now(), 1));
    let mut client = TcpStream::connect(proxy.set_listener(&listener(&name)).unwrap()).unwrap();

    client.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n").unwrap();
    let (replica, _) = endpoint.accept().unwrap();
    let mut received = BufReader::new(&replica);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        received.read_line(&mut line).unwrap();
    }
    client.write_all(b"0123456789").unwrap();
    let mut part = [0; 10];
    received.read_exact(&mut part).unwrap();
    let next = format!("GET /next HTTP/1.1\r\nHost: x\r\nX-A: {}\r\n\r\n", "a".repeat(300));
    client.write_all(format!("0123456789{next}").as_bytes()).unwrap();
    received.read_exact(&mut part).unwrap();
    drop(replica);
    drop(endpoint);

    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 502 ") && text.contains("connection: close"), "{text}");
    assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text}");
}

/// An endpoint of HTTP/2 that says `settings` and then nothing, and how often it was dialled.
fn silent(settings: &'static [u8]) -> (SocketAddr, std::sync::Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let dialled = std::sync::Arc::new(AtomicUsize::new(0));
    let count = dialled.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            count.fetch_add(1, Relaxed);
            std::thread::spawn(move || {
                stream.write_all(settings).unwrap();
                std::io::copy(&mut stream, &mut std::io::sink())
            });
        }
    });
    (address, dialled)
}

/// What neither an endpoint that takes no request nor a client that writes no base64 may cost.
#[test]
fn endpoints_of_http2_that_answer_nothing() {
    let proxy = Proxy::start(&ProxyOptions { workers: 1, ..ProxyOptions::default() }).unwrap();
    let web = "Content-Type: application/grpc-web-text\r\nContent-Length: 8";
    for (settings, head, body, expected) in [
        // MAX_CONCURRENT_STREAMS is 0.
        (&b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\0"[..], "GET", "", "HTTP/1.1 503 "),
        (&b"\0\0\0\x04\0\0\0\0\0"[..], "POST", "AA*AAAAA", "grpc-message: malformed body\r\n"),
    ] {
        let (address, dialled) = silent(settings);
        let name = ServiceName::from(head);
        let mut spec = ServiceSpec::new(name.clone());
        spec.source = EndpointSource::Static(vec![Endpoint::at(address)]);
        spec.health.kind = HealthKind::Off;
        spec.protocol = EndpointProtocol::H2c;
        spec.grpc_web = true;
        proxy.watch(Service::new(&spec, proxy.events(), proxy.now(), 1));
        let mut bound = listener(&name);
        bound.name = ListenerName::from(head);
        let mut client = TcpStream::connect(proxy.set_listener(&bound).unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let fields = if body.is_empty() { "X: y" } else { web };
        let request =
            format!("{head} / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n\r\n{body}");
        client.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert!(text.contains(expected), "{text}");
        // Once for each attempt.
        assert!(dialled.load(Relaxed) <= 3, "{dialled:?}");
    }
}
