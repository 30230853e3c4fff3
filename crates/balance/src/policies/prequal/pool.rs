use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Relaxed},
};

use model::Instant;

/// Which endpoints' answers may be used, and how often yet. What they said is in their
/// `Estimate`s. Workers may meet in it: then one of two changes is lost, which costs a use or an
/// answer, never an inconsistency.
pub(super) struct Pool {
    /// 0, or a [`Place`].
    places: Box<[AtomicU64]>,
    /// Uses of an answer, on average.
    reuses: f64,
    inserted: AtomicU64,
}

/// An answer in the pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    index: usize,
    word: u64,
    pub(super) position: u32,
    /// Uses left, at least 1.
    pub(super) uses: u32,
}

impl Pool {
    pub(super) fn new(places: usize, reuses: f64) -> Self {
        let places = (0..places).map(|_| AtomicU64::new(0)).collect();
        Self { places, reuses, inserted: AtomicU64::new(0) }
    }

    pub(super) fn places(&self) -> impl Iterator<Item = Place> + '_ {
        self.places.iter().enumerate().filter_map(|(index, place)| {
            let word = place.load(Relaxed);
            (word != 0).then_some(Place {
                index,
                word,
                position: (word >> 32) as u32,
                uses: word as u32,
            })
        })
    }

    /// Answers of another pool, at the beginning.
    pub(super) fn fill(&self, answers: impl Iterator<Item = (u32, u32)>) {
        for (place, (position, uses)) in self.places.iter().zip(answers) {
            place.store(word(position, uses), Relaxed);
        }
    }

    /// In place of an earlier answer from there, or else in a free place, or else in that of the
    /// oldest.
    pub(super) fn insert(&self, position: u32, answered_at: impl Fn(u32) -> Instant) {
        let mut chosen: Option<(Option<Instant>, usize, u64)> = None;
        for (index, place) in self.places.iter().enumerate() {
            let word = place.load(Relaxed);
            let holder = (word >> 32) as u32;
            if word != 0 && holder == position {
                chosen = Some((None, index, word));
                break;
            }
            let at = (word != 0).then(|| answered_at(holder));
            if chosen.is_none_or(|(earliest, ..)| at < earliest) {
                chosen = Some((at, index, word));
            }
        }
        if let Some((_, index, before)) = chosen {
            let word = word(position, self.next_uses());
            let _ = self.places[index].compare_exchange(before, word, AcqRel, Relaxed);
        }
    }

    /// Whole numbers, spread so that they are `reuses` on average.
    fn next_uses(&self) -> u32 {
        if self.reuses.fract() == 0.0 {
            return self.reuses as u32;
        }
        // Beyond 2^32 insertions the fraction would lose its precision.
        let number = (self.inserted.fetch_add(1, Relaxed) as u32) as f64;
        let uses = ((number + 1.0) * self.reuses).floor() - (number * self.reuses).floor();
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
        let _ = self.places[place.index].compare_exchange(place.word, word, AcqRel, Relaxed);
    }
}

fn word(position: u32, uses: u32) -> u64 {
    u64::from(position) << 32 | u64::from(uses)
}

/// The distribution of requests in flight (per weight), over the last answers.
pub(super) struct SeenLoads {
    /// Bits of `f32`.
    last: [AtomicU32; SEEN],
    added: AtomicU32,
    quantile: f64,
    /// Bits of an `f32`: the quantile of them.
    hot_beyond: AtomicU32,
}

/// The paper leaves open how many. At 3 probes per request they are of the last 43 requests.
const SEEN: usize = 128;

/// The quantile is worked out once in so many answers: it costs as much as ten picks.
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
        }
    }

    /// What has more is hot. Infinite while nothing was seen.
    pub(super) fn hot_beyond(&self) -> f32 {
        f32::from_bits(self.hot_beyond.load(Relaxed))
    }

    pub(super) fn add(&self, load: f32) {
        let added = self.added.fetch_add(1, Relaxed);
        self.last[added as usize % SEEN].store(load.to_bits(), Relaxed);
        if added < SEEN_FEW || added.is_multiple_of(EVERY) {
            let count = (added as usize + 1).min(SEEN);
            let mut loads = [0.0; SEEN];
            for (load, seen) in loads.iter_mut().zip(&self.last) {
                *load = f32::from_bits(seen.load(Relaxed));
            }
            let rank = ((self.quantile * count as f64).ceil() as usize).clamp(1, count);
            let (_, hot, _) = loads[..count].select_nth_unstable_by(rank - 1, f32::total_cmp);
            self.hot_beyond.store(hot.to_bits(), Relaxed);
        }
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
        let at = |position: u32| Instant::from_nanos([30, 10, 20, 40][position as usize]);
        pool.insert(0, at);
        pool.insert(1, at);
        assert_eq!(held(&pool), [(0, 2), (1, 2)]);
        pool.use_up(pool.places().next().unwrap());
        assert_eq!(held(&pool), [(0, 1), (1, 2)]);
        pool.insert(0, at);
        assert_eq!(held(&pool), [(0, 2), (1, 2)], "a new answer of the same");
        pool.insert(3, at);
        assert_eq!(held(&pool), [(0, 2), (3, 2)], "in place of the oldest");
        let place = pool.places().next().unwrap();
        pool.clear(place);
        pool.clear(place);
        assert_eq!(held(&pool), [(3, 2)]);
        pool.insert(2, at);
        assert_eq!(held(&pool), [(2, 2), (3, 2)], "in a free place");
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
}
