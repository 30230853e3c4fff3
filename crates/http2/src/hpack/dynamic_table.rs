//! The dynamic table of a decoder (RFC 7541 section 2.3.2).

use std::collections::VecDeque;

use super::ENTRY_OVERHEAD;

/// Entries by age, with their bytes in one piece of memory. It takes none before the first entry.
#[derive(Debug)]
pub(super) struct DynamicTable {
    /// The newest in front.
    entries: VecDeque<Entry>,
    /// Names and values in the order of their insertion; those of evicted entries in front are
    /// dropped once they are as many as the table may hold.
    bytes: Vec<u8>,
    /// How many bytes were dropped from the front of `bytes` so far.
    dropped: usize,
    size: usize,
    size_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Since the table was made; wraps with `dropped`.
    start: usize,
    name: u32,
    value: u32,
}

impl DynamicTable {
    pub(super) fn new(size_max: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: Vec::new(), dropped: 0, size: 0, size_max }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// RFC 7541 section 4.3: entries are evicted until the rest fits.
    pub(super) fn resize(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.evict(size_max);
    }

    /// The entry of this age: 0 is the newest.
    pub(super) fn get(&self, age: usize) -> Option<(&[u8], &[u8])> {
        let entry = self.entries.get(age)?;
        let start = entry.start.wrapping_sub(self.dropped);
        let value = start + entry.name as usize;
        Some((&self.bytes[start..value], &self.bytes[value..value + entry.value as usize]))
    }

    /// RFC 7541 section 4.4: what is larger than the table empties it, which is no error.
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        if size > self.size_max {
            self.evict(0);
            return;
        }
        self.evict(self.size_max - size);
        self.compact();
        let start = self.dropped.wrapping_add(self.bytes.len());
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value);
        // Both are at most `size_max`, far below 2^32.
        let entry = Entry { start, name: name.len() as u32, value: value.len() as u32 };
        self.entries.push_front(entry);
        self.size += size;
    }

    fn evict(&mut self, size: usize) {
        while self.size > size
            && let Some(entry) = self.entries.pop_back()
        {
            self.size -= entry.name as usize + entry.value as usize + ENTRY_OVERHEAD;
        }
    }

    /// Drops the bytes of evicted entries, so seldom that it costs little for each byte.
    fn compact(&mut self) {
        let first = match self.entries.back() {
            Some(oldest) => oldest.start.wrapping_sub(self.dropped),
            None => self.bytes.len(),
        };
        if first > 0 && first >= self.size_max / 2 {
            self.bytes.drain(..first);
            self.dropped = self.dropped.wrapping_add(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_evicted_and_memory_is_bounded() {
        let mut table = DynamicTable::new(200);
        for number in 0..10_000_u32 {
            let value = number.to_string();
            table.insert(b"name", value.as_bytes());
            assert_eq!(table.get(0), Some((&b"name"[..], value.as_bytes())));
            assert!(table.size() <= 200 && table.bytes.len() <= 400, "{}", table.bytes.len());
        }
        assert_eq!(table.len(), 5);
        assert_eq!(table.get(4), Some((&b"name"[..], &b"9995"[..])));
        assert_eq!(table.get(5), None);
        table.resize(50);
        assert_eq!((table.len(), table.size()), (1, 40));
        table.insert(&[b'x'; 19], b"");
        assert_eq!((table.len(), table.size()), (0, 0), "larger than the table");
    }
}
