//! Open Request Cost Aggregation: what an endpoint says of its resources in its responses.
//!
//! The message is `xds.data.orca.v3.OrcaLoadReport`; in HTTP it travels in the field
//! `endpoint-load-metrics` in one of three forms, and in `endpoint-load-metrics-bin`, as gRPC has
//! it (gRFC A51):
//!
//! ```text
//! endpoint-load-metrics: TEXT cpu_utilization=0.3,mem_utilization=0.8
//! endpoint-load-metrics: JSON {"cpu_utilization": 0.3, "mem_utilization": 0.8}
//! endpoint-load-metrics: BIN CTMzMzMzM9M/EZqZmZmZmek/
//! endpoint-load-metrics-bin: CTMzMzMzM9M/EZqZmZmZmek/
//! ```
//!
//! Read are the utilizations, and of the named metrics these two, whose names are ours:
//!
//! * `named_metrics.rif`: requests that the endpoint has in flight, of all its clients;
//! * `named_metrics.latency_ms`: what a request takes there now, in milliseconds.
//!
//! Rates, costs and other named metrics are passed over. A report that is not well-formed says
//! nothing at all. Nothing is allocated.

mod binary;
mod json;
mod text;

/// What is read of a report. Of a utilization 1.0 is all of the resource. What was not said, or was
/// not a number from 0 to infinity, is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Above 1.0 if the endpoint uses more than it was promised.
    pub cpu: Option<f64>,
    /// At most 1.0; more is no memory utilization, and is not taken.
    pub memory: Option<f64>,
    /// As the application defines it; may be above 1.0.
    pub application: Option<f64>,
    /// `named_metrics.rif`: requests in flight, of all clients.
    pub in_flight: Option<f64>,
    /// `named_metrics.latency_ms`: what a request takes now.
    pub latency_ms: Option<f64>,
}

/// Longer reports are not looked at: with hundreds of named metrics they are still shorter.
const REPORT_BYTES_MAX: usize = 16 * 1024;

/// Reads the value of `endpoint-load-metrics`; `None` if it is not well-formed.
pub fn decode(value: &[u8]) -> Option<LoadReport> {
    if value.len() > REPORT_BYTES_MAX {
        return None;
    }
    let (form, report) = value.split_at_checked(value.iter().position(|byte| *byte == b' ')?)?;
    let report = report.trim_ascii();
    match form {
        b"TEXT" => text::decode_text(report),
        b"JSON" => json::decode_json(report),
        b"BIN" => binary::decode_base64(report),
        _ => None,
    }
}

/// Reads the value of `endpoint-load-metrics-bin`; `None` if it is not well-formed.
pub fn decode_binary(value: &[u8]) -> Option<LoadReport> {
    if value.len() > REPORT_BYTES_MAX {
        return None;
    }
    binary::decode_base64(value.trim_ascii())
}

impl LoadReport {
    /// Takes a field of the message by the name that it has there, or in JSON.
    fn set(&mut self, name: &[u8], value: f64) {
        match name {
            b"cpu_utilization" | b"cpuUtilization" => self.cpu = amount(value),
            b"mem_utilization" | b"memUtilization" => {
                self.memory = amount(value).filter(|value| *value <= 1.0);
            }
            b"application_utilization" | b"applicationUtilization" => {
                self.application = amount(value);
            }
            _ => {}
        }
    }

    /// Takes an entry of the message's `named_metrics`.
    fn set_named(&mut self, name: &[u8], value: f64) {
        match name {
            b"rif" => self.in_flight = amount(value),
            b"latency_ms" => self.latency_ms = amount(value),
            _ => {}
        }
    }
}

fn amount(value: f64) -> Option<f64> {
    (value.is_finite() && value >= 0.0).then_some(value)
}

/// A number in decimal notation with an optional exponent, or one of the words for what is none.
fn number(text: &[u8]) -> Option<f64> {
    /// Digits beyond any precision of the type.
    const NUMBER_BYTES_MAX: usize = 64;
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let plain = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    match digits {
        b"NaN" | b"nan" | b"Infinity" | b"inf" => return Some(f64::NAN),
        _ if text.len() > NUMBER_BYTES_MAX => return None,
        [b'0'..=b'9', .., b'0'..=b'9'] | [b'0'..=b'9'] if digits.iter().all(plain) => {}
        _ => return None,
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
