use hyper::StatusCode;
use serde_json::json;

use super::Call;
use crate::BoxFuture;
use crate::answer::Answer;

pub(super) fn show(call: &Call<'_>) -> Answer {
    Answer::text("application/yaml", call.control.config())
}

pub(super) fn apply<'a>(call: &'a Call<'a>) -> BoxFuture<'a, Answer> {
    Box::pin(async move {
        let text = match str::from_utf8(&call.body) {
            Ok("") => {
                return Answer::error(
                    StatusCode::BAD_REQUEST,
                    "the body is empty: send the whole configuration as YAML",
                );
            }
            Ok(text) => text.to_owned(),
            Err(error) => {
                return Answer::error(
                    StatusCode::BAD_REQUEST,
                    format!("the configuration is no UTF-8: {error}"),
                );
            }
        };
        match call.control.apply(text).await {
            Ok(summary) => Answer::json(&json!({ "summary": summary })),
            Err(message) => Answer::error(StatusCode::BAD_REQUEST, message),
        }
    })
}
