//! From a routed request to an endpoint that answers it: picking, connecting, and trying again.

use std::sync::Arc;

use model::spec::RetryCondition;
use model::{Instant, Outcome, Report, grpc};
use service::{Acquired, EndpointHandle, Pick, Request, Session, Settings};
use smallvec::SmallVec;
use wire::http1::{RequestHead, RequestKind};

use crate::buffer::Buffer;
use crate::dialling::{Wanted, connection};
use crate::http1::connection::{Downstream, Next};
use crate::http1::exchange::{End, Exchange, Fault, State, Terms};
use crate::http1::grpc::set_timeout;
use crate::http1::hedge::Lane;
use crate::http1::hints::Hints;
use crate::http1::request_head;
use crate::http1::session::Keeping;
use crate::http1::turn::Scratch;
use crate::http1::verdict::{dial_outcome, retry_grpc, retry_status, status_outcome, verdict};
use crate::listener::{ListenerState, Route, Target};
use crate::pump::Pump;
use crate::queue::{self, Refusal};
use crate::relay::{RelayEnd, relay};
use crate::session;
use crate::upstream::{Announce, DialError, Upstream};

/// What one attempt led to.
enum Attempt {
    Over(Next),
    /// Nothing reached the client; another endpoint may do better. The status is the answer if
    /// there is no other.
    Again {
        status: u16,
        error: &'static str,
    },
}

/// A request under way to a service.
pub(super) struct Forward<'a> {
    pub(super) down: &'a mut Downstream,
    pub(super) state: &'a ListenerState,
    route: &'a Route,
    pub(super) target: &'a Target,
    pub(super) settings: Arc<Settings>,
    started: Instant,
    /// When the client, if it is one of gRPC, waits no longer; [`Instant::FAR_FUTURE`]: never.
    deadline: Instant,
    /// What a hash policy goes by.
    pub(super) key: Option<u64>,
    /// How early its turn comes if it must wait.
    priority: u8,
    /// What the request says of its session, if the service keeps any.
    pub(super) session: Option<Session>,
    pub(super) upload: Pump,
    /// Keys of the endpoints that failed it.
    pub(super) tried: SmallVec<[u64; 4]>,
    attempts_left: u32,
    /// A kept-alive connection was stale: the next attempt makes its own.
    fresh_only: bool,
    /// Its place at the endpoint, which is dialled again: it has waited for that, and is not to wait
    /// behind those who came later.
    kept: Option<Pick>,
    /// The attempt before found no connection: the next is outside the budget.
    unconnected: bool,
    pub(super) announce: Option<Announce>,
}

/// Sends the request whose head was written to `scratch.outbound` to `target`, and its answer to
/// the client. `changed`: the normal form of its path is in `scratch.path`.
pub(crate) async fn forward(
    down: &mut Downstream,
    scratch: &mut Scratch,
    state: &ListenerState,
    route: &Route,
    target: &Target,
    changed: bool,
    started: Instant,
) -> Next {
    let settings = arc_swap::Guard::into_inner(target.service.settings());
    let mut upload = Pump::message(&scratch.request.framing, scratch.request.len);
    if let Some(most) = state.spec.limits.body_bytes {
        upload.limit_payload(most);
    }
    upload.keep(settings.retry.replay_bytes);
    // What is already here must be well-formed before any of it is passed on.
    if let Err(e) = upload.scan(&down.inbound) {
        return match e {
            crate::pump::PumpError::TooLarge => down.refuse(scratch, 413, "body too large").await,
            _ => down.refuse(scratch, 400, "malformed body").await,
        };
    }
    if down.door.worker.log.is_on() {
        scratch.record.service = Some(target.service.name().clone());
    }
    let key = settings
        .key()
        .and_then(|source| route::key(source, &down.view(scratch, changed), down.client.ip()));
    let session = session::of_request(&settings, &down.view(scratch, changed), down.client.ip());
    let priority = queue::priority(settings.queue.as_ref(), &down.view(scratch, changed));
    let announce = settings.send_proxy_protocol.map(|version| Announce {
        version,
        client: down.client,
        local: down.local,
    });
    let deadline = scratch.call.as_ref().and_then(|call| call.timeout);
    let mut forward = Forward {
        attempts_left: settings.retry.attempts,
        down,
        state,
        route,
        target,
        settings,
        started,
        deadline: deadline.map_or(Instant::FAR_FUTURE, |timeout| started + timeout),
        key,
        priority,
        session,
        upload,
        tried: SmallVec::new(),
        fresh_only: false,
        kept: None,
        unconnected: false,
        announce,
    };
    forward.run(scratch).await
}

impl Forward<'_> {
    async fn run(&mut self, scratch: &mut Scratch) -> Next {
        let mut last = None;
        if self.session.is_some() && self.target.store.load().is_some() {
            // Boxed: services whose sessions are not shared pay nothing for its state.
            let clock = self.down.door.worker.clock;
            Box::pin(session::ask_store(self.target, self.session, clock)).await;
        }
        loop {
            let now = if scratch.record.attempts == 0 { self.started } else { self.now() };
            let request = Request { now, key: self.key, exclude: &self.tried };
            let service = &self.target.service;
            let kept = self.kept.take().map(Acquired::Picked);
            let redials = kept.is_some();
            let resumed = kept.or_else(|| {
                self.session
                    .and_then(|session| service.acquire_session(session, &request, self.priority))
            });
            let acquired = resumed.unwrap_or_else(|| {
                let rng = &mut self.down.door.worker.rng.borrow_mut();
                service.acquire(&request, self.priority, rng)
            });
            let (pick, now) = match acquired {
                Acquired::Picked(pick) => (pick, now),
                acquired => match self.queue(scratch, acquired).await {
                    Ok(pick) => (pick, self.now()),
                    Err(refusal) => return self.refused(scratch, refusal, last).await,
                },
            };
            let request = Request { now, key: self.key, exclude: &self.tried };
            // Until the attempt is over; then it has served the session, or not.
            let claim =
                self.session.and_then(|session| service.claim(session, pick.endpoint(), &request));
            if std::mem::take(&mut self.unconnected) {
                self.target.service.count_retry();
            }
            scratch.record.attempts += 1;
            if self.down.door.worker.log.is_on() {
                scratch.record.endpoint = Some(pick.endpoint().id.clone());
            }
            let attempt = self.attempt(scratch, pick, now).await;
            drop(claim);
            // An endpoint that closed its connections because it is gone: had it not been dialled
            // again, another one might have been picked.
            self.attempts_left += u32::from(redials && self.unconnected);
            match attempt {
                Attempt::Over(next) => return next,
                Attempt::Again { status, error } => {
                    last = Some((status, error));
                    if self.total_at() <= self.now() {
                        return self.fail(scratch, 504, "total time-out").await;
                    }
                    if self.attempts_left == 0 {
                        return self.fail(scratch, status, error).await;
                    }
                    self.attempts_left -= 1;
                    self.upload.restart();
                    scratch.reply.clear();
                }
            }
        }
    }

    /// Waits for its turn, if it has one to come.
    async fn queue(&mut self, scratch: &mut Scratch, acquired: Acquired) -> Result<Pick, Refusal> {
        let now = self.now();
        let total_at = self.total_at();
        let waits = matches!(acquired, Acquired::Waits(_));
        let down = &mut *self.down;
        let mut client = queue::Client {
            worker: &down.door.worker,
            ticket: &down.ticket,
            stream: &mut down.stream,
            inbound: &mut down.inbound,
            bytes_in: 0,
            ends_with_end: true,
        };
        let request = Request { now, key: self.key, exclude: &self.tried };
        let service = &self.target.service;
        let settled = queue::settle(acquired, service, &mut client, &request, total_at).await;
        let bytes_in = client.bytes_in;
        self.down.count_in(&mut scratch.record, bytes_in);
        if waits {
            scratch.record.queued += self.now().since(now);
        }
        // Whoever ends at the same moment may have handed it over: too late to begin anything.
        if self.down.ticket.must_close() { Err(Refusal::Closed) } else { settled }
    }

    /// No endpoint can take it. `last`: how the attempt before failed.
    async fn refused(
        &mut self,
        scratch: &mut Scratch,
        refusal: Refusal,
        last: Option<(u16, &'static str)>,
    ) -> Next {
        match (refusal, last) {
            (Refusal::ClientGone, _) => {
                scratch.record.failed(0, refusal.reason());
                Next::Reset
            }
            (Refusal::Closed, _) => self.fail(scratch, 503, refusal.reason()).await,
            (Refusal::TotalTimeout, _) => self.fail(scratch, 504, refusal.reason()).await,
            (_, Some((status, error))) => self.fail(scratch, status, error).await,
            (Refusal::Full(_), None) => {
                if let Some(call) = &mut scratch.call {
                    call.code = Some(grpc::RESOURCE_EXHAUSTED);
                }
                self.fail(scratch, 503, refusal.reason()).await
            }
            (_, None) => self.fail(scratch, 503, refusal.reason()).await,
        }
    }

    async fn fail(&mut self, scratch: &mut Scratch, status: u16, error: &'static str) -> Next {
        let is_late = status == 504 && self.total_at() <= self.now();
        if let Some(call) = &mut scratch.call
            && is_late
        {
            call.code = Some(grpc::DEADLINE_EXCEEDED);
        }
        self.down.fail(scratch, status, error).await
    }

    /// When the request must be done with, as configuration says, or the client.
    pub(super) fn total_at(&self) -> Instant {
        match self.settings.total_timeout {
            Some(total) => (self.started + total).min(self.deadline),
            None => self.deadline,
        }
    }

    /// Is it the client that sets [`Forward::total_at`]? How long it wants to wait says nothing about
    /// the endpoint.
    pub(super) fn is_hasty(&self) -> bool {
        self.deadline != Instant::FAR_FUTURE && self.total_at() == self.deadline
    }

    pub(super) fn now(&self) -> Instant {
        self.down.door.worker.clock.now()
    }

    async fn attempt(&mut self, scratch: &mut Scratch, pick: Pick, now: Instant) -> Attempt {
        let mut endpoint = pick.endpoint().clone();
        self.down.ticket.set_endpoint(endpoint.key, endpoint.close_at());
        let (upstream, reused) = match self.connection(&endpoint, &scratch.request, now).await {
            Ok(connection) => connection,
            Err(e) => return self.dial_failed(scratch, pick, &endpoint, &e),
        };
        if self.deadline != Instant::FAR_FUTURE {
            // What is left of it after queues, connects and attempts before.
            set_timeout(&mut scratch.outbound, self.total_at().since(self.now()));
        }
        let from_up = Buffer::new(&self.down.door.worker.blocks);
        let pick = Some(pick);
        let mut lane =
            Lane { pick, endpoint: endpoint.clone(), upstream, reused, from_up, began: now };
        let begin = match self.hedge_after(&scratch.request) {
            // No time has passed if nothing was waited for.
            None => Ok(if reused { now } else { self.now() }),
            Some(after) => {
                // Boxed: services without hedging pay nothing for its state.
                let begin = Box::pin(self.race(scratch, &mut lane, after)).await;
                endpoint = lane.endpoint.clone();
                begin
            }
        };
        let (end, state, bytes_out) = match begin {
            Ok(begin) => self.exchange(scratch, &endpoint, &mut lane, begin).await,
            Err(fault) => (End::Failed(fault), State::default(), 0),
        };
        self.down.count_in(&mut scratch.record, self.upload.read() + state.bytes_in);
        self.down.count_out(&mut scratch.record, bytes_out);
        self.down.ticket.set_endpoint(0, None);
        let latency = state.answered_at.map(|at| at.since(lane.began));
        match end {
            End::Complete { keep_upstream, keep_downstream } => {
                // Where a call of gRPC failed only its trailers tell.
                let outcome = match lane.upstream.grpc_status() {
                    Some(code) if grpc::is_failure(code) => Outcome::ServerError,
                    _ => status_outcome(scratch.response.status),
                };
                let now = self.now();
                let Hints { utilization, retry_after } = state.hints;
                let report = Report::new(now, outcome).after(latency);
                lane.report(&Report { utilization, retry_after, ..report });
                if keep_upstream && self.announce.is_none() {
                    let pools = &self.down.door.worker.pools;
                    pools.checkin(&endpoint, lane.upstream, &self.settings.pool, now);
                }
                self.down.inbound.consume(self.upload.end());
                scratch.record.status = scratch.response.status;
                let worker = self.down.door.worker.index;
                self.target.latencies[worker].observe(now.since(self.started));
                self.down.finished_at = now;
                let said_all = !scratch.request.keep_alive
                    && state.is_uploaded()
                    && self.down.inbound.is_empty();
                Attempt::Over(match keep_downstream {
                    true => Next::Request,
                    false if said_all => Next::Done,
                    false => Next::Close,
                })
            }
            End::Tunnel => {
                self.down.inbound.consume(self.upload.end());
                scratch.record.status = scratch.response.status;
                self.down.ticket.set_endpoint(endpoint.key, endpoint.close_at());
                let idle = self.state.spec.timeouts.stream_idle;
                let (end, bytes) = relay(
                    self.down.door.worker.clock,
                    &self.down.ticket,
                    idle,
                    (&mut self.down.stream, &mut self.down.inbound),
                    (&mut lane.upstream.stream, &mut lane.from_up),
                )
                .await;
                self.down.count_in(&mut scratch.record, bytes.to_upstream);
                self.down.count_out(&mut scratch.record, bytes.to_downstream);
                let outcome = match end {
                    RelayEnd::UpstreamBroke => Outcome::Broken,
                    RelayEnd::DownstreamBroke | RelayEnd::Closed => Outcome::Abandoned,
                    RelayEnd::Finished | RelayEnd::Idle => Outcome::Success,
                };
                lane.report(&Report::new(self.now(), outcome).after(latency));
                Attempt::Over(Next::Gone)
            }
            End::Failed(fault) => {
                let committed = bytes_out > 0 || state.is_interim_cut();
                if !committed
                    && let Fault::UpstreamClosed = fault
                    && lane.upstream.is_refused()
                    && self.upload.can_restart()
                {
                    return self.refused_there(lane);
                }
                self.failed(scratch, lane.pick, &endpoint, fault, lane.reused, &state, committed)
                    .await
            }
        }
    }

    /// An idle connection, or a new one. What must not be sent twice goes only on connections
    /// that the kernel says are still open.
    async fn connection(
        &self,
        endpoint: &Arc<EndpointHandle>,
        request: &RequestHead,
        now: Instant,
    ) -> Result<(Upstream, bool), DialError> {
        let bytes = self.down.inbound.bytes();
        let upgrade = request_head::upgrade(bytes, request);
        let wanted = Wanted {
            endpoint,
            settings: &self.settings,
            secure: &self.target.secure.load(),
            announce: self.announce,
            once: !request.idempotent,
            fresh_only: self.fresh_only,
            upgrade: upgrade.map(|protocol| protocol.eq_ignore_ascii_case(b"websocket")),
            timeout: self.settings.connect_timeout.min(self.total_at().since(now)),
        };
        connection(&self.down.door.worker, &self.down.ticket, &wanted, now).await
    }

    async fn exchange(
        &mut self,
        scratch: &mut Scratch,
        endpoint: &Arc<EndpointHandle>,
        lane: &mut Lane,
        begin: Instant,
    ) -> (End, State, u64) {
        let request = &scratch.request;
        let can_retry = self.attempts_left > 0 && self.upload.can_restart();
        let retry_status: SmallVec<[u16; 4]> = match can_retry && self.is_repeatable(request) {
            true => self.settings.retry.on.iter().filter_map(retry_status).collect(),
            false => SmallVec::new(),
        };
        let retry_grpc: SmallVec<[u8; 4]> = match can_retry && scratch.call.is_some() {
            true => self.settings.retry.on.iter().filter_map(retry_grpc).collect(),
            false => SmallVec::new(),
        };
        let timeouts = &self.state.spec.timeouts;
        let (mut first_byte, mut idle) = (self.settings.first_byte_timeout, timeouts.idle);
        if scratch.call.is_some() {
            // A call is a stream of messages that come when they come, and may have a deadline of
            // its own.
            idle = timeouts.stream_idle;
            if self.deadline != Instant::FAR_FUTURE {
                first_byte = idle;
            }
        }
        scratch.reply.clear();
        let keeping = self.settings.sessions().map(|sessions| Keeping {
            service: &self.target.service,
            sessions,
            endpoint,
            asked: self.session,
            tried: &self.tried,
        });
        let total_at = self.total_at();
        let response_begun = !lane.from_up.is_empty();
        let mut exchange = Exchange {
            clock: self.down.door.worker.clock,
            ticket: &self.down.ticket,
            terms: Terms {
                client: request.version,
                kind: RequestKind { is_head: request.is_head, is_connect: request.is_connect },
                upgrade: request_head::upgrade(self.down.inbound.bytes(), request).is_some(),
                keep_alive: request.keep_alive && !self.down.is_ending(),
                is_tunnel: self.down.stream.is_tunnel(),
                expects: request.expect_continue && !self.down.continued,
                response_edits: &self.route.response_headers,
                keeping,
                retry_status: &retry_status,
                retry_grpc: &retry_grpc,
                service: &self.target.service,
                first_byte,
                idle,
                total_at,
            },
            down: &mut self.down.stream,
            inbound: &mut self.down.inbound,
            up: &mut lane.upstream.stream,
            from_up: &mut lane.from_up,
            outbound: &scratch.outbound,
            upload: &mut self.upload,
            response: &mut scratch.response,
            reply: &mut scratch.reply,
            progress: State::begun(response_begun),
        };
        let end = exchange.run(begin).await;
        let bytes_out = exchange.bytes_out();
        let asked = request.expect_continue && !exchange.terms.expects;
        let state = exchange.progress;
        self.down.continued |= asked;
        (end, state, bytes_out)
    }

    fn dial_failed(
        &mut self,
        scratch: &mut Scratch,
        pick: Pick,
        endpoint: &EndpointHandle,
        e: &DialError,
    ) -> Attempt {
        self.down.ticket.set_endpoint(0, None);
        self.tried.push(endpoint.key);
        self.unconnected = true;
        let now = self.now();
        pick.report(&Report::new(now, dial_outcome(e, self.total_at() <= now && self.is_hasty())));
        let status = match e {
            // The client's connection must end, not only the endpoint's.
            DialError::Closed if self.down.ticket.is_closing() => {
                scratch.record.error = Some("listener closed");
                return Attempt::Over(Next::Reset);
            }
            DialError::Full | DialError::NoResources | DialError::Closed => 503,
            DialError::TimedOut => 504,
            DialError::Failed(_)
            | DialError::Handshake
            | DialError::Certificate
            | DialError::NotHttp2 => 502,
        };
        Attempt::Again { status, error: e.reason() }
    }

    /// The endpoint did not process the request for certain (RFC 9113 section 8.7), so that it is
    /// safe to make it again, whatever it is. As with a connect that failed, the retry counts against
    /// the attempts, and not against the budget.
    fn refused_there(&mut self, lane: Lane) -> Attempt {
        let Lane { pick, endpoint, upstream, .. } = lane;
        let error = "refused by endpoint";
        if upstream.is_over() && !self.fresh_only && !endpoint.is_leaving() {
            // It ends its connection in order, as it may at any time: this says nothing about it,
            // and costs no attempt.
            self.fresh_only = true;
            self.attempts_left += 1;
            self.kept = pick;
            return Attempt::Again { status: 503, error };
        }
        self.tried.push(endpoint.key);
        // Dropped, the pick is reported as abandoned: it has room for others, perhaps later.
        Attempt::Again { status: 503, error }
    }

    /// May the request be processed twice without harm, or does the configuration say so?
    pub(super) fn is_repeatable(&self, request: &RequestHead) -> bool {
        request.idempotent || self.settings.retry.non_idempotent
    }

    #[expect(clippy::too_many_arguments, reason = "everything that is known of the failure")]
    async fn failed(
        &mut self,
        scratch: &mut Scratch,
        pick: Option<Pick>,
        endpoint: &EndpointHandle,
        fault: Fault,
        reused: bool,
        state: &State,
        committed: bool,
    ) -> Attempt {
        let stale = reused && !state.response_begun && matches!(fault, Fault::UpstreamClosed);
        let (mut outcome, status, error) = verdict(&fault, stale);
        if matches!(fault, Fault::TotalTimeout) && self.is_hasty() {
            outcome = Outcome::Abandoned;
        }
        let untouched = self.upload.written() == 0;
        // Calls of gRPC are all POST; whose statuses are worth another attempt configuration says.
        let safe = untouched
            || self.is_repeatable(&scratch.request)
            || matches!(fault, Fault::GrpcStatus(_));
        if stale && !committed && safe && self.upload.can_restart() && !self.fresh_only {
            // The endpoint closed an idle connection, as it may: this says nothing about it, and
            // costs no attempt. Dropped, the pick is reported as abandoned.
            self.fresh_only = true;
            self.attempts_left += 1;
            self.kept = pick.filter(|pick| !pick.endpoint().is_leaving());
            return Attempt::Again { status, error };
        }
        let Hints { utilization, retry_after } = state.hints;
        let report = Report::new(self.now(), outcome);
        if let Some(pick) = pick {
            pick.report(&Report { utilization, retry_after, ..report });
        }
        let on = &self.settings.retry.on;
        let wanted = match &fault {
            Fault::UpstreamClosed | Fault::Garbage(_) | Fault::GarbageBody => {
                on.contains(&RetryCondition::Reset)
            }
            // The endpoint's grace is over; the client's connection goes on.
            Fault::Closed if !self.down.ticket.is_closing() => on.contains(&RetryCondition::Reset),
            Fault::FirstByteTimeout => on.contains(&RetryCondition::FirstByteTimeout),
            Fault::Status(_) | Fault::GrpcStatus(_) => true,
            _ => false,
        };
        if !committed && (wanted || stale) && safe && self.upload.can_restart() {
            let admitted = matches!(fault, Fault::Status(_) | Fault::GrpcStatus(_))
                || (self.attempts_left > 0 && self.target.service.admit_retry(self.now()));
            if admitted {
                if let (Fault::GrpcStatus(code), Some(call)) = (&fault, &mut scratch.call) {
                    call.code = Some(*code);
                }
                self.tried.push(endpoint.key);
                return Attempt::Again { status, error };
            }
        }
        if committed {
            scratch.record.error = Some(error);
            scratch.record.status = 0;
            let code = match fault {
                Fault::TotalTimeout => grpc::DEADLINE_EXCEEDED,
                _ => grpc::UNAVAILABLE,
            };
            // Browsers, which speak gRPC-Web, see no trailers.
            let is_grpc = scratch.call.is_some_and(|call| call.content_type == "application/grpc");
            if is_grpc && self.down.stream.end_call(code, error) {
                return Attempt::Over(Next::Gone);
            }
            return Attempt::Over(Next::Reset);
        }
        let next = match fault {
            Fault::ClientGone => {
                scratch.record.error = Some(error);
                Next::Reset
            }
            Fault::MalformedBody | Fault::BodyTooLarge => {
                self.down.refuse(scratch, status, error).await
            }
            _ => {
                // Unless what was sent is kept, the buffer no longer begins with this request, and
                // where the next one begins is not known.
                scratch.request.keep_alive &= self.upload.can_restart();
                self.fail(scratch, status, error).await
            }
        };
        Attempt::Over(next)
    }
}
