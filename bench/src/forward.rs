//! Whole requests through a data plane with one worker, between a client and a replica that do as
//! little as they can. One request at a time, so that each takes the same way through the loop.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use model::spec::{EndpointSource, HealthKind, ListenerSpec, Protocol, ServiceSpec};
use model::{Endpoint, ListenerName, ServiceName};
use proxy::{Proxy, ProxyOptions};
use service::Service;

use crate::count::{REQUEST, RESPONSE};

const BODY: usize = 512;
const LARGE: usize = 64 * 1024;

pub(crate) fn keep_alive(rounds: u64) -> Result<(), String> {
    ask(Protocol::Http, RESPONSE.len() + BODY, rounds, false, response(RESPONSE, BODY))
}

pub(crate) fn close(rounds: u64) -> Result<(), String> {
    ask(Protocol::Http, 0, rounds, true, response(RESPONSE, BODY))
}

pub(crate) fn large(rounds: u64) -> Result<(), String> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
    ask(Protocol::Http, head.len() + LARGE, rounds, false, response(head.as_bytes(), LARGE))
}

pub(crate) fn tcp(rounds: u64) -> Result<(), String> {
    ask(Protocol::Tcp, RESPONSE.len() + BODY, rounds, false, response(RESPONSE, BODY))
}

fn response(head: &[u8], body: usize) -> Vec<u8> {
    let mut bytes = head.to_vec();
    bytes.resize(head.len() + body, b'x');
    bytes
}

/// `bytes`: of an answer; `close`: each request on a connection of its own.
fn ask(
    protocol: Protocol,
    bytes: usize,
    rounds: u64,
    close: bool,
    answer: Vec<u8>,
) -> Result<(), String> {
    let failed = |e: std::io::Error| e.to_string();
    let replica = replica(answer).map_err(failed)?;
    let options = ProxyOptions { workers: 1, seed: 1, ..ProxyOptions::default() };
    let proxy = Proxy::start(&options).map_err(failed)?;
    let address = serve(&proxy, protocol, replica).map_err(failed)?;
    let mut buffer = vec![0; LARGE + 1024];
    let mut client = TcpStream::connect(address).map_err(failed)?;
    client.set_nodelay(true).map_err(failed)?;
    let request = if close { closing() } else { REQUEST.to_vec() };
    for _ in 0..rounds {
        client.write_all(&request).map_err(failed)?;
        if close {
            while client.read(&mut buffer).map_err(failed)? > 0 {}
            client = TcpStream::connect(address).map_err(failed)?;
        } else {
            client.read_exact(&mut buffer[..bytes]).map_err(failed)?;
        }
        if !buffer.starts_with(b"HTTP/1.1 200") {
            return Err(String::from_utf8_lossy(&buffer[..80]).into_owned());
        }
    }
    Ok(())
}

fn closing() -> Vec<u8> {
    String::from_utf8_lossy(REQUEST).replace("keep-alive", "close").into_bytes()
}

/// Answers each request, which comes in one piece, with the same bytes.
fn replica(answer: Vec<u8>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                let mut buffer = [0; 4096];
                while matches!((&stream).read(&mut buffer), Ok(count) if count > 0) {
                    if (&stream).write_all(&answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(address)
}

fn serve(proxy: &Proxy, protocol: Protocol, replica: SocketAddr) -> std::io::Result<SocketAddr> {
    let name = ServiceName::from("web");
    let mut spec = ServiceSpec::new(name.clone());
    spec.source = EndpointSource::Static(vec![Endpoint::at(replica)]);
    spec.health.kind = HealthKind::Off;
    proxy.watch(Service::new(&spec, proxy.events(), proxy.now(), 1));
    proxy.set_listener(&ListenerSpec {
        name: ListenerName::from("web"),
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        protocol,
        routes: Default::default(),
        labelled: Default::default(),
        service: Some(name),
        timeouts: Default::default(),
        limits: Default::default(),
        http: Default::default(),
        http2: Some(Default::default()),
        udp: Default::default(),
        proxy_protocol: None,
        tls: None,
    })
}
