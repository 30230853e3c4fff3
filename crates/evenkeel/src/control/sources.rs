//! The sources of endpoints that run inside the balancer: each is started, replaced and stopped as
//! its service comes, changes and goes, and what it tells is put in force at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use discovery::Listed;
use discovery::sources::{self, Teller, Told};
use model::ServiceName;
use model::spec::{DiscoverSpec, EndpointSource};
use model::status::DiscoveryStatus;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::registry::is_checked;
use super::{State, Supervisor, seed};

/// What one source has told and is not taken yet; beyond it the source waits.
const TOLD: usize = 4;

/// What the supervisor knows of the sources; under the lock of its state.
#[derive(Default)]
pub(super) struct Sources {
    followed: BTreeMap<ServiceName, Followed>,
    /// How many there have been.
    serial: u64,
}

struct Followed {
    spec: DiscoverSpec,
    /// The service checks health.
    checked: bool,
    provider: &'static str,
    /// Where it asks.
    place: String,
    /// Which one it is: what another told that had its place before no longer counts.
    serial: u64,
    /// What it told last.
    known: Option<Vec<Listed>>,
    /// Why that may be out of date.
    lost: Option<String>,
    task: JoinHandle<()>,
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sources {
    /// Who was found for the service; `None`: that is not known yet, or not by a source.
    pub(super) fn known(&self, service: &ServiceName) -> Option<&[Listed]> {
        self.followed.get(service)?.known.as_deref()
    }

    pub(super) fn forget(&mut self, service: &ServiceName) {
        self.followed.remove(service);
    }

    /// Why it is not known yet who serves any of the services.
    pub(super) fn awaited(&self) -> Option<String> {
        self.followed.keys().find_map(|service| self.awaited_for(service))
    }

    /// Why it is not known yet who serves this one.
    pub(super) fn awaited_for(&self, service: &ServiceName) -> Option<String> {
        let Followed { provider, place, lost, .. } =
            self.followed.get(service).filter(|followed| followed.known.is_none())?;
        let why = lost.as_deref().unwrap_or("no answer yet");
        Some(format!("service {service}: waiting for {provider} {place}: {why}"))
    }

    pub(super) fn status(&self) -> impl Iterator<Item = DiscoveryStatus> {
        self.followed.iter().map(|(service, followed)| DiscoveryStatus {
            provider: followed.provider.to_owned(),
            source: followed.place.clone(),
            service: Some(service.to_string()),
            connected: followed.known.is_some() && followed.lost.is_none(),
            reason: followed.lost.clone(),
            endpoints: followed.known.as_ref().map_or(0, Vec::len),
            ..DiscoveryStatus::default()
        })
    }
}

impl Supervisor {
    /// Starts, stops or replaces the source of a service's endpoints. Those found before stay until
    /// a new one has told of others.
    pub(super) fn set_source(
        self: &Arc<Self>,
        state: &mut State,
        service: &ServiceName,
        source: &EndpointSource,
    ) {
        let wanted = match source {
            EndpointSource::Discover(spec) => Some(spec),
            EndpointSource::Static(_) | EndpointSource::Run(_) => None,
        };
        let checked = is_checked(state, service);
        let followed = state.sources.followed.get(service);
        if followed.map(|followed| &followed.spec) == wanted
            && followed.is_none_or(|followed| followed.checked == checked)
        {
            return;
        }
        // Another registry, or another name in it, is another answer: who was found there does not
        // stay because this one does not know yet who is missing.
        let before = followed.filter(|followed| Some(&followed.spec) == wanted);
        let before = before.and_then(|_| state.services.get(service)?.found());
        state.sources.followed.remove(service);
        let Some(spec) = wanted else { return };
        let opened = match spec {
            DiscoverSpec::Registry(selector) => {
                let source = Self::open_registered(state, service, selector, checked, before);
                source.map(|source| (registrar::source::NAME, source))
            }
            spec => sources::open(spec),
        };
        let Some((provider, source)) = opened else { return };
        let sources = &mut state.sources;
        let place = source.place();
        sources.serial += 1;
        let serial = sources.serial;
        let (sender, told) = mpsc::channel(TOLD);
        let teller = Teller::new(service.clone(), read_list, seed(), sender);
        let follow = source.follow(teller);
        let supervisor = Arc::downgrade(self);
        let task = tokio::spawn(async move {
            tokio::join!(follow, take_all(supervisor, serial, told));
        });
        let spec = spec.clone();
        let followed =
            Followed { spec, checked, provider, place, serial, known: None, lost: None, task };
        sources.followed.insert(service.clone(), followed);
    }

    fn take_told(&self, service: &ServiceName, serial: u64, told: Told) {
        let mut state = self.state();
        let State { sources, services, .. } = &mut *state;
        let Some(followed) = sources.followed.get_mut(service) else { return };
        if followed.serial != serial {
            return;
        }
        let (endpoints, lost) = match told {
            Told::Endpoints(endpoints) => (Some(endpoints), None),
            Told::Partly { endpoints, reason } => (Some(endpoints), Some(reason)),
            Told::Lost { reason } => (None, Some(reason)),
        };
        followed.tell_people(service, lost.as_deref());
        followed.lost = lost;
        let Some(endpoints) = endpoints else { return };
        followed.known = Some(endpoints.clone());
        if let Some(running) = services.get_mut(service) {
            running.set_discovered(endpoints, false, self.proxy.now());
        }
    }
}

impl Followed {
    /// Once for each reason, and not at each attempt.
    fn tell_people(&self, service: &ServiceName, lost: Option<&str>) {
        let Self { provider, place, .. } = self;
        match (self.lost.as_deref(), lost) {
            (None, None) => {}
            (Some(_), None) => info!("service {service}: {provider} {place} is up to date again"),
            (before, Some(reason)) if before != Some(reason) => warn!(
                "service {service}: {provider} {place}: {reason}; what is known of it stays as it \
                 is"
            ),
            _ => {}
        }
    }
}

async fn take_all(
    supervisor: Weak<Supervisor>,
    serial: u64,
    mut told: mpsc::Receiver<(ServiceName, Told)>,
) {
    while let Some((service, told)) = told.recv().await {
        let Some(supervisor) = supervisor.upgrade() else { return };
        supervisor.take_told(&service, serial, told);
    }
}

/// As `services.NAME.endpoints` is read; what is wrong in one line.
fn read_list(name: &str, text: &str, service: &str) -> Result<Vec<model::Endpoint>, String> {
    config::parse_endpoints(&config::Source { name, text }, service)
        .map_err(|defects| defects.in_one_line())
}
