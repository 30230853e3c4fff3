//! A data plane in front of two real sockets, through the crate's public face alone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use model::spec::{EndpointSource, ListenerSpec, Protocol, ServiceSpec};
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
                        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{name}");
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
        routes: Vec::new(),
        service: Some(service.clone()),
        timeouts: Default::default(),
        limits: Default::default(),
        http: Default::default(),
        udp: Default::default(),
        proxy_protocol: None,
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
