//! The watchdog: a small process beside the balancer that ends the replicas, with all their own
//! children, when the balancer dies without having done so (SIGKILL, out of memory, a crash).
//!
//! It holds one end of a socket whose other end only the balancer has. Lines tell it which
//! process groups live; the end of the stream tells it that the balancer is gone. It never
//! touches anything while the balancer lives.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, Signal, kill_process_group};
use tracing::warn;

use crate::{before_exec, group};

/// The hidden verb under which the binary offers [`run`].
pub const VERB: &str = "__watchdog";

/// Before a watchdog that died is started again, in case that the next one dies as well.
const RESTART_PAUSE: Duration = Duration::from_millis(200);
/// How long a line to it may wait. It does nothing but read, so this is never needed unless it
/// is stopped or ill.
const SEND_PATIENCE: Duration = Duration::from_millis(100);
/// Between looks whether the groups are gone.
const POLL: Duration = Duration::from_millis(20);

static WATCHDOG: OnceLock<Watchdog> = OnceLock::new();

/// The balancer's side: one per process, for all runners.
pub struct Watchdog {
    state: Mutex<State>,
}

struct State {
    command: Command,
    child: Child,
    /// Our end. Replicas inherit it only until they exec.
    link: Arc<OwnedFd>,
    groups: HashMap<Pid, u32>,
}

impl Watchdog {
    /// Starts the process-wide watchdog; later calls do nothing. `command` is a program that
    /// calls [`run`]; by default this very program with the argument [`VERB`]. Runners that start
    /// without one rely on the parent-death signal alone, which does not reach grandchildren.
    pub fn start(command: Option<Command>) -> io::Result<()> {
        if WATCHDOG.get().is_some() {
            return Ok(());
        }
        let mut command = command.unwrap_or_else(|| {
            let mut this = Command::new(this_program());
            this.arg0("evenkeel").arg(VERB);
            this
        });
        // Its output is closed so that nobody who reads ours to its end waits for it.
        command.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
        before_exec::outlive_us(&mut command);
        let (child, link) = launch(&mut command, &[])?;
        let state = State { command, child, link, groups: HashMap::new() };
        let mut first = false;
        let watchdog = WATCHDOG.get_or_init(|| {
            first = true;
            Watchdog { state: Mutex::new(state) }
        });
        // Two threads may have started one each; the loser's ends at the end of its socket.
        if first {
            thread::Builder::new()
                .name("watchdog-keeper".to_owned())
                .spawn(move || watchdog.keep())?;
        }
        Ok(())
    }

    /// Starts another as soon as the one that there is has died.
    fn keep(&self) {
        loop {
            let link = self.link();
            // It never sends anything: this returns at its end.
            while rustix::net::recv(&link, &mut [0; 1][..], RecvFlags::empty())
                == Err(rustix::io::Errno::INTR)
            {}
            warn!("the watchdog is gone; starting another");
            thread::sleep(RESTART_PAUSE);
            if let Err(error) = self.lock().restart() {
                warn!("cannot start the watchdog: {error}");
            }
        }
    }

    pub(crate) fn global() -> Option<&'static Watchdog> {
        WATCHDOG.get()
    }

    /// What a new child uses to announce itself.
    pub(crate) fn link(&self) -> Arc<OwnedFd> {
        self.lock().link.clone()
    }

    pub(crate) fn add(&self, group: Pid, grace_ms: u32) {
        let mut state = self.lock();
        state.groups.insert(group, grace_ms);
        state.send(&Line::add(group, grace_ms));
    }

    pub(crate) fn remove(&self, group: Pid) {
        let mut state = self.lock();
        state.groups.remove(&group);
        state.send(&Line::remove(group));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn send(&mut self, line: &Line) {
        // It reads at once and always. One that does not is stopped or ill, and must not stay
        // behind with an old list.
        if send(&self.link, line).is_err() {
            let _ = self.child.kill();
        }
    }

    fn restart(&mut self) -> io::Result<()> {
        let _ = self.child.kill();
        self.child.wait()?;
        let lines = self.groups.iter().map(|(&group, &grace_ms)| Line::add(group, grace_ms));
        let known: Vec<u8> = lines.flat_map(|line| line.as_bytes().to_vec()).collect();
        (self.child, self.link) = launch(&mut self.command, &known)?;
        Ok(())
    }
}

/// Waits, within [`SEND_PATIENCE`], for a watchdog that is busy.
fn send(link: &OwnedFd, line: &Line) -> io::Result<()> {
    rustix::net::send(link, line.as_bytes(), SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Starts a watchdog that finds the lines `known` waiting for it when it begins to read.
fn launch(command: &mut Command, known: &[u8]) -> io::Result<(Child, Arc<OwnedFd>)> {
    let (mut ours, theirs) = UnixStream::pair()?;
    ours.set_write_timeout(Some(SEND_PATIENCE))?;
    let early = match known {
        [] => 0,
        _ => rustix::net::send(&ours, known, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?,
    };
    let child = command.stdin(Stdio::from(OwnedFd::from(theirs))).spawn();
    command.stdin(Stdio::null()); // Closes our copy of its end.
    let child = child?;
    ours.write_all(&known[early..])?;
    Ok((child, Arc::new(OwnedFd::from(ours))))
}

/// The path of this program, or, when its file was replaced since it started, the kernel's own
/// reference to it.
pub(crate) fn this_program() -> PathBuf {
    match std::env::current_exe() {
        Ok(path) if path.exists() => path,
        _ => PathBuf::from("/proc/self/exe"),
    }
}

/// One line of the protocol: `+GROUP GRACE_MS` or `-GROUP`. Made without allocation, because a
/// child writes it between fork and exec.
pub(crate) struct Line {
    bytes: [u8; Line::LONGEST],
    start: usize,
}

impl Line {
    /// Two numbers of ten digits, two marks and the end of the line.
    const LONGEST: usize = 23;

    pub(crate) fn add(group: Pid, grace_ms: u32) -> Self {
        let mut line = Self::end();
        line.push_number(grace_ms);
        line.push(b' ');
        line.push_number(group.as_raw_nonzero().get().unsigned_abs());
        line.push(b'+');
        line
    }

    fn remove(group: Pid) -> Self {
        let mut line = Self::end();
        line.push_number(group.as_raw_nonzero().get().unsigned_abs());
        line.push(b'-');
        line
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// It is written from its end to its beginning.
    fn end() -> Self {
        let mut line = Self { bytes: [0; Self::LONGEST], start: Self::LONGEST };
        line.push(b'\n');
        line
    }

    fn push(&mut self, byte: u8) {
        self.start -= 1;
        self.bytes[self.start] = byte;
    }

    fn push_number(&mut self, mut number: u32) {
        loop {
            self.push(b'0' + (number % 10) as u8);
            number /= 10;
            if number == 0 {
                return;
            }
        }
    }
}

/// The watchdog's own life: what the binary does for the verb [`VERB`]. Whoever started it has
/// made it deaf to the signals that end the balancer.
pub fn run() -> ExitCode {
    end_all(follow(io::stdin().lock()));
    ExitCode::SUCCESS
}

/// Reads until the balancer is gone; answers the groups that are left, with their grace.
fn follow(lines: impl BufRead) -> HashMap<Pid, Duration> {
    let mut groups = HashMap::new();
    for line in lines.lines() {
        let Ok(line) = line else { break };
        match parse(&line) {
            Some((group, Some(grace))) => {
                groups.insert(group, grace);
            }
            Some((group, None)) => {
                groups.remove(&group);
            }
            None => {}
        }
    }
    groups
}

fn parse(line: &str) -> Option<(Pid, Option<Duration>)> {
    let (added, rest) = match line.strip_prefix('+') {
        Some(rest) => (true, rest),
        None => (false, line.strip_prefix('-')?),
    };
    let (group, grace) = rest.split_once(' ').unwrap_or((rest, "10000"));
    // Group 1 would be init's, and killing it would mean every process.
    let group = group.parse().ok().filter(|&group: &i32| group > 1).and_then(Pid::from_raw)?;
    let grace = Duration::from_millis(grace.parse().ok()?);
    Some((group, added.then_some(grace)))
}

/// SIGTERM to all, and SIGKILL to each that is left after its grace.
fn end_all(groups: HashMap<Pid, Duration>) {
    for &group in groups.keys() {
        let _ = kill_process_group(group, Signal::TERM);
    }
    let mut left: Vec<(Pid, Duration)> = groups.into_iter().collect();
    let start = Instant::now();
    loop {
        left.retain(|&(group, grace)| {
            let over = start.elapsed() >= grace;
            if over {
                let _ = kill_process_group(group, Signal::KILL);
            }
            !over && group::is_alive(group)
        });
        if left.is_empty() {
            return;
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(raw: i32) -> Pid {
        Pid::from_raw(raw).unwrap()
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        let all = [Line::add(pid(i32::MAX), u32::MAX), Line::add(pid(7), 0), Line::add(pid(8), 1)];
        let mut text: Vec<u8> = all.iter().flat_map(|line| line.as_bytes().to_vec()).collect();
        assert_eq!(text.len(), Line::LONGEST + 5 + 5);
        text.extend_from_slice(Line::remove(pid(7)).as_bytes());
        text.extend_from_slice(b"+1 5\n+0 5\n+-9 5\n+x\n\n9\n+9 y\n");
        let groups = follow(&text[..]);
        let expected = [
            (pid(8), Duration::from_millis(1)),
            (pid(i32::MAX), Duration::from_millis(u32::MAX.into())),
        ];
        assert_eq!(groups, HashMap::from(expected));
    }
}
