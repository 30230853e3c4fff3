//! Measures, asks the controllers, and does what they decide, until it is stopped.

use std::collections::BTreeMap;
use std::time::Duration;

use compose::autoscale::{Controller, Decision, Sample};
use compose::balancer::balanced_names;
use compose::plan::Wanted;
use compose::project::Service;
use model::Instant;
use serde_json::{Value, json};
use tokio::time::{interval, timeout};

use super::{Stack, UpOptions};
use crate::client::segment;
use crate::failure::Failure;

/// How long a new container may take to be well; the load is not looked at meanwhile.
const WITHIN: Duration = Duration::from_secs(30);

/// Waits counted so far: how many, and microseconds of all.
type Waited = (u64, u64);

impl Stack {
    /// Without end. The last decisions are shown by `ps` and `status`.
    pub(crate) async fn autoscale(&self, every: Duration) -> Result<(), Failure> {
        let scaled = |service: &Service| {
            let settings = service.balancing.autoscale.clone()?;
            Some((service.name.clone(), Controller::new(settings)))
        };
        let mut controllers: BTreeMap<String, Controller> =
            self.project.services.values().filter_map(scaled).collect();
        if controllers.is_empty() {
            let help = "no service has `x-evenkeel: { autoscale: { max: 5, in_flight: 20 } }`";
            return Err(Failure::Job(help.into()));
        }
        let mut waited: BTreeMap<String, Waited> = BTreeMap::new();
        let mut decisions = serde_json::Map::new();
        let begun = std::time::Instant::now();
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for (name, controller) in &mut controllers {
                let service = self.service(name)?;
                // While nobody answers, nothing is known, and nothing is changed.
                let Some(sample) = self.sample(service, waited.entry(name.clone()).or_default())
                else {
                    continue;
                };
                let now = Instant::from_nanos(begun.elapsed().as_nanos() as u64);
                let Some(decision) = controller.sample(now, sample) else { continue };
                let line = format!(
                    "{name}: {} -> {} containers: {}",
                    sample.replicas, decision.replicas, decision.reason
                );
                eprintln!("{line}");
                self.tell(name, sample.replicas, &decision);
                decisions.insert(name.clone(), json!(line));
                self.balancer.note(&json!(decisions).to_string());
                if let Err(failure) = self.scale_to(name, decision.replicas).await {
                    eprintln!("{name}: {failure}");
                }
            }
        }
    }

    /// Tells the balancer, for `status`. That it has not heard is no reason to fail.
    fn tell(&self, service: &str, from: usize, decision: &Decision) {
        let Some(client) = self.balancer.client() else { return };
        let Decision { replicas, reason } = decision;
        let scaling = json!({ "service": service, "from": from, "to": replicas, "reason": reason });
        let _ = client.post("/v1/autoscale", Some(&scaling));
    }

    async fn scale_to(&self, name: &str, replicas: usize) -> Result<(), Failure> {
        let mut scales = Stack::counts(&self.containers().await?);
        scales.insert(name.to_owned(), replicas);
        let options = UpOptions {
            wanted: Wanted { services: [name.to_owned()].into(), scales, ..Wanted::default() },
            within: WITHIN,
            ..UpOptions::default()
        };
        let up = timeout(WITHIN * 4, self.up(&options)).await;
        up.map_err(|_| Failure::Job("the engine takes too long".into()))?.map(drop)
    }

    /// What the balancer says of a service now.
    fn sample(&self, service: &Service, before: &mut Waited) -> Option<Sample> {
        let client = self.balancer.client()?;
        let mut names: Vec<String> =
            balanced_names(service).into_iter().map(|(name, _)| name).collect();
        names.dedup();
        let discovery = client.get("/v1/discovery").ok()?;
        let mut sample = Sample::default();
        let mut waited: Waited = (0, 0);
        for name in &names {
            let status = client.get(&format!("/v1/services/{}", segment(name))).ok()?;
            let endpoints = status["endpoints"].as_array()?;
            let leaves = |e: &&Value| e["state"] != "draining";
            let staying: Vec<&Value> = endpoints.iter().filter(leaves).collect();
            let in_flight = |e: &Value| e["in_flight"].as_f64().unwrap_or(0.0);
            sample.replicas = sample.replicas.max(staying.len());
            sample.in_flight += endpoints.iter().map(in_flight).sum::<f64>();
            sample.in_flight += status["queue"]["queued"].as_f64().unwrap_or(0.0);
            let share = staying.iter().filter_map(|e| share(&discovery, e["id"].as_str()?));
            let shares: Vec<f64> = share.collect();
            if !shares.is_empty() {
                sample.cpu = Some(shares.iter().sum::<f64>() / shares.len() as f64);
            }
            let queue = &status["queue"];
            let counts = queue["waited_us"].as_array().into_iter().flatten();
            waited.0 += counts.filter_map(|count| count[1].as_u64()).sum::<u64>();
            waited.1 += queue["waited_us_sum"].as_u64().unwrap_or(0);
        }
        let count = waited.0.saturating_sub(before.0);
        let micros = waited.1.saturating_sub(before.1);
        sample.queue_time = Duration::from_micros(micros.checked_div(count).unwrap_or(0));
        *before = waited;
        Some(sample)
    }
}

/// Of the processors that a container may use, the share that it does.
fn share(discovery: &Value, id: &str) -> Option<f64> {
    let providers = discovery["discovery"].as_array()?.iter();
    let mut usage = providers.filter_map(|provider| provider["usage"].as_array()).flatten();
    let usage = usage.find(|usage| usage["id"] == id)?;
    let limit = usage["cpus_limit"].as_f64().filter(|limit| *limit > 0.0)?;
    Some(usage["cpus"].as_f64()? / limit)
}
