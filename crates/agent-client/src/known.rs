//! The endpoints that the agent last told of, for the time when it cannot be asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

/// An endpoint as the agent lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub id: String,
    pub address: SocketAddr,
    /// Its share relative to the others; 0: none.
    pub weight: u16,
    /// `healthy`, `unproven`, `unhealthy`, `ejected` or `draining`.
    pub state: String,
}

impl Endpoint {
    pub(crate) fn read(value: &Value) -> Option<Self> {
        Some(Self {
            id: value["id"].as_str()?.to_owned(),
            address: value["address"].as_str()?.parse().ok()?,
            weight: u16::try_from(value["weight"].as_u64()?).ok()?,
            state: value["state"].as_str()?.to_owned(),
        })
    }
}

/// By service; as many as the program has ever asked for.
#[derive(Default)]
pub(crate) struct Known(HashMap<String, List>);

struct List {
    endpoints: Vec<Endpoint>,
    told: Instant,
    turn: usize,
}

impl Known {
    pub(crate) fn is_older(&self, service: &str, age: Duration, now: Instant) -> bool {
        self.0.get(service).is_none_or(|list| now.duration_since(list.told) >= age)
    }

    pub(crate) fn learn(&mut self, service: &str, endpoints: Vec<Endpoint>, now: Instant) {
        let turn = self.0.get(service).map_or(0, |list| list.turn);
        self.0.insert(service.to_owned(), List { endpoints, told: now, turn });
    }

    /// In turn those that were healthy and have a weight; all that did not drain if none was. Those
    /// that were tried already only if there is no other.
    pub(crate) fn next(&mut self, service: &str, exclude: &[String]) -> Option<Endpoint> {
        let list = self.0.get_mut(service)?;
        let good = |e: &&Endpoint| e.state == "healthy" && e.weight > 0;
        let mut usable: Vec<&Endpoint> = list.endpoints.iter().filter(good).collect();
        if usable.is_empty() {
            usable = list.endpoints.iter().filter(|e| e.state != "draining").collect();
        }
        if usable.iter().any(|e| !exclude.contains(&e.id)) {
            usable.retain(|e| !exclude.contains(&e.id));
        }
        list.turn = list.turn.wrapping_add(1);
        usable.get(list.turn.checked_rem(usable.len())?).map(|e| (*e).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(endpoints: &[(&str, u16, &str)]) -> Known {
        let mut known = Known::default();
        let endpoint = |(at, (id, weight, state)): (u16, &(&str, u16, &str))| Endpoint {
            id: (*id).into(),
            address: ([127, 0, 0, 1], at).into(),
            weight: *weight,
            state: (*state).into(),
        };
        known.learn("web", (1..).zip(endpoints).map(endpoint).collect(), Instant::now());
        known
    }

    #[test]
    fn the_healthy_are_used_in_turn_or_else_all() {
        let check = |endpoints: &[(&str, u16, &str)], exclude: &[&str], expected: &str| {
            let mut known = known(endpoints);
            let exclude: Vec<String> = exclude.iter().map(ToString::to_string).collect();
            let next = || known.next("web", &exclude).map_or("-".to_owned(), |e| e.id);
            let mut ids: Vec<String> = std::iter::repeat_with(next).take(6).collect();
            ids.sort();
            assert_eq!(ids.concat(), expected, "{endpoints:?} {exclude:?}");
        };
        let mixed = [("a", 1, "healthy"), ("b", 1, "unhealthy"), ("c", 2, "healthy")];
        check(&mixed, &[], "aaaccc");
        check(&mixed, &["a"], "cccccc");
        check(&mixed, &["a", "c"], "aaaccc");
        check(&[("a", 1, "unhealthy"), ("b", 1, "ejected"), ("c", 1, "draining")], &[], "aaabbb");
        check(&[("a", 0, "healthy"), ("b", 1, "healthy")], &[], "bbbbbb");
        check(&[], &[], "------");
        assert_eq!(Known::default().next("web", &[]), None);
    }

    #[test]
    fn what_was_told_grows_old() {
        let known = known(&[]);
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        assert!(!known.is_older("web", Duration::from_secs(5), now));
        assert!(known.is_older("web", Duration::from_secs(5), later));
        assert!(known.is_older("other", Duration::from_secs(5), now));
    }
}
