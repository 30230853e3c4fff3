//! HTTP/2, from clients and to endpoints: streams that are used as connections of HTTP/1.1 are.
//!
//! `connection` carries one client's connection: frames in, frames out, all that is for one client
//! in one turn of the loop in one write. Each request becomes the two ends of a `stream`: what the
//! client sends is read from it as an HTTP/1.1 message, and the HTTP/1.1 response that is written
//! to it becomes frames (`response`). So there is one path for requests of all versions: routing,
//! retries, sessions, limits and the pump know nothing of HTTP/2.
//!
//! Towards endpoints it is the other way about: `carrier` carries a worker's requests to one
//! endpoint, `asking` is what each of them writes to and reads from as if it had a connection of its
//! own, and `request` makes frames of what is written. `body` is common to both directions;
//! `grpc_web` translates what browsers speak.

mod asking;
mod body;
mod carrier;
mod connection;
#[cfg(test)]
mod contract;
mod grpc_web;
mod request;
mod response;
mod stream;
mod websocket_key;

pub(crate) use asking::Asking;
pub(crate) use carrier::Carrier;
pub(crate) use connection::serve;
pub(crate) use request::names_trailers;
pub(crate) use stream::StreamEnd;

/// Do these bytes begin an HTTP/2 connection with prior knowledge (RFC 9113 section 3.3)? None:
/// there are too few of them to say.
pub(crate) fn is_preface(bytes: &[u8]) -> Option<bool> {
    // No method of HTTP/1.1 begins like this: "PRI" is reserved for it (section 11.6 of RFC 7540).
    const START: &[u8] = b"PRI * HTTP/2.0\r\n";
    let length = bytes.len().min(START.len());
    match bytes[..length] == START[..length] {
        false => Some(false),
        true if length == START.len() => Some(true),
        true => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        for (bytes, expected) in [
            (&b""[..], None),
            (b"P", None),
            (b"PRI * HTTP/2.0\r", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM", Some(true)),
            (b"PO", Some(false)),
            (b"PRI * HTTP/1.1\r\n", Some(false)),
            (b"GET / HTTP/1.1\r\n\r\n", Some(false)),
        ] {
            assert_eq!(is_preface(bytes), expected, "{}", bytes.escape_ascii());
        }
    }
}
