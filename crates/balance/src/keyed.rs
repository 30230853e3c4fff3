//! What the hash policies share: their options, how a key is mixed, and bounded loads.
//!
//! A hash policy orders the endpoints for each key, the same in every process: by the identities
//! of endpoints, never by their positions. The first of that order is the key's home. It serves
//! unless it was tried already or has its share of the load; then the next of the order is asked
//! (Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads", 2016: no
//! endpoint has more than `balance_factor` times the average in flight for its weight, and a
//! change of endpoints still moves few keys).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering::Relaxed};

use model::vocabulary::{OptionDefault, OptionInfo, OptionKind};
use model::{Load, Rng};

use crate::usable::Usable;
use crate::{Candidate, Options, PickRequest};

pub(crate) const KEY: OptionInfo = OptionInfo {
    name: "key",
    summary: "what requests are kept together by; those without it go by chance",
    kind: OptionKind::Key,
    default: OptionDefault::Text("source"),
};

pub(crate) const BALANCE_FACTOR: OptionInfo = OptionInfo {
    name: "balance_factor",
    summary: "an endpoint with so many times the average in flight passes keys on; 0: never",
    kind: OptionKind::Float { min: 0.0, max: 10.0 },
    default: OptionDefault::Float(1.25),
};

pub(crate) const ALWAYS_ALLOWED: OptionInfo = OptionInfo {
    name: "always_allowed",
    summary: "an endpoint with fewer in flight than this passes no key on",
    kind: OptionKind::Integer { min: 0, max: 65_535 },
    default: OptionDefault::Integer(8),
};

/// The two options of bounded loads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BoundOptions {
    /// `balance_factor` in thousandths; 0: no bound.
    factor_milli: u64,
    always_allowed: u32,
}

/// A factor of 1 would leave no room at all, and keys would be passed round for ever: what is
/// above 0 counts as at least this, in thousandths.
const FACTOR_MIN_MILLI: u64 = 1050;

impl BoundOptions {
    pub(crate) fn of(options: Options<'_>) -> Self {
        let milli = (options.float("balance_factor") * 1000.0).round() as u64;
        Self {
            factor_milli: if milli == 0 { 0 } else { milli.max(FACTOR_MIN_MILLI) },
            always_allowed: options.integer("always_allowed") as u32,
        }
    }
}

/// The finisher of SplitMix64: every bit of the result depends on every bit of `x`.
pub(crate) fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The hash of the request's key, or a number by chance if it has none.
pub(crate) fn key_hash(request: &PickRequest<'_>, rng: &mut Rng) -> u64 {
    // Added, so that the key 0 is none that mixing leaves alone.
    request.key.map_or_else(|| rng.next_u64(), |key| mix(key.wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

/// Walks from choice to choice of a key under the bound.
pub(crate) struct Walk {
    /// By identity, so that the last resort is the same in every process too.
    usable: Usable,
    bound: Option<Bound>,
}

/// Choices of a key that are looked at before all endpoints are, from one that its hash names:
/// enough, as the bound leaves a twentieth of the endpoints free at least, unless one heavy
/// endpoint has most of the places and is full.
const CHOICES_MAX: usize = 128;

impl Walk {
    pub(crate) fn new(candidates: &[Candidate], options: BoundOptions) -> Self {
        let usable = Usable::by_identity(candidates);
        let bound = Bound::new(candidates.len(), &usable, options);
        Self { usable, bound }
    }

    /// By ascending hash of identity.
    pub(crate) fn usable(&self) -> &Usable {
        &self.usable
    }

    /// The first of `choices` that may serve.
    pub(crate) fn first(
        &self,
        hash: u64,
        choices: impl Iterator<Item = u32>,
        request: &PickRequest<'_>,
        loads: &[Arc<Load>],
        rng: &mut Rng,
    ) -> Option<u32> {
        let mut has_room = self.has_room(loads, rng);
        let mut home = None;
        for position in choices.take(CHOICES_MAX) {
            if request.exclude.contains(&position) {
                continue;
            }
            if has_room(position) {
                return Some(position);
            }
            home.get_or_insert(position);
        }
        let entries = self.usable.entries();
        let (tail, head) = entries.split_at((hash % entries.len().max(1) as u64) as usize);
        let mut others = head.iter().chain(tail).map(|(position, _)| *position);
        others
            .find(|position| !request.exclude.contains(position) && has_room(*position))
            .or(home)
            .or_else(|| self.usable.after(hash, request.exclude))
    }

    /// Whether an endpoint may take one more. Asked for as few endpoints as can be: each answer
    /// reads a counter that other workers write.
    pub(crate) fn has_room(&self, loads: &[Arc<Load>], rng: &mut Rng) -> impl FnMut(u32) -> bool {
        if let Some(bound) = &self.bound {
            bound.refresh(&self.usable, loads, rng);
        }
        let mut total = None;
        move |position| match &self.bound {
            None => true,
            Some(bound) => bound.has_room(position, &self.usable, loads, &mut total),
        }
    }
}

/// The bound needs to know how much is in flight in total, in constant time.
///
/// A few endpoints are simply summed up. Of many, each pick counts some again, by chance, and
/// corrects the total by what changed: so the total is exact for a moment that lies some
/// `len / RECOUNTED` picks back, and no counter is written that nothing changed. The first pick
/// after a change of endpoints counts all.
struct Bound {
    factor_milli: u64,
    always_allowed: u32,
    total_weight: u64,
    /// By position; 0 where unusable.
    weights: Vec<u16>,
    /// By position: in flight when last counted. Empty if all are summed up each time.
    counted: Vec<AtomicU32>,
    /// The sum of `counted`, but for what other workers are about to add.
    total: AtomicI64,
    is_counted: AtomicBool,
}

/// Up to so many endpoints are summed up.
const SUMMED_MAX: usize = 16;

/// Of more, so many are counted again by each pick: 4 cache lines that other workers write, some
/// 0.2 us.
const RECOUNTED: usize = 4;

impl Bound {
    fn new(len: usize, usable: &Usable, options: BoundOptions) -> Option<Self> {
        if options.factor_milli == 0 {
            return None;
        }
        let mut weights = vec![0; len];
        for (position, weight) in usable.entries() {
            weights[*position as usize] = *weight;
        }
        let counted = if usable.len() > SUMMED_MAX { len } else { 0 };
        Some(Self {
            factor_milli: options.factor_milli,
            always_allowed: options.always_allowed,
            total_weight: usable.entries().iter().map(|(_, weight)| u64::from(*weight)).sum(),
            weights,
            counted: (0..counted).map(|_| AtomicU32::new(0)).collect(),
            total: AtomicI64::new(0),
            is_counted: AtomicBool::new(false),
        })
    }

    fn refresh(&self, usable: &Usable, loads: &[Arc<Load>], rng: &mut Rng) {
        if self.counted.is_empty() {
            return;
        }
        let entries = usable.entries();
        let some = if self.is_counted.load(Relaxed) || self.is_counted.swap(true, Relaxed) {
            let start = rng.below(entries.len() as u64) as usize;
            &entries[start..entries.len().min(start + RECOUNTED)]
        } else {
            entries
        };
        for (position, _) in some {
            if let Some(load) = loads.get(*position as usize) {
                self.count(*position, load.in_flight());
            }
        }
    }

    fn count(&self, position: u32, in_flight: u32) {
        let Some(counted) = self.counted.get(position as usize) else { return };
        if counted.load(Relaxed) != in_flight {
            let before = counted.swap(in_flight, Relaxed);
            self.total.fetch_add(i64::from(in_flight) - i64::from(before), Relaxed);
        }
    }

    fn has_room(
        &self,
        position: u32,
        usable: &Usable,
        loads: &[Arc<Load>],
        sum: &mut Option<u64>,
    ) -> bool {
        let in_flight_of =
            |position: u32| loads.get(position as usize).map_or(0, |load| load.in_flight());
        let in_flight = in_flight_of(position);
        if in_flight < self.always_allowed {
            return true;
        }
        let total = if self.counted.is_empty() {
            *sum.get_or_insert_with(|| {
                let counts = usable.entries().iter().map(|(p, _)| u64::from(in_flight_of(*p)));
                counts.sum()
            })
        } else {
            self.count(position, in_flight);
            u64::try_from(self.total.load(Relaxed)).unwrap_or(0)
        };
        u64::from(in_flight) < self.most(position, total)
    }

    /// How many the endpoint may have in flight, when there are `total` and one more.
    fn most(&self, position: u32, total: u64) -> u64 {
        let weight = self.weights.get(position as usize).map_or(0, |weight| u64::from(*weight));
        let share = u128::from(self.factor_milli) * u128::from(total + 1) * u128::from(weight);
        share.div_ceil(1000 * u128::from(self.total_weight.max(1))) as u64
    }
}

#[cfg(test)]
mod tests {
    use model::vocabulary::{OptionValue, PolicyInfo};

    use super::*;

    fn bound(written: &[(String, OptionValue)]) -> BoundOptions {
        let options = &[BALANCE_FACTOR, ALWAYS_ALLOWED];
        let info = PolicyInfo { name: "of_a_key", summary: "a hash policy", options };
        BoundOptions::of(Options::new(&info, written))
    }

    #[test]
    fn options_have_defaults_and_bounds() {
        let check = |factor: f64, milli| {
            let options = [("balance_factor".to_owned(), OptionValue::Float(factor))];
            assert_eq!(bound(&options).factor_milli, milli);
        };
        check(0.0, 0);
        check(0.5, 1050);
        check(1.25, 1250);
        check(10.0, 10_000);
        let defaults = BoundOptions { factor_milli: 1250, always_allowed: 8 };
        assert_eq!(bound(&[]), defaults);
    }

    #[test]
    fn the_total_of_many_is_followed() {
        let candidates: Vec<Candidate> = (0..1000)
            .map(|hash| Candidate { weight: 1, zone: None, identity_hash: mix(hash) })
            .collect();
        let loads: Vec<Arc<Load>> = candidates.iter().map(|_| Arc::default()).collect();
        let mut rng = Rng::from_seed(1);
        (0..5000).for_each(|_| loads[rng.below(1000) as usize].begin());
        let walk = Walk::new(&candidates, bound(&[]));
        let bound = walk.bound.as_ref().unwrap();
        let mut expect = |picks: usize, total: i64, tolerance: i64| {
            (0..picks).for_each(|_| drop(walk.has_room(&loads, &mut rng)));
            let seen = bound.total.load(Relaxed);
            assert!((seen - total).abs() <= tolerance, "{seen} for {total}");
        };
        expect(1, 5000, 0);
        loads.iter().for_each(|load| (0..5).for_each(|_| load.begin()));
        expect(250, 8160, 400);
        expect(2000, 10_000, 50);
    }
}
