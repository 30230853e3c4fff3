//! Policies: which of the eligible endpoints serves the next request or connection.
//!
//! For: one file per policy in `policies/`, one table of them ([`POLICIES`]), and the two traits
//! between a policy and the `service` crate, which owns endpoints and counters.
//! Never: protocols, configuration text, clocks, locks or allocation per pick. A policy does not
//! know whether an endpoint is healthy; it only ever sees eligible ones.
//! Start with [`Policy`] and [`Picker`], then `policies/round_robin.rs`. To add one, follow
//! `docs/add-a-policy.md`.
#![forbid(unsafe_code)]

mod alias;
mod drawn;
mod keyed;
mod learnt;
mod maglev_table;
mod options;
mod policies;
mod usable;

use std::sync::Arc;

use model::{Instant, Load, ProbeAnswer, Report, Rng};

pub use options::Options;
pub use policies::{POLICIES, PolicyEntry, build, infos};

/// What a policy may know of an endpoint when it prepares. Its position in the slice given to
/// [`Policy::prepare`] is its name in [`Picker::pick`].
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Zero: not to be picked, unless all candidates weigh zero; then they count as equal.
    pub weight: u16,
    pub zone: Option<Arc<str>>,
    /// A hash of the endpoint's identity, the same in every process: hash policies place by it.
    pub identity_hash: u64,
}

/// A way to choose. Lives as long as the service's configuration names it, so what should
/// outlive a change of endpoints (a position, learnt averages) is kept here and shared with the
/// pickers that it prepares.
pub trait Policy: Send + Sync {
    /// Off the request path, each time the eligible endpoints or their weights change. May
    /// allocate and take its time: milliseconds for 10,000 candidates are fine, seconds are not.
    fn prepare(&self, candidates: &[Candidate], rng: &mut Rng) -> Box<dyn Picker>;

    /// The same for weights that are `scale` times what they stand for, as while an endpoint gets
    /// up to its share slowly. To most policies weights are shares; one to which they are sizes
    /// must take the scale out.
    fn prepare_scaled(
        &self,
        candidates: &[Candidate],
        _scale: u16,
        rng: &mut Rng,
    ) -> Box<dyn Picker> {
        self.prepare(candidates, rng)
    }
}

/// Chooses among the candidates that it was prepared for. Shared by all workers.
pub trait Picker: Send + Sync {
    /// The position of the chosen candidate; `None` only if there are no candidates, or if the
    /// policy's very idea is to refuse now (`lars`, while all are overloaded). `loads` has
    /// one entry per candidate, in the same order. No lock, no allocation. What `exclude` names
    /// is picked only if nothing else can be.
    fn pick(&self, request: &PickRequest<'_>, loads: &[Arc<Load>], rng: &mut Rng) -> Option<u32>;

    /// Who is told how each pick of this candidate ended, if what its [`Load`] counts is not
    /// enough. Asked once for each candidate when the picker is prepared.
    fn tracker(&self, _position: u32) -> Option<Arc<dyn Tracker>> {
        None
    }

    /// Does it want candidates to be asked how they are? Asked once, when it is prepared.
    fn probes(&self) -> bool {
        false
    }

    /// After a pick, if [`Picker::probes`]: names the candidates that are to be asked now. Their
    /// answers come to [`Tracker::probed`], later or never. It may name none, and draw what it
    /// wants to know from `loads` instead. No lock, no allocation.
    fn ask(
        &self,
        _now: Instant,
        _loads: &[Arc<Load>],
        _rng: &mut Rng,
        _probe: &mut dyn FnMut(u32),
    ) {
    }

    /// When [`Picker::ask_idle`] is due although nothing is picked; `None`: never. It may be put off
    /// by each [`Picker::ask`] until then, so it is asked again when the time has come.
    fn idle_at(&self) -> Option<Instant> {
        None
    }

    /// As [`Picker::ask`], after so long a time without a pick that what is known has grown old.
    fn ask_idle(
        &self,
        _now: Instant,
        _loads: &[Arc<Load>],
        _rng: &mut Rng,
        _probe: &mut dyn FnMut(u32),
    ) {
    }
}

/// What a policy learns of one endpoint beyond its counters. Kept in the policy, so that it
/// outlives the pickers; called by all workers at the same time.
pub trait Tracker: Send + Sync {
    /// A pick ended. No allocation and no lock, but when a threshold is crossed.
    fn report(&self, report: &Report);

    /// An answer to [`Picker::ask`].
    fn probed(&self, _answer: &ProbeAnswer) {}
}

/// What a policy may know of the request.
#[derive(Clone, Copy, Debug)]
pub struct PickRequest<'a> {
    pub now: Instant,
    /// A hash of what requests are to be kept together by, if the policy takes a key.
    pub key: Option<u64>,
    /// Positions that this request was already tried on. Short: one per attempt.
    pub exclude: &'a [u32],
}
