//! Picks within limits, and waiting for one.

use std::sync::Arc;

use model::spec::QueuePer;
use model::{Instant, Rng};
use smallvec::SmallVec;

use crate::gate::{Counted, Entered, Gate, Rejection, Waiting};
use crate::line::Wish;
use crate::pick::NotBegun;
use crate::service::LOOKS_MAX;
use crate::snapshot::{Limits, Snapshot};
use crate::{EndpointHandle, Pick, Request, Service, Session};

/// What became of the wish for an endpoint.
#[derive(Debug)]
#[must_use = "what was acquired is given back when it is dropped"]
pub enum Acquired {
    Picked(Pick),
    /// All are at their limit, and this is a place in the queue.
    Waits(Waiting),
    /// A limit is in the way, and nothing is worth waiting for.
    Full(Rejection),
    /// None is eligible, nor expected soon, or nobody may wait for it.
    NoEndpoint,
}

/// Why there was no pick.
pub(crate) enum Miss {
    NoEndpoint,
    Rejected(Rejection),
    /// All are at their limit. The one that the policy chose first, and what was counted.
    Full(Arc<EndpointHandle>, Counted),
    /// There is none yet, but there is a queue to wait in; and what was counted.
    Expected(Counted),
}

/// How often the policy is asked again, without those that were full. It answers by its own
/// lights that often; then whatever has room will do.
pub(crate) const ASKS_MAX: usize = 4;

impl Service {
    /// As [`Service::pick`], but with a queue it may be a place in it that is answered.
    /// `priority`: 0 (first) to 9.
    pub fn acquire(&self, request: &Request<'_>, priority: u8, rng: &mut Rng) -> Acquired {
        self.count_request(request);
        for _ in 0..LOOKS_MAX {
            // Where none is eligible but expected, any will do.
            let (choice, counted) = match self.pick_uncounted(request, rng) {
                Ok(pick) => return Acquired::Picked(pick),
                Err(Miss::NoEndpoint) => return Acquired::NoEndpoint,
                Err(Miss::Rejected(rejection)) => return Acquired::Full(rejection),
                Err(Miss::Full(choice, counted)) => (Some(choice), counted),
                Err(Miss::Expected(counted)) => (None, counted),
            };
            if let Some(acquired) = self.enter(request, priority, choice, counted, rng) {
                return acquired;
            }
        }
        self.origin.gate.reject(Rejection::Concurrency);
        Acquired::Full(Rejection::Concurrency)
    }

    /// As [`Service::resume`], but a session waits for its endpoint in the queue, if there is one
    /// with a place; `None`: the session moves.
    pub fn acquire_session(
        &self,
        session: Session,
        request: &Request<'_>,
        priority: u8,
    ) -> Option<Acquired> {
        let snapshot = self.snapshot.load();
        let endpoint = self.home(&snapshot, session, request.now);
        let endpoint = endpoint.filter(|e| !request.exclude.contains(&e.key))?;
        let acquired = match snapshot.limits() {
            None => Acquired::Picked(Pick::resume(endpoint, request.now)?),
            Some(limits) => match self.count(limits, request) {
                Err(rejection) => Acquired::Full(rejection),
                Ok(counted) => match self.resume_within(endpoint, request.now, counted) {
                    Ok(pick) => Acquired::Picked(pick),
                    Err(NotBegun::Leaving) => return None,
                    Err(NotBegun::Full) => {
                        let target = Some(endpoint.clone());
                        let counted = self.count(limits, request).ok()?;
                        let (now, exclude) = (request.now, &[][..]);
                        let session = true;
                        let wish = Wish { now, priority, target, session, exclude, counted };
                        self.enter_session(wish)?
                    }
                },
            },
        };
        self.count_request(request);
        Some(acquired)
    }

    /// The time to wait is over: what it was handed in the last moment; or, for a session, any
    /// endpoint that has room now, as it moves rather than fails. `None`: it is counted as timed
    /// out.
    pub fn overdue(
        &self,
        mut waiting: Waiting,
        request: &Request<'_>,
        rng: &mut Rng,
    ) -> Option<Pick> {
        let handed = waiting.take();
        let moves = waiting.is_of_session();
        drop(waiting);
        let pick = handed.or_else(|| match moves {
            // It was counted when it came.
            true => match self.pick_uncounted(request, rng) {
                Ok(pick) => Some(pick),
                Err(miss) => {
                    self.forget(&miss);
                    None
                }
            },
            false => None,
        });
        if pick.is_none() {
            self.origin.gate.reject(self.wait_over());
        }
        pick
    }

    /// What it was that somebody has waited for in vain.
    pub fn wait_over(&self) -> Rejection {
        match self.snapshot.load().holds_for_wake() {
            true => Rejection::WakeTimeout,
            false => Rejection::QueueTimeout,
        }
    }

    /// How many wait now.
    pub fn queued(&self) -> usize {
        self.origin.gate.lock().len()
    }

    pub(crate) fn count(
        &self,
        limits: &Limits,
        request: &Request<'_>,
    ) -> Result<Counted, Rejection> {
        let retry = !request.exclude.is_empty();
        self.origin
            .gate
            .count(&limits.spec, retry)
            .inspect_err(|rejection| self.origin.gate.reject(*rejection))
    }

    /// What was counted for a pick that is not wanted any more.
    pub(crate) fn forget(&self, miss: &Miss) {
        if let Miss::Full(_, counted) | Miss::Expected(counted) = miss {
            self.origin.gate.uncount(*counted);
        }
    }

    pub(crate) fn resume_within(
        &self,
        endpoint: &Arc<EndpointHandle>,
        now: Instant,
        counted: Counted,
    ) -> Result<Pick, NotBegun> {
        let begun = Pick::begin_within(endpoint, now, true, counted);
        begun.inspect_err(|_| self.origin.gate.uncount(counted))
    }

    /// As the policy chooses among those that have room; or else any that has.
    pub(crate) fn pick_within(
        &self,
        limits: &Limits,
        request: &Request<'_>,
        rng: &mut Rng,
    ) -> Result<Pick, Miss> {
        let counted = self.count(limits, request).map_err(Miss::Rejected)?;
        for _ in 0..LOOKS_MAX {
            let snapshot = self.snapshot.load();
            match self.look(&snapshot, request, counted, rng) {
                Ok(Some(pick)) => {
                    self.ask(&snapshot, request, rng);
                    return Ok(pick);
                }
                // Of this very snapshot: by now there may be another, with endpoints.
                Ok(None) if snapshot.awaits_endpoints() => return Err(Miss::Expected(counted)),
                Ok(None) => break,
                Err(Some(choice)) => return Err(Miss::Full(choice, counted)),
                Err(None) => {}
            }
        }
        self.origin.gate.uncount(counted);
        Err(self.none())
    }

    /// `Ok(None)`: there is no endpoint. `Err(None)`: it left in this moment. `Err` with an
    /// endpoint: that was the policy's choice, and all are full.
    fn look(
        &self,
        snapshot: &Snapshot,
        request: &Request<'_>,
        counted: Counted,
        rng: &mut Rng,
    ) -> Result<Option<Pick>, Option<Arc<EndpointHandle>>> {
        let mut avoid = snapshot.positions(request.exclude);
        let mut choice = None;
        // Nobody takes what those who wait are owed.
        let awaited = self.origin.gate.is_awaited();
        for _ in 0..ASKS_MAX {
            let Some(position) = snapshot.choose(&avoid, request, rng) else { return Ok(None) };
            // At first one that was tried is the only one that there is; later the policy knows of
            // none but those that are full and those that were tried.
            if awaited || (choice.is_some() && avoid.contains(&position)) {
                choice.get_or_insert(position);
                break;
            }
            choice.get_or_insert(position);
            let endpoint = &snapshot.endpoints()[position as usize];
            match Pick::begin_within(endpoint, request.now, false, counted) {
                Ok(pick) => return Ok(Some(pick)),
                Err(NotBegun::Leaving) => return Err(None),
                Err(NotBegun::Full) => avoid.push(position),
            }
        }
        if !awaited {
            let others = snapshot.from(0).any(|e| !request.exclude.contains(&e.key));
            for endpoint in snapshot.from(rng.next_u64()) {
                if endpoint.has_room()
                    && !(others && request.exclude.contains(&endpoint.key))
                    && let Ok(pick) = Pick::begin_within(endpoint, request.now, false, counted)
                {
                    return Ok(Some(pick));
                }
            }
        }
        Err(choice.and_then(|position| snapshot.endpoints().get(position as usize)).cloned())
    }

    /// `None`: what was in the way is there no more, as the limits were taken away meanwhile.
    fn enter(
        &self,
        request: &Request<'_>,
        priority: u8,
        choice: Option<Arc<EndpointHandle>>,
        counted: Counted,
        rng: &mut Rng,
    ) -> Option<Acquired> {
        let gate = &self.origin.gate;
        let refused = |rejection: Option<Rejection>| {
            gate.uncount(counted);
            match rejection {
                Some(rejection) => {
                    gate.reject(rejection);
                    Acquired::Full(rejection)
                }
                None => {
                    let _ = self.none();
                    Acquired::NoEndpoint
                }
            }
        };
        let line = gate.lock();
        // Read under the lock: what is published from here on is told to those who wait.
        let snapshot = self.snapshot.load();
        let Some(limits) = snapshot.limits() else {
            gate.uncount(counted);
            return None;
        };
        if snapshot.is_hopeless() {
            return Some(refused(None));
        }
        let Some(queue) = limits.queue.as_ref() else {
            if choice.is_none() && !snapshot.endpoints().is_empty() {
                // It came to wait for an endpoint, and now there are some: nobody has looked yet
                // whether these are full.
                gate.uncount(counted);
                return None;
            }
            return Some(refused(Some(Rejection::Concurrency)));
        };
        let start = rng.next_u64();
        let target = match queue.per {
            QueuePer::Service => None,
            QueuePer::Endpoint => {
                let stays = |choice: &Arc<EndpointHandle>| snapshot.holds(choice.key);
                let free = |e: &&Arc<EndpointHandle>| line.pinned_len(e.key) < queue.max as usize;
                let shortest =
                    || snapshot.from(start).min_by_key(|e| line.pinned_len(e.key)).cloned();
                choice.filter(|choice| stays(choice) && free(&choice)).or_else(shortest)
            }
        };
        let wish = Wish {
            now: request.now,
            priority,
            target,
            session: false,
            exclude: request.exclude,
            counted,
        };
        Some(match Gate::enter(&self.origin, line, &snapshot, queue, wish, start) {
            Entered::Picked(pick) => Acquired::Picked(pick),
            Entered::Waits { waiting, first } => {
                if first && snapshot.is_asleep() {
                    self.origin.events.demanded(self.name());
                }
                Acquired::Waits(waiting)
            }
            Entered::Full => refused(Some(Rejection::QueueFull)),
            Entered::Closed => refused(None),
        })
    }

    /// `None`: there is no queue, or no place in it, or the endpoint leaves.
    fn enter_session(&self, wish: Wish<'_>) -> Option<Acquired> {
        let gate = &self.origin.gate;
        let counted = wish.counted;
        let line = gate.lock();
        let snapshot = self.snapshot.load();
        let keeps = wish.target.as_ref().is_some_and(|target| {
            snapshot.keeps_sessions_of(target) && target.takes_sessions(wish.now)
        });
        let queue = snapshot.limits().and_then(|limits| limits.queue.as_ref()).filter(|_| keeps);
        let entered = queue.map(|queue| Gate::enter(&self.origin, line, &snapshot, queue, wish, 0));
        match entered {
            Some(Entered::Picked(pick)) => Some(Acquired::Picked(pick)),
            Some(Entered::Waits { waiting, .. }) => Some(Acquired::Waits(waiting)),
            Some(Entered::Full | Entered::Closed) | None => {
                gate.uncount(counted);
                None
            }
        }
    }
}

/// Positions that a pick avoids.
pub(crate) type Avoided = SmallVec<[u32; Request::EXCLUDE_MAX]>;
