//! What must hold whatever happens, judged by books of its own: from what the simulation did to
//! the service and saw of it, never from what the service says of itself, except where the two
//! are compared.
//!
//! Start with [`Invariants::picked`].

use std::collections::VecDeque;
use std::time::Duration;

use model::Instant;
use model::spec::{ConcurrencySpec, HealthKind, QueuePer, QueueSpec, ServiceSpec};
use serde::Serialize;
use service::{EndpointHandle, Service};

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
    retries_max: Option<u32>,
    concurrency: Option<u32>,
    /// One for the whole service.
    queue: Option<QueueSpec>,
    lowest_priority: u8,
    balancers: Vec<Books>,
    calm: bool,
    violations: Vec<Violation>,
}

/// What one balancer is known to know.
#[derive(Default)]
struct Books {
    /// By the index of the server.
    views: Vec<View>,
    /// Second, requests and retries in it; the last ten seconds.
    window: VecDeque<(u64, u64, u64)>,
    calm_picks: u64,
    /// Those who wait, in the order of their arrival.
    line: Vec<Waits>,
}

/// One that waits.
struct Waits {
    slot: u32,
    priority: u8,
    /// It was tried nowhere before, and so takes any endpoint.
    fresh: bool,
}

#[derive(Clone, Default)]
struct View {
    listed: bool,
    drained: bool,
    /// A check has passed, ever.
    proven: bool,
    /// Since when failed checks or suspicion took it out.
    out_since: Option<Instant>,
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

/// The budget's window, in seconds.
const WINDOW: u64 = 10;

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
            retries_max: spec.limits.retries,
            concurrency: match spec.limits.concurrency {
                Some(ConcurrencySpec::Fixed(most)) => Some(most),
                _ => None,
            },
            queue: spec.queue.clone().filter(|queue| queue.per == QueuePer::Service),
            lowest_priority,
            balancers: (0..balancers).map(|_| Books::default()).collect(),
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

    pub(crate) fn listed(&mut self, balancer: u32, listed: &[u32]) {
        for view in &mut self.balancers[balancer as usize].views {
            view.listed = false;
        }
        for server in listed {
            self.view(balancer, *server).listed = true;
        }
    }

    pub(crate) fn drained(&mut self, balancer: u32, server: u32, drained: bool) {
        self.view(balancer, server).drained = drained;
    }

    /// The result of a health check was handed over.
    pub(crate) fn checked(&mut self, now: Instant, balancer: u32, server: u32, passed: bool) {
        let (unhealthy_after, healthy_after) = (self.unhealthy_after, self.healthy_after);
        let view = self.view(balancer, server);
        if !view.listed {
            return;
        }
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
    }

    /// Suspicion took it out.
    pub(crate) fn ejected(&mut self, now: Instant, balancer: u32, server: u32) {
        let view = self.view(balancer, server);
        view.out_since = Some(now);
        view.passed_in_a_row = 0;
    }

    /// How many that suspicion has to leave: listed, proven, not out, not drained.
    pub(crate) fn well(&self, balancer: u32) -> usize {
        let views = &self.balancers[balancer as usize].views;
        let well = |view: &&View| {
            view.listed
                && !view.drained
                && (!self.checks || (view.proven && view.out_since.is_none()))
        };
        views.iter().filter(well).count()
    }

    pub(crate) fn picked(
        &mut self,
        now: Instant,
        (balancer, server): (u32, u32),
        handle: &EndpointHandle,
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
        let lag = match books.views.len() {
            members if members > MEMBERS_EAGER => PUBLISH_PAUSE * members as u32,
            _ => Duration::ZERO,
        };
        let what = if handle.is_leaving() {
            "leaves"
        } else if view.drained {
            "is drained"
        } else if !view.listed && self.well(balancer) > 0 && service.healthy() > 0 {
            "was removed, while others are healthy"
        } else if checks && !view.proven {
            "never passed a check"
        } else if checks && view.listed && view.out_since.is_some_and(|since| since + lag < now) {
            "is out"
        } else if self.is_outranked(balancer, servers[server as usize].priority, servers, lag) {
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

    /// Whether an earlier priority has a healthy endpoint. While snapshots lag, nothing is said.
    fn is_outranked(&self, balancer: u32, priority: u8, servers: &[Server], lag: Duration) -> bool {
        if priority <= self.lowest_priority || !lag.is_zero() {
            return false;
        }
        let views = self.balancers[balancer as usize].views.iter().zip(servers);
        views.into_iter().any(|(view, server)| {
            let well = view.listed && !view.drained;
            let well = well && (!self.checks || (view.proven && view.out_since.is_none()));
            well && server.priority < priority
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
    }

    /// Once all that one call of a service did is in the books.
    pub(crate) fn compare(&mut self, now: Instant, balancer: u32, handle: &EndpointHandle) {
        let booked = self.view(balancer, crate::server::index_of(handle.address)).in_flight;
        let counted = handle.in_flight();
        if counted != booked {
            self.violated(now, || format!("{} counts {counted}, not {booked}", handle.id));
        }
    }

    /// Somebody came to wait.
    pub(crate) fn waits(
        &mut self,
        now: Instant,
        balancer: u32,
        (slot, priority, fresh): (u32, u8, bool),
    ) {
        let line = &mut self.balancers[balancer as usize].line;
        line.push(Waits { slot, priority, fresh });
        let length = line.len();
        if self.queue.as_ref().is_some_and(|queue| length > queue.max as usize) {
            self.violated(now, || format!("{length} wait"));
        }
    }

    /// Somebody's turn has come: nobody who came before and is no less urgent still waits.
    /// `ready`: there was indeed something.
    pub(crate) fn turned(&mut self, now: Instant, balancer: u32, slot: u32, ready: bool) {
        let line = &mut self.balancers[balancer as usize].line;
        let Some(position) = line.iter().position(|waits| waits.slot == slot) else {
            return self.violated(now, || format!("the turn of {slot} came, who does not wait"));
        };
        let next = line.remove(position);
        let passed = line[..position].iter().any(|w| w.fresh && w.priority <= next.priority);
        if passed && next.fresh && self.queue.is_some() {
            self.violated(now, || format!("the turn of {slot} came before another's"));
        }
        if !ready {
            self.violated(now, || format!("{slot} was told of a turn, and had none"));
        }
    }

    /// Somebody waits no longer.
    pub(crate) fn left(&mut self, balancer: u32, slot: u32) {
        self.balancers[balancer as usize].line.retain(|waits| waits.slot != slot);
    }

    /// Nobody waits while an endpoint has room.
    pub(crate) fn idle(&mut self, now: Instant, balancer: u32, service: &Service) {
        let waits = self.balancers[balancer as usize].line.iter().any(|waits| waits.fresh);
        if waits && self.queue.is_some() {
            for endpoint in service.eligible() {
                if endpoint.limit().is_none_or(|most| endpoint.in_flight() < most) {
                    self.violated(now, || format!("{} has room, and somebody waits", endpoint.id));
                }
            }
        }
    }

    /// The grace of an endpoint that leaves is over, and what it had was cut.
    pub(crate) fn cut(&mut self, now: Instant, handle: &EndpointHandle) {
        if handle.in_flight() > 0 {
            self.violated(now, || format!("{} has streams after its grace", handle.id));
        }
    }

    /// A request, not a retry, asked for an endpoint.
    pub(crate) fn requested(&mut self, now: Instant, balancer: u32) {
        self.second(now, balancer).1 += 1;
    }

    /// The budget was asked, and answered.
    pub(crate) fn retried(&mut self, now: Instant, balancer: u32, admitted: bool) {
        self.second(now, balancer);
        let window = &self.balancers[balancer as usize].window;
        let requests: u64 = window.iter().map(|(_, requests, _)| requests).sum();
        let retries: u64 = window.iter().map(|(_, _, retries)| retries).sum();
        let allowed = self.budget * requests as f64 + f64::from(self.budget_min) * WINDOW as f64;
        // What the limit forbids, the budget may have allowed.
        let forbidden = self.retries_max.is_some() && !admitted;
        if !forbidden && admitted != ((retries as f64) < allowed) {
            self.violated(now, || {
                format!("retry admitted: {admitted}, with {retries} of {allowed} in use")
            });
        }
        self.second(now, balancer).2 += u64::from(admitted);
    }

    fn second(&mut self, now: Instant, balancer: u32) -> &mut (u64, u64, u64) {
        let second = now.as_nanos() / 1_000_000_000;
        let window = &mut self.balancers[balancer as usize].window;
        if window.back().is_none_or(|(last, ..)| *last != second) {
            window.push_back((second, 0, 0));
            while window.front().is_some_and(|(first, ..)| second - first >= WINDOW) {
                window.pop_front();
            }
        }
        let last = window.len() - 1;
        &mut window[last]
    }

    /// Attempts that went to a server, of all balancers.
    pub(crate) fn picks(&self, server: u32) -> u64 {
        let views = self.balancers.iter().filter_map(|books| books.views.get(server as usize));
        views.map(|view| view.picks).sum()
    }

    /// The last fault is over and had its time to be got over: from here on liveness is owed.
    pub(crate) fn becalmed(&mut self) {
        self.calm = true;
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
            let books = std::mem::take(&mut self.balancers[balancer]);
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
            if self.calm && spreads {
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
        for (_, (view, server)) in first() {
            let fair = books.calm_picks as f64 * weight(server) / total;
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
