//! Once all is calm, and as long as the same endpoints can be picked, policies that share out by
//! weight do so.

/// The picks of one balancer since all is calm; only first attempts, as retries go elsewhere on
/// purpose.
pub(super) struct Shares {
    promise: Option<Promise>,
    /// By server.
    picks: Vec<u64>,
    total: u64,
    retries: u64,
    /// The endpoints changed meanwhile, so that nothing can be said.
    unsteady: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Promise {
    /// Each in its turn.
    Exact,
    /// By chance, in proportion.
    OnAverage,
}

/// So many standard deviations from the fair share are no chance: one in a million.
const DEVIATIONS: f64 = 5.0;

/// A round may be cut at both ends, and weights are interleaved.
const SLACK: f64 = 3.0;

impl Shares {
    /// The other policies go by more than weights: load, latency, keys, order.
    pub(super) fn new(policy: &str) -> Self {
        let promise = match policy {
            "round_robin" => Some(Promise::Exact),
            "random" => Some(Promise::OnAverage),
            _ => None,
        };
        Self { promise, picks: Vec::new(), total: 0, retries: 0, unsteady: false }
    }

    /// All is calm: what was before does not count.
    pub(super) fn begin(&mut self) {
        (self.total, self.retries, self.unsteady) = (0, 0, false);
        self.picks.clear();
    }

    pub(super) fn changed(&mut self) {
        self.unsteady = true;
    }

    /// A first attempt of a request.
    pub(super) fn picked(&mut self, server: u32) {
        let index = server as usize;
        if self.picks.len() <= index {
            self.picks.resize(index + 1, 0);
        }
        self.picks[index] += 1;
        self.total += 1;
    }

    /// A retry, which in passing may take another one's turn.
    pub(super) fn retried(&mut self) {
        self.retries += 1;
    }

    /// At the end: the first of `candidates` (server and weight) whose share is not as promised.
    pub(super) fn verdict(&self, candidates: &[(u32, u16)]) -> Option<String> {
        let promise = self.promise.filter(|_| !self.unsteady)?;
        // As for policies: weights count unless all are zero.
        let all_zero = candidates.iter().all(|(_, weight)| *weight == 0);
        let weight = |weight: u16| if all_zero { 1.0 } else { f64::from(weight) };
        let weights: f64 = candidates.iter().map(|(_, own)| weight(*own)).sum();
        candidates.iter().find_map(|(server, own)| {
            let share = weight(*own) / weights;
            let fair = self.total as f64 * share;
            let tolerance = SLACK
                + match promise {
                    Promise::Exact => self.retries as f64,
                    Promise::OnAverage => DEVIATIONS * (fair * (1.0 - share)).sqrt(),
                };
            let got = self.picks.get(*server as usize).copied().unwrap_or(0);
            ((got as f64 - fair).abs() > tolerance).then(|| {
                format!("gave endpoint {server} {got} requests, where {fair:.0} were its share")
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found when three endpoints get these.
    fn check(policy: &str, weights: [u16; 3], picks: [u64; 3], found: bool) {
        let mut shares = Shares::new(policy);
        for (server, count) in (0..).zip(picks) {
            (0..count).for_each(|_| shares.picked(server));
        }
        let candidates: Vec<(u32, u16)> = (0..).zip(weights).collect();
        let verdict = shares.verdict(&candidates);
        assert_eq!(verdict.is_some(), found, "{policy} {weights:?} {picks:?}: {verdict:?}");
        shares.changed();
        assert_eq!(shares.verdict(&candidates), None);
    }

    #[test]
    fn a_share_that_is_off_is_found() {
        check("round_robin", [1, 1, 1], [100, 101, 99], false);
        check("round_robin", [1, 1, 1], [100, 105, 95], true);
        check("round_robin", [1, 2, 0], [50, 100, 0], false);
        check("round_robin", [1, 2, 0], [50, 95, 5], true);
        check("round_robin", [0, 0, 0], [50, 50, 50], false);
        check("random", [1, 2, 3], [95, 205, 300], false);
        check("random", [1, 2, 3], [200, 200, 200], true);
        check("random", [1, 1, 1], [300, 0, 300], true);
        check("peak_ewma", [1, 1, 1], [600, 0, 0], false);
    }

    #[test]
    fn each_retry_may_shift_one_turn() {
        let mut shares = Shares::new("round_robin");
        (0..20).for_each(|_| shares.picked(0));
        (0..10).for_each(|_| shares.picked(1));
        assert!(shares.verdict(&[(0, 1), (1, 1)]).is_some());
        (0..5).for_each(|_| shares.retried());
        assert_eq!(shares.verdict(&[(0, 1), (1, 1)]), None);
    }
}
