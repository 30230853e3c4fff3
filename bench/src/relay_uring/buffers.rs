//! Blocks of memory that are lent to the kernel in a ring: it takes the next one when bytes are
//! there, and gets it back when they have been sent on (`io_uring_register_buf_ring(3)`).

use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

/// What a ring of buffers has to be aligned to.
const PAGE_BYTES: usize = 4096;

#[derive(Clone)]
#[repr(align(4096))]
struct Page {
    _bytes: [u8; PAGE_BYTES],
}

const EMPTY: Page = Page { _bytes: [0; PAGE_BYTES] };

pub(super) struct Buffers {
    /// Entries, read by the kernel. The tail lies in the first one.
    ring: Vec<Page>,
    memory: Vec<Page>,
    block_bytes: u32,
    count: u16,
    /// Where the next block goes, modulo the count; the kernel knows of those before `told`.
    tail: u16,
    told: u16,
    /// By place in the ring, the block that was put there last; and by block, its place.
    places: Vec<u16>,
    place_of: Vec<u16>,
    /// By block, how many still read it; with none it is the kernel's.
    readers: Vec<u8>,
    /// Blocks that the kernel has and has not filled.
    home: usize,
}

impl Buffers {
    /// `count` has to be a power of two of at most 32,768.
    pub(super) fn new(count: u16, block_bytes: u32) -> Self {
        let pages = |bytes: usize| vec![EMPTY; bytes.div_ceil(PAGE_BYTES)];
        let number = usize::from(count);
        let mut buffers = Self {
            ring: pages(number * size_of::<BufRingEntry>()),
            memory: pages(number * block_bytes as usize),
            block_bytes,
            count,
            tail: 0,
            told: 0,
            places: vec![0; number],
            place_of: vec![0; number],
            readers: vec![0; number],
            home: 0,
        };
        (0..count).for_each(|block| buffers.lend(block));
        buffers.tell();
        buffers
    }

    /// Where the ring lies, and how many entries it has.
    pub(super) fn ring(&self) -> (u64, u16) {
        (self.ring.as_ptr() as u64, self.count)
    }

    /// All blocks as one piece of memory.
    pub(super) fn all(&self) -> libc::iovec {
        let iov_len = usize::from(self.count) * self.block_bytes as usize;
        libc::iovec { iov_base: self.memory.as_ptr().cast_mut().cast(), iov_len }
    }

    pub(super) fn block_bytes(&self) -> u32 {
        self.block_bytes
    }

    /// Blocks that the kernel has and has not filled.
    pub(super) fn home(&self) -> usize {
        self.home
    }

    pub(super) fn at(&self, block: u16, from: u32) -> *const u8 {
        let offset = usize::from(block) * self.block_bytes as usize + from as usize;
        assert!(offset < usize::from(self.count) * self.block_bytes as usize);
        self.memory.as_ptr().cast::<u8>().wrapping_add(offset)
    }

    /// The kernel has filled it, and one reads it.
    pub(super) fn take(&mut self, block: u16) {
        self.readers[usize::from(block)] = 1;
        self.home -= 1;
    }

    /// The one that the kernel fills after this one.
    pub(super) fn after(&self, block: u16) -> u16 {
        let place = self.place_of[usize::from(block)];
        self.places[usize::from((place + 1) % self.count)]
    }

    /// One more reads it.
    pub(super) fn hold(&mut self, block: u16) {
        self.readers[usize::from(block)] += 1;
    }

    /// One less reads it.
    pub(super) fn release(&mut self, block: u16) {
        let readers = &mut self.readers[usize::from(block)];
        *readers -= 1;
        if *readers == 0 {
            self.lend(block);
        }
    }

    fn lend(&mut self, block: u16) {
        let place = self.tail % self.count;
        let address = self.at(block, 0) as u64;
        let first = self.ring.as_mut_ptr().cast::<BufRingEntry>();
        // SAFETY: the ring has `count` entries. The kernel reads those before the tail it was
        // told, and there are as many places as blocks, so that this one is not among them.
        // Setting the fields one by one leaves alone the tail, which is the fourth of the first.
        let entry = unsafe { &mut *first.add(usize::from(place)) };
        entry.set_addr(address);
        entry.set_len(self.block_bytes);
        entry.set_bid(block);
        self.places[usize::from(place)] = block;
        self.place_of[usize::from(block)] = place;
        self.tail = self.tail.wrapping_add(1);
        self.home += 1;
    }

    /// Lets the kernel have what was given back since.
    pub(super) fn tell(&mut self) {
        if self.told == self.tail {
            return;
        }
        self.told = self.tail;
        let first = self.ring.as_mut_ptr().cast::<BufRingEntry>();
        // SAFETY: `first` is the ring's first entry, whose fourth field is the tail, aligned to
        // two bytes. The kernel reads it at any time, hence an atomic store.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(first).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
