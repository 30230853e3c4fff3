//! Our own answers on a client's connection, and the connection's end.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use model::grpc;
use wire::http1::{Framing, RequestError, Version};

use super::{Downstream, Next};
use crate::http1::record::Record;
use crate::http1::reply::{GrpcStatus, Reply, send};
use crate::http1::turn::Scratch;

/// How long the last bytes of a client that we refused are read and dropped, so that our answer
/// is not lost to a reset (RFC 9112 section 9.6), and how many of them.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Answers a stream whose request is not acceptable: see [`Downstream::beside`].
pub(crate) async fn refuse_stream(
    mut down: Downstream,
    record: Record,
    status: u16,
    error: &'static str,
) {
    poll_fn(|cx| {
        down.ticket.attach(cx);
        Poll::Ready(())
    })
    .await;
    let mut scratch = Scratch { record, ..Scratch::default() };
    let started = down.finished_at;
    let next = down.refuse(&mut scratch, status, error).await;
    down.door.counters().response(scratch.record.status);
    let duration = down.door.worker.clock.now().since(started);
    scratch.record.write(&down.door, down.client.ip(), down.terms(), duration);
    match next {
        Next::Close => down.close().await,
        _ => down.stream.reset_on_close(),
    }
}

impl Downstream {
    /// Our own answer to a well-formed request. The connection is kept if the request's body, if
    /// any, is already here.
    pub(crate) async fn answer(&mut self, scratch: &mut Scratch, reply: &Reply<'_>) -> Next {
        let head = &scratch.request;
        let body = match head.framing {
            Framing::None => Some(0),
            Framing::Length(length) => usize::try_from(length).ok(),
            _ => None,
        };
        let message = body.and_then(|body| head.len.checked_add(body));
        let passed = message.filter(|message| *message <= self.inbound.len());
        let keep = passed.is_some() && head.keep_alive && !self.is_ending();
        let reply = Reply {
            close: !keep,
            head_only: head.is_head,
            keep_alive_http10: head.version == Version::Http10,
            ..*reply
        };
        reply.write(&mut scratch.reply, self.hsts());
        scratch.record.status = reply.sent_status();
        if !self.send(scratch).await {
            return Next::Reset;
        }
        match passed {
            Some(message) if keep => {
                self.inbound.consume(message);
                Next::Request
            }
            _ => Next::Close,
        }
    }

    /// The service could not answer.
    pub(crate) async fn fail(
        &mut self,
        scratch: &mut Scratch,
        status: u16,
        error: &'static str,
    ) -> Next {
        scratch.record.error = Some(error);
        let reply = Reply { grpc: grpc_status(scratch, status, error), ..Reply::status(status) };
        self.answer(scratch, &reply).await
    }

    /// The request is not acceptable: it is answered, and nothing after it is looked at.
    pub(crate) async fn refuse(
        &mut self,
        scratch: &mut Scratch,
        status: u16,
        error: &'static str,
    ) -> Next {
        self.door.counters().malformed.add(1);
        let head_only = self.stream.is_head();
        let grpc = grpc_status(scratch, status, error);
        let reply = Reply { head_only, grpc, ..Reply::status(status) };
        scratch.record.failed(reply.sent_status(), error);
        reply.write(&mut scratch.reply, self.hsts());
        if self.send(scratch).await { Next::Close } else { Next::Reset }
    }

    pub(super) async fn refuse_head(&mut self, scratch: &mut Scratch, e: RequestError) -> Next {
        self.refuse(scratch, e.status(), e.reason()).await
    }

    fn hsts(&self) -> Option<&str> {
        self.secured.as_ref().and_then(|secured| secured.server.hsts())
    }

    async fn send(&mut self, scratch: &mut Scratch) -> bool {
        // A client that does not take a few hundred bytes within the time to linger is gone.
        self.ticket.set_deadline(self.door.worker.clock.now() + LINGER);
        let sent = send(&mut self.stream, &self.ticket, &scratch.reply).await.is_ok();
        if sent {
            self.count_out(&mut scratch.record, scratch.reply.len() as u64);
        }
        sent
    }

    /// Ends our direction, then reads what still comes for a moment: closing with unread bytes
    /// would reset the connection under the answer.
    pub(crate) async fn close(&mut self) {
        self.inbound.clear();
        self.ticket.set_deadline(self.door.worker.clock.now() + LINGER);
        let mut dropped = 0;
        let mut shut = false;
        poll_fn(|cx| {
            if !shut {
                match self.stream.poll_shutdown(cx) {
                    Poll::Ready(Ok(())) => shut = true,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            loop {
                match self.inbound.poll_fill(cx, &mut self.stream, LINGER_BYTES_MAX) {
                    Poll::Ready(Ok(count)) if count > 0 && dropped < LINGER_BYTES_MAX => {
                        dropped += count;
                        self.inbound.consume(count);
                    }
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending if self.ticket.expired() => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
    }
}

/// How a failure of ours is told to a gRPC client; None: it is told as to any other.
pub(super) fn grpc_status(
    scratch: &Scratch,
    status: u16,
    error: &'static str,
) -> Option<GrpcStatus<'static>> {
    let call = scratch.call.as_ref()?;
    let code = call.code.unwrap_or_else(|| grpc::of_http(status));
    Some(GrpcStatus { content_type: call.content_type, code, message: error })
}
