//! The control plane's own log: on standard error, one line each. Requests never appear here; they
//! have the access log.
//!
//! A thread of its own writes it, because standard error may block for as long as it likes (a
//! terminal after Ctrl-S, a reader of our pipe that sleeps): neither traffic nor the keeping of
//! replicas nor our end waits for that. Lines that find no room are counted.

use std::io::{self, IsTerminal, Write, stderr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use tracing_subscriber::filter::LevelFilter;

/// Lines that wait to be written: a megabyte or so, and more than a start of a thousand replicas
/// has to say.
const QUEUE_LINES: usize = 8192;

/// How long the end of the program waits for what is not yet written.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

static QUEUE: OnceLock<SyncSender<Item>> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

enum Item {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

pub(crate) fn start(level: LogLevel) {
    let level = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let (queue, items) = sync_channel(QUEUE_LINES);
    if thread::Builder::new().name("log".into()).spawn(move || write_out(&items)).is_ok() {
        let _ = QUEUE.set(queue);
    }
    let log = tracing_subscriber::fmt()
        .with_writer(|| Queued)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        .with_max_level(level);
    // Only fails if a log was started before.
    let _ = log.try_init();
}

/// Waits a little until everything that was logged is written.
pub(crate) fn flush() {
    let Some(queue) = QUEUE.get() else { return };
    let (done, written) = sync_channel(1);
    if queue.try_send(Item::Flush(done)).is_ok() {
        let _ = written.recv_timeout(FLUSH_PATIENCE);
    }
}

fn write_out(items: &Receiver<Item>) {
    for item in items {
        match item {
            // Nobody is left to be told that standard error is closed.
            Item::Line(line) => drop(stderr().write_all(&line)),
            Item::Flush(done) => drop(done.try_send(())),
        }
        let dropped = DROPPED.swap(0, Relaxed);
        if dropped > 0 {
            let _ = writeln!(stderr(), "[{dropped} lines of the log dropped: nobody took them]");
        }
    }
}

/// `tracing-subscriber` writes each line with one call.
struct Queued;

impl Write for Queued {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Some(queue) = QUEUE.get() else { return stderr().write(line) };
        if queue.try_send(Item::Line(line.to_vec())).is_err() {
            DROPPED.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
