use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use model::{Instant, Outcome, Report};

use crate::EndpointHandle;
use crate::gate::Counted;

/// What a pick depends on.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub now: Instant,
    /// A hash of what requests are to be kept together by, if the policy takes a key.
    pub key: Option<u64>,
    /// [`EndpointHandle::key`]s that this request was already tried on; empty at the first
    /// attempt. They are picked again only if there is no other; of more than
    /// [`Request::EXCLUDE_MAX`], only the first count.
    pub exclude: &'a [u64],
}

impl Request<'_> {
    /// More attempts than a configuration can ask for (`retry.attempts` is at most 10).
    pub const EXCLUDE_MAX: usize = 16;
}

/// One request or connection that was given to an endpoint, counted in its load until it is
/// reported. Dropped without a report, it is reported as [`Outcome::Abandoned`].
#[derive(Debug)]
#[must_use = "a pick is under way until it is reported"]
pub struct Pick {
    endpoint: Arc<EndpointHandle>,
    reported: bool,
    counted: Counted,
    /// When it was picked.
    began: Instant,
    /// What the endpoint had in flight before.
    in_flight: u32,
}

/// Why nothing began at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotBegun {
    /// At its limit, or others wait for its room.
    Full,
    Leaving,
}

impl Pick {
    /// Counts it. `None` if the endpoint left meanwhile: whoever drains it may already have seen
    /// it idle, so nothing may begin there any more.
    pub(crate) fn begin(endpoint: &Arc<EndpointHandle>, now: Instant) -> Option<Self> {
        let in_flight = endpoint.load.begin_behind();
        // Counting comes before looking, and `leave` comes before looking at the count, all
        // sequentially consistent: at least one side sees the other.
        let pick = Self::new(endpoint, now, Counted::default(), in_flight);
        if endpoint.is_leaving() { None } else { Some(pick) }
    }

    /// As [`Pick::begin`], for what belongs to a session: also where only these go on.
    pub(crate) fn resume(endpoint: &Arc<EndpointHandle>, now: Instant) -> Option<Self> {
        let in_flight = endpoint.load.begin_behind();
        let pick = Self::new(endpoint, now, Counted::default(), in_flight);
        if endpoint.takes_sessions(now) { Some(pick) } else { None }
    }

    /// As one of these two, as long as the endpoint is below its limit and nobody waits for it.
    /// What `counted` says is left to the caller unless it began.
    pub(crate) fn begin_within(
        endpoint: &Arc<EndpointHandle>,
        now: Instant,
        session: bool,
        counted: Counted,
    ) -> Result<Self, NotBegun> {
        let gate = &endpoint.origin.gate;
        if gate.is_awaited() || endpoint.limit.queued() > 0 {
            return Err(NotBegun::Full);
        }
        let begun = Self::take(endpoint, now, session, counted);
        if matches!(begun, Err(NotBegun::Leaving)) {
            // For a moment it seemed to have less room than it had.
            gate.freed(endpoint, now);
        }
        begun
    }

    /// For whose turn it is, under the lock of the line.
    pub(crate) fn hand_over(
        endpoint: &Arc<EndpointHandle>,
        now: Instant,
        session: bool,
        counted: Counted,
    ) -> Option<Self> {
        Self::take(endpoint, now, session, counted).ok()
    }

    fn take(
        endpoint: &Arc<EndpointHandle>,
        now: Instant,
        session: bool,
        counted: Counted,
    ) -> Result<Self, NotBegun> {
        // A session may wait for a drained endpoint until after its grace: what cannot begin is not
        // to be counted.
        if session && !endpoint.takes_sessions(now) {
            return Err(NotBegun::Leaving);
        }
        let in_flight = endpoint.load.try_begin(endpoint.limit.most()).ok_or(NotBegun::Full)?;
        let stays = if session { endpoint.takes_sessions(now) } else { !endpoint.is_leaving() };
        if !stays {
            // Not by dropping a pick, which would look who waits: the caller may hold that lock.
            endpoint.load.end(&Report::new(now, Outcome::Abandoned));
            return Err(NotBegun::Leaving);
        }
        endpoint.limit.begun(in_flight);
        Ok(Self::new(endpoint, now, counted, in_flight - 1))
    }

    fn new(endpoint: &Arc<EndpointHandle>, now: Instant, counted: Counted, in_flight: u32) -> Self {
        Self { endpoint: endpoint.clone(), reported: false, counted, began: now, in_flight }
    }

    pub fn endpoint(&self) -> &Arc<EndpointHandle> {
        &self.endpoint
    }

    /// When it was picked.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// How it went.
    pub fn report(mut self, report: &Report) {
        self.reported = true;
        self.end(report);
    }

    fn end(&self, report: &Report) {
        let origin = &self.endpoint.origin;
        self.endpoint.limit.ended(report, self.began);
        let failures = self.endpoint.load.end(report);
        origin.gate.uncount(self.counted);
        origin.gate.freed(&self.endpoint, report.now);
        if let Some(tracker) = &*self.endpoint.tracker() {
            let lasted = report.now.since(self.began);
            tracker.report(&Report { in_flight: self.in_flight, lasted, ..*report });
        }
        let unreachable = failures > 0 && failures >= origin.suspect_after.load(Relaxed);
        let fails = || self.endpoint.load.errors_in_a_row() >= origin.eject_after.load(Relaxed);
        if let (Some(quantiles), Outcome::Success, Some(latency)) =
            (origin.quantiles.get(), report.outcome, report.latency)
        {
            quantiles.observe(latency, report.now);
        }
        if report.outcome.is_failure() && (unreachable || fails()) && self.endpoint.suspect() {
            origin.events.suspect(&origin.service, &self.endpoint.id);
        }
    }
}

impl Drop for Pick {
    fn drop(&mut self) {
        if !self.reported {
            self.end(&Report::new(self.began, Outcome::Abandoned));
        }
    }
}
