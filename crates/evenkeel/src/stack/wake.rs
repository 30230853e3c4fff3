//! A service without containers while nobody asks for it: its last ones are drained and stopped, and
//! one is started when the balancer says that requests wait.
//!
//! A stopped container stays where it is: to start it again takes the engine less than to make one.

use std::fmt;
use std::time::{Duration, Instant};

use compose::observed::Observed;
use compose::project::Service;
use tokio::sync::watch;
use tokio::time::sleep;

use super::act::together;
use super::autoscale::{Scaling, changed};
use super::images::Fresh;
use super::turn::AUTOSCALE;
use super::{Balancer, Stack};
use crate::failure::Failure;

/// How long the first container may take to be well before it is stopped and tried again: as for a
/// new version.
const WITHIN: Duration = Duration::from_secs(60);

/// When somebody asks while the last container takes long to stop, so long it is left to itself
/// before another one is started beside it.
const BESIDE_AFTER: Duration = Duration::from_secs(1);

/// After the balancer did not answer.
const AGAIN: Duration = Duration::from_millis(200);

/// What became of the wish to have no containers.
pub(super) enum Slept {
    Stopped,
    /// Somebody asked before any was stopped.
    Stays,
    /// Somebody asked while the last one stopped, and another was started beside it.
    Woken(Result<Woken, Failure>),
}

/// How long the first container took.
pub(super) struct Woken {
    /// Until the engine was told to start it.
    look: Duration,
    /// From there until the engine said that it had.
    engine: Duration,
    /// From there until the balancer was seen to send it requests.
    well: Duration,
}

impl fmt::Display for Woken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { look, engine, well } = self;
        write!(
            f,
            "awake after {:.0?}: {look:.0?} to look, {engine:.0?} for the engine to start its \
             container, {well:.0?} until it was well",
            *look + *engine + *well
        )
    }
}

/// Asks the balancer, on a thread of its own and for as long as the process runs, who is asked for;
/// it answers as soon as somebody is.
pub(super) fn listen(balancer: Balancer, tell: watch::Sender<u64>) {
    std::thread::spawn(move || {
        let mut after = None;
        while !tell.is_closed() {
            let path = match after {
                None => "/v1/demand".to_owned(),
                Some(seq) => format!("/v1/demand?after={seq}"),
            };
            let answer = balancer.client().and_then(|client| client.get(&path).ok());
            let Some(answer) = answer else {
                // Another one counts from the beginning.
                after = None;
                std::thread::sleep(AGAIN);
                continue;
            };
            after = answer["seq"].as_u64();
            if answer["demand"].as_array().is_some_and(|demand| !demand.is_empty()) {
                tell.send_modify(|count| *count += 1);
            }
        }
    });
}

impl Stack {
    /// Starts the first container, and waits until it is well; those in `leaving` do not count. One
    /// that is not well in time is stopped.
    pub(super) async fn wake(
        &self,
        service: &Service,
        scaling: &Scaling,
        leaving: &[String],
    ) -> Result<Woken, Failure> {
        let begun = Instant::now();
        let (id, engine) = {
            let _turn = scaling.acting.lock().await;
            self.start_first(service, leaving).await?
        };
        let look = begun.elapsed().saturating_sub(engine);
        if let Err(why) = self.wait_well(service, &id, WITHIN).await {
            let grace = service.stop_grace.unwrap_or(Duration::from_secs(10));
            let _ = self.engine.post_patiently(&format!("/containers/{id}/stop"), grace).await;
            return Err(Failure::Job(why));
        }
        let well = begun.elapsed().saturating_sub(look + engine);
        Ok(Woken { look, engine, well })
    }

    /// Its id, and how long the engine took for it.
    async fn start_first(
        &self,
        service: &Service,
        leaving: &[String],
    ) -> Result<(String, Duration), Failure> {
        let own = self.own(service, leaving).await?;
        if let Some(running) = own.iter().find(|container| container.runs()) {
            // It may be one that was drained, by an autoscaler that ended before it was stopped.
            let _turn = self.turn_or_other_deploy(&service.name).await?;
            self.undrain(service, &running.id);
            return Ok((running.id.clone(), Duration::ZERO));
        }
        let images = self.images(std::iter::once(service), Fresh::default()).await?;
        let hashes = self.hashes(std::iter::once(service), &images);
        let current = |c: &&Observed| {
            hashes.get(&service.name) == Some(&c.hash)
                && (c.state == "exited" || c.state == "created")
        };
        if let Some(stopped) = own.iter().find(current) {
            eprintln!("{}: start", stopped.name);
            let begun = Instant::now();
            let _turn = self.turn_or_other_deploy(&service.name).await?;
            self.with_mounts(service, &stopped.hash)?;
            self.start(&stopped.id).await?;
            return Ok((stopped.id.clone(), begun.elapsed()));
        }
        // Made anew, with all that it needs. Whether it is well is looked at by who called.
        let _turn = self.claim(AUTOSCALE).await?;
        let options = self.as_they_are(&service.name, 1 + leaving.len(), Duration::ZERO).await?;
        let begun = Instant::now();
        self.up(&options).await?;
        let engine = begun.elapsed();
        let own = self.own(service, leaving).await?;
        let new = own.iter().find(|container| container.runs());
        new.map(|container| (container.id.clone(), engine))
            .ok_or_else(|| Failure::Job("its container ended at once".into()))
    }

    /// Drains all containers of a service, and stops them unless somebody asks for it meanwhile. One
    /// stays, stopped.
    pub(super) async fn sleep(
        &self,
        service: &Service,
        scaling: &Scaling,
        asked: &mut watch::Receiver<u64>,
    ) -> Result<Slept, Failure> {
        let mut own = self.own(service, &[]).await?;
        own.retain(Observed::runs);
        // From here on who comes waits in the balancer.
        let draining = own.iter().map(|container| async {
            self.drain(service, &container.id).await;
            Ok(())
        });
        together(draining.collect()).await?;
        if self.requests_held(service) > 0 {
            own.iter().for_each(|container| self.undrain(service, &container.id));
            return Ok(Slept::Stays);
        }
        let grace = service.stop_grace.unwrap_or(Duration::from_secs(10));
        let stopping = own.iter().map(|container| async move {
            eprintln!("{}: stop", container.name);
            let path = format!("/containers/{}/stop", container.id);
            match self.engine.post_patiently(&path, grace).await {
                Err(error) if !error.is_missing() => Err(Failure::from(error)),
                _ => Ok(()),
            }
        });
        let mut stopping = std::pin::pin!(together(stopping.collect()));
        let asks = async {
            while self.requests_held(service) == 0 {
                changed(asked).await;
            }
            sleep(BESIDE_AFTER).await;
        };
        let slept = tokio::select! {
            stopped = &mut stopping => stopped.map(|()| Slept::Stopped),
            () = asks => {
                let leaving: Vec<String> = own.iter().map(|c| c.id.clone()).collect();
                let woken = self.wake(service, scaling, &leaving);
                let (stopped, woken) = tokio::join!(stopping, woken);
                stopped.map(|()| Slept::Woken(woken))
            }
        };
        let keep = match &slept {
            Ok(Slept::Stopped) => 1,
            Ok(Slept::Woken(Ok(_))) => 0,
            // Something went wrong at the engine, or there is no other: none of them is removed.
            _ => {
                own.iter().for_each(|container| self.undrain(service, &container.id));
                own.len()
            }
        };
        for surplus in own.iter().skip(keep) {
            self.discard(&surplus.id).await;
        }
        slept
    }

    /// Its containers, but for these; the lowest number first.
    async fn own(&self, service: &Service, but: &[String]) -> Result<Vec<Observed>, Failure> {
        let mut own = self.containers().await?;
        own.retain(|container| container.service == service.name && !but.contains(&container.id));
        own.sort_by_key(|container| container.number);
        Ok(own)
    }

    /// How many wait for it although it sleeps.
    fn requests_held(&self, service: &Service) -> u64 {
        let statuses = self.statuses(service).unwrap_or_default();
        statuses.iter().filter(|status| status.asleep).map(|status| status.queue.queued).sum()
    }
}
