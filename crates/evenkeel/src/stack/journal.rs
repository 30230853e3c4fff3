//! What a `deploy` has done so far, in a file, so that another verb can take it back if it was killed.
//!
//! Killed, it leaves weights in the balancer that make one container out of hundred of another's
//! requests, new containers beside old ones, and old ones stopped. None of that loses requests, so it
//! may wait for whoever comes next: `up`, `scale`, `deploy` or `autoscale`. Only who has the project's
//! turn ([`super::turn`]) reads or writes it, so nobody takes it for a dead one's before it is.

use std::time::{Duration, Instant};

use compose::observed::Observed;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::Stack;
use super::deployment::Progress;
use super::drain::POLL;
use crate::failure::Failure;

/// Its name in the project's folder.
const JOURNAL: &str = "deploy";

/// How long the engine may take to make a container for a client that is dead.
const MADE_MAX: Duration = Duration::from_secs(5);

/// Of one service at a time: two rollouts of one project would not know of each other's weights.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    service: String,
    /// The containers before it began.
    own: Vec<String>,
    new: Vec<String>,
    stopped: Vec<String>,
    /// The name of the container that the engine is asked for.
    #[serde(default)]
    asked_for: Option<String>,
    /// All new ones serve: what is left is to clear up.
    done: bool,
}

impl Record {
    pub(super) fn begin(service: &str, own: &[&Observed]) -> Self {
        Self {
            service: service.to_owned(),
            own: own.iter().map(|container| container.id.clone()).collect(),
            new: Vec::new(),
            stopped: Vec::new(),
            asked_for: None,
            done: false,
        }
    }

    /// What is done. Nothing is asked for any more.
    pub(super) fn note(&mut self, progress: &Progress) {
        self.asked_for = None;
        self.new.clone_from(&progress.new);
        self.stopped = progress.stopped.iter().map(|container| container.id.clone()).collect();
    }

    pub(super) fn ask_for(&mut self, name: String) {
        self.asked_for = Some(name);
    }

    pub(super) fn finish(&mut self) {
        self.done = true;
    }
}

impl Stack {
    /// A deploy of it was begun and has not ended.
    pub(super) fn is_half_deployed(&self, service: &str) -> bool {
        self.journal().is_some_and(|record| record.service == service)
    }

    fn journal(&self) -> Option<Record> {
        serde_json::from_str(&self.balancer.read(JOURNAL)?).ok()
    }

    /// Before what it says is done: that it cannot be kept is a reason not to begin.
    pub(super) fn write_journal(&self, record: &Record) -> Result<(), Failure> {
        self.still_has_the_turn()?;
        self.balancer.write(JOURNAL, &serde_json::to_string(record).unwrap_or_default())
    }

    pub(super) fn end_journal(&self) {
        if self.still_has_the_turn().is_ok() {
            self.balancer.forget(JOURNAL);
        }
    }

    /// Takes back a `deploy` that was killed, or clears up behind one that had come to its end. Of
    /// who has the turn: then none is under way.
    pub(super) async fn recover(&self) -> Result<(), Failure> {
        self.still_has_the_turn()?;
        let Some(record) = self.journal() else { return Ok(()) };
        let name = &record.service;
        eprintln!("a deploy of {name} was killed; it is taken back");
        self.discard_once_made(&record).await?;
        let containers = self.containers().await?;
        let found = |ids: &[String]| -> Vec<&Observed> {
            containers.iter().filter(|container| ids.contains(&container.id)).collect()
        };
        if let Ok(service) = self.service(name) {
            let own = found(&record.own);
            let new = found(&record.new).into_iter().map(|new| new.id.clone()).collect();
            let stopped = found(&record.stopped).into_iter().cloned().collect();
            let progress = Progress::of(new, stopped);
            match record.done {
                true => self.settle(service, &own, &progress).await,
                // What cannot be taken back may be what the next deploy is to mend.
                false => {
                    if let Err(failure) = self.back(service, &own, &progress).await {
                        eprintln!("{name}: {failure}");
                    }
                }
            }
        }
        self.end_journal();
        Ok(())
    }

    /// What the engine was asked for and may be making still: that its client has gone does not keep
    /// it from going on.
    pub(super) async fn discard_once_made(&self, record: &Record) -> Result<(), Failure> {
        let Some(name) = &record.asked_for else { return Ok(()) };
        let begun = Instant::now();
        while begun.elapsed() < MADE_MAX {
            let containers = self.containers().await?;
            if let Some(made) = containers.iter().find(|container| container.name == *name) {
                // It was never started; what runs is somebody else's.
                if made.state == "created" {
                    self.discard(&made.id).await;
                }
                return Ok(());
            }
            sleep(POLL).await;
        }
        Ok(())
    }
}
