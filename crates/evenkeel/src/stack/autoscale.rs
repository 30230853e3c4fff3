//! Measures, asks the controllers, and does what they decide, until it is stopped.

use std::cell::RefCell;
use std::future::pending;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use compose::autoscale::{Controller, Sample, Settings};
use compose::balancer::{balanced_names, sleeps};
use compose::plan::Wanted;
use compose::project::Service;
use model::Instant;
use model::status::{ScalingStatus, ServiceStatus};
use serde_json::Value;
use tokio::sync::{Mutex, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::act::together;
use super::turn::AUTOSCALE;
use super::wake::{Slept, listen};
use super::{Stack, UpOptions};
use crate::client::encoded;
use crate::failure::Failure;

/// How long a new container may take to be well; the load is not looked at meanwhile.
const WITHIN: Duration = Duration::from_secs(30);

/// For all that one decision to scale takes, images included.
pub(super) const SCALE_MAX: Duration = Duration::from_secs(4 * WITHIN.as_secs());

/// Waits counted so far: how many, and microseconds of all.
type Waited = (u64, u64);

/// What the services of one project share.
pub(super) struct Scaling {
    begun: std::time::Instant,
    /// Held while containers are made or started: two of them may want the same dependency.
    pub(super) acting: Mutex<()>,
    /// Counts how often the balancer said that somebody waits for a service that sleeps.
    pub(super) asked: watch::Receiver<u64>,
    decisions: RefCell<Vec<ScalingStatus>>,
}

impl Scaling {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.begun.elapsed().as_nanos() as u64)
    }
}

impl Stack {
    /// Without end. The last decisions are shown by `ps` and `status`.
    pub(crate) async fn autoscale(&self, every: Duration) -> Result<(), Failure> {
        let services = self.project.services.values();
        let scaled: Vec<(&Service, &Settings)> =
            services.filter_map(|s| Some((s, s.balancing.autoscale.as_ref()?))).collect();
        if scaled.is_empty() {
            let help = "no service has `x-evenkeel: { autoscale: { max: 5, in_flight: 20 } }`";
            return Err(Failure::Job(help.into()));
        }
        {
            let _turn = self.claim(AUTOSCALE).await?;
            self.recover().await?;
        }
        let (tell, asked) = watch::channel(0);
        if scaled.iter().any(|(service, _)| sleeps(service)) {
            listen(self.balancer.clone(), tell);
        }
        let scaling = Scaling {
            begun: std::time::Instant::now(),
            acting: Mutex::new(()),
            asked,
            decisions: RefCell::new(self.balancer.decisions()),
        };
        let each = scaled
            .into_iter()
            .map(|(service, settings)| self.scale_with_load(service, settings, every, &scaling));
        together(each.collect()).await
    }

    /// One service, without end.
    async fn scale_with_load(
        &self,
        service: &Service,
        settings: &Settings,
        every: Duration,
        scaling: &Scaling,
    ) -> Result<(), Failure> {
        let name = &service.name;
        let mut controller = Controller::new(settings.clone());
        let mut asked = scaling.asked.clone();
        let mut waited = Waited::default();
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut at_once = false;
        // Who was at it when a decision had to wait; said once.
        let mut refused: Option<String> = None;
        loop {
            if !std::mem::take(&mut at_once) {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = changed(&mut asked) => {}
                }
            }
            // While nobody answers, nothing is known, and nothing is changed.
            let Some(sample) = self.sample(service, &mut waited) else { continue };
            let Some(decision) = controller.sample(scaling.now(), sample) else { continue };
            let wakes = sample.replicas == 0 && settings.min == 0;
            // Somebody waits who is to be woken for, and a container that is there can be started
            // while another service is deployed; anything more takes a turn then.
            let turn = match wakes {
                true => self.turn_or_other_deploy(name).await,
                false => self.claim(AUTOSCALE).await.map(Some),
            };
            let _turn = match turn {
                Ok(turn) => turn,
                Err(failure) => {
                    let failure = failure.to_string();
                    if refused.as_ref() != Some(&failure) {
                        eprintln!("{name}: {failure}");
                    }
                    refused = Some(failure);
                    continue;
                }
            };
            refused = None;
            self.tell(scaling, name, (sample.replicas, decision.replicas), &decision.reason);
            let done = match (sample.replicas, decision.replicas) {
                (0, _) if settings.min == 0 => {
                    let woken = self.wake(service, scaling, &[]).await;
                    self.note_wake(&mut controller, service, woken, scaling);
                    Ok(())
                }
                (from, 0) => match self.sleep(service, scaling, &mut asked).await {
                    Ok(Slept::Stopped) => {
                        at_once = true;
                        Ok(())
                    }
                    Ok(Slept::Stays) => {
                        controller.woke();
                        self.tell(scaling, name, (0, from), "a request came while it drained");
                        Ok(())
                    }
                    Ok(Slept::Woken(woken)) => {
                        self.tell(scaling, name, (0, 1), "a request came while it stopped");
                        self.note_wake(&mut controller, service, woken, scaling);
                        Ok(())
                    }
                    Err(failure) => Err(failure),
                },
                (_, replicas) => self.scale_to(name, replicas, scaling).await,
            };
            if let Err(failure) = done {
                eprintln!("{name}: {failure}");
            }
        }
    }

    /// What came of the attempt to bring the first container back.
    fn note_wake(
        &self,
        controller: &mut Controller,
        service: &Service,
        woken: Result<super::wake::Woken, Failure>,
        scaling: &Scaling,
    ) {
        match woken {
            Ok(woken) => {
                controller.woke();
                eprintln!("{}: {woken}", service.name);
            }
            Err(failure) => {
                controller.woke_in_vain(scaling.now());
                let reason = format!("it could not be woken: {failure}");
                self.tell(scaling, &service.name, (1, 0), &reason);
            }
        }
    }

    /// Tells the user, and the balancer, for `status`. That it has not heard is no reason to fail.
    fn tell(&self, scaling: &Scaling, service: &str, (from, to): (usize, usize), reason: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let service = service.to_owned();
        let unix_ms = now.as_millis() as u64;
        let decision = ScalingStatus { service, from, to, reason: reason.to_owned(), unix_ms };
        eprintln!("{}", line(&decision));
        self.balancer.tell(&decision);
        let mut decisions = scaling.decisions.borrow_mut();
        decisions.push(decision);
        self.balancer.keep(&mut decisions);
    }

    pub(super) async fn scale_to(
        &self,
        name: &str,
        replicas: usize,
        scaling: &Scaling,
    ) -> Result<(), Failure> {
        let _turn = scaling.acting.lock().await;
        let up = timeout(SCALE_MAX, async {
            let options = self.as_they_are(name, replicas, WITHIN).await?;
            self.up(&options).await
        });
        up.await.map_err(|_| Failure::Job("the engine takes too long".into()))?.map(drop)
    }

    /// So many of one service, and of the others what there is. Of who has the turn.
    pub(crate) async fn as_they_are(
        &self,
        name: &str,
        replicas: usize,
        within: Duration,
    ) -> Result<UpOptions, Failure> {
        // What a deploy that was killed has left is not what there is.
        self.recover().await?;
        let mut scales = Stack::counts(&self.containers().await?);
        // Another that sleeps is not woken because this one depends on it.
        for service in self.project.services.values().filter(|service| sleeps(service)) {
            scales.entry(service.name.clone()).or_insert(0);
        }
        scales.insert(name.to_owned(), replicas);
        let wanted = Wanted { services: [name.to_owned()].into(), scales, ..Wanted::default() };
        Ok(UpOptions { wanted, within, ..UpOptions::default() })
    }

    /// What the balancer says of a service now.
    fn sample(&self, service: &Service, before: &mut Waited) -> Option<Sample> {
        let client = self.balancer.client()?;
        let discovery = client.get("/v1/discovery").ok()?;
        let mut sample = Sample::default();
        let mut waited: Waited = (0, 0);
        for status in self.statuses(service)? {
            let staying: Vec<_> = status
                .endpoints
                .iter()
                .filter(|e| e.state != model::status::EndpointState::Draining)
                .collect();
            sample.replicas = sample.replicas.max(staying.len());
            sample.in_flight +=
                status.endpoints.iter().map(|e| f64::from(e.in_flight)).sum::<f64>();
            sample.in_flight += status.queue.queued as f64;
            sample.held += if status.asleep { status.queue.queued as usize } else { 0 };
            let (busy, activity) = status.activity();
            sample.busy |= busy;
            sample.activity = sample.activity.wrapping_add(activity);
            let shares: Vec<f64> =
                staying.iter().filter_map(|e| share(&discovery, &e.id)).collect();
            if !shares.is_empty() {
                sample.cpu = Some(shares.iter().sum::<f64>() / shares.len() as f64);
            }
            waited.0 += status.queue.waited_us.iter().map(|(_, count)| count).sum::<u64>();
            waited.1 += status.queue.waited_us_sum;
        }
        let count = waited.0.saturating_sub(before.0);
        let micros = waited.1.saturating_sub(before.1);
        sample.queue_time = Duration::from_micros(micros.checked_div(count).unwrap_or(0));
        *before = waited;
        Some(sample)
    }

    /// What the balancer says of each of a service's ports; `None`: it does not answer.
    pub(super) fn statuses(&self, service: &Service) -> Option<Vec<ServiceStatus>> {
        let client = self.balancer.client()?;
        let mut names: Vec<String> =
            balanced_names(service).into_iter().map(|(name, _)| name).collect();
        names.dedup();
        let read = |name: &String| {
            let status = client.get(&format!("/v1/services/{}", encoded(name))).ok()?;
            serde_json::from_value(status).ok()
        };
        names.iter().map(read).collect()
    }
}

/// As `ps` shows a decision, and the autoscaler prints it.
pub(crate) fn line(decision: &ScalingStatus) -> String {
    let ScalingStatus { service, from, to, reason, .. } = decision;
    format!("{service}: {from} -> {to} containers: {reason}")
}

/// The next time that somebody asked. Never, if nobody listens for it.
pub(super) async fn changed(asked: &mut watch::Receiver<u64>) {
    if asked.changed().await.is_err() {
        pending().await
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
