use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use super::program::signal;

/// `wrk` at full speed in the background; ended at the latest when this is dropped, so that a test
/// that fails leaves no load behind.
pub struct Wrk(Option<Child>);

/// What it counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Load {
    pub requests: u64,
    /// Refused connections, broken reads and writes, and what took longer than 10 s.
    pub socket_errors: [u64; 4],
    /// Answers that were not 2xx or 3xx.
    pub bad_status: u64,
    pub rate: f64,
}

impl Wrk {
    /// One thread, `connections` kept-alive connections, for so many seconds.
    pub fn start(address: SocketAddr, path: &str, connections: usize, seconds: u64) -> Wrk {
        Self::start_url(&format!("http://{address}{path}"), &[], connections, seconds)
    }

    /// The same over TLS. It verifies nothing.
    pub fn start_tls(address: SocketAddr, path: &str, connections: usize, seconds: u64) -> Wrk {
        Self::start_url(&format!("https://{address}{path}"), &[], connections, seconds)
    }

    /// With further arguments for `wrk`.
    pub fn start_url(url: &str, more: &[&str], connections: usize, seconds: u64) -> Wrk {
        let child = Command::new("wrk")
            .args([
                "-t1",
                &format!("-c{connections}"),
                &format!("-d{seconds}s"),
                "--timeout",
                "10s",
            ])
            .args(more)
            .arg(url)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("wrk is installed by ./test");
        Wrk(Some(child))
    }

    pub fn is_running(&mut self) -> bool {
        self.0.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Ends it before its time; it reports what it did until then.
    pub fn stop(self) -> Load {
        if let Some(child) = &self.0 {
            signal(child.id(), "INT");
        }
        self.finish()
    }

    pub fn finish(mut self) -> Load {
        let child = self.0.take().expect("it is ended only once");
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}");
        let mut load = Load::default();
        for line in text.lines().map(str::trim) {
            if let Some(errors) = line.strip_prefix("Socket errors:") {
                let numbers = errors.split(|c: char| !c.is_ascii_digit());
                let numbers: Vec<u64> = numbers.filter_map(|n| n.parse().ok()).collect();
                load.socket_errors = numbers.try_into().expect("connect, read, write, timeout");
            } else if let Some(count) = line.strip_prefix("Non-2xx or 3xx responses:") {
                load.bad_status = count.trim().parse().unwrap();
            } else if let Some((count, _)) = line.split_once(" requests in ") {
                load.requests = count.parse().unwrap();
            } else if let Some(rate) = line.strip_prefix("Requests/sec:") {
                load.rate = rate.trim().parse().unwrap();
            }
        }
        assert!(load.requests > 0, "{text}");
        load
    }
}

impl Drop for Wrk {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Load {
    pub fn is_perfect(&self) -> bool {
        self.socket_errors == [0; 4] && self.bad_status == 0
    }

    /// Not one request failed.
    pub fn assert_perfect(&self, what: &str) {
        assert!(self.is_perfect(), "{what}: {self:?}");
        eprintln!("{what}: {} requests, 0 failed ({:.0}/s)", self.requests, self.rate);
    }
}
