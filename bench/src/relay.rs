//! The bare relay: epoll, accept, connect, read, write. What it costs is what sockets cost, and no
//! proxy with these system calls costs less.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

use rustix::event::epoll::{self, EventData, EventFlags};

const EVENTS_MAX: usize = 256;
const BLOCK_BYTES: usize = 16 * 1024;

struct Leg {
    stream: TcpStream,
    /// The other one's key.
    peer: u64,
    /// What it would not take yet.
    unsent: Vec<u8>,
}

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let [listen, to] = arguments else { return Err("LISTEN TO".into()) };
    let address = |text: &String| text.parse().map_err(|e| format!("{text}: {e}"));
    relay(address(listen)?, address(to)?).map_err(|e| e.to_string())
}

fn relay(listen: SocketAddr, to: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&queue, &listener, EventData::new_u64(u64::MAX), EventFlags::IN)?;
    let mut legs: HashMap<u64, Leg> = HashMap::new();
    let mut events = Vec::with_capacity(EVENTS_MAX);
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        epoll::wait(&queue, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            match event.data.u64() {
                u64::MAX => {
                    while let Ok((stream, _)) = listener.accept() {
                        // A replica that is gone is a client that is gone.
                        let Ok(upstream) = TcpStream::connect(to) else { continue };
                        let (a, b) = (stream.as_raw_fd() as u64, upstream.as_raw_fd() as u64);
                        for (stream, key, peer) in [(stream, a, b), (upstream, b, a)] {
                            stream.set_nonblocking(true)?;
                            stream.set_nodelay(true)?;
                            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
                            epoll::add(&queue, &stream, EventData::new_u64(key), flags)?;
                            legs.insert(key, Leg { stream, peer, unsent: Vec::new() });
                        }
                    }
                }
                key => {
                    let Some(peer) = legs.get(&key).map(|leg| leg.peer) else { continue };
                    if flush(&mut legs, key)
                        .and_then(|()| pass(&mut legs, key, &mut block))
                        .is_err()
                    {
                        legs.remove(&key);
                        legs.remove(&peer);
                    }
                }
            }
        }
    }
}

/// Reads from one leg until a read is short, and writes to the other.
fn pass(legs: &mut HashMap<u64, Leg>, key: u64, block: &mut [u8]) -> io::Result<()> {
    loop {
        let Some(leg) = legs.get_mut(&key) else { return Ok(()) };
        let (peer, count) = match leg.stream.read(block) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => (leg.peer, count),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        };
        let Some(other) = legs.get_mut(&peer) else { return Ok(()) };
        let bytes = &block[..count];
        let sent = if other.unsent.is_empty() { write(&mut other.stream, bytes)? } else { 0 };
        other.unsent.extend_from_slice(&bytes[sent..]);
        if count < block.len() {
            return Ok(());
        }
    }
}

fn flush(legs: &mut HashMap<u64, Leg>, key: u64) -> io::Result<()> {
    let Some(leg) = legs.get_mut(&key) else { return Ok(()) };
    if !leg.unsent.is_empty() {
        let sent = write(&mut leg.stream, &leg.unsent)?;
        leg.unsent.drain(..sent);
    }
    Ok(())
}

fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.write(bytes) {
        Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}
