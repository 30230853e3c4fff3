//! Asks endpoints how they are when a policy wants to know (`prequal` with `probe`): a GET on a
//! kept-alive connection, whose answer goes back to the policy.
//!
//! Nobody waits for it, so everything is bounded and what is beyond its bound is left out: a
//! question that was not asked costs nothing but freshness.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use model::{Instant, ProbeAnswer, ServiceName, Utilization};
use service::EndpointHandle;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use wire::http1::{Framing, HeaderKind, Progress, RequestKind, ResponseHead};
use wire::orca::{self, LoadReport};

use super::check::{Connection, HEAD_LIMITS, INTERIM_MAX, Over, READ_BYTES, Rest};
use crate::clock::Clock;
use crate::http1::hints::Hints;
use crate::proxy::SharedTargets;
use crate::upstream::Secure;

/// Questions that wait to be asked; the next ones are left out.
pub(crate) const QUESTIONS_MAX: usize = 1024;
/// Questions under way. At 1 ms each that is enough for 80,000 requests a second.
const RUNNING_MAX: usize = 256;
/// Of these, to one endpoint: what more would ask is answered by those.
const PER_ENDPOINT_MAX: usize = 4;
/// A later answer is none: it would tell of a past.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(100);
/// An idle connection is closed after this.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// An answer's body is read to its end so that the connection can be used again, but no further
/// than this.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// What an application may say of a latency at most: an hour.
const LATENCY_MS_MAX: f64 = 3_600_000.0;

/// What a policy wants to know.
pub(crate) struct Question {
    pub(crate) service: ServiceName,
    pub(crate) endpoint: Arc<EndpointHandle>,
    pub(crate) path: Arc<str>,
}

/// Asks, until the other end of `questions` is gone. `services`: what is spoken to whose endpoints.
pub(crate) async fn drive(
    clock: Clock,
    mut questions: Receiver<Question>,
    services: SharedTargets,
) {
    let mut asker = Asker { clock, services, lines: HashMap::new(), running: JoinSet::new() };
    let mut sweep = interval(IDLE_MAX);
    loop {
        tokio::select! {
            question = questions.recv() => match question {
                Some(question) => asker.start(question),
                None => return,
            },
            Some(ended) = asker.running.join_next() => match ended {
                Ok(ended) => asker.end(ended),
                Err(e) => tracing::error!("a probe ended without a result: {e}"),
            },
            _ = sweep.tick() => asker.sweep(),
        }
    }
}

struct Asker {
    clock: Clock,
    services: SharedTargets,
    /// By [`EndpointHandle::key`].
    lines: HashMap<u64, Line>,
    running: JoinSet<Ended>,
}

/// What we have with one endpoint.
#[derive(Default)]
struct Line {
    running: usize,
    idle: Vec<Idle>,
    used_at: Instant,
}

/// A connection that can be used again.
struct Idle {
    stream: Connection,
    /// [`Secure::terms`] when it was made.
    terms: u64,
}

struct Ended {
    endpoint: Arc<EndpointHandle>,
    answer: Option<ProbeAnswer>,
    idle: Option<Idle>,
}

impl Asker {
    fn start(&mut self, Question { service, endpoint, path }: Question) {
        // A service that is gone has nobody who would hear the answer.
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(target) = services.get(&service).cloned() else { return };
        drop(services);
        let secure = Secure::clone(&target.secure.load());
        let line = self.lines.entry(endpoint.key).or_default();
        if self.running.len() >= RUNNING_MAX || line.running >= PER_ENDPOINT_MAX {
            return;
        }
        line.running += 1;
        line.used_at = self.clock.now();
        // Made on other terms: its certificate would not be taken any more.
        line.idle.retain(|idle| idle.terms == secure.terms());
        let (clock, idle) = (self.clock, line.idle.pop());
        self.running.spawn(async move {
            let asked = timeout(ANSWER_TIMEOUT, ask(&endpoint, &path, idle, &secure, clock)).await;
            let (answer, idle) = asked.unwrap_or_default();
            Ended { endpoint, answer, idle }
        });
    }

    fn end(&mut self, Ended { endpoint, answer, idle }: Ended) {
        if let Some(line) = self.lines.get_mut(&endpoint.key) {
            line.running -= 1;
            line.idle.extend(idle);
        }
        if let Some(answer) = answer {
            endpoint.probed(&answer);
        }
    }

    /// Forgets endpoints that nobody asks about any more.
    fn sweep(&mut self) {
        let now = self.clock.now();
        self.lines.retain(|_, line| line.running > 0 || now.since(line.used_at) < IDLE_MAX);
    }
}

/// The answer, and the connection for the next question. `secure`: what the endpoint speaks.
async fn ask(
    endpoint: &EndpointHandle,
    path: &str,
    idle: Option<Idle>,
    secure: &Secure,
    clock: Clock,
) -> (Option<ProbeAnswer>, Option<Idle>) {
    let address = endpoint.address;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: evenkeel-probe\r\n\r\n");
    if let Some(mut idle) = idle
        && let Some(said) = exchange(&mut idle.stream, request.as_bytes(), clock).await
    {
        return (said.answer(endpoint, clock.now()), said.keep_alive.then_some(idle));
    }
    // There was none, or the endpoint had closed it.
    let terms = secure.terms();
    let over = match secure {
        Secure::Plain => Over::Clear,
        secure => Over::Service(secure),
    };
    let Ok(mut stream) = Connection::open(address, over, &[]).await else { return (None, None) };
    match exchange(&mut stream, request.as_bytes(), clock).await {
        Some(said) => {
            let idle = said.keep_alive.then_some(Idle { stream, terms });
            (said.answer(endpoint, clock.now()), idle)
        }
        None => (None, None),
    }
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Said {
    status: u16,
    took: Duration,
    in_flight: Option<u32>,
    latency: Option<Duration>,
    /// In the ORCA format, as in any response.
    utilization: Option<Utilization>,
    keep_alive: bool,
}

impl Said {
    /// `None` if it failed. What was not said is what we know: the requests that it has of us, and
    /// what this one took. What it says of its resources is kept where its responses' reports are.
    fn answer(&self, endpoint: &EndpointHandle, now: Instant) -> Option<ProbeAnswer> {
        if let Some(utilization) = self.utilization {
            endpoint.load.utilize(utilization, now);
        }
        let in_flight = self.in_flight.unwrap_or_else(|| endpoint.in_flight());
        let latency = self.latency.unwrap_or(self.took);
        (self.status < 500).then_some(ProbeAnswer { now, in_flight, latency })
    }
}

/// `None` if there was no answer, or it was not HTTP.
async fn exchange(stream: &mut Connection, request: &[u8], clock: Clock) -> Option<Said> {
    let began = clock.now();
    stream.send(request).await.ok()?;
    let mut bytes = Vec::with_capacity(READ_BYTES);
    let mut head = ResponseHead::default();
    let kind = RequestKind { is_head: false, is_connect: false };
    let mut interim = 0;
    loop {
        match head.parse(&bytes, &HEAD_LIMITS, kind).ok()? {
            Progress::Complete if head.is_informational() => {
                interim += 1;
                if interim > INTERIM_MAX {
                    return None;
                }
                bytes.drain(..head.len);
                continue;
            }
            Progress::Complete => break,
            Progress::Partial => {}
        }
        if stream.read(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let took = clock.now().since(began);
    let report = load_report(&head, &bytes);
    let mut hints = Hints::default();
    hints.load(report);
    let LoadReport { in_flight, latency_ms, .. } = report.unwrap_or_default();
    // Of two words for one thing, ours counts.
    let own_in_flight = field(&head, &bytes, "x-keel-in-flight");
    let own_latency = field(&head, &bytes, "x-keel-latency-ms");
    let mut said = Said {
        status: head.status,
        took,
        in_flight: own_in_flight
            .and_then(|text| text.parse().ok())
            // A cast of a floating-point number saturates.
            .or(in_flight.map(|count| count.round() as u32)),
        latency: own_latency.and_then(milliseconds).or(latency_ms.and_then(from_ms)),
        utilization: hints.utilization,
        keep_alive: head.keep_alive && !head.upgrade,
    };
    said.keep_alive = said.keep_alive && is_read_out(stream, &head, bytes).await;
    Some(said)
}

/// Reads the body; whether it came to its end within its bound, with nothing behind it.
async fn is_read_out(stream: &mut Connection, head: &ResponseHead, mut bytes: Vec<u8>) -> bool {
    bytes.drain(..head.len);
    let mut rest = Rest::new(head.framing);
    let mut total = bytes.len();
    while !rest.is_done(&mut bytes) {
        match stream.read(&mut bytes).await {
            Ok(count) if count > 0 && total < BODY_BYTES_MAX => total += count,
            _ => return false,
        }
    }
    // What follows an answer that nobody asked for must not pass for the next one.
    match head.framing {
        Framing::None => total == 0,
        Framing::Length(length) => total as u64 == length,
        Framing::Chunked => bytes.is_empty(),
        Framing::UntilClose => false,
    }
}

fn field<'a>(head: &ResponseHead, bytes: &'a [u8], name: &str) -> Option<&'a str> {
    let named =
        |header: &&wire::http1::Header| header.name.of(bytes).eq_ignore_ascii_case(name.as_bytes());
    std::str::from_utf8(head.headers.iter().find(named)?.value.of(bytes)).ok()
}

/// What the answer says in the ORCA format; the last report counts, as in any response.
fn load_report(head: &ResponseHead, bytes: &[u8]) -> Option<LoadReport> {
    head.headers.iter().rev().find_map(|header| match header.kind {
        HeaderKind::EndpointLoadMetrics => orca::decode(header.value.of(bytes)),
        HeaderKind::EndpointLoadMetricsBin => orca::decode_binary(header.value.of(bytes)),
        _ => None,
    })
}

/// `12.5`
fn milliseconds(text: &str) -> Option<Duration> {
    from_ms(text.parse().ok()?)
}

fn from_ms(ms: f64) -> Option<Duration> {
    (0.0..=LATENCY_MS_MAX).contains(&ms).then(|| Duration::from_secs_f64(ms / 1000.0))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers `answers` in turn on one connection, and then closes it.
    async fn serve(listener: &TcpListener, answers: &[&str]) {
        let (mut stream, _) = listener.accept().await.unwrap();
        for answer in answers {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0);
            }
            assert!(request.starts_with(b"GET /load HTTP/1.1\r\nHost: "), "{request:?}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    fn run<F: Future>(test: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test)
    }

    const REQUEST: &[u8] = b"GET /load HTTP/1.1\r\nHost: a\r\n\r\n";

    fn check(answer: &str, expected: Option<(u16, Option<u32>, Option<f64>, bool)>) {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let asked = async {
                let mut stream = Connection::open(address, Over::Clear, &[]).await.unwrap();
                exchange(&mut stream, REQUEST, Clock::start()).await
            };
            let answers = [answer];
            let (said, ()) = tokio::join!(asked, serve(&listener, &answers));
            let said = said.map(|said| {
                let latency = said.latency.map(|latency| latency.as_secs_f64() * 1000.0);
                (said.status, said.in_flight, latency, said.keep_alive)
            });
            assert_eq!(said, expected, "{answer:?}");
        });
    }

    #[test]
    fn an_answer_says_what_it_says() {
        check(
            "HTTP/1.1 200 OK\r\nX-Keel-In-Flight: 3\r\nx-keel-latency-ms: 12.5\r\nContent-Length: 2\r\n\r\nok",
            Some((200, Some(3), Some(12.5), true)),
        );
        check("HTTP/1.1 204 No Content\r\n\r\n", Some((204, None, None, true)));
        // In the ORCA format, of which our own headers come first.
        check(
            "HTTP/1.1 204 No\r\nendpoint-load-metrics: TEXT named_metrics.rif=4,named_metrics.latency_ms=2.5\r\n\r\n",
            Some((204, Some(4), Some(2.5), true)),
        );
        check(
            "HTTP/1.1 204 No\r\nX-Keel-In-Flight: 3\r\nEndpoint-Load-Metrics: JSON {\"namedMetrics\":{\"rif\":4,\"latency_ms\":4e6}}\r\n\r\n",
            Some((204, Some(3), None, true)),
        );
        check(
            "HTTP/1.1 204 No\r\nX-Keel-In-Flight: many\r\nendpoint-load-metrics: TEXT named_metrics.rif=1e99\r\n\r\n",
            Some((204, Some(u32::MAX), None, true)),
        );
        check(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\nX-Keel-In-Flight: many\r\nX-Keel-Latency-Ms: -1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Some((404, None, None, true)),
        );
        check(
            "HTTP/1.0 200 OK\r\nX-Keel-In-Flight: 0\r\n\r\nrest",
            Some((200, Some(0), None, false)),
        );
        check("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", Some((200, None, None, false)));
        check("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore", Some((200, None, None, false)));
        check("SSH-2.0-OpenSSH_9.2\r\n", None);
        check("HTTP/1.1 200 OK\r\n", None);
    }

    #[test]
    fn latencies_are_numbers_within_bounds() {
        assert_eq!(milliseconds("0"), Some(Duration::ZERO));
        assert_eq!(milliseconds("1e3"), Some(Duration::from_secs(1)));
        for text in ["", "-0.1", "NaN", "inf", "3600001", "12ms"] {
            assert_eq!(milliseconds(text), None, "{text}");
        }
    }

    /// A policy that asks hears of an endpoint over one connection, and over a new one when that
    /// was closed.
    #[test]
    fn connections_are_used_again_and_replaced() {
        use model::Endpoint;
        use model::spec::{EndpointSource, HealthKind, ServiceSpec};

        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut spec = ServiceSpec::new("web".into());
            let endpoint = Endpoint::at(listener.local_addr().unwrap());
            spec.source = EndpointSource::Static(vec![endpoint]);
            spec.health.kind = HealthKind::Off;
            let clock = Clock::start();
            let events = Arc::new(service::NoEvents);
            let service = service::Service::new(&spec, events, clock.now(), 1);
            let endpoint = service.eligible().remove(0);
            let asked = async {
                let mut idle = None;
                let mut answers = Vec::new();
                for _ in 0..4 {
                    let (answer, stream) =
                        ask(&endpoint, "/load", idle, &Secure::Plain, clock).await;
                    answers.push(answer.map(|answer| answer.in_flight));
                    idle = stream;
                }
                answers
            };
            let good = "HTTP/1.1 200 OK\r\nX-Keel-In-Flight: 7\r\n\
                endpoint-load-metrics: TEXT cpu_utilization=0.25\r\nContent-Length: 0\r\n\r\n";
            let bad = "HTTP/1.1 503 No\r\nX-Keel-In-Flight: 1\r\nContent-Length: 0\r\n\r\n";
            let plain = "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";
            let served = async {
                serve(&listener, &[good, good]).await;
                serve(&listener, &[bad, plain]).await;
            };
            let (answers, ()) = tokio::join!(asked, served);
            assert_eq!(answers, [Some(7), Some(7), None, Some(0)]);
            let (utilization, _) = endpoint.load.utilization().unwrap();
            assert_eq!(utilization, Utilization { cpu: Some(250), ..Utilization::default() });
        });
    }
}
