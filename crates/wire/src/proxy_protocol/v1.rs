//! Version 1: one line of text, section 2.1 of the specification.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Addresses, Decoded, Error, Header};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// "The maximum line lengths the receiver must support including the CRLF ... so a 108-byte buffer
/// is always enough to store all the line and a trailing zero".
const LINE_BYTES_MAX: usize = 107;

pub(super) fn decode(buf: &[u8]) -> Result<Decoded, Error> {
    let view = &buf[..buf.len().min(LINE_BYTES_MAX)];
    let end = match memchr::memchr2(b'\r', b'\n', view) {
        None if view.len() == LINE_BYTES_MAX => return Err(Error::TooLong),
        None => return Ok(Decoded::Partial),
        Some(end) => end,
    };
    match (view[end], view.get(end + 1)) {
        (b'\r', Some(b'\n')) => {}
        (b'\r', None) if view.len() == LINE_BYTES_MAX => return Err(Error::TooLong),
        (b'\r', None) => return Ok(Decoded::Partial),
        _ => return Err(Error::InvalidText),
    }
    let rest = view[..end].strip_prefix(SIGNATURE).ok_or(Error::InvalidText)?;
    let line = std::str::from_utf8(rest).map_err(|_| Error::InvalidText)?;
    Ok(Decoded::Complete { header: header(line)?, len: end + 2 })
}

fn header(line: &str) -> Result<Header, Error> {
    // "the receiver must ignore anything presented before the CRLF is found" after UNKNOWN.
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Ok(Header::Local);
    }
    let mut parts = line.split(' ');
    let family = parts.next().unwrap_or_default();
    let address: fn(&str) -> Result<IpAddr, Error> = match family {
        "TCP4" => address::<Ipv4Addr>,
        "TCP6" => address::<Ipv6Addr>,
        _ => return Err(Error::InvalidFamily),
    };
    let mut next = || parts.next().ok_or(Error::InvalidText);
    let (source, destination) = (address(next()?)?, address(next()?)?);
    let (source_port, destination_port) = (port(next()?)?, port(next()?)?);
    match parts.next() {
        Some(_) => Err(Error::InvalidText),
        None => Ok(Header::Proxied(Addresses {
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, destination_port),
        })),
    }
}

fn address<A: FromStr + Into<IpAddr>>(text: &str) -> Result<IpAddr, Error> {
    text.parse::<A>().map(Into::into).map_err(|_| Error::InvalidAddress)
}

/// "represented as a decimal number in the range [0..65535] inclusive. Heading zeroes are not
/// permitted".
fn port(text: &str) -> Result<u16, Error> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain || (text.starts_with('0') && text != "0") {
        return Err(Error::InvalidPort);
    }
    text.parse().map_err(|_| Error::InvalidPort)
}

/// Appends a text header. Ends of different families are both written as IPv6.
pub fn encode_v1(addresses: &Addresses, out: &mut Vec<u8>) {
    let (source, destination) = addresses.same_family();
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let ports = (addresses.source.port(), addresses.destination.port());
    // Writing to a vector does not fail.
    let _ = write!(out, "PROXY {family} {source} {destination} {} {}\r\n", ports.0, ports.1);
}

impl Addresses {
    pub(super) fn same_family(&self) -> (IpAddr, IpAddr) {
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V6(destination)) => {
                (source.to_ipv6_mapped().into(), destination.into())
            }
            (IpAddr::V6(source), IpAddr::V4(destination)) => {
                (source.into(), destination.to_ipv6_mapped().into())
            }
            same => same,
        }
    }
}
