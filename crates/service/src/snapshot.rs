use std::sync::Arc;

use balance::{PickRequest, Picker};
use model::{Instant, Load, Rng};
use smallvec::SmallVec;

use crate::session::SessionMap;
use crate::{EndpointHandle, Request, Token};

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
}

impl Snapshot {
    pub(crate) fn empty() -> Self {
        Self {
            endpoints: Vec::new(),
            loads: Vec::new(),
            picker: None,
            probes: false,
            probe_path: None,
            sessions: SessionMap::default(),
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
        Self { endpoints, loads, picker: Some(picker), probes, probe_path, sessions }
    }

    pub(crate) fn endpoints(&self) -> &[Arc<EndpointHandle>] {
        &self.endpoints
    }

    pub(crate) fn session(&self, token: Token) -> Option<&Arc<EndpointHandle>> {
        self.sessions.find(token)
    }

    pub(crate) fn pick(
        &self,
        request: &Request<'_>,
        rng: &mut Rng,
    ) -> Option<&Arc<EndpointHandle>> {
        let mut exclude: SmallVec<[u32; Request::EXCLUDE_MAX]> = SmallVec::new();
        for key in request.exclude.iter().take(Request::EXCLUDE_MAX) {
            if let Ok(position) = self.endpoints.binary_search_by_key(key, |e| e.key) {
                exclude.push(position as u32);
            }
        }
        let request = PickRequest { now: request.now, key: request.key, exclude: &exclude };
        let position = self.picker.as_ref()?.pick(&request, &self.loads, rng)?;
        self.endpoints.get(position as usize)
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
}
