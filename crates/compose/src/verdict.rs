//! Is the new version worse than the old one? The rule by which a deployment goes on or is taken
//! back. Pure.
//!
//! Both versions serve at the same time, so that both see the same load. A new one is worse if
//! - it failed at least [`FAILURES_MIN`] times, and its share of failures is more than twice that
//!   of the old one and one percent; or
//! - both answered at least [`REQUESTS_MIN`] requests, and its latency (the balancer's moving
//!   mean) is more than three times that of the old one and 20 ms.
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
    /// Microseconds; `None`: nothing was measured.
    pub latency_us: Option<f64>,
}

impl Counted {
    fn share(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.failures as f64 / self.requests as f64 }
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
    let (old_latency, new_latency) = (old.latency_us?, new.latency_us?);
    let measured = old.requests >= REQUESTS_MIN && new.requests >= REQUESTS_MIN;
    if measured && new_latency > old_latency * LATENCY_FACTOR + LATENCY_MORE_US {
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
            latency_us: (latency_us > 0.0).then_some(latency_us),
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
