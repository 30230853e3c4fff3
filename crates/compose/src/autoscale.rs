//! How many replicas the load asks for, and when none is needed at all: a controller without a clock.
//!
//! The targets are per replica: requests in flight, the share of a processor. What is asked for is
//! `ceil(now * measured / target)`, as the Horizontal Pod Autoscaler of Kubernetes computes it, with
//! its dead band of a tenth. The time that requests wait in the balancer's queue is no measure of
//! how many more are needed: above its target up to twice as many are asked for, and one fewer
//! where nobody waits. Of several targets the one that asks for most decides. The number grows once it was asked to for `up_after`, and shrinks once
//! for `down_after` nothing asked for more: to the most that was asked for meanwhile.
//!
//! With a minimum of 0 load never takes away the last replica: only idleness does, all that there
//! are, once nothing came for `idle`. Then the first that waits brings one back at once. Where it came
//! to nothing, the next attempt waits for [`RETRY_MIN`] and twice as long after each further failure.

use std::collections::VecDeque;
use std::time::Duration;

use model::Instant;

/// A ratio so near to 1 changes nothing.
const TOLERANCE: f64 = 0.1;

/// Samples kept; older ones than `down_after` are of no use, and a sampling that is too quick
/// loses the oldest.
const SAMPLES_MAX: usize = 4096;

/// Between two attempts to bring back the first replica; a container that ends at once would
/// otherwise be started without end.
pub const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Of one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Default 1. 0: none while nobody asks.
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
    /// With a minimum of 0: how long nothing may come until there is none. Default 5 min.
    pub idle: Duration,
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
            idle: Duration::from_secs(300),
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
    /// Anything is in flight or waits.
    pub busy: bool,
    /// Another number whenever something came since.
    pub activity: u64,
    /// Waiting for the first replica, as there is none.
    pub held: usize,
}

/// For how long a service has had nothing to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Idle {
    /// The number of what came so far, and since when it is that one.
    quiet: Option<(u64, Instant)>,
}

impl Idle {
    /// `busy`: something is in flight, or waits. `activity` is another number whenever something
    /// came since. Answers for how long neither was so.
    pub fn look(&mut self, now: Instant, busy: bool, activity: u64) -> Duration {
        match self.quiet {
            Some((before, since)) if !busy && before == activity => now.since(since),
            _ => {
                self.quiet = Some((activity, now));
                Duration::ZERO
            }
        }
    }
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
    idle: Idle,
    /// After the first replica could not be brought back: when that is tried again, and how long it
    /// is put off then.
    retry: Option<(Instant, Duration)>,
}

impl Controller {
    pub fn new(settings: Settings) -> Self {
        Self { settings, asked: VecDeque::new(), idle: Idle::default(), retry: None }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What [`Controller::sample`] decided on from zero came to nothing.
    pub fn woke_in_vain(&mut self, now: Instant) {
        let pause = self.retry.map_or(RETRY_MIN, |(_, pause)| (pause * 2).min(RETRY_MAX));
        self.retry = Some((now + pause, pause));
    }

    /// It has a replica again that works.
    pub fn woke(&mut self) {
        self.retry = None;
        self.asked.clear();
        self.idle = Idle::default();
    }

    /// Takes a sample; `Some` if the number of replicas is to change.
    pub fn sample(&mut self, now: Instant, sample: Sample) -> Option<Decision> {
        let Settings { min, max, up_after, down_after, .. } = self.settings;
        let quiet = self.idle.look(now, sample.busy, sample.activity);
        if min == 0 && sample.replicas == 0 {
            self.asked.clear();
            if sample.held == 0 || self.retry.is_some_and(|(at, _)| now < at) {
                return None;
            }
            let reason = match sample.held {
                1 => "1 request waits".to_owned(),
                held => format!("{held} requests wait"),
            };
            return Some(Decision { replicas: 1, reason });
        }
        if min == 0 && quiet >= self.settings.idle {
            let reason = format!("idle for {:?}", self.settings.idle);
            return Some(Decision { replicas: 0, reason });
        }
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
        let least = self.settings.min.max(1);
        let mut asked = least;
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
        (asked.clamp(least, self.settings.max.max(1)), why)
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
