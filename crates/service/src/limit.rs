//! What one endpoint may have in flight at the same time, and what that is learnt from.

use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::time::Duration;

use model::{Instant, Outcome, Report};

/// An endpoint's limit. The control side sets it, the data path keeps to it.
pub(crate) struct Limit {
    most: AtomicU32,
    /// Who waits for this endpoint and no other. Written under the lock of the `Gate`.
    queued: AtomicU32,
    /// Is the limit learnt? Then what follows is counted.
    learns: AtomicBool,
    /// The most that it had in flight since the last sample.
    peak: AtomicU32,
    answers: AtomicU64,
    latency_us: AtomicU64,
}

/// As many as come.
pub(crate) const UNLIMITED: u32 = u32::MAX;

/// What happened at an endpoint since the sample before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) answers: u64,
    /// Of them all together.
    pub(crate) latency_us: u64,
    /// The most that were in flight.
    pub(crate) peak: u32,
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            most: AtomicU32::new(UNLIMITED),
            queued: AtomicU32::new(0),
            learns: AtomicBool::new(false),
            peak: AtomicU32::new(0),
            answers: AtomicU64::new(0),
            latency_us: AtomicU64::new(0),
        }
    }
}

impl Limit {
    pub(crate) fn most(&self) -> u32 {
        self.most.load(Relaxed)
    }

    pub(crate) fn set(&self, most: u32, learns: bool) {
        self.most.store(most, Relaxed);
        self.learns.store(learns, Relaxed);
    }

    pub(crate) fn queued(&self) -> u32 {
        self.queued.load(SeqCst)
    }

    pub(crate) fn set_queued(&self, queued: usize) {
        self.queued.store(u32::try_from(queued).unwrap_or(u32::MAX), SeqCst);
    }

    /// One began, and so many are in flight now.
    pub(crate) fn begun(&self, in_flight: u32) {
        if self.learns.load(Relaxed) && self.peak.load(Relaxed) < in_flight {
            self.peak.fetch_max(in_flight, Relaxed);
        }
    }

    /// One ended. What failed fast says nothing of how much the endpoint can bear; what did not
    /// end in time does.
    pub(crate) fn ended(&self, report: &Report, began: Instant) {
        if !self.learns.load(Relaxed) {
            return;
        }
        let latency = match report.outcome {
            Outcome::Success => report.latency,
            Outcome::TimedOut => Some(report.now.since(began)),
            _ => None,
        };
        if let Some(latency) = latency {
            self.answers.fetch_add(1, Relaxed);
            self.latency_us.fetch_add(micros(latency), Relaxed);
        }
    }

    /// Begins a new sample if this one has so many answers.
    pub(crate) fn sample(&self, answers_min: u64) -> Option<Sample> {
        if self.answers.load(Relaxed) < answers_min {
            return None;
        }
        // What ends in between may count its latency here and itself in the next sample, or the
        // other way round: one of at least `answers_min`.
        Some(Sample {
            answers: self.answers.swap(0, Relaxed),
            latency_us: self.latency_us.swap(0, Relaxed),
            peak: self.peak.swap(0, Relaxed),
        })
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX >> 16)
}
