//! Processes that are measured: started, found ready, asked for their CPU time and memory, ended.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

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

    /// Asks it to end, and waits until it has, for a minute at most.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or("it has no number")?;
        rustix::process::kill_process(pid, Signal::TERM).map_err(|e| e.to_string())?;
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                break status;
            }
            if start.elapsed() > Duration::from_secs(60) {
                return Err("it was asked to end a minute ago, and has not".into());
            }
            thread::sleep(Duration::from_millis(20));
        };
        if status.success() { Ok(()) } else { Err(format!("it ended with {status}")) }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Until it takes connections. It must be alive then: what took the connection of one that
    /// could not have the port is another program.
    pub(crate) fn wait_for(&mut self, address: SocketAddr, log: &Path) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let listens = TcpStream::connect(address).is_ok();
            if self.child.try_wait().is_ok_and(|end| end.is_some()) {
                let said = fs::read_to_string(log).unwrap_or_default();
                return Err(format!("it ended before it served {address}: {said}"));
            }
            if listens {
                return Ok(());
            }
            if start.elapsed() > Duration::from_secs(20) {
                let said = fs::read_to_string(log).unwrap_or_default();
                return Err(format!("nothing listens at {address}: {said}"));
            }
            thread::sleep(Duration::from_millis(20));
        }
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

    /// User and system time of it and its descendants.
    pub(crate) fn cpu(&self) -> Cpu {
        let ticks = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // The name in parentheses may hold anything.
            let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            let field =
                |index| rest.split(' ').nth(index).and_then(|t: &str| t.parse::<u64>().ok());
            (field(11).unwrap_or(0), field(12).unwrap_or(0))
        };
        let sum = |(user, system), pid| {
            let (its_user, its_system) = ticks(pid);
            (user + its_user, system + its_system)
        };
        let (user, system) = self.tree().iter().fold((0, 0), sum);
        let seconds = |ticks: u64| ticks as f64 / TICKS_PER_SECOND;
        Cpu { user: seconds(user), system: seconds(system) }
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
        // The first one before those it started, lest it start others in their place.
        let tree = self.tree();
        let ended: Vec<OwnedFd> = tree
            .iter()
            .filter_map(|pid| {
                let pid = Pid::from_raw(i32::try_from(*pid).ok()?)?;
                let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
                pidfd_send_signal(&fd, Signal::KILL).ok()?;
                Some(fd)
            })
            .collect();
        // The next one wants the ports. A process that is killed is without its program long
        // before its files are closed: with some hundred connections a worker of nginx listened
        // for 40 ms more, so that the next one found the port taken, or wrk a listener that was
        // about to go. Only the end that the kernel tells comes after the last file.
        for fd in &ended {
            let mut end = [PollFd::new(fd, PollFlags::IN)];
            while poll(&mut end, None) == Err(rustix::io::Errno::INTR) {}
        }
        let _ = self.child.wait();
    }
}

/// CPU time, in seconds, to 10 ms.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl std::ops::Sub for Cpu {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { user: self.user - before.user, system: self.system - before.system }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_process_that_is_dropped_nothing_runs_on() {
        let log = std::env::temp_dir().join(format!("evenkeel-process-{}", std::process::id()));
        let script = "tail -f /dev/null & tail -f /dev/null & wait";
        let process = Process::start(&["sh", "-c", script].map(str::to_owned), &log).unwrap();
        let tree = loop {
            let tree = process.tree();
            if tree.len() == 3 {
                break tree;
            }
            thread::yield_now();
        };
        drop(process);
        // Those it started wait for whoever inherits them to ask how they ended.
        let runs = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
        };
        assert!(!tree.iter().any(runs), "{tree:?}");
        fs::remove_file(log).unwrap();
    }
}
