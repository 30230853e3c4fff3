//! Between discovery and the running system: who serves, and which services and routes exist by
//! label.
//!
//! Changes of endpoints are put in force at once, service by service. Changes of services and
//! routes are merged into the configuration and applied like a change of its file.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use discovery::providers::{self, WatchOptions};
use discovery::watcher::Watcher;
use discovery::{Changes, Message, Picture};
use model::spec::{DeclaredSpec, DiscoverSpec, EndpointSource, Spec};
use model::status::{ContainerUsage, DiscoveryStatus, LeftOutStatus};
use model::{ServiceName, Utilization};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::merge::Merge;
use super::{State, Supervisor, seed, vocabulary};

/// Messages of the watcher that wait to be taken; beyond it the watcher waits.
const MESSAGES: usize = 256;

/// Services and routes that come together, as those of one Compose file, are applied together.
const GATHER: Duration = Duration::from_millis(20);

/// What the supervisor knows of discovery; under the lock of its state.
pub(super) struct Discovery {
    pub(super) picture: Picture,
    watch: Option<Watch>,
    merge: Merge,
    /// Services by label that are not yet merged as they are.
    unmerged: BTreeSet<ServiceName>,
    /// Why some of what labels say is not in force.
    problems: BTreeSet<String>,
}

struct Watch {
    options: WatchOptions,
    task: JoinHandle<()>,
    /// Ends with this.
    _watcher: Watcher,
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            picture: Picture::new(read_labels),
            watch: None,
            merge: Merge::default(),
            unmerged: BTreeSet::new(),
            problems: BTreeSet::new(),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn read_labels(
    service: &str,
    labels: &std::collections::BTreeMap<String, String>,
) -> Result<DeclaredSpec, Vec<String>> {
    let pairs = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    config::read_labels(service, pairs, &vocabulary())
        .map_err(|defects| defects.iter().map(ToString::to_string).collect())
}

impl Discovery {
    /// What is to be in force with this configuration: with what exists by label. New problems are
    /// logged.
    pub(super) fn configure(&mut self, configured: &Spec) -> Spec {
        self.unmerged.clear();
        self.merge.configure(configured, self.picture.declared());
        self.merged()
    }

    /// The same with what was declared since.
    pub(super) fn update(&mut self) -> Spec {
        let unmerged = std::mem::take(&mut self.unmerged);
        self.merge.update(self.picture.declared(), &unmerged);
        self.merged()
    }

    fn merged(&mut self) -> Spec {
        let problems = self.merge.problems();
        for problem in problems.difference(&self.problems) {
            warn!("{problem}");
        }
        self.problems = problems;
        self.merge.spec()
    }

    pub(super) fn stop(&mut self) {
        self.watch = None;
    }

    pub(super) fn status(&self) -> Vec<DiscoveryStatus> {
        let Some(watch) = &self.watch else { return Vec::new() };
        let summary = self.picture.summary();
        let left_out = summary.left_out.into_iter().map(|left_out| LeftOutStatus {
            id: left_out.id,
            name: left_out.name,
            service: left_out.service.map(|name| name.to_string()),
            reason: left_out.reason,
        });
        let usage = summary.usage.into_iter().map(|(id, name, usage)| ContainerUsage {
            id,
            name,
            cpus: usage.cpus,
            cpus_limit: usage.cpus_limit,
            memory_bytes: usage.memory,
            memory_limit_bytes: usage.memory_limit,
        });
        vec![DiscoveryStatus {
            provider: "docker".into(),
            source: watch.options.socket.display().to_string(),
            service: None,
            engine: summary.engine,
            connected: summary.synced && summary.lost.is_none(),
            reason: summary.lost,
            containers: summary.containers,
            endpoints: summary.endpoints,
            left_out: left_out.collect(),
            notes: summary.notes.into_iter().chain(self.problems.iter().cloned()).collect(),
            usage: usage.collect(),
        }]
    }

    /// Why it is not yet known who serves.
    pub(super) fn awaited(&self) -> Option<String> {
        self.watch.as_ref().filter(|_| !self.picture.is_synced())?;
        let why = self.picture.summary().lost;
        let why = why.unwrap_or_else(|| "no answer yet".to_owned());
        Some(format!("waiting for the Docker engine: {why}"))
    }
}

impl Supervisor {
    /// Starts, stops or replaces the watcher, as the configuration says.
    pub(super) fn set_watcher(self: &Arc<Self>, spec: &Spec) {
        let wanted = spec.providers.docker.as_ref().map(|docker| WatchOptions {
            socket: docker.socket.clone(),
            statistics: docker.statistics,
            seed: 0,
        });
        let mut state = self.state();
        let current = state.discovery.watch.as_ref().map(|watch| &watch.options);
        if current == wanted.as_ref() {
            return;
        }
        state.discovery.watch = None;
        let (Some(options), Some(provider)) = (wanted, providers::find("docker")) else { return };
        let (sender, messages) = mpsc::channel(MESSAGES);
        let seeded = WatchOptions { seed: seed(), ..options.clone() };
        let watcher = Watcher::start(provider, seeded, None, sender);
        let task = tokio::spawn(follow(Arc::downgrade(self), messages));
        state.discovery.watch = Some(Watch { options, task, _watcher: watcher });
    }

    /// Puts in force who serves these services. `gone`: those that are no longer there have ended,
    /// and cannot stand by.
    pub(super) fn publish<'a>(
        &self,
        state: &mut State,
        services: impl IntoIterator<Item = &'a ServiceName>,
        gone: bool,
    ) {
        let State { discovery, sources, services: running, .. } = state;
        for name in services {
            let Some(running) = running.get_mut(name) else { continue };
            let listed = match &running.service.settings().source {
                EndpointSource::Discover(DiscoverSpec::Docker(_)) => {
                    let known = discovery.picture.is_synced() || gone;
                    known.then(|| discovery.picture.endpoints(name.as_str()))
                }
                EndpointSource::Discover(_) => sources.known(name).map(<[_]>::to_vec),
                EndpointSource::Static(_) | EndpointSource::Run(_) => None,
            };
            if let Some(listed) = listed {
                running.set_discovered(listed, gone, self.proxy.now());
            }
        }
    }

    fn take(&self, message: Message) {
        let mut state = self.state();
        match &message {
            Message::Connected { engine } => info!("connected to {engine}"),
            // Once, and not at each attempt to find it again.
            Message::Lost { reason } if !state.discovery.picture.is_lost() => {
                warn!("the Docker engine is lost: {reason}; all endpoints stay as they are");
            }
            _ => {}
        }
        let was_synced = state.discovery.picture.is_synced();
        let changes = state.discovery.picture.apply(message);
        state.discovery.unmerged.extend(changes.declared.iter().cloned());
        for note in &changes.notes {
            warn!("container {note}");
        }
        for (service, id) in &changes.restarted {
            if let Some(running) = state.services.get_mut(service) {
                running.forget_discovered(id, self.proxy.now());
            }
        }
        if state.discovery.picture.is_synced() {
            let Changes { services, declared, usage, .. } = changes;
            if was_synced {
                self.publish(&mut state, &services, true);
            } else {
                // The first answer: what was there before, from a configuration, may stand by.
                let all: BTreeSet<ServiceName> = state.services.keys().cloned().collect();
                self.publish(&mut state, &all, false);
            }
            if !declared.is_empty() || !was_synced {
                self.declared.notify_one();
            }
            for (service, id, usage) in usage {
                let Some(running) = state.services.get(&service) else { continue };
                if let Some(endpoint) = running.service.endpoint(id.as_str()) {
                    endpoint.load.utilize(utilization(&usage), self.proxy.now());
                }
            }
        }
    }

    /// Applies services and routes by label whenever they change.
    pub(super) async fn follow_declared(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        loop {
            tokio::select! {
                () = self.declared.notified() => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
            tokio::time::sleep(GATHER).await;
            match self.apply_declared().await {
                Ok(summary) if summary == super::apply::NOTHING => {}
                Ok(summary) => info!("containers: {summary}"),
                Err(message) => warn!("what containers say is not put in force: {message}"),
            }
        }
    }

    async fn apply_declared(self: &Arc<Self>) -> Result<String, String> {
        let _turn = self.applying.lock().await;
        let merged = self.state().discovery.update();
        self.apply_spec(merged, None, false).await
    }
}

async fn follow(supervisor: std::sync::Weak<Supervisor>, mut messages: mpsc::Receiver<Message>) {
    while let Some(message) = messages.recv().await {
        let Some(supervisor) = supervisor.upgrade() else { return };
        supervisor.take(message);
    }
}

/// In thousandths of what it may use.
fn utilization(usage: &discovery::Usage) -> Utilization {
    let share = |used: f64, of: f64| (of > 0.0).then(|| (used / of * 1000.0) as u16);
    Utilization {
        cpu: share(usage.cpus, usage.cpus_limit),
        memory: share(usage.memory as f64, usage.memory_limit as f64),
        application: None,
    }
}
