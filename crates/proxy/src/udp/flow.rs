use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use model::spec::Protocol;
use model::{EndpointId, Instant};
use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::leg::{Leg, is_unreachable};
use super::{FlowKey, Front, KEPT_BYTES_MAX};
use crate::access_log::Entry;
use crate::listener::{Admission, Door, Target};
use crate::tracked::Ticket;

/// Replies taken from an endpoint before other tasks have their turn.
const BATCH: usize = 64;
/// A flow of a listener that is stopping ends once it was quiet for so long: a round trip, so
/// that an answer under way still arrives.
const CLOSING_IDLE: Duration = Duration::from_secs(1);

/// The datagrams between one client and one service. A task of its own reads the replies; the
/// listener's task sends what the client says.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) key: FlowKey,
    door: Door,
    target: Arc<Target>,
    /// Its place under the listener's limits.
    _admission: Admission,
    ticket: Ticket,
    started: Instant,
    last_move: Cell<Instant>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    datagrams_in: Cell<u64>,
    replies: Cell<u64>,
    attempts: Cell<u32>,
    /// `None` once the flow is over.
    leg: RefCell<Option<Leg>>,
    endpoint: RefCell<EndpointId>,
    kept: RefCell<Kept>,
    end: Cell<Option<FlowEnd>>,
    /// Another leg took the place of the one that the task waits for, or the flow ended.
    changed: Cell<bool>,
    /// The task knows that the listener is stopping.
    closing: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// The client's last datagram, until the endpoint says anything.
#[derive(Debug, Default)]
struct Kept {
    bytes: Vec<u8>,
    is_there: bool,
    /// It was sent to another endpoint once.
    was_moved: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlowEnd {
    Idle,
    /// All replies came that were to come.
    Answered,
    /// The endpoint is gone, and no other could take its place.
    Unreachable,
    /// The endpoint's or listener's grace is over.
    Closed,
}

impl Flow {
    pub(super) fn new(
        door: &Door,
        key: FlowKey,
        target: Arc<Target>,
        admission: Admission,
        leg: Leg,
        now: Instant,
    ) -> Self {
        let ticket = door.worker.tracked.register(door.listener.id);
        let flow = Self {
            key,
            door: door.clone(),
            target,
            _admission: admission,
            ticket,
            started: now,
            last_move: Cell::new(now),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            datagrams_in: Cell::new(0),
            replies: Cell::new(0),
            attempts: Cell::new(0),
            endpoint: RefCell::new(leg.pick.endpoint().id.clone()),
            leg: RefCell::new(None),
            kept: RefCell::default(),
            end: Cell::new(None),
            changed: Cell::new(false),
            closing: Cell::new(false),
            waker: RefCell::new(None),
        };
        flow.set_leg(leg);
        flow
    }

    fn set_leg(&self, leg: Leg) {
        let endpoint = leg.pick.endpoint();
        self.attempts.set(self.attempts.get() + 1);
        self.ticket.set_endpoint(endpoint.key, endpoint.close_at());
        endpoint.id.clone_into(&mut self.endpoint.borrow_mut());
        *self.leg.borrow_mut() = Some(leg);
        self.wake();
    }

    fn wake(&self) {
        self.changed.set(true);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Passes on what the client sent.
    pub(super) fn send(&self, front: &Front, bytes: &[u8], now: Instant) {
        self.last_move.set(now);
        self.bytes_in.set(self.bytes_in.get() + bytes.len() as u64);
        self.datagrams_in.set(self.datagrams_in.get() + 1);
        let sent = match &*self.leg.borrow() {
            Some(leg) => leg.send(bytes),
            None => return,
        };
        self.kept.borrow_mut().keep(bytes, &front.kept_bytes);
        if sent.is_err() {
            self.move_on(front, now);
        }
    }

    /// The endpoint is gone: the datagram at hand goes to another one, once; without any, or
    /// without another, the flow is over.
    fn move_on(&self, front: &Front, now: Instant) {
        let Some(broken) = self.leg.borrow_mut().take() else { return };
        let mut tried = broken.tried.clone();
        tried.push(broken.pick.endpoint().key);
        broken.report(now, true, false);
        let mut kept = self.kept.borrow_mut();
        let may_retry = self.target.service.settings().retry.attempts > 0;
        if kept.is_there && !kept.was_moved && may_retry {
            kept.was_moved = true;
            if let Ok(leg) =
                Leg::open(&self.door.worker, &self.target, self.key.client_ip(), now, tried)
            {
                let sent = leg.send(&kept.bytes);
                drop(kept);
                self.set_leg(leg);
                match sent {
                    Ok(()) => return,
                    Err(_) => return self.move_on(front, now),
                }
            }
        }
        self.finish(front, FlowEnd::Unreachable);
    }

    /// The next datagram of this client opens another flow.
    fn finish(&self, front: &Front, end: FlowEnd) {
        if self.end.get().is_none() {
            self.end.set(Some(end));
            front.remove(self);
            self.wake();
        }
    }

    /// Brings replies to the client until the flow ends.
    pub(super) async fn run(self: Rc<Self>, front: Rc<Front>) {
        self.ticket.set_deadline(self.started + self.idle_max());
        while self.end.get().is_none() {
            self.changed.set(false);
            let socket = match &*self.leg.borrow() {
                Some(leg) => leg.socket.clone(),
                None => break,
            };
            tokio::select! {
                biased;
                () = poll_fn(|cx| self.poll_disturbed(cx)) => self.check_time(&front),
                // An ICMP message wakes as an error alone. Which it was, the read tells.
                _ = socket.ready(Interest::READABLE | Interest::ERROR) => {
                    self.take_replies(&front, &socket);
                }
            }
        }
        self.conclude(&front);
    }

    fn take_replies(&self, front: &Front, socket: &UdpSocket) {
        let mut buffer = front.reply.borrow_mut();
        for _ in 0..BATCH {
            match receive(socket, &mut buffer) {
                Ok(len) => self.reply(front, &buffer[..len], self.door.worker.clock.now()),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if is_unreachable(&e) => {
                    self.move_on(front, self.door.worker.clock.now());
                }
                // Of one datagram, not of the endpoint.
                Err(e) => tracing::debug!("{}: reply: {e}", self.door.listener.name),
            }
            if self.changed.get() {
                return;
            }
        }
    }

    /// Ready when there is more to look at than replies.
    fn poll_disturbed(&self, cx: &Context<'_>) -> Poll<()> {
        self.ticket.attach(cx);
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        let is_stopping = self.ticket.is_closing() && !self.closing.get();
        if self.changed.get() || self.ticket.expired() || is_stopping {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn reply(&self, front: &Front, bytes: &[u8], now: Instant) {
        self.last_move.set(now);
        self.replies.set(self.replies.get() + 1);
        if let Some(leg) = &mut *self.leg.borrow_mut()
            && leg.latency.is_none()
        {
            let latency = now.since(leg.began);
            leg.latency = Some(latency);
            leg.tried.clear();
            self.target.latencies[self.door.worker.index].observe(latency);
        }
        self.kept.borrow_mut().forget();
        // What finds the socket full is lost, as UDP may lose it.
        if front.socket.send(bytes, self.key.client, self.key.local).is_ok() {
            self.bytes_out.set(self.bytes_out.get() + bytes.len() as u64);
            self.door.counters().bytes_out.add(bytes.len() as u64);
        }
        if let Some(replies) = self.replies_each()
            && self.replies.get() >= self.datagrams_in.get() * u64::from(replies)
        {
            self.finish(front, FlowEnd::Answered);
        }
    }

    fn check_time(&self, front: &Front) {
        self.closing.set(self.ticket.is_closing());
        if self.ticket.must_close() {
            return self.finish(front, FlowEnd::Closed);
        }
        let idle_at = self.last_move.get() + self.idle_max();
        if idle_at <= self.door.worker.clock.now() {
            return self.finish(front, FlowEnd::Idle);
        }
        // The deadline is moved when it comes, not with every datagram.
        self.ticket.set_deadline(idle_at);
    }

    fn idle_max(&self) -> Duration {
        let idle = self.door.listener.state.load().spec.udp.flow_idle;
        if self.ticket.is_closing() { idle.min(CLOSING_IDLE) } else { idle }
    }

    fn replies_each(&self) -> Option<u32> {
        self.door.listener.state.load().spec.udp.replies
    }

    fn conclude(&self, front: &Front) {
        let end = self.end.get().unwrap_or(FlowEnd::Unreachable);
        front.remove(self);
        self.kept.borrow_mut().give_back(&front.kept_bytes);
        let replies_each = self.replies_each();
        let mut unanswered = end == FlowEnd::Unreachable;
        if let Some(leg) = self.leg.borrow_mut().take() {
            unanswered |= leg.latency.is_none() && replies_each.is_some();
            leg.report(
                self.door.worker.clock.now(),
                false,
                end == FlowEnd::Idle && replies_each.is_some(),
            );
        }
        self.door.counters().open.sub(1);
        self.door.worker.log.write(&Entry {
            listener: self.door.listener.name.as_str(),
            protocol: Protocol::Udp,
            client: self.key.client_ip(),
            http: None,
            tls: None,
            duration: self.door.worker.clock.now().since(self.started),
            queued: Duration::ZERO,
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            service: Some(self.target.service.name().as_str()),
            endpoint: Some(self.endpoint.borrow().as_str()),
            attempts: self.attempts.get(),
            hedged: false,
            error: match end {
                FlowEnd::Unreachable => Some("endpoint unreachable"),
                FlowEnd::Closed => Some("closed at the end of its grace"),
                FlowEnd::Idle if unanswered => Some("no reply"),
                FlowEnd::Idle | FlowEnd::Answered => None,
            },
        });
    }
}

/// One datagram, or the socket's error; `WouldBlock` once there is neither.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = || Ok(recv(socket, &mut *buffer, RecvFlags::DONTWAIT)?.0);
    // The runtime forgets one kind of readiness at a time.
    match socket.try_io(Interest::READABLE, &mut read) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => socket.try_io(Interest::ERROR, read),
        result => result,
    }
}

impl Kept {
    /// Keeps `bytes` in place of what was kept before, unless the worker keeps too much already.
    fn keep(&mut self, bytes: &[u8], total: &Cell<usize>) {
        self.was_moved = false;
        self.is_there = false;
        let before = self.bytes.capacity();
        if bytes.len() > before && total.get() + bytes.len() - before > KEPT_BYTES_MAX {
            return;
        }
        self.bytes.clear();
        self.bytes.reserve_exact(bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.is_there = true;
        total.set(total.get() + self.bytes.capacity() - before);
    }

    /// The endpoint took it.
    fn forget(&mut self) {
        self.is_there = false;
    }

    fn give_back(&mut self, total: &Cell<usize>) {
        total.set(total.get() - self.bytes.capacity());
        self.bytes = Vec::new();
        self.is_there = false;
    }
}
