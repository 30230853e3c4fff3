use std::time::Duration;

/// How an endpoint that begins to serve gets up to its share. `services.NAME.slow_start`; off by
/// default.
#[derive(Clone, Debug, PartialEq)]
pub struct SlowStartSpec {
    /// From its first request to its full weight. 100 ms to 24 h.
    pub window: Duration,
    /// The share of its weight that it begins with. Default 0.1; at least 0.01.
    pub from: f64,
    /// The rest is added as (time / window) to this power: 1 is a straight line, 2 is slower at
    /// first. Default 1; 0.1 to 10.
    pub curve: f64,
    /// The ramp stands still while the endpoint's latency is more than so many times the median
    /// of the others'; five windows after it began it is over in any case. Default 2, 1.1 to 1000;
    /// `None`: it never stands still.
    pub hold_above: Option<f64>,
}

impl SlowStartSpec {
    /// All defaults, over this time.
    pub fn new(window: Duration) -> Self {
        Self { window, from: 0.1, curve: 1.0, hold_above: Some(2.0) }
    }
}
