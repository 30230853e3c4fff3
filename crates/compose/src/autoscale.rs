//! How many replicas the load asks for: a controller without a clock.
//!
//! The targets are per replica: requests in flight, the share of a processor. What is asked for is
//! `ceil(now * measured / target)`, as the Horizontal Pod Autoscaler of Kubernetes computes it, with
//! its dead band of a tenth. The time that requests wait in the balancer's queue is no measure of
//! how many more are needed: above its target up to twice as many are asked for, and one fewer
//! where nobody waits. Of several targets the one that asks for most decides. The number grows once it was asked to for `up_after`, and shrinks once
//! for `down_after` nothing asked for more: to the most that was asked for meanwhile.

use std::collections::VecDeque;
use std::time::Duration;

use model::Instant;

/// A ratio so near to 1 changes nothing.
const TOLERANCE: f64 = 0.1;

/// Samples kept; older ones than `down_after` are of no use, and a sampling that is too quick
/// loses the oldest.
const SAMPLES_MAX: usize = 4096;

/// Of one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Default 1.
    pub min: usize,
    /// Default 10.
    pub max: usize,
    /// Requests, or streams, that one replica should have at once.
    pub in_flight: Option<f64>,
    /// The share of the processors that a replica may use, 0 to 1.
    pub cpu: Option<f64>,
    /// How long a request may wait for a replica with room.
    pub queue_time: Option<Duration>,
    /// How long more must be asked for. Default 3 s.
    pub up_after: Duration,
    /// How long less must be asked for. Default 1 min.
    pub down_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            min: 1,
            max: 10,
            in_flight: None,
            cpu: None,
            queue_time: None,
            up_after: Duration::from_secs(3),
            down_after: Duration::from_secs(60),
        }
    }
}

/// What was measured at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Replicas that run.
    pub replicas: usize,
    /// Of all replicas together, with those that wait for one.
    pub in_flight: f64,
    /// Mean time that requests waited, since the sample before.
    pub queue_time: Duration,
    /// Mean share of the processors that they may use.
    pub cpu: Option<f64>,
}

/// What is to be done, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub replicas: usize,
    pub reason: String,
}

/// The memory of one service's controller.
#[derive(Clone, Debug)]
pub struct Controller {
    settings: Settings,
    /// When, and how many were asked for; the oldest first.
    asked: VecDeque<(Instant, usize)>,
}

impl Controller {
    pub fn new(settings: Settings) -> Self {
        Self { settings, asked: VecDeque::new() }
    }

    /// Takes a sample; `Some` if the number of replicas is to change.
    pub fn sample(&mut self, now: Instant, sample: Sample) -> Option<Decision> {
        let Settings { min, max, up_after, down_after, .. } = self.settings;
        let (asked, why) = self.ask(&sample);
        let keep = up_after.max(down_after);
        // One older than the window stays: it says that the window is full.
        while self.asked.get(1).is_some_and(|(at, _)| now.since(*at) >= keep)
            || self.asked.len() >= SAMPLES_MAX
        {
            self.asked.pop_front();
        }
        self.asked.push_back((now, asked));
        if sample.replicas < min {
            let reason = format!("fewer than min {min}");
            return Some(Decision { replicas: min, reason });
        }
        if sample.replicas > max {
            let reason = format!("more than max {max}");
            return Some(Decision { replicas: max, reason });
        }
        if let Some(least) = self.within(now, up_after).min()
            && self.covers(now, up_after)
            && least > sample.replicas
        {
            let reason = format!("{why}, for {up_after:?}");
            return Some(Decision { replicas: least, reason });
        }
        if let Some(most) = self.within(now, down_after).max()
            && self.covers(now, down_after)
            && most < sample.replicas
        {
            let reason = format!("{why}; at most {most} were asked for in {down_after:?}");
            return Some(Decision { replicas: most, reason });
        }
        None
    }

    /// How many replicas the sample asks for, and what it is that asks.
    fn ask(&self, sample: &Sample) -> (usize, String) {
        let replicas = sample.replicas.max(1);
        let mut asked = self.settings.min;
        let mut why = String::from("nothing is asked for");
        let mut measure = |measured: f64, target: f64, what: String| {
            let ratio = measured / target;
            let wanted = if (ratio - 1.0).abs() <= TOLERANCE {
                replicas
            } else {
                (replicas as f64 * ratio).ceil() as usize
            };
            if wanted >= asked {
                asked = wanted;
                why = what;
            }
        };
        if let Some(target) = self.settings.in_flight {
            let each = sample.in_flight / replicas as f64;
            measure(each, target, format!("{each:.1} in flight each, target {target}"));
        }
        if let (Some(target), Some(cpu)) = (self.settings.cpu, sample.cpu) {
            let what =
                format!("{:.0}% of a processor each, target {:.0}%", cpu * 1e2, target * 1e2);
            measure(cpu, target, what);
        }
        if let Some(target) = self.settings.queue_time {
            let waited = sample.queue_time;
            let ratio = waited.as_secs_f64() / target.as_secs_f64().max(1e-6);
            let wanted = match ratio {
                _ if waited.is_zero() => replicas - 1,
                ratio if ratio <= 1.0 + TOLERANCE => replicas,
                ratio => (replicas as f64 * ratio.min(2.0)).ceil() as usize,
            };
            if wanted >= asked {
                asked = wanted;
                why = format!("requests wait {waited:.0?}, target {target:?}");
            }
        }
        (asked.clamp(self.settings.min, self.settings.max), why)
    }

    fn within(&self, now: Instant, window: Duration) -> impl Iterator<Item = usize> {
        let recent = move |(at, _): &&(Instant, usize)| now.since(*at) <= window;
        self.asked.iter().filter(recent).map(|(_, asked)| *asked)
    }

    /// Whether samples reach back as far as the window.
    fn covers(&self, now: Instant, window: Duration) -> bool {
        self.asked.front().is_some_and(|(at, _)| now.since(*at) >= window)
    }
}

#[cfg(test)]
mod tests;
