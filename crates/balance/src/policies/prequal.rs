//! `prequal`: of a small pool of fresh answers by endpoints, the quickest that is not busy.
//!
//! For requests over endpoints that differ, or whose speed changes because something else runs
//! beside them, and above all when several balancers share them: what is in flight here says little
//! of what is in flight there. After Wydrowski et al., "Load is not what you should balance:
//! Introducing Prequal" (NSDI 2024), with its parameters as defaults.
//!
//! * **Probes, never waited for.** After each pick, `probe_rate` endpoints drawn by chance (in
//!   proportion to their weights) are asked for their requests in flight (RIF) and what a request
//!   takes there at such a load. Answers go to a `pool`, one per endpoint.
//! * **Hot or cold.** An endpoint is hot if its RIF is beyond the quantile `q_rif` of those seen in
//!   the last 128 answers. The cold one with the least latency is picked; if all are hot, the one
//!   with the least RIF. Latency moves the traffic, and RIF bounds how far. Latencies within a grade,
//!   two for each doubling, are alike, and RIF decides between them; the paper compares them exactly.
//! * **Answers wear out**: after `probe_ttl`; after some uses, 1 to a few, so that the pool neither
//!   runs dry nor gets stale (the paper's `b_reuse`); and `remove_rate` times per request the worst
//!   or the oldest goes, by chance, so that the pool is not left with what nobody wants. A use counts
//!   as one more in flight. With fewer than two answers, two endpoints are drawn by weight and the
//!   one with less in flight is picked.
//! * **Nor after a quiet time.** Where nothing was asked for as long as `probe_idle`, as many as for a
//!   request, but two at least, are asked all the same (the paper's maximum idle time), so that the
//!   first requests after it, and the very first, find a pool. Less than half of `probe_ttl` keeps
//!   two rounds of answers there; more than it, and quiet times end with an empty pool.
//! * **Failing fast does not pay.** An endpoint of whose requests more than a quarter failed is
//!   picked only if all known ones are such, until that is forgotten (`decay`).
//!
//! `probe: /path` asks endpoints over HTTP: any answer below 500 within 100 ms counts. Its latency
//! is what the probe took and its RIF our own counter, unless the answer's headers say better:
//! `X-Keel-In-Flight: 3` and `X-Keel-Latency-Ms: 12.5`, or the ORCA report `endpoint-load-metrics:
//! TEXT named_metrics.rif=3,named_metrics.latency_ms=12.5` (also as JSON, or binary). A path that
//! says so is what makes prequal see the load of other balancers. Without `probe`, answers are estimated, at no cost, from our own
//! counters and the latencies seen at about that load, for as long as `decay`; then a request that
//! never ended counts with the time that it was waited for.
//!
//! The paper has no weights. Here RIF counts per weight, and with it hot and cold; probes, and the
//! choice between endpoints that are alike, go by weight; a quicker endpoint gets more than its
//! weight until it is hot. With no more endpoints than the pool has places, all of them are known,
//! answers are used until replaced, and none is removed. Constant time.
//!
//! In simulation, with 20 balancers over 50 endpoints beside antagonists at 75 to 95 % load, p99 and
//! p99.9 with `probe` were about half of those of `peak_ewma` and a third of those of
//! `least_request`, while `round_robin` overloads whoever is slow; without `probe`, between
//! (`examples/simulate-prequal`, and `crates/sim/tests/prequal.rs` for more).

mod asked;
mod estimate;
mod pool;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::vocabulary::{OptionDefault, OptionInfo, OptionKind, PolicyInfo};
use model::{Instant, Load, ProbeAnswer, Report, Rng};

use crate::alias::AliasTable;
use crate::policies::PolicyEntry;
use crate::usable::Usable;
use crate::{Candidate, Options, PickRequest, Picker, Policy, Tracker};
use asked::Asked;
use estimate::Estimate;
use pool::{Place, Pool, SeenLoads, Whereabouts};

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    info: PolicyInfo {
        name: "prequal",
        summary: "the quickest of those that are not busy, by probes that nobody waits for",
        options: &[
            OptionInfo {
                name: "probe",
                summary: "GET this path to ask an endpoint how it is; `off`: estimate it",
                kind: OptionKind::Path,
                default: OptionDefault::Text(OFF),
            },
            OptionInfo {
                name: "probe_rate",
                summary: "endpoints asked per request",
                kind: OptionKind::Float { min: 0.1, max: PROBES_MAX as f64 },
                default: OptionDefault::Float(3.0),
            },
            OptionInfo {
                name: "pool",
                summary: "answers kept",
                kind: OptionKind::Integer { min: 4, max: 64 },
                default: OptionDefault::Integer(16),
            },
            OptionInfo {
                name: "q_rif",
                summary: "an endpoint is hot beyond this quantile of requests in flight",
                kind: OptionKind::Float { min: 0.0, max: 1.0 },
                default: OptionDefault::Float(0.84),
            },
            OptionInfo {
                name: "probe_ttl",
                summary: "how long an answer is used",
                kind: OptionKind::Duration,
                default: OptionDefault::Duration(Duration::from_secs(1)),
            },
            OptionInfo {
                name: "probe_idle",
                summary: "with `probe`: after so long without a request endpoints are asked without one",
                kind: OptionKind::Duration,
                default: OptionDefault::Duration(Duration::from_millis(400)),
            },
            OptionInfo {
                name: "remove_rate",
                summary: "answers removed per request, the worst or the oldest",
                kind: OptionKind::Float { min: 0.0, max: PROBES_MAX as f64 },
                default: OptionDefault::Float(1.0),
            },
            OptionInfo {
                name: "decay",
                summary: "how long a failed request, or an estimate without news, is remembered",
                kind: OptionKind::Duration,
                default: OptionDefault::Duration(Duration::from_secs(10)),
            },
        ],
    },
    make: |options| {
        let settings = Settings::of(options);
        let seen = Arc::new(SeenLoads::new(settings.q_rif));
        let asked = Arc::new(Asked::new(settings.probe_idle));
        Box::new(Prequal { settings, seen, asked, kept: Mutex::default() })
    },
};

/// No path: endpoints are not asked.
const OFF: &str = "off";

/// Probes and removals for one request at most.
const PROBES_MAX: usize = 16;

/// With fewer answers there is nothing to choose from.
const ANSWERS_MIN: usize = 2;

/// Draws for each endpoint that is to be asked: repeated ones are drawn again, but not for ever.
const DRAWS_PER_PROBE: usize = 4;

/// Draws for the two of the fall-back.
const DRAWS_MAX: usize = 16;

/// The paper's delta: how many answers the pool is to gain per request, after uses and removals.
const POOL_GAIN: f64 = 1.0;

/// The estimated latency of a busy endpoint that does not answer any more: more than any that is
/// worth waiting for, as in `peak_ewma`.
const UNKNOWN: Duration = Duration::from_secs(1);

/// The defaults are the paper's (section 5), whose `q_rif` is 2^-0.25; of the idle time it says
/// nothing.
#[derive(Clone, Copy)]
struct Settings {
    /// Endpoints are asked; otherwise their answers are estimated.
    probes: bool,
    probe_rate: f64,
    pool: u64,
    q_rif: f64,
    probe_ttl: Duration,
    probe_idle: Duration,
    remove_rate: f64,
    decay: Duration,
}

impl Settings {
    fn of(options: Options<'_>) -> Self {
        Self {
            probes: options.text("probe") != OFF,
            probe_rate: options.float("probe_rate"),
            pool: options.integer("pool"),
            q_rif: options.float("q_rif"),
            probe_ttl: options.duration("probe_ttl"),
            probe_idle: options.duration("probe_idle"),
            remove_rate: options.float("remove_rate"),
            decay: options.duration("decay"),
        }
    }
}

struct Prequal {
    settings: Settings,
    seen: Arc<SeenLoads>,
    asked: Arc<Asked>,
    /// Locked only while preparing.
    kept: Mutex<Kept>,
}

/// What outlives a change of endpoints.
#[derive(Default)]
struct Kept {
    /// By identity.
    estimates: BTreeMap<u64, Arc<Estimate>>,
    former: Option<(Arc<Shared>, Vec<u64>)>,
}

impl Policy for Prequal {
    fn prepare(&self, candidates: &[Candidate], _: &mut Rng) -> Box<dyn Picker> {
        let usable = Usable::of(candidates);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut kept.estimates);
        let mut known = Vec::with_capacity(candidates.len());
        let mut positions = BTreeMap::new();
        for (position, candidate) in (0u32..).zip(candidates) {
            let identity = candidate.identity_hash;
            let estimate: Arc<Estimate> = before.remove(&identity).unwrap_or_default();
            positions.insert(identity, position);
            kept.estimates.insert(identity, estimate.clone());
            let weight = candidate.weight.max(1);
            known.push(Known { estimate, weight, whereabouts: Whereabouts::default() });
        }
        let pool = Pool::new(self.settings.pool as usize, reuses(&self.settings, usable.len()));
        let is_usable = |position: &u32| {
            usable.entries().binary_search_by_key(position, |(position, _)| *position).is_ok()
        };
        if let Some((former, identities)) = kept.former.take() {
            let moved = former.pool.places().filter_map(|place| {
                let identity = identities.get(place.position as usize)?;
                let position = positions.get(identity).copied().filter(is_usable)?;
                Some((position, place.uses, place.at))
            });
            pool.fill(moved);
        }
        let shared = Arc::new(Shared {
            settings: self.settings,
            seen: self.seen.clone(),
            asked: self.asked.clone(),
            probe_ttl_nanos: u64::try_from(self.settings.probe_ttl.as_nanos()).unwrap_or(u64::MAX),
            known,
            pool,
        });
        let identities = candidates.iter().map(|candidate| candidate.identity_hash).collect();
        kept.former = Some((shared.clone(), identities));
        let total: u64 = usable.entries().iter().map(|(_, weight)| u64::from(*weight)).sum();
        Box::new(PrequalPicker { table: AliasTable::new(&usable), total, usable, shared })
    }
}

/// How often an answer is used: the paper's b_reuse = max(1, (1 + d) / ((1 - m/n) p - r)), for a
/// pool of m places over n endpoints, p probes and r removals per request. Not a whole number. With
/// a place for each endpoint an answer is replaced by the next one from there, and is used until
/// then. With fewer probes than removals take, as often as there are places.
fn reuses(settings: &Settings, endpoints: usize) -> f64 {
    let (places, endpoints) = (settings.pool as f64, endpoints.max(1) as f64);
    if places >= endpoints {
        return f64::from(u16::MAX);
    }
    let fresh = (1.0 - places / endpoints) * settings.probe_rate - settings.remove_rate;
    if fresh <= 0.0 {
        return places;
    }
    ((1.0 + POOL_GAIN) / fresh).clamp(1.0, places)
}

/// What picks, probes and reports have in common.
struct Shared {
    settings: Settings,
    probe_ttl_nanos: u64,
    seen: Arc<SeenLoads>,
    asked: Arc<Asked>,
    /// By position.
    known: Vec<Known>,
    pool: Pool,
}

/// What is known of one endpoint.
struct Known {
    estimate: Arc<Estimate>,
    weight: u16,
    whereabouts: Whereabouts,
}

impl Shared {
    fn answer(&self, position: u32, answer: &ProbeAnswer) {
        let Some(known) = self.known.get(position as usize) else { return };
        known.estimate.answer(answer);
        self.seen.add(load_per_weight(answer.in_flight, known.weight));
        self.pool.insert(position, answer.now, &known.whereabouts);
    }

    /// How an endpoint compares by what is known of it; `None` if that is worse than `bound`.
    fn contender(
        &self,
        position: u32,
        (now, hot_beyond): (Instant, f32),
        loads: &[Arc<Load>],
        bound: Rank,
    ) -> Option<Contender> {
        let Known { estimate, weight, .. } = self.known.get(position as usize)?;
        let (said, grade) = estimate.known();
        if Rank::at_best(grade) > bound {
            return None;
        }
        // Our own counters need not be remembered.
        let in_flight = match self.settings.probes {
            true => said,
            false => loads.get(position as usize)?.in_flight(),
        };
        let load = load_per_weight(in_flight, *weight);
        let class = if estimate.is_failing(now, self.settings.decay) {
            Class::Failing
        } else if load > hot_beyond {
            Class::Hot
        } else {
            Class::Cold
        };
        Some(Contender { position, weight: *weight, rank: Rank::new(class, grade, load) })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Cold,
    Hot,
    Failing,
}

#[derive(Clone, Copy)]
struct Contender {
    position: u32,
    weight: u16,
    rank: Rank,
}

/// The better one is less: the class, then the grade of the latency of those that are cold, then
/// the load. In one number, for it is what a pick compares most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(u64);

impl Rank {
    const WORST: Self = Self(u64::MAX);

    fn new(class: Class, grade: u32, load: f32) -> Self {
        let grade = if class == Class::Cold { u64::from(grade) } else { 0 };
        // The bits of numbers that are not negative compare as they do. Grades are below 64.
        Self((class as u64) << 62 | grade << 32 | u64::from(load.to_bits()))
    }

    /// No contender of this grade ranks before this.
    fn at_best(grade: u32) -> Self {
        Self(u64::from(grade) << 32)
    }
}

/// Twice what is in flight and one more, so that of two busy ones the greater has room, as in
/// `least_request`; 0 while idle.
fn load_per_weight(in_flight: u32, weight: u16) -> f32 {
    let load = if in_flight == 0 { 0.0 } else { in_flight as f32 * 2.0 + 1.0 };
    load / f32::from(weight)
}

struct PrequalPicker {
    shared: Arc<Shared>,
    usable: Usable,
    table: AliasTable,
    /// Of the weights.
    total: u64,
}

impl Picker for PrequalPicker {
    fn pick(&self, request: &PickRequest<'_>, loads: &[Arc<Load>], rng: &mut Rng) -> Option<u32> {
        if let Some((contender, place)) = self.best_known(request, loads, rng) {
            self.shared.known[contender.position as usize].estimate.used();
            self.shared.pool.use_up(place);
            return Some(contender.position);
        }
        let best = self.best_of_two(request, loads, rng);
        best.or_else(|| self.usable.after(rng.next_u64(), request.exclude))
    }

    fn tracker(&self, position: u32) -> Option<Arc<dyn Tracker>> {
        Some(Arc::new(Watch { shared: self.shared.clone(), position }))
    }

    fn probes(&self) -> bool {
        true
    }

    fn ask(&self, now: Instant, loads: &[Arc<Load>], rng: &mut Rng, probe: &mut dyn FnMut(u32)) {
        let settings = &self.shared.settings;
        // All known: nothing is left over in the pool, for an answer is replaced by the next.
        if self.usable.len() > settings.pool as usize {
            (0..whole(settings.remove_rate, rng)).for_each(|_| self.remove(now, loads, rng));
        }
        if settings.probes {
            self.shared.asked.note(now);
        }
        self.ask_some(whole(settings.probe_rate, rng), now, loads, rng, probe);
    }

    fn idle_at(&self) -> Option<Instant> {
        (self.shared.settings.probes && self.usable.len() > 1).then(|| self.shared.asked.idle_at())
    }

    fn ask_idle(
        &self,
        now: Instant,
        loads: &[Arc<Load>],
        rng: &mut Rng,
        probe: &mut dyn FnMut(u32),
    ) {
        self.shared.asked.note(now);
        self.ask_some(
            whole(self.shared.settings.probe_rate, rng).max(ANSWERS_MIN),
            now,
            loads,
            rng,
            probe,
        );
    }
}

impl PrequalPicker {
    fn ask_some(
        &self,
        count: usize,
        now: Instant,
        loads: &[Arc<Load>],
        rng: &mut Rng,
        probe: &mut dyn FnMut(u32),
    ) {
        let count = count.min(PROBES_MAX);
        if count >= self.usable.len() {
            let all = self.usable.entries().iter();
            return all.for_each(|(position, _)| self.ask_one(*position, now, loads, probe));
        }
        let mut asked = [0; PROBES_MAX];
        for index in 0..count {
            for _ in 0..DRAWS_PER_PROBE {
                let Some(position) = self.draw(rng) else { return };
                if !asked[..index].contains(&position) {
                    asked[index] = position;
                    self.ask_one(position, now, loads, probe);
                    break;
                }
            }
        }
    }

    /// The best of the pool, if that has at least two answers.
    fn best_known(
        &self,
        request: &PickRequest<'_>,
        loads: &[Arc<Load>],
        rng: &mut Rng,
    ) -> Option<(Contender, Place)> {
        let shared = &*self.shared;
        let moment = (request.now, shared.seen.hot_beyond());
        let fresh_since = request.now.as_nanos().saturating_sub(shared.probe_ttl_nanos);
        let mut best: Option<(Contender, Place)> = None;
        let mut bound = Rank::WORST;
        let has_tried = !request.exclude.is_empty();
        let (mut known, mut alike) = (0, 0);
        for place in shared.pool.places() {
            if place.at.as_nanos() < fresh_since {
                shared.pool.clear(place);
                continue;
            }
            known += 1;
            if has_tried && request.exclude.contains(&place.position) {
                continue;
            }
            let Some(next) = shared.contender(place.position, moment, loads, bound) else {
                continue;
            };
            if next.rank < bound || best.is_none() {
                bound = next.rank;
                best = Some((next, place));
                alike = 0;
            } else if next.rank > bound {
                continue;
            }
            // Each of those that are alike ends up chosen in proportion to its share.
            let share = self.share(next.weight);
            alike += share;
            if alike > share && rng.below(alike) < share {
                best = Some((next, place));
            }
        }
        best.filter(|_| known >= ANSWERS_MIN)
    }

    /// The part of one among those in the pool that are alike, so that all get their weights'
    /// shares: who is drawn often enough to be there always gets in proportion to its weight, and
    /// the others are there in that proportion. In units of 1/256 of a place.
    fn share(&self, weight: u16) -> u64 {
        const UNIT: u64 = 256;
        if self.usable.len() <= self.shared.settings.pool as usize {
            return u64::from(weight) * UNIT;
        }
        let places = u64::from(weight) * self.shared.settings.pool * UNIT / self.total.max(1);
        places.max(UNIT)
    }

    /// In proportion to the weights; all alike if the pool has a place for each, for then shares
    /// are given by the choice in the pool.
    fn draw(&self, rng: &mut Rng) -> Option<u32> {
        if self.usable.len() > self.shared.settings.pool as usize {
            return self.table.draw(rng);
        }
        let index = rng.below(self.usable.len() as u64) as usize;
        self.usable.entries().get(index).map(|(position, _)| *position)
    }

    /// Without answers: two are drawn, and our own counters decide.
    fn best_of_two(
        &self,
        request: &PickRequest<'_>,
        loads: &[Arc<Load>],
        rng: &mut Rng,
    ) -> Option<u32> {
        let mut first: Option<(u32, (bool, f32))> = None;
        for _ in 0..DRAWS_MAX {
            let position = self.table.draw(rng)?;
            let is_first = first.is_some_and(|(first, _)| first == position);
            if is_first || request.exclude.contains(&position) {
                continue;
            }
            let index = position as usize;
            let known = self.shared.known.get(index)?;
            let failing = known.estimate.is_failing(request.now, self.shared.settings.decay);
            let in_flight = loads.get(index)?.in_flight();
            let next = (failing, load_per_weight(in_flight, known.weight));
            match first {
                None => first = Some((position, next)),
                // The first one drawn wins a tie: it was drawn in proportion to the weights.
                Some((_, first)) if next < first => return Some(position),
                Some((first, _)) => return Some(first),
            }
        }
        first.map(|(position, _)| position)
    }

    fn ask_one(
        &self,
        position: u32,
        now: Instant,
        loads: &[Arc<Load>],
        probe: &mut dyn FnMut(u32),
    ) {
        if self.shared.settings.probes {
            probe(position);
        } else if let Some(load) = loads.get(position as usize) {
            self.estimate(position, load, now);
        }
    }

    /// The answer that the endpoint would give, by what we have seen of it.
    fn estimate(&self, position: u32, load: &Load, now: Instant) {
        let in_flight = load.in_flight();
        let Some(Known { estimate, .. }) = self.shared.known.get(position as usize) else { return };
        let latency = match estimate.measured.at(in_flight, now, self.shared.settings.decay) {
            Some(latency) => latency,
            // It has answered before, and does not now.
            None if in_flight > 0 && !estimate.measured.is_empty() => UNKNOWN,
            // Not known to be slow: it may be tried, until it is hot.
            None => Duration::ZERO,
        };
        self.shared.answer(position, &ProbeAnswer { now, in_flight, latency });
    }

    /// The worst or the oldest answer goes.
    fn remove(&self, now: Instant, loads: &[Arc<Load>], rng: &mut Rng) {
        let pool = &self.shared.pool;
        if rng.below(2) == 0 {
            return pool.remove_oldest();
        }
        let moment = (now, self.shared.seen.hot_beyond());
        let mut worst: Option<(Rank, Place)> = None;
        for place in pool.places() {
            let next = self.shared.contender(place.position, moment, loads, Rank::WORST);
            if let Some(Contender { rank, .. }) = next
                && worst.is_none_or(|(worst, _)| rank > worst)
            {
                worst = Some((rank, place));
            }
        }
        worst.into_iter().for_each(|(_, place)| pool.clear(place));
    }
}

/// A whole number that is `rate` on average.
fn whole(rate: f64, rng: &mut Rng) -> usize {
    let part = rate.fract();
    rate as usize + usize::from(part > 0.0 && rng.unit() < part)
}

/// What the policy learns of one endpoint.
struct Watch {
    shared: Arc<Shared>,
    position: u32,
}

impl Tracker for Watch {
    fn report(&self, report: &Report) {
        let settings = &self.shared.settings;
        if let Some(known) = self.shared.known.get(self.position as usize) {
            known.estimate.report(report, settings.decay, !settings.probes);
        }
    }

    fn probed(&self, answer: &ProbeAnswer) {
        self.shared.answer(self.position, answer);
    }
}
