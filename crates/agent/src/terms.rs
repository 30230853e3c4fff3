//! What is in force for all desks: the settings, and the services that can be asked for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use model::ServiceName;
use model::spec::AgentSpec;
use service::Service;
use wire::lars::Key;

/// Never changed, only replaced.
pub(crate) struct Terms {
    pub(crate) spec: AgentSpec,
    pub(crate) services: BTreeMap<ServiceName, Arc<Service>>,
    /// Which of them Lars' keys stand for.
    pub(crate) keys: HashMap<Key, Arc<Service>>,
    /// We are about to end: nothing new begins, and what is outstanding is still reported.
    pub(crate) stopping: bool,
}

impl Terms {
    pub(crate) fn new(
        spec: AgentSpec,
        services: BTreeMap<ServiceName, Arc<Service>>,
        stopping: bool,
    ) -> Self {
        let mapped = spec.lars.iter().flat_map(|lars| &lars.keys).filter_map(|key| {
            let service = services.get(&key.service)?.clone();
            Some((Key { modid: key.modid, cmdid: key.cmdid }, service))
        });
        let keys = mapped.collect();
        Self { spec, services, keys, stopping }
    }
}
