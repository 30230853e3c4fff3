//! A client whose requests come at their times, whatever became of those before: an open loop. A
//! request's latency counts from its time, so that who waits for a slow answer before asking again
//! does not hide how long the next one would have waited (G. Tene, "How not to measure latency").
//!
//! Says how many were answered, how many failed, and the median and 99th percentile, in
//! microseconds.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::Timespec;

/// After the last request's time, for its answer.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

struct Client {
    stream: TcpStream,
    /// When the request under way was to be sent; `None`: it waits for one.
    due: Option<Instant>,
    answer: Vec<u8>,
}

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let [address, path, connections, rate, seconds] = arguments else {
        return Err("ADDRESS PATH CONNECTIONS RATE SECONDS".into());
    };
    let number = |text: &String| text.parse::<f64>().map_err(|e| format!("{text}: {e}"));
    let address: SocketAddr = address.parse().map_err(|e| format!("{address}: {e}"))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let (rate, seconds) = (number(rate)?, number(seconds)?);
    let connections = number(connections)? as usize;
    let load = Load { address, request, connections, rate, seconds };
    let (mut latencies, failed) = load.run().map_err(|e| e.to_string())?;
    latencies.sort_unstable();
    let at = |share: usize| {
        let index = (latencies.len() * share / 100).min(latencies.len().saturating_sub(1));
        latencies.get(index).map_or(0, Duration::as_micros)
    };
    println!("answered {} failed {failed} p50 {} p99 {}", latencies.len(), at(50), at(99));
    Ok(())
}

struct Load {
    address: SocketAddr,
    request: String,
    connections: usize,
    rate: f64,
    seconds: f64,
}

impl Load {
    fn run(&self) -> std::io::Result<(Vec<Duration>, u64)> {
        let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut clients = Vec::with_capacity(self.connections);
        for key in 0..self.connections {
            let stream = TcpStream::connect(self.address)?;
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            epoll::add(&queue, &stream, EventData::new_u64(key as u64), EventFlags::IN)?;
            clients.push(Client { stream, due: None, answer: Vec::new() });
        }
        let mut free: VecDeque<usize> = (0..clients.len()).collect();
        let count = (self.rate * self.seconds) as u64;
        let start = Instant::now();
        let due = |n: u64| start + Duration::from_secs_f64(n as f64 / self.rate);
        let (mut latencies, mut failed) = (Vec::with_capacity(count as usize), 0);
        let (mut next, mut pending) = (0, 0);
        let mut events = Vec::with_capacity(256);
        while next < count || pending > 0 {
            let now = Instant::now();
            while next < count && due(next) <= now {
                // All are in use: it waits, and its time goes on.
                let Some(key) = free.pop_front() else { break };
                let client = &mut clients[key];
                if client.stream.write_all(self.request.as_bytes()).is_err() {
                    return Err(ErrorKind::BrokenPipe.into());
                }
                client.due = Some(due(next));
                next += 1;
                pending += 1;
            }
            let until = match next < count && !free.is_empty() {
                true => due(next),
                false => due(count) + LAST_ANSWERS,
            };
            let now = Instant::now();
            if next >= count && now >= until {
                break;
            }
            let wait = until.saturating_duration_since(now);
            let timeout = Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(1),
                tv_nsec: wait.subsec_nanos().into(),
            };
            epoll::wait(&queue, rustix::buffer::spare_capacity(&mut events), Some(&timeout))?;
            let now = Instant::now();
            for event in events.drain(..) {
                let key = event.data.u64() as usize;
                match clients[key].read() {
                    Some(is_good) => {
                        let due = clients[key].due.take();
                        pending -= 1;
                        free.push_back(key);
                        match due {
                            Some(due) if is_good => latencies.push(now.duration_since(due)),
                            _ => failed += 1,
                        }
                    }
                    None if clients[key].due.is_none() => {
                        return Err(ErrorKind::ConnectionReset.into());
                    }
                    None => {}
                }
            }
        }
        failed += pending + (count - next);
        Ok((latencies, failed))
    }
}

impl Client {
    /// Whether the answer is whole, and good.
    fn read(&mut self) -> Option<bool> {
        let mut block = [0; 16 * 1024];
        match self.stream.read(&mut block) {
            Ok(count) => self.answer.extend_from_slice(&block[..count]),
            Err(_) => return None,
        }
        let head = self.answer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&self.answer[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|text| text.trim().parse().ok())?;
        if self.answer.len() < head + length {
            return None;
        }
        let is_good = text.starts_with("http/1.1 200");
        self.answer.clear();
        Some(is_good)
    }
}
