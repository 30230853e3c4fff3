//! Forwards what replicas write, line by line and under their names, to our own output.
//!
//! One thread reads all replicas; one thread each writes standard output and standard error,
//! because those may block for as long as they like. A replica never waits for a stuck output
//! longer than [`PATIENCE`]: after that lines are dropped and counted until it moves again.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fd::OwnedFd;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// A longer line is forwarded in pieces of this many bytes, each a line of its own.
const LINE_LEN_MAX: usize = 16 * 1024;
/// Bytes read at once; with the prefixes of its lines this is one block of the queue.
const READ_LEN: usize = 16 * 1024;
/// Blocks that wait for one output: at most a few megabytes.
const QUEUE_LEN: usize = 64;
/// How long a full queue is waited for before lines are dropped: longer than a busy terminal
/// pauses, too short for a health check to notice.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long [`Output::flush`] waits for an output.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// The process-wide output, made at its first use.
static STANDARD: Mutex<Option<Output>> = Mutex::new(None);

#[derive(Clone)]
pub(crate) struct Output {
    follows: mpsc::UnboundedSender<Follow>,
    out: Sink,
    err: Sink,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    Out,
    Err,
}

struct Follow {
    prefix: String,
    pipe: OwnedFd,
    sink: Sink,
    ended: oneshot::Sender<()>,
}

#[derive(Clone)]
struct Sink {
    queue: mpsc::Sender<Item>,
    stuck: Arc<AtomicBool>,
}

enum Item {
    Block(Vec<u8>),
    Flush(oneshot::Sender<()>),
}

impl Output {
    pub(crate) fn standard() -> io::Result<Self> {
        let mut standard = STANDARD.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(output) = &*standard {
            return Ok(output.clone());
        }
        let output = Self::to(Box::new(io::stdout()), Box::new(io::stderr()))?;
        Ok(standard.insert(output).clone())
    }

    pub(crate) fn to(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> io::Result<Self> {
        let (out, err) = (Sink::start("replica-stdout", out)?, Sink::start("replica-stderr", err)?);
        let (follows, mut started) = mpsc::unbounded_channel::<Follow>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("replica-output".to_owned()).spawn(move || {
            runtime.block_on(async move {
                while let Some(follow) = started.recv().await {
                    tokio::spawn(follow.run());
                }
            });
        })?;
        Ok(Self { follows, out, err })
    }

    /// Forwards `pipe` to its end, which the answer announces.
    pub(crate) fn follow(
        &self,
        name: &str,
        stream: Stream,
        pipe: OwnedFd,
    ) -> oneshot::Receiver<()> {
        let sink = match stream {
            Stream::Out => self.out.clone(),
            Stream::Err => self.err.clone(),
        };
        let (ended, end) = oneshot::channel();
        let _ = self.follows.send(Follow { prefix: format!("{name} | "), pipe, sink, ended });
        end
    }

    /// Waits until everything that was forwarded before is written, within bounds.
    pub(crate) async fn flush(&self) {
        for sink in [&self.out, &self.err] {
            let (done, written) = oneshot::channel();
            let flush = async {
                sink.queue.send(Item::Flush(done)).await.ok()?;
                written.await.ok()
            };
            let _ = timeout(FLUSH_PATIENCE, flush).await;
        }
    }
}

impl Sink {
    fn start(thread: &str, mut to: Box<dyn Write + Send>) -> io::Result<Self> {
        let (queue, mut items) = mpsc::channel(QUEUE_LEN);
        let stuck = Arc::new(AtomicBool::new(false));
        let moves = stuck.clone();
        thread::Builder::new().name(thread.to_owned()).spawn(move || {
            while let Some(item) = items.blocking_recv() {
                match item {
                    // Nobody is left to be told that our own output is closed.
                    Item::Block(block) => drop(to.write_all(&block).and_then(|()| to.flush())),
                    Item::Flush(done) => drop(done.send(())),
                }
                moves.store(false, Relaxed);
            }
        })?;
        Ok(Self { queue, stuck })
    }

    /// False: the output is stuck and the block was dropped.
    async fn send(&self, block: Vec<u8>) -> bool {
        let room = if self.stuck.load(Relaxed) {
            self.queue.try_reserve().ok()
        } else {
            timeout(PATIENCE, self.queue.reserve()).await.ok().and_then(Result::ok)
        };
        self.stuck.store(room.is_none(), Relaxed);
        room.map(|room| room.send(Item::Block(block))).is_some()
    }
}

impl Follow {
    async fn run(self) {
        let Ok(mut pipe) = pipe::Receiver::from_owned_fd(self.pipe) else { return };
        let mut lines = Lines::new(self.prefix);
        let mut buffer = vec![0; READ_LEN];
        let mut dropped = 0;
        loop {
            let len = pipe.read(&mut buffer).await.unwrap_or(0);
            let mut block = Vec::new();
            let count = match len {
                0 => lines.finish(&mut block),
                _ => lines.push(&buffer[..len], &mut block),
            };
            if dropped > 0 && count > 0 {
                lines.note_dropped(dropped, &mut block);
            }
            if count > 0 {
                dropped = if self.sink.send(block).await { 0 } else { dropped + count };
            }
            if len == 0 {
                break;
            }
        }
        let _ = self.ended.send(());
    }
}

/// Cuts bytes into lines and puts the prefix before each.
struct Lines {
    prefix: String,
    partial: Vec<u8>,
}

impl Lines {
    fn new(prefix: String) -> Self {
        Self { prefix, partial: Vec::new() }
    }

    /// Appends the lines that `bytes` complete to `block`; answers how many.
    fn push(&mut self, bytes: &[u8], block: &mut Vec<u8>) -> u64 {
        let mut count = 0;
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, complete) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            let mut text = text;
            while self.partial.len() + text.len() > LINE_LEN_MAX {
                let (head, tail) = text.split_at(LINE_LEN_MAX - self.partial.len());
                self.write(head, block);
                count += 1;
                text = tail;
            }
            if complete {
                self.write(text, block);
                count += 1;
            } else {
                self.partial.extend_from_slice(text);
            }
        }
        count
    }

    /// The last line, if it did not end with a line feed.
    fn finish(&mut self, block: &mut Vec<u8>) -> u64 {
        if self.partial.is_empty() {
            return 0;
        }
        self.write(&[], block);
        1
    }

    fn write(&mut self, rest: &[u8], block: &mut Vec<u8>) {
        block.extend_from_slice(self.prefix.as_bytes());
        block.append(&mut self.partial);
        block.extend_from_slice(rest);
        block.push(b'\n');
    }

    fn note_dropped(&self, dropped: u64, block: &mut Vec<u8>) {
        let prefix = &self.prefix;
        let note = format!("{prefix}[{dropped} lines dropped: our output did not take them]\n");
        block.splice(0..0, note.into_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeWriter, Read};
    use std::sync::mpsc as blocking;

    fn cut(pieces: &[&str]) -> String {
        let (mut lines, mut block) = (Lines::new("a | ".to_owned()), Vec::new());
        let mut count = 0;
        for piece in pieces {
            count += lines.push(piece.as_bytes(), &mut block);
        }
        count += lines.finish(&mut block);
        let text = String::from_utf8(block).unwrap();
        assert_eq!(count, text.lines().count() as u64);
        text
    }

    #[test]
    fn lines_are_prefixed_wherever_reads_cut_them() {
        assert_eq!(cut(&["one\ntw", "o\n", "\nthree"]), "a | one\na | two\na | \na | three\n");
        assert_eq!(cut(&[]), "");
        let long = "x".repeat(LINE_LEN_MAX);
        assert_eq!(cut(&[&long, "\n"]), format!("a | {long}\n"));
        assert_eq!(cut(&[&long, "yz", "\nnext\n"]), format!("a | {long}\na | yz\na | next\n"));
    }

    /// Takes nothing until it is told to.
    struct Stuck(blocking::Receiver<()>, PipeWriter);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_stuck_output_costs_lines_and_never_blocks_the_replica() {
        let (release, blocked) = blocking::channel();
        let (mut reader, writer) = io::pipe().unwrap();
        let output = Output::to(Box::new(Stuck(blocked, writer)), Box::new(io::sink())).unwrap();
        let (ours, mut replica) = io::pipe().unwrap();
        let end = output.follow("web-1", Stream::Out, ours.into());
        // Returns although nothing is taken, and is far more than pipe and queue hold.
        let line = [b"0123456789".repeat(10), b"\n".to_vec()].concat();
        let flood = tokio::task::spawn_blocking(move || {
            for _ in 0..100_000 {
                replica.write_all(&line).unwrap();
            }
            replica
        });
        let mut replica = flood.await.unwrap();
        drop(release);
        let text = tokio::task::spawn_blocking(move || {
            let (mut text, mut chunk) = (Vec::new(), vec![0; 65536]);
            while !text.ends_with(b"web-1 | last\n") {
                // Only now is there sure to be room, so the note about the loss is sure to come.
                replica.write_all(b"last\n").unwrap();
                let len = reader.read(&mut chunk).unwrap();
                text.extend_from_slice(&chunk[..len]);
            }
            drop(replica);
            while reader.read(&mut chunk).unwrap() > 0 {}
            String::from_utf8(text).unwrap()
        });
        end.await.unwrap();
        output.flush().await;
        drop(output);
        let text = text.await.unwrap();
        let note = text.lines().find(|line| line.contains("lines dropped")).unwrap();
        let dropped: u64 = note["web-1 | [".len()..].split(' ').next().unwrap().parse().unwrap();
        let kept = text.lines().filter(|line| line.starts_with("web-1 | 0123")).count();
        assert_eq!(dropped + kept as u64, 100_000, "{note}");
    }
}
