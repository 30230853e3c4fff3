//! Both directions of a stream: TCP services and upgraded HTTP connections.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use crate::buffer::Buffer;
use crate::clock::Clock;
use crate::io::Stream;
use crate::pump::{Pump, PumpError};
use crate::tracked::Ticket;

/// How a relay came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelayEnd {
    /// Both sides ended in order.
    Finished,
    /// One side broke.
    DownstreamBroke,
    UpstreamBroke,
    Idle,
    /// The endpoint's or listener's grace is over.
    Closed,
}

/// The bytes that a relay moved.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RelayBytes {
    pub(crate) to_upstream: u64,
    pub(crate) to_downstream: u64,
}

/// Copies both ways until both ends are closed. Each side's end is passed on as a half-close.
/// The buffers may hold what was read before.
pub(crate) async fn relay(
    clock: Clock,
    ticket: &Ticket,
    idle: Duration,
    downstream: (&mut Stream, &mut Buffer),
    upstream: (&mut Stream, &mut Buffer),
) -> (RelayEnd, RelayBytes) {
    let (down, from_down) = downstream;
    let (up, from_up) = upstream;
    let (mut upward, mut downward) = (Pump::stream(), Pump::stream());
    let (mut up_done, mut down_done) = (false, false);
    let mut moved = 0;
    let mut last_move = clock.now();
    ticket.set_deadline(last_move + idle);
    let mut upward_first = false;
    let end = poll_fn(|cx| {
        ticket.attach(cx);
        // In turns, since the one that goes first may use up what a task may do in one go.
        upward_first = !upward_first;
        for turn in [upward_first, !upward_first] {
            let (done, moved, reader, writer) = if turn {
                let moved = (!up_done).then(|| upward.poll(cx, &[], from_down, down, up));
                (&mut up_done, moved, RelayEnd::DownstreamBroke, RelayEnd::UpstreamBroke)
            } else {
                let moved = (!down_done).then(|| downward.poll(cx, &[], from_up, up, down));
                (&mut down_done, moved, RelayEnd::UpstreamBroke, RelayEnd::DownstreamBroke)
            };
            match moved {
                Some(Poll::Ready(Ok(()))) => *done = true,
                Some(Poll::Ready(Err(PumpError::Write))) => return Poll::Ready(writer),
                Some(Poll::Ready(Err(_))) => return Poll::Ready(reader),
                Some(Poll::Pending) | None => {}
            }
        }
        if up_done && down_done {
            return Poll::Ready(RelayEnd::Finished);
        }
        let total = upward.written() + downward.written();
        if ticket.must_close() {
            return Poll::Ready(RelayEnd::Closed);
        }
        if total != moved {
            moved = total;
            last_move = clock.now();
        }
        // The deadline is moved when it comes, not with every byte.
        if ticket.expired() {
            if last_move + idle <= clock.now() {
                return Poll::Ready(RelayEnd::Idle);
            }
            ticket.set_deadline(last_move + idle);
        }
        Poll::Pending
    })
    .await;
    let bytes = RelayBytes { to_upstream: upward.written(), to_downstream: downward.written() };
    if end != RelayEnd::Finished {
        down.reset_on_close();
        up.reset_on_close();
    }
    (end, bytes)
}
