//! The relay moves the bytes it was given, both ways, whatever the variant, and keeps nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

const CLIENTS: usize = 40;
/// More than the buffers of two sockets and the blocks of a queue hold.
const LONG_BYTES: usize = 24 << 20;

#[test]
fn bytes_and_ends_are_passed_on_and_nothing_is_kept() {
    for variants in [
        &[][..],
        &["single-receive"],
        &["plain-files"],
        &["no-defer"],
        &["short-sends", "few-blocks"],
        &["zero-copy", "short-sends"],
        &["bundles"],
        &["bundles", "few-blocks"],
        &["blocks-of-64k", "single-receive", "plain-files"],
    ] {
        let names: Vec<String> = variants.iter().map(|name| (*name).to_owned()).collect();
        if !check(options(&names).unwrap(), true) {
            return;
        }
    }
    // So few that they run out; one who does not read would keep them all.
    for multishot in [true, false] {
        check(Options { blocks: 8, multishot, ..Options::default() }, false);
    }
    assert!(options(&["no-such".to_owned()]).unwrap_err().contains("single-receive"));
}

/// False where no ring is to be had, which is said.
fn check(options: Options, with_lazy: bool) -> bool {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = upstream.local_addr().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let is_stopped = Arc::clone(&stop);
    let relay = thread::spawn(move || {
        let ring = match Ring::new(options, to) {
            Ok(ring) => ring,
            Err(e) => {
                eprintln!("skipped: no ring can be had: {e}");
                return None;
            }
        };
        let mut relay = Relay::new(ring, listener, options).unwrap();
        while !(is_stopped.load(Ordering::Acquire) && relay.is_idle()) {
            relay.turn().unwrap();
        }
        Some((relay.buffers.home(), usize::from(options.blocks)))
    });
    if relay.is_finished() {
        return relay.join().unwrap().is_some();
    }
    let echo = thread::spawn(move || echo_each(&upstream));
    // Nobody reads what comes back to this one; the others do not wait for it.
    let lazy = with_lazy.then(|| TcpStream::connect(address).unwrap());
    let writer = lazy.as_ref().map(|lazy| {
        let writes = lazy.try_clone().unwrap();
        thread::spawn(move || write_all(&writes))
    });
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || ask(address, client));
        }
    });
    if let (Some(mut lazy), Some(writer)) = (lazy, writer) {
        assert_eq!(read_all(&mut lazy), LONG_BYTES);
        writer.join().unwrap();
    }
    // One that is reset, in the middle of what it asked for.
    let reset = TcpStream::connect(address).unwrap();
    (&reset).write_all(&bytes(0, 100_000)).unwrap();
    socket_linger_zero(&reset);
    drop(reset);
    ask(address, 0);
    // The last one wakes the relay, which ends when nobody is left.
    stop.store(true, Ordering::Release);
    let _ = TcpStream::connect(address);
    let (home, blocks) = relay.join().unwrap().expect("a ring was had");
    assert_eq!(home, blocks, "{options:?}");
    drop(echo);
    true
}

fn socket_linger_zero(stream: &TcpStream) {
    let now = Some(std::time::Duration::ZERO);
    rustix::net::sockopt::set_socket_linger(stream, now).unwrap();
}

/// What is sent depends on who sends and where, so that mixed up bytes are not equal: the period
/// is a prime, which no block is a multiple of.
fn bytes(client: usize, length: usize) -> Vec<u8> {
    let period: Vec<u8> = (0..65_521).map(|at| (at / 251 + at * 7 + client * 31) as u8).collect();
    let mut all = period.repeat(length.div_ceil(period.len()));
    all.truncate(length);
    all
}

/// Everything comes back, and after the end the end.
fn ask(address: SocketAddr, client: usize) {
    let mut stream = TcpStream::connect(address).unwrap();
    for length in [1, 512, 100_000, 17, 16_384 * (client % 5 + 1)] {
        let sent = bytes(client, length);
        stream.write_all(&sent).unwrap();
        let mut back = vec![0; length];
        stream.read_exact(&mut back).unwrap();
        assert!(back == sent, "client {client}, {length} bytes");
    }
    stream.write_all(&bytes(client, 999)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest == bytes(client, 999), "client {client}, after the end");
}

fn write_all(mut stream: &TcpStream) {
    stream.write_all(&bytes(3, LONG_BYTES)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
}

fn read_all(stream: &mut TcpStream) -> usize {
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert!(back == bytes(3, LONG_BYTES));
    back.len()
}

fn echo_each(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        thread::spawn(move || {
            let mut block = vec![0; 50_000];
            while let Ok(count @ 1..) = stream.read(&mut block) {
                if stream.write_all(&block[..count]).is_err() {
                    return;
                }
            }
            let _ = stream.shutdown(Shutdown::Write);
            // The relay closes.
            let _ = stream.read(&mut block);
        });
    }
}
