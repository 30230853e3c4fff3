//! `least_connections`: the endpoint with the fewest requests and connections in flight for its
//! weight, among all of them.
//!
//! The name by which those who come from HAProxy (`leastconn`), nginx (`least_conn`) or LVS
//! (`wlc`) look for it; the same as `least_request` with `full: true`, whose comparison and ties
//! it shares. For long-lived connections (databases, MQTT, WebSocket), where one connection more
//! or less matters for hours and a look at every endpoint costs nothing beside it. For short
//! requests, many endpoints or several balancers take `least_request`: its two random choices
//! cost the same for any number of endpoints, where this one's cost grows with them, and
//! balancers whose views lag behind do not all rush to the same idle endpoint.

use model::vocabulary::PolicyInfo;

use super::least_request;
use crate::policies::PolicyEntry;

pub(super) const ENTRY: PolicyEntry = PolicyEntry {
    info: PolicyInfo {
        name: "least_connections",
        summary: "the fewest in flight for its weight, of all: for long-lived connections",
        options: &[],
    },
    make: |_| least_request::of_all(),
};

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Candidate, PickRequest};
    use model::{Instant, Load, Rng};

    #[test]
    fn among_a_thousand_the_one_with_the_fewest_is_found() {
        let candidates = vec![Candidate { weight: 3, zone: None, identity_hash: 0 }; 1000];
        let loads: Vec<Arc<Load>> = candidates.iter().map(|_| Arc::default()).collect();
        for (position, load) in loads.iter().enumerate() {
            (0..if position == 617 { 4 } else { 5 }).for_each(|_| load.begin());
        }
        let mut rng = Rng::from_seed(1);
        let picker = ENTRY.build(&[]).prepare(&candidates, &mut rng);
        let request = PickRequest { now: Instant::ZERO, key: None, exclude: &[] };
        assert_eq!(picker.pick(&request, &loads, &mut rng), Some(617));
    }
}
