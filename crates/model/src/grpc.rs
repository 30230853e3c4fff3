//! The status codes of gRPC.
//!
//! Source: <https://grpc.github.io/grpc/core/md_doc_statuscodes.html>.

/// Names and codes, by code: a code is its own index.
const NAMES: [&str; 17] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];

pub const OK: u8 = 0;
pub const CANCELLED: u8 = 1;
pub const UNKNOWN: u8 = 2;
pub const DEADLINE_EXCEEDED: u8 = 4;
pub const PERMISSION_DENIED: u8 = 7;
pub const RESOURCE_EXHAUSTED: u8 = 8;
pub const ABORTED: u8 = 10;
pub const UNIMPLEMENTED: u8 = 12;
pub const INTERNAL: u8 = 13;
pub const UNAVAILABLE: u8 = 14;
pub const DATA_LOSS: u8 = 15;
pub const UNAUTHENTICATED: u8 = 16;

/// `unavailable` for 14; None: there is no such code.
pub fn name(code: u8) -> Option<&'static str> {
    NAMES.get(usize::from(code)).copied()
}

/// The value of `grpc-status`: one or two digits. Codes that nobody has defined are kept; None: it
/// is none.
pub fn parse(value: &[u8]) -> Option<u8> {
    match value {
        [unit @ b'0'..=b'9'] => Some(unit - b'0'),
        [ten @ b'1'..=b'9', unit @ b'0'..=b'9'] => Some((ten - b'0') * 10 + unit - b'0'),
        _ => None,
    }
}

/// Does the status speak against the endpoint? The same ones that are mapped to HTTP statuses of
/// 500 and above elsewhere, but for UNIMPLEMENTED, by which a healthy endpoint answers a client that
/// asks for what is not there. Codes that nobody has defined count as UNKNOWN.
pub fn is_failure(code: u8) -> bool {
    match code {
        UNKNOWN | DEADLINE_EXCEEDED | INTERNAL | UNAVAILABLE | DATA_LOSS => true,
        code => usize::from(code) >= NAMES.len(),
    }
}

/// The status for a response that we give ourselves in place of an endpoint, by its HTTP status
/// (`http-grpc-status-mapping.md`, with 413, 429 and 431 as what they mean here).
pub fn of_http(status: u16) -> u8 {
    match status {
        400 | 405 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        408 => CANCELLED,
        413 | 429 | 431 => RESOURCE_EXHAUSTED,
        502..=504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_at_their_codes() {
        for (code, expected) in [
            (OK, "ok"),
            (DEADLINE_EXCEEDED, "deadline_exceeded"),
            (RESOURCE_EXHAUSTED, "resource_exhausted"),
            (ABORTED, "aborted"),
            (UNIMPLEMENTED, "unimplemented"),
            (INTERNAL, "internal"),
            (UNAVAILABLE, "unavailable"),
            (UNAUTHENTICATED, "unauthenticated"),
        ] {
            assert_eq!(name(code), Some(expected));
        }
        assert_eq!(name(17), None);
    }

    #[test]
    fn values() {
        for (value, expected) in [
            ("0", Some(0)),
            ("14", Some(14)),
            ("99", Some(99)),
            ("", None),
            ("014", None),
            ("100", None),
            ("x", None),
            ("-1", None),
        ] {
            assert_eq!(parse(value.as_bytes()), expected, "{value}");
        }
        assert!(is_failure(UNAVAILABLE) && is_failure(99));
        assert!(!is_failure(OK) && !is_failure(CANCELLED) && !is_failure(UNIMPLEMENTED));
        assert_eq!((of_http(504), of_http(503), of_http(418)), (14, 14, 2));
    }
}
