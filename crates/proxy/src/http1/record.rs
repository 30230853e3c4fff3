use std::time::Duration;

use model::spec::Protocol;
use wire::http1::{HeaderKind, RequestHead};

use crate::access_log::{Entry, HttpEntry};
use crate::arrival::Terms;
use crate::listener::Door;

/// What the access log and the counters are told of a request, gathered while it is served,
/// since its bytes may be gone when it ends.
#[derive(Debug, Default)]
pub(crate) struct Record {
    method: Vec<u8>,
    host: Vec<u8>,
    target: Vec<u8>,
    user_agent: Vec<u8>,
    request_id: Vec<u8>,
    /// Of HTTP, as the client speaks it.
    pub(crate) version: &'static str,
    pub(crate) status: u16,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) attempts: u32,
    pub(crate) hedged: bool,
    /// Waited for endpoints that were full.
    pub(crate) queued: Duration,
    pub(crate) service: Option<model::ServiceName>,
    pub(crate) endpoint: Option<model::EndpointId>,
    pub(crate) error: Option<&'static str>,
}

impl Record {
    /// Answered by ourselves, or not at all (status 0), and why.
    pub(crate) fn failed(&mut self, status: u16, error: &'static str) {
        self.status = status;
        self.error = Some(error);
    }

    /// Nothing is known yet.
    pub(crate) fn clear(&mut self) {
        for text in [
            &mut self.method,
            &mut self.host,
            &mut self.target,
            &mut self.user_agent,
            &mut self.request_id,
        ] {
            text.clear();
        }
        self.version = "";
        self.status = 0;
        self.bytes_in = 0;
        self.bytes_out = 0;
        self.attempts = 0;
        self.hedged = false;
        self.queued = Duration::ZERO;
        self.service = None;
        self.endpoint = None;
        self.error = None;
    }

    /// Copies what the log will need of the head.
    pub(crate) fn note_head(&mut self, bytes: &[u8], head: &RequestHead) {
        self.method.extend_from_slice(head.method.of(bytes));
        self.host.extend_from_slice(head.authority.of(bytes));
        self.target.extend_from_slice(head.target.of(bytes));
        let agent = head.headers.iter().find(|h| {
            h.kind == HeaderKind::Other && h.name.of(bytes).eq_ignore_ascii_case(b"user-agent")
        });
        if let Some(agent) = agent {
            self.user_agent.extend_from_slice(agent.value.of(bytes));
        }
    }

    /// What is known of a request of HTTP/2 that never became one of HTTP/1.1: it is malformed or
    /// too large, and some of its fields may be missing.
    pub(crate) fn of_fields(fields: &http2::Fields) -> Record {
        let mut record = Record { version: "2", ..Record::default() };
        for (name, value) in fields.iter() {
            let text = match name {
                b":method" => &mut record.method,
                b":authority" | b"host" => &mut record.host,
                b":path" => &mut record.target,
                b"user-agent" => &mut record.user_agent,
                _ => continue,
            };
            if text.is_empty() {
                text.extend_from_slice(value);
            }
        }
        record
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == b"HEAD"
    }

    /// Copies the request id out of the head that was written for the endpoint.
    pub(crate) fn note_request_id(&mut self, outbound: &[u8], name: &str) {
        for line in outbound.split(|b| *b == b'\n').skip(1) {
            if line.len() > name.len()
                && line[name.len()] == b':'
                && line[..name.len()].eq_ignore_ascii_case(name.as_bytes())
            {
                self.request_id.extend_from_slice(line[name.len() + 1..].trim_ascii());
                return;
            }
        }
    }

    pub(crate) fn write(
        &self,
        door: &Door,
        client: std::net::IpAddr,
        terms: Option<&Terms>,
        duration: Duration,
    ) {
        door.worker.log.write(&Entry {
            listener: door.listener.name.as_str(),
            protocol: Protocol::Http,
            client,
            http: Some(HttpEntry {
                method: &self.method,
                host: &self.host,
                path: &self.target,
                version: self.version,
                status: self.status,
                request_id: present(&self.request_id),
                user_agent: present(&self.user_agent),
            }),
            tls: terms.map(Terms::entry),
            duration,
            queued: self.queued,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            service: self.service.as_ref().map(|s| s.as_str()),
            endpoint: self.endpoint.as_ref().map(|e| e.as_str()),
            attempts: self.attempts,
            hedged: self.hedged,
            error: self.error,
        });
    }
}

fn present(text: &[u8]) -> Option<&[u8]> {
    (!text.is_empty()).then_some(text)
}
