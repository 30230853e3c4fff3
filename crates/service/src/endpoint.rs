use std::net::SocketAddr;
use std::sync::atomic::{
    AtomicBool, AtomicU16, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwapOption, Guard};
use balance::Tracker;
use model::{EndpointId, Instant, Load, ProbeAnswer, ServiceName};

use crate::Events;
use crate::gate::Gate;
use crate::limit::{Limit, UNLIMITED};
use crate::quantiles::Quantiles;

/// One endpoint as the data path holds it: who and where it is, and its live counters. It lives
/// from the moment when the endpoint is first seen until the last pick of it is reported, across
/// all changes that leave the endpoint as it is. The same id at another address is another one.
pub struct EndpointHandle {
    pub id: EndpointId,
    pub address: SocketAddr,
    /// A number that no other endpoint of this process has, ever: pools are keyed by it, and
    /// [`crate::Request::exclude`] names endpoints by it.
    pub key: u64,
    pub load: Arc<Load>,
    pub(crate) origin: Arc<Origin>,
    pub(crate) limit: Limit,
    /// [`STAYS`], or when its streams must end.
    close_at: AtomicU64,
    /// Drained, and its sessions may go on until `close_at`.
    keeps_sessions: AtomicBool,
    /// What stands for it in the table of sessions, by its id; 0: nothing does.
    slot: AtomicU16,
    /// A suspicion was posted and not yet judged.
    suspected: AtomicBool,
    connections: AtomicUsize,
    /// What the policy learns of it, if it does.
    tracker: ArcSwapOption<Arc<dyn Tracker>>,
}

/// The service that an endpoint belongs to, as far as a report needs it.
pub(crate) struct Origin {
    pub(crate) service: ServiceName,
    pub(crate) events: Arc<dyn Events>,
    /// Failures in a row that make an endpoint suspect.
    pub(crate) suspect_after: AtomicU32,
    /// Failures in a row, answers of 500 and above included, that make it an outlier.
    pub(crate) eject_after: AtomicU32,
    /// Set once the service hedges.
    pub(crate) quantiles: OnceLock<Box<Quantiles>>,
    pub(crate) gate: Gate,
}

const STAYS: u64 = u64::MAX;

/// Counts up over all services of the process.
static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

impl EndpointHandle {
    pub(crate) fn new(id: EndpointId, address: SocketAddr, origin: Arc<Origin>) -> Arc<Self> {
        Arc::new(Self {
            id,
            address,
            key: NEXT_KEY.fetch_add(1, Relaxed),
            load: Arc::default(),
            origin,
            limit: Limit::default(),
            close_at: AtomicU64::new(STAYS),
            keeps_sessions: AtomicBool::new(false),
            slot: AtomicU16::new(0),
            suspected: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            tracker: ArcSwapOption::empty(),
        })
    }

    /// Picks that are not yet reported. Once [`EndpointHandle::is_leaving`] and then this is
    /// zero, nothing begins there until an operator undrains it: a worker that comes too late
    /// counts itself for a moment, sees that the endpoint is leaving, and chooses another. Only a
    /// drained endpoint of a service with affinity gets more, of its sessions, until
    /// [`EndpointHandle::close_at`] or its removal.
    pub fn in_flight(&self) -> u32 {
        self.load.in_flight()
    }

    /// How many it may have in flight now; `None`: as many as come.
    pub fn limit(&self) -> Option<u32> {
        Some(self.limit.most()).filter(|most| *most != UNLIMITED)
    }

    /// Fewer in flight than its limit. Who begins something may still come too late.
    pub(crate) fn has_room(&self) -> bool {
        self.in_flight() < self.limit.most()
    }

    /// Drained or removed: it gets nothing new, apart from what belongs to sessions of a drained
    /// one.
    pub fn is_leaving(&self) -> bool {
        self.close_at.load(SeqCst) != STAYS
    }

    /// When requests and streams of a leaving endpoint must end.
    pub fn close_at(&self) -> Option<Instant> {
        match self.close_at.load(SeqCst) {
            STAYS => None,
            nanos => Some(Instant::from_nanos(nanos)),
        }
    }

    /// Stays, or was drained and its grace is not over.
    pub(crate) fn takes_sessions(&self, now: Instant) -> bool {
        match self.close_at() {
            None => true,
            Some(close_at) => now < close_at && self.keeps_sessions(),
        }
    }

    pub(crate) fn keeps_sessions(&self) -> bool {
        self.keeps_sessions.load(SeqCst)
    }

    /// Decided before it leaves, and taken back before whoever removes it looks at its load.
    pub(crate) fn keep_sessions(&self, keeps: bool) {
        self.keeps_sessions.store(keeps, SeqCst);
    }

    pub(crate) fn slot(&self) -> Option<u16> {
        Some(self.slot.load(Relaxed)).filter(|slot| *slot != 0)
    }

    pub(crate) fn set_slot(&self, slot: u16) {
        self.slot.store(slot, Relaxed);
    }

    /// Connections to it, of all workers, in use and idle.
    pub fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// Room for one more connection, given back when the slot is dropped; `None` if there are
    /// `max` already (`pool.connections_max`; `None`: no bound).
    pub fn reserve_connection(self: &Arc<Self>, max: Option<usize>) -> Option<ConnectionSlot> {
        let max = max.unwrap_or(usize::MAX);
        let reserve = |count: usize| (count < max).then_some(count + 1);
        self.connections.fetch_update(Relaxed, Relaxed, reserve).ok()?;
        Some(ConnectionSlot { endpoint: self.clone() })
    }

    /// Keeps the first deadline if it was leaving already. Answers whether it was not.
    pub(crate) fn leave(&self, close_at: Instant) -> bool {
        let nanos = close_at.as_nanos().min(STAYS - 1);
        self.close_at.compare_exchange(STAYS, nanos, SeqCst, SeqCst).is_ok()
    }

    pub(crate) fn stay(&self) {
        self.close_at.store(STAYS, SeqCst);
    }

    pub(crate) fn track(&self, tracker: Option<Arc<dyn Tracker>>) {
        if tracker.is_some() || self.tracker.load().is_some() {
            self.tracker.store(tracker.map(Arc::new));
        }
    }

    pub(crate) fn tracker(&self) -> Guard<Option<Arc<Arc<dyn Tracker>>>> {
        self.tracker.load()
    }

    /// The answer to [`Events::probe`].
    pub fn probed(&self, answer: &ProbeAnswer) {
        if let Some(tracker) = &*self.tracker.load() {
            tracker.probed(answer);
        }
    }

    /// Whether the suspicion is new.
    pub(crate) fn suspect(&self) -> bool {
        !self.suspected.load(Relaxed) && !self.suspected.swap(true, Relaxed)
    }

    pub(crate) fn judged(&self) {
        self.suspected.store(false, Relaxed);
    }
}

impl std::fmt::Debug for EndpointHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointHandle")
            .field("id", &self.id)
            .field("address", &self.address)
            .field("key", &self.key)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

/// The right to one connection to an endpoint: keep it as long as the connection.
#[derive(Debug)]
pub struct ConnectionSlot {
    endpoint: Arc<EndpointHandle>,
}

impl ConnectionSlot {
    pub fn endpoint(&self) -> &Arc<EndpointHandle> {
        &self.endpoint
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.endpoint.connections.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoEvents;

    #[test]
    fn connections_are_bounded_and_given_back() {
        let origin = Origin {
            service: "web".into(),
            events: Arc::new(NoEvents),
            suspect_after: AtomicU32::new(3),
            eject_after: AtomicU32::new(u32::MAX),
            quantiles: OnceLock::new(),
            gate: Gate::default(),
        };
        let address = "127.0.0.1:1".parse().unwrap();
        let endpoint = EndpointHandle::new("a".into(), address, Arc::new(origin));
        let first = endpoint.reserve_connection(Some(2)).unwrap();
        let second = endpoint.reserve_connection(Some(2)).unwrap();
        assert!(endpoint.reserve_connection(Some(2)).is_none());
        drop(first);
        let third = endpoint.reserve_connection(Some(2)).unwrap();
        let beyond = endpoint.reserve_connection(None).unwrap();
        assert_eq!(endpoint.connections(), 3);
        drop((second, third, beyond));
        assert_eq!(endpoint.connections(), 0);
        assert!(endpoint.reserve_connection(Some(0)).is_none());
    }
}
