//! What must hold whatever happens, judged by books of its own: from what the simulation did to
//! the service and saw of it, never from what the service says of itself, except where the two
//! are compared.
//!
//! Start with [`Invariants::picked`].

mod budgets;
mod churn;
mod line;
mod shares;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use model::Instant;
use model::spec::{ConcurrencySpec, HealthKind, PolicySpec, QueuePer, QueueSpec, ServiceSpec};
use serde::Serialize;
use service::{EndpointHandle, Service};

use self::budgets::Second;
use self::churn::Churn;
use self::line::Waits;
use self::shares::Shares;
use crate::server::Server;

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Since the clients began, in milliseconds; 0 for what was before.
    pub at_ms: u64,
    pub what: String,
}

pub(crate) struct Invariants {
    begin: Instant,
    checks: bool,
    unhealthy_after: u32,
    healthy_after: u32,
    budget: f64,
    budget_min: u32,
    /// The service's rules around eligibility.
    share_max: Option<f64>,
    panic: Option<f64>,
    failover_below: f64,
    subset: Option<usize>,
    hedge_budget: f64,
    /// Who can be picked follows from health and priority alone, each with its whole weight.
    is_plain: bool,
    retries_max: Option<u32>,
    concurrency: Option<u32>,
    /// One for the whole service.
    queue: Option<QueueSpec>,
    lowest_priority: u8,
    /// An endpoint with fewer in flight than this keeps its keys; 0: none does for sure.
    always_allowed: u32,
    balancers: Vec<Books>,
    calm: bool,
    violations: Vec<Violation>,
}

/// What one balancer is known to know.
struct Books {
    /// By the index of the server.
    views: Vec<View>,
    /// For the budgets.
    window: VecDeque<Second>,
    calm_picks: u64,
    /// Servers that can be picked, with their weights, and whether that is to be found out again.
    candidates: Vec<(u32, u16)>,
    is_stale: bool,
    /// Servers with so many in flight that load may decide where a key goes.
    crowded: BTreeSet<u32>,
    churn: Churn,
    shares: Shares,
    /// Those who wait, in the order of their arrival.
    line: Vec<Waits>,
}

#[derive(Clone, Default)]
struct View {
    listed: bool,
    drained: bool,
    /// A check has passed, ever.
    proven: bool,
    /// Since when failed checks or suspicion took it out.
    out_since: Option<Instant>,
    /// The service says that it left it out for its traffic.
    ejected: bool,
    failed_in_a_row: u32,
    passed_in_a_row: u32,
    in_flight: u32,
    picks: u64,
    calm_picks: u64,
}

/// After the first ones, more say nothing new.
const VIOLATIONS_MAX: usize = 20;

/// As long as `service` may put off a snapshot, with more than so many endpoints.
const MEMBERS_EAGER: usize = 256;
const PUBLISH_PAUSE: Duration = Duration::from_micros(20);

/// An endpoint whose fair share of picks would be so many, and that got none, was not left out by
/// chance: e^-25 is 10^-11.
const FAIR_PICKS: f64 = 25.0;

impl Invariants {
    pub(crate) fn new(
        spec: &ServiceSpec,
        balancers: usize,
        lowest_priority: u8,
        begin: Instant,
    ) -> Self {
        Self {
            begin,
            checks: spec.health.kind != HealthKind::Off,
            unhealthy_after: spec.health.unhealthy_after,
            healthy_after: spec.health.healthy_after,
            budget: spec.retry.budget,
            budget_min: spec.retry.budget_min,
            share_max: spec.outlier.as_ref().map(|outlier| outlier.share_max),
            panic: spec.panic,
            failover_below: spec.failover_below,
            subset: spec.subset.map(|size| size as usize),
            hedge_budget: spec.hedge.map_or(0.0, |hedge| hedge.budget),
            is_plain: spec.panic.is_none()
                && spec.failover_below == 0.0
                && spec.subset.is_none()
                && spec.slow_start.is_none()
                && spec.affinity.is_none()
                && spec.limits.concurrency.is_none(),
            retries_max: spec.limits.retries,
            concurrency: match spec.limits.concurrency {
                Some(ConcurrencySpec::Fixed(most)) => Some(most),
                _ => None,
            },
            queue: spec.queue.clone().filter(|queue| queue.per == QueuePer::Service),
            lowest_priority,
            always_allowed: always_allowed(&spec.policy),
            balancers: (0..balancers).map(|_| Books::new(&spec.policy)).collect(),
            calm: false,
            violations: Vec::new(),
        }
    }

    pub(crate) fn violated(&mut self, now: Instant, what: impl FnOnce() -> String) {
        if self.violations.len() < VIOLATIONS_MAX {
            let at_ms = now.since(self.begin).as_millis() as u64;
            self.violations.push(Violation { at_ms, what: what() });
        }
    }

    fn view(&mut self, balancer: u32, server: u32) -> &mut View {
        let views = &mut self.balancers[balancer as usize].views;
        if views.len() <= server as usize {
            views.resize(server as usize + 1, View::default());
        }
        &mut views[server as usize]
    }

    /// The same, of which something changes that decides about picks.
    fn changing(&mut self, balancer: u32, server: u32) -> &mut View {
        self.balancers[balancer as usize].is_stale = true;
        self.view(balancer, server)
    }

    pub(crate) fn listed(&mut self, balancer: u32, listed: &[u32]) {
        self.balancers[balancer as usize].is_stale = true;
        for view in &mut self.balancers[balancer as usize].views {
            view.listed = false;
        }
        for server in listed {
            self.view(balancer, *server).listed = true;
        }
    }

    pub(crate) fn drained(&mut self, balancer: u32, server: u32, drained: bool) {
        self.changing(balancer, server).drained = drained;
    }

    /// The result of a health check was handed over.
    pub(crate) fn checked(&mut self, now: Instant, balancer: u32, server: u32, passed: bool) {
        let (unhealthy_after, healthy_after) = (self.unhealthy_after, self.healthy_after);
        let view = self.view(balancer, server);
        if !view.listed {
            return;
        }
        let before = (view.proven, view.out_since.is_some());
        if passed {
            view.failed_in_a_row = 0;
            view.passed_in_a_row += 1;
            view.proven = true;
            if view.passed_in_a_row >= healthy_after {
                view.out_since = None;
            }
        } else {
            view.passed_in_a_row = 0;
            view.failed_in_a_row += 1;
            // One that never passed has not been in.
            if view.proven && view.failed_in_a_row >= unhealthy_after {
                view.out_since.get_or_insert(now);
            }
        }
        if before != (view.proven, view.out_since.is_some()) {
            self.balancers[balancer as usize].is_stale = true;
        }
    }

    /// Suspicion took it out.
    pub(crate) fn suspected(&mut self, now: Instant, balancer: u32, server: u32) {
        let view = self.changing(balancer, server);
        view.out_since = Some(now);
        view.passed_in_a_row = 0;
    }

    /// Which endpoints the service says are ejected, after each call of it.
    pub(crate) fn ejected(&mut self, now: Instant, balancer: u32, ejected: &[u32]) {
        let Some(share_max) = self.share_max else { return };
        let books = &mut self.balancers[balancer as usize];
        let last = ejected.iter().max().map_or(0, |server| *server as usize + 1);
        let length = books.views.len().max(last);
        books.views.resize(length, View::default());
        for (index, view) in (0..).zip(&mut books.views) {
            let is_ejected = ejected.contains(&index);
            books.is_stale |= is_ejected != view.ejected;
            view.ejected = is_ejected;
        }
        let (count, well) = (ejected.len(), self.well(balancer));
        let views = &self.balancers[balancer as usize].views;
        let listed = views.iter().filter(|view| view.listed && !view.drained).count();
        let most = ((share_max * listed as f64 + 1e-9) as usize).max(1);
        let lags = views.len() > MEMBERS_EAGER;
        if count > most {
            self.violated(now, || format!("{count} of {listed} endpoints are ejected"));
        }
        if count > 0 && well == 0 && !lags {
            self.violated(now, || format!("all {count} endpoints that work are ejected"));
        }
    }

    /// How many that suspicion has to leave: listed, proven, not out, not drained.
    pub(crate) fn well(&self, balancer: u32) -> usize {
        let views = &self.balancers[balancer as usize].views;
        views.iter().filter(|view| view.is_well(self.checks)).count()
    }

    /// `resumed`: it is of a session that is there, or waited for it there.
    pub(crate) fn picked(
        &mut self,
        now: Instant,
        (balancer, server): (u32, u32),
        (handle, resumed): (&EndpointHandle, bool),
        service: &Service,
        servers: &[Server],
    ) {
        let calm = self.calm;
        let checks = self.checks;
        let view = self.view(balancer, server);
        view.in_flight += 1;
        view.picks += 1;
        view.calm_picks += u64::from(calm);
        let view = view.clone();
        let books = &mut self.balancers[balancer as usize];
        books.calm_picks += u64::from(calm);
        if view.in_flight >= self.always_allowed {
            books.crowded.insert(server);
        }
        let lag = match books.views.len() {
            members if members > MEMBERS_EAGER => PUBLISH_PAUSE * members as u32,
            _ => Duration::ZERO,
        };
        // Sessions stay where they are while an endpoint drains, until its grace is over, and while
        // another priority is in use.
        let what = if handle.close_at().is_some_and(|at| !resumed || at <= now) {
            "leaves"
        } else if view.drained && !resumed {
            "is drained"
        } else if !view.listed && self.well(balancer) > 0 && service.healthy() > 0 {
            "was removed, while others are healthy"
        } else if checks && !view.proven {
            "never passed a check"
        } else if checks
            && view.listed
            && view.out_since.is_some_and(|since| since + lag < now)
            && !self.may_panic(balancer, service, servers, lag)
        {
            "is out"
        } else if view.ejected && !self.may_panic(balancer, service, servers, lag) {
            "is ejected"
        } else if !resumed
            && self.is_outranked(balancer, servers[server as usize].priority, servers, lag)
        {
            "is of a later priority than a healthy one"
        } else if self.concurrency.is_some_and(|most| view.in_flight > most) {
            "is beyond its limit"
        } else {
            return;
        };
        let count = (handle.in_flight(), view.in_flight);
        self.violated(now, || {
            format!("balancer {balancer} picked {}, which {what} {count:?}", handle.id)
        });
    }

    /// Where a request went, after `picked`; `key`: what the policy goes by, if it does.
    pub(crate) fn placed(
        &mut self,
        now: Instant,
        (balancer, server): (u32, u32),
        key: Option<u64>,
        is_retry: bool,
        servers: &[Server],
    ) {
        if !self.is_plain {
            return;
        }
        let (calm, checks) = (self.calm, self.checks);
        let books = &mut self.balancers[balancer as usize];
        books.refresh(calm, checks, servers);
        if is_retry {
            return books.shares.retried();
        }
        if calm {
            books.shares.picked(server);
        }
        // While snapshots lag, or nobody is well, others than the candidates are picked.
        let is_known = books.views.len() <= MEMBERS_EAGER && !books.candidates.is_empty();
        if let Some(key) = key
            && is_known
            && books.crowded.is_empty()
            && let Some(why) = books.churn.placed(key, server)
        {
            let id = servers[server as usize].id.clone();
            self.violated(now, || format!("balancer {balancer} moved a key to {id} {why}"));
        }
    }

    /// Whether endpoints of earlier priorities are enough. While snapshots lag, nothing is said.
    fn is_outranked(&self, balancer: u32, priority: u8, servers: &[Server], lag: Duration) -> bool {
        if priority <= self.lowest_priority || !lag.is_zero() {
            return false;
        }
        (0..priority).any(|last| self.are_enough(self.count(balancer, last, servers)))
    }

    /// Whether the service says that it is in panic, and is right.
    fn may_panic(
        &self,
        balancer: u32,
        service: &Service,
        servers: &[Server],
        lag: Duration,
    ) -> bool {
        let Some(panic) = self.panic.filter(|_| service.panics()) else { return false };
        let mut priorities: Vec<u8> = servers.iter().map(|server| server.priority).collect();
        priorities.sort_unstable();
        let in_use = priorities
            .iter()
            .map(|last| self.count(balancer, *last, servers))
            .find(|counts| self.are_enough(*counts));
        let (well, all) = in_use.unwrap_or_else(|| self.count(balancer, u8::MAX, servers));
        let too_few = if all <= 3 { well == 0 } else { (well as f64) < panic * all as f64 };
        too_few || !lag.is_zero()
    }

    fn are_enough(&self, (well, all): (usize, usize)) -> bool {
        well > 0 && well as f64 >= self.failover_below * all as f64
    }

    /// Up to this priority: how many are well, of how many that may be used at all.
    fn count(&self, balancer: u32, last: u8, servers: &[Server]) -> (usize, usize) {
        let views = self.balancers[balancer as usize].views.iter().zip(servers);
        let usable = views.filter(|(view, server)| {
            server.priority <= last && view.listed && !view.drained && (!self.checks || view.proven)
        });
        usable.fold((0, 0), |(well, all), (view, _)| {
            (well + usize::from(view.is_well(self.checks)), all + 1)
        })
    }

    pub(crate) fn reported(
        &mut self,
        now: Instant,
        (balancer, server): (u32, u32),
        handle: &EndpointHandle,
    ) {
        let view = self.view(balancer, server);
        let Some(left) = view.in_flight.checked_sub(1) else {
            return self.violated(now, || format!("{} ended more than it began", handle.id));
        };
        view.in_flight = left;
        if left < self.always_allowed {
            self.balancers[balancer as usize].crowded.remove(&server);
        }
    }

    /// Once all that one call of a service did is in the books.
    pub(crate) fn compare(&mut self, now: Instant, balancer: u32, handle: &EndpointHandle) {
        let booked = self.view(balancer, crate::server::index_of(handle.address)).in_flight;
        let counted = handle.in_flight();
        if counted != booked {
            self.violated(now, || format!("{} counts {counted}, not {booked}", handle.id));
        }
    }

    /// The grace of an endpoint that leaves is over, and what it had was cut.
    pub(crate) fn cut(&mut self, now: Instant, handle: &EndpointHandle) {
        if handle.in_flight() > 0 {
            self.violated(now, || format!("{} has streams after its grace", handle.id));
        }
    }

    /// Attempts that went to a server, of all balancers.
    pub(crate) fn picks(&self, server: u32) -> u64 {
        let views = self.balancers.iter().filter_map(|books| books.views.get(server as usize));
        views.map(|view| view.picks).sum()
    }

    /// The last fault is over and had its time to be got over: from here on liveness is owed.
    pub(crate) fn becalmed(&mut self) {
        self.calm = true;
        // Retries before were not about the shares that are owed now.
        for books in &mut self.balancers {
            books.shares.begin();
        }
    }

    /// At the very end. `exempt`: servers that still have a fault. `spreads`: the policy uses all
    /// that it may.
    pub(crate) fn finish(
        mut self,
        now: Instant,
        services: &[&Service],
        servers: &[Server],
        exempt: &[u32],
        spreads: bool,
    ) -> Vec<Violation> {
        for (balancer, service) in services.iter().enumerate() {
            let empty = Books::new(&PolicySpec::default());
            let mut books = std::mem::replace(&mut self.balancers[balancer], empty);
            books.refresh(self.calm, self.checks, servers);
            let shares = (self.calm && self.is_plain)
                .then(|| books.shares.verdict(&books.candidates))
                .flatten();
            for what in books.churn.verdict().into_iter().chain(shares) {
                self.violated(now, || format!("balancer {balancer} {what}"));
            }
            let (waiting, booked) = (service.queued(), books.line.len());
            if waiting > 0 || booked > 0 {
                self.violated(now, || format!("{waiting} and {booked} wait at the end"));
            }
            for (view, server) in books.views.iter().zip(servers) {
                let Some(handle) = service.endpoint(server.id.as_str()) else { continue };
                let (in_flight, picks) = (handle.in_flight(), handle.load.picks());
                if in_flight != 0 || view.in_flight != 0 {
                    self.violated(now, || format!("{} has {in_flight} at the end", server.id));
                }
                if picks != view.picks {
                    let seen = view.picks;
                    self.violated(now, || {
                        format!("{} counts {picks} picks, not {seen}", server.id)
                    });
                }
            }
            let eligible = service.eligible().len();
            if self.subset.is_some_and(|size| eligible > size) {
                self.violated(now, || format!("balancer {balancer} uses {eligible} endpoints"));
            }
            if self.calm && spreads && self.subset.is_none() {
                self.all_used(now, balancer, &books, servers, exempt);
            }
        }
        self.violations
    }

    fn all_used(
        &mut self,
        now: Instant,
        balancer: usize,
        books: &Books,
        servers: &[Server],
        exempt: &[u32],
    ) {
        let owed = |(index, (view, _)): &(u32, (&View, &Server))| {
            view.listed && !view.drained && !exempt.contains(index)
        };
        let owed: Vec<(u32, (&View, &Server))> =
            (0..).zip(books.views.iter().zip(servers)).filter(owed).collect();
        let Some(priority) = owed.iter().map(|(_, (_, server))| server.priority).min() else {
            return;
        };
        let first = || owed.iter().filter(|(_, (_, server))| server.priority == priority);
        let weight = |server: &Server| f64::from(server.weight);
        let total: f64 = first().map(|(_, (_, server))| weight(server)).sum();
        // What a policy that hashes shares out are keys.
        let keys = books.churn.keys().unwrap_or(u64::MAX);
        for (_, (view, server)) in first() {
            let fair = books.calm_picks.min(keys) as f64 * weight(server) / total;
            if fair >= FAIR_PICKS && view.calm_picks == 0 {
                self.violated(now, || {
                    format!(
                        "balancer {balancer} left {} out after all was well again, where {fair:.0} \
                         requests were its share",
                        server.id
                    )
                });
            }
        }
    }
}

impl View {
    /// `checks`: whether it is health checks that say so.
    fn is_well(&self, checks: bool) -> bool {
        let checked = !checks || (self.proven && self.out_since.is_none());
        self.listed && !self.drained && !self.ejected && checked
    }
}

impl Books {
    fn new(policy: &PolicySpec) -> Self {
        Self {
            views: Vec::new(),
            window: VecDeque::new(),
            calm_picks: 0,
            candidates: Vec::new(),
            is_stale: true,
            crowded: BTreeSet::new(),
            churn: Churn::new(&policy.name),
            shares: Shares::new(&policy.name),
            line: Vec::new(),
        }
    }

    /// Finds out who can be picked, if that may have changed: of the well ones, those of the
    /// first priority.
    fn refresh(&mut self, calm: bool, checks: bool, servers: &[Server]) {
        if !std::mem::take(&mut self.is_stale) {
            return;
        }
        let is_well = |view: &View| view.is_well(checks);
        let well = || {
            let all = (0u32..).zip(self.views.iter().zip(servers));
            all.filter(|(_, (view, _))| is_well(view)).map(|(index, (_, server))| (index, server))
        };
        let first = well().map(|(_, server)| server.priority).min();
        let candidates: Vec<(u32, u16)> = well()
            .filter(|(_, server)| Some(server.priority) == first)
            .map(|(index, server)| (index, server.weight))
            .collect();
        if candidates != self.candidates {
            self.churn.changed(&candidates.iter().map(|(server, _)| *server).collect::<Vec<_>>());
            if calm {
                self.shares.changed();
            }
            self.candidates = candidates;
        }
    }
}

/// Of bounded loads, as the policy has it; 0 if it has none.
fn always_allowed(policy: &PolicySpec) -> u32 {
    let options = balance::Options::of(policy);
    let integer = |options: balance::Options<'_>| options.integer("always_allowed") as u32;
    options.filter(|options| options.has("always_allowed")).map_or(0, integer)
}
