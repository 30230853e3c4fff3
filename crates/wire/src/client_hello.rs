//! The first message of a TLS client: whom it asks for (SNI) and what it offers to speak (ALPN).
//!
//! Sources: RFC 8446 sections 4.1.2 and 5.1 (the message, and how it is cut into records), RFC 6066
//! section 3 (`server_name`), RFC 7301 section 3.1 (`application_layer_protocol_negotiation`).
//! [`decode`] reads it from the front of a connection, however it is cut; nothing is decrypted, and
//! nothing of the handshake is judged beyond what has to be read.

/// Bytes of the message: with keys for post-quantum agreement it comes to some 2 KiB, and clients
/// pad little.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of all its records. A client may cut the message into small pieces, five bytes of header
/// for each, but not much smaller than it must.
pub const INPUT_BYTES_MAX: usize = 32 * 1024;
/// RFC 8446 section 5.1: a fragment of plaintext is no larger.
const FRAGMENT_BYTES_MAX: usize = 1 << 14;
const RECORD_HEADER_BYTES: usize = 5;
const CONTENT_HANDSHAKE: u8 = 22;
const MESSAGE_CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;

/// What a client says of itself in clear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// As sent; empty if it asks for none. Visible ASCII.
    pub server_name: String,
    /// The list of protocols as it was sent, each with its length in front; well-formed.
    alpn: Vec<u8>,
}

impl ClientHello {
    /// The protocols that it offers, the preferred one first.
    pub fn protocols(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.alpn;
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first()?;
            let (name, after) = after.split_at_checked(usize::from(*length))?;
            rest = after;
            Some(name)
        })
    }

    pub fn offers(&self, protocol: &[u8]) -> bool {
        self.protocols().any(|offered| offered == protocol)
    }
}

/// What the buffer held.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decoded {
    /// A valid beginning: read more, and decode again from the start.
    Partial,
    Complete(ClientHello),
}

/// Why the front of a connection is no ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Error {
    /// No record of a handshake, or one of SSL 2.
    NotTls,
    /// A record without content, or larger than records are.
    InvalidRecord,
    /// Another message than a ClientHello.
    UnexpectedMessage,
    TooLong,
    /// Lengths within the message do not fit together.
    Malformed,
    DuplicateExtension,
    InvalidServerName,
}

impl Error {
    /// For the access log.
    pub fn reason(self) -> &'static str {
        match self {
            Error::NotTls => "not TLS",
            Error::InvalidRecord => "invalid TLS record",
            Error::UnexpectedMessage => "not a ClientHello",
            Error::TooLong => "ClientHello too long",
            Error::Malformed => "malformed ClientHello",
            Error::DuplicateExtension => "extension twice in ClientHello",
            Error::InvalidServerName => "invalid server name",
        }
    }
}

/// Reads the message from the front of `bytes`; what follows it is not looked at.
///
/// # Errors
/// As soon as no continuation could make it a ClientHello.
pub fn decode(bytes: &[u8]) -> Result<Decoded, Error> {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        let complete = fragment(&mut rest, &mut message)?;
        if let Some(body) = body(&message)? {
            return parse(body).map(Decoded::Complete);
        }
        if !complete {
            let is_over = bytes.len() >= INPUT_BYTES_MAX;
            return if is_over { Err(Error::TooLong) } else { Ok(Decoded::Partial) };
        }
    }
}

/// Moves one record's content to `message`; false: it is not all there, and what is there of its
/// content was moved.
fn fragment(rest: &mut &[u8], message: &mut Vec<u8>) -> Result<bool, Error> {
    if let Some(kind) = rest.first()
        && *kind != CONTENT_HANDSHAKE
    {
        return Err(Error::NotTls);
    }
    // RFC 8446 appendix D.1: the version of the record is 3 and something, and means nothing.
    if rest.get(1).is_some_and(|major| *major != 3) {
        return Err(Error::NotTls);
    }
    let Some((header, content)) = rest.split_at_checked(RECORD_HEADER_BYTES) else {
        return Ok(false);
    };
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    // Section 5.1: "Implementations MUST NOT send zero-length fragments of Handshake types".
    if length == 0 || length > FRAGMENT_BYTES_MAX {
        return Err(Error::InvalidRecord);
    }
    let (now, after) = content.split_at(length.min(content.len()));
    message.extend_from_slice(now);
    *rest = after;
    Ok(now.len() == length)
}

/// The message's content, once it is all there.
fn body(message: &[u8]) -> Result<Option<&[u8]>, Error> {
    if message.first().is_some_and(|kind| *kind != MESSAGE_CLIENT_HELLO) {
        return Err(Error::UnexpectedMessage);
    }
    let Some((header, content)) = message.split_at_checked(4) else { return Ok(None) };
    let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(Error::TooLong);
    }
    Ok(content.get(..length))
}

fn parse(body: &[u8]) -> Result<ClientHello, Error> {
    let mut reader = Reader(body);
    reader.take(2 + 32)?; // legacy_version, random
    let session = reader.vector_u8()?;
    let ciphers = reader.vector_u16()?;
    let compression = reader.vector_u8()?;
    if session.len() > 32 || ciphers.is_empty() || ciphers.len() % 2 != 0 || compression.is_empty()
    {
        return Err(Error::Malformed);
    }
    let mut hello = ClientHello::default();
    // Before TLS 1.3 there may be no extensions at all.
    if reader.0.is_empty() {
        return Ok(hello);
    }
    let mut extensions = Reader(reader.vector_u16()?);
    reader.end()?;
    let (mut names, mut protocols) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let content = Reader(extensions.vector_u16()?);
        let seen = match kind {
            EXTENSION_SERVER_NAME => &mut names,
            EXTENSION_ALPN => &mut protocols,
            _ => continue,
        };
        // Section 4.2: "There MUST NOT be more than one extension of the same type".
        if std::mem::replace(seen, true) {
            return Err(Error::DuplicateExtension);
        }
        match kind {
            EXTENSION_SERVER_NAME => hello.server_name = server_name(content)?,
            _ => hello.alpn = alpn(content)?,
        }
    }
    Ok(hello)
}

fn server_name(mut content: Reader<'_>) -> Result<String, Error> {
    let mut list = Reader(content.vector_u16()?);
    content.end()?;
    let mut found = None;
    while !list.0.is_empty() {
        let kind = list.take(1)?[0];
        let name = list.vector_u16()?;
        // RFC 6066 section 3: "The ServerNameList MUST NOT contain more than one name of the same
        // name_type", and there is no type but host_name (0).
        if kind != 0 {
            continue;
        }
        let is_name = (1..=255).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic);
        if !is_name || found.is_some() {
            return Err(Error::InvalidServerName);
        }
        found = std::str::from_utf8(name).ok();
    }
    found.map(str::to_owned).ok_or(Error::InvalidServerName)
}

/// The list, every name of which has 1 to 255 bytes.
fn alpn(mut content: Reader<'_>) -> Result<Vec<u8>, Error> {
    let list = content.vector_u16()?;
    content.end()?;
    let mut names = Reader(list);
    while !names.0.is_empty() {
        if names.vector_u8()?.is_empty() {
            return Err(Error::Malformed);
        }
    }
    if list.is_empty() { Err(Error::Malformed) } else { Ok(list.to_vec()) }
}

/// Takes from the front of a message that is all there: what is missing is malformed.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Error::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, Error> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector_u8(&mut self) -> Result<&'a [u8], Error> {
        let length = self.take(1)?[0];
        self.take(usize::from(length))
    }

    fn vector_u16(&mut self) -> Result<&'a [u8], Error> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    fn end(&self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Malformed) }
    }
}

#[cfg(test)]
mod tests;
