//! One request and its response, carried between a client's connection and an endpoint's.
//!
//! Both directions move in one task: the body goes up while the response may already come down.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use model::spec::HeaderEdit;
use model::{Instant, grpc};
use service::Service;
use wire::http1::{
    Framing, HeadLimits, Header, HeaderKind, Progress, RequestKind, ResponseError, ResponseHead,
    Version,
};

use crate::buffer::{BLOCK_BYTES, Buffer};
use crate::clock::Clock;
use crate::http1::hints::Hints;
use crate::http1::response_head::{self, Persistence};
use crate::http1::session::Keeping;
use crate::io::Stream;
use crate::pump::{Pump, PumpError};
use crate::tracked::{TICK, Ticket};

/// What endpoints may send as a response head: theirs are trusted more than clients', not blindly.
const RESPONSE_LIMITS: HeadLimits = HeadLimits { bytes: 64 * 1024, count: 256, uri_bytes: 0 };
/// Informational responses before the final one; more are taken for garbage.
const INFORMATIONAL_MAX: u32 = 16;

/// How an exchange ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The client has the whole response.
    Complete {
        keep_upstream: bool,
        keep_downstream: bool,
    },
    /// The client has the 101 and the connections are a tunnel now.
    Tunnel,
    Failed(Fault),
}

/// Why an exchange did not complete.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The endpoint closed or reset its connection.
    UpstreamClosed,
    Garbage(ResponseError),
    /// The response's body was malformed.
    GarbageBody,
    /// The response is one to the request, and not the tunnel that it asked for.
    NoTunnel,
    /// Nothing came in time.
    FirstByteTimeout,
    /// The endpoint stopped in the middle.
    UpstreamStalled,
    TotalTimeout,
    /// A status that the service wants tried elsewhere, and has counted as a retry.
    Status(u16),
    /// The same, of gRPC.
    GrpcStatus(u8),
    ClientGone,
    /// The client stopped in the middle of its body, or of taking the response.
    ClientStalled,
    MalformedBody,
    BodyTooLarge,
    /// The endpoint's or listener's grace is over.
    Closed,
}

/// The terms of one exchange.
pub(crate) struct Terms<'a> {
    pub(crate) client: Version,
    pub(crate) kind: RequestKind,
    pub(crate) upgrade: bool,
    pub(crate) keep_alive: bool,
    /// To the client any 2xx means that the tunnel it asked for is open (RFC 8441 section 5).
    pub(crate) is_tunnel: bool,
    /// The client waits for a 100 (Continue).
    pub(crate) expects: bool,
    pub(crate) response_edits: &'a [HeaderEdit],
    /// The client is to come back to this endpoint.
    pub(crate) keeping: Option<Keeping<'a>>,
    /// Statuses to give back as [`Fault::Status`] if the service's budget has a retry left; empty
    /// when no attempt is left.
    pub(crate) retry_status: &'a [u16],
    /// The same of gRPC statuses, as [`Fault::GrpcStatus`].
    pub(crate) retry_grpc: &'a [u8],
    pub(crate) service: &'a Service,
    pub(crate) first_byte: Duration,
    pub(crate) idle: Duration,
    pub(crate) total_at: Instant,
}

/// What is moved.
pub(crate) struct Exchange<'a> {
    pub(crate) clock: Clock,
    pub(crate) ticket: &'a Ticket,
    pub(crate) terms: Terms<'a>,
    pub(crate) down: &'a mut Stream,
    pub(crate) inbound: &'a mut Buffer,
    pub(crate) up: &'a mut Stream,
    pub(crate) from_up: &'a mut Buffer,
    /// The request's head, then its body out of `inbound`.
    pub(crate) outbound: &'a [u8],
    pub(crate) upload: &'a mut Pump,
    pub(crate) response: &'a mut ResponseHead,
    pub(crate) reply: &'a mut Vec<u8>,
    pub(crate) progress: State,
}

/// How far an exchange has come.
#[derive(Debug, Default)]
pub(crate) struct State {
    upload: Upload,
    download: Download,
    interim_sent: usize,
    informational: u32,
    /// Bytes of a short response whose head is here and whose rest is waited for; 0: none.
    gathered: usize,
    persistence: Option<Persistence>,
    client_ended: bool,
    moved: u64,
    last_move: Instant,
    /// When the response's head was complete.
    pub(crate) answered_at: Option<Instant>,
    /// What the response's head says of the endpoint.
    pub(crate) hints: Hints,
    /// Any byte came from the endpoint.
    pub(crate) response_begun: bool,
    pub(crate) bytes_in: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Upload {
    #[default]
    Open,
    Done,
    /// The endpoint takes no more; it may still have answered.
    Refused,
}

#[derive(Debug, Default)]
#[expect(clippy::large_enum_variant, reason = "one per request, never moved; a box would allocate")]
enum Download {
    #[default]
    Head,
    /// Writing an informational response.
    Interim,
    Body(Pump),
}

impl State {
    /// Of an exchange whose response may have begun already.
    pub(crate) fn begun(response_begun: bool) -> Self {
        Self { response_begun, ..Self::default() }
    }

    /// Was the whole request passed on?
    pub(crate) fn is_uploaded(&self) -> bool {
        self.upload == Upload::Done
    }

    /// Has the client a part of an informational response, which nothing else may follow?
    pub(crate) fn is_interim_cut(&self) -> bool {
        self.interim_sent > 0
    }
}

impl Exchange<'_> {
    /// Carries it out. `started` is now.
    pub(crate) async fn run(&mut self, started: Instant) -> End {
        self.progress.last_move = started;
        self.progress.moved = self.moved();
        // Whichever of the two is meant is looked at when the earlier one comes.
        let first = self.terms.idle.min(self.terms.first_byte);
        // A client that nobody waits for is looked at when the answer is long in coming.
        let first = if self.down.is_fresh() { first.min(TICK) } else { first };
        self.ticket.set_deadline((started + first).min(self.terms.total_at));
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Bytes of the final response that the client was sent.
    pub(crate) fn bytes_out(&self) -> u64 {
        match &self.progress.download {
            Download::Body(pump) => pump.written(),
            _ => 0,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if self.progress.upload == Upload::Open {
                match self.poll_upload(cx) {
                    Poll::Ready(Err(fault)) => return Poll::Ready(End::Failed(fault)),
                    // Nothing is read of the client while the endpoint takes nothing.
                    Poll::Pending if self.down.is_broken(cx) => {
                        return Poll::Ready(End::Failed(Fault::ClientGone));
                    }
                    _ => {}
                }
            }
            match self.poll_download(cx) {
                Poll::Ready(Ok(end)) => return Poll::Ready(end),
                Poll::Ready(Err(fault)) => return Poll::Ready(End::Failed(fault)),
                Poll::Pending => {}
            }
            if self.progress.upload != Upload::Open
                && let Poll::Ready(fault) = self.poll_client_gone(cx)
            {
                return Poll::Ready(End::Failed(fault));
            }
            let moved = self.moved();
            if moved != self.progress.moved {
                self.progress.moved = moved;
                self.progress.last_move = self.clock.now();
            }
            if !self.ticket.expired() {
                return Poll::Pending;
            }
            if let Some(fault) = self.expiry() {
                return Poll::Ready(End::Failed(fault));
            }
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let result = self.upload.poll(cx, self.outbound, self.inbound, self.down, self.up);
        let state = match result {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) => Upload::Done,
            Poll::Ready(Err(PumpError::Write)) => Upload::Refused,
            Poll::Ready(Err(e)) => return Poll::Ready(Err(upload_fault(e))),
        };
        self.progress.upload = state;
        if self.upload.read() > 0 {
            // The body took its time: the endpoint's begins now.
            let now = self.clock.now();
            self.progress.last_move = now;
            let (allowance, _) = self.allowance();
            self.ticket.set_deadline((now + allowance).min(self.terms.total_at));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_download(&mut self, cx: &mut Context<'_>) -> Poll<Result<End, Fault>> {
        loop {
            match &mut self.progress.download {
                Download::Head => match self.poll_head(cx) {
                    Poll::Ready(Ok(next)) => self.progress.download = next,
                    Poll::Ready(Err(fault)) => return Poll::Ready(Err(fault)),
                    Poll::Pending => return Poll::Pending,
                },
                Download::Interim => {
                    while self.progress.interim_sent < self.reply.len() {
                        let rest = &self.reply[self.progress.interim_sent..];
                        match self.down.poll_write(cx, rest, &[]) {
                            Poll::Ready(Ok(count)) if count > 0 => {
                                self.progress.interim_sent += count;
                            }
                            Poll::Ready(_) => return Poll::Ready(Err(Fault::ClientGone)),
                            Poll::Pending => return Poll::Pending,
                        }
                    }
                    self.reply.clear();
                    self.progress.interim_sent = 0;
                    self.progress.download = Download::Head;
                }
                Download::Body(pump) => {
                    return match pump.poll(cx, self.reply, self.from_up, self.up, self.down) {
                        Poll::Pending => Poll::Pending,
                        Poll::Ready(Ok(())) => Poll::Ready(Ok(self.complete())),
                        Poll::Ready(Err(e)) => Poll::Ready(Err(download_fault(e))),
                    };
                }
            }
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Download, Fault>> {
        loop {
            if !self.from_up.is_empty() {
                match self.response.parse(self.from_up.bytes(), &RESPONSE_LIMITS, self.terms.kind) {
                    Err(e) => return Poll::Ready(Err(Fault::Garbage(e))),
                    Ok(Progress::Complete) if self.is_worth_gathering() => {
                        // Each time that more of it came, not each time that somebody looks.
                        if self.progress.gathered != self.from_up.len() {
                            let now = self.clock.now();
                            let deadline = (now + self.terms.idle).min(self.terms.total_at);
                            self.progress.gathered = self.from_up.len();
                            self.progress.last_move = now;
                            self.ticket.set_deadline(deadline);
                        }
                    }
                    Ok(Progress::Complete) => return Poll::Ready(self.handle_head()),
                    Ok(Progress::Partial) => {}
                }
            }
            let bound = RESPONSE_LIMITS.bytes + 1;
            let filled = match self.down.has_room() {
                true => self.from_up.poll_fill(cx, self.up, bound),
                false => self.from_up.poll_fill_sparingly(cx, self.up, bound),
            };
            match filled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count)) if count > 0 => self.progress.response_begun = true,
                Poll::Ready(_) => return Poll::Ready(Err(Fault::UpstreamClosed)),
            }
        }
    }

    /// A short response whose body is still on its way is sent on as a whole: many applications
    /// write head and body apart, and one that dies in between costs no request this way.
    fn is_worth_gathering(&self) -> bool {
        match self.response.framing {
            Framing::Length(length) => {
                let whole = (self.response.len as u64).saturating_add(length);
                whole <= BLOCK_BYTES as u64 && (self.from_up.len() as u64) < whole
            }
            _ => false,
        }
    }

    fn handle_head(&mut self) -> Result<Download, Fault> {
        let status = self.response.status;
        let upgraded = status == 101;
        // A client cannot change the protocol in the middle of its message (RFC 9110 section 7.8),
        // so nothing of the message may be left to send.
        if status == 101 && (!self.terms.upgrade || self.progress.upload != Upload::Done) {
            return Err(Fault::GarbageBody);
        }
        if self.response.is_informational() && !upgraded {
            return self.handle_informational();
        }
        if self.terms.is_tunnel && (200..300).contains(&status) {
            return Err(Fault::NoTunnel);
        }
        let now = self.clock.now();
        // The budget is asked before the response is given up, not after.
        if self.terms.retry_status.contains(&status) && self.terms.service.admit_retry(now) {
            self.progress.hints = Hints::of(self.from_up.bytes(), self.response);
            return Err(Fault::Status(status));
        }
        if let Some(code) = self.grpc_status()
            && self.terms.service.admit_retry(now)
        {
            return Err(Fault::GrpcStatus(code));
        }
        self.progress.answered_at = Some(now);
        self.ticket.set_deadline((now + self.terms.idle).min(self.terms.total_at));
        let persistence = self.persistence(upgraded);
        let bytes = self.from_up.bytes();
        if let Some(keeping) = &self.terms.keeping {
            keeping.learn(bytes, self.response, now);
        }
        self.progress.hints = response_head::write(
            self.reply,
            bytes,
            self.response,
            self.terms.client,
            persistence,
            self.terms.response_edits,
            self.terms.keeping.as_ref(),
        );
        self.progress.persistence = Some(persistence);
        let offset = self.response.len;
        let unchunk =
            self.response.framing == Framing::Chunked && self.terms.client == Version::Http10;
        let mut pump = if unchunk {
            Pump::unchunked(offset)
        } else if upgraded {
            Pump::message(&Framing::None, offset)
        } else {
            Pump::message(&self.response.framing, offset)
        };
        if persistence == Persistence::Close {
            pump.mark_last();
        }
        Ok(Download::Body(pump))
    }

    /// The status of a call that ended before a message came, if it is to be tried elsewhere.
    fn grpc_status(&self) -> Option<u8> {
        let is_empty = matches!(self.response.framing, Framing::None | Framing::Length(0));
        if self.terms.retry_grpc.is_empty() || !is_empty {
            return None;
        }
        let bytes = self.from_up.bytes();
        let is_status = |header: &&Header| {
            header.kind == HeaderKind::Other
                && header.name.of(bytes).eq_ignore_ascii_case(b"grpc-status")
        };
        let header = self.response.headers.iter().find(is_status)?;
        let code = grpc::parse(header.value.of(bytes))?;
        self.terms.retry_grpc.contains(&code).then_some(code)
    }

    fn handle_informational(&mut self) -> Result<Download, Fault> {
        self.progress.informational += 1;
        if self.progress.informational > INFORMATIONAL_MAX {
            return Err(Fault::GarbageBody);
        }
        let is_continue = self.response.status == 100;
        // RFC 9110 section 15.2: none of these to an HTTP/1.0 client; a 100 that was not asked
        // for need not be forwarded.
        let pass = self.terms.client == Version::Http11 && (!is_continue || self.terms.expects);
        if pass {
            response_head::write_informational(self.reply, self.from_up.bytes(), self.response);
            self.terms.expects &= !is_continue;
        }
        self.from_up.consume(self.response.len);
        Ok(if pass { Download::Interim } else { Download::Head })
    }

    fn persistence(&self, upgraded: bool) -> Persistence {
        if upgraded {
            return Persistence::Upgrade;
        }
        let ends_with_close = match self.response.framing {
            Framing::UntilClose => true,
            Framing::Chunked => self.terms.client == Version::Http10,
            Framing::None | Framing::Length(_) => false,
        };
        if ends_with_close
            || !self.terms.keep_alive
            // RFC 9112 section 9.3: "a server MUST read the entire request message body or close the
            // connection after sending its response"; the client should know which it will be.
            || self.progress.upload != Upload::Done
            || self.ticket.is_closing()
        {
            Persistence::Close
        } else if self.terms.client == Version::Http10 {
            Persistence::KeepHttp10
        } else {
            Persistence::Keep
        }
    }

    fn complete(&mut self) -> End {
        let Download::Body(pump) = &self.progress.download else {
            return End::Failed(Fault::GarbageBody);
        };
        self.progress.hints.load(pump.load_report());
        self.from_up.consume(pump.end());
        let persistence = self.progress.persistence.unwrap_or(Persistence::Close);
        if persistence == Persistence::Upgrade {
            return End::Tunnel;
        }
        let uploaded = self.progress.upload == Upload::Done;
        End::Complete {
            // Bytes beyond the response belong to no request of ours.
            keep_upstream: uploaded
                && self.response.keep_alive
                && self.response.framing != Framing::UntilClose
                && self.from_up.is_empty(),
            // A client that ended its direction may have pipelined more before.
            keep_downstream: uploaded && persistence != Persistence::Close,
        }
    }

    /// Notices a client that reset its connection, and reads ahead what it pipelines, within one
    /// block. A mere end of its direction is no reason to stop: it still waits for the answer.
    fn poll_client_gone(&mut self, cx: &mut Context<'_>) -> Poll<Fault> {
        if self.down.is_fresh() && !self.progress.response_begun && !self.ticket.expired() {
            return Poll::Pending;
        }
        while !self.progress.client_ended && self.inbound.len() < BLOCK_BYTES {
            match self.inbound.poll_fill(cx, self.down, BLOCK_BYTES) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => self.progress.client_ended = true,
                Poll::Ready(Ok(count)) => self.progress.bytes_in += count as u64,
                Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::OutOfMemory => break,
                Poll::Ready(Err(_)) => return Poll::Ready(Fault::ClientGone),
            }
        }
        Poll::Pending
    }

    /// The deadline has come. It is moved here, not with every byte.
    fn expiry(&mut self) -> Option<Fault> {
        if self.ticket.must_close() {
            return Some(Fault::Closed);
        }
        let now = self.clock.now();
        if self.terms.total_at <= now {
            return Some(Fault::TotalTimeout);
        }
        let (allowance, fault) = self.allowance();
        let deadline = self.progress.last_move + allowance;
        if deadline <= now {
            return Some(fault);
        }
        self.ticket.set_deadline(deadline.min(self.terms.total_at));
        None
    }

    /// Whatever is counted here is a sign of life.
    fn moved(&self) -> u64 {
        self.upload.written() + self.upload.read() + self.bytes_out()
    }

    /// How long nothing may move at this stage, and whose fault it is if nothing does.
    fn allowance(&self) -> (Duration, Fault) {
        match (&self.progress.download, self.progress.upload) {
            (Download::Body(pump), _) => {
                let fault =
                    if pump.is_starved() { Fault::UpstreamStalled } else { Fault::ClientStalled };
                (self.terms.idle, fault)
            }
            (Download::Interim, _) => (self.terms.idle, Fault::ClientStalled),
            _ if self.progress.gathered > 0 => (self.terms.idle, Fault::UpstreamStalled),
            // The client waits for the endpoint's 100 (Continue).
            (_, Upload::Open) if self.upload.is_starved() && self.terms.expects => {
                (self.terms.first_byte, Fault::FirstByteTimeout)
            }
            (_, Upload::Open) if self.upload.is_starved() => {
                (self.terms.idle, Fault::ClientStalled)
            }
            (_, Upload::Open) => (self.terms.idle, Fault::UpstreamStalled),
            _ => (self.terms.first_byte, Fault::FirstByteTimeout),
        }
    }
}

pub(crate) fn upload_fault(e: PumpError) -> Fault {
    match e {
        PumpError::Malformed => Fault::MalformedBody,
        PumpError::TooLarge => Fault::BodyTooLarge,
        PumpError::Read | PumpError::Ended => Fault::ClientGone,
        PumpError::Write => Fault::UpstreamClosed,
    }
}

fn download_fault(e: PumpError) -> Fault {
    match e {
        PumpError::Write => Fault::ClientGone,
        PumpError::Read | PumpError::Ended => Fault::UpstreamClosed,
        PumpError::Malformed | PumpError::TooLarge => Fault::GarbageBody,
    }
}
