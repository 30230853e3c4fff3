//! Who may begin, and who waits until there is room.
//!
//! For: the counts of the whole service that its limits are about, and the line of those who
//! wait. The lock is taken only by those who find everything full, by those who end something
//! while somebody waits, and by the control side: whoever finds room takes it with one
//! compare-and-swap, and never comes here.
//! Never: time-outs. Whoever waits drops its [`Waiting`] when it has waited for long enough.
//! Start with [`Gate::enter`] and [`Gate::freed`].
//!
//! # No wake-up is lost
//!
//! Who comes to wait (a) makes itself counted (`open`, or `Limit::queued`) and then (b) looks once
//! more whether an endpoint has room. Who ends something (c) takes it from the endpoint's count
//! in flight and then (d) looks whether anybody is counted as waiting. All four are sequentially
//! consistent, so there is one order of them that every thread agrees on. If (b) comes before (c),
//! and so did not see the room, then (a) comes before (d), which sees who waits, takes the lock
//! and hands the room over. If (c) comes before (b), whoever came to wait sees the room itself,
//! unless another took it in between; then that one's end stands in the place of (c).
//!
//! Endpoints that come, limits that grow and endpoints that leave are made visible first, and
//! then told to the line under its lock; who comes to wait reads the snapshot under the same
//! lock. So either it sees the new state, or it already stands in the line that is told.
//!
//! What is handed over is a [`Pick`], not a hint: a place that was handed to somebody who is gone
//! by then ends as every pick does, and so goes on to the next.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{
    AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use model::Instant;
use model::spec::{QueuePer, QueueSpec, ServiceLimitSpec};
use model::status::{QueueStatus, RejectedStatus};
use smallvec::SmallVec;

use crate::endpoint::Origin;
use crate::line::{Line, State, Waiter, Wish};
use crate::snapshot::Snapshot;
use crate::{EndpointHandle, Pick};

#[derive(Default)]
pub(crate) struct Gate {
    /// Who waits for any endpoint. Written under the lock, and read wherever a pick ends.
    open: AtomicUsize,
    /// In flight and waiting, and those of them that are further attempts; counted only while
    /// there is a limit for them.
    requests: AtomicU32,
    retries: AtomicU32,
    line: Mutex<Line>,
    rejected: [AtomicU64; 6],
    waited: [AtomicU64; WAITED_BOUNDS_US.len() + 1],
    waited_us_sum: AtomicU64,
}

/// Upper bounds of how long somebody waited, in microseconds.
const WAITED_BOUNDS_US: [u64; 12] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000,
];

/// What was in the way of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// All endpoints are at their limit, and there is no queue.
    Concurrency,
    /// So many wait already.
    QueueFull,
    QueueTimeout,
    /// `limits.requests`
    Requests,
    /// `limits.retries`
    Retries,
    /// The service was asleep, and did not wake in time.
    WakeTimeout,
}

impl Rejection {
    /// In a few words, for logs.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Concurrency => "endpoints full",
            Self::QueueFull => "queue full",
            Self::QueueTimeout => "queue time-out",
            Self::Requests => "too many requests",
            Self::Retries => "too many retries",
            Self::WakeTimeout => "wake time-out",
        }
    }
}

/// Which counts of the service one request stands in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    request: bool,
    retry: bool,
}

/// Those who are to be told that their wait is over, once no lock is held.
pub(crate) type Woken = SmallVec<[Waker; 4]>;

pub(crate) enum Entered {
    /// There was room after all.
    Picked(Pick),
    /// `first`: nobody waited before.
    Waits {
        waiting: Waiting,
        first: bool,
    },
    Full,
    Closed,
}

impl Gate {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does anybody wait for any endpoint? Then nobody else may take room before them.
    pub(crate) fn is_awaited(&self) -> bool {
        self.open.load(SeqCst) > 0
    }

    /// Whether one more is within the limits of the service; if so, it is counted.
    pub(crate) fn count(
        &self,
        limits: &ServiceLimitSpec,
        retry: bool,
    ) -> Result<Counted, Rejection> {
        let add = |count: &AtomicU32, most: u32| {
            count.fetch_update(Relaxed, Relaxed, |n| (n < most).then_some(n + 1)).is_ok()
        };
        let mut counted = Counted::default();
        if let Some(most) = limits.requests {
            if !add(&self.requests, most) {
                return Err(Rejection::Requests);
            }
            counted.request = true;
        }
        if let Some(most) = limits.retries.filter(|_| retry) {
            if !add(&self.retries, most) {
                self.uncount(counted);
                return Err(Rejection::Retries);
            }
            counted.retry = true;
        }
        Ok(counted)
    }

    pub(crate) fn uncount(&self, counted: Counted) {
        if counted.request {
            self.requests.fetch_sub(1, Relaxed);
        }
        if counted.retry {
            self.retries.fetch_sub(1, Relaxed);
        }
    }

    /// Is there room for one more retry at this moment?
    pub(crate) fn admits_retry(&self, limits: &ServiceLimitSpec) -> bool {
        limits.retries.is_none_or(|most| self.retries.load(Relaxed) < most)
    }

    pub(crate) fn reject(&self, rejection: Rejection) {
        self.rejected[rejection as usize].fetch_add(1, Relaxed);
    }

    /// Joins the line that is locked, unless there is room, or no room to wait. `snapshot` was
    /// read under the lock. `start`: where among the endpoints the look for room begins.
    pub(crate) fn enter(
        origin: &Arc<Origin>,
        mut line: MutexGuard<'_, Line>,
        snapshot: &Snapshot,
        queue: &QueueSpec,
        wish: Wish<'_>,
        start: u64,
    ) -> Entered {
        let gate = &origin.gate;
        if line.closed {
            return Entered::Closed;
        }
        let max = queue.max as usize;
        let taken = match (queue.per, &wish.target) {
            (QueuePer::Endpoint, Some(target)) => line.pinned_len(target.key),
            (QueuePer::Endpoint, None) => line.open_len(),
            (QueuePer::Service, _) => line.len(),
        };
        if taken >= max {
            return Entered::Full;
        }
        let now = wish.now;
        let first = line.len() == 0;
        let waiter = line.join(wish, queue.timeout);
        gate.note_lengths(&line, &waiter);
        let mut woken = Woken::new();
        match &waiter.target {
            Some(target) => gate.serve(&mut line, target, now, &mut woken),
            None => {
                for endpoint in snapshot.from(start) {
                    if endpoint.has_room() {
                        gate.serve(&mut line, endpoint, now, &mut woken);
                        if !matches!(*waiter.state(), State::Waiting(_)) {
                            break;
                        }
                    }
                }
            }
        }
        drop(line);
        woken.into_iter().for_each(Waker::wake);
        let mut waiting = Waiting { origin: origin.clone(), waiter };
        match waiting.take() {
            Some(pick) => Entered::Picked(pick),
            None => Entered::Waits { waiting, first },
        }
    }

    /// An endpoint may have room: hands it to whose turn it is, if anybody waits.
    pub(crate) fn freed(&self, endpoint: &Arc<EndpointHandle>, now: Instant) {
        if !self.is_awaited() && endpoint.limit.queued() == 0 {
            return;
        }
        let mut woken = Woken::new();
        self.serve(&mut self.lock(), endpoint, now, &mut woken);
        woken.into_iter().for_each(Waker::wake);
    }

    fn serve(
        &self,
        line: &mut Line,
        endpoint: &Arc<EndpointHandle>,
        now: Instant,
        woken: &mut Woken,
    ) {
        while self.serve_one(line, endpoint, now, woken) {}
    }

    /// Whether it took somebody.
    fn serve_one(
        &self,
        line: &mut Line,
        endpoint: &Arc<EndpointHandle>,
        now: Instant,
        woken: &mut Woken,
    ) -> bool {
        let Some(waiter) = line.first_for(endpoint.key).cloned() else { return false };
        let Some(pick) = Pick::hand_over(endpoint, now, waiter.session, waiter.counted) else {
            return false;
        };
        line.remove(&waiter);
        self.note_lengths(line, &waiter);
        self.note_wait(waiter.since, now);
        woken.extend(waiter.end(State::Served(pick)));
        true
    }

    /// After each change of who waits, under the lock.
    fn note_lengths(&self, line: &Line, waiter: &Waiter) {
        self.open.store(line.open_len(), SeqCst);
        if let Some(target) = &waiter.target {
            target.limit.set_queued(line.pinned_len(target.key));
        }
    }

    fn note_wait(&self, since: Instant, now: Instant) {
        let us = u64::try_from(now.since(since).as_micros()).unwrap_or(u64::MAX >> 16);
        let bucket = WAITED_BOUNDS_US.partition_point(|bound| *bound < us);
        self.waited[bucket].fetch_add(1, Relaxed);
        self.waited_us_sum.fetch_add(us, Relaxed);
    }

    /// After what is eligible, or a limit, has changed, and is visible: those whose endpoint left
    /// wait for any, and whoever can be served now is. With `closed` all are told to give up.
    pub(crate) fn settle(&self, snapshot: &Snapshot, closed: bool, now: Instant) -> Woken {
        let mut line = self.lock();
        let mut woken = Woken::new();
        line.closed |= closed;
        line.eligible.clear();
        line.eligible.extend(snapshot.usable().map(|endpoint| endpoint.key));
        debug_assert!(line.eligible.is_sorted());
        if line.len() == 0 {
            return woken;
        }
        let awaited = line.awaited();
        if closed {
            for waiter in line.take_all() {
                woken.extend(waiter.end(State::Closed));
            }
        } else {
            let eligible = std::mem::take(&mut line.eligible);
            line.unpin(|waiter| {
                waiter.target.as_ref().is_some_and(|target| match waiter.session {
                    true => snapshot.keeps_sessions_of(target) && target.takes_sessions(now),
                    false => eligible.binary_search(&target.key).is_ok(),
                })
            });
            line.eligible = eligible;
            if snapshot.is_hopeless() {
                // Who comes now is turned away at once, and so is who came before.
                for waiter in line.take_open() {
                    woken.extend(waiter.end(State::Closed));
                }
            }
        }
        self.open.store(line.open_len(), SeqCst);
        for endpoint in &awaited {
            endpoint.limit.set_queued(line.pinned_len(endpoint.key));
        }
        // One each in turn: where all of a sudden there is much room, the first endpoint shall not
        // get all who waited.
        let drained = awaited.iter().filter(|e| line.eligible.binary_search(&e.key).is_err());
        let with_room = snapshot.usable().chain(drained).filter(|endpoint| endpoint.has_room());
        let mut with_room: Vec<_> = with_room.collect();
        while !with_room.is_empty() {
            with_room.retain(|endpoint| self.serve_one(&mut line, endpoint, now, &mut woken));
        }
        woken
    }

    pub(crate) fn status(&self) -> QueueStatus {
        let rejected = |rejection: Rejection| self.rejected[rejection as usize].load(Relaxed);
        let bounds = WAITED_BOUNDS_US.into_iter().chain([u64::MAX]);
        QueueStatus {
            queued: self.lock().len() as u64,
            rejected: RejectedStatus {
                concurrency: rejected(Rejection::Concurrency),
                queue_full: rejected(Rejection::QueueFull),
                queue_timeout: rejected(Rejection::QueueTimeout),
                requests: rejected(Rejection::Requests),
                retries: rejected(Rejection::Retries),
                wake_timeout: rejected(Rejection::WakeTimeout),
            },
            waited_us: bounds.zip(self.waited.iter().map(|count| count.load(Relaxed))).collect(),
            waited_us_sum: self.waited_us_sum.load(Relaxed),
        }
    }
}

/// A place in the queue of a service; ready with a [`Pick`] when its turn has come, or with
/// `None` if the service is no more, or is left without any endpoint and expects none. Dropped, it
/// gives the place back. It never times out by itself: see [`crate::Service::overdue`].
#[must_use = "a place in the queue is given back when it is dropped"]
pub struct Waiting {
    origin: Arc<Origin>,
    waiter: Arc<Waiter>,
}

impl Waiting {
    /// When it came.
    pub fn since(&self) -> Instant {
        self.waiter.since
    }

    /// When it has waited for as long as the queue that it joined lets it.
    pub fn until(&self) -> Instant {
        self.waiter.until
    }

    /// The one endpoint that it came for, by its key; `None`: any.
    pub fn target(&self) -> Option<u64> {
        self.waiter.target.as_ref().map(|target| target.key)
    }

    pub(crate) fn is_of_session(&self) -> bool {
        self.waiter.session
    }

    /// What it was handed, if it was.
    pub(crate) fn take(&mut self) -> Option<Pick> {
        let mut state = self.waiter.state();
        match std::mem::replace(&mut *state, State::Over) {
            State::Served(pick) => Some(pick),
            other => {
                *state = other;
                None
            }
        }
    }
}

impl Future for Waiting {
    type Output = Option<Pick>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Pick>> {
        let mut state = self.waiter.state();
        match std::mem::replace(&mut *state, State::Over) {
            State::Served(pick) => Poll::Ready(Some(pick)),
            State::Closed => {
                self.origin.gate.uncount(self.waiter.counted);
                Poll::Ready(None)
            }
            State::Over => Poll::Ready(None),
            State::Waiting(waker) => {
                let waker = waker.filter(|waker| waker.will_wake(cx.waker()));
                *state = State::Waiting(waker.or_else(|| Some(cx.waker().clone())));
                Poll::Pending
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if matches!(*self.waiter.state(), State::Over) {
            return;
        }
        let gate = &self.origin.gate;
        {
            let mut line = gate.lock();
            if line.remove(&self.waiter).is_some() {
                gate.note_lengths(&line, &self.waiter);
            }
        }
        // From here on nobody hands it anything. What it was handed before goes on to the next
        // when it is dropped, which takes the lock again.
        let state = std::mem::replace(&mut *self.waiter.state(), State::Over);
        match state {
            State::Served(pick) => drop(pick),
            State::Waiting(_) | State::Closed => gate.uncount(self.waiter.counted),
            State::Over => {}
        }
    }
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("since", &self.since()).finish_non_exhaustive()
    }
}
