//! From one configuration to the next, touching only what differs.
//!
//! In this order, so that nothing is sent anywhere before it can be served, and nothing that can
//! fail comes after something that cannot be taken back:
//! 1. look whether the new addresses can be bound; bind the admin API, the agent and the name server; open the access
//!    log;
//! 2. start new services, and wait a little for an endpoint of each to prove itself;
//! 3. change, add and remove listeners;
//! 4. from here on nothing fails: change services, then remove services.
//!
//! What fails before step 4 is taken back, and the configuration before stays in force.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use ::agent::Bound;
use config::{Difference, difference};
use discovery::names::Sockets;
use model::spec::{EndpointSource, ListenerSpec, ServiceSpec, Spec};
use model::{Endpoint, ServiceName};
use tracing::warn;

use super::admin_server::AdminServer;
use super::agent;
use super::api::Api;
use super::bind_check::{self, explain};
use super::certificates;
use super::name_server;
use super::running::Running;
use super::{State, Supervisor};

/// How long traffic stays where it is while the endpoints that it is to go to prove themselves.
/// Then the change is made all the same, for it was asked for.
const PROVING_MAX: Duration = Duration::from_secs(10);

/// After the routes changed, a worker may still be about to pick by those before, and would find
/// nothing in a service that is closed already.
const SETTLE: Duration = Duration::from_millis(100);

/// What is said when an application changed nothing.
pub(super) const NOTHING: &str = "nothing changed";

impl Supervisor {
    /// What a text says, and beside it what containers say. As [`Supervisor::apply_spec`].
    pub(super) async fn apply_configured(
        self: &Arc<Self>,
        configured: Spec,
        text: Arc<str>,
    ) -> Result<String, String> {
        let before = Arc::clone(&self.state().configured);
        let merged = self.configure(&configured);
        match self.apply_spec(merged, Some(text), true).await {
            Ok(summary) => {
                self.set_watcher(&configured);
                self.state().configured = Arc::new(configured);
                Ok(summary)
            }
            Err(message) => {
                self.configure(&before);
                Err(message)
            }
        }
    }

    /// Who is discovered for what, from now on; answers what is to be in force.
    fn configure(&self, configured: &Spec) -> Spec {
        let mut state = self.state();
        let changes = state.discovery.picture.configure(configured);
        self.publish(&mut state, &changes.services, false);
        state.discovery.configure(configured)
    }

    /// Only while `applying` is held. Says what changed, or why nothing did. `text`: if that is
    /// another one. `prove`: wait a little until what is new is healthy.
    pub(super) async fn apply_spec(
        self: &Arc<Self>,
        new: Spec,
        text: Option<Arc<str>>,
        prove: bool,
    ) -> Result<String, String> {
        if *self.stopping.borrow() {
            return Err("the balancer is stopping".into());
        }
        let (old, begun) = {
            let state = self.state();
            (Arc::clone(&state.spec), state.begun)
        };
        let difference = difference(&old, &new);
        if difference.is_empty() {
            if let Some(text) = text {
                self.state().text = text;
            }
            return Ok(NOTHING.into());
        }
        let change = Change { supervisor: self, old: &old, new: &new, difference: &difference };
        let mut notes = change.make(begun && prove).await?;
        if difference.workers && begun {
            notes.push("workers: holds from the next start on".into());
        }
        if !difference.listeners.is_empty() {
            certificates::explain_trust(&new);
        }
        let mut state = self.state();
        state.spec = Arc::new(new);
        if let Some(text) = text {
            state.text = text;
        }
        drop(state);
        notes.insert(0, difference.to_string());
        Ok(notes.join("; "))
    }
}

struct Change<'a> {
    supervisor: &'a Arc<Supervisor>,
    old: &'a Spec,
    new: &'a Spec,
    difference: &'a Difference,
}

/// What becomes of the admin API, bound but not yet served.
enum AdminChange {
    Stays,
    Serves { listener: TcpListener, token: Option<String> },
    Ends,
}

impl Change<'_> {
    async fn make(&self, prove: bool) -> Result<Vec<String>, String> {
        bind_check::check(self.old, self.new, self.difference)?;
        let admin = self.prepare_admin()?;
        let agent = self.prepare_agent()?;
        let names = self.prepare_name_server()?;
        self.set_access_log(self.new)?;
        let registry_notes = self.supervisor.set_registry(self.old, self.new)?;
        self.add_services();
        let mut notes = if prove { self.prove_added().await } else { Vec::new() };
        // With what is in the store, before a client comes who asks for it.
        let both = certificates::wanted(self.old).into_iter().chain(certificates::wanted(self.new));
        self.supervisor.acme.set(both.collect()).await;
        if let Err(message) = self.set_listeners() {
            self.supervisor.acme.set(certificates::wanted(self.old)).await;
            self.remove_services(&self.difference.services.added);
            if let Err(message) = self.set_access_log(self.old) {
                warn!("{message}");
            }
            if let Err(message) = self.supervisor.set_registry(self.new, self.old) {
                warn!("{message}");
            }
            return Err(message);
        }
        notes.extend(registry_notes);
        self.supervisor.acme.set(certificates::wanted(self.new)).await;
        notes.extend(self.change_services().await);
        // Those that leave can no longer be asked for.
        self.finish_agent(agent);
        if self.difference.dns {
            name_server::set(self.supervisor, self.new, names);
        }
        let removed = &self.difference.services.removed;
        if !removed.is_empty() {
            tokio::time::sleep(SETTLE).await;
            self.remove_services(removed);
        }
        self.finish_admin(admin);
        Ok(notes)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.supervisor.state()
    }

    fn prepare_admin(&self) -> Result<AdminChange, String> {
        if !self.difference.admin {
            return Ok(AdminChange::Stays);
        }
        let Some(admin) = &self.new.admin else { return Ok(AdminChange::Ends) };
        let same_bind = self.old.admin.as_ref().is_some_and(|old| old.bind == admin.bind);
        let state = self.state();
        let served = state.admin.as_ref();
        let listener = match served.filter(|_| same_bind) {
            Some(server) => server.listener(),
            None => AdminServer::bind(admin.bind, served.map(AdminServer::address)),
        };
        let listener = listener.map_err(|error| explain("the admin API", admin.bind, &error))?;
        Ok(AdminChange::Serves { listener, token: admin.token.clone() })
    }

    fn prepare_agent(&self) -> Result<Option<Bound>, String> {
        if !self.difference.agent {
            return Ok(None);
        }
        agent::bind(&self.state(), self.new).map(Some)
    }

    fn prepare_name_server(&self) -> Result<Option<Sockets>, String> {
        if !self.difference.dns {
            return Ok(None);
        }
        name_server::bind(&self.state(), self.new)
    }

    fn finish_agent(&self, bound: Option<Bound>) {
        let services = &self.difference.services;
        if bound.is_some() || !(services.added.is_empty() && services.removed.is_empty()) {
            agent::set(self.supervisor, self.new, bound);
        }
    }

    fn finish_admin(&self, change: AdminChange) {
        let server = match change {
            AdminChange::Stays => return,
            AdminChange::Ends => None,
            AdminChange::Serves { listener, token } => {
                let api = Arc::new(Api(Arc::clone(self.supervisor)));
                match AdminServer::serve(listener, token, api) {
                    Ok(server) => Some(server),
                    // The socket is bound already; only a lack of file descriptors gets us here.
                    Err(error) => {
                        warn!("the admin API cannot be served: {error}");
                        return;
                    }
                }
            }
        };
        let replaced = std::mem::replace(&mut self.state().admin, server);
        drop(replaced); // its connections finish the request under way
    }

    fn set_access_log(&self, spec: &Spec) -> Result<(), String> {
        if !self.difference.access_log {
            return Ok(());
        }
        let proxy = &self.supervisor.proxy;
        proxy
            .set_access_log(spec.access_log.clone())
            .map_err(|error| format!("the access log cannot be opened: {error}"))
    }

    fn add_services(&self) {
        let Supervisor { proxy, directory, .. } = &**self.supervisor;
        for name in &self.difference.services.added {
            let events = self.supervisor.events();
            let running = Running::start(proxy, events, &self.new.services[name], directory);
            let mut state = self.state();
            state.services.insert(name.clone(), running);
            self.supervisor.set_source(&mut state, name, &self.new.services[name].source);
            self.supervisor.publish(&mut state, [name], false);
        }
    }

    /// Waits until each new service has a healthy endpoint; names those that have none.
    async fn prove_added(&self) -> Vec<String> {
        let added = &self.difference.services.added;
        let unproven = || -> Vec<ServiceName> {
            let state = self.state();
            let without = |name: &&ServiceName| {
                state.sources.awaited_for(name).is_some()
                    || state.services.get(*name).is_some_and(|running| {
                        running.endpoint_count() > 0 && running.service.healthy() == 0
                    })
            };
            added.iter().filter(without).cloned().collect()
        };
        self.supervisor.wait_until(PROVING_MAX, || unproven().is_empty()).await;
        let note = |name| format!("service {name} has no healthy endpoint yet");
        unproven().into_iter().map(note).collect()
    }

    /// All of them, or none.
    fn set_listeners(&self) -> Result<(), String> {
        let listeners = &self.difference.listeners;
        let names = listeners.added.iter().chain(&listeners.changed);
        let set: Vec<&ListenerSpec> = names.map(|name| &self.new.listeners[name]).collect();
        let grace = self.new.stop_grace.0;
        let outcome = self.supervisor.proxy.set_listeners(&set, &listeners.removed, grace);
        outcome.map_err(|(name, error)| {
            let title = format!("listener {name}");
            match error.kind() {
                ErrorKind::InvalidInput => format!("{title}: {error}"),
                _ => explain(&title, self.new.listeners[&name].bind, &error),
            }
        })
    }

    /// A service none of whose healthy endpoints stays keeps the old ones until a new one has
    /// proven itself.
    async fn change_services(&self) -> Vec<String> {
        let changed = &self.difference.services.changed;
        let mut joint = Vec::new();
        for name in changed {
            let (old, new) = (&self.old.services[name], &self.new.services[name]);
            if let Some((spec, fresh)) = self.joint(old, new) {
                self.update_service(name, &spec);
                joint.push((name, fresh));
            }
        }
        if !joint.is_empty() {
            let proven = || {
                let state = self.state();
                joint.iter().all(|(name, fresh)| {
                    state.services.get(*name).is_none_or(|running| {
                        fresh.iter().any(|e| running.service.is_healthy(e.id.as_str()))
                    })
                })
            };
            self.supervisor.wait_until(PROVING_MAX, proven).await;
        }
        let mut notes = Vec::new();
        for name in changed {
            self.update_service(name, &self.new.services[name]);
            let state = self.state();
            if let Some(running) = state.services.get(name)
                && running.endpoint_count() > 0
                && running.service.healthy() == 0
            {
                notes.push(format!("service {name} has no healthy endpoint yet"));
            }
        }
        notes
    }

    /// `new` with the endpoints of `old` beside its own, and its own; `None` if that is not
    /// called for.
    fn joint(&self, old: &ServiceSpec, new: &ServiceSpec) -> Option<(ServiceSpec, Vec<Endpoint>)> {
        let EndpointSource::Static(before) = &old.source else { return None };
        let EndpointSource::Static(after) = &new.source else { return None };
        let stays = |e: &&Endpoint| after.iter().any(|a| a.id == e.id && a.address == e.address);
        let state = self.state();
        let service = &state.services.get(&new.name)?.service;
        if after.is_empty()
            || service.healthy() == 0
            || before.iter().filter(stays).any(|e| service.is_healthy(e.id.as_str()))
        {
            return None;
        }
        let leaving = before.iter().filter(|e| after.iter().all(|a| a.id != e.id));
        let all = after.iter().chain(leaving).cloned().collect();
        Some((ServiceSpec { source: EndpointSource::Static(all), ..new.clone() }, after.clone()))
    }

    fn update_service(&self, name: &ServiceName, spec: &ServiceSpec) {
        let Supervisor { proxy, directory, .. } = &**self.supervisor;
        let mut state = self.state();
        let Some(running) = state.services.get_mut(name) else { return };
        let superfluous = running.update(proxy, spec, directory);
        self.supervisor.set_source(&mut state, name, &spec.source);
        self.supervisor.publish(&mut state, [name], false);
        let Some(running) = state.services.get_mut(name) else { return };
        if let Some(superfluous) = superfluous {
            let (supervisor, service) = (Arc::clone(self.supervisor), running.service.clone());
            // The replicas stand by until one of the endpoints that replace them is proven.
            state.leaving.push(tokio::spawn(async move {
                supervisor.wait_until(PROVING_MAX, || service.healthy() > 0).await;
                superfluous.stop().await;
            }));
        }
    }

    fn remove_services(&self, names: &[ServiceName]) {
        let proxy = &self.supervisor.proxy;
        for name in names {
            let mut state = self.state();
            let Some(running) = state.services.remove(name) else { continue };
            state.sources.forget(name);
            proxy.forget(name);
            if let Some(fleet) = &running.fleet {
                fleet.detach();
            }
            running.service.close(proxy.now());
            state.leaving.retain(|leaving| !leaving.is_finished());
            state.leaving.push(tokio::spawn(running.stop()));
        }
    }
}
