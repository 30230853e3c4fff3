//! Where two texts differ.

use std::ops::Range;

use super::section::Section;

/// The chunks of an old text outside of which a new text is the same.
pub(super) struct Stretch {
    /// Which they are. Never empty.
    pub(super) chunks: Range<usize>,
    /// Their bytes, in the old text.
    pub(super) old: Range<usize>,
    /// What stands there in the new text.
    pub(super) new: Range<usize>,
    /// The same with a neighbour on either side, where there is one.
    pub(super) read: Range<usize>,
    pub(super) has_left: bool,
    pub(super) has_right: bool,
    /// Behind `read` the next section begins.
    pub(super) is_followed: bool,
}

impl Stretch {
    /// `None` if the texts differ outside of the section, or at its borders. They do differ.
    pub(super) fn between(old: &str, new: &str, section: &Section) -> Option<Self> {
        let before = common_prefix(old.as_bytes(), new.as_bytes());
        let after = common_suffix(&old.as_bytes()[before..], &new.as_bytes()[before..]);
        // What stands before the first byte that differs may be continued by it, and what stands
        // behind the last may continue it.
        let first = section.at(before.checked_sub(1)?)?;
        let last = section.at(old.len() - after)?;
        let is_last = last + 1 == section.len();
        let chunks = first..last + 1;
        let old_bytes = section.start(first)..section.end(last);
        let moved = |at: usize| (at + new.len()).checked_sub(old.len());
        let new_bytes = old_bytes.start..moved(old_bytes.end)?;
        let from = section.start(first.saturating_sub(1));
        let to = section.end(if is_last { last } else { last + 1 });
        let is_followed = to == section.end(section.len() - 1) && to < old.len();
        let read = from..moved(to)?;
        // Both begin and end where a line does.
        let whole = |end: usize| new.as_bytes()[..end].ends_with(b"\n") || end == new.len();
        (new_bytes.start <= new_bytes.end && whole(new_bytes.end) && whole(read.end)).then_some(
            Self {
                chunks,
                old: old_bytes,
                new: new_bytes,
                read,
                has_left: first > 0,
                has_right: !is_last,
                is_followed,
            },
        )
    }

    /// Where a byte behind the stretch stands in the new text.
    pub(super) fn moved(&self, at: usize) -> usize {
        at - self.old.end + self.new.end
    }
}

/// Compared at once; then byte by byte.
const BLOCK: usize = 4096;

/// How many bytes two texts have in common from their beginning on.
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let blocks = a.chunks_exact(BLOCK).zip(b.chunks_exact(BLOCK)).take_while(|(a, b)| a == b);
    let done = blocks.count() * BLOCK;
    done + a[done..].iter().zip(&b[done..]).take_while(|(a, b)| a == b).count()
}

/// How many bytes they have in common up to their end.
fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    let blocks = a.rchunks_exact(BLOCK).zip(b.rchunks_exact(BLOCK)).take_while(|(a, b)| a == b);
    let done = blocks.count() * BLOCK;
    let (a, b) = (&a[..a.len() - done], &b[..b.len() - done]);
    done + a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_common_is_found_over_blocks() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7] {
            let a = vec![b'a'; length];
            assert_eq!((common_prefix(&a, &a), common_suffix(&a, &a)), (length, length));
            for at in [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK].into_iter().filter(|at| *at < length) {
                let mut b = a.clone();
                b[at] = b'b';
                assert_eq!((common_prefix(&a, &b), common_suffix(&a, &b)), (at, length - 1 - at));
                let (shorter, rest) = (&a[..at], length - at);
                assert_eq!(common_prefix(shorter, &a), at, "{rest} more");
                assert_eq!(common_suffix(shorter, &a), at, "{rest} more");
            }
        }
    }
}
