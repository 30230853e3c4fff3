//! What a response's head says of the endpoint, apart from the response: how much of its
//! resources it uses (ORCA), and how long it wants to be left alone (`Retry-After`).

use std::time::Duration;

use model::Utilization;
use wire::http1::{Header, HeaderKind, ResponseHead, parse_http_date};
use wire::orca::{self, LoadReport};

use crate::clock::unix_millis;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    pub(crate) utilization: Option<Utilization>,
    pub(crate) retry_after: Option<Duration>,
}

impl Hints {
    /// Of a head that is not passed on.
    pub(crate) fn of(bytes: &[u8], head: &ResponseHead) -> Self {
        let mut hints = Self::default();
        head.headers.iter().for_each(|header| hints.note(bytes, head, header));
        hints
    }

    /// Looks at one header; nearly all are none of its business.
    pub(crate) fn note(&mut self, bytes: &[u8], head: &ResponseHead, header: &Header) {
        let value = || header.value.of(bytes);
        match header.kind {
            HeaderKind::EndpointLoadMetrics => self.load(orca::decode(value())),
            HeaderKind::EndpointLoadMetricsBin => self.load(orca::decode_binary(value())),
            // With other statuses it says something else: of a redirect, or of the resource.
            HeaderKind::RetryAfter if matches!(head.status, 429 | 503) => {
                let sent = || head.first(HeaderKind::Date).map(|date| date.value.of(bytes));
                self.retry_after = retry_after(value(), sent);
            }
            _ => {}
        }
    }

    /// A report, if there is one: by the head, or by the trailers after it.
    pub(crate) fn load(&mut self, report: Option<LoadReport>) {
        if let Some(LoadReport { cpu, memory, application, .. }) = report {
            self.utilization = Some(Utilization {
                cpu: cpu.map(thousandths),
                memory: memory.map(thousandths),
                // Protobuf tells no zero from what was not said, and what was not said must not
                // stand in place of the CPU's.
                application: application.filter(|value| *value > 0.0).map(thousandths),
            });
        }
    }
}

fn thousandths(share: f64) -> u16 {
    // A cast of a floating-point number saturates.
    (share * 1000.0).round() as u16
}

/// RFC 9110 section 10.2.3: seconds, or the date until when, of which the response's own date is
/// the best measure: the clocks of both ends may differ.
fn retry_after<'a>(value: &[u8], sent: impl FnOnce() -> Option<&'a [u8]>) -> Option<Duration> {
    if !value.is_empty() && value.iter().all(u8::is_ascii_digit) {
        // More digits than fit are a long time all the same.
        let seconds = std::str::from_utf8(value).ok()?.parse().unwrap_or(u64::from(u32::MAX));
        return Some(Duration::from_secs(seconds.min(u64::from(u32::MAX))));
    }
    let until = parse_http_date(value)?;
    let from = sent().and_then(parse_http_date).unwrap_or_else(|| unix_millis() / 1000);
    Some(Duration::from_secs(until.saturating_sub(from)))
}

#[cfg(test)]
mod tests {
    use wire::http1::{HeadLimits, Progress, RequestKind};

    use super::*;

    fn hints(head: &str) -> Hints {
        let limits = HeadLimits { bytes: 4096, count: 16, uri_bytes: 0 };
        let mut parsed = ResponseHead::default();
        let text = format!("HTTP/1.1 {head}\r\n\r\n");
        let progress = parsed.parse(text.as_bytes(), &limits, RequestKind::default());
        assert_eq!(progress, Ok(Progress::Complete), "{text}");
        Hints::of(text.as_bytes(), &parsed)
    }

    #[test]
    fn when_to_come_back() {
        let seconds = |head: &str| hints(head).retry_after.map(|rest| rest.as_secs());
        for (head, expected) in [
            ("503 X\r\nRetry-After: 120", Some(120)),
            ("429 X\r\nretry-after: 0", Some(0)),
            ("429 X\r\nretry-after: 99999999999999999999999", Some(u64::from(u32::MAX))),
            ("200 X\r\nRetry-After: 120", None),
            ("301 X\r\nRetry-After: 120", None),
            ("503 X\r\nRetry-After: soon", None),
            ("503 X\r\nRetry-After: -1", None),
            ("503 X\r\nRetry-After: 1.5", None),
            ("503 X\r\nRetry-After:", None),
            (
                "503 X\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:50:07 GMT",
                Some(30),
            ),
            (
                "503 X\r\nRetry-After: Sun, 06 Nov 1994 08:49:00 GMT\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT",
                Some(0),
            ),
            // Long ago by our clock.
            ("503 X\r\nRetry-After: Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
        ] {
            assert_eq!(seconds(head), expected, "{head}");
        }
    }

    #[test]
    fn how_much_it_has_to_do() {
        let said = |head: &str| hints(head).utilization;
        let cpu = |cpu| Some(Utilization { cpu: Some(cpu), ..Utilization::default() });
        for (head, expected) in [
            ("200 X", None),
            ("200 X\r\nEndpoint-Load-Metrics: TEXT cpu_utilization=0.25", cpu(250)),
            ("500 X\r\nendpoint-load-metrics: JSON {\"cpuUtilization\":1.5}", cpu(1500)),
            ("200 X\r\nendpoint-load-metrics: TEXT cpu_utilization=99999", cpu(u16::MAX)),
            ("200 X\r\nendpoint-load-metrics-bin: CQAAAAAAAOA/", cpu(500)),
            (
                "200 X\r\nendpoint-load-metrics: TEXT cpu_utilization=0.1,application_utilization=0",
                cpu(100),
            ),
            ("200 X\r\nendpoint-load-metrics: nonsense", None),
        ] {
            assert_eq!(said(head), expected, "{head}");
        }
    }
}
