//! The control side of a service: who its endpoints are and which of them are eligible.
//!
//! For: the rules. Every change marks what it did in [`Pending`], and [`Control::settle`] then
//! publishes one new snapshot for all of it.
//! Never: the data path; workers see only what is published.
//! Start with [`Control::settle`] and [`Control::set_endpoints`]; who is eligible is in
//! `eligible.rs`, who is ejected in `outliers.rs`, with what share in `slow_start.rs`.
//!
//! * Eligible are healthy, undrained endpoints; which of their priorities, how many, and whether
//!   in panic ill ones too, says `eligible.rs`.
//! * An endpoint is known by id and address; one that is named again unchanged keeps all state.
//! * A drained endpoint keeps its sessions until its grace is over; a removed one does not.
//! * Make before break: when a new list leaves nothing healthy but names endpoints that are still
//!   unproven, healthy removed ones stand by, and serve until one is proven or the grace is over.
//! * Evidence from traffic never takes out the last eligible endpoint; failed checks may.
//! * An endpoint that is out by checks comes back by checks, an ejected one by time.

mod eligible;
mod learn;
mod membership;
mod outliers;
mod publish;
mod slow_start;
mod weights;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use balance::Policy;
use health::State;
use model::spec::{EndpointSource, HealthKind, HealthSpec, PolicySpec, ServiceSpec};
use model::status::{EjectionCounts as Ejections, EndpointStatus};
use model::{EndpointId, Instant, Rng};

use crate::endpoint::Origin;
use crate::gate::Gate;
use crate::member::{Member, Standing, Told};
use crate::session::Slots;
use crate::snapshot::{Questions, Snapshot};
use crate::{DueCheck, EndpointHandle, Sessions};

pub(crate) use learn::Learner;

pub(crate) struct Control {
    origin: Arc<Origin>,
    spec: Arc<ServiceSpec>,
    health: Arc<HealthSpec>,
    sessions: Option<Arc<Sessions>>,
    slots: Slots,
    seed: u64,
    policy: Box<dyn Policy>,
    rng: Rng,
    /// By the key of the handle: in the order in which they were first seen.
    members: BTreeMap<u64, Member>,
    /// The keys of all members but those that stand by.
    listed: BTreeMap<EndpointId, u64>,
    /// The keys of those that stand by: at most one of each id.
    standby: BTreeMap<EndpointId, u64>,
    /// The members that are ejected, by when they come back.
    ejected: BTreeSet<(Instant, u64)>,
    ejections: Ejections,
    /// The members on their way to their share.
    ramping: BTreeSet<u64>,
    /// Which of many balancers this is, for subsets.
    balancer: u64,
    /// The last snapshot is one of a panic.
    panics: bool,
    /// When each member needs attention, the earliest first.
    timers: BTreeSet<(Instant, u64)>,
    /// Checkers made so far: each has its own range of generations.
    checkers: u64,
    pending: Pending,
    published_at: Instant,
    /// A snapshot was put off until then.
    publish_at: Option<Instant>,
    /// When [`Control::tick`] is due; `None`: nothing needs it.
    tick_at: Option<Instant>,
    /// When the policy may want endpoints to be asked, for want of picks; `None`: never.
    ask_at: Option<Instant>,
    /// When limits were learnt last.
    learnt_at: Instant,
    serving: bool,
    /// Replicas of ours are wanted, whether or not they are there.
    wanted: bool,
    /// While nothing is served: that endpoints are on their way, as it was published.
    expected: bool,
    /// Likewise, that none is until somebody asks.
    asleep: bool,
    closed: bool,
}

/// What a change did that is not yet visible outside.
#[derive(Default)]
struct Pending {
    stale: Stale,
    leaving: Vec<Arc<EndpointHandle>>,
    staying: Vec<Arc<EndpointHandle>>,
    changed: bool,
    /// A limit has grown.
    room: bool,
}

/// Whether the published snapshot is out of date.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stale {
    #[default]
    No,
    /// By health: many such changes may come at once, and may be published together.
    Soon,
    Now,
}

/// What [`Control::settle`] leaves to be done outside of the lock.
#[derive(Default)]
pub(crate) struct Notices {
    pub(crate) leaving: Vec<Arc<EndpointHandle>>,
    pub(crate) staying: Vec<Arc<EndpointHandle>>,
    pub(crate) changed: bool,
    /// Somebody who waits may be served now.
    pub(crate) room: bool,
}

/// With more members than this, snapshots for changes of health are put off so that many such
/// changes cost one: a snapshot costs time in proportion to the members.
const MEMBERS_EAGER: usize = 256;

/// How long they are put off at most, for each member: 10 ms for 1,000. Preparing a policy costs
/// a few microseconds per member, so that this side is busy with it half of the time at worst.
const PUBLISH_PAUSE: Duration = Duration::from_micros(10);

impl Control {
    pub(crate) fn new(
        spec: Arc<ServiceSpec>,
        origin: Arc<Origin>,
        now: Instant,
        seed: u64,
    ) -> Self {
        let mut control = Self {
            health: Arc::new(spec.health.clone()),
            sessions: sessions(&spec, seed, None),
            slots: Slots::new(),
            seed,
            policy: policy(&spec.policy),
            rng: Rng::from_seed(seed),
            members: BTreeMap::new(),
            listed: BTreeMap::new(),
            standby: BTreeMap::new(),
            ejected: BTreeSet::new(),
            ejections: Ejections::default(),
            ramping: BTreeSet::new(),
            balancer: seed,
            panics: false,
            timers: BTreeSet::new(),
            checkers: 0,
            pending: Pending::default(),
            published_at: now,
            publish_at: None,
            tick_at: None,
            ask_at: None,
            learnt_at: now,
            serving: false,
            wanted: wants(&spec.source),
            expected: false,
            asleep: false,
            closed: false,
            spec,
            origin,
        };
        control.set_suspect_after();
        control.set_eject_after();
        control.set_tick(now);
        if let EndpointSource::Static(endpoints) = &control.spec.source {
            control.set_endpoints(endpoints.clone(), now);
        }
        control
    }

    pub(crate) fn update(&mut self, spec: Arc<ServiceSpec>, now: Instant) {
        if self.closed || self.spec == spec {
            return;
        }
        let old = std::mem::replace(&mut self.spec, spec);
        if old.policy != self.spec.policy {
            self.policy = policy(&self.spec.policy);
            self.pending.stale = Stale::Now;
        }
        if old.affinity != self.spec.affinity {
            self.sessions = sessions(&self.spec, self.seed, self.sessions.as_deref());
            self.pending.stale = Stale::Now;
        }
        if old.health != self.spec.health {
            self.update_health(now);
        }
        if old.outlier != self.spec.outlier {
            self.update_outlier(now);
        }
        if old.slow_start != self.spec.slow_start {
            self.update_slow_start();
        }
        let rules = |spec: &ServiceSpec| (spec.panic, spec.failover_below, spec.subset);
        if rules(&old) != rules(&self.spec) {
            self.pending.stale = Stale::Now;
        }
        if old.limits != self.spec.limits || old.queue != self.spec.queue {
            self.set_limits();
            self.pending.stale = Stale::Now;
        }
        if old.wake != self.spec.wake {
            self.pending.stale = Stale::Now;
        }
        self.set_tick(now);
        if old.source != self.spec.source {
            self.wanted = wants(&self.spec.source);
        }
        if old.source != self.spec.source
            && let EndpointSource::Static(endpoints) = &self.spec.source
        {
            self.set_endpoints(endpoints.clone(), now);
        }
    }

    pub(crate) fn want(&mut self, replicas: usize) {
        self.wanted = replicas > 0 && matches!(self.spec.source, EndpointSource::Run(_));
    }

    fn update_health(&mut self, now: Instant) {
        self.health = Arc::new(self.spec.health.clone());
        self.set_suspect_after();
        for key in self.listed.values() {
            let Some(member) = self.members.get_mut(key) else { continue };
            if member.checker.update(self.health.clone(), now).is_some() {
                member.proven();
                self.pending.stale = Stale::Now;
            }
            member.handle.judged();
            member.set_timer(&mut self.timers, member.checker.poll_timeout());
            if self.health.agent.is_none() && member.told != Told::NOTHING {
                member.told = Told::NOTHING;
                self.pending.stale = Stale::Now;
            }
        }
        self.pending.changed = true;
    }

    /// Without checks nothing would bring an endpoint back, so then nothing takes it out either.
    fn set_suspect_after(&self) {
        let off = self.health.kind == HealthKind::Off;
        let suspect_after = if off { u32::MAX } else { self.health.unhealthy_after };
        self.origin.suspect_after.store(suspect_after, Relaxed);
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.tick_at = None;
        self.listed.clear();
        let keys: Vec<u64> = self.members.keys().copied().collect();
        for key in keys {
            self.forget(key);
        }
        self.pending.stale = Stale::Now;
        self.pending.changed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let back = self.ejected.first().map(|(at, _)| *at);
        [timer, back, self.publish_at, self.tick_at, self.ask_at].into_iter().flatten().min()
    }

    pub(crate) fn due_checks(&mut self, now: Instant) -> Vec<DueCheck> {
        let mut due = Vec::new();
        while let Some((at, key)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            let Some(member) = self.members.get_mut(&key) else { continue };
            member.timer = Instant::FAR_FUTURE;
            if matches!(member.standing, Standing::Standby { .. }) {
                // Its time is over; `settle` sees to it.
                self.pending.stale = Stale::Now;
                continue;
            }
            if let Some(check) = member.checker.handle_timeout(now) {
                due.push(DueCheck {
                    endpoint: member.endpoint.id.clone(),
                    address: member.endpoint.address,
                    generation: check.generation,
                    spec: member.checker.spec().clone(),
                });
            }
            member.set_timer(&mut self.timers, member.checker.poll_timeout());
        }
        self.readmit_due(now);
        if self.publish_at.is_some_and(|at| at <= now) {
            self.pending.stale = Stale::Now;
        }
        if self.tick_at.is_some_and(|at| at <= now) {
            self.tick(now);
            self.tick_at = self.tick_interval().map(|interval| now + interval);
        }
        due
    }

    /// After each change, of what is published by then: has the policy ask, if it had nothing to ask
    /// at for so long that it wants to. Who is to be asked is told once no lock is held.
    pub(crate) fn ask_idle(&mut self, snapshot: &Snapshot, now: Instant) -> Questions {
        let mut questions = Questions::new();
        let mut at = snapshot.idle_at();
        if at.is_some_and(|at| at <= now) {
            questions = snapshot.ask_idle(now, &mut self.rng);
            at = snapshot.idle_at();
        }
        // Picks put it off without a word, so it is looked again when it seems due.
        self.ask_at = at.filter(|_| !self.closed);
        questions
    }

    /// When that begins, [`Control::poll_timeout`] may be earlier than whoever polls knows.
    pub(crate) fn is_asking(&self) -> bool {
        self.ask_at.is_some()
    }

    /// What is done once in a while for all endpoints together, from what their counters say.
    fn tick(&mut self, now: Instant) {
        self.judge_windows(now);
        self.step_ramps(now);
        self.learn(now);
    }

    /// How often; `None`: nothing needs it now.
    fn tick_interval(&self) -> Option<Duration> {
        if self.closed {
            return None;
        }
        let intervals = [self.window_interval(), self.ramp_interval(), self.learns_every()];
        intervals.into_iter().flatten().min()
    }

    /// Begins or ends to tick, after whatever may have changed whether it is needed.
    fn set_tick(&mut self, now: Instant) {
        let latest = self.tick_interval().map(|interval| now + interval);
        self.tick_at = match (self.tick_at, latest) {
            (Some(at), Some(latest)) => Some(at.min(latest)),
            (_, latest) => latest,
        };
    }

    pub(crate) fn handle_check(
        &mut self,
        id: &EndpointId,
        generation: u64,
        result: Result<(), String>,
        now: Instant,
    ) {
        let Some(member) = self.listed.get(id).and_then(|key| self.members.get_mut(key)) else {
            return;
        };
        if result.is_err() {
            // What checks see, too, is for them to judge.
            member.handle.load.forgive_errors();
        }
        let transition = member.checker.handle_result(now, generation, result, &mut self.rng);
        member.set_timer(&mut self.timers, member.checker.poll_timeout());
        if let Some(transition) = transition {
            if transition.to == State::Healthy {
                member.proven();
            }
            self.pending.stale = self.pending.stale.max(Stale::Soon);
            self.pending.changed = true;
        }
    }

    pub(crate) fn handle_suspect(&mut self, id: &EndpointId, now: Instant) {
        self.judge_row(id, now);
        let limit = self.origin.suspect_after.load(Relaxed);
        // One that stands by is only there to be better than nothing.
        let failing = |key: &u64| {
            let member = self.members.get(key);
            member.is_some_and(|member| member.handle.load.failures_in_a_row() >= limit)
        };
        if let Some(key) = self.standby.get(id).copied().filter(failing) {
            self.forget(key);
            self.pending.stale = Stale::Now;
            self.pending.changed = true;
        }
        let Some(key) = self.listed.get(id).copied() else { return };
        let another = self.members.iter().any(|(other, member)| {
            *other != key && member.standing == Standing::Listed && member.is_healthy()
        });
        let Some(member) = self.members.get_mut(&key) else { return };
        let failures = member.handle.load.failures_in_a_row();
        if failures < limit || !member.is_healthy() {
            // Recovered meanwhile, drained, or out already: there is nothing to decide. While it
            // is out, reports of what was in flight shall not raise the suspicion again.
            if member.checker.state() != State::Unhealthy {
                member.handle.judged();
            }
            return;
        }
        if another {
            member.checker.suspect(now, failures);
            self.pending.stale = Stale::Now;
        } else {
            member.handle.judged();
            member.checker.check_soon(now);
        }
        member.set_timer(&mut self.timers, member.checker.poll_timeout());
        self.pending.changed = true;
    }

    pub(crate) fn status(&self, now: Instant) -> Vec<EndpointStatus> {
        self.members.values().map(|member| member.status(now)).collect()
    }

    pub(crate) fn panics(&self) -> bool {
        self.panics
    }

    pub(crate) fn ejections(&self) -> Ejections {
        self.ejections
    }

    /// When something was last published: the latest moment that it is sure to know of.
    pub(crate) fn published_at(&self) -> Instant {
        self.published_at
    }

    /// Listed, healthy, and not drained.
    pub(crate) fn healthy(&self) -> usize {
        self.listed.keys().filter(|id| self.is_healthy(id.as_str())).count()
    }

    pub(crate) fn is_healthy(&self, id: &str) -> bool {
        let key = self.listed.get(id);
        key.and_then(|key| self.members.get(key))
            .is_some_and(|member| member.standing == Standing::Listed && member.is_healthy())
    }

    /// It is to be woken by who asks for it, and there is no endpoint that stays.
    pub(crate) fn is_asleep(&self) -> bool {
        let stays = |member: &Member| member.standing == Standing::Listed;
        self.spec.wake.is_some()
            && !self.closed
            && !self.wanted
            && !self.members.values().any(stays)
    }

    pub(crate) fn sessions(&self) -> Option<Arc<Sessions>> {
        self.sessions.clone()
    }

    pub(crate) fn addresses(&self) -> Vec<std::net::SocketAddr> {
        let stays = self.members.values().filter(|member| member.standing == Standing::Listed);
        stays.map(|member| member.endpoint.address).collect()
    }

    pub(crate) fn endpoint(&self, id: &str) -> Option<Arc<EndpointHandle>> {
        Some(self.members.get(self.listed.get(id)?)?.handle.clone())
    }
}

fn wants(source: &EndpointSource) -> bool {
    matches!(source, EndpointSource::Run(run) if run.replicas > 0)
}

fn sessions(spec: &ServiceSpec, seed: u64, former: Option<&Sessions>) -> Option<Arc<Sessions>> {
    let affinity = spec.affinity.as_ref()?;
    Some(Arc::new(Sessions::new(affinity, &spec.name, seed, former)))
}

/// The configuration only names policies that exist; the default stands in for one that does not.
fn policy(spec: &PolicySpec) -> Box<dyn Policy> {
    balance::build(spec)
        .or_else(|| balance::build(&PolicySpec::default()))
        .unwrap_or_else(|| balance::POLICIES[0].build(&[]))
}

pub(crate) fn origin(name: &model::ServiceName, events: Arc<dyn crate::Events>) -> Arc<Origin> {
    Arc::new(Origin {
        service: name.clone(),
        events,
        suspect_after: AtomicU32::new(u32::MAX),
        eject_after: AtomicU32::new(u32::MAX),
        quantiles: OnceLock::new(),
        gate: Gate::default(),
    })
}
