use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::io::Stream;
use crate::splice::Splice;

/// Bytes of one storage block: holds the usual request or response with its head in one read.
pub(crate) const BLOCK_BYTES: usize = 16 * 1024;
/// Storage where a block would mostly be empty, or wait long: the head of a request that is here in
/// full, or of a response whose client takes nothing now.
const SMALL_BYTES: usize = 1024;
const SPARING_BYTES: usize = 4 * 1024;
/// Blocks a worker keeps for the next taker: 4 MiB, about what 256 busy connections need.
const SPARE_BLOCKS_MAX: usize = 256;

/// Pipes a worker keeps for the next bulk transfer: two descriptors each.
const SPARE_PIPES_MAX: usize = 32;

/// The storage blocks and pipes that a worker's connections share.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    spare: RefCell<Vec<Vec<u8>>>,
    pipes: RefCell<Vec<Splice>>,
    /// The fewest spare pipes since the last [`Blocks::trim`]: so many were not needed.
    pipes_unused: Cell<usize>,
}

impl Blocks {
    fn take(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_else(|| vec![0; BLOCK_BYTES])
    }

    fn take_pipe(&self) -> Option<Splice> {
        let mut pipes = self.pipes.borrow_mut();
        let pipe = pipes.pop();
        self.pipes_unused.set(self.pipes_unused.get().min(pipes.len()));
        pipe.or_else(|| Splice::new().ok())
    }

    fn put_pipe(&self, pipe: Splice) {
        let mut pipes = self.pipes.borrow_mut();
        if pipes.len() < SPARE_PIPES_MAX {
            pipes.push(pipe);
        }
    }

    /// Closes the pipes that nobody took since the last time.
    pub(crate) fn trim(&self) {
        let mut pipes = self.pipes.borrow_mut();
        let keep = pipes.len() - self.pipes_unused.get().min(pipes.len());
        pipes.truncate(keep);
        self.pipes_unused.set(keep);
    }

    fn put(&self, block: Vec<u8>) {
        let mut spare = self.spare.borrow_mut();
        if block.len() == BLOCK_BYTES && spare.len() < SPARE_BLOCKS_MAX {
            spare.push(block);
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

    /// A pipe for what would have gone through this buffer; `None`: there is none to be had.
    pub(crate) fn take_pipe(&self) -> Option<Splice> {
        self.blocks.take_pipe()
    }

    /// Gives an empty pipe back.
    pub(crate) fn put_pipe(&self, pipe: Splice) {
        self.blocks.put_pipe(pipe);
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
        if self.storage.is_empty() {
            ready!(stream.poll_readable(cx))?;
        }
        // What is known to be little needs no block, until there is more of it.
        let waiting = stream.waiting();
        if self.storage.is_empty() || (self.is_empty() && waiting > Some(self.storage.len())) {
            self.storage = match waiting {
                Some(count) if count < BLOCK_BYTES / 2 => vec![0; count.max(SMALL_BYTES)],
                _ => self.blocks.take(),
            };
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
    use super::*;

    #[test]
    fn pipes_that_nobody_takes_are_closed() {
        let blocks = Blocks::default();
        let (first, second) = (blocks.take_pipe().unwrap(), blocks.take_pipe().unwrap());
        blocks.put_pipe(first);
        blocks.put_pipe(second);
        blocks.trim();
        assert_eq!(blocks.pipes.borrow().len(), 2, "both were in use since the last time");
        let first = blocks.take_pipe().unwrap();
        blocks.put_pipe(first);
        blocks.trim();
        assert_eq!(blocks.pipes.borrow().len(), 1, "one was enough");
        blocks.trim();
        assert!(blocks.pipes.borrow().is_empty());
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
        assert_eq!(blocks.spare.borrow().len(), 1);
        assert_eq!(blocks.take().len(), BLOCK_BYTES);
    }
}
