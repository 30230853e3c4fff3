//! Frames and field blocks, built and read by hand.

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;
pub(crate) const WITH_PRIORITY: u8 = 0x20;
/// A whole request in one frame.
pub(crate) const WHOLE: u8 = END_STREAM | END_HEADERS;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn ends(&self) -> bool {
        self.flags & END_STREAM != 0
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// The frames that `bytes` hold in full, and how many bytes these are.
pub(crate) fn parse(bytes: &[u8]) -> (Vec<Frame>, usize) {
    let mut frames = Vec::new();
    let mut at = 0;
    while let Some(&[l0, l1, l2, kind, flags, s0, s1, s2, s3]) = bytes[at..].first_chunk::<9>() {
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        let Some(payload) = bytes.get(at + 9..at + 9 + length) else { break };
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        frames.push(Frame { kind, flags, stream, payload: payload.to_vec() });
        at += 9 + length;
    }
    (frames, at)
}

/// A literal field without indexing, with a new name (RFC 7541 section 6.2.2).
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        match text.len() {
            length @ 0..127 => bytes.push(length as u8),
            length => {
                bytes.push(127);
                let mut rest = length - 127;
                while rest >= 128 {
                    bytes.push((rest % 128) as u8 | 0x80);
                    rest /= 128;
                }
                bytes.push(rest as u8);
            }
        }
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// `:method`, `:scheme`, `:path`, `:authority`, then these.
pub(crate) fn request(method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let usual =
        [(":method", method), (":scheme", "http"), (":path", "/"), (":authority", "localhost")];
    [block(&usual), block(more)].concat()
}

pub(crate) fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = values
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(SETTINGS, 0, 0, &payload)
}

pub(crate) fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, &request("GET", &[]))
}

/// A request whose body is still to come.
pub(crate) fn post(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &request("POST", more))
}

pub(crate) fn data(stream: u32, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, 0, stream, bytes)
}

pub(crate) fn last_data(stream: u32, bytes: &[u8]) -> Vec<u8> {
    frame(DATA, END_STREAM, stream, bytes)
}

pub(crate) fn window(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub(crate) fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])
}
