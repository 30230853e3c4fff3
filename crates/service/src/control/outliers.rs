//! Outliers: which endpoints are ejected on the evidence of their own traffic, and when they are
//! taken back.
//!
//! Failures in a row are judged as soon as the data path tells of them; error rates and latencies
//! by windows, when the time for that comes. An ejected endpoint returns when its time is over,
//! and before that when there is no other, or when the share of ejected ones is too large because
//! others left.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use health::{Evidence, Outlier};
use model::spec::OutlierSpec;
use model::{EndpointId, Instant};

use super::{Control, Stale};
use crate::EndpointHandle;
use crate::member::{Member, Standing};

impl Control {
    pub(super) fn set_eject_after(&self) {
        let consecutive = self.spec.outlier.as_ref().and_then(|outlier| outlier.consecutive);
        self.origin.eject_after.store(consecutive.unwrap_or(u32::MAX), Relaxed);
    }

    pub(super) fn update_outlier(&mut self, now: Instant) {
        self.set_eject_after();
        if self.spec.outlier.is_some() {
            return;
        }
        self.ejected.clear();
        for member in self.members.values_mut() {
            member.outlier.reset(now, &member.handle.load.tally());
        }
        self.pending.stale = Stale::Now;
        self.pending.changed = true;
    }

    /// How often windows are looked at; `None`: they are not.
    pub(super) fn window_interval(&self) -> Option<Duration> {
        let spec = self.spec.outlier.as_ref()?;
        (spec.error_rate.is_some() || spec.latency.is_some()).then_some(spec.interval)
    }

    /// So many of its requests failed in a row that it may be an outlier.
    pub(super) fn judge_row(&mut self, id: &EndpointId, now: Instant) {
        let consecutive = self.spec.outlier.as_ref().and_then(|outlier| outlier.consecutive);
        let (Some(limit), Some(key)) = (consecutive, self.listed.get(id).copied()) else { return };
        let Some(member) = self.members.get(&key) else { return };
        let failures = member.handle.load.errors_in_a_row();
        if failures >= limit && member.is_healthy() {
            member.handle.load.forgive_errors();
            self.eject(key, Evidence::Consecutive { failures }, now);
        }
    }

    /// Ends the windows that are over, and ejects whoever they speak against, the worst first.
    pub(super) fn judge_windows(&mut self, now: Instant) {
        let spec = self.spec.clone();
        let Some(spec) = &spec.outlier else { return };
        let mut windows = Vec::new();
        for (key, member) in &mut self.members {
            member.outlier.forget(now, spec);
            let tally = member.handle.load.tally();
            if let Some(window) = member.outlier.close_window(now, &tally, spec)
                && member.standing == Standing::Listed
                && member.is_healthy()
            {
                windows.push((*key, window));
            }
        }
        let mean = |(key, member): (&u64, &Member)| {
            let mean = member.is_healthy().then(|| member.outlier.mean(now, spec));
            Some((mean??, *key))
        };
        let mut means: Vec<(Duration, u64)> = self.members.iter().filter_map(mean).collect();
        means.sort_unstable();
        let accuse = |(key, window): &(u64, health::Window)| {
            let member = self.members.get(key)?;
            // One that warms up is slow, and would never get warm if it were ejected for that.
            let warms_up = member.ramp.is_some() && !member.outlier.is_on_probation();
            let others = if warms_up { None } else { median_of_others(&means, *key) };
            Some((*key, Outlier::accuse(window, others, spec)?))
        };
        let mut accused: Vec<(u64, Evidence)> = windows.iter().filter_map(accuse).collect();
        accused.sort_by(|(_, a), (_, b)| badness(b).total_cmp(&badness(a)));
        for (key, evidence) in accused {
            self.eject(key, evidence, now);
        }
    }

    /// Unless it is the last that can serve, or too many are ejected already.
    fn eject(&mut self, key: u64, evidence: Evidence, now: Instant) {
        let spec = self.spec.clone();
        let Some(spec) = &spec.outlier else { return };
        let another = self.members.iter().any(|(other, m)| *other != key && m.can_serve());
        if !another || self.ejected_members().count() >= self.ejected_max(spec) {
            return;
        }
        let Some(member) = self.members.get_mut(&key) else { return };
        member.outlier.eject(now, evidence, spec);
        member.handle.judged();
        if let Some(until) = member.outlier.poll_timeout() {
            self.ejected.insert((until, key));
        }
        match evidence {
            Evidence::Consecutive { .. } => self.ejections.consecutive += 1,
            Evidence::ErrorRate { .. } => self.ejections.error_rate += 1,
            Evidence::Latency { .. } => self.ejections.latency += 1,
        }
        self.pending.stale = Stale::Now;
        self.pending.changed = true;
    }

    /// Those whose time is over come back.
    pub(super) fn readmit_due(&mut self, now: Instant) {
        while let Some((until, key)) = self.ejected.first().copied()
            && until <= now
        {
            self.readmit(key, now);
        }
    }

    /// Ejected ones come back early if nothing else can serve, or if they are too many for those
    /// that are left, those first whose time would have been over first.
    pub(super) fn readmit_needed(&mut self, now: Instant) {
        let spec = self.spec.clone();
        let Some(spec) = &spec.outlier else { return };
        if self.ejected.is_empty() {
            return;
        }
        let alone = !self.members.values().any(Member::can_serve);
        let max = if alone { 0 } else { self.ejected_max(spec) };
        let mut excess = self.ejected_members().count().saturating_sub(max);
        for (_, key) in self.ejected.clone() {
            if excess > 0 && self.members.get(&key).is_some_and(Member::is_listed_and_checked) {
                self.readmit(key, now);
                excess -= 1;
            }
        }
    }

    fn readmit(&mut self, key: u64, now: Instant) {
        self.ejected.retain(|(_, ejected)| *ejected != key);
        let Some(member) = self.members.get_mut(&key) else { return };
        member.handle.load.forgive_errors();
        member.outlier.readmit(now, &member.handle.load.tally());
        self.pending.stale = Stale::Now;
        self.pending.changed = true;
    }

    pub(crate) fn ejected(&self) -> Vec<Arc<EndpointHandle>> {
        self.ejected_members().map(|member| member.handle.clone()).collect()
    }

    /// Those that picks could go to otherwise.
    fn ejected_members(&self) -> impl Iterator<Item = &Member> {
        let ejected = self.ejected.iter().filter_map(|(_, key)| self.members.get(key));
        ejected.filter(|member| member.is_listed_and_checked())
    }

    fn ejected_max(&self, spec: &OutlierSpec) -> usize {
        if spec.share_max <= 0.0 {
            return 0;
        }
        let listed = self.members.values().filter(|m| m.standing == Standing::Listed).count();
        // A share that is a whole number of endpoints is not to fall short of it by rounding.
        ((spec.share_max * listed as f64 + 1e-9) as usize).max(1)
    }
}

/// The worst: those that fail most, then the slowest.
fn badness(evidence: &Evidence) -> f64 {
    match evidence {
        Evidence::Consecutive { .. } => 3.0,
        Evidence::ErrorRate { failures, requests } => 2.0 + *failures as f64 / *requests as f64,
        Evidence::Latency { mean, others } => {
            let times = mean.as_secs_f64() / others.as_secs_f64().max(1e-6);
            1.0 - 1.0 / times.max(1.0)
        }
    }
}

/// `means` ascend. `None` if there is no other.
pub(super) fn median_of_others(means: &[(Duration, u64)], key: u64) -> Option<Duration> {
    let own = means.iter().position(|(_, of)| *of == key);
    let count = means.len() - usize::from(own.is_some());
    let other = |at: usize| means[at + usize::from(own.is_some_and(|own| at >= own))].0;
    match count {
        0 => None,
        count if count % 2 == 1 => Some(other(count / 2)),
        count => Some((other(count / 2 - 1) + other(count / 2)) / 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_that_of_the_others() {
        let means: Vec<(Duration, u64)> =
            (1..=4).map(|n| (Duration::from_millis(10 * n), n)).collect();
        let median = |means, key| median_of_others(means, key).map(|d| d.as_millis());
        assert_eq!([1, 2, 3, 4].map(|key| median(&means, key)), [30, 30, 20, 20].map(Some));
        assert_eq!(median(&means, 9), Some(25));
        assert_eq!([1, 2].map(|key| median(&means[..2], key)), [20, 10].map(Some));
        assert_eq!(median(&means[..1], 1), None);
    }
}
