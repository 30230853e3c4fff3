//! What the end of an attempt says: of the endpoint, to the client, and of another attempt.

use model::spec::RetryCondition;
use model::{Outcome, grpc};

use crate::http1::exchange::Fault;
use crate::upstream::DialError;

/// What a failed connect says of the endpoint.
/// `is_late`: the client would wait no longer, which says nothing about the endpoint.
pub(super) fn dial_outcome(e: &DialError, is_late: bool) -> Outcome {
    match e {
        DialError::TimedOut if is_late => Outcome::Abandoned,
        DialError::Full | DialError::NoResources | DialError::Closed => Outcome::Abandoned,
        DialError::TimedOut
        | DialError::Failed(_)
        | DialError::Handshake
        | DialError::Certificate
        | DialError::NotHttp2 => Outcome::ConnectFailed,
    }
}

pub(super) fn status_outcome(status: u16) -> Outcome {
    if status >= 500 { Outcome::ServerError } else { Outcome::Success }
}

pub(super) fn retry_status(condition: &RetryCondition) -> Option<u16> {
    match condition {
        RetryCondition::Status(status) => Some(*status),
        _ => None,
    }
}

pub(super) fn retry_grpc(condition: &RetryCondition) -> Option<u8> {
    match condition {
        RetryCondition::Grpc(code) => Some(*code),
        _ => None,
    }
}

/// What a fault says of the endpoint, and to the client.
pub(super) fn verdict(fault: &Fault, stale: bool) -> (Outcome, u16, &'static str) {
    match fault {
        Fault::UpstreamClosed if stale => (Outcome::Abandoned, 502, "endpoint closed"),
        Fault::UpstreamClosed => (Outcome::Broken, 502, "endpoint closed"),
        Fault::Garbage(e) => (Outcome::Broken, 502, e.reason()),
        Fault::GarbageBody => (Outcome::Broken, 502, "malformed response"),
        Fault::NoTunnel => (Outcome::Success, 502, "endpoint opened no tunnel"),
        Fault::FirstByteTimeout => (Outcome::TimedOut, 504, "no answer in time"),
        Fault::UpstreamStalled => (Outcome::TimedOut, 504, "endpoint stalled"),
        Fault::TotalTimeout => (Outcome::TimedOut, 504, "total time-out"),
        Fault::Status(status) => (status_outcome(*status), *status, "status"),
        Fault::GrpcStatus(code) => match grpc::is_failure(*code) {
            true => (Outcome::ServerError, 503, "grpc-status"),
            false => (Outcome::Success, 503, "grpc-status"),
        },
        Fault::ClientGone => (Outcome::Abandoned, 0, "client gone"),
        Fault::ClientStalled => (Outcome::Abandoned, 408, "client stalled"),
        Fault::MalformedBody => (Outcome::Abandoned, 400, "malformed body"),
        Fault::BodyTooLarge => (Outcome::Abandoned, 413, "body too large"),
        Fault::Closed => (Outcome::Abandoned, 503, "grace over"),
    }
}
