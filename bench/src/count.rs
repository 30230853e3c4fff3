//! Pieces of work for callgrind: each does the same work so often as it is told, so that the
//! difference of two runs is the work alone, without what surrounds it.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use http2::{Config, Connection, Event, HeadKind};
use model::spec::{
    CertificateFiles, EndpointSource, HealthKind, HostPattern, PathPattern, RouteSpec,
    ServerTlsSpec, ServiceSpec,
};
use model::{Endpoint, Instant, Outcome, Report, Rng, ServiceName};
use service::{Acquired, NoEvents, Request, Service};
use tls::Outgoing;
use wire::http1::{HeadLimits, Progress, RequestHead, RequestKind, ResponseHead};

use crate::forward;

type Work = fn(rounds: u64) -> Result<(), String>;

/// By name, with how often each is done in the shorter run; the longer is eleven times as long.
pub(crate) static SUBJECTS: &[(&str, u64, Work)] = &[
    ("parse-request", 100, parse_request),
    ("parse-response", 100, parse_response),
    ("route-1", 100, |rounds| route_among(1, rounds)),
    ("route-10000", 100, |rounds| route_among(10_000, rounds)),
    ("pick-10", 100, |rounds| pick_among(10, rounds)),
    ("pick-1000", 100, |rounds| pick_among(1000, rounds)),
    ("http2-stream", 100, http2_stream),
    ("tls-record-512", 1000, |rounds| tls_records(512, rounds)),
    ("tls-record-16k", 100, |rounds| tls_records(16_000, rounds)),
    ("forward", 100, forward::keep_alive),
    ("forward-close", 100, forward::close),
    ("forward-64k", 100, forward::large),
    ("forward-tcp", 100, forward::tcp),
];

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let [name, rounds] = arguments else {
        SUBJECTS.iter().for_each(|(name, rounds, _)| println!("{name} {rounds}"));
        return Ok(());
    };
    let subject = SUBJECTS.iter().find(|(known, ..)| known == name);
    let (_, _, work) = subject.ok_or_else(|| format!("there is no {name:?}"))?;
    work(rounds.parse().map_err(|e| format!("{rounds}: {e}"))?)
}

/// As a browser asks.
pub(crate) const REQUEST: &[u8] = b"GET /shop/items/4711?sort=price&page=2 HTTP/1.1\r\n\
    Host: shop.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://shop.example.com/shop\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
    Upgrade-Insecure-Requests: 1\r\n\r\n";

/// As an application answers.
pub(crate) const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: app/1.0\r\n\
    Date: Sat, 21 Nov 2026 12:00:00 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Content-Length: 512\r\n\
    Cache-Control: no-cache\r\n\
    ETag: \"0123456789\"\r\n\r\n";

const LIMITS: HeadLimits = HeadLimits { bytes: 32 * 1024, count: 100, uri_bytes: 8192 };

fn parse_request(rounds: u64) -> Result<(), String> {
    let mut head = RequestHead::default();
    for _ in 0..rounds {
        let parsed = head.parse(black_box(REQUEST), &LIMITS);
        if parsed != Ok(Progress::Complete) {
            return Err(format!("{parsed:?}"));
        }
        black_box(&head);
    }
    Ok(())
}

fn parse_response(rounds: u64) -> Result<(), String> {
    let mut head = ResponseHead::default();
    for _ in 0..rounds {
        let parsed = head.parse(black_box(RESPONSE), &LIMITS, RequestKind::default());
        if parsed != Ok(Progress::Complete) {
            return Err(format!("{parsed:?}"));
        }
        black_box(&head);
    }
    Ok(())
}

/// A request as routes see it.
pub(crate) struct Asked {
    pub(crate) host: String,
    pub(crate) path: String,
}

impl route::Request for Asked {
    fn method(&self) -> &str {
        "GET"
    }
    fn host(&self) -> &str {
        &self.host
    }
    fn path(&self) -> &str {
        &self.path
    }
    fn query(&self) -> &str {
        ""
    }
    fn header<'a>(&'a self, _: &str, _: &mut dyn FnMut(&'a [u8]) -> bool) {}
}

/// Ten prefixes under each of many hosts.
pub(crate) fn routes(count: u64) -> Vec<RouteSpec> {
    let route = |index: u64| RouteSpec {
        host: Some(HostPattern::Exact(format!("host{}.example.com", index / 10))),
        path: Some(PathPattern::Prefix(format!("/area{}/things", index % 10))),
        ..RouteSpec::catch_all(ServiceName::from("web"))
    };
    (0..count).map(route).collect()
}

fn route_among(count: u64, rounds: u64) -> Result<(), String> {
    let table = route::Table::build(&routes(count)).map_err(|e| e.to_string())?;
    let index = count * 2 / 3;
    let asked = Asked {
        host: format!("host{}.example.com", index / 10),
        path: format!("/area{}/things/4711/detail", index % 10),
    };
    for _ in 0..rounds {
        if black_box(&table).find(black_box(&asked)) != Some(&(index as usize)) {
            return Err("another route was found".into());
        }
    }
    Ok(())
}

/// The service as the data plane asks it: pick, report, and all that is counted with them.
pub(crate) fn service(name: &str, count: u64) -> Arc<Service> {
    let mut spec = ServiceSpec::new(ServiceName::from(name));
    let address = |n: u64| std::net::SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 80));
    spec.source = EndpointSource::Static((0..count).map(|n| Endpoint::at(address(n))).collect());
    spec.health.kind = HealthKind::Off;
    Service::new(&spec, Arc::new(NoEvents), Instant::ZERO, 1)
}

fn pick_among(count: u64, rounds: u64) -> Result<(), String> {
    let service = service("web", count);
    let mut rng = Rng::from_seed(1);
    let mut now = Instant::ZERO + Duration::from_secs(60);
    for _ in 0..rounds {
        now += Duration::from_micros(100);
        let request = Request { now, key: None, exclude: &[] };
        let Acquired::Picked(pick) = service.acquire(&request, 5, &mut rng) else {
            return Err("no endpoint".into());
        };
        let latency = Some(Duration::from_millis(1));
        pick.report(&Report::new(now, Outcome::Success).after(latency));
    }
    Ok(())
}

/// Both sides of one stream after another: request and answer, their frames read and written.
fn http2_stream(rounds: u64) -> Result<(), String> {
    let config = Config {
        streams_max: 100,
        stream_window: 256 * 1024,
        connection_window: 1024 * 1024,
        field_bytes_max: 32 * 1024,
        field_count_max: 100,
        output_bytes: 64 * 1024,
        extended_connect: true,
        resets_max: 200,
        idle_frames_max: 1000,
        continuations_max: 16,
        window_updates_max: 4096,
    };
    let (mut client, mut server) = (Connection::client(config), Connection::server(config));
    let body = [b'x'; 512];
    exchange(&mut client, &mut server)?;
    for round in 0..rounds {
        let key = client.request(true, false, false, |fields| {
            fields.method(b"GET");
            fields.scheme(b"http");
            fields.authority(b"shop.example.com");
            fields.path(b"/shop/items/4711");
            fields.field(b"user-agent", b"h2load nghttp2/1.52.0");
        });
        let key = key.ok_or_else(|| format!("no stream {round}"))?;
        let mut asked = None;
        pass(&mut client, &mut server, &mut |event, _| {
            if let Event::Request { stream, .. } = event {
                asked = Some(stream);
            }
        })?;
        let stream = asked.ok_or("no request")?;
        server.send_head(stream, HeadKind::Final, |fields| {
            fields.status(200);
            fields.field(b"content-type", b"text/plain");
            fields.field(b"content-length", b"512");
        });
        if server.send_data(stream, &body, true) != body.len() {
            return Err("it did not take the body".into());
        }
        server.forget(stream);
        pass(&mut server, &mut client, &mut |event, client| {
            if let Event::Data { stream, range, .. } = event {
                client.consume(stream, range.len());
            }
        })?;
        client.forget(key);
        // What was consumed is told.
        exchange(&mut client, &mut server)?;
        if round % 500 == 0 {
            server.refill();
            client.refill();
        }
    }
    Ok(())
}

fn exchange(client: &mut Connection, server: &mut Connection) -> Result<(), String> {
    while !client.output().is_empty() || !server.output().is_empty() {
        pass(client, server, &mut |_, _| ())?;
        pass(server, client, &mut |_, _| ())?;
    }
    Ok(())
}

/// What one side has to send reaches the other.
fn pass(
    from: &mut Connection,
    to: &mut Connection,
    handle: &mut dyn FnMut(Event, &mut Connection),
) -> Result<(), String> {
    let mut at = 0;
    while at < from.output().len() {
        let received = to.receive(&from.output()[at..]).map_err(|e| format!("{e:?}"))?;
        if received.consumed == 0 && received.event.is_none() {
            return Err("a frame without its end".into());
        }
        at += received.consumed;
        if let Some(event) = received.event {
            handle(event, to);
        }
    }
    from.advance(at);
    Ok(())
}

/// One side encrypts, the other decrypts.
fn tls_records(bytes: usize, rounds: u64) -> Result<(), String> {
    let folder = std::env::temp_dir().join(format!("bench-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]);
    let made = made.map_err(|e| e.to_string())?;
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let written = std::fs::write(&certificate, pem("CERTIFICATE", made.cert.der()))
        .and_then(|()| std::fs::write(&key, pem("PRIVATE KEY", &made.signing_key.serialize_der())));
    let spec = ServerTlsSpec {
        certificates: vec![CertificateFiles { certificate, key }],
        ..ServerTlsSpec::default()
    };
    let server = tls::Server::new("web", &spec, &[], None, Default::default());
    let removed = std::fs::remove_dir_all(&folder);
    written.and(removed).map_err(|e| e.to_string())?;
    let (server, _) = server.map_err(|faults| format!("{faults:?}"))?;
    let client = tls::Client::unverified("web").map_err(|faults| format!("{faults:?}"))?;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 443));
    let mut client = client.dial(address, &[]).map_err(|e| e.to_string())?.session;
    let mut server = server.accept().map_err(|e| e.to_string())?;
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    while client.is_handshaking() || server.is_handshaking() {
        turn(&mut client, &mut to_client, &mut to_server, &mut [])?;
        turn(&mut server, &mut to_server, &mut to_client, &mut [])?;
    }
    let (plain, mut into) = (vec![b'x'; bytes], vec![0; bytes]);
    let mut out = Outgoing::default();
    let mut records = Vec::new();
    for _ in 0..rounds {
        out.clear();
        server.encrypt(&plain, &mut out).map_err(|e| e.to_string())?;
        records.clear();
        records.extend_from_slice(&to_client);
        to_client.clear();
        records.extend_from_slice(out.bytes());
        out.clear();
        let got = client.process(&mut records, &mut into, &mut out).map_err(|e| e.to_string())?;
        if got.filled != bytes {
            return Err(format!("{} of {bytes}", got.filled));
        }
    }
    Ok(())
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

fn turn(
    session: &mut tls::Session,
    inbox: &mut Vec<u8>,
    outbox: &mut Vec<u8>,
    into: &mut [u8],
) -> Result<(), String> {
    let mut incoming = session.partial().to_vec();
    incoming.append(inbox);
    let mut out = Outgoing::default();
    session.process(&mut incoming, into, &mut out).map_err(|e| e.to_string())?;
    outbox.extend_from_slice(out.bytes());
    Ok(())
}
