use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;

use model::spec::ServiceSpec;
use model::{EndpointId, Instant, ProbeAnswer, Rng, ServiceName, Utilization};
use service::{EndpointHandle, Events, Service};

use crate::distribution::stream;

/// One balancer: a service object of its own, with a view and a course of chance of its own.
pub(crate) struct Balancer {
    pub(crate) service: Arc<Service>,
    pub(crate) rng: Rng,
    /// Of checks, so that these do not change what picks draw.
    pub(crate) check_rng: Rng,
    /// When its `Poll` stands in the queue.
    pub(crate) poll_at: Instant,
    notes: Arc<Notes>,
    /// Answers to its policy's questions that are on their way, in the order in which they will
    /// come; `None`: lost.
    answers: VecDeque<(Arc<EndpointHandle>, Option<Answered>)>,
}

/// What an endpoint said of itself: requests that it has, what one takes then, and what it uses of its
/// resources.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) in_flight: u32,
    pub(crate) latency: Duration,
    pub(crate) utilization: Option<Utilization>,
}

pub(crate) enum Note {
    Suspect(EndpointId),
    Leaving(Arc<EndpointHandle>),
    /// A request that waits was told that its turn has come.
    Turn {
        slot: u32,
        serial: u32,
    },
}

/// Writes the note of one request that waits.
struct Turn {
    slot: u32,
    serial: u32,
    notes: Arc<Notes>,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.notes.add(Note::Turn { slot: self.slot, serial: self.serial });
    }
}

/// The service may not be called back from within, so its events are written down.
#[derive(Default)]
struct Notes {
    notes: Mutex<Vec<Note>>,
    probes: Mutex<Vec<Arc<EndpointHandle>>>,
}

/// Kinds of streams of chance: see `stream`.
const PICKS: u64 = 1;
const CHECKS: u64 = 2;
const SERVICE: u64 = 3;

impl Balancer {
    pub(crate) fn new(spec: &ServiceSpec, seed: u64, index: u64) -> Self {
        let notes = Arc::new(Notes::default());
        let own_seed = stream(seed, SERVICE, index).next_u64();
        Self {
            service: Service::new(spec, notes.clone(), Instant::ZERO, own_seed),
            rng: stream(seed, PICKS, index),
            check_rng: stream(seed, CHECKS, index),
            poll_at: Instant::FAR_FUTURE,
            notes,
            answers: VecDeque::new(),
        }
    }

    /// Whom its policy wants to ask now; that is, mostly nobody.
    pub(crate) fn take_probes(&self) -> Vec<Arc<EndpointHandle>> {
        std::mem::take(&mut *lock(&self.notes.probes))
    }

    pub(crate) fn expect(&mut self, endpoint: Arc<EndpointHandle>, answer: Option<Answered>) {
        self.answers.push_back((endpoint, answer));
    }

    /// The next answer comes.
    pub(crate) fn hear(&mut self, now: Instant) {
        if let Some((endpoint, Some(answered))) = self.answers.pop_front() {
            let Answered { in_flight, latency, utilization } = answered;
            if let Some(utilization) = utilization {
                endpoint.load.utilize(utilization, now);
            }
            endpoint.probed(&ProbeAnswer { now, in_flight, latency });
        }
    }

    /// Whom a service tells that this request's turn has come.
    pub(crate) fn waker(&self, slot: u32, serial: u32) -> Waker {
        Arc::new(Turn { slot, serial, notes: self.notes.clone() }).into()
    }

    pub(crate) fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut *lock(&self.notes.notes))
    }
}

impl Notes {
    fn add(&self, note: Note) {
        lock(&self.notes).push(note);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Events for Notes {
    fn suspect(&self, _: &ServiceName, endpoint: &EndpointId) {
        self.add(Note::Suspect(endpoint.clone()));
    }
    fn probe(&self, _: &ServiceName, endpoint: &Arc<EndpointHandle>, _: &Arc<str>) {
        lock(&self.probes).push(endpoint.clone());
    }
    fn leaving(&self, _: &ServiceName, endpoint: &Arc<EndpointHandle>) {
        self.add(Note::Leaving(endpoint.clone()));
    }
    // A cut looks whether the endpoint still leaves.
    fn staying(&self, _: &ServiceName, _: &Arc<EndpointHandle>) {}
    // Whoever calls the service reads its time again each time.
    fn changed(&self, _: &ServiceName) {}
}
