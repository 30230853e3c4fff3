use std::io::{Read, Write};
use std::net::TcpStream;

use model::spec::{ActionSpec, RouteSpec};

use super::*;

/// By the kernel's hash alone, every third run or so would have one worker at 110 or more.
#[test]
fn connections_are_spread_evenly() {
    let proxy = Proxy::start(&ProxyOptions { workers: 2, ..ProxyOptions::default() }).unwrap();
    let action =
        ActionSpec::Respond { status: 200, body: "ok".into(), content_type: "text/plain".into() };
    let spec = ListenerSpec {
        name: ListenerName::from("web"),
        bind: "127.0.0.1:0".parse().unwrap(),
        protocol: Protocol::Http,
        routes: vec![RouteSpec { action, ..RouteSpec::catch_all(ServiceName::from("none")) }]
            .into(),
        labelled: Default::default(),
        service: None,
        timeouts: Default::default(),
        limits: Default::default(),
        http: Default::default(),
        http2: Some(Default::default()),
        udp: Default::default(),
        proxy_protocol: None,
        tls: None,
    };
    let address = proxy.set_listener(&spec).unwrap();
    let clients: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut answer = [0; 12];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
            client
        })
        .collect();
    let listener = proxy.table().listeners[&spec.name].clone();
    let open: Vec<u64> = listener.shards.iter().map(|shard| shard.open.value()).collect();
    assert_eq!(open.iter().sum::<u64>(), 200);
    assert!(open.iter().all(|count| (90..=110).contains(count)), "{open:?}");
    assert!(listener.shards.iter().all(|shard| shard.load() == shard.open.value()));
    drop(clients);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(proxy.stop(Duration::from_secs(5)));
}
