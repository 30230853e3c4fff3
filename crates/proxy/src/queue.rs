//! Waiting for an endpoint of a service whose endpoints are all at their limit.
//!
//! Whose wait is over is woken by whichever worker ends something, through the task's waker.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use model::Instant;
use model::spec::{PRIORITY_DEFAULT, QueueSpec};
use service::{Acquired, Pick, Rejection, Request, Service, Waiting};

use crate::buffer::{BLOCK_BYTES, Buffer};
use crate::io::Stream;
use crate::tracked::Ticket;
use crate::worker::Worker;

/// Why there is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoEndpoint,
    Full(Rejection),
    TotalTimeout,
    ClientGone,
    /// The connection must end.
    Closed,
}

impl Refusal {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::NoEndpoint => "no endpoint",
            Self::Full(rejection) => rejection.reason(),
            Self::TotalTimeout => "total time-out",
            Self::ClientGone => "client gone",
            Self::Closed => "grace over",
        }
    }
}

/// Who waits.
pub(crate) struct Client<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) ticket: &'a Ticket,
    pub(crate) stream: &'a mut Stream,
    pub(crate) inbound: &'a mut Buffer,
    /// What was read of it meanwhile.
    pub(crate) bytes_in: u64,
    /// The end of its direction means that it is gone, and not only that it has said all.
    pub(crate) ends_with_end: bool,
}

/// How early the turn of a request comes, as its header says.
pub(crate) fn priority(queue: Option<&QueueSpec>, request: &impl route::Request) -> u8 {
    let Some(name) = queue.and_then(|queue| queue.priority.as_deref()) else {
        return PRIORITY_DEFAULT;
    };
    let mut priority = PRIORITY_DEFAULT;
    request.header(name, &mut |value| {
        if let [digit @ b'0'..=b'9'] = value {
            priority = digit - b'0';
        }
        true
    });
    priority
}

/// What was acquired, once its turn has come.
pub(crate) async fn settle(
    acquired: Acquired,
    service: &Service,
    client: &mut Client<'_>,
    request: &Request<'_>,
    total_at: Instant,
) -> Result<Pick, Refusal> {
    let waiting = match acquired {
        Acquired::Picked(pick) => return Ok(pick),
        Acquired::Waits(waiting) => waiting,
        Acquired::Full(rejection) => return Err(Refusal::Full(rejection)),
        Acquired::NoEndpoint => return Err(Refusal::NoEndpoint),
    };
    client.ticket.set_deadline(waiting.until().min(total_at));
    let mut waiting = waiting;
    let ended = poll_fn(|cx| client.poll(cx, &mut waiting)).await;
    match ended {
        Ok(pick) => pick.ok_or(Refusal::NoEndpoint),
        Err(Refusal::Full(_)) if total_at <= client.worker.clock.now() => {
            Err(Refusal::TotalTimeout)
        }
        Err(Refusal::Full(rejection)) => {
            let request = Request { now: client.worker.clock.now(), ..*request };
            let over = match rejection {
                Rejection::QueueTimeout => service.wait_over(),
                other => other,
            };
            service
                .overdue(waiting, &request, &mut client.worker.rng.borrow_mut())
                .ok_or(Refusal::Full(over))
        }
        Err(refusal) => Err(refusal),
    }
}

impl Client<'_> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        waiting: &mut Waiting,
    ) -> Poll<Result<Option<Pick>, Refusal>> {
        if let Poll::Ready(pick) = Pin::new(waiting).poll(cx) {
            return Poll::Ready(Ok(pick));
        }
        if self.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Refusal::ClientGone));
        }
        match self.ticket.expired() {
            true if self.ticket.must_close() => Poll::Ready(Err(Refusal::Closed)),
            true => Poll::Ready(Err(Refusal::Full(Rejection::QueueTimeout))),
            false => Poll::Pending,
        }
    }

    /// Reads what the client sends meanwhile, within one block, so as to notice when it goes.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.inbound.len() < BLOCK_BYTES {
            match self.inbound.poll_fill(cx, self.stream, BLOCK_BYTES) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) if self.ends_with_end => return Poll::Ready(()),
                // Asked again it would answer the same at once.
                Poll::Ready(Ok(0)) => return Poll::Pending,
                Poll::Ready(Ok(count)) => self.bytes_in += count as u64,
                Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::OutOfMemory => break,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}
