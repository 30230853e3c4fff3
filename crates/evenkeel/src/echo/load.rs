//! `/load`: how busy this replica is, in the headers that the policy `prequal` reads.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use model::{Instant, LatencyByLoad};

static IN_FLIGHT: HeaderName = HeaderName::from_static("x-keel-in-flight");
static LATENCY_MS: HeaderName = HeaderName::from_static("x-keel-latency-ms");

/// What requests took more than so long ago says nothing of now.
const MEMORY: Duration = Duration::from_secs(1);

/// Requests in flight, and what they took lately.
pub(super) struct Busy {
    in_flight: AtomicU32,
    latencies: LatencyByLoad,
    start: std::time::Instant,
}

/// One request, from its head to that of its answer.
pub(super) struct Counted<'a> {
    busy: &'a Busy,
    found: u32,
    began: Instant,
}

impl Busy {
    pub(super) fn new() -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            latencies: LatencyByLoad::default(),
            start: std::time::Instant::now(),
        }
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    pub(super) fn begin(&self) -> Counted<'_> {
        let found = self.in_flight.fetch_add(1, Relaxed);
        Counted { busy: self, found, began: self.now() }
    }

    /// Says nothing of latency when there was none lately.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        let in_flight = self.in_flight.load(Relaxed);
        headers.insert(&IN_FLIGHT, in_flight.into());
        let latency = self.latencies.at(in_flight, self.now(), MEMORY);
        let text = latency.map(|latency| format!("{:.3}", latency.as_secs_f64() * 1000.0));
        if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(&LATENCY_MS, value);
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.busy.in_flight.fetch_sub(1, Relaxed);
        let now = self.busy.now();
        self.busy.latencies.add(self.found, now.since(self.began), now);
    }
}
