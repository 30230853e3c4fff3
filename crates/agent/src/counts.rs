//! What a desk counts, for the admin API: written by whoever has the desk, read by others.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use model::Outcome;
use model::status::AgentCounts;

/// Alone on its cache lines: each desk is another thread's.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counts {
    pub(crate) outstanding: AtomicU64,
    pub(crate) picks: AtomicU64,
    pub(crate) no_endpoint: AtomicU64,
    pub(crate) overloaded: AtomicU64,
    pub(crate) unknown: AtomicU64,
    successes: AtomicU64,
    failures: AtomicU64,
    abandoned: AtomicU64,
    pub(crate) unasked: AtomicU64,
    pub(crate) unmatched: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) crowded_out: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) not_admitted: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Counts {
    pub(crate) fn report(&self, outcome: Outcome) {
        count(match outcome {
            Outcome::Success => &self.successes,
            Outcome::Abandoned => &self.abandoned,
            _ => &self.failures,
        });
    }

    pub(crate) fn add_to(&self, sum: &mut AgentCounts) {
        let pairs = [
            (&mut sum.outstanding, &self.outstanding),
            (&mut sum.picks, &self.picks),
            (&mut sum.no_endpoint, &self.no_endpoint),
            (&mut sum.overloaded, &self.overloaded),
            (&mut sum.unknown, &self.unknown),
            (&mut sum.successes, &self.successes),
            (&mut sum.failures, &self.failures),
            (&mut sum.abandoned, &self.abandoned),
            (&mut sum.unasked, &self.unasked),
            (&mut sum.unmatched, &self.unmatched),
            (&mut sum.expired, &self.expired),
            (&mut sum.crowded_out, &self.crowded_out),
            (&mut sum.malformed, &self.malformed),
            (&mut sum.not_admitted, &self.not_admitted),
        ];
        for (sum, count) in pairs {
            *sum += count.load(Relaxed);
        }
    }
}
