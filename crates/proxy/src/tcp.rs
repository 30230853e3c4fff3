//! TCP services: a client's stream joined to an endpoint's.

use std::net::SocketAddr;
use std::time::Duration;

use model::spec::{PRIORITY_DEFAULT, Protocol};
use model::{Instant, Outcome, Report};
use service::{Acquired, Request};
use smallvec::SmallVec;

use crate::access_log::{Entry, TlsEntry};
use crate::arrival::{Arrival, Terms};
use crate::buffer::Buffer;
use crate::io::Stream;
use crate::listener::{Door, Target};
use crate::passthrough;
use crate::queue;
use crate::relay::{RelayBytes, RelayEnd, relay};
use crate::session;
use crate::tracked::Ticket;
use crate::upstream::{Announce, DialError, Secure, dial};

/// What the access log is told of a stream.
#[derive(Debug, Default)]
struct Record {
    endpoint: Option<model::EndpointId>,
    attempts: u32,
    queued: Duration,
    bytes: RelayBytes,
    error: Option<&'static str>,
}

/// Serves a client until both directions ended.
pub(crate) async fn serve(door: &Door, mut arrival: Arrival) {
    let mut record = Record::default();
    let mut asked = String::new();
    let target = match door.listener.protocol {
        Protocol::Tls => passthrough::target(door, &mut arrival, &mut asked).await.map_err(Some),
        // As it is now: the handshake may have been long in coming.
        _ => door.listener.state.load().rest.clone().ok_or(None),
    };
    let Arrival { mut stream, mut inbound, ticket, client, local, accepted_at: started, secured } =
        arrival;
    match &target {
        Ok(target) => {
            let ends = (client, local);
            join(door, &ticket, &mut stream, &mut inbound, target, ends, &mut record).await;
        }
        Err(error) => {
            record.error = *error;
            stream.reset_on_close();
        }
    }
    let counters = door.counters();
    counters.bytes_in.add(record.bytes.to_upstream);
    counters.bytes_out.add(record.bytes.to_downstream);
    if door.worker.log.is_on() {
        let passed = TlsEntry { version: "", cipher: "", server_name: &asked };
        let ended = secured.as_ref().and_then(|s| s.terms.as_ref()).map(Terms::entry);
        door.worker.log.write(&Entry {
            listener: door.listener.name.as_str(),
            protocol: door.listener.protocol,
            client: client.ip(),
            http: None,
            tls: ended.or((!asked.is_empty()).then_some(passed)),
            duration: door.worker.clock.now().since(started),
            queued: record.queued,
            bytes_in: record.bytes.to_upstream,
            bytes_out: record.bytes.to_downstream,
            service: target.as_ref().ok().map(|t| t.service.name().as_str()),
            endpoint: record.endpoint.as_ref().map(|e| e.as_str()),
            attempts: record.attempts,
            hedged: false,
            error: record.error,
        });
    }
}

/// Connects the stream to an endpoint that takes it, and relays until both sides ended.
async fn join(
    door: &Door,
    ticket: &Ticket,
    stream: &mut Stream,
    inbound: &mut Buffer,
    target: &Target,
    (client, local): (SocketAddr, SocketAddr),
    record: &mut Record,
) {
    let worker = &door.worker;
    let settings = target.service.settings().clone();
    let announce = settings.send_proxy_protocol.map(|version| Announce { version, client, local });
    let key = settings.key().map(|_| route::source_key(client.ip()));
    let session = session::of_client(&settings, client.ip());
    if session.is_some() && target.store.load().is_some() {
        Box::pin(session::ask_store(target, session, worker.clock)).await;
    }
    let mut tried: SmallVec<[u64; 4]> = SmallVec::new();
    for _ in 0..=settings.retry.attempts {
        let now = worker.clock.now();
        let request = Request { now, key, exclude: &tried };
        let service = &target.service;
        let resumed = session
            .and_then(|session| service.acquire_session(session, &request, PRIORITY_DEFAULT));
        let acquired = resumed.unwrap_or_else(|| {
            service.acquire(&request, PRIORITY_DEFAULT, &mut worker.rng.borrow_mut())
        });
        let pick = match acquired {
            Acquired::Picked(pick) => pick,
            acquired => {
                let mut client = queue::Client {
                    worker,
                    ticket,
                    stream,
                    inbound,
                    bytes_in: 0,
                    ends_with_end: false,
                };
                let never = Instant::FAR_FUTURE;
                let waits = matches!(acquired, Acquired::Waits(_));
                let settled = queue::settle(acquired, service, &mut client, &request, never).await;
                if waits {
                    record.queued += worker.clock.now().since(now);
                }
                match settled {
                    Ok(pick) => pick,
                    Err(refusal) => {
                        record.error.get_or_insert(refusal.reason());
                        break;
                    }
                }
            }
        };
        let now = worker.clock.now();
        let endpoint = pick.endpoint().clone();
        // Until it is connected: that is what counts as served.
        let claim = session.and_then(|session| service.claim(session, &endpoint, &request));
        record.attempts += 1;
        record.endpoint = Some(endpoint.id.clone());
        ticket.set_endpoint(endpoint.key, endpoint.close_at());
        let dialled = dial(
            worker,
            ticket,
            &endpoint,
            settings.connect_timeout,
            &settings.pool,
            announce,
            Secure::clone(&target.secure.load()),
            &[],
        );
        let mut upstream = match dialled.await {
            Ok(upstream) => {
                if let Some(session) = session {
                    service.learn(session, &endpoint, &request);
                }
                drop(claim);
                upstream
            }
            Err(e) => {
                drop(claim);
                tried.push(endpoint.key);
                let outcome = match e {
                    DialError::Full | DialError::NoResources | DialError::Closed => {
                        Outcome::Abandoned
                    }
                    DialError::TimedOut
                    | DialError::Failed(_)
                    | DialError::Handshake
                    | DialError::Certificate
                    | DialError::NotHttp2 => Outcome::ConnectFailed,
                };
                pick.report(&Report::new(worker.clock.now(), outcome));
                record.error = Some(e.reason());
                if ticket.is_closing() && ticket.must_close() {
                    break;
                }
                continue;
            }
        };
        let latency = worker.clock.now().since(now);
        record.error = None;
        let mut from_up = Buffer::new(&worker.blocks);
        let idle = door.listener.state.load().spec.timeouts.stream_idle;
        let (end, bytes) = relay(
            worker.clock,
            ticket,
            idle,
            (stream, inbound),
            (&mut upstream.stream, &mut from_up),
        )
        .await;
        record.bytes = bytes;
        let (outcome, error) = match end {
            RelayEnd::Finished => (Outcome::Success, None),
            RelayEnd::Idle => (Outcome::Success, Some("idle")),
            RelayEnd::DownstreamBroke => (Outcome::Abandoned, Some("client broke")),
            RelayEnd::UpstreamBroke if bytes.to_downstream == 0 => {
                (Outcome::Broken, Some("endpoint broke"))
            }
            // It worked for a while; why it ended is the application's affair.
            RelayEnd::UpstreamBroke => (Outcome::Success, Some("endpoint broke")),
            RelayEnd::Closed => (Outcome::Abandoned, Some("grace over")),
        };
        record.error = error;
        let ended = worker.clock.now();
        pick.report(&Report::new(ended, outcome).after(Some(latency)));
        target.latencies[worker.index].observe(ended.since(now));
        return;
    }
    stream.reset_on_close();
}
