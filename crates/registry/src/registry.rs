//! Who is registered, since when they were heard of, and who leaves when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::Instant;
use serde::{Deserialize, Serialize};

use crate::preservation::{Preservation, PreservationRule};
use crate::{Instance, Limits, Refusal};

/// While silence is not believed, how often it is looked at again.
const PRESERVED_RECHECK: Duration = Duration::from_secs(1);

/// All instances of all services, and a version that grows with each change of what is listed.
///
/// A heartbeat is a look-up and a store: an instance has one deadline, which is looked at when it
/// is reached and moved on by what was heard meanwhile, so that 10,000 instances cost 10,000 moves
/// per TTL and nothing per heartbeat.
#[derive(Debug)]
pub struct Registry {
    limits: Limits,
    rule: PreservationRule,
    services: BTreeMap<Arc<str>, Service>,
    count: usize,
    version: u64,
    /// When an instance may have to leave. One entry each, except for those held elsewhere.
    deadlines: BTreeSet<(Instant, Key)>,
    /// When an instance is to be asked how it is.
    checks: BTreeSet<(Instant, Key)>,
    preservation: Preservation,
}

/// Why one left whose address another registered.
pub const REPLACED: &str = "another took its address";

type Key = (Arc<str>, Arc<str>);

#[derive(Debug, Default)]
struct Service {
    version: u64,
    instances: BTreeMap<Arc<str>, Entry>,
    by_address: BTreeMap<SocketAddr, Arc<str>>,
}

#[derive(Debug)]
struct Entry {
    instance: Arc<Instance>,
    /// When it registered here, or was heard of here the last time.
    heard: Option<Instant>,
    /// Its silence is counted from here on: it was heard of, restored or released.
    counted_from: Instant,
    /// It said so itself since this registry began, or the store that all share vouches for it.
    proven: bool,
    /// A store that all share holds it, and says when it leaves.
    held: bool,
    deadline: Option<Instant>,
    check: Option<Instant>,
}

impl Entry {
    fn is_late(&self, now: Instant) -> bool {
        !self.held && now.since(self.counted_from) > self.instance.ttl() / 2
    }

    fn state(&self, now: Instant) -> State {
        match self.proven {
            false => State::Restored,
            true if self.is_late(now) => State::Late,
            true => State::Up,
        }
    }
}

/// How an instance is, as far as the registry was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Heard of in time.
    Up,
    /// Not heard of for more than half of its TTL.
    Late,
    /// Known from before a restart, and not heard of since: not to be trusted without a check.
    Restored,
}

/// An instance in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    #[serde(flatten)]
    pub instance: Arc<Instance>,
    pub state: State,
}

/// What a registration came to.
#[derive(Clone, Debug)]
pub struct Registered {
    pub instance: Arc<Instance>,
    /// It was not there before under this id.
    pub new: bool,
    pub changes: Vec<Change>,
}

/// That an instance is there, is another, or left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub service: Arc<str>,
    pub id: Arc<str>,
    /// As it is now; `None`: it left.
    pub instance: Option<Arc<Instance>>,
    /// For people.
    pub why: &'static str,
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub services: usize,
    pub instances: usize,
    pub late: usize,
    pub restored: usize,
}

impl Registry {
    /// `version`: later than any that was ever told, so that who watched before a restart learns
    /// of it.
    pub fn new(limits: Limits, rule: PreservationRule, version: u64) -> Self {
        Self {
            limits,
            rule,
            services: BTreeMap::new(),
            count: 0,
            version,
            deadlines: BTreeSet::new(),
            checks: BTreeSet::new(),
            preservation: Preservation::default(),
        }
    }

    /// Other limits and another rule from now on; nobody leaves for it.
    pub fn configure(&mut self, limits: Limits, rule: PreservationRule) {
        (self.limits, self.rule) = (limits, rule);
    }

    /// Whether an instance would be taken, without taking it.
    pub fn admits(&self, instance: &Instance) -> Result<(), Refusal> {
        instance.check()?;
        let limit = |name, max| Err(Refusal::Limit { name, max });
        if instance.metadata.len() > self.limits.metadata {
            return limit("metadata_max", self.limits.metadata);
        }
        let service = self.services.get(&*instance.service);
        if service.is_none() && self.services.len() >= self.limits.services {
            return limit("services_max", self.limits.services);
        }
        let replaces = service.is_some_and(|service| {
            service.instances.contains_key(&*instance.id)
                || service.by_address.contains_key(&instance.socket_address())
        });
        if !replaces && self.count >= self.limits.instances {
            return limit("instances_max", self.limits.instances);
        }
        Ok(())
    }

    /// Takes an instance, or what is new of it. Who registers an address of the service that
    /// another id has takes its place: two cannot listen there, so the other is gone.
    pub fn register(&mut self, instance: Instance, now: Instant) -> Result<Registered, Refusal> {
        self.admits(&instance)?;
        Ok(self.put(instance, now, true, false))
    }

    /// An instance from before a restart: it is listed as [`State::Restored`], and leaves after
    /// its TTL unless it is heard of.
    pub fn restore(&mut self, instance: Instance, now: Instant) -> Result<Registered, Refusal> {
        self.admits(&instance)?;
        Ok(self.put(instance, now, false, false))
    }

    /// A store that all share has this instance, and will say when it has it no longer.
    pub fn hold(&mut self, instance: Instance, now: Instant) -> Result<Registered, Refusal> {
        self.admits(&instance)?;
        Ok(self.put(instance, now, true, true))
    }

    /// The store has it no longer, though nobody said that it leaves: its TTL begins now.
    pub fn release(&mut self, service: &str, id: &str, now: Instant) {
        let Some((service, entry)) = self.entry_mut(service, id) else { return };
        if std::mem::replace(&mut entry.held, false) {
            entry.counted_from = entry.counted_from.max(now);
            let deadline = entry.counted_from + entry.instance.ttl();
            entry.deadline = Some(deadline);
            let key = (service, Arc::from(&*entry.instance.id));
            self.deadlines.insert((deadline, key));
        }
    }

    /// Everybody whose silence is counted has been silent only from now on.
    pub fn begin_again(&mut self, now: Instant) {
        // Their deadlines are moved on when they are reached.
        let all = self.services.values_mut().flat_map(|service| service.instances.values_mut());
        for entry in all {
            entry.counted_from = entry.counted_from.max(now);
        }
    }

    fn put(&mut self, instance: Instance, now: Instant, proven: bool, held: bool) -> Registered {
        let (service_name, id): Key = (Arc::from(&*instance.service), Arc::from(&*instance.id));
        let mut changes = Vec::new();
        let at = instance.socket_address();
        let former = self.services.get(&service_name).and_then(|s| s.by_address.get(&at)).cloned();
        if let Some(former) = former.filter(|former| *former != id) {
            changes.extend(self.remove(&service_name, &former, REPLACED));
        }
        let service = self.services.entry(Arc::clone(&service_name)).or_default();
        let known = service.instances.get_mut(&id);
        let new = known.is_none();
        let differs = match &known {
            Some(entry) => *entry.instance != instance || entry.proven != (entry.proven || proven),
            None => true,
        };
        let instance = Arc::new(instance);
        let deadline = (!held).then(|| now + instance.ttl());
        let check = instance.check.as_ref().map(|_| now);
        let entry = Entry {
            instance: Arc::clone(&instance),
            heard: (proven && !held).then_some(now),
            counted_from: now,
            proven,
            held,
            deadline,
            check,
        };
        if let Some(known) = known {
            // What the store repeats was not heard here.
            let heard = entry.heard.or(known.heard);
            let proven = known.proven || proven;
            if known.instance.socket_address() != at {
                service.by_address.remove(&known.instance.socket_address());
            }
            let former = std::mem::replace(known, Entry { heard, proven, ..entry });
            let key = (Arc::clone(&service_name), Arc::clone(&id));
            forget(&mut self.deadlines, former.deadline, &key);
            forget(&mut self.checks, former.check, &key);
        } else {
            service.instances.insert(Arc::clone(&id), entry);
            self.count += 1;
        }
        service.by_address.insert(at, Arc::clone(&id));
        let key = (Arc::clone(&service_name), Arc::clone(&id));
        self.deadlines.extend(deadline.map(|deadline| (deadline, key.clone())));
        self.checks.extend(check.map(|check| (check, key)));
        if differs {
            self.version += 1;
            service.version = self.version;
            let why = if new { "joined" } else { "changed" };
            changes.push(Change {
                service: service_name,
                id,
                instance: Some(Arc::clone(&instance)),
                why,
            });
        }
        Registered { instance, new, changes }
    }

    /// It lives. Answers it, and whether that was news (it was only restored until now).
    pub fn heartbeat(
        &mut self,
        service: &str,
        id: &str,
        now: Instant,
    ) -> Result<(Arc<Instance>, bool), Refusal> {
        let (_, entry) = self.entry_mut(service, id).ok_or(Refusal::Unknown)?;
        entry.heard = Some(now);
        entry.counted_from = entry.counted_from.max(now);
        let proven = std::mem::replace(&mut entry.proven, true);
        let instance = Arc::clone(&entry.instance);
        if !proven {
            self.version += 1;
            let version = self.version;
            if let Some(service) = self.services.get_mut(service) {
                service.version = version;
            }
        }
        Ok((instance, !proven))
    }

    pub fn deregister(&mut self, service: &str, id: &str) -> Option<Change> {
        self.remove(service, id, "deregistered")
    }

    fn remove(&mut self, service: &str, id: &str, why: &'static str) -> Option<Change> {
        let name = Arc::clone(self.services.get_key_value(service)?.0);
        let found = self.services.get_mut(service)?;
        let (id, entry) = found.instances.remove_entry(id)?;
        let at = entry.instance.socket_address();
        if found.by_address.get(&at) == Some(&id) {
            found.by_address.remove(&at);
        }
        self.count -= 1;
        self.version += 1;
        found.version = self.version;
        if found.instances.is_empty() {
            self.services.remove(service);
        }
        let key = (Arc::clone(&name), Arc::clone(&id));
        forget(&mut self.deadlines, entry.deadline, &key);
        forget(&mut self.checks, entry.check, &key);
        Some(Change { service: name, id, instance: None, why })
    }

    /// Lets those leave whose silence has lasted for their TTL, unless most are silent.
    pub fn poll(&mut self, now: Instant) -> Vec<Change> {
        let mut due = Vec::new();
        while let Some(first) = self.deadlines.first()
            && first.0 <= now
        {
            let Some((_, key)) = self.deadlines.pop_first() else { break };
            let Some(entry) = self.entry_of(&key) else { continue };
            let silent_until = entry.counted_from + entry.instance.ttl();
            if silent_until > now {
                self.arm(&key, silent_until);
            } else {
                due.push(key);
            }
        }
        if due.is_empty() && self.preservation.since.is_none() {
            return Vec::new();
        }
        let counts = self.counts(now);
        if self.preservation.judge(&self.rule, counts.instances, counts.late, now) {
            for key in due {
                self.arm(&key, now + PRESERVED_RECHECK);
            }
            return Vec::new();
        }
        let leave = |key: Key| self.remove(&key.0, &key.1, "silent for its TTL");
        due.into_iter().filter_map(leave).collect()
    }

    fn arm(&mut self, key: &Key, deadline: Instant) {
        if let Some((_, entry)) = self.entry_mut(&key.0, &key.1) {
            entry.deadline = Some(deadline);
            self.deadlines.insert((deadline, key.clone()));
        }
    }

    /// Those that are to be asked now, up to `max`; each is due again after a third of its TTL.
    pub fn due_checks(&mut self, now: Instant, max: usize) -> Vec<Arc<Instance>> {
        let mut due = Vec::new();
        while due.len() < max
            && let Some(first) = self.checks.first()
            && first.0 <= now
        {
            let Some((_, key)) = self.checks.pop_first() else { break };
            let Some((_, entry)) = self.entry_mut(&key.0, &key.1) else { continue };
            let next = now + entry.instance.heartbeat();
            entry.check = Some(next);
            due.push(Arc::clone(&entry.instance));
            self.checks.insert((next, key));
        }
        due
    }

    /// When [`Registry::poll`] or [`Registry::due_checks`] may have something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let first = |set: &BTreeSet<(Instant, Key)>| set.first().map(|(at, _)| *at);
        first(&self.deadlines).into_iter().chain(first(&self.checks)).min()
    }

    /// Of one service, in the order of their ids; empty where there is none. With the version of
    /// this list: 0 where there is no such service.
    pub fn list(&self, service: &str, now: Instant) -> (u64, Vec<Listed>) {
        let Some(service) = self.services.get(service) else { return (0, Vec::new()) };
        let listed = |entry: &Entry| Listed {
            instance: Arc::clone(&entry.instance),
            state: entry.state(now),
        };
        (service.version, service.instances.values().map(listed).collect())
    }

    pub fn find(&self, service: &str, id: &str, now: Instant) -> Option<Listed> {
        let entry = self.services.get(service)?.instances.get(id)?;
        Some(Listed { instance: Arc::clone(&entry.instance), state: entry.state(now) })
    }

    /// Each service with how many instances it has, and its version.
    pub fn services(&self) -> impl Iterator<Item = (&str, usize, u64)> {
        self.services
            .iter()
            .map(|(name, service)| (&**name, service.instances.len(), service.version))
    }

    /// Of one service; 0: there is none.
    pub fn service_version(&self, service: &str) -> u64 {
        self.services.get(service).map_or(0, |service| service.version)
    }

    /// Of everything.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The instances that were heard of here since `since`, and whether the store holds them: then
    /// their leases are to be renewed, and otherwise they need one.
    pub fn heard_since(&self, since: Instant) -> Vec<(Arc<Instance>, bool)> {
        let all = self.services.values().flat_map(|service| service.instances.values());
        all.filter(|entry| entry.heard.is_some_and(|heard| heard > since))
            .map(|entry| (Arc::clone(&entry.instance), entry.held))
            .collect()
    }

    /// Everybody that a store is said to hold.
    pub fn held(&self) -> Vec<Arc<Instance>> {
        let all = self.services.values().flat_map(|service| service.instances.values());
        all.filter(|entry| entry.held).map(|entry| Arc::clone(&entry.instance)).collect()
    }

    pub fn counts(&self, now: Instant) -> Counts {
        let mut counts =
            Counts { services: self.services.len(), instances: self.count, ..Counts::default() };
        for entry in self.services.values().flat_map(|service| service.instances.values()) {
            counts.late += usize::from(entry.is_late(now));
            counts.restored += usize::from(!entry.proven);
        }
        counts
    }

    pub fn preservation(&self) -> Preservation {
        self.preservation
    }

    fn entry_of(&self, key: &Key) -> Option<&Entry> {
        self.services.get(&key.0)?.instances.get(&key.1)
    }

    fn entry_mut(&mut self, service: &str, id: &str) -> Option<(Arc<str>, &mut Entry)> {
        let name = Arc::clone(self.services.get_key_value(service)?.0);
        let entry = self.services.get_mut(service)?.instances.get_mut(id)?;
        Some((name, entry))
    }
}

fn forget(set: &mut BTreeSet<(Instant, Key)>, at: Option<Instant>, key: &Key) {
    if let Some(at) = at {
        set.remove(&(at, key.clone()));
    }
}

#[cfg(test)]
mod tests;
