use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::io::Stream;
use crate::spares::Spares;
use crate::splice::Splice;

/// Bytes of one storage block: holds the usual request or response with its head in one read.
pub(crate) const BLOCK_BYTES: usize = 16 * 1024;
/// Storage where a block would mostly be empty, or wait long: the head of a request that is here in
/// full, or of a response whose client takes nothing now.
const SMALL_BYTES: usize = 1024;
const SPARING_BYTES: usize = 4 * 1024;
/// Blocks a worker keeps for the next taker: 4 MiB, about what 256 connections need that move more
/// than small requests and their answers.
const SPARE_BLOCKS_MAX: usize = 256;
/// Small storage a worker keeps: 1 MiB, for as many small requests under way at once.
const SPARE_SMALL_MAX: usize = 1024;

/// Pipes a worker keeps for the next bulk transfer: two descriptors each.
const SPARE_PIPES_MAX: usize = 32;

/// The storage blocks and pipes that a worker's connections share.
#[derive(Debug)]
pub(crate) struct Blocks {
    spare: Spares<Vec<u8>>,
    spare_small: Spares<Vec<u8>>,
    pipes: Spares<Splice>,
}

impl Default for Blocks {
    fn default() -> Self {
        Self {
            spare: Spares::new(SPARE_BLOCKS_MAX),
            spare_small: Spares::new(SPARE_SMALL_MAX),
            pipes: Spares::new(SPARE_PIPES_MAX),
        }
    }
}

impl Blocks {
    fn take(&self) -> Vec<u8> {
        self.spare.take().unwrap_or_else(|| vec![0; BLOCK_BYTES])
    }

    fn take_small(&self) -> Vec<u8> {
        self.spare_small.take().unwrap_or_else(|| vec![0; SMALL_BYTES])
    }

    fn take_pipe(&self) -> Option<Splice> {
        self.pipes.take().or_else(|| Splice::new().ok())
    }

    /// Closes the pipes that nobody took since the last time.
    pub(crate) fn trim(&self) {
        self.pipes.trim();
    }

    fn put(&self, block: Vec<u8>) {
        match block.len() {
            BLOCK_BYTES => self.spare.put(block),
            SMALL_BYTES => self.spare_small.put(block),
            _ => {}
        }
    }
}

/// Bytes on their way from one socket to another. Holds storage only while it holds bytes or is
/// being filled, so an idle connection costs none.
#[derive(Debug)]
pub(crate) struct Buffer {
    blocks: Rc<Blocks>,
    storage: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub(crate) fn new(blocks: &Rc<Blocks>) -> Self {
        Self { blocks: blocks.clone(), storage: Vec::new(), start: 0, end: 0 }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Forgets the first `count` bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Gives the storage back if nothing is in it.
    pub(crate) fn release(&mut self) {
        if self.is_empty() && !self.storage.is_empty() {
            self.blocks.put(std::mem::take(&mut self.storage));
        }
    }

    /// Moves what little is in a block to small storage, for bytes that wait while others are read.
    /// So the block that the kernel writes to is mostly the one that was read a moment ago, which
    /// is in the processor's cache; with a block for each request under way it hardly ever is.
    pub(crate) fn settle(&mut self) {
        if self.storage.len() == BLOCK_BYTES && self.end <= SMALL_BYTES && !self.is_empty() {
            self.exchange(self.blocks.take_small());
        }
    }

    /// Puts `storage`, which is large enough, in the place of that which there is.
    fn exchange(&mut self, mut storage: Vec<u8>) {
        storage[..self.end].copy_from_slice(&self.storage[..self.end]);
        self.blocks.put(std::mem::replace(&mut self.storage, storage));
    }

    /// A pipe for what would have gone through this buffer; `None`: there is none to be had.
    pub(crate) fn take_pipe(&self) -> Option<Splice> {
        self.blocks.take_pipe()
    }

    /// Gives an empty pipe back.
    pub(crate) fn put_pipe(&self, pipe: Splice) {
        self.blocks.pipes.put(pipe);
    }

    pub(crate) fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
        self.release();
    }

    /// Reads once from `stream`; 0 is its end. Holds at most `bound` bytes, growing by doubling
    /// from one block; when it is full already, answers `OutOfMemory`, which callers prevent by
    /// consuming or by refusing what is too large.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        bound: usize,
    ) -> Poll<io::Result<usize>> {
        if self.storage.len() < BLOCK_BYTES {
            let waiting = stream.waiting();
            // An idle connection holds nothing, and one with little in it goes on holding little.
            if (self.storage.is_empty() || waiting.is_none())
                && stream.poll_readable(cx)?.is_pending()
            {
                self.release();
                return Poll::Pending;
            }
            match waiting {
                // What is known to be little needs no block, until there is more of it.
                Some(count) if !self.is_empty() || (1..=self.storage.len()).contains(&count) => {}
                Some(count) if count < BLOCK_BYTES / 2 => {
                    self.release();
                    self.storage = vec![0; count.max(SMALL_BYTES)];
                }
                _ => self.exchange(self.blocks.take()),
            }
        }
        self.poll_read(cx, stream, bound)
    }

    /// The same with storage of 4 KiB to begin with, for what will wait.
    pub(crate) fn poll_fill_sparingly(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        bound: usize,
    ) -> Poll<io::Result<usize>> {
        if self.storage.is_empty() {
            ready!(stream.poll_readable(cx))?;
            self.storage = vec![0; SPARING_BYTES];
        }
        self.poll_read(cx, stream, bound)
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        bound: usize,
    ) -> Poll<io::Result<usize>> {
        self.make_room(bound)?;
        match stream.poll_read(cx, &mut self.storage[self.end..]) {
            Poll::Ready(Ok(count)) => {
                self.end += count;
                Poll::Ready(Ok(count))
            }
            other => {
                self.release();
                other
            }
        }
    }

    /// Appends what was read by other means. Grows as needed.
    #[cfg(test)]
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.storage.len() < self.end + bytes.len() {
            self.storage.resize((self.end + bytes.len()).max(BLOCK_BYTES), 0);
        }
        self.storage[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    fn make_room(&mut self, bound: usize) -> io::Result<()> {
        if self.end < self.storage.len() {
            return Ok(());
        }
        if self.start > 0 {
            self.storage.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            return Ok(());
        }
        if self.storage.len() >= bound.max(BLOCK_BYTES) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let larger = (self.storage.len() * 2).min(bound.max(BLOCK_BYTES));
        self.storage.resize(larger, 0);
        Ok(())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::io::Socket;

    #[test]
    fn pipes_that_nobody_takes_are_closed() {
        let blocks = Blocks::default();
        let (first, second) = (blocks.take_pipe().unwrap(), blocks.take_pipe().unwrap());
        blocks.pipes.put(first);
        blocks.pipes.put(second);
        blocks.trim();
        assert_eq!(blocks.pipes.len(), 2, "both were in use since the last time");
        let first = blocks.take_pipe().unwrap();
        blocks.pipes.put(first);
        blocks.trim();
        assert_eq!(blocks.pipes.len(), 1, "one was enough");
        blocks.trim();
        assert!(blocks.pipes.len() == 0);
    }

    #[test]
    fn what_is_little_waits_in_little() {
        let blocks = Rc::new(Blocks::default());
        let mut buffer = Buffer::new(&blocks);
        buffer.push(&[1; SMALL_BYTES - 1]);
        buffer.push(b"!?");
        buffer.settle();
        assert_eq!(buffer.storage.len(), BLOCK_BYTES, "a byte too many for small storage");
        buffer.consume(SMALL_BYTES - 1);
        buffer.settle();
        assert_eq!(buffer.storage.len(), BLOCK_BYTES, "it is not moved to the front for that");
        buffer.clear();
        buffer.push(b"hello");
        buffer.consume(1);
        buffer.settle();
        assert_eq!((buffer.storage.len(), buffer.bytes()), (SMALL_BYTES, &b"ello"[..]));
        let spare = blocks.spare.len();
        assert_eq!(spare, 2, "the next one reads into the same block");
        buffer.consume(4);
        buffer.release();
        assert_eq!(blocks.spare_small.len(), 1);
    }

    #[tokio::test]
    async fn more_than_little_comes_into_a_block() {
        const BOUND: usize = 4 * BLOCK_BYTES;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        let mut stream = Stream::Tcp(Socket::fresh(server));
        let mut buffer = Buffer::new(&Rc::default());
        let mut expected = Vec::new();
        for piece in [10, 500, 5000, BLOCK_BYTES] {
            let start = expected.len();
            expected.extend((start..start + piece).map(|at| (at % 251) as u8));
            client.write_all(&expected[start..]).unwrap();
            while buffer.len() < expected.len() {
                let filled = poll_fn(|cx| buffer.poll_fill(cx, &mut stream, BOUND)).await;
                assert!(filled.unwrap() > 0);
                buffer.settle();
            }
            assert_eq!(buffer.bytes(), expected);
            let is_small = expected.len() <= SMALL_BYTES;
            assert_eq!(buffer.storage.len() == SMALL_BYTES, is_small);
            let waits =
                poll_fn(|cx| Poll::Ready(buffer.poll_fill(cx, &mut stream, BOUND).is_pending()));
            assert!(waits.await);
            assert_eq!(buffer.storage.len() == SMALL_BYTES, is_small, "nothing more is here");
            if is_small {
                // With nothing in it, it waits without storage.
                let mut idle = Buffer::new(&buffer.blocks);
                idle.push(buffer.bytes());
                idle.settle();
                idle.consume(expected.len());
                idle.storage = vec![0; SMALL_BYTES];
                let waits =
                    poll_fn(|cx| Poll::Ready(idle.poll_fill(cx, &mut stream, BOUND).is_pending()));
                assert!(waits.await && idle.storage.is_empty());
            }
        }
    }

    #[test]
    fn storage_is_given_back_and_used_again() {
        let blocks = Rc::new(Blocks::default());
        let mut buffer = Buffer::new(&blocks);
        buffer.push(b"hello world");
        buffer.consume(6);
        assert_eq!(buffer.bytes(), b"world");
        buffer.consume(100);
        assert!(buffer.is_empty());
        buffer.release();
        assert_eq!(blocks.spare.len(), 1);
        assert_eq!(blocks.take().len(), BLOCK_BYTES);
    }
}
