//! What one taker after the other uses, kept in between for the next: a worker's own, so without a
//! lock.

use std::cell::{Cell, RefCell};
use std::fmt;

/// The one that was used last is taken first: it is the likeliest to be in the processor's cache.
pub(crate) struct Spares<T> {
    spare: RefCell<Vec<T>>,
    /// The fewest since the last [`Spares::trim`]: so many were not needed.
    unused: Cell<usize>,
    most: usize,
}

impl<T> Spares<T> {
    /// Keeps `most` at most.
    pub(crate) fn new(most: usize) -> Self {
        Self { spare: RefCell::default(), unused: Cell::new(0), most }
    }

    pub(crate) fn take(&self) -> Option<T> {
        let mut spare = self.spare.borrow_mut();
        let taken = spare.pop();
        self.unused.set(self.unused.get().min(spare.len()));
        taken
    }

    pub(crate) fn put(&self, one: T) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < self.most {
            spare.push(one);
        }
    }

    /// Drops those that nobody took since the last time.
    pub(crate) fn trim(&self) {
        let mut spare = self.spare.borrow_mut();
        let keep = spare.len() - self.unused.get().min(spare.len());
        spare.truncate(keep);
        self.unused.set(keep);
    }

    pub(crate) fn len(&self) -> usize {
        self.spare.borrow().len()
    }
}

impl<T> fmt::Debug for Spares<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spares").field(&self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_takes_is_dropped_and_no_more_than_the_most_is_kept() {
        let spares = Spares::new(3);
        assert_eq!(spares.take(), None);
        (0..5).for_each(|number| spares.put(number));
        assert_eq!(spares.len(), 3);
        spares.trim();
        assert_eq!(spares.len(), 3, "all were in use since the last time");
        let last = spares.take();
        assert_eq!(last, Some(2));
        last.into_iter().for_each(|number| spares.put(number));
        spares.trim();
        assert_eq!(spares.len(), 1, "one was enough");
        spares.trim();
        assert_eq!(spares.len(), 0);
    }
}
