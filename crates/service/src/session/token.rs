//! What stands for an endpoint in a client's cookie.
//!
//! A token is SipHash-2-4 of the endpoint's id: it is the same in every process with the same key,
//! and tells nothing of the endpoint to those who do not know the key. A keyed hash of what it
//! stands for is what a signature would be (a message authentication code), and here it is the
//! message, too: a value that nobody with the key wrote names no endpoint, and 64 bits cannot be
//! guessed at the rate of requests.

/// What stands for an endpoint in a client's cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub(super) u64);

impl Token {
    /// The length of the written form: a hexadecimal digit for every four bits.
    pub const LEN: usize = 16;

    /// Between a token and an application's value: allowed in a cookie (RFC 6265 section 4.1.1),
    /// and in no token.
    pub const SEPARATOR: u8 = b'~';

    /// Only what [`Token::digits`] may have written.
    pub fn read(text: &[u8]) -> Option<Self> {
        if text.len() != Self::LEN {
            return None;
        }
        let digits = text.iter().map(|byte| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        });
        let number = digits.into_iter().try_fold(0, |n, d| Some(n << 4 | u64::from(d?)))?;
        Some(Self(number))
    }

    pub fn digits(self) -> [u8; Self::LEN] {
        let mut rest = self.0;
        std::array::from_fn(|_| {
            rest = rest.rotate_left(4);
            b"0123456789abcdef"[(rest & 15) as usize]
        })
    }

    /// The token in front of an application's value, and the value; both without quotes.
    pub fn split(text: &[u8]) -> Option<(Self, &[u8])> {
        let (token, rest) = text.split_at_checked(Self::LEN)?;
        let (separator, value) = rest.split_first()?;
        Some((Self::read(token).filter(|_| *separator == Self::SEPARATOR)?, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for number in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(Token::read(&Token(number).digits()), Some(Token(number)));
        }
        assert_eq!(&Token(0x0123_4567_89ab_cdef).digits(), b"0123456789abcdef");
        for text in ["", "0", "0123456789ABCDEF", "0123456789abcdefa", "+123456789abcdef"] {
            assert_eq!(Token::read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_prefix_is_split_off_once() {
        let check = |text: &str, expected: Option<(u64, &str)>| {
            let expected = expected.map(|(token, rest)| (Token(token), rest.as_bytes()));
            assert_eq!(Token::split(text.as_bytes()), expected, "{text}");
        };
        check("000000000000000a~abc", Some((10, "abc")));
        check("000000000000000a~", Some((10, "")));
        check("000000000000000a~000000000000000b~x", Some((10, "000000000000000b~x")));
        for text in
            ["", "abc", "a~b", "000000000000000a", "00000000000000a~b", "000000000000000A~b"]
        {
            check(text, None);
        }
        check("000000000000000a!abc", None);
    }
}
