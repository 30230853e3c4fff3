use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use model::spec::ServiceSpec;
use model::{EndpointId, Instant, Rng, ServiceName};
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
struct Notes(Mutex<Vec<Note>>);

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
        }
    }

    /// Whom a service tells that this request's turn has come.
    pub(crate) fn waker(&self, slot: u32, serial: u32) -> Waker {
        Arc::new(Turn { slot, serial, notes: self.notes.clone() }).into()
    }

    pub(crate) fn take_notes(&self) -> Vec<Note> {
        std::mem::take(&mut *self.notes.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Notes {
    fn add(&self, note: Note) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }
}

impl Events for Notes {
    fn suspect(&self, _: &ServiceName, endpoint: &EndpointId) {
        self.add(Note::Suspect(endpoint.clone()));
    }
    fn leaving(&self, _: &ServiceName, endpoint: &Arc<EndpointHandle>) {
        self.add(Note::Leaving(endpoint.clone()));
    }
    // A cut looks whether the endpoint still leaves.
    fn staying(&self, _: &ServiceName, _: &Arc<EndpointHandle>) {}
    // Whoever calls the service reads its time again each time.
    fn changed(&self, _: &ServiceName) {}
}
