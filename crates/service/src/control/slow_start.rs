//! Slow start: an endpoint that begins to serve beside others gets to its share by steps.
//!
//! Every endpoint that becomes healthy begins a ramp, the first ones of a service too; what counts
//! is how far each is compared with whoever is furthest. So where all begin together nobody gets
//! less, and a change of priority or subset begins no ramp.

use std::time::Duration;

use health::Ramp;
use model::Instant;

use super::outliers::median_of_others;
use super::{Control, Stale};
use crate::member::Member;

/// Steps of a ramp: two percent each.
const STEPS: u32 = 50;

/// Steps come no faster: each is a new snapshot.
const STEP_MIN: Duration = Duration::from_millis(50);

impl Control {
    pub(super) fn update_slow_start(&mut self) {
        if self.spec.slow_start.is_none() {
            self.ramping.clear();
            self.members.values_mut().for_each(|member| member.ramp = None);
        }
        self.pending.stale = Stale::Now;
    }

    /// How often ramps make a step; `None`: there are none.
    pub(super) fn ramp_interval(&self) -> Option<Duration> {
        let spec = self.spec.slow_start.as_ref().filter(|_| !self.ramping.is_empty())?;
        Some((spec.window / STEPS).max(STEP_MIN))
    }

    /// Whoever became healthy since the last snapshot begins a ramp; whoever no longer is has none.
    pub(super) fn begin_ramps(&mut self, now: Instant) {
        let on = self.spec.slow_start.is_some();
        for (key, member) in &mut self.members {
            let healthy = member.is_healthy();
            if on && healthy && !member.role.was_healthy {
                member.ramp = Some(Ramp::new(now));
                member.role.successes = member.handle.load.tally().successes;
                self.ramping.insert(*key);
            } else if !healthy && member.ramp.take().is_some() {
                self.ramping.remove(key);
            }
            member.role.was_healthy = healthy;
        }
    }

    pub(super) fn step_ramps(&mut self, now: Instant) {
        let spec = self.spec.clone();
        let Some(spec) = spec.slow_start.as_ref().filter(|_| !self.ramping.is_empty()) else {
            return;
        };
        let latency = |(key, member): (&u64, &Member)| Some((member.handle.load.latency()?, *key));
        let healthy = self.members.iter().filter(|(_, member)| member.is_healthy());
        let mut latencies: Vec<(Duration, u64)> = healthy.filter_map(latency).collect();
        latencies.sort_unstable();
        let (members, ramping) = (&mut self.members, &mut self.ramping);
        ramping.retain(|key| {
            let Some(member) = members.get_mut(key) else { return false };
            let Some(ramp) = &mut member.ramp else { return false };
            let load = &member.handle.load;
            let successes = load.tally().successes;
            // What was measured before it began, or long ago, says nothing of now.
            let measured = load.latency().filter(|_| successes > member.role.successes);
            member.role.successes = successes;
            let slow = |limit: f64| {
                let others = median_of_others(&latencies, *key);
                measured.zip(others).is_some_and(|(own, others)| own > others.mul_f64(limit))
            };
            let over = ramp.step(now, spec.hold_above.is_some_and(slow), spec);
            if over {
                member.ramp = None;
            }
            !over
        });
        self.pending.stale = self.pending.stale.max(Stale::Soon);
    }
}
