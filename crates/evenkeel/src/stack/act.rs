//! Puts a plan into effect, one action after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use compose::balancer::Listened;
use compose::engine::{Body, LogLines};
use compose::observed::{Observed, condition};
use compose::plan::{Action, There, Wanted, concerned, holds_balanced_port, plan, replicas};
use compose::project::{Condition, Service};
use compose::request;
use hyper::Request;
use serde_json::json;
use tokio::time::sleep;

use super::Stack;
use super::drain::POLL;
use super::images::Fresh;
use crate::client::encoded;
use crate::failure::Failure;

/// How long a service that others depend on may take to be healthy, beyond what its own check
/// says: an image may have one that takes minutes.
const CONDITION_MAX: Duration = Duration::from_secs(600);

/// What `up` is given beside the file.
#[derive(Default)]
pub(crate) struct UpOptions {
    pub(crate) wanted: Wanted,
    pub(crate) build: bool,
    pub(crate) pull: bool,
    /// How long a new container may take to be well before an old one is removed for it.
    pub(crate) within: Duration,
}

/// What came of it.
pub(crate) struct Done {
    pub(crate) listened: Vec<Listened>,
    /// Containers that were not well in time, and why.
    pub(crate) unwell: Vec<String>,
}

impl Stack {
    pub(crate) async fn up(&self, options: &UpOptions) -> Result<Done, Failure> {
        let _turn = self.claim("up").await?;
        self.recover().await?;
        let wanted = &options.wanted;
        let services = concerned(&self.project, &wanted.services);
        let services = services.map_err(|name| match self.service(&name) {
            Err(failure) => failure,
            Ok(_) => Failure::Usage(format!("there is no service {name}")),
        })?;
        let of_scales: Vec<&String> = wanted.scales.keys().collect();
        for name in of_scales {
            let service = self.service(name)?;
            if service.container_name.is_some() && wanted.scales[name] > 1 {
                let message = format!("{name} has a container_name, and can have one container");
                return Err(Failure::Usage(message));
            }
        }
        let needed = services.iter().copied().filter(|service| replicas(service, wanted) > 0);
        let fresh = Fresh { build: options.build, pull: options.pull };
        let images = self.images(needed, fresh).await?;
        let there = There {
            containers: self.containers().await?,
            networks: self.networks().await?,
            volumes: self.volumes().await?,
            hashes: self.hashes(services.iter().copied(), &images),
        };
        let plan = plan(&self.project, &services, wanted, &there);
        for note in &plan.notes {
            eprintln!("{note}");
        }
        // Before the containers, so that a client finds the port open, if with nobody behind it.
        let held = self.held(&there.containers);
        let mut listened = self.balancer.serve(&self.project, &held)?;
        let mut begun = Vec::new();
        for action in &plan.actions {
            begun.extend(self.act(action, &there, options).await?);
        }
        if !held.is_empty() {
            let held = self.held(&self.containers().await?);
            listened = self.balancer.serve(&self.project, &held)?;
        }
        self.forget_given().await;
        let unwell = self.balanced_are_well(&begun, options.within).await?;
        Ok(Done { listened, unwell })
    }

    /// Ports that the balancer is to listen on, and that the engine has published for containers.
    fn held(&self, containers: &[Observed]) -> Vec<(u16, String)> {
        let holds = |container: &&Observed| {
            let services = &self.project.services;
            services.values().any(|service| holds_balanced_port(service, container))
        };
        containers.iter().filter(holds).flat_map(|c| c.published.clone()).collect()
    }

    /// Waits for new containers of balanced services to get traffic.
    async fn balanced_are_well(
        &self,
        begun: &[(String, String)],
        within: Duration,
    ) -> Result<Vec<String>, Failure> {
        let mut unwell = Vec::new();
        let deadline = Instant::now() + within;
        for (name, id) in begun {
            let service = self.service(name)?;
            if service.balanced_ports().next().is_some() {
                let left = deadline.saturating_duration_since(Instant::now()).max(POLL);
                if let Err(why) = self.wait_well(service, id, left).await {
                    unwell.push(format!("a container of {name}: {why}"));
                }
            }
        }
        Ok(unwell)
    }

    /// Answers the service and id of a container that it has started.
    async fn act(
        &self,
        action: &Action,
        there: &There,
        options: &UpOptions,
    ) -> Result<Option<(String, String)>, Failure> {
        let find = |id: &str| there.containers.iter().find(|container| container.id == id);
        match action {
            Action::CreateNetwork(key) => {
                let network = &self.project.networks[key];
                eprintln!("network {}: create", network.name);
                let body = request::network(&self.project, key, network);
                self.engine.post("/networks/create", Some(&body)).await?;
            }
            Action::CreateVolume(key) => {
                let volume = &self.project.volumes[key];
                eprintln!("volume {}: create", volume.name);
                let body = request::volume(&self.project, key, volume);
                self.engine.post("/volumes/create", Some(&body)).await?;
            }
            Action::Await { by, service, condition, required } => {
                let met = self.condition(service, *condition).await;
                if let Err(failure) = met {
                    if *required {
                        let message = format!("{by} depends on {service}: {failure}");
                        return Err(Failure::Job(message));
                    }
                    eprintln!("{by} goes on without {service}: {failure}");
                }
            }
            Action::Create { service, number } => {
                let service = self.service(service)?;
                let id = self.create(service, *number, &there.hashes[&service.name]).await?;
                self.start(&id).await?;
                return Ok(Some((service.name.clone(), id)));
            }
            Action::Start { container } => {
                if let Some(container) = find(container) {
                    eprintln!("{}: start", container.name);
                    let service = self.service(&container.service)?;
                    if there.hashes.get(&service.name) == Some(&container.hash) {
                        // What it mounts may be gone since it was made.
                        self.with_mounts(service, &container.hash)?;
                    }
                    self.start(&container.id).await?;
                    return Ok(Some((container.service.clone(), container.id.clone())));
                }
            }
            Action::Replace { service, old, number, start_first } => {
                let service = self.service(service)?;
                let Some(old) = find(old) else { return Ok(None) };
                let hash = &there.hashes[&service.name];
                if !start_first {
                    self.remove(service, old).await?;
                }
                let id = self.create(service, *number, hash).await?;
                self.start(&id).await?;
                if *start_first {
                    if let Err(why) = self.wait_well(service, &id, options.within).await {
                        self.discard(&id).await;
                        let name = &old.name;
                        let message = format!("{name} stays: the new container is not well: {why}");
                        return Err(Failure::Job(message));
                    }
                    self.remove(service, old).await?;
                }
                return Ok(Some((service.name.clone(), id)));
            }
            Action::Remove { container } => {
                if let Some(container) = find(container) {
                    // One of a service that the file does not have is not balanced.
                    let gone = Service::default();
                    let service = self.project.services.get(&container.service).unwrap_or(&gone);
                    self.remove(service, container).await?;
                }
            }
        }
        Ok(None)
    }

    async fn condition(&self, service: &str, wanted: Condition) -> Result<(), Failure> {
        let containers = self.containers().await?;
        let own = containers.iter().filter(|container| container.service == service);
        for container in own {
            match wanted {
                Condition::CompletedSuccessfully => self.wait_ended(container).await?,
                Condition::Started => {}
                Condition::Healthy => {
                    let begun = Instant::now();
                    loop {
                        let found = condition(&self.inspect(&container.id).await?);
                        match found.health.as_deref() {
                            Some("healthy") => break,
                            Some("starting") if begun.elapsed() < CONDITION_MAX => {}
                            Some(_) => {
                                let message =
                                    format!("{} is not healthy: {}", container.name, found.said);
                                return Err(Failure::Job(message));
                            }
                            None => {
                                let message = format!("{} has no health check", container.name);
                                return Err(Failure::Job(message));
                            }
                        }
                        if !found.running {
                            let message = format!("{} has ended", container.name);
                            return Err(Failure::Job(message));
                        }
                        sleep(POLL).await;
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes a container; its id.
    pub(super) async fn create(
        &self,
        service: &Service,
        number: u32,
        hash: &str,
    ) -> Result<String, Failure> {
        let image = service.image.as_deref().unwrap_or_default();
        let service = &*self.with_mounts(service, hash)?;
        let new = request::container(&self.project, service, number, image, hash);
        eprintln!("{}: create", new.name);
        let path = format!("/containers/create?name={}", encoded(&new.name));
        let made = self.engine.post(&path, Some(&new.body)).await;
        let made = made.map_err(|error| Failure::Job(format!("{}: {error}", new.name)))?;
        for warning in made["Warnings"].as_array().into_iter().flatten() {
            eprintln!("{}: {}", new.name, warning.as_str().unwrap_or_default());
        }
        let id = made["Id"].as_str().unwrap_or_default().to_owned();
        for (network, settings) in &new.joins {
            let body = json!({ "Container": id, "EndpointConfig": settings });
            let path = format!("/networks/{}/connect", encoded(network));
            if let Err(error) = self.engine.post(&path, Some(&body)).await {
                self.discard(&id).await;
                return Err(Failure::Job(format!("{}: {error}", new.name)));
            }
        }
        if let Err(failure) = self.give(service, &id).await {
            self.discard(&id).await;
            return Err(Failure::Job(format!("{}: its secrets or configs: {failure}", new.name)));
        }
        Ok(id)
    }

    /// Starts one; a new one that cannot start is removed by the next `up`, as by Docker Compose.
    pub(super) async fn start(&self, id: &str) -> Result<(), Failure> {
        Ok(self.engine.post(&format!("/containers/{id}/start"), None).await.map(drop)?)
    }

    /// Without draining: it has never been well.
    pub(super) async fn discard(&self, id: &str) {
        let _ = self.engine.delete(&format!("/containers/{id}?force=true&v=true")).await;
    }

    /// Drains, then stops.
    pub(crate) async fn stop_one(
        &self,
        service: &Service,
        container: &Observed,
    ) -> Result<(), Failure> {
        if container.runs() {
            self.drain(service, &container.id).await;
        }
        let grace = service.stop_grace.unwrap_or(Duration::from_secs(10));
        let path = format!("/containers/{}/stop", container.id);
        match self.engine.post_patiently(&path, grace).await {
            Err(error) if !error.is_missing() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Drains, stops and removes, with its anonymous volumes.
    pub(crate) async fn remove(
        &self,
        service: &Service,
        container: &Observed,
    ) -> Result<(), Failure> {
        eprintln!("{}: remove", container.name);
        self.stop_one(service, container).await?;
        let path = format!("/containers/{}?force=true&v=true", container.id);
        match self.engine.delete(&path).await {
            // Another one may be at it.
            Err(error) if !error.is_missing() && !error.is_conflict() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Stops, and with `remove` removes, all of them at once; those that depend on others first.
    pub(crate) async fn stop_all(
        &self,
        containers: &[Observed],
        remove: bool,
    ) -> Result<(), Failure> {
        let gone = Service::default();
        let order = self.project.order.iter().rev();
        let others: BTreeSet<&String> = containers.iter().map(|c| &c.service).collect();
        let others = others.into_iter().filter(|name| !self.project.order.contains(name));
        for name in others.chain(order) {
            let service = self.project.services.get(name).unwrap_or(&gone);
            let own = containers.iter().filter(|container| container.service == *name);
            let mut all = Vec::new();
            for container in own {
                all.push(async move {
                    if remove {
                        return self.remove(service, container).await;
                    }
                    if container.runs() {
                        eprintln!("{}: stop", container.name);
                        return self.stop_one(service, container).await;
                    }
                    Ok(())
                });
            }
            together(all).await?;
        }
        Ok(())
    }

    /// The last lines that a container printed.
    pub(super) async fn log_lines(&self, id: &str, count: usize) -> Result<Vec<String>, Failure> {
        let mut lines = self.logs(id, &format!("tail={count}")).await?;
        let mut found = Vec::new();
        while let Some((_, line)) = lines.next().await? {
            found.push(line);
        }
        Ok(found)
    }

    /// What a container prints; `query` says from where, and whether it goes on.
    pub(crate) async fn logs(&self, id: &str, query: &str) -> Result<LogLines, Failure> {
        let terminal = self.inspect(id).await?["Config"]["Tty"].as_bool().unwrap_or(false);
        let path = format!("/containers/{id}/logs?stdout=true&stderr=true&{query}");
        let request = Request::builder().uri(path).body(Body::empty());
        let request = request.map_err(|error| Failure::Job(error.to_string()))?;
        Ok(LogLines::new(self.engine.send(request).await?, terminal))
    }

    /// Each service's number of containers that run.
    pub(super) fn counts(containers: &[Observed]) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for container in containers.iter().filter(|container| container.runs()) {
            *counts.entry(container.service.clone()).or_default() += 1;
        }
        counts
    }
}

/// All at once; the first failure, once all have ended.
pub(super) async fn together(
    all: Vec<impl Future<Output = Result<(), Failure>>>,
) -> Result<(), Failure> {
    let mut left: Vec<_> = all.into_iter().map(Box::pin).collect();
    let mut failed = Ok(());
    std::future::poll_fn(|context| {
        left.retain_mut(|work| match work.as_mut().poll(context) {
            std::task::Poll::Pending => true,
            std::task::Poll::Ready(done) => {
                if failed.is_ok() {
                    failed = done;
                }
                false
            }
        });
        if left.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    failed
}

impl Stack {
    /// Removes what `up` has made. Volumes hold data: they stay unless `volumes` says otherwise.
    pub(crate) async fn down(&self, volumes: bool, orphans: bool) -> Result<(), Failure> {
        let _turn = self.claim("down").await?;
        // Clients first: what is in flight is finished, and nothing new comes.
        self.balancer.stop()?;
        let mut containers = self.containers().await?;
        let known = |container: &Observed| self.project.services.contains_key(&container.service);
        for orphan in containers.iter().filter(|container| !orphans && !known(container)) {
            let name = &orphan.name;
            eprintln!("{name} stays: the file does not have its service; see --remove-orphans");
        }
        containers.retain(|container| orphans || known(container));
        self.stop_all(&containers, true).await?;
        for network in self.project.networks.values().filter(|network| !network.external) {
            self.remove_named("networks", &network.name).await?;
        }
        if volumes {
            for volume in self.project.volumes.values().filter(|volume| !volume.external) {
                self.remove_named("volumes", &volume.name).await?;
            }
        }
        self.balancer.remove()
    }

    async fn remove_named(&self, kind: &str, name: &str) -> Result<(), Failure> {
        match self.engine.delete(&format!("/{kind}/{}", encoded(name))).await {
            Ok(_) => eprintln!("{} {name}: remove", kind.trim_end_matches('s')),
            Err(error) if error.is_missing() => {}
            // Somebody else uses it.
            Err(error) => eprintln!("{} {name} stays: {error}", kind.trim_end_matches('s')),
        }
        Ok(())
    }
}
