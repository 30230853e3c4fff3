//! When a request may be sent to a second endpoint while the first is still at it, and to which.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use model::spec::HedgeAfter;
use model::{Instant, Rng};

use crate::acquire::ASKS_MAX;
use crate::gate::Counted;
use crate::pick::NotBegun;
use crate::quantiles::Quantiles;
use crate::service::LOOKS_MAX;
use crate::{Pick, Request, Service};

/// Hedges that were sent, that the budget forbade, and that answered first.
#[derive(Default)]
pub(crate) struct HedgeCounts {
    pub(crate) sent: AtomicU64,
    pub(crate) denied: AtomicU64,
    pub(crate) won: AtomicU64,
}

impl Service {
    /// How long after its pick an attempt whose answer has not begun is to be hedged. `None`: the
    /// service does not hedge, there is no second endpoint, or too few answers were seen of late
    /// to know a quantile.
    pub fn hedge_after(&self, now: Instant) -> Option<Duration> {
        let hedge = self.settings().hedge?;
        if self.snapshot.load().endpoints().len() < 2 {
            return None;
        }
        match hedge.after {
            HedgeAfter::Fixed(after) => Some(after),
            HedgeAfter::Quantile(share) => self.origin.quantiles.get()?.quantile(share, now),
        }
    }

    /// The endpoint for a second attempt while the first is under way, if there is one that
    /// `request.exclude` does not name, and the budget allows it. `exclude` names the endpoint
    /// that is at it.
    pub fn hedge(&self, request: &Request<'_>, rng: &mut Rng) -> Option<Pick> {
        let budget = self.settings().hedge?.budget;
        // First of all: a policy that is asked for nothing gives somebody's turn away.
        if !self.budget.allows_hedge(budget, request.now) {
            self.hedges.denied.fetch_add(1, Relaxed);
            return None;
        }
        let pick = self.pick_second(request, rng)?;
        self.budget.count_hedge(request.now);
        self.hedges.sent.fetch_add(1, Relaxed);
        Some(pick)
    }

    /// One that has room at once: a second attempt is not worth waiting for, nor anybody's place.
    fn pick_second(&self, request: &Request<'_>, rng: &mut Rng) -> Option<Pick> {
        'looks: for _ in 0..LOOKS_MAX {
            let snapshot = self.snapshot.load();
            let mut avoid = snapshot.positions(request.exclude);
            for _ in 0..ASKS_MAX {
                let position = snapshot.choose(&avoid, request, rng)?;
                if avoid.contains(&position) {
                    return None;
                }
                let endpoint = snapshot.endpoints().get(position as usize)?;
                let begun = match snapshot.limits() {
                    None => Pick::begin(endpoint, request.now).ok_or(NotBegun::Leaving),
                    // The request is counted already.
                    Some(_) => Pick::begin_within(endpoint, request.now, false, Counted::default()),
                };
                match begun {
                    Ok(pick) => return Some(pick),
                    Err(NotBegun::Full) => avoid.push(position),
                    Err(NotBegun::Leaving) => continue 'looks,
                }
            }
            return None;
        }
        None
    }

    /// The second attempt's answer was taken.
    pub fn count_hedge_won(&self) {
        self.hedges.won.fetch_add(1, Relaxed);
    }

    /// After a change of the specification.
    pub(crate) fn set_hedging(&self) {
        if let Some(hedge) = self.settings().hedge
            && let HedgeAfter::Quantile(_) = hedge.after
        {
            self.origin.quantiles.get_or_init(Quantiles::new).forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::spec::{EndpointSource, HealthKind, HedgeSpec, ServiceSpec};
    use model::{Endpoint, Outcome, Report};

    use super::*;
    use crate::NoEvents;

    const MS: Duration = Duration::from_millis(1);

    fn spec(endpoints: u16, hedge: Option<HedgeSpec>) -> ServiceSpec {
        let mut spec = ServiceSpec::new("web".into());
        let endpoint = |port| Endpoint::at(std::net::SocketAddr::from(([127, 0, 0, 1], port)));
        spec.source = EndpointSource::Static((1..=endpoints).map(endpoint).collect());
        spec.health.kind = HealthKind::Off;
        spec.hedge = hedge;
        spec
    }

    fn service(endpoints: u16, hedge: Option<HedgeSpec>) -> Arc<Service> {
        Service::new(&spec(endpoints, hedge), Arc::new(NoEvents), Instant::ZERO, 1)
    }

    /// So many requests, each answered after `latency`.
    fn serve(service: &Service, count: u32, latency: Duration, now: Instant) {
        let mut rng = Rng::from_seed(1);
        for _ in 0..count {
            let pick = service.pick(&Request { now, key: None, exclude: &[] }, &mut rng);
            pick.unwrap().report(&Report::new(now, Outcome::Success).after(Some(latency)));
        }
    }

    #[test]
    fn the_moment_is_a_live_quantile_or_fixed() {
        let now = Instant::ZERO + 1000 * MS;
        let service = service(2, None);
        serve(&service, 100, MS, now);
        assert_eq!(service.hedge_after(now), None, "off by default");
        service.update(&spec(2, Some(HedgeSpec::default())), now);
        assert_eq!(service.hedge_after(now), None, "nothing was measured yet");
        serve(&service, 94, 10 * MS, now);
        serve(&service, 6, 500 * MS, now);
        let now = now + 100 * MS;
        let after = service.hedge_after(now).unwrap();
        assert!(after > 500 * MS && after < 563 * MS, "{after:?}");
        let p90 = HedgeSpec { after: HedgeAfter::Quantile(0.9), ..HedgeSpec::default() };
        service.update(&spec(2, Some(p90)), now);
        let after = service.hedge_after(now).unwrap();
        assert!(after > 10 * MS && after < 12 * MS, "the samples were kept: {after:?}");
        let fixed = HedgeSpec { after: HedgeAfter::Fixed(7 * MS), ..p90 };
        service.update(&spec(2, Some(fixed)), now);
        assert_eq!(service.hedge_after(now), Some(7 * MS));
        service.update(&spec(1, Some(fixed)), now);
        assert_eq!(service.hedge_after(now), None, "there is no second one");
    }

    #[test]
    fn a_hedge_goes_elsewhere_and_within_its_budget() {
        let now = Instant::ZERO + 1000 * MS;
        let after = HedgeAfter::Fixed(MS);
        let service = service(3, Some(HedgeSpec { after, budget: 0.05 }));
        serve(&service, 99, MS, now);
        let mut rng = Rng::from_seed(2);
        let first = service.pick(&Request { now, key: None, exclude: &[] }, &mut rng).unwrap();
        let key = first.endpoint().key;
        let all: Vec<u64> = service.eligible().iter().map(|endpoint| endpoint.key).collect();
        let request = Request { now, key: None, exclude: &all };
        assert!(service.hedge(&request, &mut rng).is_none(), "there is none, which costs nothing");
        for _ in 0..5 {
            let request = Request { now, key: None, exclude: &[key] };
            let pick = service.hedge(&request, &mut rng).unwrap();
            assert_ne!(pick.endpoint().key, key);
        }
        let request = Request { now, key: None, exclude: &[key] };
        assert!(service.hedge(&request, &mut rng).is_none(), "5 % of 100 are used up");
        service.count_hedge_won();
        let status = service.status();
        assert_eq!((status.hedges, status.hedges_denied, status.hedges_won), (5, 1, 1));
        assert_eq!(status.retries, 0, "they are no retries");
        drop(first);
        assert!(service.eligible().iter().all(|endpoint| endpoint.in_flight() == 0));
    }
}
