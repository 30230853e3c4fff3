//! Large transfers: every byte arrives once and in order, and the program's memory stays flat.
//!
//! Large bodies with a length, and streams, move inside the kernel (splice(2)); chunked ones
//! are always copied. Both ways are taken here, in both directions.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use super::harness::measure::{cpu_seconds, open_files};
use super::harness::replica::Connection;
use super::harness::wait::pause;
use super::harness::{Client, Evenkeel, Memory, Replica, free_port, until, within};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// What the program may grow by while it moves a lot.
const GROWTH_KIB_MAX: u64 = 20 * 1024;
/// For a gigabyte on a machine that is busy with other things.
const LONG: Duration = Duration::from_secs(300);

/// Bytes that repeat only after a period which divides no block size, so that what is lost, doubled
/// or moved changes the checksum. Whole words; about 1 MiB.
const PERIOD: usize = 131_071 * 8;

fn pattern() -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN.get_or_init(|| {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut bytes = Vec::with_capacity(PERIOD);
        while bytes.len() < PERIOD {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes
    })
}

/// A polynomial over the words of a stream, and its length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    value: u64,
    bytes: u64,
    partial: [u8; 8],
}

impl Sum {
    fn add(&mut self, mut block: &[u8]) {
        while !block.is_empty() {
            let at = (self.bytes % 8) as usize;
            if at == 0 && block.len() >= 8 {
                let words = block.len() / 8;
                let mut value = self.value;
                for word in block[..words * 8].chunks_exact(8) {
                    let word = u64::from_le_bytes(word.try_into().unwrap());
                    value = value.wrapping_mul(0x0100_0000_01B3).wrapping_add(word);
                }
                self.value = value;
                self.bytes += (words * 8) as u64;
                block = &block[words * 8..];
                continue;
            }
            self.partial[at] = block[0];
            self.bytes += 1;
            block = &block[1..];
            if at == 7 {
                let word = u64::from_le_bytes(self.partial);
                self.value = self.value.wrapping_mul(0x0100_0000_01B3).wrapping_add(word);
                self.partial = [0; 8];
            }
        }
    }

    fn text(self) -> String {
        format!("{} {:016x} {:?}", self.bytes, self.value, self.partial)
    }
}

/// Sends so many bytes of the pattern; answers their sum.
fn send_pattern(to: &mut impl Write, count: u64) -> io::Result<Sum> {
    let mut sum = Sum::default();
    while sum.bytes < count {
        let at = (sum.bytes % PERIOD as u64) as usize;
        let end = (PERIOD - at).min(256 * 1024).min((count - sum.bytes) as usize);
        let block = &pattern()[at..at + end];
        to.write_all(block)?;
        sum.add(block);
    }
    Ok(sum)
}

/// The same as a chunked body, in chunks of many sizes.
fn send_chunked(to: &mut impl Write, count: u64) -> io::Result<Sum> {
    let sizes = [1, 7, 4096, 65_536, 100_000, 16_384, 300_000];
    let mut sum = Sum::default();
    let mut turn = 0;
    while sum.bytes < count {
        let at = (sum.bytes % PERIOD as u64) as usize;
        let size = sizes[turn % sizes.len()].min(PERIOD - at).min((count - sum.bytes) as usize);
        turn += 1;
        let block = &pattern()[at..at + size];
        let mut chunk = format!("{size:x}\r\n").into_bytes();
        chunk.extend_from_slice(block);
        chunk.extend_from_slice(b"\r\n");
        to.write_all(&chunk)?;
        sum.add(block);
    }
    to.write_all(b"0\r\n\r\n")?;
    Ok(sum)
}

/// Reads so many bytes, or to the end.
fn take_sum(from: &mut impl Read, rest: &[u8], count: u64) -> io::Result<Sum> {
    let mut sum = Sum::default();
    sum.add(rest);
    let mut block = vec![0; 256 * 1024];
    while sum.bytes < count {
        let most = block.len().min(usize::try_from(count - sum.bytes).unwrap_or(usize::MAX));
        let read = from.read(&mut block[..most])?;
        if read == 0 {
            break;
        }
        sum.add(&block[..read]);
    }
    Ok(sum)
}

/// A reader of chunks; `line` and `take` are the client's or the replica's.
fn sum_chunks<S>(
    source: &mut S,
    line: impl Fn(&mut S) -> Option<String>,
    take: impl Fn(&mut S, usize) -> Option<Vec<u8>>,
) -> Option<Sum> {
    let mut sum = Sum::default();
    loop {
        let size = usize::from_str_radix(&line(source)?, 16).ok()?;
        if size == 0 {
            line(source)?;
            return Some(sum);
        }
        sum.add(&take(source, size)?);
        take(source, 2)?;
    }
}

/// Takes uploads, answering their sum, and sends `/down/N` and `/chunked/N`.
fn http_replica() -> Replica {
    Replica::raw(|connection| {
        while let Some(head) = connection.head() {
            let number = head.line().split([' ', '/']).filter_map(|n| n.parse().ok()).next();
            let answered = if head.header("transfer-encoding").is_some() {
                let sum = sum_chunks(connection, Connection::line, Connection::take);
                sum.map(|sum| text(connection, &sum.text()))
            } else if let Some(length) = head.header("content-length") {
                let sum = receive(connection, length.parse().unwrap());
                sum.map(|sum| text(connection, &sum.text()))
            } else if head.line().starts_with("GET /chunked/") {
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                connection.send(head).ok();
                send_chunked(&mut connection.stream, number.unwrap()).ok().map(drop)
            } else {
                let count = number.unwrap();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n");
                connection.send(head).ok();
                send_pattern(&mut connection.stream, count).ok().map(drop)
            };
            if answered.is_none() {
                return;
            }
        }
    })
}

/// So many bytes of a body, past the connection's own buffer.
fn receive(connection: &mut Connection, count: u64) -> Option<Sum> {
    let mut sum = Sum::default();
    while sum.bytes < count {
        let left = usize::try_from(count - sum.bytes).unwrap();
        sum.add(&connection.take_some(left)?);
    }
    Some(sum)
}

fn text(connection: &mut Connection, text: &str) {
    let _ = connection.send(super::harness::replica::ok(text));
}

struct Proxy {
    program: Evenkeel,
    http: SocketAddr,
    tcp: SocketAddr,
}

impl Proxy {
    fn start(http: &Replica, tcp: &Replica, listener: &str) -> Proxy {
        let (web, stream) = (free_port(), free_port());
        let program = Evenkeel::run(&format!(
            "listeners:\n  \
               web: {{ bind: 127.0.0.1:{web}, service: http{listener} }}\n  \
               stream: {{ bind: 127.0.0.1:{stream}, protocol: tcp, service: tcp }}\n\
             services:\n  \
               http: {{ endpoints: [{}], health: off }}\n  \
               tcp: {{ endpoints: [{}], health: off }}\n",
            http.address, tcp.address
        ));
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Proxy { program, http: at(web), tcp: at(stream) }
    }

    /// Runs `transfer`, which moves `bytes`, and says what it cost.
    fn measure(&self, what: &str, bytes: u64, transfer: impl FnOnce()) {
        let pid = self.program.child.id();
        let memory = Memory::watch(pid);
        let before = cpu_seconds(pid);
        transfer();
        let cpu = (cpu_seconds(pid) - before) * GIB as f64 / bytes as f64;
        let growth = memory.growth_kib();
        eprintln!("{what}: {} MiB, memory +{growth} KiB, {cpu:.2} s of CPU per GiB", bytes / MIB);
        assert!(growth < GROWTH_KIB_MAX, "{what}: memory grew by {growth} KiB");
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream
}

fn client(address: SocketAddr) -> Client {
    let client = Client::connect(address);
    client.stream.set_read_timeout(Some(LONG)).unwrap();
    client.stream.set_write_timeout(Some(LONG)).unwrap();
    client
}

fn upload(address: SocketAddr, bytes: u64) {
    let mut client = client(address);
    client
        .send(format!("POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: {bytes}\r\n\r\n"))
        .unwrap();
    let sent = send_pattern(&mut client.stream, bytes).unwrap();
    assert_eq!(client.response().unwrap().text(), sent.text());
}

fn download(address: SocketAddr, bytes: u64) {
    let mut client = client(address);
    client.send(format!("GET /down/{bytes} HTTP/1.1\r\nHost: x\r\n\r\n")).unwrap();
    let head = client.head().unwrap();
    assert_eq!(head.header("content-length"), Some(&*bytes.to_string()));
    let rest = client.buffered();
    let sum = take_sum(&mut client.stream, &rest, bytes).unwrap();
    assert_eq!(sum, send_pattern(&mut io::sink(), bytes).unwrap());
    // The connection goes on behind it.
    client.send("GET /down/3 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().body, &pattern()[..3]);
}

/// Reads to the client's half-close, answers with the sum, then sends `/down` of the same length,
/// half-closes, and waits for a last word.
fn tcp_replica(last_words: Arc<AtomicU64>) -> Replica {
    Replica::raw(move |connection| {
        let mut count = [0; 8];
        if connection.stream.read_exact(&mut count).is_err() {
            return;
        }
        let count = u64::from_le_bytes(count);
        let sum = take_sum(&mut connection.stream, &[], count).unwrap_or_default();
        let mut answer = sum.value.to_le_bytes().to_vec();
        answer.extend_from_slice(&sum.bytes.to_le_bytes());
        if connection.send(answer).is_err() {
            return;
        }
        if send_pattern(&mut connection.stream, count).is_err() {
            return;
        }
        let _ = connection.stream.shutdown(Shutdown::Write);
        let mut word = Vec::new();
        if connection.stream.read_to_end(&mut word).is_ok() && word == b"thanks" {
            last_words.fetch_add(1, SeqCst);
        }
    })
}

fn stream_up(stream: &mut TcpStream, bytes: u64) {
    stream.write_all(&bytes.to_le_bytes()).unwrap();
    let sent = send_pattern(stream, bytes).unwrap();
    let mut answer = [0; 16];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..8], sent.value.to_le_bytes());
    assert_eq!(answer[8..], bytes.to_le_bytes());
}

/// To the other side's half-close, then our last word and ours.
fn stream_down(stream: &mut TcpStream, bytes: u64) {
    let sum = take_sum(stream, &[], u64::MAX).unwrap();
    assert_eq!(sum, send_pattern(&mut io::sink(), bytes).unwrap());
    stream.write_all(b"thanks").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
}

fn gigabyte_each_way(bytes: u64) {
    let last_words = Arc::new(AtomicU64::new(0));
    let (http, tcp) = (http_replica(), tcp_replica(last_words.clone()));
    let proxy = Proxy::start(&http, &tcp, "");
    // Both sides' code and buffers are warm before anything is measured.
    upload(proxy.http, MIB);
    download(proxy.http, MIB);
    proxy.measure("http up, with a length", bytes, || upload(proxy.http, bytes));
    proxy.measure("http down, with a length", bytes, || download(proxy.http, bytes));
    let mut stream = connect(proxy.tcp);
    proxy.measure("tcp up", bytes, || stream_up(&mut stream, bytes));
    proxy.measure("tcp down", bytes, || stream_down(&mut stream, bytes));
    until("the last word behind a gigabyte", || last_words.load(SeqCst) == 1);
}

#[test]
fn a_gigabyte_up_and_down_through_http_and_tcp_arrives_whole() {
    gigabyte_each_way(GIB);
}

/// Moves 40 GiB, which takes minutes.
#[cfg(feature = "soak")]
#[test]
fn soak_ten_gigabytes_up_and_down_through_http_and_tcp_arrive_whole() {
    gigabyte_each_way(10 * GIB);
}

#[test]
fn chunked_bodies_of_256_mib_arrive_whole() {
    let (http, tcp) = (http_replica(), Replica::named("unused"));
    let proxy = Proxy::start(&http, &tcp, "");
    let bytes = 256 * MIB;
    let mut client = client(proxy.http);
    proxy.measure("http up, chunked", bytes, || {
        let head = "POST /up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(head).unwrap();
        let sent = send_chunked(&mut client.stream, bytes).unwrap();
        assert_eq!(client.response().unwrap().text(), sent.text());
    });
    proxy.measure("http down, chunked", bytes, || {
        client.send(format!("GET /chunked/{bytes} HTTP/1.1\r\nHost: x\r\n\r\n")).unwrap();
        assert!(client.head().unwrap().header("content-length").is_none());
        let sum = sum_chunks(&mut client, |c| c.line().ok(), |c, n| c.take(n).ok()).unwrap();
        assert_eq!(sum, send_pattern(&mut io::sink(), bytes).unwrap());
    });
}

/// Takes the pattern in sips, so that the program's side of the connection is always full.
fn slow_sum(client: &mut Client, bytes: u64) -> io::Result<Sum> {
    let rest = client.buffered();
    let mut sum = Sum::default();
    sum.add(&rest);
    let mut block = vec![0; 512 * 1024];
    while sum.bytes < bytes {
        let most = block.len().min(usize::try_from(bytes - sum.bytes).unwrap());
        client.stream.read_exact(&mut block[..most])?;
        sum.add(&block[..most]);
        pause();
    }
    Ok(sum)
}

#[test]
fn a_slow_client_gets_the_last_byte_too() {
    let (http, tcp) = (http_replica(), Replica::named("unused"));
    let proxy = Proxy::start(&http, &tcp, "");
    // A client that does not read at first: of bodies of these sizes some end just where the
    // client's socket is full, and the program holds the rest.
    let sizes = (MIB..8 * MIB).step_by(160 * 1024);
    let mut held: Vec<(u64, Client)> = sizes
        .map(|bytes| {
            let mut client = client(proxy.http);
            client.send(format!("GET /down/{bytes} HTTP/1.1\r\nHost: x\r\n\r\n")).unwrap();
            client.head().unwrap();
            (bytes, client)
        })
        .collect();
    let waiting = || proxy.program.service("http")["endpoints"][0]["in_flight"].as_u64();
    let (mut last, mut quiet) = (None, 0);
    until("the last of them to be full", || {
        let now = waiting();
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
        quiet >= 50
    });
    for (bytes, client) in &mut held {
        let sum = slow_sum(client, *bytes).unwrap_or_else(|e| panic!("{bytes}: {e}"));
        assert_eq!(sum, send_pattern(&mut io::sink(), *bytes).unwrap(), "{bytes}");
    }
    eprintln!("{} slow clients, {last:?} of them held up: all whole", held.len());
    // One that is always a little slower than the replica.
    let bytes = 24 * MIB + 12_345;
    for close in ["", "Connection: close\r\n"] {
        let mut client = client(proxy.http);
        let request = format!("GET /down/{bytes} HTTP/1.1\r\nHost: x\r\n{close}\r\n");
        client.send(request).unwrap();
        client.head().unwrap();
        let sum = slow_sum(&mut client, bytes).unwrap();
        assert_eq!(sum, send_pattern(&mut io::sink(), bytes).unwrap());
    }
}

#[test]
fn an_upload_to_a_replica_that_stops_reading_stalls_with_flat_memory() {
    for (name, head) in [
        ("with a length", format!("Content-Length: {}", 128 * MIB)),
        ("chunked", "Transfer-Encoding: chunked".to_owned()),
    ] {
        let resume = Arc::new(AtomicBool::new(false));
        let wait = resume.clone();
        let replica = Replica::raw(move |connection| {
            let Some(head) = connection.head() else { return };
            until("the word to go on", || wait.load(SeqCst));
            let sum = match head.header("content-length") {
                Some(length) => receive(connection, length.parse().unwrap()),
                None => sum_chunks(connection, Connection::line, Connection::take),
            };
            text(connection, &sum.unwrap_or_default().text());
        });
        let proxy = Proxy::start(&replica, &Replica::named("unused"), "");
        let memory = Memory::watch(proxy.program.child.id());
        let mut client = client(proxy.http);
        client.send(format!("POST / HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n")).unwrap();
        let sent = Arc::new(AtomicU64::new(0));
        let mut counted =
            Counted { stream: client.stream.try_clone().unwrap(), sent: sent.clone() };
        let chunked = name == "chunked";
        let upload = std::thread::spawn(move || match chunked {
            true => send_chunked(&mut counted, 128 * MIB).unwrap(),
            false => send_pattern(&mut counted, 128 * MIB).unwrap(),
        });
        // Stalled: two hundred looks without a byte more.
        let (mut last, mut quiet) = (0, 0);
        until("the upload to stall", || {
            let now = sent.load(SeqCst);
            quiet = if now == last && now > 0 { quiet + 1 } else { 0 };
            last = now;
            quiet >= 200
        });
        let growth = memory.growth_kib();
        eprintln!("upload {name} stalled after {} KiB, memory +{growth} KiB", last / 1024);
        assert!(last < 64 * MIB, "{name}: no back-pressure: {last} bytes were taken");
        assert!(growth < GROWTH_KIB_MAX, "{name}: memory grew by {growth} KiB");
        resume.store(true, SeqCst);
        assert_eq!(client.response().unwrap().text(), upload.join().unwrap().text(), "{name}");
    }
}

struct Counted {
    stream: TcpStream,
    sent: Arc<AtomicU64>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.stream.write(bytes)?;
        self.sent.fetch_add(count as u64, SeqCst);
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What comes goes back, both ways at once.
fn echo_replica() -> Replica {
    Replica::raw(|connection| {
        let mut reader = connection.stream.try_clone().unwrap();
        let _ = io::copy(&mut reader, &mut connection.stream);
        let _ = connection.stream.shutdown(Shutdown::Write);
    })
}

#[test]
fn many_streams_in_parallel_do_not_mix() {
    let (http, tcp) = (http_replica(), echo_replica());
    let proxy = Proxy::start(&http, &tcp, "");
    let bytes = 4 * MIB + 77;
    proxy.measure("64 streams both ways, and 16 up- and downloads", 160 * bytes, || {
        std::thread::scope(|scope| {
            for n in 0..64_u64 {
                scope.spawn(move || {
                    let mut stream = connect(proxy.tcp);
                    let mut writer = stream.try_clone().unwrap();
                    let sent = std::thread::spawn(move || {
                        // Each stream its own bytes.
                        writer.write_all(&n.to_le_bytes()).unwrap();
                        let sum = send_pattern(&mut writer, bytes).unwrap();
                        writer.shutdown(Shutdown::Write).unwrap();
                        sum
                    });
                    let mut first = [0; 8];
                    stream.read_exact(&mut first).unwrap();
                    let back = take_sum(&mut stream, &[], u64::MAX).unwrap();
                    assert_eq!(u64::from_le_bytes(first), n);
                    assert_eq!(back, sent.join().unwrap());
                });
            }
            for n in 0..16 {
                let address = proxy.http;
                scope.spawn(move || match n % 2 {
                    0 => upload(address, bytes),
                    _ => download(address, bytes),
                });
            }
        });
    });
}

#[test]
fn a_reset_in_the_middle_of_a_bulk_stream_reaches_the_other_side() {
    let broken = Arc::new(AtomicU64::new(0));
    let seen = broken.clone();
    // A first byte says what to do: `r` break off after a while, `w` send until it breaks.
    let tcp = Replica::raw(move |connection| {
        let mut order = [0];
        if connection.stream.read_exact(&mut order).is_err() {
            return;
        }
        if order == *b"r" {
            let _ = send_pattern(&mut connection.stream, 3 * MIB);
            connection.reset_on_close();
        } else if send_pattern(&mut connection.stream, 64 * MIB).is_err() {
            seen.fetch_add(1, SeqCst);
        }
    });
    let proxy = Proxy::start(&http_replica(), &tcp, "");
    let pid = proxy.program.child.id();
    let files = open_files(pid);
    for _ in 0..50 {
        let mut stream = connect(proxy.tcp);
        stream.write_all(b"r").unwrap();
        let end = take_sum(&mut stream, &[], u64::MAX);
        assert!(end.is_err(), "a reset looked like an end after {end:?}");
    }
    for _ in 0..50 {
        let mut stream = connect(proxy.tcp);
        stream.write_all(b"w").unwrap();
        take_sum(&mut stream, &[], 2 * MIB).unwrap();
        // Closing with bytes unread resets.
    }
    until("the replica to see every reset", || broken.load(SeqCst) == 50);
    within(LONG, "all sockets and pipes to be closed", || open_files(pid) <= files);
}
