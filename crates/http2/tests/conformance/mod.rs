//! What a server must do with what a client sends, one line for each case, by section of RFC 9113.
//!
//! The list knows nothing of the implementation: it builds frames itself, so that it can be run
//! over a socket as well. The server that it is run against answers every complete request with
//! status 200 and the body `hello`, takes header lists of up to 64 KiB, and offers RFC 8441.
#![allow(dead_code, reason = "each user of this file takes some of it")]

mod cases;
mod frames;
pub(crate) mod h2spec;

pub(crate) use cases::cases;
use frames::SETTINGS;
pub(crate) use frames::{DATA, Frame, GOAWAY, HEADERS, PING, RST_STREAM, frame, parse};

/// One thing that a client may do.
#[derive(Debug)]
pub(crate) struct Case {
    /// Of RFC 9113, if no other RFC is named.
    pub(crate) section: &'static str,
    pub(crate) name: &'static str,
    /// All that the client sends, the preface included.
    pub(crate) send: Vec<u8>,
    pub(crate) expect: Expect,
}

/// What the server must do then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Answer the request on this stream in full.
    Response(u32),
    /// Answer with this status.
    Status(u32, u16),
    /// Send so many bytes of the answer's body, and not its end.
    Data(u32, usize),
    /// Reset this stream with one of these codes, and go on.
    StreamError(u32, &'static [u32]),
    /// Take this stream for closed: by its reset, or by the end of the connection.
    Closed(u32),
    /// End the connection with one of these codes.
    ConnectionError(&'static [u32]),
    /// Answer a ping with these bytes.
    Pong([u8; 8]),
    /// Acknowledge so many SETTINGS frames.
    Acknowledged(usize),
    /// Go on as if nothing had happened: a ping that follows is answered.
    Nothing,
}

pub(crate) const PROTOCOL_ERROR: u32 = 0x1;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 0x3;
pub(crate) const STREAM_CLOSED: u32 = 0x5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 0x6;
pub(crate) const REFUSED_STREAM: u32 = 0x7;
pub(crate) const COMPRESSION_ERROR: u32 = 0x9;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 0xb;

/// The last frame that a client sends after [`Case::send`], to see whether the server goes on.
pub(crate) const LAST_PING: [u8; 8] = *b"the last";

/// Holds a server's frames against what is expected; `Err` says what is missing.
pub(crate) fn judge(expect: &Expect, frames: &[Frame]) -> Result<(), String> {
    let goaway = frames.iter().find(|frame| frame.kind == GOAWAY);
    let code = |frame: &Frame, at: usize| {
        frame.payload.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    };
    if let Expect::ConnectionError(codes) = expect {
        let found = goaway.and_then(|frame| code(frame, 4)).ok_or("no GOAWAY")?;
        return match codes.contains(&found) {
            true => Ok(()),
            false => Err(format!("GOAWAY with code {found:#x} instead of {codes:x?}")),
        };
    }
    if let Expect::Closed(stream) = expect {
        let is_reset = |f: &&Frame| f.stream == *stream && f.kind == RST_STREAM;
        let reset = frames.iter().find(is_reset).and_then(|frame| code(frame, 0));
        let found = reset.or_else(|| goaway.and_then(|frame| code(frame, 4)));
        return match found {
            Some(STREAM_CLOSED) => Ok(()),
            _ => Err(format!("code {found:x?}")),
        };
    }
    if let Some(goaway) = goaway {
        let reason = String::from_utf8_lossy(&goaway.payload[8..]).into_owned();
        return Err(format!("GOAWAY with code {:x?}: {reason}", code(goaway, 4)));
    }
    let on = |stream: u32, kind: u8| {
        frames.iter().filter(move |frame| frame.stream == stream && frame.kind == kind)
    };
    let body = |stream: u32| on(stream, DATA).map(|frame| frame.payload.len()).sum::<usize>();
    let ended = |stream: u32| frames.iter().any(|f| f.stream == stream && f.kind < 2 && f.ends());
    match expect {
        Expect::Response(stream) => {
            if on(*stream, HEADERS).count() != 1 {
                return Err(format!("no response: {frames:?}"));
            }
            if on(*stream, RST_STREAM).count() > 0 {
                return Err("the stream was reset".into());
            }
            match (body(*stream), ended(*stream)) {
                (5, true) => Ok(()),
                other => Err(format!("body and end are {other:?}")),
            }
        }
        Expect::Status(stream, status) => {
            // Statuses that are in no static table are written as they are.
            let head = on(*stream, HEADERS).next().ok_or("no response")?;
            let digits = status.to_string();
            let found = head.payload.windows(3).any(|window| window == digits.as_bytes());
            if found { Ok(()) } else { Err(format!("another status: {head:?}")) }
        }
        Expect::Data(stream, length) => match (body(*stream), ended(*stream)) {
            (found, false) if found == *length => Ok(()),
            other => Err(format!("body and end are {other:?}")),
        },
        Expect::StreamError(stream, codes) => {
            let reset = on(*stream, RST_STREAM).next().ok_or("no RST_STREAM")?;
            match code(reset, 0) {
                Some(found) if codes.contains(&found) => Ok(()),
                found => Err(format!("RST_STREAM with code {found:x?} instead of {codes:x?}")),
            }
        }
        Expect::Pong(payload) => {
            let pong =
                frames.iter().any(|f| f.kind == PING && f.flags == 1 && f.payload == payload);
            if pong { Ok(()) } else { Err("no PING with the acknowledgement".into()) }
        }
        Expect::Acknowledged(count) => {
            let found = frames.iter().filter(|f| f.kind == SETTINGS && f.flags == 1).count();
            if found == *count { Ok(()) } else { Err(format!("{found} acknowledgements")) }
        }
        Expect::Nothing => match frames.iter().find(|frame| frame.kind == RST_STREAM) {
            None => Ok(()),
            Some(reset) => Err(format!("{reset:?}")),
        },
        Expect::ConnectionError(_) | Expect::Closed(_) => Ok(()),
    }
}
