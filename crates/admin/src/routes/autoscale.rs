use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::Call;
use crate::answer::Answer;

/// Bytes of a name and of a reason: what is kept of strangers' text is small.
const SERVICE_BYTES_MAX: usize = 256;
const REASON_BYTES_MAX: usize = 1024;

pub(super) fn list(call: &Call<'_>) -> Answer {
    Answer::json(&json!({ "autoscale": call.control.scalings() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scaling {
    service: String,
    from: usize,
    to: usize,
    reason: String,
    /// When it was decided, in milliseconds since 1970; absent: now. For one that is told again.
    #[serde(default)]
    unix_ms: Option<u64>,
}

pub(super) fn note(call: &Call<'_>) -> Answer {
    let example = r#"{"service": "web", "from": 1, "to": 3, "reason": "..."}"#;
    let scaling: Scaling = match call.json(example) {
        Ok(scaling) => scaling,
        Err(refusal) => return refusal,
    };
    let Scaling { service, from, to, reason, unix_ms } = scaling;
    for (name, text, max) in
        [("service", &service, SERVICE_BYTES_MAX), ("reason", &reason, REASON_BYTES_MAX)]
    {
        if text.is_empty() || text.len() > max {
            let message = format!("`{name}` must have 1 to {max} bytes, not {}", text.len());
            return Answer::error(StatusCode::BAD_REQUEST, message);
        }
    }
    Answer::json(&call.control.note_scaling(service, from, to, reason, unix_ms))
}
