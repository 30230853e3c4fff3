//! What a route answers, before it becomes an HTTP response.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::ControlError;

/// A status and, mostly, JSON. Never cached.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
    extra: Option<(HeaderName, HeaderValue)>,
}

impl Answer {
    /// 200 with this.
    pub fn json(value: &impl Serialize) -> Self {
        Self::json_with(StatusCode::OK, value)
    }

    pub(crate) fn text(content_type: &'static str, text: impl Into<Vec<u8>>) -> Self {
        Self { status: StatusCode::OK, content_type, body: text.into(), extra: None }
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
            extra: value.map(|value| (ALLOW, value)),
            ..Self::error(StatusCode::METHOD_NOT_ALLOWED, message)
        }
    }

    pub(crate) fn unauthorized(message: &str) -> Self {
        Self {
            extra: Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            ..Self::error(StatusCode::UNAUTHORIZED, message)
        }
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The same with another status.
    pub fn json_with(status: StatusCode, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(mut body) => {
                body.push(b'\n'); // for people with curl
                Self { status, content_type: "application/json", body, extra: None }
            }
            // Only a map with keys that are no strings, or a failing `Serialize`, comes here.
            Err(_) => Self {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                content_type: "application/json",
                body: b"{\"error\":\"this answer cannot be written as JSON\"}\n".to_vec(),
                extra: None,
            },
        }
    }

    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some((name, value)) = self.extra {
            headers.insert(name, value);
        }
        response
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
