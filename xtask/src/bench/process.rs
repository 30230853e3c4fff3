//! Processes that are measured: started, found ready, asked for their CPU time and memory, ended.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A program and all that it started; ended when dropped.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn start(command: &[String], log: &Path) -> Result<Self, String> {
        let [program, arguments @ ..] = command else { return Err("no program".into()) };
        let log_file = File::create(log).map_err(|e| format!("{}: {e}", log.display()))?;
        let errors = log_file.try_clone().map_err(|e| e.to_string())?;
        let child = Command::new(program)
            .args(arguments)
            .env("GOMAXPROCS", "1")
            .stdin(Stdio::null())
            .stdout(log_file)
            .stderr(errors)
            .spawn()
            .map_err(|e| format!("{program}: {e}"))?;
        Ok(Self { child })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Until it takes connections.
    pub(crate) fn wait_for(&mut self, address: SocketAddr, log: &Path) -> Result<(), String> {
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            if start.elapsed() > Duration::from_secs(20)
                || self.child.try_wait().is_ok_and(|end| end.is_some())
            {
                let said = fs::read_to_string(log).unwrap_or_default();
                return Err(format!("nothing listens at {address}: {said}"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// It and its descendants.
    fn tree(&self) -> Vec<u32> {
        let mut all = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = all.get(next).copied() {
            let children = format!("/proc/{pid}/task/{pid}/children");
            let text = fs::read_to_string(children).unwrap_or_default();
            all.extend(text.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            next += 1;
        }
        all
    }

    /// User and system time of it and its descendants, in seconds, to 10 ms.
    pub(crate) fn cpu(&self) -> f64 {
        let ticks = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // The name in parentheses may hold anything.
            let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            let field =
                |index| rest.split(' ').nth(index).and_then(|t: &str| t.parse::<u64>().ok());
            field(11).unwrap_or(0) + field(12).unwrap_or(0)
        };
        self.tree().iter().map(ticks).sum::<u64>() as f64 / TICKS_PER_SECOND
    }

    /// Resident anonymous memory of it and its descendants, in KiB: what is shared with a file
    /// is not its own.
    pub(crate) fn memory_kib(&self) -> u64 {
        let kib = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
            line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0)
        };
        self.tree().iter().map(kib).sum()
    }
}

/// USER_HZ, which is 100 on every Linux of our targets.
const TICKS_PER_SECOND: f64 = 100.0;

impl Drop for Process {
    fn drop(&mut self) {
        let tree = self.tree();
        for pid in tree.iter().rev() {
            if let Some(pid) = i32::try_from(*pid).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let _ = self.child.wait();
        // The next one wants the ports.
        for pid in tree {
            while Path::new(&format!("/proc/{pid}/exe")).exists() {
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Each connection is a file, here and in everyone who is started from here. Answers how many
/// there may be.
pub(crate) fn raise_file_limit() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    limit.maximum.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX)
}
