//! Notices the end of a container's first process from the kernel, which is sooner than the engine
//! can tell, and works while the engine is away.

use std::fs;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// Sends `(id, pid)` when the process is gone. Does nothing if the process cannot be seen from
/// here, as from inside a container, or is not the container's.
pub(super) fn watch(id: String, pid: i32, gone: mpsc::Sender<(String, i32)>) {
    let Some(handle) = Pid::from_raw(pid) else { return };
    let Ok(handle) = pidfd_open(handle, PidfdFlags::NONBLOCK) else { return };
    // Looked at after the handle was made, so that it is the handle's process that is looked at:
    // in another name space of processes the same number is a stranger.
    if !belongs(pid, &id) {
        return;
    }
    #[expect(
        deprecated,
        reason = "its replacement is unsafe; an owned descriptor is as it demands: open, the same, \
                  and closed by nobody else"
    )]
    let Ok(handle) = AsyncFd::new(handle) else { return };
    tokio::spawn(async move {
        tokio::select! {
            ended = handle.readable() => if ended.is_ok() {
                let _ = gone.send((id, pid)).await;
            },
            () = gone.closed() => {}
        }
    });
}

/// The container's id is part of its processes' control group (Docker, Podman, under systemd or
/// not).
fn belongs(pid: i32, id: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|groups| groups.contains(id))
}
