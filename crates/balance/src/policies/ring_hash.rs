//! `ring_hash`: requests with the same key go to the same endpoint; a change of endpoints moves
//! no key but those of the endpoint that left, or those that the new one takes.
//!
//! For caches whose endpoints come and go. Each endpoint has `vnodes` points per unit of weight on
//! a circle, and a key belongs to the next point after it (Karger et al., "Consistent hashing and
//! random trees", STOC 1997; 160 points as in libketama). Its spread is a matter of chance: with
//! v points, an endpoint's share is typically off by 1/sqrt(v) of itself, 8 % with 160. `maglev`
//! spreads better and moves a few more keys; `rendezvous` does both well, and its cost grows with
//! the endpoints. Logarithmic time.
//!
//! Loads are bounded: see `keyed.rs`. The next choice of a key is the next point of another
//! endpoint.

use std::sync::Arc;

use model::vocabulary::{OptionDefault, OptionInfo, OptionKind, PolicyInfo};
use model::{Load, Rng};

use crate::keyed::{ALWAYS_ALLOWED, BALANCE_FACTOR, BoundOptions, KEY, Walk, key_hash, mix};
use crate::policies::PolicyEntry;
use crate::{Candidate, PickRequest, Picker, Policy};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    info: PolicyInfo {
        name: "ring_hash",
        summary: "by key, on a circle; a change of endpoints moves no other keys",
        options: &[
            KEY,
            OptionInfo {
                name: "vnodes",
                summary: "points on the circle per unit of weight: more spread keys better",
                kind: OptionKind::Integer { min: VNODES_MIN, max: VNODES_MAX },
                default: OptionDefault::Integer(160),
            },
            BALANCE_FACTOR,
            ALWAYS_ALLOWED,
        ],
    },
    make: |options| {
        let vnodes = options.integer("vnodes");
        Box::new(RingHash { vnodes, bound: BoundOptions::of(options) })
    },
};

/// With fewer, shares are off by more than a quarter.
const VNODES_MIN: u64 = 16;

const VNODES_MAX: u64 = 4096;

/// Points of the circle: 16 MB. When weights ask for more, each endpoint's number is halved until
/// they fit, none below 1. A change of endpoints that crosses this line moves half of the keys;
/// 10,000 endpoints of weight 1 and the default `vnodes` stay below it.
const POINTS_MAX: u64 = 1 << 21;

/// Nor are there more than this, or 16 times `vnodes` per endpoint: weights such as 1000:2000
/// give no better spread by more, and what depends on the mean weight is seldom crossed.
const POINTS_ENOUGH: u64 = 1 << 16;

struct RingHash {
    vnodes: u64,
    bound: BoundOptions,
}

impl Policy for RingHash {
    fn prepare(&self, candidates: &[Candidate], _: &mut Rng) -> Box<dyn Picker> {
        self.picker(candidates, 1)
    }

    fn prepare_scaled(&self, candidates: &[Candidate], scale: u16, _: &mut Rng) -> Box<dyn Picker> {
        self.picker(candidates, scale)
    }
}

impl RingHash {
    /// `scale`: weights are in so many parts of a unit. With more points for all, most keys would
    /// move.
    fn picker(&self, candidates: &[Candidate], scale: u16) -> Box<dyn Picker> {
        let scale = u64::from(scale.max(1));
        let walk = Walk::new(candidates, self.bound);
        let entries = walk.usable().entries();
        let halvings = halvings(entries, self.vnodes, scale);
        let mut points = Vec::new();
        for (rank, (position, weight)) in (0u64..).zip(entries) {
            let count = ((self.vnodes * u64::from(*weight) / scale) >> halvings).max(1);
            let identity = mix(candidates[*position as usize].identity_hash);
            // An endpoint's first points do not depend on how many it has.
            let place = |point: u64| mix(identity.wrapping_add(point)) >> 32 << 32;
            points.extend((1..=count).map(|point| place(point) | rank));
        }
        points.sort_unstable();
        Box::new(RingHashPicker { points, walk })
    }
}

fn halvings(entries: &[(u32, u16)], vnodes: u64, scale: u64) -> u32 {
    let total: u64 = entries.iter().map(|(_, weight)| u64::from(*weight) * vnodes / scale).sum();
    let enough = (16 * vnodes * entries.len() as u64).clamp(POINTS_ENOUGH, POINTS_MAX);
    (0..64).find(|halvings| total >> halvings <= enough).unwrap_or(0)
}

struct RingHashPicker {
    /// Ascending. The upper half is the place on the circle, the lower one the endpoint's rank
    /// among the usable ones, so that those that meet at one place are in the same order everywhere.
    points: Vec<u64>,
    walk: Walk,
}

impl Picker for RingHashPicker {
    fn pick(&self, request: &PickRequest<'_>, loads: &[Arc<Load>], rng: &mut Rng) -> Option<u32> {
        let hash = key_hash(request, rng);
        let start = self.points.partition_point(|point| point >> 32 < hash >> 32);
        let (tail, head) = self.points.split_at(start);
        let entries = self.walk.usable().entries();
        let owner = |point: &u64| entries[(point & 0xffff_ffff) as usize].0;
        self.walk.first(hash, head.iter().chain(tail).map(owner), request, loads, rng)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_halved_until_they_fit() {
        let many = |count: u32, weight: u16| (0..count).map(|p| (p, weight)).collect::<Vec<_>>();
        assert_eq!(halvings(&many(10_000, 1), 160, 1), 0);
        assert_eq!(halvings(&many(20_000, 1), 160, 1), 1);
        assert_eq!(halvings(&many(10_000, 65_535), 160, 1), 16);
        assert_eq!(halvings(&many(2, 65_535), 160, 1), 9);
        assert_eq!(halvings(&many(100, 16), 160, 1), 0);
        assert_eq!(halvings(&many(100, 100), 160, 1), 3);
        assert_eq!(halvings(&many(100, 100), 160, 100), 0);
        assert_eq!(halvings(&[], 160, 1), 0);
    }
}
