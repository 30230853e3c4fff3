//! Byte ranges inside the buffer that a head was parsed from.

/// A range of bytes, half the size of `Range<usize>`. A head is bounded far below 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// The caller keeps both ends below `u32::MAX`, see `HeadLimits::view`.
    pub(super) fn new(start: usize, end: usize) -> Span {
        debug_assert!(start <= end && end <= u32::MAX as usize);
        Span { start: start as u32, end: end as u32 }
    }

    /// The bytes meant. `buf` is the buffer that was parsed, or an exact copy of it.
    ///
    /// # Panics
    /// If `buf` is shorter than the buffer that was parsed.
    pub fn of(self, buf: &[u8]) -> &[u8] {
        &buf[self.start as usize..self.end as usize]
    }

    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    pub fn is_empty(self) -> bool {
        self.start == self.end
    }
}
