//! What changed between two configurations, by name, so that only that is touched.

use std::collections::BTreeMap;
use std::fmt;

use model::spec::{ServiceSpec, Spec};
use model::{Differing, ListenerName, ServiceName, SharedMap};

/// Names that are in one of two maps only, or in both with different values; each list in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes<N> {
    pub added: Vec<N>,
    pub changed: Vec<N>,
    pub removed: Vec<N>,
}

impl<N> Changes<N> {
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

/// What makes `new` out of `old`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub listeners: Changes<ListenerName>,
    pub services: Changes<ServiceName>,
    pub admin: bool,
    pub access_log: bool,
    pub workers: bool,
    pub stop_grace: bool,
    pub providers: bool,
    pub registry: bool,
    pub agent: bool,
    pub dns: bool,
}

impl Difference {
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty()
            && self.services.is_empty()
            && !(self.admin || self.access_log || self.workers || self.stop_grace)
            && !(self.providers || self.registry || self.agent || self.dns)
    }
}

pub fn difference(old: &Spec, new: &Spec) -> Difference {
    Difference {
        listeners: changes(&old.listeners, &new.listeners),
        services: services(&old.services, &new.services),
        admin: old.admin != new.admin,
        access_log: old.access_log != new.access_log,
        workers: old.workers != new.workers,
        stop_grace: old.stop_grace != new.stop_grace,
        providers: old.providers != new.providers,
        registry: old.registry != new.registry,
        agent: old.agent != new.agent,
        dns: old.dns != new.dns,
    }
}

fn changes<N: Ord + Clone, V: PartialEq>(old: &BTreeMap<N, V>, new: &BTreeMap<N, V>) -> Changes<N> {
    let named = |in_it: &BTreeMap<N, V>, keep: &dyn Fn(&N, &V) -> bool| {
        in_it.iter().filter(|(n, v)| keep(n, v)).map(|(n, _)| n.clone()).collect()
    };
    Changes {
        added: named(new, &|n, _| !old.contains_key(n)),
        changed: named(new, &|n, v| old.get(n).is_some_and(|o| o != v)),
        removed: named(old, &|n, _| !new.contains_key(n)),
    }
}

/// Without a look at what both share.
fn services(
    old: &SharedMap<ServiceName, ServiceSpec>,
    new: &SharedMap<ServiceName, ServiceSpec>,
) -> Changes<ServiceName> {
    let mut changes = Changes { added: Vec::new(), changed: Vec::new(), removed: Vec::new() };
    for differing in new.differences(old) {
        match differing {
            Differing::Added(name, _) => changes.added.push(name.clone()),
            Differing::Changed(name, ..) => changes.changed.push(name.clone()),
            Differing::Removed(name, _) => changes.removed.push(name.clone()),
        }
    }
    changes
}

/// One line: `service + images, service ~ web, listener - mqtt, admin`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let mut named = |word: &str, sign: &str, name: &str| {
            parts.push(format!("{word} {sign} {name}"));
        };
        let Changes { added, changed, removed } = &self.listeners;
        for (sign, names) in [("+", added), ("~", changed), ("-", removed)] {
            names.iter().for_each(|n| named("listener", sign, n.as_str()));
        }
        let Changes { added, changed, removed } = &self.services;
        for (sign, names) in [("+", added), ("~", changed), ("-", removed)] {
            names.iter().for_each(|n| named("service", sign, n.as_str()));
        }
        for (word, differs) in [
            ("admin", self.admin),
            ("access_log", self.access_log),
            ("workers", self.workers),
            ("stop_grace", self.stop_grace),
            ("providers", self.providers),
            ("registry", self.registry),
            ("agent", self.agent),
            ("dns", self.dns),
        ] {
            if differs {
                parts.push(word.into());
            }
        }
        if parts.is_empty() {
            return f.write_str("nothing");
        }
        f.write_str(&parts.join(", "))
    }
}
