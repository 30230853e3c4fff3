//! The client-side agent beside the data plane: bound before anything changes, served once it has.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use agent::{Agent, AgentOptions, BindError, Bound, Place};
use model::ServiceName;
use model::spec::Spec;
use service::Service;
use tracing::error;

use super::bind_check::{self, explain};
use super::{State, Supervisor, seed};

/// Binds what the agent of `new` needs beyond what it has. Only if the section differs.
pub(super) fn bind(state: &State, new: &Spec) -> Result<Bound, String> {
    let Some(spec) = &new.agent else { return Ok(Bound::default()) };
    Bound::bind(spec, state.agent.as_ref()).map_err(|failed| {
        let BindError { what, place, error } = failed;
        match place {
            Place::Address(address) => explain(what, address, &error),
            Place::Path(path) => bind_check::explain_path(what, &path, &error),
        }
    })
}

/// What `new` says of the agent is in force from now on; `bound`: if the section differs. Services
/// that `new` does not have are not given out any more.
pub(super) fn set(supervisor: &Supervisor, new: &Spec, bound: Option<Bound>) {
    let mut state = supervisor.state();
    let services = || -> BTreeMap<ServiceName, Arc<Service>> {
        let stays = |name: &ServiceName| new.services.contains_key(name);
        let running = state.services.iter().filter(|(name, _)| stays(name));
        running.map(|(name, running)| (name.clone(), running.service.clone())).collect()
    };
    let services = if new.agent.is_some() { services() } else { BTreeMap::new() };
    let result = match (&mut state.agent, &new.agent, bound) {
        (_, None, _) => {
            // Its threads end within a moment, which nobody needs to wait for.
            if let Some(agent) = state.agent.take() {
                std::thread::spawn(move || drop(agent));
            }
            return;
        }
        (Some(agent), Some(spec), bound) => {
            agent.set_services(services);
            bound.map_or(Ok(()), |bound| agent.update(spec.clone(), bound))
        }
        (None, Some(spec), Some(bound)) => {
            start(supervisor, spec.clone(), bound, services).map(|agent| state.agent = Some(agent))
        }
        (None, Some(_), None) => return, // One that is not there differs.
    };
    // The sockets are bound already; only a lack of threads or descriptors gets us here.
    if let Err(error) = result {
        error!("the agent cannot be served: {error}");
    }
}

fn start(
    supervisor: &Supervisor,
    spec: model::spec::AgentSpec,
    bound: Bound,
    services: BTreeMap<ServiceName, Arc<Service>>,
) -> io::Result<Agent> {
    let proxy = supervisor.proxy.clone();
    let options = AgentOptions { clock: Arc::new(move || proxy.now()), seed: seed() };
    Agent::start(options, spec, bound, services)
}
