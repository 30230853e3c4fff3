//! Callers of Lars who do nothing but ask for a host and report that it went well, each waiting for
//! its answer before it goes on:
//!
//! ```sh
//! cargo run --release -p agent --example lars_load -- CALLERS SECONDS [HOST [FIRST_PORT]]
//! ```
//!
//! HOST is 127.0.0.1 and FIRST_PORT 8888, unless given; the keys asked for are (1, 0), (1, 1) and
//! (1, 2), one for each port, in turn by caller. Prints loops per second over all callers, and how
//! long the asking took.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use wire::lars::{Decoded, Key, Message, SUCC, decode, encode};

/// A datagram that was lost is asked for again after this.
const PATIENCE: Duration = Duration::from_secs(1);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| -> u64 {
        arguments.get(at).map_or(default, |text| text.parse().expect("a number"))
    };
    let (callers, seconds) = (number(0, 10), number(1, 5));
    let host = arguments.get(2).map_or("127.0.0.1", String::as_str);
    let first_port = number(3, 8888) as u16;
    let stopped = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..callers)
        .map(|caller| {
            let key = Key { modid: 1, cmdid: (caller % 3) as i32 };
            let port = first_port + key.server() as u16;
            let address: SocketAddr = format!("{host}:{port}").parse().expect("an address");
            let stopped = stopped.clone();
            std::thread::spawn(move || call(address, key, &stopped))
        })
        .collect();
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(seconds));
    stopped.store(true, Relaxed);
    let elapsed = start.elapsed();
    let (mut took, mut lost, mut refused) = (Vec::new(), 0, 0);
    for thread in threads {
        let caller = thread.join().expect("no caller fails");
        took.extend(caller.took);
        lost += caller.lost;
        refused += caller.refused;
    }
    took.sort_unstable();
    let at = |share: f64| took.get((took.len() as f64 * share) as usize).copied().unwrap_or(0);
    println!(
        "{callers} callers: {:.0} loops/s, asked in {} us (median), {} us (99 %); {lost} lost, \
         {refused} refused",
        took.len() as f64 / elapsed.as_secs_f64(),
        at(0.5),
        at(0.99),
    );
}

#[derive(Default)]
struct Caller {
    /// Microseconds from each question to its answer.
    took: Vec<u32>,
    lost: u64,
    refused: u64,
}

fn call(address: SocketAddr, key: Key, stopped: &AtomicBool) -> Caller {
    let socket = UdpSocket::bind(SocketAddr::new(address.ip(), 0)).expect("a socket");
    socket.connect(address).expect("an address to send to");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut caller = Caller::default();
    let (mut frame, mut block, mut seq) = (Vec::new(), [0; 2048], 0u32);
    while !stopped.load(Relaxed) {
        seq = seq.wrapping_add(1);
        frame.clear();
        encode(&Message::GetHostRequest { seq, key }, &mut frame);
        let start = Instant::now();
        socket.send(&frame).expect("sent");
        let answer = match socket.recv(&mut block) {
            Ok(len) => decode(&block[..len]).expect("a frame"),
            Err(_) => {
                caller.lost += 1;
                continue;
            }
        };
        match answer {
            Decoded::Complete {
                message: Message::GetHostResponse { seq: of, retcode: SUCC, host: Some(host), .. },
                ..
            } if of == seq => {
                caller.took.push(start.elapsed().as_micros() as u32);
                frame.clear();
                encode(&Message::ReportRequest { key, host, retcode: SUCC }, &mut frame);
                socket.send(&frame).expect("sent");
            }
            _ => caller.refused += 1,
        }
    }
    caller
}
