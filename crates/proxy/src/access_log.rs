//! The access log: one JSON object per line for each request, stream or flow.
//!
//! For: telling afterwards what was asked, who served it, and how it ended. Each worker appends
//! lines to a chunk of its own; full chunks go over a bounded queue to one thread that writes.
//! Never: waiting on the data path. What the queue or the disk cannot take is counted as dropped.
//! Start with [`AccessLog`] (the control side) and [`LogShard::write`] (a worker's side).

mod entry;
mod json;
mod timestamp;
mod writer;

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::spec::AccessLogSpec;

use crate::clock;
use timestamp::Timestamp;
use writer::{Destination, Writer};

pub(crate) use entry::{Entry, HttpEntry, TlsEntry};

/// A chunk of this many bytes is sent to the writer before the next tick would.
const CHUNK_BYTES: usize = 16 * 1024;
/// A chunk's room: the last line may begin just below [`CHUNK_BYTES`].
const CHUNK_CAPACITY: usize = CHUNK_BYTES + 4 * 1024;
/// Larger ones, after a few very long lines, are not kept for reuse.
const CHUNK_CAPACITY_MAX: usize = 64 * 1024;
/// Chunks that may wait for the writer, all workers together: about 4 MiB, some 15,000 lines,
/// which bridges a disk that stalls for a tenth of a second at full speed.
const QUEUE_CHUNKS_MAX: usize = 256;
/// Empty chunks that may wait to be used again, per worker.
const SPARE_CHUNKS_MAX: usize = 8;
/// Between two looks at a full queue in [`AccessLog::sync`].
const SYNC_PAUSE: Duration = Duration::from_millis(2);

/// The control side's end of the log. Without a destination it is off and costs a load per
/// request.
#[derive(Debug)]
pub(crate) struct AccessLog {
    shared: Arc<Shared>,
    to_writer: SyncSender<Message>,
}

/// One worker's end of the log.
#[derive(Debug)]
pub(crate) struct LogShard {
    shared: Arc<Shared>,
    /// `None`: the log can never be turned on.
    link: Option<Link>,
    pending: RefCell<Pending>,
}

#[derive(Debug)]
struct Link {
    shard: usize,
    to_writer: SyncSender<Message>,
    spares: Receiver<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    lines: u64,
    timestamp: Timestamp,
}

#[derive(Debug, Default)]
struct Shared {
    on: AtomicBool,
    written: AtomicU64,
    dropped: AtomicU64,
    /// A change that found the queue full, so that the control side need not wait: made after
    /// the next message.
    overdue: Mutex<Option<Change>>,
    is_overdue: AtomicBool,
}

#[derive(Debug)]
enum Change {
    Destination(Option<Destination>),
    Reopen,
}

#[derive(Debug)]
enum Message {
    Chunk {
        shard: usize,
        bytes: Vec<u8>,
        lines: u64,
    },
    Change(Change),
    /// Everything sent before was handled.
    Sync(SyncSender<()>),
}

impl AccessLog {
    /// Starts the writer, and makes a shard for each of `workers`. Fails if the destination
    /// cannot be opened.
    pub(crate) fn start(
        spec: Option<AccessLogSpec>,
        workers: usize,
    ) -> io::Result<(AccessLog, Vec<LogShard>)> {
        let shared = Arc::new(Shared::default());
        let (to_writer, inbox) = sync_channel(QUEUE_CHUNKS_MAX);
        let mut give_back = Vec::with_capacity(workers);
        let mut shards = Vec::with_capacity(workers);
        for shard in 0..workers {
            let (spare, spares) = sync_channel(SPARE_CHUNKS_MAX);
            give_back.push(spare);
            let link = Link { shard, to_writer: to_writer.clone(), spares };
            shards.push(LogShard {
                shared: shared.clone(),
                link: Some(link),
                pending: RefCell::default(),
            });
        }
        let destination = spec.map(Destination::open).transpose()?;
        shared.on.store(destination.is_some(), Relaxed);
        let writer = Writer::new(inbox, shared.clone(), destination, give_back);
        std::thread::Builder::new().name("access-log".into()).spawn(move || writer.run())?;
        Ok((AccessLog { shared, to_writer }, shards))
    }

    /// Writes there from now on; `None`: off. Fails, and changes nothing, if the new destination
    /// cannot be opened. What is already queued goes to the old one.
    pub(crate) fn set(&self, spec: Option<AccessLogSpec>) -> io::Result<()> {
        let destination = spec.map(Destination::open).transpose()?;
        self.shared.on.store(destination.is_some(), Relaxed);
        self.change(Change::Destination(destination));
        Ok(())
    }

    /// Opens the file anew, after it was moved away.
    pub(crate) fn reopen(&self) {
        self.change(Change::Reopen);
    }

    /// Lines written since start.
    pub(crate) fn written(&self) -> u64 {
        self.shared.written.load(Relaxed)
    }

    /// Lines that the log could not take since start.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Relaxed)
    }

    /// Waits until all that was sent before is written or dropped, for the end of the process.
    /// Answers whether that came about `within` the time.
    pub(crate) fn sync(&self, within: Duration) -> bool {
        let start = std::time::Instant::now();
        let (done, wait) = sync_channel(1);
        let mut message = Message::Sync(done);
        loop {
            match self.to_writer.try_send(message) {
                Ok(()) => {
                    return wait.recv_timeout(within.saturating_sub(start.elapsed())).is_ok();
                }
                Err(TrySendError::Full(back)) if start.elapsed() < within => message = back,
                Err(_) => return false,
            }
            std::thread::sleep(SYNC_PAUSE);
        }
    }

    fn change(&self, change: Change) {
        if let Err(TrySendError::Full(Message::Change(change))) =
            self.to_writer.try_send(Message::Change(change))
        {
            let mut overdue = self.shared.overdue.lock().unwrap_or_else(PoisonError::into_inner);
            // A destination that is still to be taken was opened just now.
            if overdue.is_none() || matches!(change, Change::Destination(_)) {
                *overdue = Some(change);
            }
            self.shared.is_overdue.store(true, Relaxed);
        }
    }
}

impl LogShard {
    /// Takes nothing, ever: for tests.
    #[cfg_attr(not(test), allow(dead_code, reason = "tests make workers without a log"))]
    pub(crate) fn disabled() -> LogShard {
        LogShard { shared: Arc::default(), link: None, pending: RefCell::default() }
    }

    /// Is it worth making an [`Entry`]?
    pub(crate) fn is_on(&self) -> bool {
        self.shared.on.load(Relaxed)
    }

    /// Appends a line. Never waits.
    pub(crate) fn write(&self, entry: &Entry<'_>) {
        if !self.is_on() {
            return;
        }
        let mut pending = self.pending.borrow_mut();
        let pending = &mut *pending;
        if pending.bytes.capacity() == 0 {
            pending.bytes.reserve(CHUNK_CAPACITY);
        }
        let time = pending.timestamp.at(clock::unix_millis());
        entry.append_to(time, &mut pending.bytes);
        pending.lines += 1;
        if pending.bytes.len() >= CHUNK_BYTES {
            self.send(pending);
        }
    }

    /// Hands what was appended to the writer. Never waits.
    pub(crate) fn flush(&self) {
        let mut pending = self.pending.borrow_mut();
        if !pending.bytes.is_empty() {
            self.send(&mut pending);
        }
    }

    fn send(&self, pending: &mut Pending) {
        let Some(link) = &self.link else {
            return pending.bytes.clear();
        };
        let bytes = std::mem::take(&mut pending.bytes);
        let lines = std::mem::take(&mut pending.lines);
        let chunk = Message::Chunk { shard: link.shard, bytes, lines };
        match link.to_writer.try_send(chunk) {
            Ok(()) => pending.bytes = link.spares.try_recv().unwrap_or_default(),
            Err(TrySendError::Full(chunk) | TrySendError::Disconnected(chunk)) => {
                self.shared.dropped.fetch_add(lines, Relaxed);
                if let Message::Chunk { mut bytes, .. } = chunk {
                    bytes.clear();
                    pending.bytes = bytes;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
