//! A new version of a service, one container after the other, and back if it is worse.
//!
//! The first new container is the canary: it gets a small share of the requests, then more, and is
//! compared with the old ones that serve beside it ([`verdict::worse`]). The others follow, each
//! warmed in the same steps, but quicker. Old containers are stopped, and removed only when all is
//! done, so that each step can be taken back.

use std::time::{Duration, Instant};

use compose::labels;
use compose::observed::{Observed, condition};
use compose::project::Service;
use compose::verdict::{self, Counted};
use serde_json::Value;
use tokio::time::sleep;

use super::Stack;
use super::drain::POLL;
use super::images::Fresh;
use super::journal::Record;
use crate::failure::Failure;

/// Weight of an old container while new ones are warmed; a new one begins with 1, so that among
/// three old ones it gets one request of 301 before it was ever looked at.
const OLD_WEIGHT: u16 = 100;

/// The shares of the requests of its service that a new container gets, one after the other,
/// before it gets as much as each of the others.
const STEPS: [f64; 3] = [0.01, 0.05, 0.2];

/// Of the time of the canary, what each of those that follow gets.
const FOLLOWER: u32 = 5;

/// What `deploy` is given.
pub(crate) struct Deployment {
    pub(crate) image: Option<String>,
    pub(crate) build: bool,
    pub(crate) pull: bool,
    /// Also if nothing has changed.
    pub(crate) force: bool,
    /// How long a new container may take to be well.
    pub(crate) within: Duration,
    /// How long the first one is watched.
    pub(crate) watch: Duration,
}

/// The new containers, and the old ones that have been stopped for them.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) new: Vec<String>,
    pub(super) stopped: Vec<Observed>,
    /// Requests of the service, and those of them that new containers got, since the first of them
    /// was there.
    all: u64,
    canary: u64,
    canary_failures: u64,
}

impl Progress {
    pub(super) fn of(new: Vec<String>, stopped: Vec<Observed>) -> Self {
        Self { new, stopped, ..Self::default() }
    }
}

impl Stack {
    pub(crate) async fn deploy(&mut self, name: &str, how: &Deployment) -> Result<String, Failure> {
        self.service(name)?;
        let _turn = self.claim(&format!("deploy {name}")).await?;
        self.recover().await?;
        if let Some(image) = &how.image
            && let Some(service) = self.project.services.get_mut(name)
        {
            service.image = Some(image.clone());
            service.build = None;
            if let Some(raw) = service.raw.as_object_mut() {
                raw.insert("image".into(), image.clone().into());
                raw.remove("build");
            }
        }
        let service = self.service(name)?;
        let fresh = Fresh { build: how.build, pull: how.pull };
        let images = self.images(std::iter::once(service), fresh).await?;
        let hashes = self.hashes(std::iter::once(service), &images);
        let hash = &hashes[name];
        let all = self.containers().await?;
        let own = all.iter().filter(|container| container.service == name);
        let own: Vec<&Observed> = own.collect();
        let old: Vec<&Observed> = own
            .iter()
            .copied()
            .filter(|container| container.runs() && (how.force || container.hash != *hash))
            .collect();
        if own.iter().all(|container| !container.runs()) {
            let help = format!("nothing of {name} runs; `evenkeel up` starts it");
            return Err(Failure::Job(help));
        }
        if old.is_empty() {
            return Ok(format!("{name} is up to date"));
        }
        let mut progress = Progress::default();
        let mut record = Record::begin(name, &own);
        self.write_journal(&record)?;
        let rolled = tokio::select! {
            rolled = self.roll(service, &own, &old, hash, how, &mut progress, &mut record) => rolled,
            _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        };
        let share = |progress: &Progress| {
            let share = progress.canary as f64 / progress.all.max(1) as f64 * 100.0;
            format!(
                "the new version got {} of {} requests ({share:.2} %), {} of them failed",
                progress.canary, progress.all, progress.canary_failures
            )
        };
        match rolled {
            Ok(()) => {
                record.finish();
                self.write_journal(&record)?;
                self.settle(service, &own, &progress).await;
                self.forget_given().await;
                self.end_journal();
                let count = old.len();
                Ok(format!("{name}: {count} of {count} containers have the new version"))
            }
            Err(why) => {
                self.back(service, &own, &progress).await?;
                self.discard_once_made(&record).await?;
                self.forget_given().await;
                self.end_journal();
                let share = share(&progress);
                Err(Failure::Job(format!("{name} is as it was: {why}\n{share}")))
            }
        }
    }

    /// All new containers serve: they get as much as any, and the old ones go.
    pub(super) async fn settle(&self, service: &Service, own: &[&Observed], progress: &Progress) {
        let ids = own.iter().map(|container| container.id.as_str());
        for id in ids.chain(progress.new.iter().map(String::as_str)) {
            self.weigh(service, id, None);
        }
        for container in &progress.stopped {
            self.discard(&container.id).await;
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one call, and each is another thing")]
    async fn roll(
        &self,
        service: &Service,
        own: &[&Observed],
        old: &[&Observed],
        hash: &str,
        how: &Deployment,
        progress: &mut Progress,
        record: &mut Record,
    ) -> Result<(), String> {
        let message = |failure: Failure| failure.to_string();
        let start_first = service.starts_first();
        let mut taken: Vec<u32> = own.iter().map(|container| container.number).collect();
        for container in own {
            self.weigh(service, &container.id, Some(OLD_WEIGHT));
        }
        for (at, container) in old.iter().enumerate() {
            if !start_first {
                progress.stopped.push((*container).clone());
                record.note(progress);
                self.write_journal(record).map_err(message)?;
                self.stop_one(service, container).await.map_err(message)?;
            }
            let number = (1..).find(|number| !taken.contains(number)).unwrap_or(u32::MAX);
            taken.push(number);
            record.ask_for(labels::container_name(&self.project, service, number));
            self.write_journal(record).map_err(message)?;
            let made = self.create(service, number, hash).await;
            progress.new.extend(made.as_ref().ok().cloned());
            record.note(progress);
            let id = made.map_err(message)?;
            self.write_journal(record).map_err(message)?;
            let before = self.count(service, &self.others(own, progress));
            self.start(&id).await.map_err(message)?;
            self.wait_well(service, &id, how.within).await?;
            let still: Vec<String> = old[at..].iter().map(|c| c.id.clone()).collect();
            let still = if start_first { still } else { Vec::new() };
            let watch = if at == 0 { how.watch } else { how.watch / FOLLOWER };
            let warmed = self.warm(service, &still, &id, before, watch, own, progress).await;
            warmed?;
            self.weigh(service, &id, Some(OLD_WEIGHT));
            if start_first {
                eprintln!("{}: stop", container.name);
                progress.stopped.push((*container).clone());
                record.note(progress);
                self.write_journal(record).map_err(message)?;
                self.stop_one(service, container).await.map_err(message)?;
            }
        }
        Ok(())
    }

    /// Gives a new container more and more, and watches it. Those in `old` serve beside it.
    #[allow(clippy::too_many_arguments, reason = "one call, and each is another thing")]
    async fn warm(
        &self,
        service: &Service,
        old: &[String],
        new: &str,
        before: u64,
        watch: Duration,
        own: &[&Observed],
        progress: &mut Progress,
    ) -> Result<(), String> {
        let begun = Instant::now();
        let new_only = [new.to_owned()];
        let old_before = self.counted(service, old);
        let new_before = Counted::default();
        let serving = self.serving(service);
        let mut step = 0;
        loop {
            let due = begun.elapsed().as_secs_f64() / watch.as_secs_f64().max(1e-3);
            let due = (due * (STEPS.len() as f64 + 1.0)) as usize;
            if step <= due.min(STEPS.len()) {
                self.weigh(service, new, Some(weight(step, serving)));
                step += 1;
            }
            sleep(POLL).await;
            let found = self.inspect(new).await.map_err(|error| error.to_string())?;
            let found = condition(&found);
            let canary = since(&new_before, &self.counted(service, &new_only));
            let others = since(&old_before, &self.counted(service, old));
            self.account(service, own, before, progress);
            if !found.running {
                return Err(format!("the new container ended with status {}", found.exit_code));
            }
            if found.health.as_deref() == Some("unhealthy") {
                return Err(format!("the health check of the new container fails: {}", found.said));
            }
            if let Some(why) = verdict::worse(&others, &canary) {
                return Err(why);
            }
            let unhealthy = self.endpoints(service, new);
            if let Some(endpoint) = unhealthy.iter().find(|e| e["state"] == "unhealthy") {
                let reason = endpoint["reason"].as_str().unwrap_or_default();
                return Err(format!("the balancer finds the new container unhealthy: {reason}"));
            }
            if begun.elapsed() >= watch {
                return Ok(());
            }
        }
    }

    /// What the new containers have had, for the report.
    fn account(&self, service: &Service, own: &[&Observed], before: u64, progress: &mut Progress) {
        let new = self.counted(service, &progress.new);
        progress.canary = new.requests;
        progress.canary_failures = new.failures;
        let all = self.count(service, &self.others(own, progress));
        progress.all = progress.all.max(all.saturating_sub(before) + new.requests);
    }

    /// All containers of the service that are not new.
    fn others(&self, own: &[&Observed], progress: &Progress) -> Vec<String> {
        let stopped = |id: &String| progress.stopped.iter().any(|container| container.id == *id);
        own.iter().map(|c| c.id.clone()).filter(|id| !stopped(id)).collect()
    }

    fn count(&self, service: &Service, ids: &[String]) -> u64 {
        self.counted(service, ids).requests
    }

    /// How many endpoints serve, new ones included; at least 1.
    fn serving(&self, service: &Service) -> usize {
        let Some(client) = self.balancer.client() else { return 1 };
        let names = compose::balancer::balanced_names(service);
        let Some((name, _)) = names.first() else { return 1 };
        let path = format!("/v1/services/{}", crate::client::encoded(name));
        let found = client.get(&path).ok();
        let found = found.as_ref().and_then(|found| found["endpoints"].as_array());
        let healthy = |e: &&Value| e["state"] == "healthy";
        found.map_or(1, |endpoints| endpoints.iter().filter(healthy).count()).max(1)
    }

    /// What the balancer counted for these containers, together.
    fn counted(&self, service: &Service, ids: &[String]) -> Counted {
        let mut sum = Counted::default();
        for id in ids {
            for endpoint in self.endpoints(service, id) {
                let number = |name: &str| endpoint[name].as_u64().unwrap_or(0);
                sum.requests += number("requests");
                sum.failures += number("failures");
                sum.measured += number("measured");
                sum.latency_sum_us += number("latency_sum_us");
            }
        }
        sum
    }

    /// As it was: the old containers serve, the new ones go.
    pub(super) async fn back(
        &self,
        service: &Service,
        own: &[&Observed],
        progress: &Progress,
    ) -> Result<(), Failure> {
        eprintln!("rolling {} back", service.name);
        // What is worse gets nothing more, at once, if somebody else can take it.
        let others = !self.others(own, progress).is_empty();
        if others {
            for id in &progress.new {
                self.drain(service, id).await;
            }
        }
        let mut well = Ok(());
        if service.starts_first() || progress.new.is_empty() {
            for container in &progress.stopped {
                self.start(&container.id).await?;
                self.undrain(service, &container.id);
                let within = Duration::from_secs(60);
                let started = self.wait_well(service, &container.id, within).await;
                well = well.and(started);
            }
            for id in &progress.new {
                self.take_away(service, id).await;
            }
        } else {
            for id in &progress.new {
                self.take_away(service, id).await;
            }
            for container in &progress.stopped {
                self.start(&container.id).await?;
                self.undrain(service, &container.id);
            }
        }
        for container in own {
            self.weigh(service, &container.id, None);
        }
        well.map_err(|why| Failure::Job(format!("an old container does not serve again: {why}")))
    }

    async fn take_away(&self, service: &Service, id: &str) {
        self.drain(service, id).await;
        let path = format!("/containers/{id}/stop");
        let grace = service.stop_grace.unwrap_or(Duration::from_secs(10));
        let _ = self.engine.post_patiently(&path, grace).await;
        self.discard(id).await;
    }
}

/// The weight with which a new container has its share among `serving` ones, itself included.
fn weight(step: usize, serving: usize) -> u16 {
    let Some(share) = STEPS.get(step) else { return OLD_WEIGHT };
    let others = f64::from(OLD_WEIGHT) * (serving.max(2) - 1) as f64;
    // Never more than the others have.
    (others * share / (1.0 - share)).round().clamp(1.0, f64::from(OLD_WEIGHT)) as u16
}

fn since(before: &Counted, now: &Counted) -> Counted {
    Counted {
        requests: now.requests.saturating_sub(before.requests),
        failures: now.failures.saturating_sub(before.failures),
        measured: now.measured.saturating_sub(before.measured),
        latency_sum_us: now.latency_sum_us.saturating_sub(before.latency_sum_us),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_container_gets_its_share_and_never_more_than_the_others() {
        for (step, serving, expected) in
            [(0, 2, 1), (0, 4, 3), (1, 2, 5), (1, 4, 16), (2, 2, 25), (2, 10, 100), (3, 4, 100)]
        {
            assert_eq!(weight(step, serving), expected, "step {step} of {serving}");
        }
    }
}
