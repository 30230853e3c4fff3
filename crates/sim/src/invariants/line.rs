//! Queues: whoever waits is served in turn, as soon as there is room, and no more wait than may.

use model::Instant;
use service::Service;

use super::Invariants;

/// One that waits.
pub(super) struct Waits {
    slot: u32,
    priority: u8,
    /// It was tried nowhere before, and so takes any endpoint.
    fresh: bool,
}

impl Invariants {
    /// Somebody came to wait.
    pub(crate) fn waits(
        &mut self,
        now: Instant,
        balancer: u32,
        (slot, priority, fresh): (u32, u8, bool),
    ) {
        let line = &mut self.balancers[balancer as usize].line;
        line.push(Waits { slot, priority, fresh });
        let length = line.len();
        if self.queue.as_ref().is_some_and(|queue| length > queue.max as usize) {
            self.violated(now, || format!("{length} wait"));
        }
    }

    /// Somebody's turn has come: nobody who came before and is no less urgent still waits.
    /// `ready`: there was indeed something.
    pub(crate) fn turned(&mut self, now: Instant, balancer: u32, slot: u32, ready: bool) {
        let line = &mut self.balancers[balancer as usize].line;
        let Some(position) = line.iter().position(|waits| waits.slot == slot) else {
            return self.violated(now, || format!("the turn of {slot} came, who does not wait"));
        };
        let next = line.remove(position);
        let passed = line[..position].iter().any(|w| w.fresh && w.priority <= next.priority);
        if passed && next.fresh && self.queue.is_some() {
            self.violated(now, || format!("the turn of {slot} came before another's"));
        }
        if !ready {
            self.violated(now, || format!("{slot} was told of a turn, and had none"));
        }
    }

    /// Somebody waits no longer.
    pub(crate) fn left(&mut self, balancer: u32, slot: u32) {
        self.balancers[balancer as usize].line.retain(|waits| waits.slot != slot);
    }

    /// Nobody waits while an endpoint has room.
    pub(crate) fn idle(&mut self, now: Instant, balancer: u32, service: &Service) {
        let waits = self.balancers[balancer as usize].line.iter().any(|waits| waits.fresh);
        if waits && self.queue.is_some() {
            for endpoint in service.eligible() {
                if endpoint.limit().is_none_or(|most| endpoint.in_flight() < most) {
                    self.violated(now, || format!("{} has room, and somebody waits", endpoint.id));
                }
            }
        }
    }
}
