use hyper::StatusCode;

use super::Call;
use crate::answer::Answer;

/// The process is alive and its control side answers.
pub(super) fn healthz(_: &Call<'_>) -> Answer {
    Answer::text("text/plain; charset=utf-8", "ok\n")
}

/// Traffic may come.
pub(super) fn readyz(call: &Call<'_>) -> Answer {
    match call.control.ready() {
        Ok(()) => Answer::text("text/plain; charset=utf-8", "ready\n"),
        Err(reason) => Answer::text("text/plain; charset=utf-8", format!("not ready: {reason}\n"))
            .with_status(StatusCode::SERVICE_UNAVAILABLE),
    }
}
