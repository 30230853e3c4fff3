//! A request that a second endpoint is asked for, too, because the first takes long.
//!
//! [`Forward::race`] stands before the exchange: it sends the request, waits for the answer to
//! begin, and at the moment of `Service::hedge_after` begins a second attempt beside the first.
//! Whose answer begins first is left in the lane, for the exchange to go on with; the other
//! connection is closed. An answer that reports a failure is taken only when the other attempt
//! is lost, too: an endpoint that fails fast must not win.
//!
//! Services without hedging never come here. With it, a request costs one boxed future and, if
//! its answer is not there at once, one timer; nothing more until its moment.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use model::spec::RetryCondition;
use model::{Instant, Outcome, Report};
use service::{EndpointHandle, Pick, Request, Settings};
use smallvec::SmallVec;
use wire::http1::RequestHead;

use crate::buffer::{BLOCK_BYTES, Buffer};
use crate::clock::Clock;
use crate::dialling::{Wanted, connection};
use crate::http1::exchange::{Fault, upload_fault};
use crate::http1::forward::Forward;
use crate::http1::reply::send;
use crate::http1::request_head;
use crate::http1::turn::Scratch;
use crate::http1::verdict::{dial_outcome, status_outcome, verdict};
use crate::pump::PumpError;
use crate::tracked::Ticket;
use crate::upstream::{Announce, Secure, Upstream};
use crate::worker::Worker;

/// An attempt that has its connection.
pub(super) struct Lane {
    /// Until it is reported.
    pub(super) pick: Option<Pick>,
    pub(super) endpoint: Arc<EndpointHandle>,
    pub(super) upstream: Upstream,
    /// The connection was used before.
    pub(super) reused: bool,
    pub(super) from_up: Buffer,
    /// When it was picked.
    pub(super) began: Instant,
}

impl Lane {
    pub(super) fn report(&mut self, report: &Report) {
        if let Some(pick) = self.pick.take() {
            pick.report(report);
        }
    }

    /// Nothing more comes of it, while another attempt may still succeed: it is reported, and its
    /// endpoint rid of it, now.
    fn lose(&mut self, fault: &Fault, now: Instant) {
        let is_stale = self.reused && matches!(fault, Fault::UpstreamClosed);
        self.report(&Report::new(now, verdict(fault, is_stale).0));
        self.upstream.stream.end();
    }
}

/// The second attempt.
struct Second {
    /// Until it is reported.
    pick: Option<Pick>,
    endpoint: Arc<EndpointHandle>,
    began: Instant,
    attempt: Pin<Box<dyn Future<Output = Result<Answer, Outcome>>>>,
}

/// An answer that begins.
struct Answer {
    upstream: Upstream,
    reused: bool,
    from_up: Buffer,
    first_line: FirstLine,
}

/// What the start of an answer says of it. The status is 0 if it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FirstLine {
    status: u16,
    is_good: bool,
}

/// How far one of the two is.
enum Side<T> {
    Waiting,
    /// It answered, with a failure.
    Poor(T),
    Lost(Fault),
}

enum Waited {
    /// The first attempt has something to tell, if only its end.
    Over,
    Gone,
    Moment,
}

enum Won {
    First,
    Second(Answer),
    Neither(Fault),
}

impl Forward<'_> {
    /// How long after its pick the attempt may be hedged; `None`: not at all.
    pub(super) fn hedge_after(&self, request: &RequestHead) -> Option<Duration> {
        self.settings.hedge?;
        // What belongs to a session stays where it is; an upgraded connection is no message; a
        // client that waits for a 100 (Continue) shall get one, from one endpoint.
        let may = self.session.is_none()
            && self.is_repeatable(request)
            && !request.expect_continue
            && request_head::upgrade(self.down.inbound.bytes(), request).is_none();
        if may { self.target.service.hedge_after(self.now()) } else { None }
    }

    /// Sends the request and waits until its answer begins, with the help of a second endpoint
    /// if the first takes longer than `after`. The exchange goes on with what is then in `lane`,
    /// as if it had begun at the moment that this answers.
    pub(super) async fn race(
        &mut self,
        scratch: &mut Scratch,
        lane: &mut Lane,
        after: Duration,
    ) -> Result<Instant, Fault> {
        let is_sent = self.send_request(scratch, lane).await?;
        let begin = self.now();
        // A body that was not kept cannot be sent to another one.
        if !is_sent || !self.upload.can_restart() {
            return Ok(begin);
        }
        let mut client = Client::default();
        let waited = self.wait(lane, &mut client, begin, lane.began + after).await;
        let second = match waited {
            Waited::Over => None,
            Waited::Gone => return Err(Fault::ClientGone),
            Waited::Moment => self.second(scratch, lane),
        };
        if let Some(second) = second {
            scratch.record.attempts += 1;
            scratch.record.hedged = true;
            let is_second = self.run_second(scratch, lane, &mut client, second).await?;
            self.down.count_in(&mut scratch.record, client.read);
            return Ok(if is_second { self.now() } else { begin });
        }
        self.down.count_in(&mut scratch.record, client.read);
        Ok(begin)
    }

    /// Whether all of it was sent, and no answer is there yet: else the exchange sees to it.
    async fn send_request(&mut self, scratch: &Scratch, lane: &mut Lane) -> Result<bool, Fault> {
        let allowance = self.state.spec.timeouts.idle.min(self.settings.first_byte_timeout);
        self.down.ticket.set_deadline((self.now() + allowance).min(self.total_at()));
        let (down, upload) = (&mut *self.down, &mut self.upload);
        poll_fn(|cx| {
            let (inbound, stream) = (&mut down.inbound, &mut down.stream);
            match upload.poll(cx, &scratch.outbound, inbound, stream, &mut lane.upstream.stream) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(true)),
                // It may have answered.
                Poll::Ready(Err(PumpError::Write)) => return Poll::Ready(Ok(false)),
                Poll::Ready(Err(e)) => return Poll::Ready(Err(upload_fault(e))),
                Poll::Pending => {}
            }
            let answered = lane.from_up.poll_fill(cx, &mut lane.upstream.stream, BLOCK_BYTES);
            if answered.is_ready() || down.ticket.expired() {
                return Poll::Ready(Ok(false));
            }
            Poll::Pending
        })
        .await
    }

    async fn wait(
        &mut self,
        lane: &mut Lane,
        client: &mut Client,
        begin: Instant,
        moment: Instant,
    ) -> Waited {
        let deadline = (begin + self.settings.first_byte_timeout).min(self.total_at());
        self.down.ticket.set_deadline(deadline);
        let down = &mut *self.down;
        let mut timer =
            pin!(tokio::time::sleep_until(down.door.worker.clock.runtime(moment.max(begin))));
        poll_fn(|cx| {
            let answered = lane.from_up.poll_fill(cx, &mut lane.upstream.stream, BLOCK_BYTES);
            if answered.is_ready() || down.ticket.expired() {
                return Poll::Ready(Waited::Over);
            }
            if client.poll_gone(cx, &mut down.inbound, &mut down.stream) {
                return Poll::Ready(Waited::Gone);
            }
            timer.as_mut().poll(cx).map(|()| Waited::Moment)
        })
        .await
    }

    /// Begins a second attempt, if there is an endpoint for it and the budget allows it.
    fn second(&self, scratch: &Scratch, lane: &Lane) -> Option<Second> {
        let began = self.now();
        let mut exclude: SmallVec<[u64; 4]> = self.tried.clone();
        exclude.push(lane.endpoint.key);
        let request = Request { now: began, key: self.key, exclude: &exclude };
        let worker = &self.down.door.worker;
        let pick = self.target.service.hedge(&request, &mut worker.rng.borrow_mut())?;
        let endpoint = pick.endpoint().clone();
        let body = &self.down.inbound.bytes()[scratch.request.len..self.upload.end()];
        let attempt = Attempt {
            // Its own, since it has its own deadlines, and its endpoint may leave by itself.
            ticket: worker.tracked.register(self.down.door.listener.id),
            worker: worker.clone(),
            endpoint: endpoint.clone(),
            settings: self.settings.clone(),
            announce: self.announce,
            secure: Secure::clone(&self.target.secure.load()),
            message: [&scratch.outbound[..], body].concat(),
            total_at: self.total_at(),
            is_hasty: self.is_hasty(),
        };
        Some(Second { pick: Some(pick), endpoint, began, attempt: Box::pin(attempt.run()) })
    }

    /// Whether the second attempt is in the lane now.
    async fn run_second(
        &mut self,
        scratch: &mut Scratch,
        lane: &mut Lane,
        client: &mut Client,
        mut second: Second,
    ) -> Result<bool, Fault> {
        let mut first = Side::Waiting;
        let won = self.first_answer(lane, client, &mut first, &mut second).await;
        let now = self.now();
        let since = |began| Some(now.since(began));
        match won {
            Won::First => {
                if let Some(pick) = second.pick.take() {
                    let report = Report::new(now, Outcome::Abandoned);
                    pick.report(&report.after(since(second.began)));
                }
                // It may have been let off while the other one was waited for.
                self.down.ticket.set_endpoint(lane.endpoint.key, lane.endpoint.close_at());
                Ok(false)
            }
            Won::Second(answer) => {
                let Answer { upstream, reused, from_up, .. } = answer;
                let Second { pick, endpoint, began, .. } = second;
                let won = Lane { pick, endpoint, upstream, reused, from_up, began };
                let mut loser = std::mem::replace(lane, won);
                self.tried.push(loser.endpoint.key);
                loser.report(&match first {
                    Side::Poor(status) => Report::new(now, status_outcome(status)),
                    // One that was lost was reported then.
                    Side::Waiting | Side::Lost(_) => {
                        Report::new(now, Outcome::Abandoned).after(since(loser.began))
                    }
                });
                self.target.service.count_hedge_won();
                let endpoint = &lane.endpoint;
                self.down.ticket.set_endpoint(endpoint.key, endpoint.close_at());
                if self.down.door.worker.log.is_on() {
                    scratch.record.endpoint = Some(endpoint.id.clone());
                }
                Ok(true)
            }
            Won::Neither(fault) => Err(fault),
        }
    }

    async fn first_answer(
        &mut self,
        lane: &mut Lane,
        client: &mut Client,
        first: &mut Side<u16>,
        second: &mut Second,
    ) -> Won {
        let total_at = self.total_at();
        let conditions = &self.settings.retry.on;
        let down = &mut *self.down;
        let clock = down.door.worker.clock;
        let mut other: Side<Answer> = Side::Waiting;
        poll_fn(|cx| {
            loop {
                if let Some(line) = poll_first(cx, lane, first, conditions, clock) {
                    if line.is_good {
                        return Poll::Ready(Won::First);
                    }
                    *first = Side::Poor(line.status);
                }
                if let Side::Waiting = other
                    && let Poll::Ready(result) = second.attempt.as_mut().poll(cx)
                {
                    other = match result {
                        Ok(answer) if answer.first_line.is_good => {
                            return Poll::Ready(Won::Second(answer));
                        }
                        Ok(answer) => Side::Poor(answer),
                        Err(outcome) => {
                            if let Some(pick) = second.pick.take() {
                                pick.report(&Report::new(clock.now(), outcome));
                            }
                            Side::Lost(Fault::UpstreamClosed)
                        }
                    };
                }
                match (&mut *first, std::mem::replace(&mut other, Side::Waiting)) {
                    (Side::Lost(_), Side::Poor(answer)) => return Poll::Ready(Won::Second(answer)),
                    (Side::Lost(_), Side::Lost(_)) => {
                        let lost = std::mem::replace(first, Side::Waiting);
                        let Side::Lost(fault) = lost else { unreachable!("it was just seen") };
                        return Poll::Ready(Won::Neither(fault));
                    }
                    (Side::Poor(_), Side::Poor(answer)) => {
                        if let Some(pick) = second.pick.take() {
                            let outcome = status_outcome(answer.first_line.status);
                            pick.report(&Report::new(clock.now(), outcome));
                        }
                        return Poll::Ready(Won::First);
                    }
                    (Side::Poor(_), Side::Lost(_)) => return Poll::Ready(Won::First),
                    (_, side) => other = side,
                }
                if client.poll_gone(cx, &mut down.inbound, &mut down.stream) {
                    return Poll::Ready(Won::Neither(Fault::ClientGone));
                }
                if !down.ticket.expired() {
                    return Poll::Pending;
                }
                let must_close = down.ticket.must_close();
                if must_close && down.ticket.is_closing() {
                    return Poll::Ready(Won::Neither(Fault::Closed));
                }
                if total_at <= clock.now() {
                    return Poll::Ready(Won::Neither(Fault::TotalTimeout));
                }
                // It had its time, or its endpoint's grace is over; the other may still answer.
                if let Side::Waiting = first {
                    let fault = if must_close { Fault::Closed } else { Fault::FirstByteTimeout };
                    lane.lose(&fault, clock.now());
                    *first = Side::Lost(fault);
                }
                down.ticket.set_endpoint(0, None);
                down.ticket.set_deadline(total_at);
            }
        })
        .await
    }
}

/// Reads what the first attempt answers, until its first line is there or nothing more comes.
fn poll_first(
    cx: &mut Context<'_>,
    lane: &mut Lane,
    first: &mut Side<u16>,
    conditions: &[RetryCondition],
    clock: Clock,
) -> Option<FirstLine> {
    while let Side::Waiting = first {
        match lane.from_up.poll_fill(cx, &mut lane.upstream.stream, BLOCK_BYTES) {
            Poll::Pending => break,
            Poll::Ready(Ok(count)) if count > 0 => {
                let line = first_line(lane.from_up.bytes(), conditions);
                if line.is_some() {
                    return line;
                }
            }
            Poll::Ready(_) => {
                lane.lose(&Fault::UpstreamClosed, clock.now());
                *first = Side::Lost(Fault::UpstreamClosed);
            }
        }
    }
    None
}

/// `None`: too little of it is here. What is no answer at all counts as a failure.
fn first_line(bytes: &[u8], conditions: &[RetryCondition]) -> Option<FirstLine> {
    const VERSION: &[u8] = b"HTTP/1.";
    let known = bytes.len().min(VERSION.len());
    if bytes[..known] != VERSION[..known] {
        return Some(FirstLine { status: 0, is_good: false });
    }
    let digits = bytes.get(VERSION.len() + 2..VERSION.len() + 5)?;
    let status = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    let status: u16 = status.unwrap_or(0);
    let is_good = (100..500).contains(&status)
        && status != 429
        && !conditions.contains(&RetryCondition::Status(status));
    Some(FirstLine { status, is_good })
}

/// Notices that a client reset its connection, and reads ahead what it pipelines, as the exchange
/// does.
#[derive(Default)]
struct Client {
    ended: bool,
    read: u64,
}

impl Client {
    fn poll_gone(
        &mut self,
        cx: &mut Context<'_>,
        inbound: &mut Buffer,
        stream: &mut crate::io::Stream,
    ) -> bool {
        while !self.ended && inbound.len() < BLOCK_BYTES {
            match inbound.poll_fill(cx, stream, BLOCK_BYTES) {
                Poll::Pending => return false,
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(count)) => self.read += count as u64,
                Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::OutOfMemory => return false,
                Poll::Ready(Err(_)) => return true,
            }
        }
        false
    }
}

/// What the second attempt needs. It borrows nothing, so that it runs beside the first.
struct Attempt {
    worker: Rc<Worker>,
    ticket: Ticket,
    endpoint: Arc<EndpointHandle>,
    settings: Arc<Settings>,
    announce: Option<Announce>,
    secure: Secure,
    /// The whole request.
    message: Vec<u8>,
    total_at: Instant,
    /// See [`Forward::is_hasty`].
    is_hasty: bool,
}

impl Attempt {
    /// To the first line of its answer; or what is to be reported of the endpoint.
    async fn run(self) -> Result<Answer, Outcome> {
        let Self { worker, ticket, endpoint, settings, total_at, .. } = &self;
        let now = worker.clock.now();
        poll_fn(|cx| {
            ticket.attach(cx);
            Poll::Ready(())
        })
        .await;
        ticket.set_endpoint(endpoint.key, endpoint.close_at());
        let wanted = Wanted {
            endpoint,
            settings,
            secure: &self.secure,
            announce: self.announce,
            // The kernel is asked: a stale connection would be a hedge for nothing.
            once: true,
            fresh_only: false,
            upgrade: None,
            timeout: settings.connect_timeout.min(total_at.since(now)),
        };
        let dialled = connection(worker, ticket, &wanted, now).await;
        let (mut upstream, reused) = dialled
            .map_err(|e| dial_outcome(&e, self.is_hasty && *total_at <= worker.clock.now()))?;
        let deadline = worker.clock.now() + settings.first_byte_timeout;
        ticket.set_deadline(deadline.min(*total_at));
        let lost = |e: &io::Error| match e.kind() {
            _ if ticket.must_close() => Outcome::Abandoned,
            io::ErrorKind::TimedOut => Outcome::TimedOut,
            // The client's body is not what it says it is.
            io::ErrorKind::InvalidInput => Outcome::Abandoned,
            _ if reused => Outcome::Abandoned,
            _ => Outcome::Broken,
        };
        send(&mut upstream.stream, ticket, &self.message).await.map_err(|e| lost(&e))?;
        let mut from_up = Buffer::new(&worker.blocks);
        let first_line = poll_fn(|cx| {
            loop {
                match from_up.poll_fill(cx, &mut upstream.stream, BLOCK_BYTES) {
                    Poll::Ready(Ok(count)) if count > 0 => {
                        if let Some(line) = first_line(from_up.bytes(), &settings.retry.on) {
                            return Poll::Ready(Ok(line));
                        }
                    }
                    Poll::Ready(Ok(_)) => {
                        return Poll::Ready(Err(lost(&io::ErrorKind::UnexpectedEof.into())));
                    }
                    Poll::Ready(Err(e)) => return Poll::Ready(Err(lost(&e))),
                    Poll::Pending if ticket.expired() => {
                        return Poll::Ready(Err(lost(&io::ErrorKind::TimedOut.into())));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await?;
        Ok(Answer { upstream, reused, from_up, first_line })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worth_taking() {
        let conditions = [RetryCondition::Reset, RetryCondition::Status(404)];
        for (bytes, expected) in [
            ("", None),
            ("HTTP", None),
            ("HTTP/1.1 20", None),
            ("HTTP/1.1 200", Some((200, true))),
            ("HTTP/1.0 304 Not Modified\r\n", Some((304, true))),
            ("HTTP/1.1 103 Early Hints\r\n", Some((103, true))),
            ("HTTP/1.1 404 Not Found\r\n", Some((404, false))),
            ("HTTP/1.1 429 Too Many Requests\r\n", Some((429, false))),
            ("HTTP/1.1 500 X\r\n", Some((500, false))),
            ("HTTP/1.1 abc", Some((0, false))),
            ("SSH-2.0", Some((0, false))),
            ("X", Some((0, false))),
        ] {
            let line = first_line(bytes.as_bytes(), &conditions);
            assert_eq!(line.map(|line| (line.status, line.is_good)), expected, "{bytes}");
        }
    }
}
