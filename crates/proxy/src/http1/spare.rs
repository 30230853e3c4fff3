use std::cell::RefCell;

use wire::http1::{RequestHead, ResponseHead};

use crate::http1::grpc::Call;
use crate::http1::record::Record;

/// Scratch sets that a worker keeps; a set is some KiB.
const SPARES_MAX: usize = 256;

/// What serving one request needs beside its bytes. Used again and again, so that a request
/// allocates nothing, and given back between requests, so that an idle connection holds none.
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

/// One worker's unused [`Scratch`] sets.
#[derive(Debug, Default)]
#[expect(
    clippy::vec_box,
    reason = "a set moves between the list and connections: a pointer, not 1 KiB"
)]
pub(crate) struct Spares(RefCell<Vec<Box<Scratch>>>);

impl Spares {
    pub(crate) fn take(&self) -> Box<Scratch> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    pub(crate) fn put(&self, scratch: Box<Scratch>) {
        let mut spares = self.0.borrow_mut();
        if spares.len() < SPARES_MAX {
            spares.push(scratch);
        }
    }
}
