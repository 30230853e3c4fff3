//! Slow start: an endpoint that begins to serve beside others gets to its share by steps.
//!
//! Every endpoint that becomes healthy begins a ramp, the first ones of a service too; what counts
//! is how far each is compared with whoever is furthest. So where all begin together nobody gets
//! less, and a change of priority or subset begins no ramp.

use std::time::Duration;

use balance::Candidate;
use health::Ramp;
use model::Instant;

use super::outliers::median_of_others;
use super::{Control, Stale};
use crate::member::Member;

/// Steps of a ramp: two percent each.
const STEPS: u32 = 50;

/// Steps come no faster: each is a new snapshot.
const STEP_MIN: Duration = Duration::from_millis(50);

/// While somebody gets up to his share, weights are multiplied by this, as far as they fit, so
/// that whole numbers can say a percent of a weight of 1.
const SCALE: u16 = 100;

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

    /// The candidates of a snapshot, and what their weights are multiplied by.
    pub(super) fn candidates(&mut self, keys: &[u64]) -> (Vec<Candidate>, u16) {
        let spec = self.spec.clone();
        let share = |member: &Member| match (&member.ramp, &spec.slow_start) {
            (Some(ramp), Some(spec)) => ramp.share(spec),
            _ => 1.0,
        };
        let used = || keys.iter().filter_map(|key| self.members.get(key));
        let weighty = || used().filter(|member| member.weight().0 > 0);
        let most = weighty().map(share).fold(0.0, f64::max);
        let ramps = !self.ramping.is_empty() && weighty().any(|m| percent(share(m), most) < 100);
        let heaviest = used().map(|member| member.weight().0).max().unwrap_or(0).max(1);
        let scale = if ramps { SCALE.min(u16::MAX / heaviest) } else { 1 };
        let mut candidates = Vec::with_capacity(keys.len());
        self.members.values_mut().for_each(|member| member.role.share = None);
        for key in keys {
            let Some(member) = self.members.get_mut(key) else { continue };
            let mut weight = member.weight().0;
            if ramps && weight > 0 {
                let percent = percent(share(member), most);
                member.role.share = (percent < 100).then_some(percent);
                let scaled = u64::from(weight) * u64::from(scale) * u64::from(percent) / 100;
                weight = u16::try_from(scaled).unwrap_or(u16::MAX).max(1);
            }
            let zone = member.endpoint.zone.clone();
            candidates.push(Candidate { weight, zone, identity_hash: member.identity_hash() });
        }
        (candidates, scale)
    }
}

/// Of whoever is furthest; 1 to 100.
fn percent(share: f64, most: f64) -> u8 {
    if share >= most { 100 } else { ((share / most * 100.0).round() as u8).clamp(1, 100) }
}
