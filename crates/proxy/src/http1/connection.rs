//! A client's connection: request after request, until one side wants no more. `answer` is what we
//! say ourselves, and the connection's end; `view` is a request as routes see it.

mod answer;
mod view;

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use model::Instant;
use route::{Normalised, normalise_path};
use wire::http1::{Framing, HeadLimits, Progress, Version};

use self::answer::grpc_status;
pub(crate) use self::answer::refuse_stream;
use self::view::View;
use crate::arrival::{Arrival, Secured, Terms};
use crate::buffer::Buffer;
use crate::http1::forward::forward;
use crate::http1::grpc::Call;
use crate::http1::record::Record;
use crate::http1::reply::Reply;
use crate::http1::request_head::{self, Sender};
use crate::http1::session;
use crate::http1::turn::Scratch;
use crate::http2;
use crate::io::Stream;
use crate::listener::{Action, Door, ListenerState, Route};
use crate::retirement::Retirement;
use crate::tracked::Ticket;

/// How long a connection whose listener closes may take to send its first request.
const FIRST_REQUEST_WAIT: Duration = Duration::from_secs(1);

/// What a client's connection does after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Serves the next request.
    Request,
    Close,
    /// Closes at once: the client asked for it, and has said all that it will.
    Done,
    /// Is reset, since what the client got is not the whole.
    Reset,
    /// Is already over.
    Gone,
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Downstream {
    pub(crate) door: Door,
    pub(crate) stream: Stream,
    pub(crate) inbound: Buffer,
    pub(crate) ticket: Ticket,
    /// The client's address: by PROXY protocol, or the peer's.
    pub(crate) client: SocketAddr,
    /// The address that the client connected to.
    pub(crate) local: SocketAddr,
    client_text: String,
    /// `None`: it speaks in clear.
    secured: Option<Rc<Secured>>,
    /// Was the current request's `Expect: 100-continue` answered?
    pub(crate) continued: bool,
    pub(crate) finished_at: Instant,
    pub(crate) retirement: Retirement,
}

/// What is in force for a listener, with a look at whether that has changed.
type Settings = Cache<Arc<ArcSwap<ListenerState>>, Arc<ListenerState>>;

/// A client of HTTP/1, and the settings that its requests are served by. Always in a box: it goes
/// from its connection's task to a [`turn`](crate::http1::turn) and back with each request.
#[derive(Debug)]
pub(crate) struct Client {
    down: Downstream,
    settings: Settings,
}

/// Serves a client until one side wants no more.
pub(crate) fn serve(door: Door, arrival: Arrival) -> impl Future<Output = ()> {
    // By TLS it is agreed on beforehand (RFC 9113 section 3.2).
    let agreed = arrival.secured.is_some().then(|| arrival.alpn() == Some(tls::ALPN_HTTP2));
    let Arrival { stream, inbound, ticket, client, local, accepted_at, secured } = arrival;
    let mut settings = Cache::new(door.listener.state.clone());
    let spec = &settings.load().spec;
    let retirement = Retirement::new(accepted_at, spec, &mut door.worker.rng.borrow_mut());
    let down = Downstream {
        inbound,
        stream,
        ticket,
        client,
        local,
        client_text: request_head::text_of(client.ip()),
        secured: secured.map(Rc::new),
        continued: false,
        finished_at: accepted_at,
        retirement,
        door,
    };
    Box::new(Client { down, settings }).serve(agreed)
}

/// Serves a stream that carries one request: see [`Downstream::beside`].
pub(crate) fn serve_stream(down: Downstream) -> impl Future<Output = ()> {
    let settings = Cache::new(down.door.listener.state.clone());
    Box::new(Client { down, settings }).serve_stream()
}

impl Client {
    async fn serve(mut self: Box<Self>, agreed: Option<bool>) {
        let is_http2 = match agreed {
            Some(agreed) => Some(agreed),
            None if self.settings.load().spec.http2.is_none() => Some(false),
            None => self.down.begins_http2(self.settings.load()).await,
        };
        match is_http2 {
            Some(true) => self.serve_http2().await,
            Some(false) => self.serve_and_close().await,
            None => {}
        }
    }

    async fn serve_stream(self: Box<Self>) {
        poll_fn(|cx| {
            self.down.ticket.attach(cx);
            Poll::Ready(())
        })
        .await;
        self.serve_and_close().await;
    }

    /// Boxed: connections that speak HTTP/1 pay nothing for its state.
    fn serve_http2(mut self: Box<Self>) -> Pin<Box<dyn Future<Output = ()>>> {
        let spec = &self.settings.load().spec;
        let (limits, timeouts) = (spec.limits.clone(), spec.timeouts.clone());
        // What was agreed on is spoken, even if it was turned off meanwhile.
        let bounds = spec.http2.unwrap_or_default();
        Box::pin(http2::serve(self.down, bounds, limits, timeouts))
    }

    async fn serve_and_close(mut self: Box<Self>) {
        let worker = self.down.door.worker.clone();
        let mut first = true;
        loop {
            let Self { down, settings } = &mut *self;
            if down.inbound.is_empty() && !down.wait(settings.load(), first).await {
                return;
            }
            first = false;
            let next;
            (self, next) = worker.turns.serve(self).await;
            match next {
                Next::Request if self.down.ticket.is_closing() => break,
                Next::Request => self.down.inbound.release(),
                Next::Close => break,
                // Nothing of it is unread, so the close is no reset.
                Next::Done if self.down.stream.is_quiet() => return,
                Next::Done => break,
                Next::Reset => return self.down.stream.reset_on_close(),
                Next::Gone => return,
            }
        }
        self.down.close().await;
    }

    /// Serves the request whose first bytes are in the buffer.
    pub(super) async fn serve_request(&mut self, scratch: &mut Scratch) -> Next {
        self.down.serve_request(scratch, self.settings.load()).await
    }
}

impl Downstream {
    /// A stream of the same client, with a deadline of its own.
    pub(crate) fn beside(&self, stream: Stream) -> Downstream {
        let worker = &self.door.worker;
        Downstream {
            inbound: Buffer::new(&worker.blocks),
            stream,
            ticket: worker.tracked.register(self.door.listener.id),
            client: self.client,
            local: self.local,
            client_text: self.client_text.clone(),
            secured: self.secured.clone(),
            continued: false,
            finished_at: worker.clock.now(),
            retirement: Retirement::never(),
            door: self.door.clone(),
        }
    }

    /// Reads the first bytes: do they begin HTTP/2? None: the connection is over without any.
    async fn begins_http2(&mut self, state: &ListenerState) -> Option<bool> {
        if self.inbound.is_empty() && !self.wait(state, true).await {
            return None;
        }
        loop {
            if let Some(decided) = http2::is_preface(self.inbound.bytes()) {
                return Some(decided);
            }
            let filled = poll_fn(|cx| {
                match self.inbound.poll_fill(cx, &mut self.stream, state.spec.limits.header_bytes) {
                    Poll::Pending if self.ticket.expired() => Poll::Ready(Ok(0)),
                    other => other,
                }
            });
            match filled.await {
                Ok(count) if count > 0 => self.door.counters().bytes_in.add(count as u64),
                // A part of a head: it is answered like any other.
                _ => return Some(false),
            }
        }
    }

    /// Waits for the first bytes of a request; false when the connection is over without one.
    async fn wait(&mut self, state: &ListenerState, first: bool) -> bool {
        if !first {
            self.ticket.set_deadline(self.finished_at + state.spec.timeouts.keep_alive);
        }
        let mut last_wait = !first;
        let result = poll_fn(|cx| {
            match self.inbound.poll_fill(cx, &mut self.stream, state.spec.limits.header_bytes) {
                Poll::Ready(result) => return Poll::Ready(result),
                Poll::Pending if self.ticket.expired() => return Poll::Ready(Ok(0)),
                Poll::Pending if !self.ticket.is_closing() => return Poll::Pending,
                Poll::Pending if last_wait => return Poll::Ready(Ok(0)),
                Poll::Pending => {}
            }
            // Who connected just before the listener closed is about to send its request.
            last_wait = true;
            self.ticket.set_deadline(self.door.worker.clock.now() + FIRST_REQUEST_WAIT);
            Poll::Pending
        })
        .await;
        match result {
            Ok(count) if count > 0 => {
                if !self.stream.is_http2() {
                    self.door.counters().bytes_in.add(count as u64);
                }
                // They wait here for the answer, beside those of the other requests under way.
                self.inbound.settle();
                true
            }
            _ => false,
        }
    }

    async fn serve_request(&mut self, scratch: &mut Scratch, state: &ListenerState) -> Next {
        let started = self.door.worker.clock.now();
        self.continued = false;
        self.retirement.count();
        scratch.record.clear();
        scratch.call = None;
        scratch.record.version = self.version(Version::Http11);
        scratch.record.bytes_in = self.inbound.len() as u64;
        let next = match self.read_head(scratch, state, started).await {
            Ok(()) => self.serve_head(scratch, state, started).await,
            Err(next) => next,
        };
        if self.finished_at < started {
            self.finished_at = self.door.worker.clock.now();
        }
        let record = &scratch.record;
        self.door.counters().response(record.status);
        if self.door.worker.log.is_on() {
            let took = self.finished_at.since(started);
            record.write(&self.door, self.client.ip(), self.terms(), took);
        }
        next
    }

    /// Reads until the head is complete; answers what is wrong with it.
    async fn read_head(
        &mut self,
        scratch: &mut Scratch,
        state: &ListenerState,
        started: Instant,
    ) -> Result<(), Next> {
        let spec = &state.spec;
        let limits = HeadLimits {
            bytes: spec.limits.header_bytes,
            count: spec.limits.header_count,
            uri_bytes: spec.limits.uri_bytes,
        };
        let mut waiting = false;
        loop {
            match scratch.request.parse(self.inbound.bytes(), &limits) {
                Ok(Progress::Complete) => return Ok(()),
                Ok(Progress::Partial) => {}
                Err(e) => return Err(self.refuse_head(scratch, e).await),
            }
            if !waiting {
                self.ticket.set_deadline(started + spec.timeouts.header);
                waiting = true;
            }
            let filled = poll_fn(|cx| {
                let bound = limits.bytes + 1;
                match self.inbound.poll_fill(cx, &mut self.stream, bound) {
                    Poll::Ready(result) => Poll::Ready(result),
                    Poll::Pending if self.ticket.expired() => {
                        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
                    }
                    Poll::Pending => Poll::Pending,
                }
            })
            .await;
            match filled {
                Ok(0) => {
                    scratch.record.failed(0, "client gone");
                    return Err(Next::Gone);
                }
                Ok(count) => self.count_in(&mut scratch.record, count as u64),
                Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                    return Err(self.refuse(scratch, 408, "head took too long").await);
                }
                Err(e) if e.kind() == io::ErrorKind::OutOfMemory => {
                    return Err(self.refuse(scratch, 431, "head too large").await);
                }
                Err(_) => {
                    scratch.record.failed(0, "client gone");
                    return Err(Next::Gone);
                }
            }
        }
    }

    async fn serve_head(
        &mut self,
        scratch: &mut Scratch,
        state: &ListenerState,
        started: Instant,
    ) -> Next {
        let spec = &state.spec;
        scratch.call = Call::of(self.inbound.bytes(), &scratch.request);
        if self.door.worker.log.is_on() {
            scratch.record.note_head(self.inbound.bytes(), &scratch.request);
            scratch.record.version = self.version(scratch.request.version);
        }
        if scratch.request.is_connect {
            return self.refuse(scratch, 405, "CONNECT").await;
        }
        if let (Framing::Length(length), Some(most)) =
            (&scratch.request.framing, spec.limits.body_bytes)
            && *length > most
        {
            return self.refuse(scratch, 413, "body too large").await;
        }
        let path = scratch.request.path.of(self.inbound.bytes());
        let path = std::str::from_utf8(path).unwrap_or_default();
        let changed = match normalise_path(path, &mut scratch.path) {
            Normalised::Same => false,
            Normalised::Changed => true,
            Normalised::Escapes => {
                return self.refuse(scratch, 400, "path above the root").await;
            }
        };
        if state.issued.is_asked()
            && let Some(answer) = proof(state, scratch.request.path.of(self.inbound.bytes()))
        {
            // Before routes, redirects to TLS among them: a CA that comes by HTTP-01 asks in clear.
            let content_type = "application/octet-stream";
            let reply = Reply { content_type, body: answer.as_bytes(), ..Reply::status(200) };
            return self.answer(scratch, &reply).await;
        }
        let route = {
            let view = self.view(scratch, changed);
            state.table.find(&view)
        };
        let Some(route) = route else {
            let reply = Reply { grpc: grpc_status(scratch, 404, "no route"), ..Reply::status(404) };
            return self.answer(scratch, &reply).await;
        };
        match &route.action {
            Action::Forward { split, targets } => {
                let chosen = split.pick(&mut self.door.worker.rng.borrow_mut());
                let Some(target) = targets.get(chosen) else {
                    return self.fail(scratch, 503, "no service").await;
                };
                let settings = target.service.settings();
                let rewritten = settings.sessions().and_then(session::rewritten);
                self.write_outbound(scratch, state, route, rewritten, changed);
                drop(settings);
                forward(self, scratch, state, route, target, changed, started).await
            }
            Action::Redirect { status, location } => {
                let mut to = Vec::new();
                let bytes = self.inbound.bytes();
                let text = |span: wire::http1::Span| {
                    std::str::from_utf8(span.of(bytes)).unwrap_or_default()
                };
                let head = &scratch.request;
                let path = match changed {
                    true => std::str::from_utf8(&scratch.path).unwrap_or_default(),
                    false => text(head.path),
                };
                let (host, query) = (text(head.authority), text(head.query));
                let scheme = if self.secured.is_some() { "https" } else { "http" };
                route::location(location, scheme, host, path, query, &mut to);
                let reply = Reply { header: Some(("location", &to)), ..Reply::status(*status) };
                self.answer(scratch, &reply).await
            }
            Action::Respond { status, body, content_type } => {
                let reply = Reply { content_type, body: body.as_bytes(), ..Reply::status(*status) };
                self.answer(scratch, &reply).await
            }
        }
    }

    /// The request as routes see it. `changed`: the normal form of its path is in `scratch.path`.
    pub(crate) fn view<'a>(&'a self, scratch: &'a Scratch, changed: bool) -> View<'a> {
        View {
            bytes: self.inbound.bytes(),
            head: &scratch.request,
            path: changed.then_some(scratch.path.as_slice()),
        }
    }

    /// Writes the head that the endpoint is to see into `scratch.outbound`.
    fn write_outbound(
        &self,
        scratch: &mut Scratch,
        state: &ListenerState,
        route: &Route,
        rewritten: Option<&str>,
        changed: bool,
    ) {
        let bytes = self.inbound.bytes();
        let head = &scratch.request;
        let mut path = if changed { &scratch.path } else { head.path.of(bytes) };
        if let Some(rewriter) = &route.rewriter {
            let text = std::str::from_utf8(path).unwrap_or_default();
            if rewriter.path(text, &mut scratch.rewritten) {
                path = &scratch.rewritten;
            }
        }
        let local;
        let host = match &route.rewrite_host {
            Some(host) => host.as_bytes(),
            None if head.authority.is_empty() => {
                // HTTP/1.0 without a Host; HTTP/1.1 demands one.
                local = self.local.to_string();
                local.as_bytes()
            }
            None => head.authority.of(bytes),
        };
        let http = &state.spec.http;
        let sender = Sender {
            address: self.client.ip(),
            text: &self.client_text,
            trusted: http.trusted.iter().any(|net| net.contains(self.client.ip())),
            https: self.secured.is_some(),
            version: self.version(head.version),
            identity: self.secured.as_ref().and_then(|secured| secured.identity.as_ref()),
        };
        let target = request_head::Target {
            path,
            query: head.has_query.then(|| head.query.of(bytes)),
            host,
        };
        let mut rng = self.door.worker.rng.borrow_mut();
        let out = &mut scratch.outbound;
        request_head::write(out, bytes, head, &target, route, http, &sender, rewritten, &mut rng);
        if self.door.worker.log.is_on()
            && let Some(name) = &http.request_id
        {
            scratch.record.note_request_id(out, name);
        }
    }

    /// What was agreed on with the client, for the access log.
    pub(crate) fn terms(&self) -> Option<&Terms> {
        self.secured.as_ref()?.terms.as_ref()
    }

    /// The version of HTTP that the client speaks. `written`: what stands in the request's head.
    fn version(&self, written: Version) -> &'static str {
        if self.stream.is_http2() { "2" } else { written.number() }
    }

    /// Should the request that is served now be the connection's last?
    pub(crate) fn is_ending(&self) -> bool {
        self.ticket.is_closing() || self.retirement.is_due(|| self.door.worker.clock.now())
    }

    /// What a stream of HTTP/2 reads and writes is counted in its frames, by its connection.
    pub(crate) fn count_in(&self, record: &mut Record, bytes: u64) {
        record.bytes_in += bytes;
        if !self.stream.is_http2() {
            self.door.counters().bytes_in.add(bytes);
        }
    }

    pub(crate) fn count_out(&self, record: &mut Record, bytes: u64) {
        record.bytes_out += bytes;
        if !self.stream.is_http2() {
            self.door.counters().bytes_out.add(bytes);
        }
    }
}

/// What proves to a CA that this host is ours, if the path is one that a CA was told of (RFC 8555
/// section 8.3). All others go where routes say, those of an application that proves it itself too.
fn proof(state: &ListenerState, path: &[u8]) -> Option<String> {
    let token = path.strip_prefix(b"/.well-known/acme-challenge/")?;
    state.issued.http_answer(std::str::from_utf8(token).ok()?)
}
