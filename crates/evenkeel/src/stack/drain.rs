//! Takes containers out of the balancer before they stop, and waits for new ones to be in it.

use std::time::{Duration, Instant};

use compose::balancer::balanced_names;
use compose::observed::{Condition, Observed, condition};
use compose::project::Service;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::Stack;
use crate::client::encoded;
use crate::failure::Failure;

/// How long streams and requests of a container that leaves may go on: the balancer's own default.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Between two looks at something that changes.
pub(super) const POLL: Duration = Duration::from_millis(50);

/// Lines of a container's output in a message about its end.
const LAST_LINES: usize = 10;

impl Stack {
    /// The paths of a container's endpoints in the admin API.
    pub(super) fn endpoint_paths(&self, service: &Service, id: &str) -> Vec<String> {
        let id = id.get(..12).unwrap_or(id);
        let mut names: Vec<String> =
            balanced_names(service).into_iter().map(|(name, _)| name).collect();
        names.dedup();
        let path =
            |name: &String| format!("/v1/services/{}/endpoints/{}", encoded(name), encoded(id));
        names.iter().map(path).collect()
    }

    /// What the balancer says of a container; those that it does not know are left out.
    pub(super) fn endpoints(&self, service: &Service, id: &str) -> Vec<Value> {
        let Some(client) = self.balancer.client() else { return Vec::new() };
        let paths = self.endpoint_paths(service, id);
        paths.iter().filter_map(|path| client.get(path).ok()).collect()
    }

    /// The balancer gives the container nothing new; resolves when it has nothing left, or after
    /// [`DRAIN_MAX`].
    pub(crate) async fn drain(&self, service: &Service, id: &str) {
        let Some(client) = self.balancer.client() else { return };
        for path in self.endpoint_paths(service, id) {
            // One that it does not know needs no draining.
            let _ = client.post(&format!("{path}/drain"), None);
        }
        let begun = Instant::now();
        let mut idle = 0;
        // Twice, for a worker may have picked it just before it was drained.
        while idle < 2 && begun.elapsed() < DRAIN_MAX {
            sleep(POLL).await;
            let endpoints = self.endpoints(service, id);
            let busy = endpoints.iter().any(|e| e["in_flight"].as_u64().unwrap_or(0) > 0);
            idle = if busy { 0 } else { idle + 1 };
        }
    }

    pub(super) fn undrain(&self, service: &Service, id: &str) {
        let Some(client) = self.balancer.client() else { return };
        for path in self.endpoint_paths(service, id) {
            let _ = client.post(&format!("{path}/undrain"), None);
        }
    }

    /// `None`: the weight of the configuration.
    pub(super) fn weigh(&self, service: &Service, id: &str, weight: Option<u16>) {
        let Some(client) = self.balancer.client() else { return };
        for path in self.endpoint_paths(service, id) {
            let _ = client.patch(&path, &json!({ "weight": weight }));
        }
    }

    /// Waits until a container is well: the engine's check of it passes, if it has one, and the
    /// balancer's, if it is balanced.
    pub(crate) async fn wait_well(
        &self,
        service: &Service,
        id: &str,
        within: Duration,
    ) -> Result<(), String> {
        let begun = Instant::now();
        let mut last = String::from("it has not started");
        while begun.elapsed() < within {
            let found = self.inspect(id).await.map_err(|error| error.to_string())?;
            match well(&condition(&found)) {
                Ok(true) => {
                    let paths = self.endpoint_paths(service, id);
                    if paths.is_empty() || self.balancer.client().is_none() {
                        return Ok(());
                    }
                    let endpoints = self.endpoints(service, id);
                    let healthy = |e: &&Value| e["state"] == "healthy";
                    if endpoints.iter().filter(healthy).count() == paths.len() {
                        return Ok(());
                    }
                    let reason = endpoints.iter().find(|e| !healthy(e));
                    last = match reason.and_then(|e| e["reason"].as_str()) {
                        Some(reason) => format!("the balancer says: {reason}"),
                        None => "the balancer has not found it".into(),
                    };
                }
                Ok(false) => last = "its health check has not passed".into(),
                Err(why) => return Err(format!("{why}{}", self.last_lines(id).await)),
            }
            sleep(POLL).await;
        }
        Err(format!("not well within {within:?}: {last}{}", self.last_lines(id).await))
    }

    /// Waits until a container has ended, and with success.
    pub(super) async fn wait_ended(&self, container: &Observed) -> Result<(), Failure> {
        loop {
            let found = condition(&self.inspect(&container.id).await?);
            if !found.running && !found.restarting {
                return match found.exit_code {
                    0 => Ok(()),
                    code => {
                        let lines = self.last_lines(&container.id).await;
                        let name = &container.name;
                        Err(Failure::Job(format!("{name} ended with status {code}{lines}")))
                    }
                };
            }
            sleep(POLL).await;
        }
    }

    /// What it printed last, for a message.
    async fn last_lines(&self, id: &str) -> String {
        let lines = self.log_lines(id, LAST_LINES).await.unwrap_or_default();
        match lines.is_empty() {
            true => String::new(),
            false => format!("; it said last:\n  {}", lines.join("\n  ")),
        }
    }
}

/// Whether the engine has nothing against it; an error: it never will.
fn well(found: &Condition) -> Result<bool, String> {
    if !found.running && !found.restarting {
        return Err(format!("it ended with status {}", found.exit_code));
    }
    match found.health.as_deref() {
        Some("unhealthy") => Err(format!("its health check fails: {}", found.said)),
        Some("starting") => Ok(false),
        _ => Ok(!found.restarting),
    }
}
