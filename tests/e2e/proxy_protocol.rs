//! The PROXY protocol, accepted and sent, byte by byte and with haproxy, nginx and curl on the
//! other side.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::Command;

use super::harness::peer::find;
use super::harness::program::Folder;
use super::harness::{Client, Evenkeel, Peer, Replica, free_port, until};

/// An HTTP listener `web` and a TCP listener `stream`, each in front of one endpoint.
struct Front {
    program: Evenkeel,
    web: SocketAddr,
    stream: SocketAddr,
}

impl Front {
    fn start(http: SocketAddr, tcp: SocketAddr, listener: &str, service: &str) -> Front {
        Self::bound("127.0.0.1", http, tcp, listener, service)
    }

    fn bound(
        host: &str,
        http: SocketAddr,
        tcp: SocketAddr,
        listener: &str,
        service: &str,
    ) -> Front {
        let at = |port| -> SocketAddr { format!("{host}:{port}").parse().unwrap() };
        let (web, stream) = (at(free_port()), at(free_port()));
        let program = Evenkeel::run(&format!(
            "listeners:\n  \
               web: {{ bind: '{web}', service: http{listener} }}\n  \
               stream: {{ bind: '{stream}', protocol: tcp, service: tcp{listener} }}\n\
             services:\n  \
               http: {{ endpoints: ['{http}'], health: off{service} }}\n  \
               tcp: {{ endpoints: ['{tcp}'], health: off{service} }}\n"
        ));
        Front { program, web, stream }
    }
}

const ACCEPT: &str =
    ", timeouts: { header: 2s }, proxy_protocol: { from: [127.0.0.0/8, '::1/128'] }";
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// Answers with the client's address as it was told.
fn tells_client() -> Replica {
    Replica::http(|seen| {
        super::harness::replica::ok(seen.header("x-forwarded-for").unwrap_or("none"))
    })
}

/// Answers the first bytes with themselves.
fn echo() -> Replica {
    Replica::raw(|connection| {
        let mut reader = connection.stream.try_clone().unwrap();
        let _ = std::io::copy(&mut reader, &mut connection.stream);
    })
}

fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend_from_slice(&[0x20 | command, family]);
    header.extend_from_slice(&u16::try_from(addresses.len()).unwrap().to_be_bytes());
    header.extend_from_slice(addresses);
    header
}

const V4: &[u8] = &[203, 0, 113, 7, 192, 0, 2, 1, 0x30, 0x39, 0x01, 0xBB];

fn v6() -> Vec<u8> {
    let mut addresses = Vec::new();
    for address in ["2001:db8::7", "2001:db8::1"] {
        addresses.extend_from_slice(&address.parse::<std::net::Ipv6Addr>().unwrap().octets());
    }
    addresses.extend_from_slice(&[0x30, 0x39, 0x01, 0xBB]);
    addresses
}

#[test]
fn headers_of_listed_networks_say_who_the_client_is() {
    let (http, tcp) = (tells_client(), echo());
    let front = Front::start(http.address, tcp.address, ACCEPT, "");
    let with_extension = [V4, &[0x04, 0, 3, 1, 2, 3]].concat();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("v1", b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 443\r\n".to_vec(), "203.0.113.7"),
        ("v1, IPv6", b"PROXY TCP6 2001:db8::7 2001:db8::1 12345 443\r\n".to_vec(), "2001:db8::7"),
        ("v1, unknown", b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        ("v1, unknown with words", b"PROXY UNKNOWN ffff:: :: 1 2\r\n".to_vec(), "127.0.0.1"),
        ("v2", v2(1, 0x11, V4), "203.0.113.7"),
        ("v2, extension", v2(1, 0x11, &with_extension), "203.0.113.7"),
        ("v2, IPv6", v2(1, 0x21, &v6()), "2001:db8::7"),
        ("v2, local", v2(0, 0, &[]), "127.0.0.1"),
        ("v2, local with addresses", v2(0, 0x11, V4), "127.0.0.1"),
        ("v2, unspecified", v2(1, 0, &[]), "127.0.0.1"),
        ("v2, unix", v2(1, 0x31, &[0; 216]), "127.0.0.1"),
    ];
    for (name, header, client) in &cases {
        let whole = [header, REQUEST.as_bytes()].concat();
        assert_eq!(Client::exchange(front.web, &whole).unwrap().text(), *client, "{name}");
        // Once per connection, whatever the number of requests.
        let mut kept = Client::connect(front.web);
        kept.send(&whole).unwrap();
        kept.response().unwrap();
        kept.send(REQUEST).unwrap();
        assert_eq!(kept.response().unwrap().text(), *client, "{name}, second request");
        // Byte by byte.
        let mut slow = Client::connect(front.web);
        for byte in header {
            slow.send([*byte]).unwrap();
        }
        slow.send(REQUEST).unwrap();
        assert_eq!(slow.response().unwrap().text(), *client, "{name}, byte by byte");
        // TCP: what follows the header is the stream.
        let mut stream = Client::connect(front.stream);
        stream.send([header, b"hello".as_slice()].concat()).unwrap();
        assert_eq!(stream.take(5).unwrap(), b"hello", "{name}");
    }
    eprintln!("{} headers: accepted whole, byte by byte, over HTTP and TCP", cases.len());
}

#[test]
fn a_header_that_is_missing_malformed_or_late_ends_the_connection() {
    let (http, tcp) = (tells_client(), echo());
    let front = Front::start(http.address, tcp.address, ACCEPT, "");
    let long = format!("PROXY TCP4 {}\r\n", "1".repeat(200));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("none", b"hello, this is no header at all".to_vec()),
        ("garbage", vec![0xFF; 64]),
        ("lower case", b"proxy TCP4 203.0.113.7 192.0.2.1 1 2\r\n".to_vec()),
        ("bare line feed", b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\n".to_vec()),
        ("two spaces", b"PROXY TCP4  203.0.113.7 192.0.2.1 1 2\r\n".to_vec()),
        ("other family", b"PROXY TCP6 203.0.113.7 192.0.2.1 1 2\r\n".to_vec()),
        ("port too large", b"PROXY TCP4 203.0.113.7 192.0.2.1 1 65536\r\n".to_vec()),
        ("too few", b"PROXY TCP4 203.0.113.7 192.0.2.1 1\r\n".to_vec()),
        ("too long", long.into_bytes()),
        ("v2, version 3", [b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c".as_slice(), V4].concat()),
        ("v2, command 2", v2(2, 0x11, V4)),
        ("v2, short addresses", v2(1, 0x11, &V4[..8])),
        ("v2, short IPv6", v2(1, 0x21, V4)),
        ("v2, broken extension", v2(1, 0x11, &[V4, &[4, 0, 9, 1]].concat())),
        ("v2, too long", v2(1, 0x11, &[0; 5000])),
        ("v1, cut", b"PROXY TCP4 203.0.1".to_vec()),
        ("v2, cut", v2(1, 0x11, V4)[..20].to_vec()),
    ];
    let mut waiting = Vec::new();
    for (name, bytes) in &cases {
        for address in [front.web, front.stream] {
            let mut client = Client::connect(address);
            // A part may already be refused while the rest is sent.
            let _ = client.send(bytes);
            let late = name.ends_with("cut") || *name == "silent";
            if !late {
                let _ = client.send(REQUEST);
            }
            waiting.push((*name, client));
        }
    }
    for address in [front.web, front.stream] {
        waiting.push(("silent", Client::connect(address)));
        let mut ended = Client::connect(address);
        ended.send("PROXY TCP4 203").unwrap();
        ended.stream.shutdown(Shutdown::Write).unwrap();
        waiting.push(("ended", ended));
    }
    for (name, client) in &mut waiting {
        assert!(client.is_closed(), "{name} was answered");
    }
    assert!(http.received().is_empty() && tcp.received().is_empty());
    assert_eq!(http.connections() + tcp.connections(), 0);
    let refused = waiting.len();
    until("all to be counted", || {
        let text = Client::get(front.program.admin, "/metrics").text();
        let lines = text.lines().filter(|l| l.starts_with("evenkeel_listener_malformed_total{"));
        let counts = lines.filter_map(|l| l.rsplit_once(' ')?.1.parse::<usize>().ok());
        counts.sum::<usize>() == refused
    });
    eprintln!("{refused} connections with a bad header or none: ended, nothing forwarded");
}

#[test]
fn others_may_not_send_a_header() {
    let (http, tcp) = (tells_client(), echo());
    let listener = ", proxy_protocol: { from: [192.0.2.0/24] }";
    let front = Front::start(http.address, tcp.address, listener, "");
    for header in [b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\n".to_vec(), v2(1, 0x11, V4)] {
        let whole = [header.as_slice(), REQUEST.as_bytes()].concat();
        let response = Client::exchange(front.web, &whole).unwrap();
        assert_eq!(response.status, 400, "{header:?}");
        // Without a listed network, and without the setting, alike.
        let plain = Front::start(http.address, tcp.address, "", "");
        assert_eq!(Client::exchange(plain.web, &whole).unwrap().status, 400);
    }
    assert!(http.received().is_empty());
    assert_eq!(Client::exchange(front.web, REQUEST).unwrap().text(), "127.0.0.1");
}

/// Reads what a connection begins with and says it back in hexadecimal, as HTTP or as it is.
fn tells_start() -> Replica {
    Replica::raw(|connection| {
        let mut bytes = Vec::new();
        let mut block = [0; 4096];
        while !bytes.ends_with(b"\r\n\r\n") && !bytes.ends_with(b"hello") {
            match connection.stream.read(&mut block) {
                Ok(count) if count > 0 => bytes.extend_from_slice(&block[..count]),
                _ => return,
            }
        }
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = match bytes.ends_with(b"hello") {
            true => connection.send(&hex),
            false => connection.send(super::harness::replica::ok(&hex)),
        };
        let _ = connection.stream.flush();
        // The next request, if there is one, would be on this connection.
        let again = matches!(connection.stream.read(&mut block), Ok(count) if count > 0);
        assert!(!again, "a connection that was announced for one client was used again");
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn replicas_are_told_byte_by_byte() {
    for (host, version) in [("127.0.0.1", 1), ("127.0.0.1", 2), ("[::1]", 1), ("[::1]", 2)] {
        let replica = tells_start();
        let service = format!(", proxy_protocol: v{version}");
        let front = Front::bound(host, replica.address, replica.address, "", &service);
        let header = |client: SocketAddr, local: SocketAddr| match (version, client, local) {
            (1, _, _) => {
                let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
                let ends = format!("{} {}", client.ip(), local.ip());
                format!("PROXY {family} {ends} {} {}\r\n", client.port(), local.port()).into_bytes()
            }
            (_, SocketAddr::V4(client), SocketAddr::V4(local)) => {
                let mut block = client.ip().octets().to_vec();
                block.extend_from_slice(&local.ip().octets());
                block.extend_from_slice(&client.port().to_be_bytes());
                block.extend_from_slice(&local.port().to_be_bytes());
                v2(1, 0x11, &block)
            }
            (_, SocketAddr::V6(client), SocketAddr::V6(local)) => {
                let mut block = client.ip().octets().to_vec();
                block.extend_from_slice(&local.ip().octets());
                block.extend_from_slice(&client.port().to_be_bytes());
                block.extend_from_slice(&local.port().to_be_bytes());
                v2(1, 0x21, &block)
            }
            _ => unreachable!(),
        };
        let mut client = Client::connect(front.web);
        let expected = header(client.stream.local_addr().unwrap(), front.web);
        for round in 0..3 {
            client.send(REQUEST).unwrap();
            let start = bytes(&client.response().unwrap().text());
            assert!(start.starts_with(&expected), "v{version} {host}, request {round}: {start:?}");
            assert!(start[expected.len()..].starts_with(b"GET / HTTP/1.1\r\n"));
        }
        let mut stream = Client::connect(front.stream);
        let mut expected = header(stream.stream.local_addr().unwrap(), front.stream);
        expected.extend_from_slice(b"hello");
        stream.send("hello").unwrap();
        let hex = String::from_utf8(stream.take(expected.len() * 2).unwrap()).unwrap();
        assert_eq!(bytes(&hex), expected, "v{version} {host} tcp");
        assert_eq!(replica.connections(), 4, "one connection for each request, and the stream");
    }
}

#[test]
fn what_was_accepted_is_what_is_sent_on() {
    let replica = tells_start();
    let front = Front::start(replica.address, replica.address, ACCEPT, ", proxy_protocol: v2");
    let header = "PROXY TCP4 203.0.113.7 192.0.2.1 12345 443\r\n";
    let response = Client::exchange(front.web, format!("{header}{REQUEST}")).unwrap();
    assert!(bytes(&response.text()).starts_with(&v2(1, 0x11, V4)));
    let mut stream = Client::connect(front.stream);
    stream.send(format!("{header}hello")).unwrap();
    let expected = [v2(1, 0x11, V4), b"hello".to_vec()].concat();
    let hex = String::from_utf8(stream.take(expected.len() * 2).unwrap()).unwrap();
    assert_eq!(bytes(&hex), expected);
}

fn answers(address: SocketAddr) -> bool {
    Client::try_get(address, "/").is_some_and(|response| response.status == 200)
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// haproxy with this configuration behind the usual defaults.
fn start_haproxy(folder: &Folder, config: &str) -> Option<Peer> {
    let haproxy = find("haproxy")?;
    let file = folder.join("haproxy.cfg");
    let defaults = "defaults\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n";
    fs::write(&file, format!("global\n  maxconn 200\n{defaults}{config}")).unwrap();
    Some(Peer::start(Command::new(haproxy).arg("-db").arg("-f").arg(&file)))
}

#[test]
fn haproxy_in_front_tells_us_the_client() {
    let folder = Folder::new();
    let (http, tcp) = (tells_client(), echo());
    // haproxy comes from 127.0.0.1, its clients from 127.0.0.9.
    let front = Front::start(http.address, tcp.address, ACCEPT, "");
    let ports: Vec<u16> = (0..4).map(|_| free_port()).collect();
    let mut config = String::new();
    for (index, (to, send)) in [
        (front.web, "send-proxy"),
        (front.web, "send-proxy-v2"),
        (front.stream, "send-proxy"),
        (front.stream, "send-proxy-v2"),
    ]
    .iter()
    .enumerate()
    {
        config.push_str(&format!(
            "listen l{index}\n  mode tcp\n  bind 127.0.0.1:{}\n  server s {to} {send}\n",
            ports[index]
        ));
    }
    let Some(_haproxy) = start_haproxy(&folder, &config) else { return };
    until("haproxy to answer", || answers(local(ports[0])));
    for port in &ports[..2] {
        assert_eq!(get_from([127, 0, 0, 9], local(*port)), "127.0.0.9");
    }
    for port in &ports[2..] {
        let mut client = Client::connect(local(*port));
        client.send("hello through both").unwrap();
        assert_eq!(client.take(18).unwrap(), b"hello through both");
    }
}

/// A GET from another address of this machine.
fn get_from(source: [u8; 4], to: SocketAddr) -> String {
    let source = std::net::Ipv4Addr::from(source).to_string();
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20", "--interface", &source, &format!("http://{to}/")])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn haproxy_and_nginx_behind_us_are_told_the_client() {
    if find("curl").is_none() {
        return;
    }
    let folder = Folder::new();
    let (haproxy_port, nginx_port) = (free_port(), free_port());
    let haproxy = start_haproxy(
        &folder,
        &format!(
            "frontend f\n  mode http\n  bind 127.0.0.1:{haproxy_port} accept-proxy\n  \
               http-request return status 200 content-type text/plain lf-string %ci\n"
        ),
    );
    let nginx = find("nginx").map(|nginx| {
        let file = folder.join("nginx.conf");
        let at = folder.0.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {at}/{name};\n"))
            .collect();
        fs::write(
            &file,
            format!(
                "daemon off; master_process off; worker_processes 1; pid {at}/pid;\n\
                 error_log {at}/error.log; events {{ }}\n\
                 http {{ access_log off; {temporary}\n\
                   server {{ listen 127.0.0.1:{nginx_port} proxy_protocol;\n\
                     location / {{ return 200 $proxy_protocol_addr; }} }} }}\n"
            ),
        )
        .unwrap();
        Peer::start(Command::new(nginx).arg("-c").arg(&file).arg("-p").arg(&folder.0))
    });
    let mut told = 0;
    for (peer, port) in [(haproxy, haproxy_port), (nginx, nginx_port)] {
        let Some(_peer) = peer else { continue };
        for version in ["v1", "v2"] {
            let service = format!(", proxy_protocol: {version}");
            // The same peer behind HTTP and behind TCP.
            let front = Front::start(local(port), local(port), "", &service);
            until("the peer to answer", || answers(front.web));
            for address in [front.web, front.stream] {
                assert_eq!(get_from([127, 0, 0, 9], address), "127.0.0.9", "{version}");
                told += 1;
            }
        }
    }
    eprintln!("haproxy and nginx behind us: {told} times told the client's address");
}

#[test]
fn curl_speaks_it_to_us() {
    let Some(curl) = find("curl") else { return };
    let (http, tcp) = (tells_client(), echo());
    let front = Front::start(http.address, tcp.address, ACCEPT, "");
    let output = Command::new(curl)
        .args(["-sS", "--max-time", "20", "--interface", "127.0.0.9", "--haproxy-protocol"])
        .arg(format!("http://{}/", front.web))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "127.0.0.9", "{output:?}");
}
