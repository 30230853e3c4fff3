use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

use model::spec::Protocol;

use super::json;

/// What is told of one request, stream or flow, at its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) listener: &'a str,
    pub(crate) protocol: Protocol,
    pub(crate) client: IpAddr,
    pub(crate) http: Option<HttpEntry<'a>>,
    /// What was agreed on with the client; `None`: it spoke in clear.
    pub(crate) tls: Option<TlsEntry<'a>>,
    pub(crate) duration: Duration,
    /// Of that, waited for endpoints that were full; told if it is not zero.
    pub(crate) queued: Duration,
    /// From the client.
    pub(crate) bytes_in: u64,
    /// To the client.
    pub(crate) bytes_out: u64,
    pub(crate) service: Option<&'a str>,
    /// The one that answered, or was tried last.
    pub(crate) endpoint: Option<&'a str>,
    /// Endpoints tried; 0: none was needed, or there was none.
    pub(crate) attempts: u32,
    /// A second endpoint was asked while the first was at it; `endpoint` is whose answer was taken.
    pub(crate) hedged: bool,
    /// Why it did not end as it should have, in a few words.
    pub(crate) error: Option<&'a str>,
}

/// What only TLS has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TlsEntry<'a> {
    /// `TLSv1.3`; empty: it passed through unread.
    pub(crate) version: &'a str,
    /// Its name in the registry of IANA.
    pub(crate) cipher: &'a str,
    /// Whom the client asked for; empty: nobody.
    pub(crate) server_name: &'a str,
}

impl TlsEntry<'_> {
    fn append_to(&self, out: &mut Vec<u8>) {
        for (name, value) in [
            ("tls_version", self.version),
            ("tls_cipher", self.cipher),
            ("server_name", self.server_name),
        ] {
            if !value.is_empty() {
                text(out, name, value.as_bytes());
            }
        }
    }
}

/// What only HTTP has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HttpEntry<'a> {
    pub(crate) method: &'a [u8],
    pub(crate) host: &'a [u8],
    /// The request target, query and all.
    pub(crate) path: &'a [u8],
    /// `1.0`, `1.1` or `2`.
    pub(crate) version: &'a str,
    /// 0: ended by a reset.
    pub(crate) status: u16,
    pub(crate) request_id: Option<&'a [u8]>,
    pub(crate) user_agent: Option<&'a [u8]>,
}

/// Bytes kept of a request target: the default bound of one.
const PATH_MAX: usize = 8 * 1024;
/// Bytes kept of any other text.
const TEXT_MAX: usize = 1024;

impl Entry<'_> {
    /// Appends the entry as a JSON object and a line feed.
    pub(super) fn append_to(&self, time: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        out.extend_from_slice(time.as_bytes());
        out.push(b'"');
        text(out, "listener", self.listener.as_bytes());
        text(out, "protocol", self.protocol.name().as_bytes());
        out.extend_from_slice(b",\"client\":\"");
        // Writing to a vector does not fail.
        let _ = write!(out, "{}\"", self.client);
        if let Some(http) = &self.http {
            http.append_to(out);
        }
        if let Some(tls) = &self.tls {
            tls.append_to(out);
        }
        number(out, "duration_us", u64::try_from(self.duration.as_micros()).unwrap_or(u64::MAX));
        if !self.queued.is_zero() {
            number(out, "queue_ms", u64::try_from(self.queued.as_millis()).unwrap_or(u64::MAX));
        }
        number(out, "bytes_in", self.bytes_in);
        number(out, "bytes_out", self.bytes_out);
        optional(out, "service", self.service.map(str::as_bytes));
        optional(out, "endpoint", self.endpoint.map(str::as_bytes));
        number(out, "attempts", u64::from(self.attempts));
        if self.hedged {
            key(out, "hedged");
            out.extend_from_slice(b"true");
        }
        optional(out, "error", self.error.map(str::as_bytes));
        out.extend_from_slice(b"}\n");
    }
}

impl HttpEntry<'_> {
    fn append_to(&self, out: &mut Vec<u8>) {
        text(out, "method", self.method);
        text(out, "host", self.host);
        key(out, "path");
        json::text(out, self.path, PATH_MAX);
        text(out, "version", self.version.as_bytes());
        number(out, "status", u64::from(self.status));
        optional(out, "request_id", self.request_id);
        optional(out, "user_agent", self.user_agent);
    }
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn text(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    key(out, name);
    json::text(out, value, TEXT_MAX);
}

fn optional(out: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    if let Some(value) = value {
        text(out, name, value);
    }
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    key(out, name);
    let _ = write!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parsed(entry: &Entry<'_>) -> Value {
        let mut out = Vec::new();
        entry.append_to("2024-02-29T23:59:59.250Z", &mut out);
        assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 1);
        assert_eq!(out.last(), Some(&b'\n'));
        serde_json::from_slice(&out).unwrap()
    }

    fn entry<'a>() -> Entry<'a> {
        Entry {
            listener: "web",
            protocol: Protocol::Tcp,
            client: "192.0.2.7".parse().unwrap(),
            http: None,
            tls: None,
            duration: Duration::from_micros(1250),
            queued: Duration::ZERO,
            bytes_in: 10,
            bytes_out: u64::MAX,
            service: None,
            endpoint: None,
            attempts: 0,
            hedged: false,
            error: None,
        }
    }

    #[test]
    fn a_stream_has_no_http_fields() {
        let expected = json!({
            "time": "2024-02-29T23:59:59.250Z", "listener": "web", "protocol": "tcp",
            "client": "192.0.2.7", "duration_us": 1250, "bytes_in": 10, "bytes_out": u64::MAX,
            "attempts": 0,
        });
        assert_eq!(parsed(&entry()), expected);
    }

    #[test]
    fn hostile_fields_stay_in_their_strings() {
        let hostile: &[u8] = b"\",\"status\":200}\n{\"\\\x00\xff\x1b";
        let text = String::from_utf8_lossy(hostile);
        let long = vec![b'"'; 100_000];
        let http = HttpEntry {
            method: hostile,
            host: hostile,
            path: &long,
            version: "1.1",
            status: 503,
            request_id: Some(hostile),
            user_agent: Some(hostile),
        };
        let value = parsed(&Entry {
            protocol: Protocol::Http,
            client: "2001:db8::1".parse().unwrap(),
            http: Some(http),
            tls: Some(TlsEntry { version: "TLSv1.3", cipher: "", server_name: "a\"b" }),
            queued: Duration::from_micros(2999),
            service: Some("app"),
            endpoint: Some("app-1"),
            error: Some("no endpoint"),
            ..entry()
        });
        for field in ["method", "host", "request_id", "user_agent"] {
            assert_eq!(value[field], json!(text), "{field}");
        }
        assert_eq!((&value["status"], &value["queue_ms"]), (&json!(503), &json!(2)));
        assert_eq!(value["client"], "2001:db8::1");
        assert_eq!(
            (&value["tls_version"], &value["server_name"]),
            (&json!("TLSv1.3"), &json!("a\"b"))
        );
        assert_eq!(value.get("tls_cipher"), None, "it is not known");
        let path = value["path"].as_str().unwrap();
        assert!(path.len() < PATH_MAX + 8 && path.ends_with('\u{2026}'));
    }
}
