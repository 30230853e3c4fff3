//! `round_robin`: in turn, smoothly weighted, exact across all workers.
//!
//! The default: when endpoints and requests are alike, nothing spreads them more evenly. Weights
//! 3:3:2 give a, b, c, a, b, c, a, b: exactly 3, 3 and 2 of any 8 picks in a row.
//!
//! The sequence is computed beforehand, and one shared position walks it, so a pick costs one
//! atomic addition. Its order is that of earliest eligible virtual deadline first (Stoica and
//! Abdel-Wahab, "Earliest eligible virtual deadline first", 1995): an endpoint's k-th turn may
//! not come before its fair share reaches k and is due when it reaches k + 1, so that no
//! endpoint is ever a whole turn ahead of or behind its share.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use model::vocabulary::PolicyInfo;
use model::{Load, Rng};

use crate::policies::PolicyEntry;
use crate::usable::Usable;
use crate::{Candidate, PickRequest, Picker, Policy};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    info: PolicyInfo {
        name: "round_robin",
        summary: "in turn; weights 3:3:2 give exactly 3, 3 and 2 of every 8, interleaved",
        options: &[],
    },
    make: |_| Box::new(RoundRobin { position: Arc::default() }),
};

/// Entries of the sequence: 1 MiB of memory, and some 30 ms to build. Weights whose sum, once
/// divided by their greatest common divisor, is larger are scaled down to about this sum, none
/// below 1. An endpoint that should have `q` entries then has at most 1 more or less, and each of
/// `n` endpoints' share is wrong by less than (n + 1) / `SEQUENCE_MAX` of all requests: with 100
/// endpoints, by less than 0.04 %.
const SEQUENCE_MAX: u64 = 1 << 18;

/// Entries of the sequence that a retry looks at before it takes the next endpoint in order of
/// position: long runs of one heavy endpoint must not make it slow.
const LOOK_AHEAD: u64 = 64;

struct RoundRobin {
    /// Kept when the endpoints change: starting again at the first one each time would favour it.
    position: Arc<Position>,
}

/// Alone on its cache lines: all workers write it.
#[derive(Default)]
#[repr(align(128))]
struct Position(AtomicU64);

impl Policy for RoundRobin {
    fn prepare(&self, candidates: &[Candidate], _: &mut Rng) -> Box<dyn Picker> {
        let usable = Usable::of(candidates);
        let sequence = sequence(usable.entries());
        Box::new(RoundRobinPicker { position: self.position.clone(), sequence, usable })
    }
}

struct RoundRobinPicker {
    position: Arc<Position>,
    sequence: Vec<u32>,
    usable: Usable,
}

impl Picker for RoundRobinPicker {
    fn pick(&self, request: &PickRequest<'_>, _: &[Arc<Load>], _: &mut Rng) -> Option<u32> {
        if self.sequence.is_empty() {
            return None;
        }
        let turn = self.position.0.fetch_add(1, Relaxed);
        let at = |turn: u64| self.sequence[(turn % self.sequence.len() as u64) as usize];
        if request.exclude.is_empty() {
            return Some(at(turn));
        }
        let ahead = turn..turn.saturating_add(LOOK_AHEAD);
        let next = ahead.map(at).find(|position| !request.exclude.contains(position));
        next.or_else(|| self.usable.after(turn, request.exclude))
    }
}

/// One period: each position as often as its weight, spread as evenly as whole turns allow.
fn sequence(entries: &[(u32, u16)]) -> Vec<u32> {
    let weights = reduced(entries);
    let total: u64 = weights.iter().sum();
    // When each endpoint's next turn may come, as linked lists: `waiting[t]` begins the list of
    // those who become eligible at turn `t`, and `next` goes on with it.
    let mut waiting = vec![NOBODY; total as usize];
    let mut next = vec![NOBODY; entries.len()];
    let mut taken = vec![0u64; entries.len()];
    let mut eligible: BinaryHeap<Reverse<(u64, u32)>> = (0u32..)
        .zip(&weights)
        .map(|(index, weight)| Reverse((deadline(1, *weight), index)))
        .collect();
    let mut sequence = Vec::with_capacity(total as usize);
    for turn in 0..total {
        let mut index = waiting[turn as usize];
        while index != NOBODY {
            let i = index as usize;
            eligible.push(Reverse((deadline(taken[i] + 1, weights[i]), index)));
            index = next[i];
        }
        // The shares sum up to the turns taken, so while anyone is ahead, someone is not.
        let Some(Reverse((_, index))) = eligible.pop() else { break };
        let i = index as usize;
        sequence.push(entries[i].0);
        taken[i] += 1;
        if taken[i] < weights[i] {
            let eligible_at = (taken[i] * total).div_ceil(weights[i]).max(turn + 1) as usize;
            next[i] = waiting[eligible_at];
            waiting[eligible_at] = index;
        }
    }
    sequence
}

const NOBODY: u32 = u32::MAX;

/// When the `turns`-th turn is due, in periods, times 2^40. Two different fractions of 16-bit
/// numbers differ by more than 2^-32, so the order is exact.
fn deadline(turns: u64, weight: u64) -> u64 {
    (turns << 40) / weight
}

/// The weights in lowest terms, scaled so that they sum up to about [`SEQUENCE_MAX`] at most.
fn reduced(entries: &[(u32, u16)]) -> Vec<u64> {
    let divisor = entries.iter().fold(0, |divisor, (_, weight)| gcd(divisor, u64::from(*weight)));
    let weights: Vec<u64> =
        entries.iter().map(|(_, weight)| u64::from(*weight) / divisor.max(1)).collect();
    let total: u64 = weights.iter().sum();
    if total <= SEQUENCE_MAX {
        return weights;
    }
    // Rounded to the nearest.
    let scale = |weight: u64| ((weight * SEQUENCE_MAX * 2 + total) / (total * 2)).max(1);
    weights.into_iter().map(scale).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(weights: &[u16], expected: &str) {
        let entries: Vec<(u32, u16)> = (0u32..).zip(weights.iter().copied()).collect();
        let letters: String = sequence(&entries)
            .into_iter()
            .map(|position| (b'a' + position as u8) as char)
            .collect();
        assert_eq!(letters, expected, "{weights:?}");
    }

    #[test]
    fn sequences() {
        check(&[], "");
        check(&[7], "a");
        check(&[5, 5, 5], "abc");
        check(&[3, 3, 2], "abcabcab");
        check(&[6, 6, 4], "abcabcab");
        check(&[5, 1, 1], "abaacaa");
        check(&[1, 2], "bab");
        check(&[4, 1, 1, 1, 1], "abacadae");
    }

    #[test]
    fn nobody_is_a_whole_turn_ahead_or_behind() {
        let mut rng = Rng::from_seed(5);
        for round in 0..200 {
            let count = 1 + rng.below(12) as u32;
            let entries: Vec<(u32, u16)> =
                (0..count).map(|position| (position, 1 + rng.below(60) as u16)).collect();
            let weights = reduced(&entries);
            let total: i64 = weights.iter().sum::<u64>() as i64;
            let sequence = sequence(&entries);
            assert_eq!(sequence.len() as i64, total);
            let mut taken = vec![0i64; count as usize];
            for (turn, position) in (1i64..).zip(&sequence) {
                taken[*position as usize] += 1;
                for (taken, weight) in taken.iter().zip(&weights) {
                    let lag = turn * *weight as i64 - taken * total;
                    assert!(lag.abs() < total, "round {round}: {entries:?} at turn {turn}");
                }
            }
        }
    }

    #[test]
    fn large_weights_are_scaled_and_stay_close() {
        let mut rng = Rng::from_seed(6);
        let entries: Vec<(u32, u16)> =
            (0..10_000).map(|position| (position, 1 + rng.below(65_535) as u16)).collect();
        let sequence = sequence(&entries);
        let (count, length) = (entries.len() as f64, sequence.len() as f64);
        assert!(length <= SEQUENCE_MAX as f64 + count);
        let total: f64 = entries.iter().map(|(_, weight)| f64::from(*weight)).sum();
        let mut taken = vec![0.0; entries.len()];
        sequence.iter().for_each(|position| taken[*position as usize] += 1.0);
        for ((_, weight), taken) in entries.iter().zip(&taken) {
            assert!(*taken >= 1.0);
            let error = (taken / length - f64::from(*weight) / total).abs();
            assert!(error < (count + 1.0) / SEQUENCE_MAX as f64, "{weight}: {error}");
        }
    }
}
