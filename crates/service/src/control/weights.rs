//! What weights the policy is given: the configured ones or an operator's, of which an endpoint may
//! have a part for a time, on its way up (slow start) or because its agent says so.
//!
//! What counts is how large a part each has, compared with whoever has the most of it.

use balance::Candidate;

use super::Control;
use crate::member::Member;

/// While somebody has a part, weights are multiplied by this, as far as they fit, so that whole
/// numbers can say a percent of a weight of 1.
const SCALE: u16 = 100;

impl Control {
    /// The candidates of a snapshot, and what their weights are multiplied by.
    pub(super) fn candidates(&mut self, keys: &[u64]) -> (Vec<Candidate>, u16) {
        let spec = self.spec.clone();
        let ramp = |member: &Member| match (&member.ramp, &spec.slow_start) {
            (Some(ramp), Some(spec)) => ramp.share(spec),
            _ => 1.0,
        };
        let part = |member: &Member| ramp(member) * f64::from(member.told.percent) / 100.0;
        let used = || keys.iter().filter_map(|key| self.members.get(key));
        let weighty = || used().filter(|member| member.weight().0 > 0);
        let most = weighty().map(part).fold(0.0, f64::max);
        let most_ramp = weighty().map(ramp).fold(0.0, f64::max);
        let uneven = weighty().any(|member| percent(part(member), most) < 100);
        let heaviest = used().map(|member| member.weight().0).max().unwrap_or(0).max(1);
        let scale = if uneven { SCALE.min(u16::MAX / heaviest) } else { 1 };
        let mut candidates = Vec::with_capacity(keys.len());
        self.members.values_mut().for_each(|member| member.role.ramp = None);
        for key in keys {
            let Some(member) = self.members.get_mut(key) else { continue };
            let mut weight = member.weight().0;
            if uneven && weight > 0 {
                let ramped = percent(ramp(member), most_ramp);
                member.role.ramp = (ramped < 100).then_some(ramped);
                let percent = percent(part(member), most);
                let scaled = u64::from(weight) * u64::from(scale) * u64::from(percent) / 100;
                weight = u16::try_from(scaled).unwrap_or(u16::MAX).max(1);
            }
            let zone = member.endpoint.zone.clone();
            candidates.push(Candidate { weight, zone, identity_hash: member.identity_hash() });
        }
        (candidates, scale)
    }
}

/// Of whoever has the most; 1 to 100.
fn percent(part: f64, most: f64) -> u8 {
    if part >= most { 100 } else { ((part / most * 100.0).round() as u8).clamp(1, 100) }
}
