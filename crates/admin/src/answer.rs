//! What a route answers, before it becomes an HTTP response.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::ControlError;

/// A status and, mostly, JSON. Never cached.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: AnswerBody,
    extra: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Answer {
    /// 200 with this.
    pub fn json(value: &impl Serialize) -> Self {
        Self::json_with(StatusCode::OK, value)
    }

    /// 200 with this text.
    pub fn text(content_type: &'static str, text: impl Into<Vec<u8>>) -> Self {
        let body = AnswerBody::whole(text.into());
        Self { status: StatusCode::OK, content_type, body, extra: None }
    }

    /// 200, and what comes until its sender is dropped. A slow reader holds the sender up.
    pub fn stream(content_type: &'static str, parts: mpsc::Receiver<Bytes>) -> Self {
        let body = AnswerBody::Stream(parts);
        Self { status: StatusCode::OK, content_type, body, extra: None }
    }

    /// `{"error": "..."}`
    pub fn error(status: StatusCode, message: impl AsRef<str>) -> Self {
        Self::json_with(status, &serde_json::json!({ "error": message.as_ref() }))
    }

    /// 405: the path knows only these methods.
    pub fn method_not_allowed(allowed: &str) -> Self {
        let message = format!("this path knows only {allowed}");
        let value = HeaderValue::from_str(allowed).ok();
        Self {
            extra: value.map(|value| Box::new((ALLOW, value))),
            ..Self::error(StatusCode::METHOD_NOT_ALLOWED, message)
        }
    }

    /// 401.
    pub fn unauthorized(message: &str) -> Self {
        Self {
            extra: Some(Box::new((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))),
            ..Self::error(StatusCode::UNAUTHORIZED, message)
        }
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The same with another status.
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// With one more header, of which there is room for one.
    pub fn with_header(self, name: HeaderName, value: HeaderValue) -> Self {
        Self { extra: Some(Box::new((name, value))), ..self }
    }

    /// This status, and the value as JSON.
    pub fn json_with(status: StatusCode, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(mut body) => {
                body.push(b'\n'); // for people with curl
                let body = AnswerBody::whole(body);
                Self { status, content_type: "application/json", body, extra: None }
            }
            // Only a map with keys that are no strings, or a failing `Serialize`, comes here.
            Err(_) => Self {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                content_type: "application/json",
                body: AnswerBody::whole(
                    b"{\"error\":\"this answer cannot be written as JSON\"}\n".to_vec(),
                ),
                extra: None,
            },
        }
    }

    pub(crate) fn into_response(self) -> Response<AnswerBody> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(extra) = self.extra {
            let (name, value) = *extra;
            headers.insert(name, value);
        }
        response
    }
}

/// What is sent after the head.
#[derive(Debug)]
pub enum AnswerBody {
    /// As a whole; `None`: it was sent.
    Whole(Option<Bytes>),
    /// By and by.
    Stream(mpsc::Receiver<Bytes>),
}

impl AnswerBody {
    fn whole(bytes: Vec<u8>) -> Self {
        AnswerBody::Whole(Some(bytes.into()).filter(|bytes: &Bytes| !bytes.is_empty()))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            AnswerBody::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            AnswerBody::Stream(parts) => {
                parts.poll_recv(context).map(|bytes| bytes.map(|b| Ok(Frame::data(b))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, AnswerBody::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            AnswerBody::Stream(_) => SizeHint::default(),
        }
    }
}

impl From<ControlError> for Answer {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::NotFound(message) => Self::error(StatusCode::NOT_FOUND, message),
            ControlError::Refused(message) => Self::error(StatusCode::CONFLICT, message),
        }
    }
}
