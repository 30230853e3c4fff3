//! The list of cases that the crate `http2` runs without a socket.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::conformance::{Case, Expect, Frame, LAST_PING, PING, cases, frame, judge, parse};
use crate::e2e::harness::program::Folder;
use crate::e2e::harness::replica::ok;
use crate::e2e::harness::{Evenkeel, Pki, Replica, Secure, Web, free_port};

/// What no answer tells over a socket: bytes that are no preface are HTTP/1.1; a proxy that passes a
/// body on gives its client's window back meanwhile; and it may read all of a client's settings
/// before there is a response to send.
const LEFT_OUT: &[&str] = &[
    "another text instead of the preface",
    "more data than the window",
    "a window that becomes negative",
];

#[test]
fn the_list_of_rfc_9113_holds_over_a_socket() {
    let replica = Replica::http(|_| ok("hello"));
    let web = Web::start(&[&replica], "limits: { header_bytes: 65536 }", "");
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in cases().iter().filter(|case| !LEFT_OUT.contains(&case.name)) {
        count += 1;
        if let Err(error) = run(web.address, case) {
            wrong.push(format!("{}: {}: {error}", case.section, case.name));
        }
    }
    assert!(count >= 100, "{count} cases");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_list_of_rfc_9113_holds_over_tls() {
    let replica = Replica::http(|_| ok("hello"));
    let folder = Folder::new();
    Pki::new(&folder.0, "ca").issue("a", &["a.test"]);
    let secure = Secure::trusting(&folder.join("ca.pem"), &[b"h2"]);
    let web = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let program = Evenkeel::spawn_in(
        folder,
        &format!(
            "listeners:\n  web:\n    bind: {web}\n    service: app\n    \
             limits: {{ header_bytes: 65536 }}\n    \
             tls: {{ certificates: [ {{ certificate: a.crt, key: a.key }} ] }}\n\
             services: {{ app: {{ endpoints: [ {} ], health: off }} }}\n",
            replica.address
        ),
    );
    program.wait_ready();
    let mut wrong = Vec::new();
    // What is no preface is no HTTP/2 here, either.
    let left_out = &LEFT_OUT[1..];
    for case in cases().iter().filter(|case| !left_out.contains(&case.name)) {
        let mut stream = secure.over(TcpStream::connect(web).unwrap());
        let ping = frame(PING, 0, 0, &LAST_PING);
        // A server that ends the connection need not read all of it.
        let _ = stream.write_all(&case.send).and_then(|()| stream.write_all(&ping));
        if let Err(error) = judge_what_comes(&mut stream, case) {
            wrong.push(format!("{}: {}: {error}", case.section, case.name));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn run(address: SocketAddr, case: &Case) -> Result<(), String> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let ping = frame(PING, 0, 0, &LAST_PING);
    // A server that ends the connection need not read all of it.
    let mut writer = stream.try_clone().unwrap();
    let message = [&case.send[..], &ping].concat();
    let writing = std::thread::spawn(move || {
        let _ = writer.write_all(&message);
    });
    let outcome = judge_what_comes(&mut stream, case);
    let _ = stream.shutdown(Shutdown::Both);
    let _ = writing.join();
    outcome
}

fn judge_what_comes(stream: &mut impl Read, case: &Case) -> Result<(), String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let (frames, _) = parse(&bytes);
        let judged = judge(&case.expect, &frames);
        if judged.is_ok() && is_settled(&case.expect, &frames) {
            return judged;
        }
        match stream.read(&mut buffer) {
            Ok(length) if length > 0 => bytes.extend_from_slice(&buffer[..length]),
            // The end, or nothing more in time: what is here decides.
            _ => {
                let end = matches!(case.expect, Expect::ConnectionError(_) | Expect::Closed(_));
                return match judged {
                    Ok(()) if !end => Err("the server did not go on".into()),
                    other => other,
                };
            }
        }
    }
}

/// Is there nothing left to wait for?
fn is_settled(expect: &Expect, frames: &[Frame]) -> bool {
    match expect {
        Expect::ConnectionError(_) | Expect::Closed(_) => true,
        _ => frames.iter().any(|f| f.kind == PING && f.payload == LAST_PING),
    }
}
