//! Is the new version worse than the old one? The rule by which a deployment goes on or is taken
//! back. Pure.
//!
//! Both versions serve at the same time, so that both see the same load. A new one is worse if
//! - it failed at least [`FAILURES_MIN`] times, and its share of failures is more than twice that
//!   of the old one and one percent; or
//! - both answered at least [`REQUESTS_MIN`] requests, and the mean of its latencies is more than
//!   three times that of the old one and 20 ms. The mean of all answers: the moving mean of the
//!   balancer is that of the last few, and one of them may have met a busy moment.
//!
//! What counts as a failure is the balancer's `failures`: answers of status 500 and above, refused
//! and broken connections, and time-outs.

/// Fewer may be chance.
pub const FAILURES_MIN: u64 = 3;

/// Before latencies are compared.
pub const REQUESTS_MIN: u64 = 50;

const SHARE_FACTOR: f64 = 2.0;
const SHARE_MORE: f64 = 0.01;
const LATENCY_FACTOR: f64 = 3.0;
const LATENCY_MORE_US: f64 = 20_000.0;

/// What the endpoints of one version did since they were first looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counted {
    pub requests: u64,
    pub failures: u64,
    /// Answers whose latency was measured.
    pub measured: u64,
    /// Of all of these together, in microseconds.
    pub latency_sum_us: u64,
}

impl Counted {
    fn share(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.failures as f64 / self.requests as f64 }
    }

    /// In microseconds; `None`: too few were measured.
    fn latency_us(&self) -> Option<f64> {
        let is_enough = self.measured >= REQUESTS_MIN;
        is_enough.then(|| self.latency_sum_us as f64 / self.measured as f64)
    }
}

/// Why the new version is worse; `None`: nothing speaks against it.
pub fn worse(old: &Counted, new: &Counted) -> Option<String> {
    if new.failures >= FAILURES_MIN && new.share() > old.share() * SHARE_FACTOR + SHARE_MORE {
        return Some(format!(
            "{} of {} requests to the new version failed ({:.1} %), {:.1} % of those to the old one",
            new.failures,
            new.requests,
            new.share() * 100.0,
            old.share() * 100.0
        ));
    }
    let (old_latency, new_latency) = (old.latency_us()?, new.latency_us()?);
    if new_latency > old_latency * LATENCY_FACTOR + LATENCY_MORE_US {
        return Some(format!(
            "the new version takes {:.1} ms, the old one {:.1} ms",
            new_latency / 1e3,
            old_latency / 1e3
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worse() {
        let counted = |requests, failures, latency_us: f64| Counted {
            requests,
            failures,
            measured: requests - failures,
            latency_sum_us: (latency_us * (requests - failures) as f64) as u64,
        };
        for (what, old, new, is_worse) in [
            ("nothing measured", counted(0, 0, 0.0), counted(0, 0, 0.0), false),
            ("all well", counted(1000, 0, 900.0), counted(100, 0, 1000.0), false),
            ("all fail", counted(1000, 0, 900.0), counted(3, 3, 0.0), true),
            ("two may be chance", counted(1000, 0, 900.0), counted(2, 2, 0.0), false),
            ("as bad as before", counted(1000, 100, 900.0), counted(100, 12, 900.0), false),
            ("worse than bad", counted(1000, 100, 900.0), counted(100, 40, 900.0), true),
            ("one percent is borne", counted(1000, 0, 900.0), counted(1000, 9, 900.0), false),
            ("slow", counted(1000, 0, 10_000.0), counted(100, 0, 60_000.0), true),
            ("a little slower", counted(1000, 0, 10_000.0), counted(100, 0, 40_000.0), false),
            ("slow, of few", counted(1000, 0, 10_000.0), counted(20, 0, 90_000.0), false),
        ] {
            assert_eq!(worse(&old, &new).is_some(), is_worse, "{what}: {:?}", worse(&old, &new));
        }
    }
}
