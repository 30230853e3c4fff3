use serde_json::json;

use super::Call;
use crate::answer::Answer;

pub(super) fn show(call: &Call<'_>) -> Answer {
    Answer::json(&json!({ "registry": call.control.registry() }))
}
