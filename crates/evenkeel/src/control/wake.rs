//! Services that sleep: who asks for them is told to whoever starts their replicas. Those that we run
//! ourselves are ended and started here; for the others somebody else listens to `/v1/demand`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use compose::autoscale::Idle;
use model::spec::EndpointSource;
use model::status::{DemandStatus, HeldStatus};
use model::{EndpointId, Instant, ServiceName};
use service::{EndpointHandle, Events};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::{State, Supervisor};

/// Between two looks whether a service is idle: what `wake.idle` says is exact to within this.
const LOOK: Duration = Duration::from_millis(250);

/// How long a question for what is asked for stays open; shorter than clients wait for an answer.
const HOLD_MAX: Duration = Duration::from_secs(20);

/// After an answer, whoever listens comes again within this.
const LISTENS_AGAIN: Duration = Duration::from_secs(5);

/// What services tell, passed on to the data plane; but who asks for one that sleeps is counted.
pub(super) struct Listener {
    pub(super) proxy: Arc<dyn Events>,
    pub(super) asked: watch::Sender<u64>,
}

impl Events for Listener {
    fn suspect(&self, service: &ServiceName, endpoint: &EndpointId) {
        self.proxy.suspect(service, endpoint);
    }

    fn probe(&self, service: &ServiceName, endpoint: &Arc<EndpointHandle>, path: &Arc<str>) {
        self.proxy.probe(service, endpoint, path);
    }

    fn leaving(&self, service: &ServiceName, endpoint: &Arc<EndpointHandle>) {
        self.proxy.leaving(service, endpoint);
    }

    fn staying(&self, service: &ServiceName, endpoint: &Arc<EndpointHandle>) {
        self.proxy.staying(service, endpoint);
    }

    fn session_at(&self, service: &ServiceName, key: u64, endpoint: &EndpointId, moved: bool) {
        self.proxy.session_at(service, key, endpoint, moved);
    }

    fn changed(&self, service: &ServiceName) {
        self.proxy.changed(service);
    }

    fn demanded(&self, _service: &ServiceName) {
        self.asked.send_modify(|count| *count += 1);
    }
}

impl Supervisor {
    /// What is asked for now; with `after`, as soon as somebody asked since, or [`HOLD_MAX`] is over.
    pub(super) async fn demand(&self, after: Option<u64>) -> DemandStatus {
        let mut asked = self.asked.subscribe();
        if let Some(after) = after {
            self.listened.store(self.proxy.now().as_nanos(), Relaxed);
            let mut stopping = self.stopping.subscribe();
            tokio::select! {
                _ = timeout(HOLD_MAX, asked.wait_for(|count| *count != after)) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        }
        // Read before the services are: who asks in between makes the next question answer at once.
        let seq = *asked.borrow();
        let state = self.state();
        let held = state.services.iter().filter_map(|(name, running)| {
            let held = running.service.demand()? as u64;
            Some(HeldStatus { service: name.to_string(), held })
        });
        DemandStatus { seq, demand: held.collect() }
    }

    /// Starts replicas of ours when they are asked for, and ends those that are idle, until we stop.
    pub(super) async fn follow_demand(self: Arc<Self>) {
        let mut asked = self.asked.subscribe();
        // The listeners are open before this begins: somebody may have come already.
        asked.mark_changed();
        let mut stopping = self.stopping.subscribe();
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle = BTreeMap::new();
        loop {
            let is_asked = tokio::select! {
                _ = ticks.tick() => false,
                // Never closed: we hold the other end.
                _ = asked.changed() => true,
                _ = stopping.wait_for(|stopping| *stopping) => return,
            };
            if is_asked {
                self.tell_who_is_asked_for();
            }
            for change in self.replicas_of_sleepers(&mut idle) {
                let Change { service, from, to, reason } = change;
                self.note_scaling(service, from, to, reason, None);
            }
        }
    }

    /// In the log: those that others are to start.
    fn tell_who_is_asked_for(&self) {
        let state = self.state();
        for (name, running) in &state.services {
            let Some(held) = running.service.demand().filter(|_| running.fleet.is_none()) else {
                continue;
            };
            let waiting = waiting(held);
            match self.is_listened_to() {
                true => info!("service {name}: asleep, and {waiting}"),
                false => warn!(
                    "service {name}: asleep, {waiting}, and nobody listens who would start a \
                     replica: is `evenkeel autoscale` running?"
                ),
            }
        }
    }

    fn is_listened_to(&self) -> bool {
        let at = self.listened.load(Relaxed);
        let since = self.proxy.now().since(Instant::from_nanos(at));
        at > 0 && since < HOLD_MAX + LISTENS_AGAIN
    }

    fn replicas_of_sleepers(&self, idle: &mut BTreeMap<ServiceName, Idle>) -> Vec<Change> {
        let now = self.proxy.now();
        let state: &State = &self.state();
        idle.retain(|name, _| state.services.contains_key(name));
        let mut changes = Vec::new();
        for (name, running) in &state.services {
            let settings = running.service.settings();
            let (Some(wake), Some(fleet), EndpointSource::Run(run)) =
                (&settings.wake, &running.fleet, &settings.source)
            else {
                continue;
            };
            let from = fleet.wanted();
            let (to, reason) = if from == 0 {
                let Some(held) = running.service.demand() else { continue };
                (run.replicas.max(1), waiting(held))
            } else {
                let (busy, activity) = running.service.status_at(now).activity();
                let idle = idle.entry(name.clone()).or_default();
                let quiet = idle.look(now, busy, activity);
                if quiet < wake.idle {
                    continue;
                }
                *idle = Idle::default();
                (0, format!("idle for {:?}", wake.idle))
            };
            fleet.scale(to);
            running.service.want(to, now);
            changes.push(Change { service: name.to_string(), from, to, reason });
        }
        changes
    }
}

struct Change {
    service: String,
    from: usize,
    to: usize,
    reason: String,
}

/// So many wait.
pub(super) fn waiting(held: usize) -> String {
    if held == 1 { "1 request waits".into() } else { format!("{held} requests wait") }
}
