use serde_json::json;

use super::Call;
use crate::answer::Answer;

pub(super) fn list(call: &Call<'_>) -> Answer {
    Answer::json(&json!({ "certificates": call.control.certificates() }))
}
