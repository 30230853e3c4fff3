use std::time::Duration;

/// When a request that got no answer yet is sent to a second endpoint as well: the first answer
/// that begins is taken, and the other attempt is cancelled (Dean and Barroso, "The Tail at
/// Scale", Communications of the ACM 56(2), 2013).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HedgeSpec {
    /// Since the first endpoint was picked. Default: the 95th percentile.
    pub after: HedgeAfter,
    /// Hedges as a share of requests (0.05 is 5 %), over about the last ten seconds. Default
    /// 0.05; 0: none.
    pub budget: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HedgeAfter {
    /// This quantile (0.95 is the 95th percentile) of the time that the service's endpoints took
    /// of late until their answers began.
    Quantile(f64),
    Fixed(Duration),
}

impl Default for HedgeSpec {
    fn default() -> Self {
        Self { after: HedgeAfter::Quantile(0.95), budget: 0.05 }
    }
}
