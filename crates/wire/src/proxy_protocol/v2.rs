//! Version 2: binary, section 2.2 of the specification.

use std::net::{IpAddr, SocketAddr};

use super::{Addresses, Decoded, Error, HEADER_BYTES_MAX, Header};

pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and transport, length.
const PREFIX_BYTES: usize = 16;

const VERSION: u8 = 0x20;
const COMMAND_LOCAL: u8 = 0x0;
const COMMAND_PROXY: u8 = 0x1;

const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// Bytes of the two address blocks with their ports.
const IPV4_BYTES: usize = 12;
const IPV6_BYTES: usize = 36;
const UNIX_BYTES: usize = 216;

pub(super) fn decode(buf: &[u8]) -> Result<Decoded, Error> {
    // As far as they have come: a wrong byte is refused at once.
    if buf.get(12).is_some_and(|byte| byte & 0xF0 != VERSION) {
        return Err(Error::InvalidVersion);
    }
    if buf.get(12).is_some_and(|byte| byte & 0x0F > COMMAND_PROXY) {
        return Err(Error::InvalidCommand);
    }
    let Some(prefix) = buf.first_chunk::<PREFIX_BYTES>() else {
        return Ok(Decoded::Partial);
    };
    let len = PREFIX_BYTES + usize::from(u16::from_be_bytes([prefix[14], prefix[15]]));
    if len > HEADER_BYTES_MAX {
        return Err(Error::TooLong);
    }
    let Some(rest) = buf.get(PREFIX_BYTES..len) else {
        return Ok(Decoded::Partial);
    };
    let header = match prefix[12] & 0x0F {
        // "the receiver must accept this connection as valid and must use the real connection
        // endpoints and discard the protocol block including the family which is ignored".
        COMMAND_LOCAL => Header::Local,
        _ => proxied(prefix[13], rest)?,
    };
    Ok(Decoded::Complete { header, len })
}

fn proxied(family: u8, rest: &[u8]) -> Result<Header, Error> {
    let (header, extensions) = match family {
        // Of AF_UNSPEC "the receiver should ignore address information"; what follows has no known
        // start.
        0x00 => return Ok(Header::Local),
        TCP_OVER_IPV4 | 0x12 => {
            let (block, extensions) = split::<IPV4_BYTES>(rest)?;
            let [a, b, c, d, e, f, g, h, ports @ ..] = *block;
            (Header::Proxied(addresses([a, b, c, d], [e, f, g, h], ports)), extensions)
        }
        TCP_OVER_IPV6 | 0x22 => {
            let (source, rest) = split::<16>(rest)?;
            let (destination, rest) = split::<16>(rest)?;
            let (ports, extensions) = split::<4>(rest)?;
            (Header::Proxied(addresses(*source, *destination, *ports)), extensions)
        }
        0x31 | 0x32 => (Header::Local, split::<UNIX_BYTES>(rest)?.1),
        _ => return Err(Error::InvalidFamily),
    };
    check_extensions(extensions)?;
    Ok(header)
}

fn split<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), Error> {
    bytes.split_first_chunk::<N>().ok_or(Error::AddressesTruncated)
}

fn addresses<A: Into<IpAddr>>(source: A, destination: A, ports: [u8; 4]) -> Addresses {
    let [a, b, c, d] = ports;
    Addresses {
        source: SocketAddr::new(source.into(), u16::from_be_bytes([a, b])),
        destination: SocketAddr::new(destination.into(), u16::from_be_bytes([c, d])),
    }
}

/// Section 2.2: type (1 byte), length (2 bytes), value.
fn check_extensions(mut bytes: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        let ([_, high, low], rest) = bytes.split_first_chunk().ok_or(Error::ExtensionTruncated)?;
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        bytes = rest.get(length..).ok_or(Error::ExtensionTruncated)?;
    }
    Ok(())
}

/// Appends a binary header, of a TCP connection if it has addresses. Ends of different families are
/// both written as IPv6; flow and scope of IPv6 addresses have no place in it.
pub fn encode_v2(header: Header, out: &mut Vec<u8>) {
    out.extend_from_slice(&SIGNATURE);
    let Header::Proxied(addresses) = header else {
        out.extend_from_slice(&[VERSION | COMMAND_LOCAL, 0, 0, 0]);
        return;
    };
    out.push(VERSION | COMMAND_PROXY);
    match addresses.same_family() {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            out.extend_from_slice(&[TCP_OVER_IPV4, 0, IPV4_BYTES as u8]);
            out.extend_from_slice(&source.octets());
            out.extend_from_slice(&destination.octets());
        }
        (source, destination) => {
            out.extend_from_slice(&[TCP_OVER_IPV6, 0, IPV6_BYTES as u8]);
            for address in [source, destination] {
                let address = match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped(),
                    IpAddr::V6(address) => address,
                };
                out.extend_from_slice(&address.octets());
            }
        }
    }
    out.extend_from_slice(&addresses.source.port().to_be_bytes());
    out.extend_from_slice(&addresses.destination.port().to_be_bytes());
}
