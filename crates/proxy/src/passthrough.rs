//! Where TLS goes that is not decrypted: read from the client's first message, which is passed on
//! with all the rest.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use wire::client_hello::{ClientHello, Decoded, INPUT_BYTES_MAX, decode};

use crate::arrival::Arrival;
use crate::buffer::Buffer;
use crate::io::Stream;
use crate::listener::{Action, Door, Target};
use crate::metrics::ListenerShard;
use crate::tracked::Ticket;

/// The alert `unrecognized_name` (RFC 6066 section 3), fatal, as a record of its own.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 1, 0, 2, 2, 112];

/// Waits for the whole ClientHello, until the ticket's deadline, and finds where it goes; else
/// why it goes nowhere. Whom it asks for is written to `asked` if there is a log to tell it.
pub(crate) async fn target(
    door: &Door,
    arrival: &mut Arrival,
    asked: &mut String,
) -> Result<Arc<Target>, &'static str> {
    let counters: &ListenerShard = door.counters();
    let Arrival { stream, inbound, ticket, .. } = arrival;
    let hello = match read(stream, inbound, ticket).await {
        Ok(hello) => {
            counters.handshakes.add(1);
            hello
        }
        Err(error) => {
            let reason = error.reason();
            counters.malformed.add(1);
            counters.handshakes_failed.add(1);
            return Err(reason);
        }
    };
    if door.worker.log.is_on() {
        asked.push_str(&hello.server_name);
    }
    let found = {
        let state = door.listener.state.load();
        let route = state.table.find(&View(&hello));
        route.and_then(|route| match &route.action {
            Action::Forward { split, targets } => {
                let chosen = split.pick(&mut door.worker.rng.borrow_mut());
                targets.get(chosen).cloned()
            }
            _ => None,
        })
    };
    match found {
        Some(target) => Ok(target),
        None => {
            // A client that does not take seven bytes is not told.
            let alert = UNRECOGNIZED_NAME;
            let _ = poll_fn(|cx| Poll::Ready(arrival.stream.poll_write(cx, &alert, &[]))).await;
            let _ = poll_fn(|cx| Poll::Ready(arrival.stream.poll_shutdown(cx))).await;
            Err("no route")
        }
    }
}

/// Why there is no ClientHello.
pub(crate) enum ReadError {
    Gone,
    TimedOut,
    /// What came is none, for this reason.
    NoHello(&'static str),
}

impl ReadError {
    fn reason(&self) -> &'static str {
        match self {
            ReadError::Gone => "client gone",
            ReadError::TimedOut => "no ClientHello in time",
            ReadError::NoHello(reason) => reason,
        }
    }
}

/// Reads the whole ClientHello, which stays in `inbound`.
pub(crate) async fn read(
    stream: &mut Stream,
    inbound: &mut Buffer,
    ticket: &Ticket,
) -> Result<ClientHello, ReadError> {
    loop {
        match decode(inbound.bytes()) {
            Ok(Decoded::Complete(hello)) => return Ok(hello),
            Ok(Decoded::Partial) => {}
            Err(e) => return Err(ReadError::NoHello(e.reason())),
        }
        let filled = poll_fn(|cx| match inbound.poll_fill(cx, stream, INPUT_BYTES_MAX + 1) {
            Poll::Pending if ticket.expired() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            other => other,
        });
        match filled.await {
            Ok(0) => return Err(ReadError::Gone),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::TimedOut => return Err(ReadError::TimedOut),
            Err(_) => return Err(ReadError::Gone),
        }
    }
}

/// A ClientHello as routes see it.
struct View<'a>(&'a ClientHello);

impl route::Request for View<'_> {
    fn method(&self) -> &str {
        ""
    }
    fn host(&self) -> &str {
        &self.0.server_name
    }
    fn path(&self) -> &str {
        ""
    }
    fn query(&self) -> &str {
        ""
    }
    fn header<'a>(&'a self, _lower_name: &str, _visit: &mut dyn FnMut(&'a [u8]) -> bool) {}
    fn offers(&self, protocol: &[u8]) -> bool {
        self.0.offers(protocol)
    }
}
