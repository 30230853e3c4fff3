//! What a child does for itself between fork and exec. The only unsafe code of the crate: the
//! standard library marks `pre_exec` unsafe because after a fork only async-signal-safe calls are
//! allowed. Both hooks below make nothing but raw system calls; they neither allocate nor lock.
#![allow(unsafe_code, reason = "pre_exec is unsafe; see the SAFETY comments")]

use std::io::{self, PipeReader};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::net::SendFlags;
use rustix::process::{Pid, Resource, Signal, setrlimit};

use crate::file_limit;
use crate::watchdog::Line;

/// Makes the child die with the thread that spawns it, and makes it tell the watchdog of itself
/// before it becomes the replica: from its first instruction on somebody is there to end it.
pub(crate) fn tie_to_us(
    command: &mut tokio::process::Command,
    link: Option<Arc<OwnedFd>>,
    grace_ms: u32,
) -> io::Result<Announced> {
    let (announced, announces) = io::pipe()?;
    rustix::io::ioctl_fionbio(&announced, true)?;
    let parent = rustix::process::getpid();
    let files = file_limit::inherited();
    let hook = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
        // The signal is not sent for a parent that died before it was asked for.
        if rustix::process::getppid() != Some(parent) {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()));
        }
        if let Some(link) = &link {
            let line = Line::add(rustix::process::getpid(), grace_ms);
            // A watchdog that is gone or stuck is noticed by the parent, which repeats the line.
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let _ = rustix::net::send(link.as_ref(), line.as_bytes(), flags);
            let number = rustix::process::getpid().as_raw_nonzero().get();
            let _ = rustix::io::write(&announces, &number.to_ne_bytes());
        }
        if let Some(files) = &files {
            setrlimit(Resource::Nofile, *files)?;
        }
        Ok(())
    };
    // SAFETY: `hook` makes the system calls prctl, getppid, getpid, sendto, write and prlimit
    // through rustix and formats into an array on its stack. It touches no lock and no heap: the
    // captured values are numbers and file descriptors that it only borrows, and
    // `from_raw_os_error` makes an error without allocating.
    unsafe { command.pre_exec(hook) };
    Ok(Announced(announced))
}

/// What the child told the watchdog. Who cannot start the program learns nothing of the child that
/// tried, not even its number; but the watchdog must be told to forget it, for the kernel will
/// give it to a stranger one day.
pub(crate) struct Announced(PipeReader);

impl Announced {
    /// The number of the child that announced itself, once.
    pub(crate) fn number(&self) -> Option<Pid> {
        let mut number = [0; 4];
        let len = rustix::io::read(&self.0, &mut number).ok()?;
        Pid::from_raw(i32::from_ne_bytes(number)).filter(|_| len == number.len())
    }
}

/// Puts the child out of reach of what ends the balancer: in a session of its own a terminal's
/// Ctrl-C and hang-up do not find it, and signals to end, sent to everything of our name, pass it
/// by. What is ignored stays ignored after exec, so there is no moment in which it can be hit.
pub(crate) fn outlive_us(command: &mut Command) {
    let hook = || {
        let _: Pid = rustix::process::setsid()?;
        for signal in IGNORED {
            // SAFETY: no handler is installed, SIG_IGN names none; signal is async-signal-safe.
            if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: `hook` makes the system calls setsid and signal, both async-signal-safe, captures
    // nothing, and `last_os_error` does not allocate.
    unsafe { command.pre_exec(hook) };
}

/// What a terminal, an init system or a person sends to end a program or to tell it something.
const IGNORED: [libc::c_int; 6] =
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::process::Stdio;

    #[test]
    fn a_session_of_its_own_and_deaf() {
        let mut command = Command::new("sh");
        let script = "cut -d' ' -f6 /proc/$$/stat; echo $$; kill -TERM $$; kill -INT $$; echo here";
        outlive_us(command.args(["-c", script]));
        let output = command.stdout(Stdio::piped()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], lines[1]);
        assert_eq!(lines[2], "here");
    }

    #[tokio::test]
    async fn the_child_announces_itself_before_it_runs() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = tokio::process::Command::new("true");
        let announced = tie_to_us(&mut command, Some(Arc::new(theirs.into())), 1500).unwrap();
        let mut child = command.spawn().unwrap();
        let id = child.id().unwrap();
        child.wait().await.unwrap();
        drop(command);
        let mut line = String::new();
        (&ours).read_to_string(&mut line).unwrap();
        assert_eq!(line, format!("+{id} 1500\n"));
        assert_eq!(announced.number().map(|id| id.as_raw_nonzero().get()), Some(id as i32));
    }

    #[tokio::test]
    async fn the_number_of_a_child_that_could_not_run_is_known() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = tokio::process::Command::new("/no/such/program");
        let announced = tie_to_us(&mut command, Some(Arc::new(theirs.into())), 1500).unwrap();
        assert_eq!(announced.number(), None);
        command.spawn().unwrap_err();
        drop(command);
        let mut line = String::new();
        (&ours).read_to_string(&mut line).unwrap();
        let number = announced.number().unwrap().as_raw_nonzero();
        assert_eq!(line, format!("+{number} 1500\n"));
    }
}
