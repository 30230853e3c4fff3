//! What becomes of the containers: endpoints of configured services, and services and routes by
//! label. Pure; each message costs by what it changes, not by how much there is.
//!
//! An endpoint is its container, by id: a restarted one, or another one at the same address, is a
//! new endpoint that must prove itself.

mod declared;

use std::collections::{BTreeMap, BTreeSet};

use model::spec::{DeclaredSpec, DiscoverSpec, DockerSelector, DockerSpec, EndpointSource, Spec};
use model::{Endpoint, EndpointId, ServiceName};

pub use declared::{Declared, Way};

use crate::place::{Wish, place};
use crate::{Container, Health, Message, Phase, Usage};

/// Reads labels for the service of this name; otherwise says what is wrong with them.
pub type ReadLabels = fn(&str, &BTreeMap<String, String>) -> Result<DeclaredSpec, Vec<String>>;

const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const ONE_OFF: &str = "com.docker.compose.oneoff";
const OUR_SERVICE: &str = "evenkeel.service";
const OUR_ENABLE: &str = "evenkeel.enable";
const OURS: &str = "evenkeel.";

pub struct Picture {
    read: ReadLabels,
    docker: DockerSpec,
    /// Configured services that are discovered.
    rules: BTreeMap<ServiceName, DockerSelector>,
    /// Configured services that are not.
    taken: BTreeSet<ServiceName>,
    containers: BTreeMap<String, Known>,
    members: BTreeMap<ServiceName, BTreeSet<String>>,
    declared: BTreeMap<ServiceName, Declared>,
    /// The highest rank so far.
    ranks: u64,
    /// Not yet told of since the connection was made.
    unseen: BTreeSet<String>,
    here: Option<BTreeSet<String>>,
    /// All that there is was told at least once.
    synced: bool,
    engine: Option<String>,
    lost: Option<String>,
}

/// A container, and what was made of it.
struct Known {
    container: Container,
    roles: Vec<Role>,
    /// What its labels say, and of which service.
    said: Option<(ServiceName, DeclaredSpec)>,
    /// That service exists by its labels.
    declares: bool,
    /// What is wrong, or not understood, of what it says.
    notes: Vec<String>,
    usage: Option<Usage>,
}

/// What it is to a service.
#[derive(Clone, Debug, PartialEq)]
struct Role {
    service: ServiceName,
    outcome: Result<Listed, String>,
}

/// One endpoint of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub endpoint: Endpoint,
    /// It gets nothing new, and finishes what it has.
    pub draining: bool,
}

/// What a message changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Services whose [`Picture::endpoints`] differ.
    pub services: BTreeSet<ServiceName>,
    /// Endpoints that are the same container at the same address, restarted: what they were is no
    /// more.
    pub restarted: Vec<(ServiceName, EndpointId)>,
    /// Services of which [`Picture::declared`] says something else.
    pub declared: BTreeSet<ServiceName>,
    pub usage: Vec<(ServiceName, EndpointId, Usage)>,
    /// New sentences about what containers say, for the log.
    pub notes: Vec<String>,
}

/// A container that was meant to serve, and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub id: String,
    pub name: String,
    pub service: Option<ServiceName>,
    pub reason: String,
}

/// How discovery is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Its name and version, once it answered.
    pub engine: Option<String>,
    /// Why it does not answer now.
    pub lost: Option<String>,
    pub synced: bool,
    /// Those that run.
    pub containers: usize,
    pub endpoints: usize,
    pub left_out: Vec<LeftOut>,
    /// What containers say and is not used, with their names.
    pub notes: Vec<String>,
    /// Of those that serve: id, name, and what they use.
    pub usage: Vec<(String, String, Usage)>,
}

impl Changes {
    fn add(&mut self, other: Changes) {
        self.services.extend(other.services);
        self.restarted.extend(other.restarted);
        self.declared.extend(other.declared);
        self.usage.extend(other.usage);
        self.notes.extend(other.notes);
    }
}

impl Picture {
    pub fn new(read: ReadLabels) -> Self {
        Self {
            read,
            docker: DockerSpec::default(),
            rules: BTreeMap::new(),
            taken: BTreeSet::new(),
            containers: BTreeMap::new(),
            members: BTreeMap::new(),
            declared: BTreeMap::new(),
            ranks: 0,
            unseen: BTreeSet::new(),
            here: None,
            synced: false,
            engine: None,
            lost: None,
        }
    }

    /// What the configuration says from now on. Without a provider nothing is left.
    pub fn configure(&mut self, spec: &Spec) -> Changes {
        let Some(docker) = &spec.providers.docker else {
            let services = self.members.keys().cloned().collect();
            let declared = self.declared.keys().cloned().collect();
            *self = Self::new(self.read);
            return Changes { services, declared, ..Changes::default() };
        };
        let mut rules = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for (name, service) in spec.services.iter() {
            match &service.source {
                EndpointSource::Discover(DiscoverSpec::Docker(selector)) => {
                    rules.insert(name.clone(), selector.clone());
                }
                EndpointSource::Static(_)
                | EndpointSource::Run(_)
                | EndpointSource::Discover(_) => {
                    taken.insert(name.clone());
                }
            }
        }
        if self.docker == *docker && self.rules == rules && self.taken == taken {
            return Changes::default();
        }
        if self.docker.socket != docker.socket {
            // Of another engine: its answer is awaited as at start.
            self.synced = false;
        }
        self.docker = docker.clone();
        (self.rules, self.taken) = (rules, taken);
        self.read_again()
    }

    fn read_again(&mut self) -> Changes {
        let all: Vec<Container> =
            self.containers.values().map(|known| known.container.clone()).collect();
        let mut changes = Changes::default();
        for container in all {
            changes.add(self.put(container, true));
        }
        changes
    }

    pub fn apply(&mut self, message: Message) -> Changes {
        match message {
            Message::Connected { engine } => {
                self.engine = Some(engine);
                self.lost = None;
                self.unseen = self.containers.keys().cloned().collect();
                Changes::default()
            }
            Message::Container(container) => {
                self.unseen.remove(&container.id);
                self.put(*container, false)
            }
            Message::Gone { id } => {
                self.unseen.remove(&id);
                self.remove(&id)
            }
            Message::Synced { networks } => {
                self.synced = true;
                let mut changes = Changes::default();
                for id in std::mem::take(&mut self.unseen) {
                    changes.add(self.remove(&id));
                }
                if self.here != networks {
                    self.here = networks;
                    changes.add(self.read_again());
                }
                changes
            }
            Message::Lost { reason } => {
                self.lost = Some(reason);
                Changes::default()
            }
            Message::Usage { id, usage } => {
                let Some(known) = self.containers.get_mut(&id) else { return Changes::default() };
                known.usage = Some(usage);
                let usage = known.listed().map(|(s, l)| (s.clone(), l.endpoint.id.clone(), usage));
                Changes { usage: usage.collect(), ..Changes::default() }
            }
        }
    }

    /// Whether it is known what there is. Until then a service keeps what it had.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// The engine does not answer now.
    pub fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    pub fn endpoints(&self, service: &str) -> Vec<Listed> {
        let members = self.members.get(service).into_iter().flatten();
        let known = members.filter_map(|id| self.containers.get(id));
        let of_service = |known: &'_ Known| {
            let mut listed = known.listed().filter(|(name, _)| name.as_str() == service);
            listed.next().map(|(_, listed)| listed.clone())
        };
        known.filter_map(of_service).collect()
    }

    /// The services that exist by label.
    pub fn declared(&self) -> &BTreeMap<ServiceName, Declared> {
        &self.declared
    }

    pub fn summary(&self) -> Summary {
        let runs = |known: &&Known| !known.has_ended();
        let mut summary = Summary {
            engine: self.engine.clone(),
            lost: self.lost.clone(),
            synced: self.synced,
            containers: self.containers.values().filter(runs).count(),
            ..Summary::default()
        };
        for known in self.containers.values().filter(runs) {
            summary.endpoints += known.listed().count();
            let Container { name, .. } = &known.container;
            if let Some(usage) = known.usage.filter(|_| known.listed().next().is_some()) {
                let id = known.container.short_id().to_owned();
                summary.usage.push((id, name.clone(), usage));
            }
            for role in &known.roles {
                if let Err(reason) = &role.outcome {
                    summary.left_out.push(LeftOut {
                        id: known.container.short_id().to_owned(),
                        name: name.clone(),
                        service: Some(role.service.clone()),
                        reason: reason.clone(),
                    });
                }
            }
            if known.roles.is_empty() && !known.notes.is_empty() {
                summary.left_out.push(LeftOut {
                    id: known.container.short_id().to_owned(),
                    name: name.clone(),
                    service: None,
                    reason: known.notes.join("; "),
                });
            } else {
                let notes = known.notes.iter().map(|note| format!("{name}: {note}"));
                summary.notes.extend(notes);
            }
        }
        summary
    }

    /// `again`: what is made of it may differ, though it is the same.
    fn put(&mut self, container: Container, again: bool) -> Changes {
        let mut changes = Changes::default();
        let former = self.containers.get(&container.id);
        if !again && former.is_some_and(|known| known.container == container) {
            return changes;
        }
        let mut known = match former {
            // Labels do not change as long as a container lives, and reading them is what costs.
            Some(former) if !again && former.container.labels == container.labels => Known {
                said: former.said.clone(),
                declares: former.declares,
                notes: former.notes.clone(),
                roles: self.roles(&container, former.said.as_ref()),
                usage: former.usage,
                container,
            },
            _ => self.read(container),
        };
        let id = known.container.id.clone();
        if !known.has_ended() {
            let new = |note: &&String| former.is_none_or(|former| !former.notes.contains(note));
            let name = &known.container.name;
            let notes = known.notes.iter().filter(new).map(|note| format!("{name}: {note}"));
            changes.notes.extend(notes);
        }
        let former = former.map(|former| {
            let declared = former.declared().cloned();
            (former.roles.clone(), declared, former.container.started_at, former.has_ended())
        });
        let (roles, declared, started_at, had_ended) = former.unwrap_or_default();
        let restarted = started_at != known.container.started_at;
        known.usage = known.usage.filter(|_| !restarted);
        let listed = |roles: &[Role]| -> BTreeMap<ServiceName, Listed> {
            let listed = |role: &Role| Some((role.service.clone(), role.outcome.clone().ok()?));
            roles.iter().filter_map(listed).collect()
        };
        let (was, is) = (listed(&roles), listed(&known.roles));
        for service in was.keys().chain(is.keys()).collect::<BTreeSet<_>>() {
            let (was, is) = (was.get(service), is.get(service));
            if was != is || restarted {
                changes.services.insert(service.clone());
            }
            if let (Some(was), Some(is)) = (was, is)
                && restarted
                && was.endpoint.address == is.endpoint.address
            {
                changes.restarted.push((service.clone(), is.endpoint.id.clone()));
            }
        }
        for role in &roles {
            self.leave(&role.service, &id);
        }
        for role in &known.roles {
            self.members.entry(role.service.clone()).or_default().insert(id.clone());
        }
        let both = declared.iter().chain(known.declared());
        let names: BTreeSet<ServiceName> = both.map(|(name, _)| name.clone()).collect();
        let differs = again
            || restarted
            || had_ended != known.has_ended()
            || declared.as_ref() != known.declared();
        self.containers.insert(id, known);
        for name in names.iter().filter(|_| differs) {
            if self.declare(name) {
                changes.declared.insert(name.clone());
            }
        }
        changes
    }

    fn leave(&mut self, service: &ServiceName, id: &str) {
        if let Some(members) = self.members.get_mut(service) {
            members.remove(id);
            if members.is_empty() {
                self.members.remove(service);
            }
        }
    }

    fn remove(&mut self, id: &str) -> Changes {
        let Some(known) = self.containers.remove(id) else { return Changes::default() };
        let mut changes = Changes::default();
        changes.services.extend(known.listed().map(|(service, _)| service.clone()));
        for role in &known.roles {
            self.leave(&role.service, id);
        }
        if let Some((name, _)) = known.declared()
            && self.declare(name)
        {
            changes.declared.insert(name.clone());
        }
        changes
    }

    fn read(&self, container: Container) -> Known {
        let mut notes = Vec::new();
        let said = self.said(&container, &mut notes);
        let roles = self.roles(&container, said.as_ref());
        // How a configured service is used, the configuration says; its containers add where they
        // are.
        let configured =
            |name: &ServiceName| self.rules.contains_key(name) || self.taken.contains(name);
        let declares = said.as_ref().is_some_and(|(name, _)| !configured(name))
            && !roles.iter().any(|role| self.rules.contains_key(&role.service));
        Known { container, roles, said, declares, notes, usage: None }
    }

    fn roles(
        &self,
        container: &Container,
        declaration: Option<&(ServiceName, DeclaredSpec)>,
    ) -> Vec<Role> {
        let declared = declaration.map(|(_, spec)| spec);
        let mut roles: Vec<Role> = (self.rules.iter())
            .filter(|(name, rule)| self.matches(container, name, rule))
            .map(|(name, rule)| Role {
                service: name.clone(),
                outcome: self.listed(container, Some(rule), declared),
            })
            .collect();
        if roles.is_empty()
            && let Some((name, _)) = declaration
        {
            let outcome = if self.taken.contains(name) {
                Err(format!("the service {name} has its endpoints from the configuration"))
            } else if self.rules.contains_key(name) {
                Err(format!("the service {name} is configured to have other containers"))
            } else {
                self.listed(container, None, declared)
            };
            roles.push(Role { service: name.clone(), outcome });
        }
        roles
    }

    fn matches(&self, container: &Container, name: &ServiceName, rule: &DockerSelector) -> bool {
        let label = |name: &str| container.labels.get(name).map(String::as_str);
        if label(OUR_ENABLE) == Some("false") || label(ONE_OFF) == Some("True") {
            return false;
        }
        let project = rule.compose_project.as_ref().or(self.docker.compose_project.as_ref());
        let in_project = project.is_none_or(|project| label(PROJECT) == Some(project));
        let by_name = rule.compose_service.is_none() && rule.labels.is_empty();
        let in_service = match &rule.compose_service {
            Some(service) => label(SERVICE) == Some(service),
            None => true,
        };
        let named = !by_name || label(OUR_SERVICE).or(label(SERVICE)) == Some(name.as_str());
        let labelled = rule.labels.iter().all(|(name, value)| {
            let found = label(name);
            value.as_deref().map_or(found.is_some(), |value| found == Some(value))
        });
        in_project && in_service && named && labelled
    }

    fn listed(
        &self,
        container: &Container,
        rule: Option<&DockerSelector>,
        declared: Option<&DeclaredSpec>,
    ) -> Result<Listed, String> {
        let draining = match (container.phase, container.health) {
            (Phase::Ended, _) => return Err("has ended".into()),
            (Phase::Paused, _) => return Err("is paused".into()),
            (Phase::Running, Health::Starting) => {
                return Err("its own health check (HEALTHCHECK) has not passed yet".into());
            }
            (Phase::Stopping, _) | (_, Health::Unhealthy) => true,
            (Phase::Running, Health::None | Health::Healthy) => false,
        };
        let network = rule.and_then(|rule| rule.network.as_deref());
        let network = network.or_else(|| declared?.network.as_deref());
        let wish = Wish {
            port: rule.and_then(|rule| rule.port).or_else(|| declared?.port),
            network: network.or(self.docker.network.as_deref()),
            address: self.docker.address,
            here: self.here.as_ref(),
        };
        let address = place(container, &wish)?;
        let mut endpoint = Endpoint::at(address);
        endpoint.id = EndpointId::new(container.short_id());
        if let Some(declared) = declared {
            endpoint.weight = declared.weight;
            endpoint.priority = declared.priority;
            endpoint.zone = declared.zone.as_deref().map(Into::into);
        }
        Ok(Listed { endpoint, draining })
    }
}

impl Known {
    fn declared(&self) -> Option<&(ServiceName, DeclaredSpec)> {
        self.said.as_ref().filter(|_| self.declares)
    }

    fn has_ended(&self) -> bool {
        self.container.phase == Phase::Ended
    }

    fn listed(&self) -> impl Iterator<Item = (&ServiceName, &Listed)> {
        self.roles.iter().filter_map(|role| Some((&role.service, role.outcome.as_ref().ok()?)))
    }
}

#[cfg(test)]
mod tests;
