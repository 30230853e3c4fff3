use std::sync::atomic::{
    AtomicU8, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Relaxed},
};

use model::Instant;

/// Which endpoints' answers may be used, how often yet, and since when. What they said is in their
/// `Estimate`s. Workers may meet in it: then one of two changes is lost, which costs a use or an
/// answer, never an inconsistency.
pub(super) struct Pool {
    slots: Box<[Slot]>,
    /// Uses of an answer, on average.
    reuses: f64,
    reuses_are_whole: bool,
    inserted: AtomicU64,
}

#[derive(Default)]
struct Slot {
    /// 0, or position and uses of a [`Place`].
    word: AtomicU64,
    /// When the answer came, in nanoseconds; 0 if there is none. Set after the word: who comes
    /// between may take the answer for an older one.
    at: AtomicU64,
}

/// An answer in the pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    index: usize,
    word: u64,
    pub(super) position: u32,
    /// Uses left, at least 1.
    pub(super) uses: u32,
    pub(super) at: Instant,
}

/// Where an endpoint's answer is in the pool, if it still is.
#[derive(Default)]
pub(super) struct Whereabouts(AtomicU8);

impl Pool {
    /// At most 256 places.
    pub(super) fn new(places: usize, reuses: f64) -> Self {
        Self {
            slots: (0..places).map(|_| Slot::default()).collect(),
            reuses,
            reuses_are_whole: reuses.fract() == 0.0,
            inserted: AtomicU64::new(0),
        }
    }

    pub(super) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let word = slot.word.load(Relaxed);
            (word != 0).then(|| Place {
                index,
                word,
                position: (word >> 32) as u32,
                uses: word as u32,
                at: Instant::from_nanos(slot.at.load(Relaxed)),
            })
        })
    }

    /// Answers of another pool, at the beginning: position, uses, and when they came.
    pub(super) fn fill(&self, answers: impl Iterator<Item = (u32, u32, Instant)>) {
        for (slot, (position, uses, at)) in self.slots.iter().zip(answers) {
            slot.word.store(word(position, uses), Relaxed);
            slot.at.store(at.as_nanos(), Relaxed);
        }
    }

    /// In place of an earlier answer from there, or else in a free place, or else in that of the
    /// oldest.
    pub(super) fn insert(&self, position: u32, now: Instant, whereabouts: &Whereabouts) {
        let before = usize::from(whereabouts.0.load(Relaxed));
        let held = self.slots.get(before).map_or(0, |slot| slot.word.load(Relaxed));
        let (index, held) = if held != 0 && (held >> 32) as u32 == position {
            (before, held)
        } else {
            let Some(index) = self.oldest_or_free() else { return };
            whereabouts.0.store(index as u8, Relaxed);
            (index, self.slots[index].word.load(Relaxed))
        };
        let slot = &self.slots[index];
        let word = word(position, self.next_uses());
        if slot.word.compare_exchange(held, word, AcqRel, Relaxed).is_ok() {
            slot.at.store(now.as_nanos().max(1), Relaxed);
        }
    }

    /// `None` only if there are no places.
    fn oldest_or_free(&self) -> Option<usize> {
        let (mut oldest, mut earliest) = (None, u64::MAX);
        for (index, slot) in self.slots.iter().enumerate() {
            let at = slot.at.load(Relaxed);
            if at < earliest {
                (oldest, earliest) = (Some(index), at);
            }
        }
        oldest
    }

    pub(super) fn remove_oldest(&self) {
        let oldest = self.places().reduce(|a, b| if b.at < a.at { b } else { a });
        oldest.into_iter().for_each(|place| self.clear(place));
    }

    /// Whole numbers, spread so that they are `reuses` on average.
    fn next_uses(&self) -> u32 {
        if self.reuses_are_whole {
            return self.reuses as u32;
        }
        // Beyond 2^32 insertions the fraction would lose its precision.
        let number = (self.inserted.fetch_add(1, Relaxed) as u32) as f64;
        let uses = ((number + 1.0) * self.reuses) as u64 - (number * self.reuses) as u64;
        (uses as u32).max(1)
    }

    pub(super) fn use_up(&self, place: Place) {
        let left = match place.uses {
            0 | 1 => 0,
            uses => word(place.position, uses - 1),
        };
        self.replace(place, left);
    }

    pub(super) fn clear(&self, place: Place) {
        self.replace(place, 0);
    }

    fn replace(&self, place: Place, word: u64) {
        // Somebody else was quicker: that is as good.
        let slot = &self.slots[place.index];
        let replaced = slot.word.compare_exchange(place.word, word, AcqRel, Relaxed).is_ok();
        if replaced && word == 0 {
            slot.at.store(0, Relaxed);
        }
    }
}

fn word(position: u32, uses: u32) -> u64 {
    u64::from(position) << 32 | u64::from(uses)
}

/// The distribution of requests in flight (per weight), over the last answers.
pub(super) struct SeenLoads {
    /// Bits of `f32`, which compare as the numbers do, for none is negative.
    last: [AtomicU32; SEEN],
    added: AtomicU32,
    quantile: f64,
    /// Bits of an `f32`: the quantile of them, as it was worked out last.
    hot_beyond: AtomicU32,
    /// How many of them are less than that, and no more than that. While the rank of the quantile is
    /// between, it is the quantile still. Workers who meet here may miscount; see [`SEEN`].
    less: AtomicU32,
    no_more: AtomicU32,
}

/// The paper leaves open how many. At 3 probes per request they are of the last 43 requests. Once in
/// so many the quantile is worked out in any case.
const SEEN: usize = 128;

/// Once in so many answers it is looked whether the quantile is another one.
const EVERY: u32 = 8;

/// But each time until there are so many.
const SEEN_FEW: u32 = 32;

impl SeenLoads {
    pub(super) fn new(quantile: f64) -> Self {
        Self {
            last: [const { AtomicU32::new(0) }; SEEN],
            added: AtomicU32::new(0),
            quantile,
            hot_beyond: AtomicU32::new(f32::INFINITY.to_bits()),
            less: AtomicU32::new(0),
            no_more: AtomicU32::new(0),
        }
    }

    /// What has more is hot. Infinite while nothing was seen.
    pub(super) fn hot_beyond(&self) -> f32 {
        f32::from_bits(self.hot_beyond.load(Relaxed))
    }

    pub(super) fn add(&self, load: f32) {
        let added = self.added.fetch_add(1, Relaxed);
        let index = added as usize % SEEN;
        let (new, hot) = (load.to_bits(), self.hot_beyond.load(Relaxed));
        let old = self.last[index].load(Relaxed);
        self.last[index].store(new, Relaxed);
        if added < SEEN as u32 {
            if added < SEEN_FEW || added.is_multiple_of(EVERY) {
                self.work_out(added as usize + 1);
            }
            return;
        }
        move_by(&self.less, new < hot, old < hot);
        move_by(&self.no_more, new <= hot, old <= hot);
        if added.is_multiple_of(EVERY) {
            let rank = self.rank(SEEN) as u32;
            let is_still = self.less.load(Relaxed) < rank && rank <= self.no_more.load(Relaxed);
            if !is_still || added.is_multiple_of(SEEN as u32) {
                self.work_out(SEEN);
            }
        }
    }

    fn rank(&self, count: usize) -> usize {
        let rank = self.quantile * count as f64;
        // Rounded up.
        let whole = rank as usize;
        (whole + usize::from(rank > whole as f64)).clamp(1, count)
    }

    /// Of the first so many: it costs as much as a pick.
    #[cold]
    fn work_out(&self, count: usize) {
        let mut loads = [0; SEEN];
        for (load, seen) in loads.iter_mut().zip(&self.last) {
            *load = seen.load(Relaxed);
        }
        let loads = &mut loads[..count];
        let (_, hot, _) = loads.select_nth_unstable(self.rank(count) - 1);
        let hot = *hot;
        self.hot_beyond.store(hot, Relaxed);
        let counted = |holds: fn(u32, u32) -> bool| {
            self.last.iter().filter(|seen| holds(seen.load(Relaxed), hot)).count() as u32
        };
        self.less.store(counted(|load, hot| load < hot), Relaxed);
        self.no_more.store(counted(|load, hot| load <= hot), Relaxed);
    }
}

/// One came for which it holds or not, in place of one for which it held or not.
fn move_by(count: &AtomicU32, comes: bool, went: bool) {
    if comes != went {
        let step = if comes { 1 } else { u32::MAX };
        count.fetch_add(step, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(pool: &Pool) -> Vec<(u32, u32)> {
        pool.places().map(|place| (place.position, place.uses)).collect()
    }

    #[test]
    fn one_place_for_an_endpoint_and_the_oldest_makes_room() {
        let pool = Pool::new(2, 2.0);
        let whereabouts: [Whereabouts; 4] = Default::default();
        let insert = |position: u32, at: u64| {
            pool.insert(position, Instant::from_nanos(at), &whereabouts[position as usize]);
        };
        insert(0, 10);
        insert(1, 20);
        assert_eq!(held(&pool), [(0, 2), (1, 2)]);
        pool.use_up(pool.places().next().unwrap());
        assert_eq!(held(&pool), [(0, 1), (1, 2)]);
        insert(0, 30);
        assert_eq!(held(&pool), [(0, 2), (1, 2)], "a new answer of the same");
        insert(3, 40);
        assert_eq!(held(&pool), [(0, 2), (3, 2)], "in place of the oldest");
        let place = pool.places().next().unwrap();
        pool.clear(place);
        pool.clear(place);
        assert_eq!(held(&pool), [(3, 2)]);
        insert(2, 50);
        assert_eq!(held(&pool), [(2, 2), (3, 2)], "in a free place");
        insert(1, 60);
        assert_eq!(held(&pool), [(2, 2), (1, 2)], "where it was is another one now");
        pool.remove_oldest();
        assert_eq!(held(&pool), [(1, 2)]);
        pool.remove_oldest();
        pool.remove_oldest();
        assert_eq!(held(&pool), []);
    }

    #[test]
    fn uses_are_whole_numbers_of_the_right_mean() {
        for reuses in [1.0, 1.32, 2.75, 16.0] {
            let pool = Pool::new(1, reuses);
            let total: u32 = (0..1000).map(|_| pool.next_uses()).sum();
            assert!((f64::from(total) / 1000.0 - reuses).abs() < 0.01, "{reuses}: {total}");
        }
    }

    #[test]
    fn hot_is_beyond_the_quantile_of_the_last() {
        let seen = SeenLoads::new(0.84);
        assert_eq!(seen.hot_beyond(), f32::INFINITY);
        (0..EVERY * 100).for_each(|_| seen.add(7.0));
        assert_eq!(seen.hot_beyond(), 7.0);
        // 0 to 99 in turn: of the last 128, 28 come twice.
        (0..1001u16).for_each(|number| seen.add(f32::from(number % 100)));
        assert!((80.0..90.0).contains(&seen.hot_beyond()), "{}", seen.hot_beyond());
    }

    /// What is counted along is what sorting says, each time that it is looked at.
    #[test]
    fn the_quantile_is_exact_each_time() {
        let mut rng = model::Rng::from_seed(3);
        for (quantile, values) in [(0.84, 5), (0.5, 40), (0.99, 1000), (0.0, 3), (1.0, 10)] {
            let seen = SeenLoads::new(quantile);
            let mut all: Vec<f32> = Vec::new();
            for added in 0..3000u32 {
                // It drifts, so that the quantile does.
                let load = (rng.below(values) + u64::from(added / 100)) as f32 / 3.0;
                seen.add(load);
                all.push(load);
                if added.is_multiple_of(EVERY) {
                    let mut last = all[all.len().saturating_sub(SEEN)..].to_vec();
                    last.sort_unstable_by(f32::total_cmp);
                    let rank = (quantile * last.len() as f64).ceil() as usize;
                    assert_eq!(seen.hot_beyond(), last[rank.max(1) - 1], "{quantile}, {added}");
                }
            }
        }
    }
}
