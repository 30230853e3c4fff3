use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use model::{Instant, Outcome, Report};

use crate::EndpointHandle;

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
    /// When it was picked.
    began: Instant,
    /// What the endpoint had in flight before.
    in_flight: u32,
}

impl Pick {
    /// Counts it. `None` if the endpoint left meanwhile: whoever drains it may already have seen
    /// it idle, so nothing may begin there any more.
    pub(crate) fn begin(endpoint: &Arc<EndpointHandle>, now: Instant) -> Option<Self> {
        let in_flight = endpoint.load.in_flight();
        endpoint.load.begin();
        // Counting comes before looking, and `leave` comes before looking at the count, all
        // sequentially consistent: at least one side sees the other.
        let pick = Self { endpoint: endpoint.clone(), reported: false, began: now, in_flight };
        if endpoint.is_leaving() { None } else { Some(pick) }
    }

    /// As [`Pick::begin`], for what belongs to a session: also where only these go on.
    pub(crate) fn resume(endpoint: &Arc<EndpointHandle>, now: Instant) -> Option<Self> {
        let in_flight = endpoint.load.in_flight();
        endpoint.load.begin();
        let pick = Self { endpoint: endpoint.clone(), reported: false, began: now, in_flight };
        if endpoint.takes_sessions(now) { Some(pick) } else { None }
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
        let failures = self.endpoint.load.end(report);
        if let Some(tracker) = &*self.endpoint.tracker() {
            let lasted = report.now.since(self.began);
            tracker.report(&Report { in_flight: self.in_flight, lasted, ..*report });
        }
        let origin = &self.endpoint.origin;
        if failures > 0 && failures >= origin.suspect_after.load(Relaxed) && self.endpoint.suspect()
        {
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
