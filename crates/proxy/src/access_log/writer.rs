//! The thread that writes. It alone may wait for a disk or a pipe.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use model::spec::AccessLogSpec;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;

use super::{CHUNK_CAPACITY_MAX, Change, Message, Shared};

/// How often failed writes are warned of.
const WARN_EVERY: Duration = Duration::from_secs(10);
/// How long a pipe that is full may take to be read, then the chunk is dropped.
const PIPE_WAIT: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };

pub(super) struct Writer {
    inbox: Receiver<Message>,
    shared: Arc<Shared>,
    destination: Option<Destination>,
    /// Emptied chunks go back to the shard that they came from.
    give_back: Vec<SyncSender<Vec<u8>>>,
    warned: Option<Instant>,
}

/// Where lines go.
#[derive(Debug)]
pub(super) struct Destination {
    file: File,
    /// `None`: the standard output, which is not reopened.
    path: Option<PathBuf>,
    /// The last write ended within a line.
    torn: bool,
}

impl Destination {
    pub(super) fn open(spec: AccessLogSpec) -> io::Result<Self> {
        let (file, path) = match spec {
            // Not through `std::io::stdout`, whose buffer would hold what could not be written.
            AccessLogSpec::Stdout => (File::from(io::stdout().as_fd().try_clone_to_owned()?), None),
            AccessLogSpec::File(path) => (open(&path)?, Some(path)),
        };
        Ok(Self { file, path, torn: false })
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Not waiting matters for a named pipe that nobody reads; a file does not care.
    let not_waiting = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(not_waiting)
        .open(path)
        .map_err(|e| io::Error::new(e.kind(), format!("access log {}: {e}", path.display())))
}

impl Writer {
    pub(super) fn new(
        inbox: Receiver<Message>,
        shared: Arc<Shared>,
        destination: Option<Destination>,
        give_back: Vec<SyncSender<Vec<u8>>>,
    ) -> Self {
        Self { inbox, shared, destination, give_back, warned: None }
    }

    /// Until every shard and the control side are gone.
    pub(super) fn run(mut self) {
        while let Ok(message) = self.inbox.recv() {
            match message {
                Message::Chunk { shard, mut bytes, lines } => {
                    self.write(&bytes, lines);
                    bytes.clear();
                    if bytes.capacity() <= CHUNK_CAPACITY_MAX {
                        // A shard that has enough needs no more.
                        let _ = self.give_back[shard].try_send(bytes);
                    }
                }
                Message::Change(change) => self.apply(change),
                Message::Sync(done) => {
                    let _ = done.send(());
                }
            }
            if self.shared.is_overdue.swap(false, Relaxed) {
                let overdue =
                    self.shared.overdue.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(change) = overdue {
                    self.apply(change);
                }
            }
        }
    }

    fn apply(&mut self, change: Change) {
        match (change, &mut self.destination) {
            (Change::Destination(destination), _) => self.destination = destination,
            (Change::Reopen, Some(Destination { file, path: Some(path), torn })) => {
                match open(path) {
                    Ok(opened) => {
                        *file = opened;
                        *torn = false;
                    }
                    Err(e) => tracing::error!("{e}; going on with the file that was open"),
                }
            }
            (Change::Reopen, _) => {}
        }
    }

    fn write(&mut self, bytes: &[u8], lines: u64) {
        let Some(destination) = &mut self.destination else {
            self.shared.dropped.fetch_add(lines, Relaxed);
            return;
        };
        let (written, result) =
            write_lines(&mut destination.file, &mut destination.torn, bytes, wait_writable);
        self.shared.written.fetch_add(written, Relaxed);
        if let Err(e) = result {
            self.shared.dropped.fetch_add(lines.saturating_sub(written), Relaxed);
            if self.warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY) {
                self.warned = Some(Instant::now());
                tracing::warn!(
                    "access log: {e}; {} lines dropped since start",
                    self.shared.dropped.load(Relaxed)
                );
            }
        }
    }
}

/// Waits a bounded time until a pipe has room.
fn wait_writable(file: &File) -> bool {
    let mut fds = [PollFd::new(file, PollFlags::OUT)];
    rustix::event::poll(&mut fds, Some(&PIPE_WAIT)).is_ok_and(|ready| ready > 0)
}

/// Writes whole lines, and answers how many. `torn`: what was written last ended within a line;
/// then the next write begins a new one. `wait`: called when nothing can be written now; false
/// gives up.
fn write_lines<W: Write>(
    to: &mut W,
    torn: &mut bool,
    bytes: &[u8],
    wait: impl Fn(&W) -> bool,
) -> (u64, io::Result<()>) {
    let mut sent = 0;
    let result = loop {
        if sent == bytes.len() {
            break Ok(());
        }
        let written = if *torn && sent == 0 {
            // Alone, so that it is known to be out before the first line is begun.
            to.write(b"\n").map(|count| *torn = count == 0)
        } else {
            to.write(&bytes[sent..]).and_then(|count| {
                sent += count;
                if count == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
            })
        };
        match written {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && wait(to) => {}
            Err(e) => break Err(e),
        }
    };
    let out = &bytes[..sent];
    if let Some(last) = out.last() {
        *torn = *last != b'\n';
    }
    (out.iter().filter(|b| **b == b'\n').count() as u64, result)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then is full.
    struct Disk {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            self.taken.extend_from_slice(&bytes[..count]);
            self.room -= count;
            if count == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(count) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_cut_by_a_full_disk_does_not_spoil_the_next() {
        for room in 0..12 {
            let mut disk = Disk { taken: Vec::new(), room };
            let mut torn = false;
            let (written, result) = write_lines(&mut disk, &mut torn, b"aaaa\nbbbb\n", |_| false);
            assert_eq!(result.is_ok(), room >= 10, "room {room}");
            assert_eq!(written, (room.min(10) / 5) as u64, "room {room}");
            disk.room = 0;
            if torn {
                assert_eq!(write_lines(&mut disk, &mut torn, b"xxxx\n", |_| false).0, 0);
            }
            disk.room = 100;
            let (written, result) = write_lines(&mut disk, &mut torn, b"cccc\n", |_| false);
            assert!(result.is_ok() && written == 1 && !torn, "room {room}");
            let text = String::from_utf8(disk.taken).unwrap();
            assert_eq!(text.lines().last(), Some("cccc"), "room {room}");
        }
    }
}
