use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use model::spec::RunSpec;
use model::{EndpointId, Rng, ServiceName};
use tokio::sync::{mpsc, watch};
use tracing::info;

use crate::Replicas;
use crate::launch::Launch;
use crate::output::Output;
use crate::published::Published;
use crate::replica::{Event, Replica};

/// Events of replicas that wait to be acted upon; a replica whose event does not fit waits.
const EVENT_QUEUE_LEN: usize = 64;

/// Runs the replicas of one service. Dropping it stops them, without waiting.
pub struct ProcessRunner {
    desired: watch::Sender<Desired>,
    finished: watch::Receiver<bool>,
    output: Option<Output>,
}

/// What should be; the fleet moves towards it.
#[derive(Clone)]
pub(crate) struct Desired {
    pub(crate) spec: Arc<RunSpec>,
    launch: Arc<Launch>,
    replicas: usize,
    stopping: bool,
}

impl ProcessRunner {
    /// Must be called inside a tokio runtime with I/O and time. Starts without waiting.
    pub fn start(
        service: ServiceName,
        spec: RunSpec,
        replicas: Arc<dyn Replicas>,
    ) -> ProcessRunner {
        Self::start_with_output(service, spec, replicas, None)
    }

    fn start_with_output(
        service: ServiceName,
        spec: RunSpec,
        replicas: Arc<dyn Replicas>,
        output: Option<Output>,
    ) -> ProcessRunner {
        let launch = Arc::new(Launch::of(&spec));
        let wanted = spec.replicas;
        let desired = Desired { spec: Arc::new(spec), launch, replicas: wanted, stopping: false };
        let (desired, seen) = watch::channel(desired);
        let (finish, finished) = watch::channel(false);
        let (events_in, events) = mpsc::channel(EVENT_QUEUE_LEN);
        let fleet = Fleet {
            service,
            published: Arc::new(Published::new(replicas)),
            output: output.clone(),
            desired: seen,
            members: BTreeMap::new(),
            events,
            events_in,
            rng: Rng::from_seed(RandomState::new().hash_one("replicas")),
        };
        tokio::spawn(fleet.run(finish));
        ProcessRunner { desired, finished, output }
    }

    /// Runs so many replicas from now on; zero stops all.
    pub fn scale(&self, replicas: usize) {
        self.desired.send_modify(|desired| desired.replicas = replicas);
    }

    /// How many replicas should run.
    pub fn wanted(&self) -> usize {
        self.desired.borrow().replicas
    }

    /// Replaces the replicas one at a time if what they run changed; otherwise touches none of
    /// them. A number set by `scale` stays unless the number in `spec` is a new one.
    pub fn update(&self, spec: RunSpec) {
        self.desired.send_modify(|desired| {
            if spec.replicas != desired.spec.replicas {
                desired.replicas = spec.replicas;
            }
            let launch = Launch::of(&spec);
            if launch != *desired.launch {
                desired.launch = Arc::new(launch);
            }
            desired.spec = Arc::new(spec);
        });
    }

    /// Drains and stops all replicas at once; returns when none is left.
    pub async fn stop(&self) {
        self.desired.send_modify(|desired| desired.stopping = true);
        // An error means that the fleet's task is gone, and with it every replica.
        let _ = self.finished.clone().wait_for(|&finished| finished).await;
        let output = self.output.clone().map_or_else(Output::standard, Ok);
        if let Ok(output) = output {
            output.flush().await;
        }
    }
}

struct Fleet {
    service: ServiceName,
    published: Arc<Published>,
    output: Option<Output>,
    desired: watch::Receiver<Desired>,
    members: BTreeMap<u32, Member>,
    events: mpsc::Receiver<(u32, Event)>,
    events_in: mpsc::Sender<(u32, Event)>,
    rng: Rng,
}

struct Member {
    id: EndpointId,
    launch: Arc<Launch>,
    /// Was healthy since it was last started.
    proven: bool,
    stopping: bool,
    stop: watch::Sender<bool>,
}

impl Fleet {
    async fn run(mut self, finish: watch::Sender<bool>) {
        let mut dropped = false;
        loop {
            let mut desired = self.desired.borrow_and_update().clone();
            desired.stopping |= dropped;
            self.reconcile(&desired);
            if desired.stopping && self.members.is_empty() {
                break;
            }
            tokio::select! {
                changed = self.desired.changed(), if !dropped => dropped = changed.is_err(),
                Some((index, event)) = self.events.recv() => self.note(index, event),
            }
        }
        finish.send_replace(true);
    }

    fn note(&mut self, index: u32, event: Event) {
        match event {
            Event::Stopped => drop(self.members.remove(&index)),
            Event::Proven | Event::Lost => {
                if let Some(member) = self.members.get_mut(&index) {
                    member.proven = event == Event::Proven;
                }
            }
        }
    }

    /// Moves as far towards what is desired as can be done now; called after every event.
    fn reconcile(&mut self, desired: &Desired) {
        let is_old = |member: &Member| *member.launch != *desired.launch;
        if desired.stopping {
            return self.stop_where(|_| true);
        }
        // One of the old kind that serves nobody protects nobody.
        let published = self.published.clone();
        let serves = |member: &Member| member.proven || published.replicas().is_healthy(&member.id);
        self.stop_where(|member| is_old(member) && !serves(member));

        // A proven replacement sends an old replica home.
        let old = self.count(is_old);
        let proven = old + self.count(|member| !is_old(member) && member.proven);
        for _ in 0..old.min(proven.saturating_sub(desired.replicas)) {
            self.stop_one(|index, member| is_old(member).then_some(Reverse(index)));
        }

        // While old ones are left there may be one too many: the replacement of the next.
        let rolling = self.count(is_old) > 0;
        let running = self.count(|_| true);
        for _ in desired.replicas + usize::from(rolling)..running {
            // Those that serve nobody first, then the highest number.
            self.stop_one(|index, member| Some((!serves(member), index)));
        }
        for _ in running..desired.replicas {
            self.start_one(desired);
        }
        let busy = self.members.values().any(|m| m.stopping || (!is_old(m) && !m.proven));
        if rolling && !busy && self.count(|_| true) == desired.replicas {
            info!("{}: replacing its replicas, one at a time", self.service);
            self.start_one(desired);
        }
    }

    fn count(&self, which: impl Fn(&Member) -> bool) -> usize {
        self.members.values().filter(|member| !member.stopping && which(member)).count()
    }

    fn start_one(&mut self, desired: &Desired) {
        let taken = |index: &u32| self.members.contains_key(index);
        let Some(index) = (1..=u32::MAX).find(|index| !taken(index)) else { return };
        let (stop, told) = watch::channel(false);
        let launch = desired.launch.clone();
        let id = EndpointId::new(format!("{}-{index}", self.service));
        let replica = Replica {
            index,
            id: id.clone(),
            launch: launch.clone(),
            desired: self.desired.clone(),
            published: self.published.clone(),
            output: self.output.clone(),
            stop: told,
            events: self.events_in.clone(),
        };
        tokio::spawn(replica.run(self.rng.next_u64()));
        self.members.insert(index, Member { id, launch, proven: false, stopping: false, stop });
    }

    fn stop_where(&mut self, which: impl Fn(&Member) -> bool) {
        for member in self.members.values_mut().filter(|member| which(member)) {
            member.stop();
        }
    }

    /// Stops the one of the highest rank among those that have one and are not stopping yet.
    fn stop_one<Rank: Ord>(&mut self, rank: impl Fn(u32, &Member) -> Option<Rank>) {
        let running = self.members.iter_mut().filter(|(_, member)| !member.stopping);
        let ranked = running.filter_map(|(index, member)| Some((rank(*index, member)?, member)));
        if let Some((_, member)) = ranked.max_by(|(a, _), (b, _)| a.cmp(b)) {
            member.stop();
        }
    }
}

impl Member {
    fn stop(&mut self) {
        self.stopping = true;
        self.stop.send_replace(true);
    }
}

#[cfg(test)]
mod tests;
