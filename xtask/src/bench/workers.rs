//! Ours with one worker and with two: what the second one adds, and how evenly the two work.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::load;
use super::origin::Origin;
use super::peer::{Door, OURS, Running, Setup};

/// Connections of the load.
const CONNECTIONS: u32 = 200;

pub(super) struct Scaling {
    /// Requests a second with two workers, over those with one.
    pub(super) speed_up: f64,
    /// CPU time of a request with two workers, over that with one: what they cost each other. The
    /// speed-up is at most two over this.
    pub(super) cost: f64,
    /// What the busier one did more than the mean of the two, as a share of that.
    pub(super) imbalance: f64,
}

pub(super) fn measure(
    ours: &str,
    origin: &Origin,
    work: &Path,
    length: Duration,
) -> Result<Scaling, String> {
    let setup = |workers| Setup { ours, workers, logs: false };
    let one = Running::start(&OURS, origin, work, setup(1))?;
    let alone = load::wrk(&one, &one.url(Door::Http, "/512"), CONNECTIONS, false, length)?;
    drop(one);
    let two = Running::start(&OURS, origin, work, setup(2))?;
    let before = ticks(two.process.id());
    let both = load::wrk(&two, &two.url(Door::Http, "/512"), CONNECTIONS, false, length)?;
    let after = ticks(two.process.id());
    let work: Vec<f64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
    let mean = work.iter().sum::<f64>() / work.len().max(1) as f64;
    let most = work.iter().copied().fold(0.0, f64::max);
    Ok(Scaling {
        speed_up: both.rate / alone.rate,
        cost: both.cost / alone.cost,
        imbalance: most / mean.max(1.0) - 1.0,
    })
}

/// CPU time of each worker so far, in ticks.
fn ticks(pid: u32) -> Vec<f64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut workers: Vec<(String, f64)> = tasks
        .filter_map(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).ok()?;
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
            let fields: Vec<f64> = rest.split(' ').filter_map(|f| f.parse().ok()).collect();
            // The letter of its state is no number: user and system time come one place earlier.
            Some((name.to_owned(), fields.get(10)? + fields.get(11)?))
        })
        .filter(|(name, _)| name.starts_with("worker-"))
        .collect();
    workers.sort_by(|a, b| a.0.cmp(&b.0));
    workers.into_iter().map(|(_, ticks)| ticks).collect()
}
