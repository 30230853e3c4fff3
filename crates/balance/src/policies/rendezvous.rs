//! `rendezvous`: requests with the same key go to the same endpoint; exactly by weight, and a
//! change of endpoints or weights moves no key but those that must move.
//!
//! For caches and stateful services with up to some hundred endpoints, and wherever the fewest
//! moves matter most. Every endpoint bids for the key, and the best bid wins (Thaler and
//! Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM ToN 1998). Weights
//! enter as -ln(hash) / weight, the least wins (the logarithmic method of Schindelhauer and
//! Schomaker, "Weighted distributed hash tables", SPAA 2005). There is nothing to build; a pick
//! looks at every endpoint, a few nanoseconds for each, as most logarithms can be spared.
//!
//! Loads are bounded: see `keyed.rs`. The next choice of a key is the next best bid.

use std::sync::Arc;

use model::vocabulary::PolicyInfo;
use model::{Load, Rng};

use crate::keyed::{ALWAYS_ALLOWED, BALANCE_FACTOR, BoundOptions, KEY, Walk, key_hash, mix};
use crate::policies::PolicyEntry;
use crate::{Candidate, PickRequest, Picker, Policy};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    info: PolicyInfo {
        name: "rendezvous",
        summary: "by key, exactly by weight, moving no other keys; its cost grows with endpoints",
        options: &[KEY, BALANCE_FACTOR, ALWAYS_ALLOWED],
    },
    make: |options| Box::new(Rendezvous { bound: BoundOptions::of(options) }),
};

struct Rendezvous {
    bound: BoundOptions,
}

impl Policy for Rendezvous {
    fn prepare(&self, candidates: &[Candidate], _: &mut Rng) -> Box<dyn Picker> {
        let walk = Walk::new(candidates, self.bound);
        let bidders = walk
            .usable()
            .entries()
            .iter()
            .map(|(position, weight)| Bidder {
                identity: mix(candidates[*position as usize].identity_hash),
                per_weight: 1.0 / f64::from(*weight),
                position: *position,
            })
            .collect();
        Box::new(RendezvousPicker { bidders, walk })
    }
}

struct Bidder {
    identity: u64,
    per_weight: f64,
    position: u32,
}

struct RendezvousPicker {
    /// By identity, so that equal bids are won by the same one everywhere.
    bidders: Vec<Bidder>,
    walk: Walk,
}

impl Picker for RendezvousPicker {
    fn pick(&self, request: &PickRequest<'_>, loads: &[Arc<Load>], rng: &mut Rng) -> Option<u32> {
        let hash = key_hash(request, rng);
        let mut has_room = self.walk.has_room(loads, rng);
        // Of all, and of those that have room.
        let mut home = (f64::INFINITY, None);
        let mut best = (f64::INFINITY, None);
        for bidder in &self.bidders {
            let chance = unit(mix(bidder.identity ^ hash));
            // Never more than -ln(chance).
            let at_least = (1.0 - chance) * bidder.per_weight;
            if at_least >= best.0 {
                continue;
            }
            let bid = minus_ln(chance) * bidder.per_weight;
            if bid >= best.0 || request.exclude.contains(&bidder.position) {
                continue;
            }
            if bid < home.0 {
                home = (bid, Some(bidder.position));
            }
            if has_room(bidder.position) {
                best = (bid, Some(bidder.position));
            }
        }
        best.1.or(home.1).or_else(|| self.walk.usable().after(hash, request.exclude))
    }
}

/// A number above 0 and below 1.
fn unit(hash: u64) -> f64 {
    ((hash >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

/// -ln(x) of a normal number above 0, by operations that IEEE 754 rounds alike on every machine,
/// so that all balancers agree: the library's logarithm differs in the last bit. Exact to about
/// 1e-14.
fn minus_ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i32 - 1023;
    let mut mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh((m - 1) / (m + 1)), and |s| is below 0.172 here.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let z = s * s;
    let series = (1..9).rev().fold(0.0, |sum, n| (sum + 1.0 / f64::from(2 * n + 1)) * z);
    -(f64::from(exponent) * std::f64::consts::LN_2 + 2.0 * s * (1.0 + series))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms() {
        let mut rng = Rng::from_seed(1);
        let some = (0..10_000).map(|_| unit(rng.next_u64()));
        for x in some.chain([unit(0), unit(u64::MAX), 0.5, 0.7, 0.708, 1e-9]) {
            let (ours, exact) = (minus_ln(x), -x.ln());
            assert!((ours - exact).abs() <= exact * 1e-13 + 1e-16, "{x}: {ours} for {exact}");
            assert!(ours >= (1.0 - x) * 0.999_999_999 && ours > 0.0, "{x}");
        }
    }
}
