//! What is known of the engine's containers: events and inspections in, messages out. Pure, so that
//! every order of them can be tried in tests.
//!
//! An event says what happened; an inspection says how things are, but may have been made before
//! an event that is already known. So an inspection counts only if nothing happened to its
//! container since it was asked for; otherwise it is asked for again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::Instant;

use super::decode::{Event, Inspection, What};
use crate::{Container, Message, Phase};

/// Told to stop, and still there after this time: it does not heed the signal, and nobody
/// follows up. Then it serves again. `docker stop` follows up with SIGKILL, after 10 s by
/// default.
const STOPPING_MAX: Duration = Duration::from_secs(60);

/// Stopped containers that are remembered for the sake of what their labels say.
const ENDED_MAX: usize = 1000;

const SIGKILL: i32 = 9;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Ask the engine how this container is, and answer with [`Tracker::inspected`].
    Inspect(String),
    Tell(Message),
    /// Tell [`Tracker::exited`] when this process is no more.
    Watch {
        id: String,
        pid: i32,
    },
}

#[derive(Default)]
pub struct Tracker {
    entries: BTreeMap<String, Entry>,
    /// The name by which programs in our own container know it, if we are in one.
    own_hostname: String,
    own_networks: Option<BTreeSet<String>>,
    /// Between [`Tracker::begin`] and [`Tracker::complete`].
    synchronising: bool,
}

#[derive(Default)]
struct Entry {
    /// `None`: only asked for.
    container: Option<Container>,
    stop_signal: i32,
    pid: i32,
    /// An inspection is under way.
    asked: bool,
    /// Something happened since it was asked for.
    outdated: bool,
    stopping_since: Option<Instant>,
    /// `started_at` of what is known to have ended.
    ended_life: Option<i64>,
    /// Seen since the connection was made.
    seen: bool,
}

impl Tracker {
    /// `hostname` is this machine's, which inside a container is the container's.
    pub fn new(hostname: &str) -> Self {
        Self { own_hostname: hostname.to_owned(), ..Self::default() }
    }

    /// A connection was made: `ids` run now.
    pub fn begin(&mut self, engine: &str, ids: Vec<String>) -> Vec<Step> {
        self.synchronising = true;
        for entry in self.entries.values_mut() {
            (entry.seen, entry.asked, entry.outdated) = (false, false, false);
        }
        let mut steps = vec![Step::Tell(Message::Connected { engine: engine.to_owned() })];
        for id in ids {
            let entry = self.entries.entry(id.clone()).or_default();
            entry.asked = true;
            steps.push(Step::Inspect(id));
        }
        self.complete(&mut steps);
        steps
    }

    /// Once all that was listed was inspected.
    fn complete(&mut self, steps: &mut Vec<Step>) {
        if !self.synchronising || self.entries.values().any(|e| e.asked && !e.seen) {
            return;
        }
        self.synchronising = false;
        self.entries.retain(|_, entry| entry.seen);
        steps.push(Step::Tell(Message::Synced { networks: self.own_networks.clone() }));
    }

    pub fn event(&mut self, event: &Event, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        let Event { id, what, at } = event;
        if !self.entries.contains_key(id) && !matches!(what, What::Start | What::Unpause) {
            // It does not run, so nothing that happens to it matters.
            return steps;
        }
        let entry = self.entries.entry(id.clone()).or_default();
        let started_at = entry.container.as_ref().map_or(0, |c| c.started_at);
        let of_a_former_life = *at != 0 && *at < started_at;
        entry.outdated = entry.asked;
        let mut inspect = false;
        match what {
            What::Kill { .. } | What::Die | What::Pause if of_a_former_life => {}
            What::Kill { signal } => {
                // Other signals mean what the program makes of them: SIGHUP is "read again".
                if *signal == SIGKILL || *signal == entry.stop_signal {
                    entry.stopping_since.get_or_insert(now);
                    entry.set_phase(Phase::Stopping, &mut steps);
                }
            }
            What::Die => {
                entry.end(&mut steps);
            }
            What::Destroy => {
                let asked = entry.asked;
                self.entries.remove(id);
                steps.push(Step::Tell(Message::Gone { id: id.clone() }));
                if asked {
                    self.complete(&mut steps);
                }
                return steps;
            }
            What::Pause => entry.set_phase(Phase::Paused, &mut steps),
            What::Health(health) => {
                let health = *health;
                entry.change(|container| container.health = health, &mut steps);
            }
            What::Left { network } => {
                // Its address may be another container's in the next moment.
                entry.change(|container| _ = container.networks.remove(network), &mut steps);
                inspect = entry.is_alive();
            }
            What::Start | What::Unpause => inspect = true,
            What::Changed => inspect = entry.is_alive(),
        }
        if inspect && !entry.asked {
            entry.asked = true;
            steps.push(Step::Inspect(id.clone()));
        }
        steps
    }

    /// The answer to [`Step::Inspect`]; `None`: there is no such container.
    pub fn inspected(&mut self, id: &str, found: Option<Inspection>, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        let Some(entry) = self.entries.get_mut(id) else { return steps };
        if !entry.asked {
            return steps;
        }
        if entry.outdated {
            entry.outdated = false;
            return vec![Step::Inspect(id.to_owned())];
        }
        (entry.asked, entry.outdated, entry.seen) = (false, false, true);
        match found {
            None => {
                self.entries.remove(id);
                steps.push(Step::Tell(Message::Gone { id: id.to_owned() }));
            }
            Some(found) => {
                let own = !self.own_hostname.is_empty()
                    && found.hostname == self.own_hostname
                    && id.starts_with(&self.own_hostname);
                let networks =
                    own.then(|| found.container.networks.keys().cloned().collect::<BTreeSet<_>>());
                entry.take(found, self.synchronising, now, &mut steps);
                if networks.is_some() && networks != self.own_networks {
                    self.own_networks = networks;
                    if !self.synchronising {
                        let networks = self.own_networks.clone();
                        steps.push(Step::Tell(Message::Synced { networks }));
                    }
                }
            }
        }
        self.complete(&mut steps);
        self.forget_ended(&mut steps);
        steps
    }

    /// The kernel says that a container's first process has ended, which it does before the
    /// engine does, and also when the engine is away.
    pub fn exited(&mut self, id: &str, pid: i32) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Some(entry) = self.entries.get_mut(id)
            && entry.pid == pid
        {
            entry.outdated = entry.asked;
            entry.end(&mut steps);
        }
        steps
    }

    /// To be called about once a second.
    pub fn tick(&mut self, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        for (id, entry) in &mut self.entries {
            let over = |since: Instant| now.since(since) >= STOPPING_MAX;
            if entry.stopping_since.is_some_and(over) && !entry.asked {
                entry.stopping_since = None;
                if entry.is_alive() {
                    entry.asked = true;
                    steps.push(Step::Inspect(id.clone()));
                }
            }
        }
        steps
    }

    /// Those that run, for statistics.
    pub fn running(&self) -> Vec<String> {
        let runs =
            |entry: &Entry| entry.container.as_ref().map(|c| c.phase) == Some(Phase::Running);
        self.entries.iter().filter(|(_, entry)| runs(entry)).map(|(id, _)| id.clone()).collect()
    }

    /// Remembers no more than so many that have ended: the oldest go first.
    fn forget_ended(&mut self, steps: &mut Vec<Step>) {
        if self.entries.len() <= ENDED_MAX {
            return;
        }
        let ended = |entry: &Entry| !entry.asked && !entry.is_alive();
        let mut all: Vec<(i64, String)> = (self.entries.iter())
            .filter(|(_, entry)| ended(entry))
            .map(|(id, e)| (e.container.as_ref().map_or(0, |c| c.started_at), id.clone()))
            .collect();
        all.sort_unstable();
        for (_, id) in all.drain(..all.len().saturating_sub(ENDED_MAX)) {
            self.entries.remove(&id);
            steps.push(Step::Tell(Message::Gone { id }));
        }
    }
}

impl Entry {
    /// Something runs in it, or is about to.
    fn is_alive(&self) -> bool {
        self.container.as_ref().is_none_or(|container| container.phase != Phase::Ended)
    }

    fn end(&mut self, steps: &mut Vec<Step>) {
        self.pid = 0;
        self.ended_life = self.container.as_ref().map(|container| container.started_at);
        self.set_phase(Phase::Ended, steps);
    }

    fn set_phase(&mut self, phase: Phase, steps: &mut Vec<Step>) {
        if phase != Phase::Stopping {
            self.stopping_since = None;
        }
        self.change(
            |container| {
                // What has ended or is paused stays so until a start or an unpause is inspected.
                let stopping = phase == Phase::Stopping;
                if !(stopping && container.phase != Phase::Running) {
                    container.phase = phase;
                }
            },
            steps,
        );
    }

    fn change(&mut self, change: impl FnOnce(&mut Container), steps: &mut Vec<Step>) {
        let Some(container) = &mut self.container else { return };
        let before = container.clone();
        change(container);
        if *container != before {
            steps.push(Step::Tell(Message::Container(Box::new(container.clone()))));
        }
    }

    /// `all`: tell it also if nothing changed.
    fn take(&mut self, found: Inspection, all: bool, now: Instant, steps: &mut Vec<Step>) {
        let Inspection { mut container, pid, stop_signal, .. } = found;
        if container.phase == Phase::Stopping {
            self.stopping_since.get_or_insert(now);
        }
        let same_life = |c: &Container| c.started_at == container.started_at;
        if self.stopping_since.is_some() && self.container.as_ref().is_some_and(same_life) {
            if container.phase == Phase::Running {
                container.phase = Phase::Stopping;
            }
        } else if container.phase != Phase::Stopping {
            self.stopping_since = None;
        }
        // Its process has ended, and the engine has not noticed yet.
        if self.ended_life == Some(container.started_at) {
            container.phase = Phase::Ended;
        }
        if container.phase != Phase::Ended && pid != 0 && pid != self.pid {
            self.pid = pid;
            steps.push(Step::Watch { id: container.id.clone(), pid });
        }
        self.stop_signal = stop_signal;
        if all || self.container.as_ref() != Some(&container) {
            steps.push(Step::Tell(Message::Container(Box::new(container.clone()))));
        }
        self.container = Some(container);
    }
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;
