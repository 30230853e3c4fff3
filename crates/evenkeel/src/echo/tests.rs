use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;

/// An answer that takes longer than this is a failure; far longer than any takes.
const BOUND: Duration = Duration::from_secs(20);

/// A running echo on ports of its own.
struct Bed {
    http: SocketAddr,
    tcp: Option<SocketAddr>,
    udp: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

fn any() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

impl Bed {
    async fn new(tcp: Option<SocketAddr>) -> Self {
        let options = Options {
            http: Some(any()),
            tcp,
            udp: Some(any()),
            name: Some("web-1".to_owned()),
            delay: Duration::ZERO,
            port: None,
        };
        let echo = Echo::bind(options).await.unwrap();
        let http = echo.http.local_addr().unwrap();
        let tcp = echo.tcp.as_ref().map(|tcp| tcp.local_addr().unwrap());
        let udp = echo.udp.as_ref().map(|udp| udp.local_addr().unwrap());
        assert!(echo.banner().starts_with("web-1: HTTP"), "{}", echo.banner());
        let (stop, told) = watch::channel(false);
        let serving = tokio::spawn(echo.serve(told));
        Self { http, tcp, udp, stop, serving }
    }

    /// Sends `request`, and reads to the end of the connection.
    async fn ask(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.http).await.unwrap();
        stream.write_all(request).await.unwrap();
        stream.shutdown().await.unwrap();
        String::from_utf8_lossy(&to_end(&mut stream).await).into_owned()
    }

    async fn body_of(&self, path: &str) -> (String, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Two: 1\r\nX-Two: 2\r\n\r\n");
        let answer = self.ask(request.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        timeout(BOUND, self.serving).await.unwrap().unwrap();
    }
}

async fn to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    timeout(BOUND, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    bytes
}

async fn expect(stream: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    timeout(BOUND, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
    assert_eq!(bytes, expected, "{:?}", String::from_utf8_lossy(&bytes));
}

#[tokio::test]
async fn http_answers_name_the_replica() {
    let bed = Bed::new(None).await;
    for (path, status, expected) in [
        ("/", 200, "web-1 GET /\n"),
        ("/a/b?c=d", 200, "web-1 GET /a/b?c=d\n"),
        ("/healthz", 200, "ok\n"),
        ("/status/503", 503, "web-1 503\n"),
        ("/status/99", 200, "web-1 GET /status/99\n"),
        ("/delay/1", 200, "web-1 GET /delay/1\n"),
        ("/headers", 200, "{\"host\":\"a\",\"x-two\":\"1, 2\"}\n"),
    ] {
        let (head, body) = bed.body_of(path).await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{path} {head}");
        assert!(head.contains("x-replica: web-1"), "{head}");
        assert_eq!(body, expected, "{path}");
    }
    bed.stop().await;
}

#[tokio::test]
async fn load_tells_what_is_in_flight_and_what_requests_take() {
    let bed = Bed::new(None).await;
    let idle = bed.body_of("/load").await.0;
    assert!(idle.contains("x-keel-in-flight: 0\r\n") && !idle.contains("latency"), "{idle}");
    let mut slow = TcpStream::connect(bed.http).await.unwrap();
    slow.write_all(b"GET /delay/60000 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    bed.body_of("/delay/20").await;
    let mut busy = bed.body_of("/load").await.0;
    while !busy.contains("x-keel-in-flight: 1\r\n") {
        busy = bed.body_of("/load").await.0;
    }
    let latency = busy.split("x-keel-latency-ms: ").nth(1).unwrap().split("\r\n").next().unwrap();
    assert!(latency.parse::<f64>().unwrap() >= 20.0, "{busy}");
    drop(slow);
    bed.stop().await;
}

#[tokio::test]
async fn patterns_have_their_length_and_their_bytes() {
    let bed = Bed::new(None).await;
    for len in [0, 1, 64_256, 200_000] {
        let mut stream = TcpStream::connect(bed.http).await.unwrap();
        let request = format!("GET /bytes/{len} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = to_end(&mut stream).await;
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let expected: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        assert!(answer[head..] == expected, "{len}");
        let text = String::from_utf8_lossy(&answer[..head]).to_lowercase();
        assert!(text.contains(&format!("content-length: {len}\r\n")), "{text}");
    }
    let (head, body) = bed.body_of("/chunked/3").await;
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert_eq!(body, "3\r\n\0\u{1}\u{2}\r\n0\r\n\r\n");
    bed.stop().await;
}

#[tokio::test]
async fn bodies_and_trailers_come_back() {
    let bed = Bed::new(None).await;
    let answer = bed.ask(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").await;
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
    let chunked = "PUT / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\
                   Trailer: x-sum\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n";
    let answer = bed.ask(chunked.as_bytes()).await;
    assert!(answer.contains("2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n"), "{answer}");
    bed.stop().await;
}

#[tokio::test]
async fn the_same_port_answers_lines_and_shrugs_at_health_checks() {
    let bed = Bed::new(None).await;
    drop(TcpStream::connect(bed.http).await.unwrap());
    assert_eq!(bed.ask(b"hello\nworld\n").await, "web-1 hello\nweb-1 world\n");
    assert_eq!(bed.ask(b"GETTING\n").await, "web-1 GETTING\n");
    // In pieces, and alternating, as a person would type.
    let mut stream = TcpStream::connect(bed.http).await.unwrap();
    stream.write_all(b"o").await.unwrap();
    stream.write_all(b"ne\n").await.unwrap();
    expect(&mut stream, b"web-1 one\n").await;
    stream.write_all(b"two\n").await.unwrap();
    expect(&mut stream, b"web-1 two\n").await;
    bed.stop().await;
    assert!(to_end(&mut stream).await.is_empty());
}

#[tokio::test]
async fn a_tcp_port_of_its_own_takes_everything_for_lines() {
    let bed = Bed::new(Some(any())).await;
    let mut stream = TcpStream::connect(bed.tcp.unwrap()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    expect(&mut stream, b"web-1 GET / HTTP/1.1\r\n").await;
    let answer = bed.ask(b"hello\r\n\r\n").await;
    assert!(!answer.contains("hello"), "{answer}");
    bed.stop().await;
}

#[tokio::test]
async fn datagrams_are_named() {
    let bed = Bed::new(None).await;
    let socket = UdpSocket::bind(any()).await.unwrap();
    socket.send_to(b"hello", bed.udp.unwrap()).await.unwrap();
    let mut buffer = [0; 64];
    let len = timeout(BOUND, socket.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..len], b"web-1 hello");
    bed.stop().await;
}

async fn upgraded(bed: &Bed, headers: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(bed.http).await.unwrap();
    let request = format!("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(BOUND, stream.read_u8()).await.unwrap().unwrap());
    }
    (stream, String::from_utf8(head).unwrap().to_lowercase())
}

const WEBSOCKET: &str = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A frame as a client sends it; the mask is 1, 2, 3, 4.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[1, 2, 3, 4]);
    frame.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[tokio::test]
async fn websocket_messages_come_back() {
    let bed = Bed::new(None).await;
    let (mut stream, head) = upgraded(&bed, WEBSOCKET).await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    assert!(head.contains("x-replica: web-1"), "{head}");

    stream.write_all(&masked(0x81, b"hello")).await.unwrap();
    expect(&mut stream, b"\x81\x05hello").await;
    stream.write_all(&masked(0x89, b"p")).await.unwrap();
    expect(&mut stream, b"\x8a\x01p").await;
    // An unasked pong is passed over; fragments come back as fragments.
    stream.write_all(&masked(0x8a, b"p")).await.unwrap();
    stream.write_all(&masked(0x02, b"ab")).await.unwrap();
    stream.write_all(&masked(0x80, b"c")).await.unwrap();
    expect(&mut stream, b"\x02\x02ab\x80\x01c").await;
    for len in [126usize, 70_000] {
        let payload = b"x".repeat(len);
        stream.write_all(&masked(0x82, &payload)).await.unwrap();
        let mut expected = vec![0x82];
        match len {
            126 => expected.extend_from_slice(&[126, 0, 126]),
            _ => expected.extend_from_slice(&[127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]),
        }
        expected.extend_from_slice(&payload);
        expect(&mut stream, &expected).await;
    }
    stream.write_all(&masked(0x88, &1000u16.to_be_bytes())).await.unwrap();
    assert_eq!(to_end(&mut stream).await, b"\x88\x02\x03\xe8");
    bed.stop().await;
}

#[tokio::test]
async fn websocket_offences_are_closed_with_a_protocol_error() {
    let bed = Bed::new(None).await;
    let unmasked = b"\x81\x01a".to_vec();
    let fragmented_ping = masked(0x09, b"");
    let long_ping = masked(0x89, &[0; 126]);
    let reserved = [masked(0xc1, b"a"), masked(0x83, b"a")];
    for offence in [unmasked, fragmented_ping, long_ping].iter().chain(&reserved) {
        let (mut stream, _) = upgraded(&bed, WEBSOCKET).await;
        // Only the head, so that nothing unread turns the close into a reset.
        let head = if offence[1] == 0xfe { 4 } else { 2 };
        stream.write_all(&offence[..head]).await.unwrap();
        expect(&mut stream, b"\x88\x02\x03\xea").await;
    }
    bed.stop().await;
}

#[tokio::test]
async fn other_upgrades() {
    let bed = Bed::new(None).await;
    let (mut stream, head) = upgraded(&bed, "Upgrade: echo\r\n").await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    stream.write_all(b"\0\xff\n").await.unwrap();
    expect(&mut stream, b"\0\xff\n").await;
    stream.shutdown().await.unwrap();
    assert!(to_end(&mut stream).await.is_empty());
    // One that we do not speak is ignored (RFC 9110 section 7.8).
    let (_stream, head) = upgraded(&bed, "Upgrade: h2c\r\n").await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    bed.stop().await;
}

#[tokio::test]
async fn stopping_finishes_what_is_in_flight() {
    let bed = Bed::new(None).await;
    let (mut websocket, _) = upgraded(&bed, WEBSOCKET).await;
    let mut idle = TcpStream::connect(bed.http).await.unwrap();
    let mut kept = TcpStream::connect(bed.http).await.unwrap();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    kept.readable().await.unwrap();
    let mut asking = TcpStream::connect(bed.http).await.unwrap();
    // The end of the body is awaited, so the request is in flight for as long as we like.
    asking.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab").await.unwrap();
    asking.readable().await.unwrap();

    bed.stop.send_replace(true);
    assert_eq!(to_end(&mut websocket).await, b"\x88\x02\x03\xe9");
    assert!(to_end(&mut idle).await.is_empty());
    assert!(to_end(&mut kept).await.ends_with(b"ok\n"));
    while TcpStream::connect(bed.http).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!bed.serving.is_finished());
    asking.write_all(b"cd").await.unwrap();
    let answer = to_end(&mut asking).await;
    assert!(answer.ends_with(b"abcd"), "{}", String::from_utf8_lossy(&answer));
    bed.stop().await;
}
