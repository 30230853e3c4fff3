//! Every connection that a worker carries, with its deadline and what it is tied to.
//!
//! One slot per connection in one array: setting a deadline is one store, and a tick that looks
//! through the array replaces a timer per connection. Deadlines are therefore met to within
//! [`TICK`].

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use model::Instant;

/// How often deadlines are looked at: a tenth of the shortest time-out that makes sense (1 s).
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Closed listeners that are remembered: far more than are closed while one drains its queue.
const CLOSED_REMEMBERED_MAX: usize = 64;

/// The connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Tracked {
    slots: RefCell<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    all: Vec<Slot>,
    free: Vec<u32>,
    /// Listeners that accept no more, and when what they accepted must end. `None`: all of them.
    closed: Vec<(Option<u32>, Instant)>,
}

#[derive(Debug)]
struct Slot {
    deadline: Instant,
    /// When the connection must end, whatever it is doing.
    close_at: Instant,
    /// `EndpointHandle::key` of the endpoint in use; 0: none.
    endpoint: u64,
    listener: u32,
    state: SlotState,
    expired: bool,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotState {
    Free,
    Open,
    /// Was told to end as soon as nothing is lost by it.
    Closing,
}

impl Tracked {
    pub(crate) fn register(self: &Rc<Self>, listener: u32) -> Ticket {
        let mut slots = self.slots.borrow_mut();
        // The last ones of a closed listener come out of its queue after it was closed.
        let closed = slots.closed.iter().find(|(l, _)| l.is_none_or(|l| l == listener));
        let slot = Slot {
            deadline: Instant::FAR_FUTURE,
            close_at: closed.map_or(Instant::FAR_FUTURE, |(_, close_at)| *close_at),
            endpoint: 0,
            listener,
            state: if closed.is_some() { SlotState::Closing } else { SlotState::Open },
            expired: false,
            waker: None,
        };
        let index = match slots.free.pop() {
            Some(index) => {
                slots.all[index as usize] = slot;
                index
            }
            None => {
                slots.all.push(slot);
                u32::try_from(slots.all.len() - 1).unwrap_or(u32::MAX)
            }
        };
        Ticket { tracked: self.clone(), index }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let slots = self.slots.borrow();
        slots.all.len() == slots.free.len()
    }

    /// Wakes those whose time has come.
    pub(crate) fn tick(&self, now: Instant) {
        for slot in &mut self.slots.borrow_mut().all {
            if slot.deadline <= now || slot.close_at <= now {
                slot.expired = true;
                slot.deadline = Instant::FAR_FUTURE;
                if slot.close_at <= now {
                    slot.close_at = Instant::ZERO;
                }
                wake(slot);
            }
        }
    }

    /// Those of `listener` (`None`: all) end: idle ones now, others when what they do is done and
    /// at `close_at` at the latest.
    pub(crate) fn close_listener(&self, listener: Option<u32>, close_at: Instant) {
        let mut slots = self.slots.borrow_mut();
        // Listener ids are never used twice, so the list only has to outlive the accept queue.
        if slots.closed.len() == CLOSED_REMEMBERED_MAX {
            slots.closed.remove(0);
        }
        slots.closed.push((listener, close_at));
        for slot in &mut slots.all {
            if slot.state != SlotState::Free && listener.is_none_or(|l| l == slot.listener) {
                slot.state = SlotState::Closing;
                slot.close_at = slot.close_at.min(close_at);
                wake(slot);
            }
        }
    }

    /// Those that use the endpoint end at `close_at` at the latest; `FAR_FUTURE` takes that back.
    pub(crate) fn close_endpoint(&self, endpoint: u64, close_at: Instant) {
        for slot in &mut self.slots.borrow_mut().all {
            match slot.state {
                SlotState::Free => {}
                _ if slot.endpoint != endpoint => {}
                // The listener's end comes, whatever becomes of the endpoint.
                SlotState::Closing => slot.close_at = slot.close_at.min(close_at),
                SlotState::Open => slot.close_at = close_at,
            }
        }
    }
}

fn wake(slot: &Slot) {
    if let Some(waker) = &slot.waker {
        waker.wake_by_ref();
    }
}

/// One connection's place in [`Tracked`].
#[derive(Debug)]
pub(crate) struct Ticket {
    tracked: Rc<Tracked>,
    index: u32,
}

impl Ticket {
    fn with<T>(&self, change: impl FnOnce(&mut Slot) -> T) -> T {
        change(&mut self.tracked.slots.borrow_mut().all[self.index as usize])
    }

    /// Remember whom to wake: once per task is enough, a task's waker stays the same.
    pub(crate) fn attach(&self, cx: &Context<'_>) {
        self.with(|slot| match &slot.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => slot.waker = Some(cx.waker().clone()),
        });
    }

    /// Wake at `deadline`, in place of any deadline before.
    pub(crate) fn set_deadline(&self, deadline: Instant) {
        self.with(|slot| {
            slot.deadline = deadline;
            slot.expired = slot.close_at == Instant::ZERO;
        });
    }

    /// Has the deadline, or the connection's end, come?
    pub(crate) fn expired(&self) -> bool {
        self.with(|slot| slot.expired)
    }

    /// Must the connection end now, whatever it is doing?
    pub(crate) fn must_close(&self) -> bool {
        self.with(|slot| slot.close_at == Instant::ZERO)
    }

    /// Should the connection end at the next opportunity?
    pub(crate) fn is_closing(&self) -> bool {
        self.with(|slot| slot.state == SlotState::Closing)
    }

    /// The endpoint now in use, and when what uses it must end.
    pub(crate) fn set_endpoint(&self, endpoint: u64, close_at: Option<Instant>) {
        self.with(|slot| {
            if slot.state != SlotState::Closing {
                slot.close_at = close_at.unwrap_or(Instant::FAR_FUTURE);
            }
            slot.endpoint = endpoint;
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut slots = self.tracked.slots.borrow_mut();
        let slot = &mut slots.all[self.index as usize];
        slot.state = SlotState::Free;
        slot.deadline = Instant::FAR_FUTURE;
        slot.close_at = Instant::FAR_FUTURE;
        slot.endpoint = 0;
        slot.waker = None;
        slots.free.push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_and_endings() {
        let tracked = Rc::new(Tracked::default());
        let at = |s| Instant::ZERO + Duration::from_secs(s);
        let (a, b) = (tracked.register(1), tracked.register(2));
        a.set_deadline(at(5));
        tracked.tick(at(4));
        assert!(!a.expired());
        tracked.tick(at(5));
        assert!(a.expired() && !a.must_close() && !b.expired());
        a.set_deadline(at(9));
        assert!(!a.expired());

        b.set_endpoint(77, None);
        tracked.close_endpoint(77, at(6));
        tracked.tick(at(7));
        assert!(b.must_close() && b.expired() && !a.must_close());

        a.set_endpoint(78, None);
        tracked.close_endpoint(78, at(8));
        tracked.close_endpoint(78, Instant::FAR_FUTURE);
        tracked.tick(at(9));
        assert!(!a.must_close());

        tracked.close_listener(Some(1), at(20));
        assert!(a.is_closing() && !b.is_closing());
        tracked.close_endpoint(78, Instant::FAR_FUTURE);
        tracked.tick(at(21));
        assert!(a.must_close());
        drop((a, b));
        assert!(tracked.is_empty());
        let (c, d) = (tracked.register(3), tracked.register(1));
        assert!(!c.expired() && !c.is_closing());
        assert!(d.is_closing(), "it was accepted before its listener closed, and served after");
    }
}
