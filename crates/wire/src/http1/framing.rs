//! Where a message ends (RFC 9112 section 6): Content-Length and Transfer-Encoding.

use super::FieldError;
use super::grammar::{is_token, is_token_byte, trim};

/// How the body of a message is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// No body follows the head.
    #[default]
    None,
    /// Exactly so many bytes follow; 0 if the sender said so itself.
    Length(u64),
    /// Read it with a [`ChunkedDecoder`](super::ChunkedDecoder).
    Chunked,
    /// A response that ends with its connection.
    UntilClose,
}

/// Reads the value of a Content-Length field: digits only, at most 64 bits.
///
/// RFC 9110 section 8.6: "Because there is no predefined limit to the length of content, a
/// recipient MUST anticipate potentially large decimal numerals and prevent parsing errors due to
/// integer conversion overflows". A list of equal values, which the same section lets a recipient
/// repair, is refused.
pub fn parse_content_length(value: &[u8]) -> Result<u64, FieldError> {
    let digit = |length: u64, byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    };
    match value {
        [] => None,
        _ => value.iter().try_fold(0, digit),
    }
    .ok_or(FieldError::InvalidContentLength)
}

/// What all Transfer-Encoding fields of a head say together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TransferCodings {
    present: bool,
    chunked: bool,
    last_is_chunked: bool,
    unsupported: bool,
}

impl TransferCodings {
    pub(super) fn is_present(self) -> bool {
        self.present
    }

    /// Adds one field. Empty list elements, which RFC 9110 section 5.6.1.2 asks recipients to
    /// ignore, are refused: they are how one parser is made to overlook what another sees.
    pub(super) fn add(&mut self, value: &[u8]) -> Result<(), FieldError> {
        self.present = true;
        for element in value.split(|byte| *byte == b',').map(trim) {
            let name_end = element.iter().position(|b| !is_token_byte(*b)).unwrap_or(element.len());
            let (name, parameters) = element.split_at(name_end);
            let is_chunked = name.eq_ignore_ascii_case(b"chunked");
            // RFC 9112 section 7.1: "The chunked coding does not define any parameters. Their
            // presence SHOULD be treated as an error."
            if !is_token(name) || (is_chunked && !parameters.is_empty()) {
                return Err(FieldError::InvalidTransferEncoding);
            }
            // RFC 9112 section 6.1: "A sender MUST NOT apply the chunked transfer coding more than
            // once to a message body".
            if is_chunked && self.chunked {
                return Err(FieldError::ChunkedTwice);
            }
            self.chunked |= is_chunked;
            self.unsupported |= !is_chunked;
            self.last_is_chunked = is_chunked;
        }
        Ok(())
    }

    /// RFC 9112 section 6.3: "If a Transfer-Encoding header field is present in a request and the
    /// chunked transfer coding is not the final encoding, the message body length cannot be
    /// determined reliably; the server MUST respond with the 400 (Bad Request) status code and then
    /// close the connection." A response could end with its connection instead; no endpoint that
    /// was asked without `TE` has reason to, so it is refused too.
    pub(super) fn check(self) -> Result<(), FieldError> {
        if self.present && !self.last_is_chunked {
            return Err(FieldError::ChunkedNotFinal);
        }
        // RFC 9112 section 6.1: "A server that receives a request message with a transfer coding it
        // does not understand SHOULD respond with 501 (Not Implemented)."
        if self.unsupported {
            return Err(FieldError::UnsupportedTransferCoding);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_lengths() {
        for (value, expected) in [
            ("0", Some(0)),
            ("42", Some(42)),
            ("00042", Some(42)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("99999999999999999999999999", None),
            ("", None),
            ("+5", None),
            ("-5", None),
            ("5 ", None),
            ("5 5", None),
            ("5,5", None),
            ("5, 5", None),
            ("0x10", None),
            ("1e3", None),
            ("5.0", None),
            ("5_0", None),
            ("\u{665}", None),
        ] {
            assert_eq!(parse_content_length(value.as_bytes()).ok(), expected, "{value}");
        }
    }

    #[test]
    fn transfer_codings() {
        use FieldError::*;
        let check = |fields: &[&str], expected: Result<(), FieldError>| {
            let mut codings = TransferCodings::default();
            let added = fields.iter().try_for_each(|value| codings.add(value.as_bytes()));
            assert_eq!(added.and_then(|()| codings.check()), expected, "{fields:?}");
        };
        check(&["chunked"], Ok(()));
        check(&["CHUNKED"], Ok(()));
        check(&["gzip, chunked"], Err(UnsupportedTransferCoding));
        check(&["gzip", "chunked"], Err(UnsupportedTransferCoding));
        check(&["identity, chunked"], Err(UnsupportedTransferCoding));
        check(&["foo;bar=1, chunked"], Err(UnsupportedTransferCoding));
        check(&["gzip"], Err(ChunkedNotFinal));
        check(&["identity"], Err(ChunkedNotFinal));
        check(&["xchunked"], Err(ChunkedNotFinal));
        check(&["chunked, gzip"], Err(ChunkedNotFinal));
        check(&["chunked", "identity"], Err(ChunkedNotFinal));
        check(&["chunked, chunked"], Err(ChunkedTwice));
        check(&["chunked", "chunked"], Err(ChunkedTwice));
        check(&[""], Err(InvalidTransferEncoding));
        check(&["chunked,"], Err(InvalidTransferEncoding));
        check(&[", chunked"], Err(InvalidTransferEncoding));
        check(&["chunked;a=b"], Err(InvalidTransferEncoding));
        check(&["chunked foo"], Err(InvalidTransferEncoding));
        check(&["\"chunked\""], Err(InvalidTransferEncoding));
        check(&["\u{212a}hunked"], Err(InvalidTransferEncoding));
        check(&["'chunked'"], Err(ChunkedNotFinal));
    }
}
