//! Where one wire's callers are served: picks for them, and keeps each until it is reported.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use model::spec::{AgentSpec, Unreported};
use model::{Instant, Outcome, Report, Rng};
use service::{EndpointHandle, Pick, Request, Service};
use wire::lars::{Host, Key};

use crate::calls::{CallId, Calls};
use crate::counts::{Counts, count};

/// What a report of Lars names.
pub(crate) type Place = (Key, Host);

/// Belongs to one thread.
pub(crate) struct Desk {
    calls: Calls<Place, Pick>,
    rng: Rng,
    counts: Arc<Counts>,
}

/// Why there is no endpoint for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// None could be picked whatever the load: there is none, or none is well.
    NoEndpoint,
    /// There are some, and the policy or a limit says: not now.
    Overloaded,
}

/// No pick of this id is outstanding: it was reported, or expired, or never was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unmatched;

impl Desk {
    pub(crate) fn new(seed: u64, counts: Arc<Counts>) -> Self {
        let mut rng = Rng::from_seed(seed);
        Self { calls: Calls::new(rng.next_u64() as u32), rng, counts }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// An endpoint for a caller who will report with the id.
    pub(crate) fn pick(
        &mut self,
        service: &Service,
        request: &Request<'_>,
        spec: &AgentSpec,
    ) -> Result<(CallId, Arc<EndpointHandle>), Refusal> {
        let pick = self.choose(service, request)?;
        let endpoint = pick.endpoint().clone();
        Ok((self.keep(pick, None, spec), endpoint))
    }

    /// An endpoint for a caller who will report with the place that `place` makes of its address;
    /// `Ok(None)`: it makes none, so nothing began.
    pub(crate) fn pick_at_place(
        &mut self,
        service: &Service,
        request: &Request<'_>,
        spec: &AgentSpec,
        place: impl FnOnce(SocketAddr) -> Option<Place>,
    ) -> Result<Option<Place>, Refusal> {
        let pick = self.choose(service, request)?;
        let Some(place) = place(pick.endpoint().address) else {
            pick.report(&Report::new(request.now, Outcome::Abandoned));
            return Ok(None);
        };
        self.keep(pick, Some(place), spec);
        Ok(Some(place))
    }

    fn choose(&mut self, service: &Service, request: &Request<'_>) -> Result<Pick, Refusal> {
        if let Some(pick) = service.pick(request, &mut self.rng) {
            count(&self.counts.picks);
            return Ok(pick);
        }
        if service.has_eligible() {
            count(&self.counts.overloaded);
            Err(Refusal::Overloaded)
        } else {
            count(&self.counts.no_endpoint);
            Err(Refusal::NoEndpoint)
        }
    }

    fn keep(&mut self, pick: Pick, place: Option<Place>, spec: &AgentSpec) -> CallId {
        let now = pick.began();
        // More than one only after the bound was lowered.
        while self.calls.len() >= spec.outstanding {
            let Some(oldest) = self.calls.take_oldest(Instant::FAR_FUTURE) else { break };
            count(&self.counts.crowded_out);
            self.end_unreported(oldest, spec, now);
        }
        let id = self.calls.insert(now, place, pick);
        self.count_outstanding();
        id
    }

    /// How the pick of this id went.
    pub(crate) fn report(
        &mut self,
        id: CallId,
        outcome: Outcome,
        latency: Option<Duration>,
        now: Instant,
    ) -> Result<(), Unmatched> {
        let Some(pick) = self.calls.take(id) else {
            count(&self.counts.unmatched);
            return Err(Unmatched);
        };
        self.end(pick, &Report::new(now, outcome).after(latency));
        self.count_outstanding();
        Ok(())
    }

    /// How a call of this place went. Callers of Lars may also use a host that they were not given
    /// but found in a route, or report late: that counts as a call that began and ended now, so
    /// what they say of an endpoint is not lost. Of an unknown host it is.
    pub(crate) fn report_at_place(
        &mut self,
        place: Place,
        service: &Service,
        outcome: Outcome,
        now: Instant,
    ) {
        let report = Report::new(now, outcome);
        if let Some(pick) = self.calls.take_first(place) {
            self.end(pick, &report);
            self.count_outstanding();
            return;
        }
        let address = place.1.address();
        match address.and_then(|address| service.pick_at(address.into(), now)) {
            Some(pick) => {
                count(&self.counts.unasked);
                self.end(pick, &report);
            }
            None => count(&self.counts.unmatched),
        }
    }

    fn end(&self, pick: Pick, report: &Report) {
        self.counts.report(report.outcome);
        pick.report(report);
    }

    /// Ends picks that nobody reported in time.
    pub(crate) fn expire(&mut self, spec: &AgentSpec, now: Instant) {
        if self.calls.len() == 0 {
            return;
        }
        let Some(until) = now.as_nanos().checked_sub(spec.expire.as_nanos() as u64) else { return };
        let until = Instant::from_nanos(until);
        while let Some(pick) = self.calls.take_oldest(until) {
            count(&self.counts.expired);
            self.end_unreported(pick, spec, now);
        }
        self.count_outstanding();
    }

    fn end_unreported(&self, pick: Pick, spec: &AgentSpec, now: Instant) {
        let outcome = match spec.unreported {
            Unreported::Abandoned => Outcome::Abandoned,
            Unreported::TimedOut => Outcome::TimedOut,
        };
        pick.report(&Report::new(now, outcome));
    }

    fn count_outstanding(&self) {
        self.counts.outstanding.store(self.calls.len() as u64, Relaxed);
    }
}

/// What is outstanding ends with the desk: nobody will report it any more.
impl Drop for Desk {
    fn drop(&mut self) {
        self.counts.outstanding.store(0, Relaxed);
    }
}
