use super::Call;
use crate::answer::Answer;
use crate::metrics::{CONTENT_TYPE, render};

pub(super) fn show(call: &Call<'_>) -> Answer {
    Answer::text(CONTENT_TYPE, render(call.control))
}
