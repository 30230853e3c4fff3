//! Whether a field list is a message (RFC 9113 section 8), and what its parts are.
//!
//! Stricter than the RFC asks where HTTP/1.1 could read something else: what passes here can be
//! written as an HTTP/1.1 head and has one meaning there.

use crate::Fields;
use crate::error::MessageError;

const TOKEN: u8 = 1;
/// A token without capitals.
const NAME: u8 = 2;
const TARGET: u8 = 4;
const VALUE: u8 = 8;

/// One look-up instead of a chain of comparisons.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let byte = index as u8;
        // RFC 9110 section 5.6.2: all visible ASCII but the delimiters.
        let is_delimiter = matches!(
            byte,
            b'"' | b'('
                | b')'
                | b','
                | b'/'
                | b':'
                | b';'
                | b'<'
                | b'='
                | b'>'
                | b'?'
                | b'@'
                | b'['
                | b'\\'
                | b']'
                | b'{'
                | b'}'
        );
        if byte.is_ascii_graphic() && !is_delimiter {
            table[index] |= TOKEN;
            if !byte.is_ascii_uppercase() {
                table[index] |= NAME;
            }
        }
        if byte.is_ascii_graphic() && byte != b'#' {
            table[index] |= TARGET;
        }
        // RFC 9113 section 8.2.1 forbids NUL, CR and LF; RFC 9110 section 5.5 has the other control
        // characters invalid as well.
        if !byte.is_ascii_control() || byte == b'\t' {
            table[index] |= VALUE;
        }
        index += 1;
    }
    table
}

fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().fold(class, |seen, byte| seen & CLASSES[usize::from(*byte)]) == class
}

/// The parts of a request that are not plain fields: positions in its [`Fields`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    pub method: usize,
    /// None for CONNECT without a protocol.
    pub scheme: Option<usize>,
    /// `:authority`, or Host if there is none.
    pub authority: Option<usize>,
    /// None for CONNECT without a protocol.
    pub path: Option<usize>,
    /// The protocol that is to be tunnelled (RFC 8441 section 4).
    pub protocol: Option<usize>,
    /// Where the plain fields begin.
    pub fields: usize,
    pub content_length: Option<u64>,
    /// The method is CONNECT.
    pub is_connect: bool,
}

/// The parts of a response that are not plain fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// 100 to 999, and not 101.
    pub status: u16,
    /// Where the plain fields begin.
    pub fields: usize,
    pub content_length: Option<u64>,
}

/// What all plain fields say together.
#[derive(Default)]
struct Plain {
    host: Option<usize>,
    content_length: Option<u64>,
}

impl RequestHead {
    /// Checks a request's fields. `extended_connect`: `:protocol` was offered.
    pub fn check(fields: &Fields, extended_connect: bool) -> Result<RequestHead, MessageError> {
        let mut head = RequestHead::default();
        let mut method = None;
        for (position, (name, _)) in fields.iter().enumerate() {
            let place = match name {
                b":method" => &mut method,
                b":scheme" => &mut head.scheme,
                b":authority" => &mut head.authority,
                b":path" => &mut head.path,
                b":protocol" => &mut head.protocol,
                // RFC 9113 section 8.3: "Endpoints MUST treat a request or response that contains
                // undefined or invalid pseudo-header fields as malformed".
                [b':', ..] => return Err(MessageError::UnknownPseudo),
                _ => break,
            };
            // "The same pseudo-header field name MUST NOT appear more than once in a field block."
            if place.replace(position).is_some() {
                return Err(MessageError::DuplicatePseudo);
            }
            head.fields = position + 1;
        }
        head.method = method.ok_or(MessageError::MissingPseudo)?;
        let plain = check_plain(fields, head.fields)?;
        head.content_length = plain.content_length;
        head.check_method(fields, extended_connect)?;
        head.check_target(fields)?;
        head.check_authority(fields, plain.host)?;
        Ok(head)
    }

    /// RFC 9113 section 8.3.1 and 8.5, RFC 8441 section 4.
    fn check_method(
        &mut self,
        fields: &Fields,
        extended_connect: bool,
    ) -> Result<(), MessageError> {
        let (_, method) = fields.get(self.method);
        if method.is_empty() || !all(method, TOKEN) {
            return Err(MessageError::InvalidMethod);
        }
        self.is_connect = method == b"CONNECT";
        match self.protocol {
            Some(protocol) => {
                let (_, protocol) = fields.get(protocol);
                if !self.is_connect || !extended_connect || !all(protocol, TOKEN) {
                    return Err(MessageError::UnexpectedProtocol);
                }
                if protocol.is_empty() {
                    return Err(MessageError::UnexpectedProtocol);
                }
            }
            None if self.is_connect => {
                // "The ":scheme" and ":path" pseudo-header fields MUST be omitted."
                if self.scheme.is_some() || self.path.is_some() {
                    return Err(MessageError::ConnectWithPath);
                }
                return match self.authority {
                    Some(_) => Ok(()),
                    None => Err(MessageError::MissingPseudo),
                };
            }
            None => {}
        }
        // "All HTTP/2 requests MUST include exactly one valid value for the ":method", ":scheme",
        // and ":path" pseudo-header fields, unless they are CONNECT requests".
        if self.scheme.is_none() || self.path.is_none() {
            return Err(MessageError::MissingPseudo);
        }
        Ok(())
    }

    fn check_target(&self, fields: &Fields) -> Result<(), MessageError> {
        if let Some(scheme) = self.scheme {
            let (_, scheme) = fields.get(scheme);
            let is_scheme =
                |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
            if !scheme.first().is_some_and(u8::is_ascii_alphabetic) || !scheme.iter().all(is_scheme)
            {
                return Err(MessageError::InvalidScheme);
            }
        }
        if let Some(path) = self.path {
            let (_, path) = fields.get(path);
            let (_, method) = fields.get(self.method);
            // "This pseudo-header field MUST NOT be empty for "http" or "https" URIs"; the only
            // other form is the asterisk of OPTIONS.
            match path {
                [b'/', ..] if all(path, TARGET) => {}
                b"*" if method == b"OPTIONS" => {}
                _ => return Err(MessageError::InvalidPath),
            }
        }
        Ok(())
    }

    fn check_authority(
        &mut self,
        fields: &Fields,
        host: Option<usize>,
    ) -> Result<(), MessageError> {
        if let Some(authority) = self.authority {
            let (_, authority) = fields.get(authority);
            // "":authority" MUST NOT include the deprecated userinfo subcomponent".
            if authority.is_empty() || !all(authority, TARGET) || authority.contains(&b'@') {
                return Err(MessageError::InvalidAuthority);
            }
            // "A server SHOULD treat a request as malformed if it contains a Host header field that
            // identifies an entity that differs from the entity in the ":authority"".
            if let Some(host) = host
                && !fields.get(host).1.eq_ignore_ascii_case(authority)
            {
                return Err(MessageError::HostDiffers);
            }
        } else {
            self.authority = host;
        }
        Ok(())
    }
}

impl ResponseHead {
    /// Checks a response's fields.
    pub fn check(fields: &Fields) -> Result<ResponseHead, MessageError> {
        let mut status = None;
        for (position, (name, value)) in fields.iter().enumerate() {
            match name {
                b":status" if position == 0 => status = Some(value),
                b":status" => return Err(MessageError::DuplicatePseudo),
                [b':', ..] => return Err(MessageError::UnknownPseudo),
                _ => break,
            }
        }
        let status = match status {
            None => return Err(MessageError::MissingPseudo),
            Some([a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']) => {
                u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
            }
            Some(_) => return Err(MessageError::InvalidStatus),
        };
        // RFC 9113 section 8.6: "HTTP/2 does not support the 101 (Switching Protocols)
        // informational status code".
        if status == 101 {
            return Err(MessageError::InvalidStatus);
        }
        let plain = check_plain(fields, 1)?;
        Ok(ResponseHead { status, fields: 1, content_length: plain.content_length })
    }

    pub fn is_informational(&self) -> bool {
        (100..200).contains(&self.status)
    }
}

/// Checks trailers: RFC 9113 section 8.1: "Trailers MUST NOT include pseudo-header fields".
pub(crate) fn check_trailers(fields: &Fields) -> Result<(), MessageError> {
    if fields.iter().any(|(name, _)| name.first() == Some(&b':')) {
        return Err(MessageError::PseudoInTrailers);
    }
    check_plain(fields, 0).map(|_| ())
}

/// RFC 9113 section 8.2.
fn check_plain(fields: &Fields, from: usize) -> Result<Plain, MessageError> {
    let mut plain = Plain::default();
    for (position, (name, value)) in fields.iter().enumerate().skip(from) {
        match name.first() {
            // Section 8.3: "All pseudo-header fields MUST appear in a field block before all
            // regular field lines."
            Some(b':') => return Err(MessageError::PseudoAfterField),
            None => return Err(MessageError::InvalidName),
            Some(_) if all(name, NAME) => {}
            Some(_) if all(name, TOKEN) => return Err(MessageError::UppercaseName),
            Some(_) => return Err(MessageError::InvalidName),
        }
        // Section 8.2.1: "A field value MUST NOT start or end with an ASCII whitespace character".
        let is_padded = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
        if !all(value, VALUE) || is_padded(value.first()) || is_padded(value.last()) {
            return Err(MessageError::InvalidValue);
        }
        check_special(name, value, position, &mut plain)?;
    }
    Ok(plain)
}

fn check_special(
    name: &[u8],
    value: &[u8],
    position: usize,
    plain: &mut Plain,
) -> Result<(), MessageError> {
    match name {
        // Section 8.2.2: "An endpoint MUST NOT generate an HTTP/2 message containing
        // connection-specific header fields"; receivers treat them as malformed.
        b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
            Err(MessageError::ConnectionSpecificField)
        }
        // "The only exception to this is the TE header field ... it MUST NOT contain any value
        // other than "trailers"."
        b"te" if !value.eq_ignore_ascii_case(b"trailers") => Err(MessageError::InvalidTe),
        b"host" => match plain.host.replace(position) {
            None => Ok(()),
            Some(_) => Err(MessageError::DuplicateHost),
        },
        b"content-length" => {
            let length = content_length(value).ok_or(MessageError::InvalidContentLength)?;
            match plain.content_length.replace(length) {
                None => Ok(()),
                Some(_) => Err(MessageError::DuplicateContentLength),
            }
        }
        _ => Ok(()),
    }
}

/// Digits only, at most 64 bits (RFC 9110 section 8.6).
fn content_length(value: &[u8]) -> Option<u64> {
    let digit = |length: u64, byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    };
    if value.is_empty() { None } else { value.iter().try_fold(0, digit) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::default();
        fields.begin(64 * 1024, 100);
        for (name, value) in list {
            fields.push(name.as_bytes(), value.as_bytes());
        }
        fields
    }

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")];

    #[test]
    fn requests() {
        use MessageError::*;
        let check = |list: &[(&str, &str)], expected: Result<(), MessageError>| {
            let result = RequestHead::check(&fields(list), true).map(|_| ());
            assert_eq!(result, expected, "{list:?}");
        };
        let with = |more: &[(&'static str, &'static str)]| [&GET[..], more].concat();
        check(&GET, Ok(()));
        check(&with(&[("te", "trailers"), ("cookie", "a=b"), ("cookie", "c=d")]), Ok(()));
        check(&with(&[("host", "A")]), Ok(()));
        check(&with(&[("host", "b")]), Err(HostDiffers));
        check(&with(&[("host", "a"), ("host", "a")]), Err(DuplicateHost));
        check(&with(&[("x", "")]), Ok(()));
        check(&with(&[("X", "a")]), Err(UppercaseName));
        check(&with(&[("x y", "a")]), Err(InvalidName));
        check(&with(&[("", "a")]), Err(InvalidName));
        check(&with(&[("x\r\ny", "a")]), Err(InvalidName));
        check(&with(&[("x", "a\r\nb: c")]), Err(InvalidValue));
        check(&with(&[("x", "a\0")]), Err(InvalidValue));
        check(&with(&[("x", " a")]), Err(InvalidValue));
        check(&with(&[("x", "a\t")]), Err(InvalidValue));
        check(&with(&[("te", "gzip")]), Err(InvalidTe));
        check(&with(&[("te", "trailers, deflate")]), Err(InvalidTe));
        for name in ["connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"]
        {
            check(&with(&[(name, "a")]), Err(ConnectionSpecificField));
        }
        check(&with(&[("content-length", "5")]), Ok(()));
        check(&with(&[("content-length", "5,5")]), Err(InvalidContentLength));
        check(&with(&[("content-length", "+5")]), Err(InvalidContentLength));
        check(&with(&[("content-length", "")]), Err(InvalidContentLength));
        check(
            &with(&[("content-length", "5"), ("content-length", "5")]),
            Err(DuplicateContentLength),
        );
        check(&with(&[(":method", "GET")]), Err(DuplicatePseudo));
        check(&with(&[(":status", "200")]), Err(UnknownPseudo));
        check(&with(&[("x", "a"), (":path", "/")]), Err(PseudoAfterField));
        check(&with(&[(":protocol", "websocket")]), Err(UnexpectedProtocol));
        for missing in [0, 1, 3] {
            let mut list = GET.to_vec();
            list.remove(missing);
            check(&list, Err(MissingPseudo));
        }
        let replaced = |at: usize, value: &'static str| {
            let mut list = GET;
            list[at].1 = value;
            list
        };
        check(&replaced(0, "G T"), Err(InvalidMethod));
        check(&replaced(0, ""), Err(InvalidMethod));
        check(&replaced(1, ""), Err(InvalidScheme));
        check(&replaced(1, "ht tp"), Err(InvalidScheme));
        check(&replaced(2, ""), Err(InvalidAuthority));
        check(&replaced(2, "user@a"), Err(InvalidAuthority));
        check(&replaced(2, "a b"), Err(InvalidAuthority));
        for path in ["", "a", "*", "/ HTTP/1.1", "/a\r\nb", "/a#b", "/\u{e9}", "http://a/"] {
            check(&replaced(3, path), Err(InvalidPath));
        }
        check(
            &[(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), ("host", "a")],
            Ok(()),
        );
        check(&[(":method", "CONNECT"), (":authority", "a:1")], Ok(()));
        check(&[(":method", "CONNECT")], Err(MissingPseudo));
        let connect = [(":method", "CONNECT"), (":authority", "a"), (":path", "/")];
        check(&connect, Err(ConnectWithPath));
        let websocket = [(":method", "CONNECT"), (":protocol", "websocket"), (":authority", "a")];
        let whole = [&websocket[..], &[(":scheme", "https"), (":path", "/")]].concat();
        check(&whole, Ok(()));
        check(&websocket, Err(MissingPseudo));
        assert_eq!(RequestHead::check(&fields(&whole), false), Err(UnexpectedProtocol));
    }

    #[test]
    fn responses() {
        use MessageError::*;
        let check = |list: &[(&str, &str)], expected: Result<u16, MessageError>| {
            let result = ResponseHead::check(&fields(list)).map(|head| head.status);
            assert_eq!(result, expected, "{list:?}");
        };
        check(&[(":status", "200"), ("x", "y")], Ok(200));
        check(&[(":status", "103")], Ok(103));
        check(&[(":status", "999")], Ok(999));
        check(&[("x", "y")], Err(MissingPseudo));
        check(&[(":status", "101")], Err(InvalidStatus));
        for status in ["", "20", "2000", "099", "2x0", "+20"] {
            check(&[(":status", status)], Err(InvalidStatus));
        }
        check(&[(":status", "200"), (":status", "200")], Err(DuplicatePseudo));
        check(&[(":status", "200"), (":path", "/")], Err(UnknownPseudo));
        check(&[("x", "y"), (":status", "200")], Err(MissingPseudo));
        check(&[(":status", "200"), ("connection", "close")], Err(ConnectionSpecificField));
    }

    #[test]
    fn trailers() {
        assert_eq!(check_trailers(&fields(&[("grpc-status", "0")])), Ok(()));
        let pseudo = check_trailers(&fields(&[("a", "b"), (":status", "200")]));
        assert_eq!(pseudo, Err(MessageError::PseudoInTrailers));
    }
}
