//! The sessions that no cookie carries: a table of bounded size that all workers share.
//!
//! For: finding the endpoint of a session, beginning one, moving one. No lock, no allocation, and
//! no spinning: every change is one compare-and-swap of one word, tried again a bounded number of
//! times.
//! Never: decides who serves; it holds numbers ([`super::slots`]) that stand for endpoints.
//!
//! The table is set-associative: a hash selects a set of [`WAYS`] words, two cache lines, and a
//! session is one of its words. Hyatt's lockless table (Hyatt and Mann, "A lock-less transposition
//! table implementation", 2002) pairs a data word with a check word and takes a pair that does not
//! match for a miss. For a cache a miss is harmless; here it would move a session, and two workers
//! that refresh one session in the same moment could leave such a pair. So everything is in one
//! word: 27 bits of the hash (beside those that selected the set), the endpoint's number, when it
//! was used last in seconds, and whether it has begun. Two of `max` clients have one word with a
//! probability of about 10^-7 for each new session; then they have one endpoint, no more.
//!
//! The hash is SipHash with a key of this process: who may choose values (headers, cookies) can
//! still not choose the set that they land in, and so cannot press out one victim's session.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use model::Instant;
use model::spec::SessionTableSpec;

use super::siphash::siphash;

pub(crate) struct SessionTable {
    sets: Box<[Set]>,
    /// Of the hash.
    key: [u64; 2],
    /// In seconds.
    ttl: u64,
    /// What was last used up to this second is due to be told to a store again: what was used in that
    /// very second may have been used before the store was back.
    retold_at: AtomicU64,
    /// Live sessions that others pressed out.
    evictions: AtomicU64,
}

/// Two lines of most processors' caches, which are fetched as a pair.
#[repr(align(128))]
#[derive(Default)]
struct Set([AtomicU64; WAYS]);

/// What a session is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionKey(pub(super) u64);

/// A number that stands for an endpoint; never 0.
pub(crate) type Slot = u16;

/// Words of a set. With as many sessions as the table is made for, 8 of the 16 are in use on
/// average, and 1 session in about 1,400 finds its set full (a Poisson distribution's tail).
const WAYS: usize = 16;

/// Sessions that the table is made for, for each set: 16 bytes of memory for each.
const SESSIONS_PER_SET: usize = 8;

/// How often a change looks again after another worker changed the same word in between.
const LOOKS_MAX: usize = 16;

/// The stamps of two workers' clocks may differ by this many seconds: a stamp that is so little
/// ahead is one of now.
const SKEW: u64 = 64;

/// A session in the table: [tag: 27][slot: 16][begun: 1][stamp: 20]. 0: an unused word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word(u64);

const STAMP_BITS: u32 = 20;
/// Seconds after which stamps begin again: 12 days, more than a session may be unused.
const STAMPS: u64 = 1 << STAMP_BITS;
const BEGUN: u64 = STAMPS;
const SLOT_SHIFT: u32 = STAMP_BITS + 1;
const TAG_SHIFT: u32 = SLOT_SHIFT + 16;

impl Word {
    fn new(key: SessionKey, slot: Slot, begun: bool, now: u64) -> Self {
        let begun = if begun { BEGUN } else { 0 };
        let stamp = now % STAMPS;
        Self(key.0 << TAG_SHIFT | u64::from(slot) << SLOT_SHIFT | begun | stamp)
    }

    fn is_of(self, key: SessionKey) -> bool {
        self.0 != 0 && self.0 >> TAG_SHIFT == key.0 << TAG_SHIFT >> TAG_SHIFT
    }

    fn slot(self) -> Slot {
        (self.0 >> SLOT_SHIFT) as Slot
    }

    fn has_begun(self) -> bool {
        self.0 & BEGUN != 0
    }

    /// Seconds since it was used.
    fn age(self, now: u64) -> u64 {
        let age = now.wrapping_sub(self.0) % STAMPS;
        if age >= STAMPS - SKEW { 0 } else { age }
    }

    fn used(self, now: u64) -> Self {
        let stamp = now % STAMPS;
        Self(self.0 & !(STAMPS - 1) | stamp)
    }
}

impl SessionTable {
    pub(crate) fn new(spec: &SessionTableSpec, key: [u64; 2]) -> Self {
        let sets = spec.max.div_ceil(SESSIONS_PER_SET).max(1);
        Self {
            sets: (0..sets).map(|_| Set::default()).collect(),
            key,
            ttl: spec.ttl.as_secs().max(1),
            retold_at: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    /// The key of a value that clients choose.
    pub(crate) fn key(&self, value: &[u8]) -> SessionKey {
        SessionKey(siphash(self.key, value))
    }

    fn set(&self, key: SessionKey) -> &[AtomicU64; WAYS] {
        // The high bits select the set; the low ones are the tag. The product is below the length.
        let at = ((u128::from(key.0) * self.sets.len() as u128) >> 64) as usize;
        &self.sets[at].0
    }

    /// The live word of this session, with its place. What is found to be over is cleared.
    fn look<'a>(
        &self,
        set: &'a [AtomicU64; WAYS],
        key: SessionKey,
        now: u64,
    ) -> Option<(&'a AtomicU64, Word)> {
        set.iter().find_map(|place| {
            let word = Word(place.load(Relaxed));
            if !word.is_of(key) {
                return None;
            }
            if word.age(now) > self.ttl {
                let _ = place.compare_exchange(word.0, 0, Relaxed, Relaxed);
                return None;
            }
            Some((place, word))
        })
    }

    /// Before it is used now: whether a store that it is shared by is to hear of it. That is so once
    /// in each quarter of its time, at its first use there (quarters of different sessions begin at
    /// different moments), and once after [`SessionTable::retell`].
    pub(crate) fn is_due(&self, key: SessionKey, now: Instant) -> bool {
        let now = seconds(now);
        let Some((_, word)) = self.look(self.set(key), key, now) else { return false };
        let last = now.saturating_sub(word.age(now));
        let quarter = (self.ttl / 4).max(1);
        let begins = key.0 % quarter;
        (last + begins) / quarter != (now + begins) / quarter
            || last <= self.retold_at.load(Relaxed)
    }

    /// Each session is due once more, at its next use.
    pub(crate) fn retell(&self, now: Instant) {
        self.retold_at.store(seconds(now), Relaxed);
    }

    /// Whether it has begun at `slot`.
    pub(crate) fn has_begun(&self, key: SessionKey, slot: Slot, now: Instant) -> bool {
        let word = self.look(self.set(key), key, seconds(now));
        word.is_some_and(|(_, word)| word.slot() == slot && word.has_begun())
    }

    /// Where the session is; this counts as a use of it.
    pub(crate) fn find(&self, key: SessionKey, now: Instant) -> Option<Slot> {
        let now = seconds(now);
        let (place, word) = self.look(self.set(key), key, now)?;
        if word.age(now) > 0 {
            // Whoever is faster has refreshed or moved it: both are as good.
            let _ = place.compare_exchange(word.0, word.used(now).0, Relaxed, Relaxed);
        }
        Some(word.slot())
    }

    /// The session is at `slot` now, if it was at `from` or nowhere. Answers whether it is; a
    /// session that another worker moved meanwhile stays there.
    pub(crate) fn change(
        &self,
        key: SessionKey,
        from: Option<Slot>,
        slot: Slot,
        begun: bool,
        now: Instant,
    ) -> bool {
        let now = seconds(now);
        let set = self.set(key);
        for _ in 0..LOOKS_MAX {
            let (place, old) = self.place_for(set, key, now);
            let is_known = old.is_of(key) && old.age(now) <= self.ttl;
            if is_known && old.slot() != slot && Some(old.slot()) != from {
                return false;
            }
            let has_begun = is_known && old.slot() == slot && old.has_begun();
            let new = Word::new(key, slot, begun || has_begun, now);
            if old == new {
                return true;
            }
            if place.compare_exchange(old.0, new.0, Relaxed, Relaxed).is_ok() {
                if old.0 != 0 && !is_known && old.age(now) <= self.ttl {
                    self.evictions.fetch_add(1, Relaxed);
                }
                return true;
            }
        }
        false
    }

    /// The word of this session; or else the first that is unused or over; or else the one that
    /// was not used for longest.
    ///
    /// Found in one pass: of two workers that begin one session, the second either meets it or
    /// finds, when it swaps, that its place was taken. (Only if a place before it became free in
    /// between are there two words, of which the first counts: as if the two had been one after
    /// the other, and moved.)
    fn place_for<'a>(
        &self,
        set: &'a [AtomicU64; WAYS],
        key: SessionKey,
        now: u64,
    ) -> (&'a AtomicU64, Word) {
        let worth = |word: Word| match word.age(now) {
            age if word.0 == 0 || age > self.ttl => u64::MAX,
            age => age,
        };
        let mut best = (&set[0], Word(set[0].load(Relaxed)));
        for place in set {
            let word = Word(place.load(Relaxed));
            if word.is_of(key) && word.age(now) <= self.ttl {
                return (place, word);
            }
            if worth(word) > worth(best.1) {
                best = (place, word);
            }
        }
        best
    }

    /// Forgets the session if it was to begin at `slot` and has not.
    pub(crate) fn forget_claim(&self, key: SessionKey, slot: Slot) {
        for place in self.set(key) {
            let word = Word(place.load(Relaxed));
            if word.is_of(key) && word.slot() == slot && !word.has_begun() {
                let _ = place.compare_exchange(word.0, 0, Relaxed, Relaxed);
            }
        }
    }

    fn places(&self) -> impl Iterator<Item = &AtomicU64> {
        self.sets.iter().flat_map(|set| &set.0)
    }

    /// Forgets all sessions of an endpoint whose number another one gets.
    pub(crate) fn forget_all_at(&self, slot: Slot) {
        for place in self.places() {
            let at_slot = |word| (word != 0 && Word(word).slot() == slot).then_some(0);
            let _ = place.fetch_update(Relaxed, Relaxed, at_slot);
        }
    }

    /// Live sessions, about: others come and go meanwhile. Clears what is over, so that no stamp
    /// gets so old that it looks new again.
    pub(crate) fn entries(&self, now: Instant) -> usize {
        let now = seconds(now);
        let live = |place: &&AtomicU64| {
            let word = Word(place.load(Relaxed));
            let over = word.0 != 0 && word.age(now) > self.ttl;
            if over {
                let _ = place.compare_exchange(word.0, 0, Relaxed, Relaxed);
            }
            word.0 != 0 && !over
        };
        self.places().filter(live).count()
    }

    pub(crate) fn evictions(&self) -> u64 {
        self.evictions.load(Relaxed)
    }

    /// Of memory, whatever is in it.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        std::mem::size_of_val(&*self.sets)
    }
}

fn seconds(now: Instant) -> u64 {
    now.as_nanos() / 1_000_000_000
}

#[cfg(test)]
mod tests;
