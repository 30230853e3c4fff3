//! What a `deploy` has done so far, in a file, so that another verb can take it back if it was killed.
//!
//! Killed, it leaves weights in the balancer that make one container out of hundred of another's
//! requests, new containers beside old ones, and old ones stopped. None of that loses requests, so it
//! may wait for whoever comes next: `up`, `scale`, `deploy` or `autoscale`.

use std::fs;

use compose::observed::Observed;
use serde::{Deserialize, Serialize};

use super::deployment::Progress;
use super::{Balancer, Stack};
use crate::failure::Failure;

/// Of one service at a time: two rollouts of one project would not know of each other's weights.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// The process that is at it, and when it began, in ticks since the machine did: numbers of
    /// processes are used again.
    process: (u32, u64),
    service: String,
    /// The containers before it began.
    own: Vec<String>,
    new: Vec<String>,
    stopped: Vec<String>,
    /// All new ones serve: what is left is to clear up.
    done: bool,
}

impl Record {
    pub(super) fn begin(service: &str, own: &[&Observed]) -> Self {
        let pid = std::process::id();
        Self {
            process: (pid, began(pid).unwrap_or(0)),
            service: service.to_owned(),
            own: own.iter().map(|container| container.id.clone()).collect(),
            new: Vec::new(),
            stopped: Vec::new(),
            done: false,
        }
    }

    fn is_under_way(&self) -> bool {
        let (pid, at) = self.process;
        began(pid) == Some(at)
    }
}

/// The 22nd field of `/proc/PID/stat` (proc(5)); `None`: there is no such process.
fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may have anything in it.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

impl Balancer {
    pub(super) fn journal(&self) -> Option<Record> {
        serde_json::from_str(&self.read("deploy")?).ok()
    }

    /// Before what it says is done: that it cannot be kept is a reason not to begin.
    pub(super) fn write_journal(&self, record: &Record) -> Result<(), Failure> {
        self.write("deploy", &serde_json::to_string(record).unwrap_or_default())
    }

    pub(super) fn end_journal(&self) {
        self.forget("deploy");
    }
}

impl Record {
    pub(super) fn note(&mut self, progress: &Progress) {
        self.new.clone_from(&progress.new);
        self.stopped = progress.stopped.iter().map(|container| container.id.clone()).collect();
    }

    pub(super) fn finish(&mut self) {
        self.done = true;
    }
}

impl Stack {
    /// Takes back a `deploy` that was killed, or clears up behind one that had come to its end. An
    /// error if one is under way.
    pub(crate) async fn recover(&self) -> Result<(), Failure> {
        let Some(record) = self.balancer.journal() else { return Ok(()) };
        let name = &record.service;
        if record.is_under_way() {
            let pid = record.process.0;
            return Err(Failure::Job(format!("a deploy of {name} is under way (process {pid})")));
        }
        eprintln!("a deploy of {name} was killed; it is taken back");
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
        self.balancer.end_journal();
        Ok(())
    }
}
