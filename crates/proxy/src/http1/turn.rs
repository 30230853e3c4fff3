//! What serving one request needs beside its bytes: a state machine of some KiB and its scratch.
//!
//! A connection has one only while a request is under way; between requests they lie with the
//! worker. So ten thousand idle connections cost none, and a request allocates nothing: the machine
//! is not made for a request, but goes round, and takes up one client after another.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use wire::http1::{RequestHead, ResponseHead};

use crate::http1::connection::{Client, Next};
use crate::http1::grpc::Call;
use crate::http1::record::Record;
use crate::spares::Spares;

/// Turns that a worker keeps for the next taker: some KiB each, for as long as so many are needed.
const TURNS_MAX: usize = 4096;

/// What serving one request needs beside its state. Used again and again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) request: RequestHead,
    pub(crate) response: ResponseHead,
    /// The request's head as the endpoint is to see it.
    pub(crate) outbound: Vec<u8>,
    /// The response's head as the client is to see it, or our own reply.
    pub(crate) reply: Vec<u8>,
    /// The request's path in normal form, if it was sent in another.
    pub(crate) path: Vec<u8>,
    /// The path after the route's rewrite.
    pub(crate) rewritten: Vec<u8>,
    pub(crate) record: Record,
    /// The request, if it is gRPC.
    pub(crate) call: Option<Call>,
}

/// One machine that serves requests, one client at a time.
struct Turn {
    seat: Rc<Seat>,
    /// Ready never: it has served a request when it leaves the client in the seat.
    machine: Pin<Box<dyn Future<Output = ()>>>,
}

/// Where a client is handed over and back.
#[derive(Default)]
struct Seat {
    comes: Cell<Option<Box<Client>>>,
    goes: Cell<Option<(Box<Client>, Next)>>,
}

impl Turn {
    fn new() -> Self {
        let seat = Rc::<Seat>::default();
        let machine = Box::pin(run(seat.clone()));
        Self { seat, machine }
    }
}

async fn run(seat: Rc<Seat>) {
    let mut scratch = Scratch::default();
    loop {
        let mut client = poll_fn(|_| match seat.comes.take() {
            Some(client) => Poll::Ready(client),
            // Who brings one polls.
            None => Poll::Pending,
        })
        .await;
        let next = client.serve_request(&mut scratch).await;
        seat.goes.set(Some((client, next)));
    }
}

/// One worker's unused turns.
#[derive(Debug)]
pub(crate) struct Turns(Spares<Turn>);

impl Default for Turns {
    fn default() -> Self {
        Self(Spares::new(TURNS_MAX))
    }
}

impl Turns {
    /// Serves the client's next request, whose first bytes are here.
    pub(super) async fn serve(&self, client: Box<Client>) -> (Box<Client>, Next) {
        let mut turn = self.0.take().unwrap_or_else(Turn::new);
        turn.seat.comes.set(Some(client));
        let served = poll_fn(|cx| {
            // Pending both when it waits for a socket and when it waits for the next client.
            let _ = turn.machine.as_mut().poll(cx);
            turn.seat.goes.take().map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        self.0.put(turn);
        served
    }

    /// Drops those that nobody took since the last time.
    pub(crate) fn trim(&self) {
        self.0.trim();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_waits_is_pending() {
        let mut turn = Turn::new();
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(turn.machine.as_mut().poll(&mut cx).is_pending());
        assert!(turn.machine.as_mut().poll(&mut cx).is_pending());
        assert!(turn.seat.goes.take().is_none());
    }
}
