//! Thousands of clients that stop in the middle: of what they asked for, or of what they send.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use http2::{Config, StreamKey};

use super::client::{self, Client};
use crate::e2e::harness::measure::many_files;
use crate::e2e::harness::program::Folder;
use crate::e2e::harness::{Evenkeel, Memory, Pki, Secure, free_port, until, wait};

const CLIENTS: usize = 1000;
/// Streams of each client of HTTP/2.
const STREAMS: usize = 8;

/// Endpoints of which each answers with a response that does not end, as far as it is taken, or
/// reads no more than the head of what is sent to it. All in one thread.
struct Bulk {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    /// Requests that came.
    asked: Arc<AtomicUsize>,
}

impl Bulk {
    /// `answers`: a request is answered once its head is there; otherwise never.
    fn start(answers: bool) -> Bulk {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        // Thousands connect at once.
        rustix::net::listen(&listener, 4096).unwrap();
        let address = listener.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicUsize::new(0));
        let (stop, count) = (stopped.clone(), asked.clone());
        std::thread::spawn(move || serve(&listener, answers, &stop, &count));
        Bulk { address, stopped, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
    }
}

fn serve(listener: &TcpListener, answers: bool, stopped: &AtomicBool, asked: &AtomicUsize) {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n";
    let body = vec![b'x'; 64 * 1024];
    // A connection, whether its request came, and how often it is passed over since it was full.
    let mut open: Vec<(TcpStream, bool, u8)> = Vec::new();
    while !stopped.load(SeqCst) {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true).unwrap();
            // Not to fill the memory of the system on this side.
            rustix::net::sockopt::set_socket_send_buffer_size(&stream, 32 * 1024).unwrap();
            open.push((stream, false, 0));
        }
        open.retain_mut(|(stream, is_asked, rest)| {
            if *rest > 0 {
                *rest -= 1;
                return true;
            }
            let mut buffer = [0; 1024];
            if !*is_asked {
                match stream.read(&mut buffer) {
                    Ok(0) => return false,
                    Ok(_) => {
                        *is_asked = true;
                        asked.fetch_add(1, SeqCst);
                        if answers && stream.write_all(HEAD).is_err() {
                            return false;
                        }
                    }
                    Err(e) => return e.kind() == ErrorKind::WouldBlock,
                }
            }
            let end = match answers {
                true => stream.write(&body).map(|_| 1),
                // Only to see the end.
                false => stream.peek(&mut buffer),
            };
            match end {
                Ok(count) => count > 0,
                Err(e) => {
                    *rest = 50;
                    e.kind() == ErrorKind::WouldBlock
                }
            }
        });
        wait::pause();
    }
}

/// A listener in front of it, with TLS or without.
struct Site {
    program: Evenkeel,
    web: SocketAddr,
    bulk: Bulk,
    secure: Secure,
}

impl Site {
    fn start(is_secure: bool, answers: bool, alpn: &[&[u8]], listener: &str) -> Site {
        let folder = Folder::new();
        Pki::new(&folder.0, "ca").issue("a", &["a.test"]);
        let secure = Secure::trusting(&folder.join("ca.pem"), alpn);
        let bulk = Bulk::start(answers);
        let web = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let tls = match is_secure {
            true => "tls: { certificates: [ { certificate: a.crt, key: a.key } ] }",
            false => "",
        };
        let program = Evenkeel::spawn_in(
            folder,
            &format!(
                "workers: 2\nlisteners:\n  web:\n    bind: {web}\n    service: bulk\n    {tls}\n    \
                 {listener}\n\
                 services: {{ bulk: {{ endpoints: [ {} ], health: off }} }}\n",
                bulk.address
            ),
        );
        program.wait_ready();
        Site { program, web, bulk, secure }
    }

    fn open(&self) -> u64 {
        self.program.listener("web")["connections"].as_u64().unwrap()
    }

    fn in_flight(&self) -> u64 {
        self.program.service("bulk")["endpoints"][0]["in_flight"].as_u64().unwrap()
    }

    fn metric(&self, name: &str) -> u64 {
        let metrics = crate::e2e::harness::Client::get(self.program.admin, "/metrics").text();
        let line = format!("{name}{{listener=\"web\"}} ");
        metrics.lines().find_map(|l| l.strip_prefix(&line)).unwrap().parse().unwrap()
    }

    /// Waits until nothing moves any more, towards clients and from them.
    fn wait_until_still(&self) {
        let moved = || {
            let names =
                ["evenkeel_listener_sent_bytes_total", "evenkeel_listener_received_bytes_total"];
            names.map(|name| self.metric(name))
        };
        let mut before = (moved(), 0);
        until("nothing moves", || {
            let now = moved();
            before = (now, if now == before.0 { before.1 + 1 } else { 0 });
            before.1 > 30
        });
    }

    /// The same, once less is at stake.
    fn wait_until_still_for_a_moment(&self) {
        let sent = || self.metric("evenkeel_listener_sent_bytes_total");
        let mut before = (sent(), 0);
        until("nothing moves", || {
            let now = sent();
            before = (now, if now == before.0 { before.1 + 1 } else { 0 });
            before.1 > 3
        });
    }

    /// Is the only request answered in full, as the balancer sees it?
    fn is_done_for_a_moment(&self) -> bool {
        (0..20).any(|_| {
            wait::pause();
            self.in_flight() == 0
        })
    }

    /// All who are connected hold no more than so much each, in KiB, once nothing moves any more.
    fn assert_holds(&self, memory: &Memory, most_kib: u64, who: &str) {
        self.wait_until_still();
        let each = memory.growth_kib() / CLIENTS as u64;
        eprintln!("{each} KiB for each {who}");
        assert!(each <= most_kib, "{each} KiB each");
    }

    fn wait_until_asked(&self, requests: usize) {
        until("all requests at the endpoint", || self.bulk.asked() == requests);
    }

    /// Nobody is connected any more, and what they held is free for others.
    fn wait_until_free(&self) {
        until("no client left", || self.open() == 0);
        until("all endpoints free", || self.in_flight() == 0);
    }
}

/// Little is in the clients' own kernel buffers, so that most of it is the balancer's to hold.
fn small(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 16 * 1024).unwrap();
    socket
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
/// Nobody is given up while others stop.
const LONG: &str = "timeouts: { idle: 10m, keep_alive: 2s }";
const SHORT: &str = "timeouts: { idle: 3s, keep_alive: 2s }";

/// Those who stop are given up in time. `stop` makes the client of that number, which sends so many
/// `requests`.
fn assert_given_up<C>(site: &Site, requests: usize, stop: impl Fn(&Site, usize) -> C) {
    let clients: Vec<C> = (0..20).map(|number| stop(site, number)).collect();
    site.wait_until_asked(clients.len() * requests);
    site.wait_until_free();
    drop(clients);
}

/// What a stopped client of HTTP/1.1 may hold, in KiB: one block that was read from its endpoint,
/// the state of its request, and over TLS what was encrypted of it.
const HTTP1_KIB: u64 = 32;
const HTTP1_TLS_KIB: u64 = 72;

#[test]
fn a_thousand_clients_of_http_1_that_stop_reading_hold_little() {
    let stop = |site: &Site, _| {
        let mut socket = small(site.web);
        socket.write_all(GET).unwrap();
        socket
    };
    let site = Site::start(false, true, &[], LONG);
    let memory = Memory::watch(site.program.child.id());
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|number| stop(&site, number)).collect();
    clients.iter_mut().for_each(|socket| socket.read_exact(&mut [0; 100]).unwrap());
    site.wait_until_asked(CLIENTS);
    site.assert_holds(&memory, HTTP1_KIB, "client of HTTP/1.1 that stopped reading");
    drop(clients);
    site.wait_until_free();
    assert_given_up(&Site::start(false, true, &[], SHORT), 1, stop);
}

#[test]
fn a_thousand_clients_of_http_1_over_tls_that_stop_reading_hold_little() {
    let stop = |site: &Site, _| {
        let mut stream = site.secure.over(small(site.web));
        stream.write_all(GET).unwrap();
        stream
    };
    let site = Site::start(true, true, &[b"http/1.1"], LONG);
    let memory = Memory::watch(site.program.child.id());
    let mut clients: Vec<_> = (0..CLIENTS).map(|number| stop(&site, number)).collect();
    clients.iter_mut().for_each(|stream| stream.read_exact(&mut [0; 100]).unwrap());
    site.wait_until_asked(CLIENTS);
    site.assert_holds(&memory, HTTP1_TLS_KIB, "client of HTTP/1.1 over TLS that stopped reading");
    drop(clients);
    site.wait_until_free();
    assert_given_up(&Site::start(true, true, &[b"http/1.1"], SHORT), 1, stop);
}

/// What a stopped client of HTTP/2 over TLS may hold, in KiB: twice `output_bytes`, since what waits
/// is encrypted and kept until it was sent, and for each stream a block and its state.
const HTTP2_KIB: u64 = 2 * 64 + STREAMS as u64 * 16;

#[test]
fn a_thousand_clients_of_http_2_that_stop_reading_hold_what_is_configured() {
    let _one = many_files();
    let stop = |site: &Site, number: usize| {
        // One half stops reading the socket, the other gives no more window.
        let window = if number.is_multiple_of(2) { 1 << 30 } else { Config::WINDOW_MIN };
        let config = Config { stream_window: window, connection_window: window, ..client::CONFIG };
        let mut client = Client::over_tls(small(site.web), &site.secure, config);
        let keys = client.requests(STREAMS, "/");
        (client, keys)
    };
    let site = Site::start(true, true, &[b"h2"], LONG);
    let memory = Memory::watch(site.program.child.id());
    let mut clients: Vec<(Client, Vec<StreamKey>)> =
        (0..CLIENTS).map(|number| stop(&site, number)).collect();
    // In the middle of their responses.
    clients.iter_mut().for_each(|(client, keys)| assert_eq!(client.status(keys[0]), 200));
    site.wait_until_asked(CLIENTS * STREAMS);
    let who = format!("client of HTTP/2 with {STREAMS} streams that stopped reading");
    site.assert_holds(&memory, HTTP2_KIB, &who);
    // Others are served meanwhile.
    let mut other = Client::connect_tls(site.web, &site.secure);
    let key = other.request("GET", "/", true, &[]);
    assert_eq!(other.status(key), 200);
    drop((other, clients));
    site.wait_until_free();
    assert_given_up(&Site::start(true, true, &[b"h2"], SHORT), STREAMS, stop);
}

/// What a client may send ahead is `connection_window`, whatever its streams; what stands around it
/// is the same as above.
const UPLOAD_KIB: u64 = 64 + STREAMS as u64 * 16;

#[test]
fn a_thousand_uploads_that_no_endpoint_takes_hold_what_is_configured() {
    let _one = many_files();
    let body = vec![b'x'; 300_000];
    let stop = |site: &Site, _| {
        let socket = TcpStream::connect(site.web).unwrap();
        let mut client = Client::over_tls(socket, &site.secure, client::CONFIG);
        for _ in 0..STREAMS {
            let key = client.request("POST", "/", false, &[]);
            client.data_within_window(key, &body);
        }
        client
    };
    let start = |timeouts: &str| {
        let windows = "http2: { stream_window: 64KiB, connection_window: 64KiB }";
        Site::start(true, false, &[b"h2"], &format!("{timeouts}\n    {windows}"))
    };
    let site = start(LONG);
    let memory = Memory::watch(site.program.child.id());
    let clients: Vec<Client> = (0..CLIENTS).map(|number| stop(&site, number)).collect();
    site.wait_until_asked(CLIENTS * STREAMS);
    let who = format!("client of HTTP/2 whose {STREAMS} uploads nobody takes");
    site.assert_holds(&memory, UPLOAD_KIB, &who);
    drop(clients);
    site.wait_until_free();
    assert_given_up(&start(SHORT), STREAMS, stop);
}

/// A client that stops in the middle of its upload is told so, and its endpoint is free again; the
/// connection goes on.
#[test]
fn an_upload_that_stops_is_given_up_in_time() {
    let site = Site::start(true, false, &[b"h2"], "timeouts: { idle: 1s }");
    let mut client = Client::connect_tls(site.web, &site.secure);
    let key = client.request("POST", "/", false, &[("content-length", "100")]);
    client.data(key, b"some", false);
    until("the request at the endpoint", || site.bulk.asked() == 1);
    let answer = client.answer(key);
    assert_eq!(answer.status, 408, "{answer:?}");
    until("the endpoint free", || site.in_flight() == 0);
    let key = client.request("GET", "/../..", true, &[]);
    assert_eq!(client.answer(key).status, 400);
}

/// What is done when a slow client takes what it is sent after all: nothing of it is lost, however
/// the pieces came. A body may end while what precedes it is encrypted and waits for the socket.
#[test]
fn a_response_that_waited_for_its_client_ends() {
    let waits = Arc::new(std::sync::Mutex::new(Vec::new()));
    let gates = waits.clone();
    let replica = crate::e2e::harness::Replica::raw(move |connection| {
        while let Some(seen) = connection.request() {
            let size = seen.line().split(['/', ' ']).nth(2).and_then(|n| n.parse().ok());
            let body = vec![b'x'; size.unwrap_or(0)];
            let (open, opened) = std::sync::mpsc::channel::<()>();
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            let chunk = format!("{head}{:x}\r\n", body.len());
            if connection.send([chunk.as_bytes(), &body, b"\r\n"].concat()).is_err() {
                return;
            }
            gates.lock().unwrap().push(open);
            // The end comes after all else was passed on as far as the client takes it.
            let _ = opened.recv_timeout(Duration::from_secs(30));
            if connection.send("0\r\n\r\n").is_err() {
                return;
            }
        }
    });
    let site = Site::start(true, false, &[b"h2"], "");
    let config = format!(
        "workers: 2\nlisteners:\n  web:\n    bind: {}\n    service: bulk\n    \
         tls: {{ certificates: [ {{ certificate: a.crt, key: a.key }} ] }}\n\
         services: {{ bulk: {{ endpoints: [ {} ], health: off }} }}\n",
        site.web, replica.address
    );
    site.program.reconfigure(&config);
    let mut waited = 0;
    for step in 0..28 {
        let size = 100_000 + step * 16_000;
        let window = 1 << 30;
        let config = Config { stream_window: window, connection_window: window, ..client::CONFIG };
        let mut client = Client::over_tls(small(site.web), &site.secure, config);
        let key = client.request("GET", &format!("/{size}"), true, &[]);
        until("the body sent", || waits.lock().unwrap().len() == 1);
        site.wait_until_still_for_a_moment();
        drop(waits.lock().unwrap().pop());
        // Done as far as endpoint and balancer go, if what is left fits into the output.
        waited += usize::from(site.is_done_for_a_moment());
        let answer = client.answer(key);
        assert_eq!((answer.body.len(), answer.ended, answer.reset), (size, true, None));
    }
    assert!(waited >= 3, "{waited} responses were complete before their clients took them");
}
