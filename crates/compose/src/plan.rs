//! From a file and what the engine has to what is to be done. Pure.
//!
//! In the order of dependencies, each service: its containers are brought to their number and
//! configuration. One that is as it should be is never touched.

use std::collections::{BTreeMap, BTreeSet};

use crate::observed::{Named, Observed};
use crate::project::{Condition, Project, Service, Transport};

/// What the user wants beside the file.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only these, and what they depend on; empty: all.
    pub services: BTreeSet<String>,
    /// `--scale`.
    pub scales: BTreeMap<String, usize>,
    /// Every container is made anew.
    pub recreate: bool,
    /// Containers of services that the file has no more go.
    pub remove_orphans: bool,
}

/// What the engine has.
#[derive(Clone, Debug, Default)]
pub struct There {
    pub containers: Vec<Observed>,
    pub networks: Named,
    pub volumes: Named,
    /// Each service's hash, with the image that it would have now.
    pub hashes: BTreeMap<String, String>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// By its name in the file.
    CreateNetwork(String),
    CreateVolume(String),
    /// All containers of `service` must be so before the next ones are made for `by`.
    Await {
        by: String,
        service: String,
        condition: Condition,
        required: bool,
    },
    /// Make and start.
    Create {
        service: String,
        number: u32,
    },
    /// It is there, and does not run.
    Start {
        container: String,
    },
    /// The number belongs to the new one where it is started after the old one is gone.
    Replace {
        service: String,
        old: String,
        number: u32,
        start_first: bool,
    },
    /// Drain, stop, remove.
    Remove {
        container: String,
    },
}

/// What is to be done, and what the user should know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub notes: Vec<String>,
}

/// The services concerned, those that others depend on first; or the name that is none.
pub fn concerned<'a>(
    project: &'a Project,
    named: &BTreeSet<String>,
) -> Result<Vec<&'a Service>, String> {
    if let Some(unknown) = named.iter().find(|name| !project.services.contains_key(*name)) {
        return Err(unknown.clone());
    }
    let mut wanted = named.clone();
    if named.is_empty() {
        wanted.extend(project.order.iter().cloned());
    }
    // Those that depend on others come later in the order: one pass from its end finds all.
    for name in project.order.iter().rev().filter(|name| project.services.contains_key(*name)) {
        if wanted.contains(name) {
            wanted.extend(project.services[name].depends_on.keys().cloned());
        }
    }
    let order = project.order.iter().filter(|name| wanted.contains(*name));
    Ok(order.filter_map(|name| project.services.get(name)).collect())
}

/// How many containers a service is to have.
pub fn replicas(service: &Service, wanted: &Wanted) -> usize {
    wanted.scales.get(&service.name).copied().unwrap_or(service.replicas)
}

/// `services` are those of [`concerned`].
pub fn plan(project: &Project, services: &[&Service], wanted: &Wanted, there: &There) -> Plan {
    let mut plan = Plan::default();
    for (key, network) in &project.networks {
        let used = services.iter().any(|service| service.networks.contains_key(key));
        if used && !there.networks.contains_key(&network.name) {
            if network.external {
                let name = &network.name;
                plan.notes.push(format!("the network {name} is external, and not there"));
            } else {
                plan.actions.push(Action::CreateNetwork(key.clone()));
            }
        }
    }
    for (key, volume) in &project.volumes {
        let used = services.iter().any(|s| s.mounts.iter().any(|mount| mount.source == *key));
        if used && !there.volumes.contains_key(&volume.name) {
            if volume.external {
                let name = &volume.name;
                plan.notes.push(format!("the volume {name} is external, and not there"));
            } else {
                plan.actions.push(Action::CreateVolume(key.clone()));
            }
        }
    }
    let mut changed = BTreeSet::new();
    for service in services {
        let actions = of_service(service, wanted, there);
        if actions.is_empty() {
            continue;
        }
        changed.insert(&service.name);
        for (name, dependency) in &service.depends_on {
            let of_note = dependency.condition != Condition::Started || changed.contains(name);
            if of_note && replicas(service, wanted) > 0 {
                plan.actions.push(Action::Await {
                    by: service.name.clone(),
                    service: name.clone(),
                    condition: dependency.condition,
                    required: dependency.required,
                });
            }
        }
        plan.actions.extend(actions);
    }
    let orphans = there.containers.iter().filter(|c| !project.services.contains_key(&c.service));
    for orphan in orphans {
        if wanted.remove_orphans {
            plan.actions.push(Action::Remove { container: orphan.id.clone() });
        } else {
            let Observed { name, service, .. } = orphan;
            plan.notes.push(format!(
                "{name} is of the service {service}, which the file does not have; \
                 --remove-orphans removes it"
            ));
        }
    }
    plan
}

fn of_service(service: &Service, wanted: &Wanted, there: &There) -> Vec<Action> {
    let mut own: Vec<&Observed> =
        there.containers.iter().filter(|c| c.service == service.name).collect();
    let count = replicas(service, wanted);
    let hash = there.hashes.get(&service.name);
    let is_current = |container: &Observed| {
        !wanted.recreate
            && Some(&container.hash) == hash
            && container.state != "dead"
            && !holds_balanced_port(service, container)
    };
    // Those that may stay come first: current ones that run, then current ones, then others that
    // run; of equals the lowest number.
    own.sort_by_key(|c| (!is_current(c), !c.runs(), c.number));
    let surplus = own.split_off(own.len().min(count));
    let mut actions = Vec::new();
    // A number is free once its container is gone, which may be only at the end.
    let mut taken: BTreeSet<u32> = there
        .containers
        .iter()
        .filter(|container| container.service == service.name)
        .map(|container| container.number)
        .collect();
    let mut next = || {
        let free = (1..).find(|number| !taken.contains(number)).unwrap_or(u32::MAX);
        taken.insert(free);
        free
    };
    let start_first = service.starts_first();
    for container in &own {
        if !is_current(container) {
            let start_first = start_first && container.runs();
            actions.push(Action::Replace {
                service: service.name.clone(),
                old: container.id.clone(),
                number: if start_first { next() } else { container.number },
                start_first,
            });
        } else if container.state == "created" || container.state == "exited" {
            actions.push(Action::Start { container: container.id.clone() });
        }
    }
    for _ in own.len()..count {
        actions.push(Action::Create { service: service.name.clone(), number: next() });
    }
    let surplus = surplus.iter().rev();
    actions.extend(surplus.map(|c| Action::Remove { container: c.id.clone() }));
    actions
}

/// The engine publishes for it what the balancer is to listen on, as plain Compose does it.
pub fn holds_balanced_port(service: &Service, container: &Observed) -> bool {
    container.published.iter().any(|(number, transport)| {
        service.balanced_ports().any(|port| {
            let same = matches!(port.published, Some((first, _)) if first == *number);
            let udp = port.container.transport == Transport::Udp;
            same && udp == (transport == "udp")
        })
    })
}

#[cfg(test)]
mod tests;
