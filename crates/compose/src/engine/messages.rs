//! What the engine says while it builds, pulls or pushes: one JSON object after the other.

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use serde_json::Value;

use super::{EngineError, unreachable};

/// Bytes of one object; a build repeats what its steps print.
const OBJECT_BYTES_MAX: usize = 1 << 20;

/// One object, as far as it is understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    /// A layer, while one is pulled or pushed.
    pub id: String,
    /// `Downloading`, `Pull complete`, ...
    pub status: String,
    /// Bytes done, and all; 0: not known.
    pub current: u64,
    pub total: u64,
    /// What a step of a build prints.
    pub stream: String,
    /// Of the image that was built.
    pub image: Option<String>,
    /// It ends here, and has failed.
    pub error: Option<String>,
}

pub struct Messages {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Messages {
    pub fn new(response: Response<Incoming>) -> Self {
        Self { body: response.into_body(), buffer: Vec::new() }
    }

    /// `None`: that was all.
    pub async fn next(&mut self) -> Result<Option<Update>, EngineError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                match serde_json::from_slice(&line) {
                    Ok(value) => return Ok(Some(update(&value))),
                    Err(_) => continue,
                }
            }
            if self.buffer.len() > OBJECT_BYTES_MAX {
                return Err(unreachable("it says too much at once"));
            }
            match self.body.frame().await {
                None => {
                    let line = std::mem::take(&mut self.buffer);
                    return Ok(serde_json::from_slice(&line).ok().map(|value| update(&value)));
                }
                Some(frame) => {
                    if let Ok(data) = frame.map_err(unreachable)?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

fn update(value: &Value) -> Update {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let progress = &value["progressDetail"];
    Update {
        id: text(&value["id"]),
        status: text(&value["status"]),
        current: progress["current"].as_u64().unwrap_or(0),
        total: progress["total"].as_u64().unwrap_or(0),
        stream: text(&value["stream"]),
        image: value["aux"]["ID"].as_str().map(str::to_owned),
        error: value["errorDetail"]["message"].as_str().or(value["error"].as_str()).map(Into::into),
    }
}
