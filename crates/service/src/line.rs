//! Who waits for an endpoint with room, in the order of their turns. The lock around it is the
//! `Gate`'s.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use model::Instant;
use model::spec::PRIORITY_MAX;
use smallvec::SmallVec;

use crate::gate::Counted;
use crate::{EndpointHandle, Pick};

#[derive(Default)]
pub(crate) struct Line {
    /// Those whom any eligible endpoint may serve, but for those that they were tried on.
    open: BTreeMap<Rank, Arc<Waiter>>,
    /// Those who wait for one endpoint, by its key. No empty ones.
    pinned: BTreeMap<u64, BTreeMap<Rank, Arc<Waiter>>>,
    /// Keys of the endpoints that may take new requests, ascending.
    pub(crate) eligible: Vec<u64>,
    /// The service is no more.
    pub(crate) closed: bool,
    count: u64,
    /// The latest arrival: workers read their clocks before they come here, so that a later one
    /// may bring an earlier time.
    latest: Instant,
}

/// Whose turn comes first. Each priority behind the first costs a tenth of the longest wait: so
/// those of one priority come in the order of their arrival, and whoever has waited for nine
/// tenths of the time-out goes before all that come then, whatever their priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    turn: Instant,
    number: u64,
}

pub(crate) struct Waiter {
    pub(crate) rank: Rank,
    pub(crate) since: Instant,
    /// How long it may wait, whatever becomes of the queue meanwhile.
    pub(crate) until: Instant,
    /// The one that it waits for; `None`: any.
    pub(crate) target: Option<Arc<EndpointHandle>>,
    /// It is of a session: its endpoint may be drained.
    pub(crate) session: bool,
    /// Keys of the endpoints that it was tried on.
    exclude: SmallVec<[u64; 4]>,
    pub(crate) counted: Counted,
    state: Mutex<State>,
}

pub(crate) enum State {
    /// Who is to be told.
    Waiting(Option<Waker>),
    /// It got this, and has not yet looked.
    Served(Pick),
    /// There will be nothing.
    Closed,
    /// It has looked.
    Over,
}

/// What somebody who comes to wait wants.
pub(crate) struct Wish<'a> {
    pub(crate) now: Instant,
    pub(crate) priority: u8,
    pub(crate) target: Option<Arc<EndpointHandle>>,
    pub(crate) session: bool,
    pub(crate) exclude: &'a [u64],
    pub(crate) counted: Counted,
}

impl Waiter {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends its wait. Answers whom to tell, once no lock is held.
    pub(crate) fn end(&self, state: State) -> Option<Waker> {
        match std::mem::replace(&mut *self.state(), state) {
            State::Waiting(waker) => waker,
            _ => None,
        }
    }
}

impl Line {
    /// `timeout`: how long it may wait at most.
    pub(crate) fn join(&mut self, wish: Wish<'_>, timeout: Duration) -> Arc<Waiter> {
        self.latest = self.latest.max(wish.now);
        self.count += 1;
        let step = timeout / u32::from(PRIORITY_MAX + 1);
        let turn = self.latest + step * u32::from(wish.priority.min(PRIORITY_MAX));
        let waiter = Arc::new(Waiter {
            rank: Rank { turn, number: self.count },
            since: wish.now,
            until: wish.now + timeout,
            target: wish.target,
            session: wish.session,
            exclude: wish.exclude.into(),
            counted: wish.counted,
            state: Mutex::new(State::Waiting(None)),
        });
        let queue = match &waiter.target {
            Some(target) => self.pinned.entry(target.key).or_default(),
            None => &mut self.open,
        };
        queue.insert(waiter.rank, waiter.clone());
        waiter
    }

    /// Whose turn it is when this endpoint has room.
    pub(crate) fn first_for(&self, key: u64) -> Option<&Arc<Waiter>> {
        let open = match self.eligible.binary_search(&key) {
            Ok(_) => self.open.values().find(|waiter| self.accepts(waiter, key)),
            Err(_) => None,
        };
        let pinned = self.pinned.get(&key).and_then(|queue| queue.values().next());
        open.into_iter().chain(pinned).min_by_key(|waiter| waiter.rank)
    }

    /// An endpoint that it was tried on serves it only if there is no other.
    fn accepts(&self, waiter: &Waiter, key: u64) -> bool {
        let tried = |key: &u64| waiter.exclude.contains(key);
        !tried(&key)
            || (self.eligible.len() <= waiter.exclude.len() && self.eligible.iter().all(tried))
    }

    /// Takes it out, wherever it stands; `None` if its wait is over.
    pub(crate) fn remove(&mut self, waiter: &Waiter) -> Option<Arc<Waiter>> {
        if let Some(waiter) = self.open.remove(&waiter.rank) {
            return Some(waiter);
        }
        let key = waiter.target.as_ref()?.key;
        let queue = self.pinned.get_mut(&key)?;
        let removed = queue.remove(&waiter.rank);
        if queue.is_empty() {
            self.pinned.remove(&key);
        }
        removed
    }

    /// Those who wait for one endpoint, and may no longer, wait for any. They keep their turns.
    pub(crate) fn unpin(&mut self, may_wait: impl Fn(&Waiter) -> bool) {
        for queue in self.pinned.values_mut() {
            let moved: Vec<Rank> =
                queue.values().filter(|w| !may_wait(w)).map(|w| w.rank).collect();
            for rank in moved {
                self.open.extend(queue.remove(&rank).map(|waiter| (rank, waiter)));
            }
        }
        self.pinned.retain(|_, queue| !queue.is_empty());
    }

    /// Those leave who wait for any endpoint.
    pub(crate) fn take_open(&mut self) -> Vec<Arc<Waiter>> {
        std::mem::take(&mut self.open).into_values().collect()
    }

    /// Everybody leaves.
    pub(crate) fn take_all(&mut self) -> Vec<Arc<Waiter>> {
        let open = std::mem::take(&mut self.open).into_values();
        let pinned = std::mem::take(&mut self.pinned).into_values();
        open.chain(pinned.flat_map(BTreeMap::into_values)).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len() + self.pinned.values().map(BTreeMap::len).sum::<usize>()
    }

    pub(crate) fn open_len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn pinned_len(&self, key: u64) -> usize {
        self.pinned.get(&key).map_or(0, BTreeMap::len)
    }

    /// The endpoints that somebody waits for.
    pub(crate) fn awaited(&self) -> Vec<Arc<EndpointHandle>> {
        let first = self.pinned.values().filter_map(|queue| queue.values().next());
        first.filter_map(|waiter| waiter.target.clone()).collect()
    }
}
