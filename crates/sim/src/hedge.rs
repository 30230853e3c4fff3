//! Hedged requests, as the proxy goes about them (`proxy/src/http1/hedge.rs`): a second attempt
//! beside the first, and of the two the first good answer. What fails is put by as long as the
//! other may still do better.

use model::spec::RetryCondition;
use model::{Instant, Outcome};

use crate::queue::Event;
use crate::report::Ending;
use crate::simulation::Simulation;

/// How the one of two attempts failed that ended first.
#[derive(Clone, Copy)]
pub(crate) struct Held {
    ending: Ending,
    condition: Option<RetryCondition>,
    is_second: bool,
}

/// Sets the second attempt's course of chance apart from the first's.
const SECOND: u64 = 1 << 63;

impl Simulation<'_> {
    /// The attempt has its connection: when it is to be hedged, if ever.
    pub(crate) fn expect_hedge(&mut self, slot: u32, serial: u32, began: Instant) {
        let balancer = self.requests[slot as usize].balancer;
        if let Some(after) = self.balancers[balancer as usize].service.hedge_after(self.now) {
            self.queue.add(began + after, Event::Hedge { slot, serial });
        }
    }

    /// The moment has come.
    pub(crate) fn hedge(&mut self, slot: u32, serial: u32) {
        let request = &self.requests[slot as usize];
        let Some(first) = request.first.as_ref().filter(|first| first.serial == serial) else {
            return;
        };
        if request.second.is_some() || request.held.is_some() {
            return;
        }
        let mut exclude = request.tried.clone();
        exclude.push(first.pick.endpoint().key);
        let asked = service::Request { now: self.now, key: request.key, exclude: &exclude };
        let (index, first) = (request.balancer, first.server);
        let number = (request.number << 4 | u64::from(request.attempts)) ^ SECOND;
        let balancer = &mut self.balancers[index as usize];
        let Some(pick) = balancer.service.hedge(&asked, &mut balancer.rng) else { return };
        let server = crate::server::index_of(pick.endpoint().address);
        self.invariants.hedged(self.now, index, first, server);
        self.send(slot, pick, number, true);
    }

    /// One of the attempts failed, and was reported.
    pub(crate) fn failed(
        &mut self,
        slot: u32,
        is_second: bool,
        ending: Ending,
        condition: Option<RetryCondition>,
    ) {
        let request = &mut self.requests[slot as usize];
        let this = Held { ending, condition, is_second };
        // An answer is better than none, and the first attempt's failure stands for both.
        let better = match request.held.take() {
            Some(held) if held.ending == Ending::ServerError => held,
            Some(held) if !held.is_second && ending != Ending::ServerError => held,
            _ => this,
        };
        if request.first.is_some() || request.second.is_some() {
            request.held = Some(better);
        } else {
            self.again(slot, better.ending, better.condition);
        }
    }

    /// The other attempt's answer was taken.
    pub(crate) fn cancel(&mut self, slot: u32) {
        let request = &self.requests[slot as usize];
        let serials = [&request.first, &request.second]
            .map(|flight| flight.as_ref().map(|flight| (flight.serial, flight.since)));
        for (serial, since) in serials.into_iter().flatten() {
            let elapsed = Some(self.now.since(since));
            self.end_attempt(slot, serial, Outcome::Abandoned, elapsed);
        }
    }
}
