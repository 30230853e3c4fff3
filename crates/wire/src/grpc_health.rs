//! The messages of the health protocol of gRPC (`grpc.health.v1`), in gRPC's framing.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>.

use crate::protobuf::{Fields, Value};

/// The path of the call.
pub const CHECK_PATH: &str = "/grpc.health.v1.Health/Check";
/// gRPC puts a byte that tells of compression, and the length in four, before each message.
const PREFIX_BYTES: usize = 5;
/// Field 1 of the request, a string, as it is framed.
const SERVICE_TAG: u8 = 0x0a;
/// Field 1 of the response.
const STATUS: u64 = 1;

/// `HealthCheckResponse.ServingStatus`. Numbers beyond these are `Unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServingStatus {
    Unknown,
    Serving,
    NotServing,
    ServiceUnknown,
}

impl ServingStatus {
    /// As the protocol names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
            Self::ServiceUnknown => "SERVICE_UNKNOWN",
        }
    }
}

/// A `HealthCheckRequest`, ready to be sent. `service`: empty for the server as a whole.
pub fn encode_request(service: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(service.len() + 4);
    if !service.is_empty() {
        message.push(SERVICE_TAG);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    // Configuration bounds names far below 2^32.
    let length = (message.len() as u32).to_be_bytes();
    [&[0][..], &length, &message].concat()
}

/// Reads a `HealthCheckResponse`, the only message of a body; None: it is not well-formed, or
/// compressed, which was not offered.
pub fn decode(body: &[u8]) -> Option<ServingStatus> {
    let (prefix, message) = body.split_first_chunk::<PREFIX_BYTES>()?;
    let [0, length @ ..] = *prefix else { return None };
    if message.len() != u32::from_be_bytes(length) as usize {
        return None;
    }
    let mut status = 0;
    for field in Fields::of(message) {
        match field.ok()? {
            (STATUS, Value::Varint(value)) => status = value,
            (STATUS, _) => return None,
            _ => {}
        }
    }
    Some(match status {
        1 => ServingStatus::Serving,
        2 => ServingStatus::NotServing,
        3 => ServingStatus::ServiceUnknown,
        _ => ServingStatus::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        assert_eq!(encode_request(""), b"\0\0\0\0\0");
        assert_eq!(encode_request("a.B"), b"\0\0\0\0\x05\x0a\x03a.B");
        let long = encode_request(&"x".repeat(300));
        assert!(long.starts_with(b"\0\0\0\x01\x2f\x0a\xac\x02x"), "{}", long.escape_ascii());
    }

    #[test]
    fn responses() {
        use ServingStatus::{NotServing, ServiceUnknown, Serving, Unknown};
        for (body, expected) in [
            (&b"\0\0\0\0\x02\x08\x01"[..], Some(Serving)),
            (b"\0\0\0\0\x02\x08\x02", Some(NotServing)),
            (b"\0\0\0\0\x02\x08\x03", Some(ServiceUnknown)),
            (b"\0\0\0\0\x02\x08\x09", Some(Unknown)),
            // What is zero is left out.
            (b"\0\0\0\0\0", Some(Unknown)),
            // Fields that are not known.
            (b"\0\0\0\0\x06\x12\x02ab\x08\x01", Some(Serving)),
            (b"\0\0\0\0\x0b\x19abcdefgh\x08\x01", Some(Serving)),
            (b"\x01\0\0\0\x02\x08\x01", None),
            (b"\0\0\0\0\x03\x08\x01", None),
            (b"\0\0\0\0\x01\x08", None),
            (b"\0\0\0\0\x02\x00\x01", None),
            (b"\0\0\0\0", None),
            (b"", None),
        ] {
            assert_eq!(decode(body), expected, "{}", body.escape_ascii());
        }
    }
}
