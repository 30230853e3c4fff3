//! Sessions: which endpoint a client's cookie names, and what a new cookie says.
//!
//! A token is SipHash-2-4 (Aumasson and Bernstein, 2012) of the endpoint's id: it is the same in
//! every process with the same key, tells nothing of the endpoint to those who do not know the
//! key, and cannot be guessed (64 bits).

use std::sync::Arc;

use model::spec::{AffinitySpec, SameSite};
use model::{EndpointId, ServiceName};

use crate::EndpointHandle;

/// What stands for an endpoint in a client's cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(u64);

impl Token {
    /// The length of the written form: a hexadecimal digit for every four bits.
    pub const LEN: usize = 16;

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
}

/// How a service's cookies are read and written, worked out of its [`AffinitySpec`] once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    name: String,
    key: [u64; 2],
    /// What stands before and after the token in a response's head.
    before: String,
    after: String,
}

impl Sessions {
    pub(crate) fn new(spec: &AffinitySpec, service: &ServiceName) -> Self {
        let secret = spec.secret.as_deref().unwrap_or(service.as_str());
        // Any two keys will do that are not the same: the secret is longer than a key may be.
        let key = [1, 2].map(|half| siphash([half, 0x6576_656e_6b65_656c], secret.as_bytes()));
        let mut after = format!("; Path={}", spec.path);
        if let Some(ttl) = spec.ttl {
            after += &format!("; Max-Age={}", ttl.as_secs());
        }
        if spec.secure {
            after += "; Secure";
        }
        if spec.http_only {
            after += "; HttpOnly";
        }
        after += match spec.same_site {
            Some(SameSite::Strict) => "; SameSite=Strict",
            Some(SameSite::Lax) => "; SameSite=Lax",
            Some(SameSite::None) => "; SameSite=None",
            None => "",
        };
        after += "\r\n";
        Self { before: format!("Set-Cookie: {}=", spec.name), name: spec.name.clone(), key, after }
    }

    /// The cookie's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn token(&self, endpoint: &EndpointId) -> Token {
        Token(siphash(self.key, endpoint.as_str().as_bytes()))
    }

    /// Appends the header line that gives a client this token.
    pub fn write(&self, token: Token, out: &mut Vec<u8>) {
        out.extend_from_slice(self.before.as_bytes());
        out.extend_from_slice(&token.digits());
        out.extend_from_slice(self.after.as_bytes());
    }
}

/// The endpoints that may go on with sessions, by ascending token.
#[derive(Default)]
pub(crate) struct SessionMap(Box<[(Token, Arc<EndpointHandle>)]>);

impl SessionMap {
    /// Of several endpoints with one token, the first is found; they differ in their address only.
    pub(crate) fn new(mut all: Vec<(Token, Arc<EndpointHandle>)>) -> Self {
        all.sort_by_key(|(token, _)| *token);
        all.dedup_by_key(|(token, _)| *token);
        Self(all.into_boxed_slice())
    }

    pub(crate) fn holds(&self, key: u64) -> bool {
        self.0.iter().any(|(_, endpoint)| endpoint.key == key)
    }

    pub(crate) fn find(&self, token: Token) -> Option<&Arc<EndpointHandle>> {
        let at = self.0.binary_search_by_key(&token, |(token, _)| *token).ok()?;
        self.0.get(at).map(|(_, endpoint)| endpoint)
    }
}

/// SipHash-2-4 with a 64-bit result. (That of the standard library is deprecated, and what takes
/// its place may change between releases, which would end all sessions.)
fn siphash(key: [u64; 2], text: &[u8]) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = text.as_chunks::<8>();
    // The last word: what is left, and the length modulo 256 in its highest byte.
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    last[7] = text.len() as u8;
    for word in words.iter().chain([&last]).map(|word| u64::from_le_bytes(*word)) {
        v[3] ^= word;
        (0..2).for_each(|_| round(&mut v));
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    (0..4).for_each(|_| round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The paper's appendix A, and further vectors of its authors' reference code.
    #[test]
    fn siphash_is_that_of_the_paper() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let text: Vec<u8> = (0..15).collect();
        assert_eq!(siphash(key, &text), 0xa129_ca61_49be_45e5);
        assert_eq!(siphash(key, &[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(siphash(key, &text[..8]), 0x93f5_f579_9a93_2462);
    }

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
    fn tokens_depend_on_the_secret_and_the_endpoint_alone() {
        let sessions = |secret: Option<&str>, service: &str| {
            let secret = secret.map(str::to_owned);
            Sessions::new(&AffinitySpec { secret, ..AffinitySpec::new("K") }, &service.into())
        };
        let token =
            |secret, service, endpoint: &str| sessions(secret, service).token(&endpoint.into());
        let a = token(Some("s"), "web", "a");
        assert_eq!(a, token(Some("s"), "app", "a"));
        assert_ne!(a, token(Some("s"), "web", "b"));
        assert_ne!(a, token(Some("t"), "web", "a"));
        assert_eq!(token(None, "web", "a"), token(None, "web", "a"));
        assert_ne!(token(None, "web", "a"), token(None, "app", "a"));
        // A change of it would end the sessions of everyone who updates.
        assert_eq!(&token(None, "web", "127.0.0.1:5001").digits(), b"caea3ff49a31fd4a");
    }

    #[test]
    fn attributes_are_written_as_configured() {
        let check = |spec: AffinitySpec, expected: &str| {
            let mut out = Vec::new();
            Sessions::new(&spec, &"web".into()).write(Token(10), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        let plain = AffinitySpec::new("KEEL");
        check(plain.clone(), "Set-Cookie: KEEL=000000000000000a; Path=/; HttpOnly\r\n");
        let full = AffinitySpec {
            ttl: Some(Duration::from_secs(3600)),
            path: "/app".into(),
            secure: true,
            http_only: false,
            same_site: Some(SameSite::Lax),
            ..plain
        };
        check(
            full,
            "Set-Cookie: KEEL=000000000000000a; Path=/app; Max-Age=3600; Secure; SameSite=Lax\r\n",
        );
    }
}
