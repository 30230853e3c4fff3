//! From an endpoint to a connection for one request: an idle one, a place on one that carries many,
//! or a new one, for which all requests that find none wait together.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use model::Instant;
use model::spec::EndpointProtocol;
use service::{EndpointHandle, Settings};

use crate::http2::Carrier;
use crate::io::Stream;
use crate::tracked::Ticket;
use crate::upstream::{Announce, DialError, Secure, Upstream, carry, dial};
use crate::worker::Worker;

/// What a listener's number never is: a dial belongs to none.
const NO_LISTENER: u32 = u32::MAX;
/// How often a request looks for a place before it takes the endpoint for full: others may be
/// faster, and an endpoint may allow no request at all on what it accepts.
const ROUNDS_MAX: u32 = 8;

/// How a request wants to be connected.
pub(crate) struct Wanted<'a> {
    pub(crate) endpoint: &'a Arc<EndpointHandle>,
    pub(crate) settings: &'a Arc<Settings>,
    pub(crate) secure: &'a Secure,
    pub(crate) announce: Option<Announce>,
    /// It must not be sent twice: only on a connection that the kernel says is still open.
    pub(crate) once: bool,
    /// A kept-alive connection was stale.
    pub(crate) fresh_only: bool,
    /// It asks for another protocol: None, or whether that is WebSocket.
    pub(crate) upgrade: Option<bool>,
    pub(crate) timeout: Duration,
}

/// A connection, and whether it was used before and may be stale.
pub(crate) async fn connection(
    worker: &Rc<Worker>,
    ticket: &Ticket,
    wanted: &Wanted<'_>,
    now: Instant,
) -> Result<(Upstream, bool), DialError> {
    let protocol = wanted.settings.protocol;
    if protocol.may_be_http2() && (wanted.upgrade != Some(false)) {
        // Boxed: services of HTTP/1.1 pay nothing for its state.
        if let Some(found) = Box::pin(on_carrier(worker, ticket, wanted, now)).await? {
            return Ok(found);
        }
    }
    let Wanted { endpoint, settings, secure, announce, .. } = *wanted;
    if !wanted.fresh_only
        && announce.is_none()
        && let Some(upstream) = worker.pools.checkout(endpoint, now, wanted.once, secure.terms())
    {
        return Ok((upstream, true));
    }
    let alpn: &[&[u8]] = match (protocol, wanted.upgrade) {
        (EndpointProtocol::Http1 | EndpointProtocol::H2c, _) => &[],
        (_, Some(_)) => &[tls::ALPN_HTTP1],
        (_, None) => &[tls::ALPN_HTTP2, tls::ALPN_HTTP1],
    };
    let pool = &settings.pool;
    let upstream =
        dial(worker, ticket, endpoint, wanted.timeout, pool, announce, secure.clone(), alpn)
            .await?;
    if is_http2(&upstream) {
        // It has changed its mind.
        let carrier = carry(worker, ticket, upstream, pool).await?;
        let asking = carrier.reserve(settings.grpc_web);
        worker.pools.dialled(endpoint, None, pool, Some(&carrier), false);
        drive(carrier);
        return Ok((Upstream::on_carrier(asking, now), false));
    }
    Ok((upstream, false))
}

/// A place on a connection that carries many. None: it is to be HTTP/1.1.
async fn on_carrier(
    worker: &Rc<Worker>,
    ticket: &Ticket,
    wanted: &Wanted<'_>,
    now: Instant,
) -> Result<Option<(Upstream, bool)>, DialError> {
    let Wanted { endpoint, settings, secure, .. } = *wanted;
    ticket.set_deadline(now + wanted.timeout);
    let mut waited = false;
    for _ in 0..ROUNDS_MAX {
        let place = worker.pools.place(endpoint, settings, now, wanted.once, secure.terms());
        if let Some((asking, was_idle)) = place {
            if wanted.upgrade == Some(true) && !asking.has_extended_connect() {
                return Ok(None);
            }
            return Ok(Some((Upstream::on_carrier(asking, now), was_idle && !waited)));
        }
        let begin = |places| Dialling::begin(worker, endpoint, settings, secure, places);
        let Some(dialling) = worker.pools.dialling(endpoint, &settings.pool, begin) else {
            return Ok(None);
        };
        if let Some(upstream) = dialling.wait(ticket).await? {
            return Ok(Some((upstream, false)));
        }
        waited = true;
    }
    Err(DialError::Full)
}

fn is_http2(upstream: &Upstream) -> bool {
    matches!(&upstream.stream, Stream::Tls(stream) if stream.alpn() == Some(tls::ALPN_HTTP2))
}

/// Keeps a connection going until it is over.
fn drive(carrier: Rc<Carrier>) {
    tokio::task::spawn_local(async move { poll_fn(|cx| carrier.poll(cx)).await });
}

/// A connection that is being made, for all that wait for one. It goes on when they leave.
#[derive(Debug)]
pub(crate) struct Dialling {
    result: RefCell<Option<Result<(), DialError>>>,
    /// It became one of HTTP/1.1: for who comes first.
    upstream: RefCell<Option<Upstream>>,
    waiting: RefCell<Vec<Waker>>,
    /// How many it may serve, and how many wait for it.
    places: usize,
    joined: Cell<usize>,
}

impl Dialling {
    fn begin(
        worker: &Rc<Worker>,
        endpoint: &Arc<EndpointHandle>,
        settings: &Arc<Settings>,
        secure: &Secure,
        places: usize,
    ) -> Rc<Self> {
        let dialling = Rc::new(Self {
            result: RefCell::default(),
            upstream: RefCell::default(),
            waiting: RefCell::default(),
            places,
            joined: Cell::new(1),
        });
        let (worker, endpoint) = (worker.clone(), endpoint.clone());
        let run = dialling.clone().run(worker, endpoint, settings.clone(), secure.clone());
        tokio::task::spawn_local(run);
        dialling
    }

    /// Is there a place for one more to wait?
    pub(crate) fn join(&self) -> bool {
        let joins = self.joined.get() < self.places && self.result.borrow().is_none();
        self.joined.set(self.joined.get() + usize::from(joins));
        joins
    }

    async fn run(
        self: Rc<Self>,
        worker: Rc<Worker>,
        endpoint: Arc<EndpointHandle>,
        settings: Arc<Settings>,
        secure: Secure,
    ) {
        let ticket = worker.tracked.register(NO_LISTENER);
        let made = make(&worker, &ticket, &endpoint, &settings, secure).await;
        let (result, carrier, speaks_http1) = match made {
            Ok(Made::Carrier(carrier)) => (Ok(()), Some(carrier), false),
            Ok(Made::Http1(upstream)) => {
                *self.upstream.borrow_mut() = Some(*upstream);
                (Ok(()), None, true)
            }
            Err(e) => (Err(e), None, false),
        };
        let pools = &worker.pools;
        pools.dialled(&endpoint, Some(&self), &settings.pool, carrier.as_ref(), speaks_http1);
        *self.result.borrow_mut() = Some(result);
        self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
        drop(ticket);
        if let Some(carrier) = carrier {
            poll_fn(|cx| carrier.poll(cx)).await;
        }
    }

    /// Until it is over; then there is a connection of HTTP/1.1, or perhaps a place.
    async fn wait(&self, ticket: &Ticket) -> Result<Option<Upstream>, DialError> {
        poll_fn(|cx| {
            ticket.attach(cx);
            if let Some(result) = *self.result.borrow() {
                return Poll::Ready(result.map(|()| self.upstream.borrow_mut().take()));
            }
            if ticket.must_close() {
                return Poll::Ready(Err(DialError::Closed));
            }
            if ticket.expired() {
                return Poll::Ready(Err(DialError::TimedOut));
            }
            self.attach(cx);
            Poll::Pending
        })
        .await
    }

    fn attach(&self, cx: &Context<'_>) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
    }
}

enum Made {
    Carrier(Rc<Carrier>),
    /// Boxed: it is far larger, and rare.
    Http1(Box<Upstream>),
}

async fn make(
    worker: &Worker,
    ticket: &Ticket,
    endpoint: &Arc<EndpointHandle>,
    settings: &Settings,
    secure: Secure,
) -> Result<Made, DialError> {
    let pool = &settings.pool;
    let alpn: &[&[u8]] = match settings.protocol {
        EndpointProtocol::Auto => &[tls::ALPN_HTTP2, tls::ALPN_HTTP1],
        EndpointProtocol::H2 => &[tls::ALPN_HTTP2],
        EndpointProtocol::H2c | EndpointProtocol::Http1 => &[],
    };
    // How long one of those that wait has left is nothing to the others.
    let timeout = settings.connect_timeout;
    let upstream = dial(worker, ticket, endpoint, timeout, pool, None, secure, alpn).await?;
    match settings.protocol {
        EndpointProtocol::Auto if !is_http2(&upstream) => {
            return Ok(Made::Http1(Box::new(upstream)));
        }
        EndpointProtocol::H2 if !is_http2(&upstream) => return Err(DialError::NotHttp2),
        _ => {}
    }
    let carrier = carry(worker, ticket, upstream, pool).await?;
    if carrier.streams_max() == 0 {
        // It allows no request: such connections are not collected.
        return Err(DialError::Full);
    }
    Ok(Made::Carrier(carrier))
}
