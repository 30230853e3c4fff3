//! The registry of the configuration: served by us, or asked elsewhere; and the services whose
//! endpoints are found in it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use discovery::sources::Source;
use model::spec::{
    DiscoverSpec, EmbeddedRegistrySpec, EndpointSource, HealthKind, RegistrySelector, RegistrySpec,
    Spec,
};
use model::status::RegistryStatus;
use model::{Endpoint, ServiceName};
use registrar::Registrar;
use registrar::client::{Authority, Client};
use registrar::source::{Place, Registered};
use tls::{Dialler, read_secret};
use tracing::warn;

use super::bind_check::explain;
use super::{State, Supervisor};

/// Where a registry listens, unless its address says otherwise.
const PORT: u16 = 9910;

/// What the supervisor knows of the registry; under the lock of its state.
#[derive(Default)]
pub(super) enum RegistryInUse {
    #[default]
    None,
    Here {
        registrar: Box<Registrar>,
        address: SocketAddr,
    },
    There {
        authority: Authority,
        token: Option<String>,
        tls: Arc<Dialler>,
    },
}

impl RegistryInUse {
    pub(super) fn status(&self) -> Option<RegistryStatus> {
        match self {
            RegistryInUse::Here { registrar, .. } => Some(registrar.status()),
            RegistryInUse::None | RegistryInUse::There { .. } => None,
        }
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            RegistryInUse::Here { address, .. } => Some(*address),
            RegistryInUse::None | RegistryInUse::There { .. } => None,
        }
    }
}

impl Supervisor {
    /// From the registry of `old` to that of `new`, before any service of `new` looks in it. What
    /// fails leaves the one before in force. Answers what holds only from the next start on.
    pub(super) fn set_registry(
        self: &Arc<Self>,
        old: &Spec,
        new: &Spec,
    ) -> Result<Vec<String>, String> {
        if old.registry == new.registry {
            return Ok(Vec::new());
        }
        let mut notes = Vec::new();
        let in_use = match (&new.registry, &old.registry) {
            (None, _) => RegistryInUse::None,
            (Some(RegistrySpec::Remote(remote)), _) => {
                let token = remote.token.as_ref();
                let authority = Authority::parse(&remote.url, PORT)?;
                let token = token.map(|token| read_secret(token, &self.directory)).transpose()?;
                let tls = Arc::new(Dialler::new(remote.tls.clone().placed(&self.directory)));
                // What is wrong with its files or the token is told now.
                let client = Client::new(authority.clone()).with_tls(&tls)?;
                client.with_token(token.as_deref())?;
                RegistryInUse::There { authority, token, tls }
            }
            (Some(RegistrySpec::Embedded(new)), Some(RegistrySpec::Embedded(old))) => {
                self.change_registry(old, new)?;
                if (&old.data, &old.store) != (&new.data, &new.store) {
                    notes.push(
                        "registry: `data` and `store` hold from the next start on".to_owned(),
                    );
                }
                return Ok(notes);
            }
            (Some(RegistrySpec::Embedded(new)), _) => self.start_registry(new)?,
        };
        let mut state = self.state();
        drop(std::mem::replace(&mut state.registry, in_use));
        // Those that looked in the one before look in this one now.
        let looking: Vec<(ServiceName, EndpointSource)> = state
            .services
            .iter()
            .map(|(name, running)| (name.clone(), running.service.settings().source.clone()))
            .filter(|(_, source)| {
                matches!(source, EndpointSource::Discover(DiscoverSpec::Registry(_)))
            })
            .collect();
        for (name, source) in looking {
            state.sources.forget(&name);
            if new.registry.is_some() {
                self.set_source(&mut state, &name, &source);
            }
        }
        Ok(notes)
    }

    fn start_registry(&self, spec: &EmbeddedRegistrySpec) -> Result<RegistryInUse, String> {
        let listener = bind(spec.bind)?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let listener = listen(listener)?;
        let registrar = Registrar::start(spec, &self.directory, listener)?;
        Ok(RegistryInUse::Here { registrar: Box::new(registrar), address })
    }

    fn change_registry(
        &self,
        old: &EmbeddedRegistrySpec,
        new: &EmbeddedRegistrySpec,
    ) -> Result<(), String> {
        let moved = (old.bind, old.connections_max) != (new.bind, new.connections_max);
        let listener = match moved {
            true if old.bind != new.bind => Some(bind(new.bind)?),
            _ => None,
        };
        let bound = listener.as_ref().map(TcpListener::local_addr).transpose();
        let bound = bound.map_err(|error| error.to_string())?;
        let listener = listener.map(listen).transpose()?;
        let mut state = self.state();
        let RegistryInUse::Here { registrar, address } = &mut state.registry else {
            return Ok(());
        };
        registrar.configure(new, &self.directory, listener)?;
        if let Some(bound) = bound {
            *address = bound;
        }
        Ok(())
    }

    /// Who finds a service's endpoints in the registry.
    pub(super) fn open_registered(
        state: &State,
        service: &ServiceName,
        selector: &RegistrySelector,
        checked: bool,
        before: Option<Vec<Endpoint>>,
    ) -> Option<Box<dyn Source>> {
        let place = match &state.registry {
            RegistryInUse::None => return None,
            RegistryInUse::Here { registrar, .. } => Place::Here(registrar.keeper()),
            RegistryInUse::There { authority, token, tls } => {
                // Whether its files are there now is for the source to find out, again and again.
                let client = Client::new(authority.clone()).over(tls);
                match client.with_token(token.as_deref()) {
                    Ok(client) => Place::There(client),
                    Err(why) => {
                        warn!("service {service}: {why}");
                        return None;
                    }
                }
            }
        };
        let service = selector.service.as_ref().unwrap_or(service).to_string();
        Some(Box::new(Registered { place, service, checked, before }))
    }
}

/// Whether a service's endpoints must prove themselves before they get traffic.
pub(super) fn is_checked(state: &State, service: &ServiceName) -> bool {
    state
        .services
        .get(service)
        .is_none_or(|running| !matches!(running.service.settings().health.kind, HealthKind::Off))
}

fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| explain("the registry", address, &error))
}

fn listen(listener: TcpListener) -> Result<tokio::net::TcpListener, String> {
    let ready = |listener: TcpListener| -> io::Result<_> {
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    };
    ready(listener).map_err(|error| format!("the registry cannot be served: {error}"))
}
