use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use arc_swap::{ArcSwap, Guard};
use model::spec::{EndpointSource, ServiceSpec};
use model::status::{ServiceStatus, SessionStatus};
use model::{AgentReply, Endpoint, EndpointId, Instant, Rng, ServiceName, Weight};

use crate::acquire::Miss;
use crate::budget::RetryBudget;
use crate::control::{self, Control};
use crate::endpoint::Origin;
use crate::gate::Rejection;
use crate::hedge::HedgeCounts;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::{Claim, DueCheck, EndpointHandle, Events, Pick, Request, Session, UnknownEndpoint};

/// One service, always in an `Arc`, shared by all workers and the control side.
pub struct Service {
    pub(crate) origin: Arc<Origin>,
    pub(crate) snapshot: ArcSwap<Snapshot>,
    settings: ArcSwap<Settings>,
    pub(crate) budget: RetryBudget,
    /// Retries that the budget allowed, and that it forbade; picks that found nothing.
    retries: AtomicU64,
    retries_denied: AtomicU64,
    pub(crate) hedges: HedgeCounts,
    unavailable: AtomicU64,
    control: Mutex<Controlled>,
}

struct Controlled {
    control: Control,
    /// The snapshot before the present one, kept so that it is this side that drops it, not a
    /// worker that happened to be the last to read it.
    former: Option<Arc<Snapshot>>,
}

/// How often a pick looks again when the endpoint that it chose left in the same moment. Each
/// time there was a newer snapshot to look at, so a second look is rare and a third almost
/// unheard of.
pub(crate) const LOOKS_MAX: usize = 8;

impl Service {
    /// Static endpoints are taken from the specification; of a service that runs or
    /// discovers its replicas,
    /// [`Service::set_endpoints`] names them later. The same seed and calls give the same picks.
    /// The seed also decides which `subset` this balancer uses: each balancer of a fleet needs its
    /// own.
    pub fn new(
        spec: &ServiceSpec,
        events: Arc<dyn Events>,
        now: Instant,
        seed: u64,
    ) -> Arc<Service> {
        let spec = Arc::new(spec.clone());
        let origin = control::origin(&spec.name, events);
        let control = Control::new(spec.clone(), origin.clone(), now, seed);
        let service = Arc::new(Self {
            origin,
            snapshot: ArcSwap::from_pointee(Snapshot::empty()),
            settings: ArcSwap::from_pointee(Settings::new(spec, control.sessions())),
            budget: RetryBudget::new(),
            retries: AtomicU64::new(0),
            retries_denied: AtomicU64::new(0),
            hedges: HedgeCounts::default(),
            unavailable: AtomicU64::new(0),
            control: Mutex::new(Controlled { control, former: None }),
        });
        service.set_hedging();
        service.change(now, |_| ());
        service
    }

    pub fn name(&self) -> &ServiceName {
        &self.origin.service
    }

    // The data path: no lock, no allocation.

    /// The specification now in force.
    pub fn settings(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// The endpoint for this attempt; `None` if none is eligible, or a limit is in the way. A
    /// request whose `exclude` is empty is counted as a new one by the retry budget.
    pub fn pick(&self, request: &Request<'_>, rng: &mut Rng) -> Option<Pick> {
        let picked = self.pick_now(request, rng);
        picked
            .inspect_err(|miss| {
                self.forget(miss);
                match miss {
                    Miss::Full(..) => self.origin.gate.reject(Rejection::Concurrency),
                    // Here nobody waits for it.
                    Miss::Expected(_) => drop(self.none()),
                    Miss::NoEndpoint | Miss::Rejected(_) => {}
                }
            })
            .ok()
    }

    pub(crate) fn pick_now(&self, request: &Request<'_>, rng: &mut Rng) -> Result<Pick, Miss> {
        self.count_request(request);
        self.pick_uncounted(request, rng)
    }

    /// One that is no retry, for the budget.
    pub(crate) fn count_request(&self, request: &Request<'_>) {
        if request.exclude.is_empty() {
            self.budget.count_request(request.now);
        }
    }

    /// For a request that was counted before.
    pub(crate) fn pick_uncounted(
        &self,
        request: &Request<'_>,
        rng: &mut Rng,
    ) -> Result<Pick, Miss> {
        for _ in 0..LOOKS_MAX {
            let snapshot = self.snapshot.load();
            if let Some(limits) = snapshot.limits() {
                return self.pick_within(limits, request, rng);
            }
            let Some(endpoint) = snapshot.pick(request, rng) else { break };
            if let Some(pick) = Pick::begin(endpoint, request.now) {
                self.ask(&snapshot, request, rng);
                return Ok(pick);
            }
        }
        Err(self.none())
    }

    /// Nothing is eligible, which is counted.
    pub(crate) fn none(&self) -> Miss {
        self.unavailable.fetch_add(1, Relaxed);
        Miss::NoEndpoint
    }

    /// After a pick: has those probed whom the policy wants to hear of.
    pub(crate) fn ask(&self, snapshot: &Snapshot, request: &Request<'_>, rng: &mut Rng) {
        snapshot.ask(request.now, rng, |endpoint, path| {
            self.origin.events.probe(self.name(), endpoint, path);
        });
    }

    /// The endpoint of the session, instead of [`Service::pick`]; `None` if it can no longer
    /// serve, was tried already, or there never was one: the session moves then. It may be
    /// drained, or of a priority that is not in use now: sessions stay where they are as long as
    /// that works. With limits it must have room, too.
    pub fn resume(&self, session: Session, request: &Request<'_>) -> Option<Pick> {
        let snapshot = self.snapshot.load();
        let endpoint = self.home(&snapshot, session, request.now);
        let endpoint = endpoint.filter(|e| !request.exclude.contains(&e.key))?;
        let pick = match snapshot.limits() {
            None => Pick::resume(endpoint, request.now)?,
            Some(limits) => {
                let counted = self.count(limits, request).ok()?;
                self.resume_within(endpoint, request.now, counted).ok()?
            }
        };
        self.count_request(request);
        Some(pick)
    }

    /// After [`Service::pick`] for a session that has no endpoint, or lost it: further requests of
    /// it that come meanwhile go to this one, too. `None`: there is nothing to remember, or
    /// another request was first.
    pub fn claim(
        &self,
        session: Session,
        endpoint: &EndpointHandle,
        request: &Request<'_>,
    ) -> Option<Claim> {
        self.snapshot.load().sessions().claim(session, endpoint, request.now)
    }

    /// The endpoint served a request of the session: there the session is from now on, unless it
    /// is where it can go on, and this request did not find that it cannot (`exclude`).
    pub fn learn(&self, session: Session, endpoint: &EndpointHandle, request: &Request<'_>) {
        let snapshot = self.snapshot.load();
        let sessions = snapshot.sessions();
        let Some(key) = sessions.shared_key(session) else {
            sessions.learn(session, endpoint, request);
            return;
        };
        let known = sessions.has_begun(session, endpoint, request.now);
        if sessions.learn(session, endpoint, request) && !known {
            let moved = !request.exclude.is_empty();
            self.origin.events.session_at(self.name(), key, &endpoint.id, moved);
        }
    }

    /// Where the session is, if it can go on there; a store that it is shared by hears of its use
    /// now and then.
    pub(crate) fn home<'a>(
        &self,
        snapshot: &'a Snapshot,
        session: Session,
        now: Instant,
    ) -> Option<&'a Arc<EndpointHandle>> {
        let sessions = snapshot.sessions();
        let Some(key) = sessions.shared_key(session) else { return sessions.find(session, now) };
        let due = sessions.is_due(session, now);
        let endpoint = sessions.find(session, now)?;
        if due {
            self.origin.events.session_at(self.name(), key, &endpoint.id, false);
        }
        Some(endpoint)
    }

    /// Under which key a store that other balancers share is to be asked for the session: nobody here
    /// knows an endpoint at which it can go on. `None`: there is no need, or no store.
    pub fn lost(&self, session: Session, now: Instant) -> Option<u64> {
        let snapshot = self.snapshot.load();
        let key = snapshot.sessions().shared_key(session)?;
        self.home(&snapshot, session, now).is_none().then_some(key)
    }

    /// The store says that the session of this key is at the endpoint of this id. Answers whether
    /// it is from now on: not if it cannot go on there.
    pub fn adopt(&self, key: u64, endpoint: &str, now: Instant) -> bool {
        self.snapshot.load().sessions().adopt(key, endpoint, now)
    }

    /// The store may have forgotten: it is told of each session once more, at its next use.
    pub fn retell_sessions(&self, now: Instant) {
        self.snapshot.load().sessions().retell(now);
    }

    /// Whether the budget and the limit allow one more retry now; if so, it is counted.
    pub fn admit_retry(&self, now: Instant) -> bool {
        let settings = self.settings.load();
        if !self.origin.gate.admits_retry(&settings.limits) {
            self.origin.gate.reject(Rejection::Retries);
            self.retries_denied.fetch_add(1, Relaxed);
            return false;
        }
        let admitted = self.budget.admit(settings.retry.budget, settings.retry.budget_min, now);
        let count = if admitted { &self.retries } else { &self.retries_denied };
        count.fetch_add(1, Relaxed);
        admitted
    }

    /// Counts a further attempt that needs no budget, since the one before sent nothing.
    pub fn count_retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    // The control side: short, behind a mutex.

    /// Takes a changed specification in place. What did not change is not touched. When replicas
    /// of our own replace static endpoints, these serve until the first
    /// [`Service::set_endpoints`].
    pub fn update(&self, spec: &ServiceSpec, now: Instant) {
        if ***self.settings.load() == *spec {
            return;
        }
        self.change(now, |control| {
            let spec = Arc::new(spec.clone());
            control.update(spec.clone(), now);
            self.settings.store(Arc::new(Settings::new(spec, control.sessions())));
        });
        self.set_hedging();
    }

    /// The endpoints are these now, compared by id; of several with one id, the first counts.
    /// The same id at another address is another endpoint. If this leaves no healthy endpoint
    /// but names unproven ones, healthy removed ones serve until one is proven, at most for
    /// `drain_grace`.
    pub fn set_endpoints(&self, endpoints: Vec<Endpoint>, now: Instant) {
        self.change(now, |control| control.set_endpoints(endpoints, now));
    }

    /// So many replicas of ours are wanted from now on, of which [`Service::set_endpoints`] tells when
    /// they are there: in place of what the specification says, until that says something else. While
    /// there is no endpoint, requests wait in the queue for wanted ones, and fail at once if none is.
    pub fn want(&self, replicas: usize, now: Instant) {
        self.change(now, |control| control.want(replicas));
    }

    /// It gets nothing new, finishes what it has until the grace is over, and stays listed. With
    /// affinity, what it has is its sessions, too.
    pub fn drain(&self, id: &str, now: Instant) -> Result<(), UnknownEndpoint> {
        self.change(now, |control| control.drain(id, true))
    }

    /// As [`Service::drain`], but its sessions move now: it is to end as soon as it is idle.
    pub fn retire(&self, id: &str, now: Instant) -> Result<(), UnknownEndpoint> {
        self.change(now, |control| control.drain(id, false))
    }

    /// Takes back [`Service::drain`] and [`Service::retire`].
    pub fn undrain(&self, id: &str, now: Instant) -> Result<(), UnknownEndpoint> {
        self.change(now, |control| control.undrain(id))
    }

    /// Overrides the endpoint's configured weight, until `None`.
    pub fn set_weight(
        &self,
        id: &str,
        weight: Option<Weight>,
        now: Instant,
    ) -> Result<(), UnknownEndpoint> {
        self.change(now, |control| control.set_weight(id, weight))
    }

    /// The service is removed: all its endpoints leave, and nothing changes it any more.
    pub fn close(&self, now: Instant) {
        self.change(now, Control::close);
    }

    /// When [`Service::due_checks`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.read(Control::poll_timeout)
    }

    /// Health checks that are to start now. Also does whatever else is due.
    pub fn due_checks(&self, now: Instant) -> Vec<DueCheck> {
        self.change(now, |control| control.due_checks(now))
    }

    /// The result of a [`DueCheck`], with a text for people if it failed.
    pub fn handle_check(
        &self,
        id: &EndpointId,
        generation: u64,
        result: Result<(), String>,
        now: Instant,
    ) {
        self.change(now, |control| control.handle_check(id, generation, result, now));
    }

    /// What the health agent of an endpoint said, beside a [`DueCheck`]. It holds until the agent says
    /// something else; the endpoint is in service if both its checks and its agent say so.
    pub fn handle_agent(&self, id: &EndpointId, reply: AgentReply, now: Instant) {
        self.change(now, |control| control.handle_agent(id, reply, now));
    }

    /// Judges an endpoint after [`Events::suspect`]. If its failures in a row still stand, it is
    /// out at once, and is checked at once; the last eligible endpoint is only checked. As an
    /// outlier (`outlier.consecutive`) it is ejected, and comes back by time.
    pub fn handle_suspect(&self, id: &EndpointId, now: Instant) {
        self.change(now, |control| control.handle_suspect(id, now));
    }

    /// As [`Service::status_at`], seen from the last change. All but [`Service::session_status`].
    pub fn status(&self) -> ServiceStatus {
        self.status_at(self.read(Control::published_at))
    }

    /// `now` is what reasons count from (`back in 9 s`), and whether an endpoint rests.
    pub fn status_at(&self, now: Instant) -> ServiceStatus {
        let settings = self.settings.load();
        ServiceStatus {
            name: self.name().to_string(),
            policy: settings.policy.name.clone(),
            replicas: match &settings.source {
                EndpointSource::Run(run) => Some(run.replicas),
                EndpointSource::Static(_) | EndpointSource::Discover(_) => None,
            },
            endpoints: self.read(|control| control.status(now)),
            panic: self.read(Control::panics),
            ejections: self.read(Control::ejections),
            retries: self.retries.load(Relaxed),
            retries_denied: self.retries_denied.load(Relaxed),
            hedges: self.hedges.sent.load(Relaxed),
            hedges_denied: self.hedges.denied.load(Relaxed),
            hedges_won: self.hedges.won.load(Relaxed),
            unavailable: self.unavailable.load(Relaxed),
            sessions: None,
            queue: self.origin.gate.status(),
            asleep: self.is_asleep(),
        }
    }

    /// The table of sessions, if there is one. Looks through all of it: a millisecond for each
    /// million sessions that it has room for.
    pub fn session_status(&self, now: Instant) -> Option<SessionStatus> {
        self.settings.load().sessions()?.status(now)
    }

    /// Whether it has no endpoint until somebody asks for it (`wake`).
    pub fn is_asleep(&self) -> bool {
        self.read(Control::is_asleep)
    }

    /// Requests and streams that wait for it although it sleeps: while there are any, somebody is to
    /// start an endpoint. `None`: it does not sleep, or nobody waits.
    pub fn demand(&self) -> Option<usize> {
        let asleep = self.snapshot.load().is_asleep();
        Some(self.queued()).filter(|queued| asleep && *queued > 0)
    }

    /// How many endpoints are healthy and not leaving, of all priorities.
    pub fn healthy(&self) -> usize {
        self.read(Control::healthy)
    }

    /// Whether there is an endpoint of this name, healthy and not leaving.
    pub fn is_healthy(&self, id: &str) -> bool {
        self.read(|control| control.is_healthy(id))
    }

    pub fn endpoint(&self, id: &str) -> Option<Arc<EndpointHandle>> {
        self.read(|control| control.endpoint(id))
    }

    /// Endpoints that picks could go to, were they not ejected as outliers.
    pub fn ejected(&self) -> Vec<Arc<EndpointHandle>> {
        self.read(Control::ejected)
    }

    /// Whether so few endpoints are healthy that ill ones are used.
    pub fn panics(&self) -> bool {
        self.read(Control::panics)
    }

    /// The endpoints that picks now choose from.
    pub fn eligible(&self) -> Vec<Arc<EndpointHandle>> {
        self.snapshot.load().endpoints().to_vec()
    }

    /// Whether there is an endpoint that picks could go to, were no policy or limit in the way.
    pub fn has_eligible(&self) -> bool {
        !self.snapshot.load().endpoints().is_empty()
    }

    /// A pick of the eligible endpoint at this address, which somebody chose without asking here
    /// and is about to report; `None` if there is none, or it leaves. No limit stands in its way,
    /// for it has happened. Looks through all endpoints.
    pub fn pick_at(&self, address: SocketAddr, now: Instant) -> Option<Pick> {
        let snapshot = self.snapshot.load();
        let endpoint = snapshot.endpoints().iter().find(|e| e.address == address)?;
        Pick::begin(endpoint, now)
    }

    /// The addresses of all endpoints but those that leave, whatever their health.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.read(Control::addresses)
    }

    fn read<R>(&self, read: impl FnOnce(&Control) -> R) -> R {
        // A panic elsewhere left it usable: every change is complete before it is published.
        let controlled = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        read(&controlled.control)
    }

    /// Changes something under the lock, publishes it, and tells of it after the lock.
    fn change<R>(&self, now: Instant, change: impl FnOnce(&mut Control) -> R) -> R {
        let mut controlled = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let Controlled { control, former } = &mut *controlled;
        let result = change(control);
        let mut published = false;
        let notices = control.settle(now, |snapshot| {
            *former = Some(self.snapshot.swap(Arc::new(snapshot)));
            published = true;
        });
        // Under the lock still, so that the line hears of changes in their order.
        let woken = (published || notices.room || !notices.leaving.is_empty())
            .then(|| self.origin.gate.settle(&self.snapshot.load(), control.is_closed(), now));
        let demanded = woken.is_some() && self.demand().is_some();
        let was_asking = control.is_asking();
        let questions = control.ask_idle(&self.snapshot.load(), now);
        let begins = control.is_asking() && !was_asking;
        drop(controlled);
        woken.into_iter().flatten().for_each(Waker::wake);
        for endpoint in &notices.leaving {
            self.origin.events.leaving(self.name(), endpoint);
        }
        for endpoint in &notices.staying {
            self.origin.events.staying(self.name(), endpoint);
        }
        for (endpoint, path) in &questions {
            self.origin.events.probe(self.name(), endpoint, path);
        }
        if demanded {
            self.origin.events.demanded(self.name());
        }
        if notices.changed || begins {
            self.origin.events.changed(self.name());
        }
        result
    }
}

#[cfg(test)]
mod tests;
