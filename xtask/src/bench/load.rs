//! The load, and what one turn of it showed.

use std::fmt;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::peer::{BENCH, Running};
use super::process::Cpu;

/// One peer in one scenario of one round.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    /// CPU time of the proxy per request, in microseconds; or KiB per idle connection.
    pub(super) cost: f64,
    /// Of the CPU time, the part in the program itself, and the part in the kernel for it.
    pub(super) user: f64,
    pub(super) system: f64,
    /// Requests a second.
    pub(super) rate: f64,
    /// In milliseconds.
    pub(super) p99: f64,
    /// Requests that failed: a figure with any is none to be compared.
    pub(super) failed: u64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cost, user, system, rate, p99, failed } = self;
        write!(f, "{cost:8.2} us or KiB ({user:.2} user, {system:.2} system) {rate:9.0}/s ")?;
        write!(f, "p99 {p99:8.3} ms, {failed} failed")
    }
}

impl Sample {
    /// With what `requests` requests took of the CPU.
    fn with_cpu(self, cpu: Cpu, requests: f64) -> Self {
        let each = |seconds: f64| seconds * 1e6 / requests.max(1.0);
        let (user, system) = (each(cpu.user), each(cpu.system));
        Self { cost: user + system, user, system, ..self }
    }
}

/// A moment for pools to fill, before anything is measured.
const WARM_UP: Duration = Duration::from_secs(1);

pub(super) fn wrk(
    running: &Running,
    url: &str,
    connections: u32,
    close: bool,
    length: Duration,
) -> Result<Sample, String> {
    wrk_for(url, connections, close, WARM_UP)?;
    let before = running.process.cpu();
    let (sample, requests) = wrk_for(url, connections, close, length)?;
    Ok(sample.with_cpu(running.process.cpu() - before, requests))
}

/// And how many requests it were.
fn wrk_for(
    url: &str,
    connections: u32,
    close: bool,
    length: Duration,
) -> Result<(Sample, f64), String> {
    let mut command = Command::new("wrk");
    command.args(["-t1", "--latency"]);
    command.args([format!("-c{connections}"), format!("-d{}s", length.as_secs())]);
    if close {
        command.args(["-H", "Connection: close"]);
    }
    let output = command.arg(url).output().map_err(|e| format!("wrk: {e}"))?;
    // That it cannot connect it says on the other channel.
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    parse_wrk(&said).ok_or_else(|| format!("wrk ended with {}: {said}", output.status))
}

fn parse_wrk(said: &str) -> Option<(Sample, f64)> {
    let (mut sample, mut requests) = (Sample::default(), 0.0);
    for line in said.lines().map(str::trim) {
        if let Some(p99) = line.strip_prefix("99%") {
            sample.p99 = milliseconds(p99.trim())?;
        } else if let Some((count, _)) = line.split_once(" requests in ") {
            requests = count.parse().ok()?;
        } else if let Some(rate) = line.strip_prefix("Requests/sec:") {
            sample.rate = rate.trim().parse().ok()?;
        } else if let Some(count) = line.strip_prefix("Non-2xx or 3xx responses:") {
            sample.failed += count.trim().parse::<u64>().ok()?;
        } else if let Some(errors) = line.strip_prefix("Socket errors:") {
            let counts = errors.split(&[' ', ','][..]).filter_map(|word| word.parse::<u64>().ok());
            sample.failed += counts.sum::<u64>();
        }
    }
    (sample.rate > 0.0).then_some((sample, requests))
}

/// `1.50ms`, `980.00us`, `2.01s`.
fn milliseconds(text: &str) -> Option<f64> {
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(at);
    let factor = match unit {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

/// How often a fixed rate is measured in one turn. A 99th percentile is the scheduler's, once the
/// proxy, the load and the origin have to share cores: of the same program one window says 2 ms
/// and the next one 6.
const WINDOWS: usize = 3;

/// A fixed rate: the window whose 99th percentile is the median of all.
pub(super) fn half_rate(
    running: &Running,
    path: &str,
    connections: u32,
    rate: f64,
    length: Duration,
) -> Result<Sample, String> {
    wrk_for(&format!("http://{}{path}", running.http()), connections, false, WARM_UP)?;
    let window = |_| open_loop(running, path, connections, rate, length);
    Ok(median(&(0..WINDOWS).map(window).collect::<Result<Vec<_>, _>>()?))
}

/// By the 99th percentile. Who failed in another one has failed.
fn median(windows: &[Sample]) -> Sample {
    let mut windows = windows.to_vec();
    windows.sort_by(|a, b| a.p99.total_cmp(&b.p99));
    let failed = windows.iter().map(|sample| sample.failed).sum();
    let middle = windows.get(windows.len() / 2).copied().unwrap_or_default();
    Sample { failed, ..middle }
}

/// A fixed rate, whatever the answers do.
fn open_loop(
    running: &Running,
    path: &str,
    connections: u32,
    rate: f64,
    length: Duration,
) -> Result<Sample, String> {
    let address = running.http().to_string();
    let before = running.process.cpu();
    let output = Command::new(BENCH)
        .args(["load", &address, path, &connections.to_string(), &format!("{rate:.1}")])
        .arg(length.as_secs().to_string())
        .output()
        .map_err(|e| format!("{BENCH}: {e}"))?;
    let cpu = running.process.cpu() - before;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = |name: &str| {
        let mut words = said.split_whitespace().skip_while(|word| *word != name);
        words.nth(1).and_then(|word| word.parse::<f64>().ok())
    };
    match (number("answered"), number("failed"), number("p99")) {
        (Some(answered), Some(failed), Some(p99)) if answered > 0.0 => Ok(Sample {
            rate: answered / length.as_secs_f64(),
            p99: p99 / 1000.0,
            failed: failed as u64,
            ..Sample::default()
        }
        .with_cpu(cpu, answered)),
        _ => Err(format!("bench load: {said}{}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// Streams of HTTP/2 with prior knowledge.
pub(super) fn h2load(
    running: &Running,
    url: &str,
    connections: u32,
    streams: u32,
    length: Duration,
) -> Result<Sample, String> {
    h2load_for(url, connections, streams, WARM_UP)?;
    let before = running.process.cpu();
    let (sample, requests) = h2load_for(url, connections, streams, length)?;
    Ok(sample.with_cpu(running.process.cpu() - before, requests))
}

/// And how many requests it were.
fn h2load_for(
    url: &str,
    connections: u32,
    streams: u32,
    length: Duration,
) -> Result<(Sample, f64), String> {
    let output = Command::new("h2load")
        .args(["-t1", &format!("-c{connections}"), &format!("-m{streams}")])
        .args([&format!("-D{}", length.as_secs()), url])
        .output()
        .map_err(|e| format!("h2load: {e}"))?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let sample = parse_h2load(&said, length).filter(|(_, requests)| *requests > 0.0);
    sample.ok_or_else(|| format!("h2load ended with {}: {said}", output.status))
}

/// `requests: 92511 total, 92767 started, 92511 done, 92511 succeeded, 0 failed, 0 errored, 0 timeout`
fn parse_h2load(said: &str, length: Duration) -> Option<(Sample, f64)> {
    let line = said.lines().find_map(|line| line.strip_prefix("requests: "))?;
    let count = |name: &str| {
        let part = line.split(", ").find_map(|part| part.strip_suffix(name));
        part.and_then(|count| count.trim().parse::<u64>().ok())
    };
    let succeeded = count(" succeeded")? as f64;
    let sample = Sample {
        rate: succeeded / length.as_secs_f64(),
        failed: count(" failed")? + count(" errored")?,
        ..Sample::default()
    };
    Some((sample, succeeded))
}

/// Memory for each connection that did one request and waits for the next.
pub(super) fn idle(running: &Running, connections: usize) -> Result<Sample, String> {
    let request = format!("GET /512 HTTP/1.1\r\nHost: {}\r\n\r\n", running.http());
    let ask = |stream: &mut TcpStream| -> std::io::Result<bool> {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(request.as_bytes())?;
        let mut buffer = [0; 4096];
        let mut read = 0;
        while read < 512 {
            match stream.read(&mut buffer[read..])? {
                0 => return Ok(false),
                count => read += count,
            }
        }
        Ok(buffer.starts_with(b"HTTP/1.1 200"))
    };
    let open = || TcpStream::connect(running.http());
    // Some listen before they can serve.
    let serves = |_: &usize| open().and_then(|mut stream| ask(&mut stream)).unwrap_or(false);
    if (0..100).inspect(|_| thread::sleep(Duration::from_millis(20))).find(serves).is_none() {
        return Err("it listens and does not answer".into());
    }
    let before = running.process.memory_kib();
    let (mut kept, mut failed) = (Vec::with_capacity(connections), 0);
    for _ in 0..connections {
        match open().and_then(|mut stream| ask(&mut stream).map(|good| (stream, good))) {
            Ok((stream, true)) => kept.push(stream),
            _ => failed += 1,
        }
    }
    // What is given back in the background is given back by then.
    thread::sleep(Duration::from_secs(1));
    let grown = running.process.memory_kib().saturating_sub(before);
    Ok(Sample { cost: grown as f64 / connections as f64, failed, ..Sample::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_windows_the_middle_one_counts() {
        let window = |p99, failed| Sample { p99, failed, ..Sample::default() };
        let sample = median(&[window(9.0, 0), window(2.0, 1), window(3.0, 0)]);
        assert_eq!((sample.p99, sample.failed), (3.0, 1));
    }

    #[test]
    fn what_h2load_says_is_read() {
        let said = "finished in 4.01s, 23127.75 req/s, 12.2MB/s\nrequests: 92511 total, 92767 \
            started, 92511 done, 92500 succeeded, 11 failed, 0 errored, 0 timeout\n";
        let (sample, requests) = parse_h2load(said, Duration::from_secs(4)).unwrap();
        assert_eq!((requests, sample.rate, sample.failed), (92_500.0, 23_125.0, 11));
        assert!(parse_h2load("", WARM_UP).is_none());
    }

    #[test]
    fn what_wrk_says_is_read() {
        let said = "  Latency Distribution\n     50%    1.02ms\n     99%   980.00us\n  \
            123456 requests in 4.00s, 80.10MB read\n  \
            Socket errors: connect 0, read 2, write 0, timeout 1\n  \
            Non-2xx or 3xx responses: 4\nRequests/sec:  30864.01\n";
        let (sample, requests) = parse_wrk(said).unwrap();
        assert_eq!((requests, sample.rate, sample.failed), (123_456.0, 30_864.01, 7));
        let cost = sample.with_cpu(Cpu { user: 1.0, system: 2.0 }, 1e6);
        assert_eq!((cost.cost, cost.user, cost.system, cost.rate), (3.0, 1.0, 2.0, 30_864.01));
        assert!((sample.p99 - 0.98).abs() < 1e-9);
        assert!(parse_wrk("unable to connect").is_none());
    }
}
