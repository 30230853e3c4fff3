//! `cpu_utilization=0.3,named_metrics.queue=4`, also with `:` in place of `=`.

use super::{LoadReport, number};

/// What [`NAMES`] has may be named once each; the others may have any name.
pub(super) fn decode_text(text: &[u8]) -> Option<LoadReport> {
    let mut report = LoadReport::default();
    let mut seen = [false; NAMES.len()];
    for pair in text.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        if pair.is_empty() {
            continue;
        }
        let at = pair.iter().position(|byte| matches!(byte, b'=' | b':'))?;
        let (name, value) = (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii());
        if name.is_empty() {
            return None;
        }
        let value = number(value)?;
        if let Some(known) = NAMES.iter().position(|known| *known == name) {
            // What is said twice is said by two, and nobody knows which is right.
            if std::mem::replace(&mut seen[known], true) {
                return None;
            }
            match name.strip_prefix(b"named_metrics.") {
                Some(metric) => report.set_named(metric, value),
                None => report.set(name, value),
            }
        }
    }
    Some(report)
}

const NAMES: [&[u8]; 5] = [
    b"cpu_utilization",
    b"mem_utilization",
    b"application_utilization",
    b"named_metrics.rif",
    b"named_metrics.latency_ms",
];
