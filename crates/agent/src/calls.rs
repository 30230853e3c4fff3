//! The picks that are outstanding: each is taken out exactly once, by its report, or by its age.
//!
//! A table of slots that never moves, in which two lists are threaded: all calls by age, and those
//! that share a place (what a report of Lars names in place of an id), which are alike, so the
//! oldest is taken. All operations take constant time, and once the table has grown to what is
//! outstanding at most, none allocates.

use std::collections::HashMap;
use std::hash::Hash;

use model::Instant;

/// Names one call. Of those that a table ever had, no two are equal, for practical purposes: the
/// upper half counts how often the slot, the lower half, was taken, from a number drawn at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallId(pub(crate) u64);

impl CallId {
    fn new(generation: u32, slot: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(slot))
    }

    fn slot(self) -> u32 {
        self.0 as u32
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

pub(crate) struct Calls<P, T> {
    slots: Vec<Slot<P, T>>,
    free: Vec<u32>,
    /// The ends of the list by age; [`NONE`]: it is empty.
    oldest: u32,
    newest: u32,
    /// The ends of the list of each place that has calls.
    places: HashMap<P, (u32, u32)>,
    first_generation: u32,
}

struct Slot<P, T> {
    generation: u32,
    call: Option<Call<P, T>>,
}

struct Call<P, T> {
    began: Instant,
    place: Option<P>,
    what: T,
    older: u32,
    newer: u32,
    /// Of the same place.
    next: u32,
}

const NONE: u32 = u32::MAX;

impl<P: Copy + Eq + Hash, T> Calls<P, T> {
    /// `first_generation`: any number; that of an earlier run should be another one.
    pub(crate) fn new(first_generation: u32) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            places: HashMap::new(),
            first_generation,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// `began` is not before that of any other call.
    pub(crate) fn insert(&mut self, began: Instant, place: Option<P>, what: T) -> CallId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: self.first_generation, call: None });
            // Who inserts bounds the table far below what 32 bits can number.
            self.slots.len() as u32 - 1
        });
        let older = std::mem::replace(&mut self.newest, slot);
        match self.call_mut(older) {
            Some(call) => call.newer = slot,
            None => self.oldest = slot,
        }
        if let Some(place) = place {
            let ends = self.places.entry(place).or_insert((slot, slot));
            let last = std::mem::replace(&mut ends.1, slot);
            if last != slot
                && let Some(call) = self.call_mut(last)
            {
                call.next = slot;
            }
        }
        let entry = &mut self.slots[slot as usize];
        entry.call = Some(Call { began, place, what, older, newer: NONE, next: NONE });
        CallId::new(entry.generation, slot)
    }

    /// The call of this id, unless it was taken before. Only for calls without a place.
    pub(crate) fn take(&mut self, id: CallId) -> Option<T> {
        let slot = self.slots.get(id.slot() as usize)?;
        let call = slot.call.as_ref().filter(|_| slot.generation == id.generation())?;
        if call.place.is_some() {
            return None;
        }
        self.remove(id.slot())
    }

    /// The oldest call of this place.
    pub(crate) fn take_first(&mut self, place: P) -> Option<T> {
        let (first, _) = *self.places.get(&place)?;
        self.remove(first)
    }

    /// The oldest of all calls, if it began at this moment or before.
    pub(crate) fn take_oldest(&mut self, until: Instant) -> Option<T> {
        let call = self.slots.get(self.oldest as usize)?.call.as_ref()?;
        if call.began > until { None } else { self.remove(self.oldest) }
    }

    /// Whatever is the oldest of its place is the first of the place's list, so that list is only
    /// ever shortened at its head.
    fn remove(&mut self, slot: u32) -> Option<T> {
        let entry = self.slots.get_mut(slot as usize)?;
        let call = entry.call.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(slot);
        match self.call_mut(call.older) {
            Some(older) => older.newer = call.newer,
            None => self.oldest = call.newer,
        }
        match self.call_mut(call.newer) {
            Some(newer) => newer.older = call.older,
            None => self.newest = call.older,
        }
        if let Some(place) = call.place {
            if call.next == NONE {
                self.places.remove(&place);
            } else if let Some(ends) = self.places.get_mut(&place) {
                ends.0 = call.next;
            }
        }
        Some(call.what)
    }

    fn call_mut(&mut self, slot: u32) -> Option<&mut Call<P, T>> {
        self.slots.get_mut(slot as usize)?.call.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use model::Rng;

    use super::*;

    fn at(second: u64) -> Instant {
        Instant::from_nanos(second * 1_000_000_000)
    }

    #[test]
    fn a_call_is_taken_once() {
        let mut calls: Calls<u8, &str> = Calls::new(7);
        let a = calls.insert(at(1), None, "a");
        let b = calls.insert(at(1), None, "b");
        assert_eq!((calls.take(a), calls.take(a)), (Some("a"), None));
        // The slot is used again, under another id.
        let c = calls.insert(at(2), None, "c");
        assert_eq!((c.slot(), calls.take(a)), (a.slot(), None));
        assert_eq!(calls.take_oldest(at(1)), Some("b"));
        assert_eq!((calls.take_oldest(at(1)), calls.take(b)), (None, None));
        assert_eq!((calls.take(c), calls.len()), (Some("c"), 0));
        assert_eq!(calls.take(CallId(u64::MAX)), None);
    }

    #[test]
    fn of_a_place_the_oldest_is_taken() {
        let mut calls: Calls<u8, u32> = Calls::new(0);
        let id = calls.insert(at(0), Some(1), 1);
        calls.insert(at(0), Some(2), 2);
        calls.insert(at(0), Some(1), 3);
        assert_eq!(calls.take(id), None, "a call with a place has no id for callers");
        assert_eq!(calls.take_oldest(at(0)), Some(1));
        assert_eq!(calls.take_first(1), Some(3));
        assert_eq!((calls.take_first(1), calls.take_first(9)), (None, None));
        assert_eq!((calls.take_first(2), calls.len()), (Some(2), 0));
    }

    /// Against two plain queues, over many random courses.
    #[test]
    fn the_lists_are_those_of_a_plain_table() {
        for seed in 0..200 {
            let mut rng = Rng::from_seed(seed);
            let mut calls: Calls<u64, u64> = Calls::new(rng.next_u64() as u32);
            // Where it stands, what it is, its id, when it began; the oldest first.
            let mut plain: VecDeque<(Option<u64>, u64, CallId, Instant)> = VecDeque::new();
            for step in 0..400 {
                let now = at(step / 4);
                match rng.below(5) {
                    0 | 1 => {
                        let place = Some(rng.below(4)).filter(|place| *place > 0);
                        let id = calls.insert(now, place, step);
                        plain.push_back((place, step, id, now));
                    }
                    2 if !plain.is_empty() => {
                        let at = rng.below(plain.len() as u64) as usize;
                        let (place, what, id, _) = plain[at];
                        let expected = place.is_none().then_some(what);
                        assert_eq!(calls.take(id), expected, "seed {seed}, step {step}");
                        if expected.is_some() {
                            plain.remove(at);
                        }
                    }
                    3 => {
                        let place = 1 + rng.below(3);
                        let first = plain.iter().position(|call| call.0 == Some(place));
                        let expected = first.and_then(|at| plain.remove(at)).map(|call| call.1);
                        assert_eq!(calls.take_first(place), expected, "seed {seed}, step {step}");
                    }
                    _ => {
                        let until = at((step / 4).saturating_sub(rng.below(20)));
                        let is_due = plain.front().is_some_and(|call| call.3 <= until);
                        let expected = if is_due { plain.pop_front() } else { None };
                        let expected = expected.map(|call| call.1);
                        assert_eq!(calls.take_oldest(until), expected, "seed {seed}, step {step}");
                    }
                }
                assert_eq!(calls.len(), plain.len());
            }
            for (_, what, ..) in plain {
                assert_eq!(calls.take_oldest(Instant::FAR_FUTURE), Some(what), "seed {seed}");
            }
            assert!(calls.places.is_empty() && calls.len() == 0);
        }
    }
}
