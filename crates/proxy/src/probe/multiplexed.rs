//! One request of a health check over HTTP/2, on a connection of its own.

use std::time::Duration;

use http2::{Config, Connection as Machine, Event, FieldWriter, StreamKey};
use model::grpc;
use wire::grpc_health::{self, ServingStatus};

use super::check::{CheckError, Connection};

/// Bytes of an answer's body that are kept: a health message has two.
const BODY_BYTES_MAX: usize = 4096;
/// An answer is read to its end, so that the endpoint is not cut off while it writes, but no
/// further than this.
const READ_BYTES_MAX: usize = 256 * 1024;

/// What a check may cost.
const CONFIG: Config = Config {
    streams_max: 1,
    stream_window: Config::WINDOW_MIN,
    connection_window: Config::WINDOW_MIN,
    field_bytes_max: 16 * 1024,
    field_count_max: 200,
    output_bytes: 64 * 1024,
    extended_connect: false,
    resets_max: 10,
    idle_frames_max: 100,
    continuations_max: 8,
    window_updates_max: 100,
};

/// A health check's request.
pub(super) struct Question<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) authority: &'a str,
    pub(super) headers: &'a [(String, String)],
}

/// What came of the answer.
#[derive(Debug, Default)]
struct Answer {
    status: u16,
    grpc_status: Option<u8>,
    grpc_message: String,
    body: Vec<u8>,
}

/// Asks, and answers the status.
pub(super) async fn ask(
    stream: &mut Connection,
    question: &Question<'_>,
) -> Result<u16, CheckError> {
    let scheme = stream.scheme();
    let answer = run(stream, &[], |fields| {
        write(fields, scheme, question);
        let has_agent = |(name, _): &(String, String)| name.eq_ignore_ascii_case("user-agent");
        if !question.headers.iter().any(has_agent) {
            fields.field(b"user-agent", b"evenkeel-health");
        }
        // RFC 9110 section 8.6: where the method anticipates content, its absence is to be said.
        if matches!(question.method, "POST" | "PUT" | "PATCH") {
            fields.field(b"content-length", b"0");
        }
        for (name, value) in question.headers {
            fields.field(name.as_bytes(), value.as_bytes());
        }
    })
    .await?;
    Ok(answer.status)
}

/// Asks whether the gRPC service serves.
pub(super) async fn ask_grpc(
    stream: &mut Connection,
    authority: &str,
    service: &str,
    timeout: Duration,
) -> Result<(), CheckError> {
    let scheme = stream.scheme();
    let path = grpc_health::CHECK_PATH;
    let question = Question { method: "POST", path, authority, headers: &[] };
    let message = grpc_health::encode_request(service);
    let answer = run(stream, &message, |fields| {
        write(fields, scheme, &question);
        fields.field(b"content-type", b"application/grpc");
        fields.field(b"te", b"trailers");
        fields.field(b"user-agent", b"evenkeel-health");
        fields.field(b"grpc-timeout", format!("{}m", timeout.as_millis().max(1)).as_bytes());
    })
    .await?;
    if answer.status != 200 {
        return Err(CheckError::Status { status: answer.status, expected: "200".into() });
    }
    match answer.grpc_status {
        None => Err(CheckError::NotGrpc("no grpc-status".into())),
        Some(grpc::OK) => match grpc_health::decode(&answer.body) {
            Some(ServingStatus::Serving) => Ok(()),
            Some(status) => Err(CheckError::NotServing(status.name())),
            None => Err(CheckError::NotGrpc("malformed message".into())),
        },
        Some(code) => {
            let name = grpc::name(code).unwrap_or("unknown").to_ascii_uppercase();
            let message = &answer.grpc_message;
            let colon = if message.is_empty() { "" } else { ": " };
            Err(CheckError::NotGrpc(format!("status {name}{colon}{message}")))
        }
    }
}

fn write(fields: &mut FieldWriter<'_>, scheme: &str, question: &Question<'_>) {
    fields.method(question.method.as_bytes());
    fields.scheme(scheme.as_bytes());
    fields.authority(question.authority.as_bytes());
    fields.path(question.path.as_bytes());
}

/// Sends the request and reads the answer to its end, within bounds.
async fn run(
    stream: &mut Connection,
    body: &[u8],
    mut write: impl FnMut(&mut FieldWriter<'_>),
) -> Result<Answer, CheckError> {
    let mut machine = Machine::client(CONFIG);
    let mut inbound = Vec::new();
    let mut total = 0;
    let mut asked: Option<StreamKey> = None;
    let mut answer = Answer::default();
    loop {
        // Only now: what an endpoint allows is not known before.
        if asked.is_none() && machine.has_settings() {
            asked = machine.request(body.is_empty(), false, false, &mut write);
            match asked {
                Some(key) => machine.send_data(key, body, true),
                None => return Err(CheckError::NotHttp("it takes no request")),
            };
        }
        if machine.has_output() {
            let output = machine.output().to_vec();
            stream.send(&output).await.map_err(CheckError::Io)?;
            machine.advance(output.len());
        }
        match stream.read(&mut inbound).await.map_err(CheckError::Io)? {
            0 => return Err(CheckError::Ended),
            count => total += count,
        }
        loop {
            let received = machine.receive(&inbound);
            let received = received.map_err(|_| CheckError::NotHttp("no HTTP/2"))?;
            let is_last = match received.event {
                None => {
                    inbound.drain(..received.consumed);
                    break;
                }
                Some(event) => answer.take(event, &mut machine, &inbound)?,
            };
            inbound.drain(..received.consumed);
            if is_last {
                return Ok(answer);
            }
        }
        if total > READ_BYTES_MAX {
            return Ok(answer);
        }
    }
}

impl Answer {
    /// Answers whether it is complete.
    fn take(
        &mut self,
        event: Event,
        machine: &mut Machine,
        inbound: &[u8],
    ) -> Result<bool, CheckError> {
        match event {
            Event::Response { head, .. } if head.is_informational() => Ok(false),
            Event::Response { head, end, .. } => {
                self.status = head.status;
                self.note(machine);
                Ok(end)
            }
            Event::Data { stream, range, end } => {
                let room = BODY_BYTES_MAX - self.body.len();
                machine.consume(stream, range.len());
                self.body
                    .extend_from_slice(&inbound[range.start..range.end.min(range.start + room)]);
                Ok(end)
            }
            Event::Trailers { .. } => {
                self.note(machine);
                Ok(true)
            }
            Event::Reset { .. } if self.status != 0 => Ok(true),
            Event::Reset { .. } => Err(CheckError::NotHttp("it reset the request")),
            Event::GoAway { .. } => Ok(false),
            Event::Request { .. } | Event::Refused { .. } | Event::Pong | Event::Settings => {
                Ok(false)
            }
        }
    }

    fn note(&mut self, machine: &Machine) {
        for (name, value) in machine.fields().iter() {
            match name {
                b"grpc-status" => self.grpc_status = grpc::parse(value),
                b"grpc-message" => self.grpc_message = String::from_utf8_lossy(value).into_owned(),
                _ => {}
            }
        }
    }
}
