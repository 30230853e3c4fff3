//! Retries and hedges stay within their budgets, which are shares of the requests of the last ten
//! seconds.

use model::Instant;

use super::Invariants;

/// The budget's window, in seconds.
const WINDOW: u64 = 10;

#[derive(Default)]
pub(super) struct Second {
    second: u64,
    requests: u64,
    retries: u64,
    hedges: u64,
}

impl Invariants {
    /// A request, not a retry, asked for an endpoint.
    pub(crate) fn requested(&mut self, now: Instant, balancer: u32) {
        self.second(now, balancer).requests += 1;
    }

    /// The budget was asked, and answered.
    pub(crate) fn retried(&mut self, now: Instant, balancer: u32, admitted: bool) {
        self.second(now, balancer);
        let window = &self.balancers[balancer as usize].window;
        let requests: u64 = window.iter().map(|second| second.requests).sum();
        let retries: u64 = window.iter().map(|second| second.retries).sum();
        let allowed = self.budget * requests as f64 + f64::from(self.budget_min) * WINDOW as f64;
        // What the limit forbids, the budget may have allowed.
        let forbidden = self.retries_max.is_some() && !admitted;
        if !forbidden && admitted != ((retries as f64) < allowed) {
            self.violated(now, || {
                format!("retry admitted: {admitted}, with {retries} of {allowed} in use")
            });
        }
        self.second(now, balancer).retries += u64::from(admitted);
    }

    /// A request that `first` has goes to `second` as well.
    pub(crate) fn hedged(&mut self, now: Instant, balancer: u32, first: u32, second: u32) {
        self.second(now, balancer);
        let window = &self.balancers[balancer as usize].window;
        let requests: u64 = window.iter().map(|second| second.requests).sum();
        let hedges: u64 = window.iter().map(|second| second.hedges).sum();
        let allowed = self.hedge_budget * requests as f64;
        // As the service has it: the last one may pass the budget by a fraction of itself.
        if hedges as f64 >= allowed {
            self.violated(now, || format!("one more hedge, with {hedges} of {allowed} in use"));
        }
        self.second(now, balancer).hedges += 1;
        if first == second {
            self.violated(now, || format!("a hedge went to the endpoint {first}, which had it"));
        }
    }

    fn second(&mut self, now: Instant, balancer: u32) -> &mut Second {
        let second = now.as_nanos() / 1_000_000_000;
        let window = &mut self.balancers[balancer as usize].window;
        if window.back().is_none_or(|last| last.second != second) {
            window.push_back(Second { second, ..Second::default() });
            while window.front().is_some_and(|first| second - first.second >= WINDOW) {
                window.pop_front();
            }
        }
        let last = window.len() - 1;
        &mut window[last]
    }
}
