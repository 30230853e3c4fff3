//! A decoded list of fields.

use crate::hpack::ENTRY_OVERHEAD;

/// The fields of one field section, in order, in one piece of memory that is used again for the
/// next.
#[derive(Debug, Default)]
pub struct Fields {
    text: Vec<u8>,
    lines: Vec<Line>,
    /// As RFC 9113 section 6.5.2 counts it, of all fields, kept or not.
    size: usize,
    size_max: usize,
    count_max: usize,
    over: bool,
}

/// Where a field stands in the text: the value follows its name.
#[derive(Clone, Copy, Debug)]
struct Line {
    start: u32,
    value: u32,
    end: u32,
}

impl Fields {
    /// Forgets what it holds. What comes next may have `count_max` fields, whose sizes sum up to
    /// `size_max`; beyond it fields are counted, and not kept.
    pub fn begin(&mut self, size_max: usize, count_max: usize) {
        self.text.clear();
        self.lines.clear();
        self.size = 0;
        self.size_max = size_max.min(u32::MAX as usize);
        self.count_max = count_max;
        self.over = false;
    }

    /// Gives back the memory that an unusually large list took.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        if self.text.capacity() > bytes {
            self.text = Vec::new();
            self.lines = Vec::new();
        }
    }

    /// Where the next field is to be written: its name, then its value, before [`Fields::commit`].
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    pub(crate) fn start(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn written(&self, start: usize) -> &[u8] {
        &self.text[start..]
    }

    /// Takes what was written since `start` for a field whose value begins at `value`. Past the
    /// bounds it is dropped.
    pub(crate) fn commit(&mut self, start: usize, value: usize) {
        let end = self.text.len();
        self.size = self.size.saturating_add(end - start + ENTRY_OVERHEAD);
        self.over |= self.size > self.size_max || self.lines.len() >= self.count_max;
        if self.over {
            self.text.truncate(start);
            return;
        }
        // `size_max` keeps all of it below 2^32.
        self.lines.push(Line { start: start as u32, value: value as u32, end: end as u32 });
    }

    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        let start = self.text.len();
        // Nothing is copied that would be dropped again: one byte of a block may stand for 4 KiB.
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        if self.over || self.size + size > self.size_max {
            self.size = self.size.saturating_add(size);
            self.over = true;
            return;
        }
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(value);
        self.commit(start, start + name.len());
    }

    /// Were there more, or larger ones, than the bounds allow? Then some are missing.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// The size of the whole list (RFC 9113 section 6.5.2), what is missing included.
    pub fn size(&self) -> usize {
        self.size
    }

    pub fn len(&self) -> usize {
        self.lines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.lines.iter().map(|line| self.of(line))
    }

    /// # Panics
    /// If there are no more than `index` fields.
    pub fn get(&self, index: usize) -> (&[u8], &[u8]) {
        self.of(&self.lines[index])
    }

    fn of(&self, line: &Line) -> (&[u8], &[u8]) {
        let (start, value, end) = (line.start as usize, line.value as usize, line.end as usize);
        (&self.text[start..value], &self.text[value..end])
    }
}
