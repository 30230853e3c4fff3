use std::collections::BTreeMap;

use model::EndpointId;

use super::table::Slot;

/// The numbers that stand for endpoints in a [`super::table::SessionTable`]. An id keeps its
/// number after its endpoint left, so that what comes back under the same id is known, until all
/// numbers were given; then they are given again, the oldest first.
#[derive(Debug)]
pub(crate) struct Slots {
    by_id: BTreeMap<EndpointId, Slot>,
    /// Whose number `at + 1` is.
    ids: Vec<EndpointId>,
    max: usize,
    /// Where to look for a number that is free again.
    next: usize,
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self::with_max(usize::from(Slot::MAX))
    }

    fn with_max(max: usize) -> Self {
        Self { by_id: BTreeMap::new(), ids: Vec::new(), max, next: 0 }
    }

    /// The number of this id, if it has one or gets one. One that was another's before, who is
    /// not `in_use`, is told to `taken` first. `None`: all numbers are in use.
    pub(crate) fn of(
        &mut self,
        id: &EndpointId,
        in_use: impl Fn(&EndpointId) -> bool,
        taken: impl FnOnce(Slot),
    ) -> Option<Slot> {
        if let Some(slot) = self.by_id.get(id) {
            return Some(*slot);
        }
        if self.ids.len() < self.max {
            self.ids.push(id.clone());
            let slot = self.ids.len() as Slot;
            self.by_id.insert(id.clone(), slot);
            return Some(slot);
        }
        for _ in 0..self.max {
            let at = self.next;
            self.next = (self.next + 1) % self.max;
            if in_use(&self.ids[at]) {
                continue;
            }
            let slot = (at + 1) as Slot;
            taken(slot);
            let former = std::mem::replace(&mut self.ids[at], id.clone());
            self.by_id.remove(&former);
            self.by_id.insert(id.clone(), slot);
            return Some(slot);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_kept_and_given_again_only_when_all_are_gone() {
        let mut slots = Slots::with_max(3);
        let mut take = |id: &str, in_use: &[&str]| {
            let mut taken = None;
            let in_use = |id: &EndpointId| in_use.contains(&id.as_str());
            let slot = slots.of(&id.into(), in_use, |slot| taken = Some(slot));
            (slot, taken)
        };
        assert_eq!(take("a", &[]), (Some(1), None));
        assert_eq!(take("b", &["a"]), (Some(2), None));
        assert_eq!(take("a", &["b"]), (Some(1), None), "it came back");
        assert_eq!(take("c", &["a", "b"]), (Some(3), None));
        assert_eq!(take("d", &["a", "c"]), (Some(2), Some(2)), "b is gone");
        assert_eq!(take("e", &["a", "c", "d"]), (None, None), "all are in use");
        assert_eq!(take("b", &["c", "d"]), (Some(1), Some(1)));
        assert_eq!(take("d", &[]), (Some(2), None));
    }
}
