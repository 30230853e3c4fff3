use std::sync::Arc;

use balance::{Candidate, PickRequest, Picker};
use model::spec::{QueuePer, QueueSpec, ServiceLimitSpec, WakeSpec};
use model::{Instant, Load, Rng};

use crate::acquire::Avoided;
use crate::session::SessionMap;
use crate::{EndpointHandle, Request};

/// What the data path reads: the endpoints that are eligible, and the picker prepared for them.
/// Never changed, only replaced.
pub(crate) struct Snapshot {
    /// By ascending key, which is the order in which they were first seen.
    endpoints: Vec<Arc<EndpointHandle>>,
    /// Of the endpoint at the same position.
    loads: Vec<Arc<Load>>,
    /// Absent if there is nothing to pick.
    picker: Option<Box<dyn Picker>>,
    /// The picker's word.
    probes: bool,
    /// Where the policy wants endpoints to be asked; absent if it asks none.
    probe_path: Option<Arc<str>>,
    /// Empty without affinity. Holds more than `endpoints`: those that get nothing but what
    /// belongs to their sessions, too.
    sessions: SessionMap,
    /// Absent if nothing is limited.
    limits: Option<Box<Limits>>,
    /// Nothing can be picked now, but endpoints are on their way.
    expects: bool,
    /// There is no endpoint, and none on its way, until somebody asks for one.
    asleep: bool,
    /// The queue is the one of a service that sleeps or is being woken.
    of_wake: bool,
}

/// Who is to be asked how they are, and at which path.
pub(crate) type Questions = Vec<(Arc<EndpointHandle>, Arc<str>)>;

/// What a service with limits keeps to.
pub(crate) struct Limits {
    pub(crate) spec: ServiceLimitSpec,
    pub(crate) queue: Option<QueueSpec>,
    /// Positions of the endpoints that may be picked: those of a weight above 0, if any is.
    usable: Box<[u32]>,
}

/// Endpoints that a request looks through for room at most, from one drawn by chance: it bounds what a
/// request costs that finds nothing. When so many are full, one that has room is a lucky find, and
/// any of them that ends something serves who waits.
const SCAN_MAX: usize = 1024;

impl Snapshot {
    pub(crate) fn empty() -> Self {
        Self {
            endpoints: Vec::new(),
            loads: Vec::new(),
            picker: None,
            probes: false,
            probe_path: None,
            sessions: SessionMap::default(),
            limits: None,
            expects: false,
            asleep: false,
            of_wake: false,
        }
    }

    /// `expects`: whether there is reason to wait for endpoints, of which there is none now.
    pub(crate) fn expecting(self, expects: bool) -> Self {
        Self { expects, ..self }
    }

    /// Who comes waits as `wake` says, in the place of the queue that there is when there are
    /// endpoints. `asleep`: nobody starts any until somebody comes.
    pub(crate) fn holding(
        self,
        spec: &ServiceLimitSpec,
        queue: Option<&QueueSpec>,
        wake: &WakeSpec,
        asleep: bool,
    ) -> Self {
        let WakeSpec { max, timeout, .. } = *wake;
        let priority = queue.and_then(|queue| queue.priority.clone());
        let queue = QueueSpec { per: QueuePer::Service, max, timeout, priority };
        let limits = Limits { spec: *spec, queue: Some(queue), usable: Box::default() };
        Self { limits: Some(Box::new(limits)), asleep, of_wake: true, ..self }
    }

    /// `candidates`: what the picker was prepared for.
    pub(crate) fn with_limits(
        self,
        spec: &ServiceLimitSpec,
        queue: Option<&QueueSpec>,
        candidates: &[Candidate],
    ) -> Self {
        if *spec == ServiceLimitSpec::default() {
            return self;
        }
        let weighted = candidates.iter().any(|candidate| candidate.weight > 0);
        let usable = (0..).zip(candidates).filter(|(_, c)| c.weight > 0 || !weighted);
        let usable = usable.map(|(position, _)| position).collect();
        Self {
            limits: Some(Box::new(Limits { spec: *spec, queue: queue.cloned(), usable })),
            ..self
        }
    }

    pub(crate) fn with_sessions(self, sessions: SessionMap) -> Self {
        Self { sessions, ..self }
    }

    /// `endpoints` are by ascending key, and `picker` was prepared for them in that order.
    pub(crate) fn new(
        endpoints: Vec<Arc<EndpointHandle>>,
        picker: Box<dyn Picker>,
        probe_path: Option<Arc<str>>,
    ) -> Self {
        debug_assert!(endpoints.is_sorted_by_key(|endpoint| endpoint.key));
        for (position, endpoint) in (0..).zip(&endpoints) {
            endpoint.track(picker.tracker(position));
        }
        let loads = endpoints.iter().map(|endpoint| endpoint.load.clone()).collect();
        let probes = picker.probes();
        let sessions = SessionMap::default();
        Self {
            endpoints,
            loads,
            picker: Some(picker),
            probes,
            probe_path,
            sessions,
            limits: None,
            expects: false,
            asleep: false,
            of_wake: false,
        }
    }

    pub(crate) fn endpoints(&self) -> &[Arc<EndpointHandle>] {
        &self.endpoints
    }

    pub(crate) fn sessions(&self) -> &SessionMap {
        &self.sessions
    }

    pub(crate) fn pick(
        &self,
        request: &Request<'_>,
        rng: &mut Rng,
    ) -> Option<&Arc<EndpointHandle>> {
        let exclude = self.positions(request.exclude);
        let position = self.choose(&exclude, request, rng)?;
        self.endpoints.get(position as usize)
    }

    /// Where these endpoints stand here, by their keys.
    pub(crate) fn positions(&self, keys: &[u64]) -> Avoided {
        let mut positions = Avoided::new();
        for key in keys.iter().take(Request::EXCLUDE_MAX) {
            if let Ok(position) = self.endpoints.binary_search_by_key(key, |e| e.key) {
                positions.push(position as u32);
            }
        }
        positions
    }

    /// The position of the policy's choice. It is one of `exclude` only if there is no other.
    pub(crate) fn choose(
        &self,
        exclude: &[u32],
        request: &Request<'_>,
        rng: &mut Rng,
    ) -> Option<u32> {
        let request = PickRequest { now: request.now, key: request.key, exclude };
        let position = self.picker.as_ref()?.pick(&request, &self.loads, rng)?;
        ((position as usize) < self.endpoints.len()).then_some(position)
    }

    pub(crate) fn limits(&self) -> Option<&Limits> {
        self.limits.as_deref()
    }

    /// Whether a request waits although there is no endpoint: there is a queue, and one is expected.
    pub(crate) fn awaits_endpoints(&self) -> bool {
        self.expects && self.limits().is_some_and(|limits| limits.queue.is_some())
    }

    /// Nobody can be served, and nobody will be soon.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.endpoints.is_empty() && !self.expects
    }

    /// Nobody starts an endpoint until somebody comes to wait for it.
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep
    }

    /// Who waits, waits for the service to wake.
    pub(crate) fn holds_for_wake(&self) -> bool {
        self.of_wake
    }

    pub(crate) fn holds(&self, key: u64) -> bool {
        self.endpoints.binary_search_by_key(&key, |e| e.key).is_ok()
    }

    /// Whether sessions go on at this endpoint.
    pub(crate) fn keeps_sessions_of(&self, endpoint: &EndpointHandle) -> bool {
        self.sessions.holds(endpoint.key)
    }

    /// The endpoints that may be picked, by ascending key.
    pub(crate) fn usable(&self) -> impl Iterator<Item = &Arc<EndpointHandle>> {
        self.turn(0)
    }

    /// The same, beginning anywhere (`start` is any number), at most [`SCAN_MAX`] of them.
    pub(crate) fn from(&self, start: u64) -> impl Iterator<Item = &Arc<EndpointHandle>> {
        self.turn(start).take(SCAN_MAX)
    }

    fn turn(&self, start: u64) -> impl Iterator<Item = &Arc<EndpointHandle>> {
        let usable = self.limits.as_ref().map(|limits| &*limits.usable);
        let count = usable.map_or(self.endpoints.len(), <[u32]>::len);
        let start = start.checked_rem(count as u64).unwrap_or(0) as usize;
        (start..count).chain(0..start).filter_map(move |index| {
            let position = usable.map_or(Some(index), |u| u.get(index).map(|p| *p as usize))?;
            self.endpoints.get(position)
        })
    }

    /// Whom the policy wants to be asked how they are, and at which path.
    pub(crate) fn ask(
        &self,
        now: Instant,
        rng: &mut Rng,
        probe: impl Fn(&Arc<EndpointHandle>, &Arc<str>),
    ) {
        if let Some(picker) = &self.picker
            && self.probes
        {
            picker.ask(now, &self.loads, rng, &mut |position| {
                if let (Some(endpoint), Some(path)) =
                    (self.endpoints.get(position as usize), &self.probe_path)
                {
                    probe(endpoint, path);
                }
            });
        }
    }

    /// When [`Snapshot::ask_idle`] is due, unless a pick comes before it.
    pub(crate) fn idle_at(&self) -> Option<Instant> {
        self.picker.as_ref().filter(|_| self.probe_path.is_some())?.idle_at()
    }

    /// Whom the policy wants to be asked after a time without picks, and at which path.
    pub(crate) fn ask_idle(&self, now: Instant, rng: &mut Rng) -> Questions {
        let mut questions = Vec::new();
        if let (Some(picker), Some(path)) = (&self.picker, &self.probe_path) {
            picker.ask_idle(now, &self.loads, rng, &mut |position| {
                let endpoint = self.endpoints.get(position as usize);
                questions.extend(endpoint.map(|endpoint| (endpoint.clone(), path.clone())));
            });
        }
        questions
    }
}
