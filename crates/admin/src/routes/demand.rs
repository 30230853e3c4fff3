use super::Call;
use crate::BoxFuture;
use crate::answer::Answer;

/// At once; or, with `?after=N`, as soon as the number is another one, or when the wait is over.
pub(super) fn show<'a>(call: &'a Call<'a>) -> BoxFuture<'a, Answer> {
    Box::pin(async move {
        let after = match call.query.as_deref().map(|query| query.strip_prefix("after=")) {
            None => None,
            Some(number) => match number.and_then(|number| number.parse().ok()) {
                Some(number) => Some(number),
                None => {
                    let message = "write `/v1/demand`, or `/v1/demand?after=` and a number";
                    return Answer::error(hyper::StatusCode::BAD_REQUEST, message);
                }
            },
        };
        Answer::json(&call.control.demand(after).await)
    })
}
