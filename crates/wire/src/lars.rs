//! The frames of Lars (github.com/aceld/Lars), by which callers ask an agent on their machine for
//! a host and report how it went, and agents fetch routes and tell what they count.
//!
//! A frame is the same in datagrams and in streams: the message's number and the length of its
//! body, both `int32` in little-endian order, then the body, a proto3 message. What a body has
//! beyond the fields known here is skipped, as protobuf asks of every reader; of a field that
//! comes twice, the last one counts.
//!
//! A host is an IPv4 address as a number in host order (192.168.1.177 is 3232235953) in an `int32`:
//! from 128.0.0.0 on it is negative, and takes ten bytes.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::protobuf::{Fields, Malformed, Value, put_int32, put_message, put_uint64};

/// Of a frame, before its body.
pub const HEADER_BYTES: usize = 8;

/// Of a frame's body: what Lars takes, 65,535 less the header.
pub const BODY_BYTES_MAX: usize = 65_527;

/// What Lars calls a service: the number of a module and that of one of its commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub modid: i32,
    pub cmdid: i32,
}

impl Key {
    /// Which of an agent's three ports (8888, 8889, 8890) it belongs to: 0 to 2. The original has
    /// no place for a negative sum.
    pub fn server(self) -> usize {
        (i64::from(self.modid) + i64::from(self.cmdid)).rem_euclid(3) as usize
    }
}

/// As it is sent, which need not be an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host {
    pub ip: i32,
    pub port: i32,
}

impl Host {
    /// `None`: no port has this number.
    pub fn address(self) -> Option<SocketAddrV4> {
        let port = u16::try_from(self.port).ok()?;
        Some(SocketAddrV4::new(Ipv4Addr::from_bits(self.ip as u32), port))
    }
}

impl From<SocketAddrV4> for Host {
    fn from(address: SocketAddrV4) -> Self {
        Self { ip: address.ip().to_bits() as i32, port: i32::from(address.port()) }
    }
}

/// What an agent counted of one host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallResult {
    pub host: Host,
    pub succ: u32,
    pub err: u32,
    pub overload: bool,
}

/// `retcode` of an answer.
pub const SUCC: i32 = 0;
pub const OVERLOAD: i32 = 1;
pub const SYSTEM_ERROR: i32 = 2;
pub const NOEXIST: i32 = 3;

/// One message, by the number that its frame has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// 1, agent to route service: tell the hosts of this key, now and whenever they change.
    GetRouteRequest(Key),
    /// 2, route service to agent; no host: there is no such key.
    GetRouteResponse(Key, Vec<Host>),
    /// 3, agent to reporter. `ts`: seconds since 1970.
    ReportStatusRequest { key: Key, caller: i32, results: Vec<CallResult>, ts: u32 },
    /// 4, caller to agent.
    GetHostRequest { seq: u32, key: Key },
    /// 5, agent to caller; a host only with [`SUCC`].
    GetHostResponse { seq: u32, key: Key, retcode: i32, host: Option<Host> },
    /// 6, caller to agent, without an answer; 0: it went well.
    ReportRequest { key: Key, host: Host, retcode: i32 },
    /// 7, caller to agent: all hosts of this key.
    ApiGetRouteRequest(Key),
    /// 8, agent to caller; no host: none is known yet.
    ApiGetRouteResponse(Key, Vec<Host>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// The first `len` bytes are a frame.
    Complete { message: Message, len: usize },
    /// More bytes are needed; never as many as a header and [`BODY_BYTES_MAX`].
    Partial,
}

/// Why bytes are no frame. What follows in a stream cannot be read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// Negative, or above [`BODY_BYTES_MAX`].
    Length,
    /// No message has this number.
    UnknownMessage,
    /// The body is no protobuf message.
    Body,
}

impl FrameError {
    pub fn reason(self) -> &'static str {
        match self {
            FrameError::Length => "the length is out of bounds",
            FrameError::UnknownMessage => "no message has this number",
            FrameError::Body => "the body is no protobuf message",
        }
    }
}

/// The frame that `bytes` begin with. A header that cannot begin a frame is refused before its
/// body came. In a datagram the frame must be all that there is, which is the caller's to check.
pub fn decode(bytes: &[u8]) -> Result<Decoded, FrameError> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(Decoded::Partial);
    };
    let [a, b, c, d, length @ ..] = *header;
    let number = i32::from_le_bytes([a, b, c, d]);
    let length = usize::try_from(i32::from_le_bytes(length)).map_err(|_| FrameError::Length)?;
    if length > BODY_BYTES_MAX {
        return Err(FrameError::Length);
    }
    if !(1..=8).contains(&number) {
        return Err(FrameError::UnknownMessage);
    }
    let Some(body) = rest.get(..length) else { return Ok(Decoded::Partial) };
    let message = Body::read(number, body).map_err(|Malformed| FrameError::Body)?.into_message();
    Ok(Decoded::Complete { message, len: HEADER_BYTES + length })
}

/// Whatever the messages have, each at its place in the message of this number.
#[derive(Default)]
struct Body {
    number: i32,
    key: Key,
    seq: u32,
    retcode: i32,
    caller: i32,
    ts: u32,
    host: Option<Host>,
    hosts: Vec<Host>,
    results: Vec<CallResult>,
}

impl Body {
    fn read(number: i32, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut body = Self { number, ..Self::default() };
        for field in Fields::of(bytes) {
            body.take(field?)?;
        }
        Ok(body)
    }

    /// A known field of another type is one that is not known.
    fn take(&mut self, field: (u64, Value<'_>)) -> Result<(), Malformed> {
        // In those with a sequence number all fields are one further on.
        let shift = u64::from(matches!(self.number, 4 | 5));
        match (self.number, field) {
            (4 | 5, (1, Value::Varint(value))) => self.seq = value as u32,
            (_, (at, Value::Varint(value))) if at == 1 + shift => self.key.modid = value as i32,
            (_, (at, Value::Varint(value))) if at == 2 + shift => self.key.cmdid = value as i32,
            (2 | 8, (3, Value::Bytes(bytes))) => self.hosts.push(host(Host::default(), bytes)?),
            (3, (3, Value::Varint(value))) => self.caller = value as i32,
            (3, (4, Value::Bytes(bytes))) => self.results.push(result(bytes)?),
            (3, (5, Value::Varint(value))) => self.ts = value as u32,
            (5, (4, Value::Varint(value))) => self.retcode = value as i32,
            (5, (5, Value::Bytes(bytes))) | (6, (3, Value::Bytes(bytes))) => {
                // Of a message that comes twice, protobuf merges the parts.
                self.host = Some(host(self.host.unwrap_or_default(), bytes)?);
            }
            (6, (4, Value::Varint(value))) => self.retcode = value as i32,
            _ => {}
        }
        Ok(())
    }

    fn into_message(self) -> Message {
        let Self { number, key, seq, retcode, caller, ts, host, hosts, results } = self;
        match number {
            1 => Message::GetRouteRequest(key),
            2 => Message::GetRouteResponse(key, hosts),
            3 => Message::ReportStatusRequest { key, caller, results, ts },
            4 => Message::GetHostRequest { seq, key },
            5 => Message::GetHostResponse { seq, key, retcode, host },
            6 => Message::ReportRequest { key, host: host.unwrap_or_default(), retcode },
            7 => Message::ApiGetRouteRequest(key),
            _ => Message::ApiGetRouteResponse(key, hosts),
        }
    }
}

fn host(mut host: Host, bytes: &[u8]) -> Result<Host, Malformed> {
    for field in Fields::of(bytes) {
        match field? {
            (1, Value::Varint(value)) => host.ip = value as i32,
            (2, Value::Varint(value)) => host.port = value as i32,
            _ => {}
        }
    }
    Ok(host)
}

fn result(bytes: &[u8]) -> Result<CallResult, Malformed> {
    let mut result = CallResult::default();
    for field in Fields::of(bytes) {
        match field? {
            (1, Value::Varint(value)) => result.host.ip = value as i32,
            (2, Value::Varint(value)) => result.host.port = value as i32,
            (3, Value::Varint(value)) => result.succ = value as u32,
            (4, Value::Varint(value)) => result.err = value as u32,
            (5, Value::Varint(value)) => result.overload = value != 0,
            _ => {}
        }
    }
    Ok(result)
}

/// Bytes of the longest host in a route: two tags, a negative address, a port, and what frames it.
const HOST_BYTES_MAX: usize = 2 + 11 + 11;

/// Hosts that fit into one message whatever they are: 2,729. Of more, only these are told.
pub const HOSTS_MAX: usize = (BODY_BYTES_MAX - 2 * 11) / HOST_BYTES_MAX;

/// Appends a frame. Of more hosts than [`HOSTS_MAX`], or as many results, the first are written.
pub fn encode(message: &Message, into: &mut Vec<u8>) {
    let start = into.len();
    into.extend_from_slice(&[0; HEADER_BYTES]);
    let number: i32 = match message {
        Message::GetRouteRequest(key) => {
            put_key(1, *key, into);
            1
        }
        Message::GetRouteResponse(key, hosts) => {
            put_route(*key, hosts, into);
            2
        }
        Message::ReportStatusRequest { key, caller, results, ts } => {
            put_key(1, *key, into);
            put_int32(3, *caller, into);
            for result in results.iter().take(RESULTS_MAX) {
                put_message(4, into, |into| put_result(result, into));
            }
            put_uint64(5, u64::from(*ts), into);
            3
        }
        Message::GetHostRequest { seq, key } => {
            put_uint64(1, u64::from(*seq), into);
            put_key(2, *key, into);
            4
        }
        Message::GetHostResponse { seq, key, retcode, host } => {
            put_uint64(1, u64::from(*seq), into);
            put_key(2, *key, into);
            put_int32(4, *retcode, into);
            if let Some(host) = host {
                put_message(5, into, |into| put_host(*host, into));
            }
            5
        }
        Message::ReportRequest { key, host, retcode } => {
            put_key(1, *key, into);
            put_message(3, into, |into| put_host(*host, into));
            put_int32(4, *retcode, into);
            6
        }
        Message::ApiGetRouteRequest(key) => {
            put_key(1, *key, into);
            7
        }
        Message::ApiGetRouteResponse(key, hosts) => {
            put_route(*key, hosts, into);
            8
        }
    };
    let length = (into.len() - start - HEADER_BYTES) as i32;
    into[start..start + 4].copy_from_slice(&number.to_le_bytes());
    into[start + 4..start + HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
}

/// Results of one message: each takes at most 38 bytes and two that frame it.
const RESULTS_MAX: usize = (BODY_BYTES_MAX - 4 * 11) / 40;

fn put_key(field: u8, key: Key, into: &mut Vec<u8>) {
    put_int32(field, key.modid, into);
    put_int32(field + 1, key.cmdid, into);
}

fn put_route(key: Key, hosts: &[Host], into: &mut Vec<u8>) {
    put_key(1, key, into);
    for host in hosts.iter().take(HOSTS_MAX) {
        put_message(3, into, |into| put_host(*host, into));
    }
}

fn put_host(host: Host, into: &mut Vec<u8>) {
    put_int32(1, host.ip, into);
    put_int32(2, host.port, into);
}

fn put_result(result: &CallResult, into: &mut Vec<u8>) {
    put_host(result.host, into);
    put_uint64(3, u64::from(result.succ), into);
    put_uint64(4, u64::from(result.err), into);
    put_uint64(5, u64::from(result.overload), into);
}

#[cfg(test)]
mod tests;
