//! The server of the DNS beside the data plane: bound before anything changes, served once it has;
//! and what it tells, which is what picks choose from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use discovery::names::{Directory, NameServer, Serving, Sockets, Zone};
use model::spec::Spec;
use tracing::error;

use super::bind_check::explain;
use super::{State, Supervisor, seed};

/// What is told of a service is looked up again after so long: the names' lifetimes are longer,
/// and a flood of queries does not hold the state.
const FRESH: Duration = Duration::from_millis(100);

/// Services that are remembered.
const REMEMBERED: usize = 10_000;

/// The sockets for what `new` says. Only if the section differs.
pub(super) fn bind(state: &State, new: &Spec) -> Result<Option<Sockets>, String> {
    let Some(spec) = &new.dns else { return Ok(None) };
    let served = state.name_server.as_ref().map(NameServer::sockets);
    let same = state.spec.dns.as_ref().filter(|old| old.bind == spec.bind).and(served);
    let sockets = match same {
        Some(sockets) => sockets.try_clone(),
        None => Sockets::bind(spec.bind),
    };
    sockets.map(Some).map_err(|error| explain("the name server", spec.bind, &error))
}

/// What `new` says is in force from now on.
pub(super) fn set(supervisor: &Arc<Supervisor>, new: &Spec, sockets: Option<Sockets>) {
    let served = new.dns.as_ref().zip(sockets).and_then(|(spec, sockets)| {
        let domain = spec.domain.parse().ok()?;
        let zone = Zone { domain, ttl: spec.ttl.as_secs() as u32 };
        let told =
            Arc::new(Told { supervisor: Arc::downgrade(supervisor), known: Mutex::default() });
        NameServer::serve(sockets, zone, spec.rate, told, seed())
            // They are bound already; only a lack of file descriptors gets us here.
            .inspect_err(|error| error!("the name server cannot be served: {error}"))
            .ok()
    });
    supervisor.state().name_server = served;
}

struct Told {
    supervisor: Weak<Supervisor>,
    known: Mutex<BTreeMap<String, (Instant, Arc<[Serving]>)>>,
}

impl Directory for Told {
    fn find(&self, service: &str) -> Option<Arc<[Serving]>> {
        let now = Instant::now();
        // A panic cannot leave it half-made: what is in it is whole.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, serving)) = known.get(service)
            && now.duration_since(*at) < FRESH
        {
            return Some(Arc::clone(serving));
        }
        let Some(serving) = serving(&self.supervisor, service) else {
            known.remove(service);
            return None;
        };
        // Only services that there are; they are more than that in no configuration.
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(service.to_owned(), (now, Arc::clone(&serving)));
        Some(serving)
    }
}

fn serving(supervisor: &Weak<Supervisor>, name: &str) -> Option<Arc<[Serving]>> {
    let supervisor = supervisor.upgrade()?;
    let service = {
        let state = supervisor.state();
        let exact = state.services.get(name);
        // In the DNS the case of letters has no meaning.
        let found = exact.or_else(|| {
            let mut all = state.services.iter();
            let same = all.find(|(own, _)| own.as_str().eq_ignore_ascii_case(name));
            same.map(|(_, running)| running)
        });
        Arc::clone(&found?.service)
    };
    let eligible = service.eligible();
    let eligible: BTreeSet<&str> = eligible.iter().map(|handle| handle.id.as_str()).collect();
    let endpoints = service.status_at(supervisor.proxy.now()).endpoints.into_iter();
    let serving = endpoints.map(|endpoint| Serving {
        is_eligible: eligible.contains(&*endpoint.id),
        address: endpoint.address,
        weight: endpoint.weight,
        priority: endpoint.priority,
        zone: endpoint.zone.map(Into::into),
    });
    Some(serving.collect())
}
