use std::net::IpAddr;

use model::spec::KeySource;

use crate::{Request, cookie, query};

/// The hash of what `source` names in the request; `None` when the request has no such thing.
pub fn key(source: &KeySource, request: &dyn Request, client: IpAddr) -> Option<u64> {
    match source {
        KeySource::Source => Some(source_key(client)),
        KeySource::Path => Some(hash(request.path().bytes())),
        KeySource::Header(name) => {
            let mut found = None;
            request.header(name, &mut |value| {
                found = Some(hash(value.iter().copied()));
                true
            });
            found
        }
        KeySource::Cookie(name) => {
            find_cookie(request, name, |value| Some(hash(value.iter().copied())))
        }
        KeySource::Query(name) => query::pairs(request.query())
            .find(|(n, _)| query::decoded(n).eq(name.bytes()))
            .map(|(_, value)| hash(query::decoded(value))),
    }
}

/// What `read` makes of the first cookie of this name of which it makes something.
pub fn find_cookie<T>(
    request: &dyn Request,
    name: &str,
    mut read: impl FnMut(&[u8]) -> Option<T>,
) -> Option<T> {
    let mut found = None;
    request.header("cookie", &mut |line| {
        let mut named = cookie::pairs(line).filter(|(n, _)| *n == name.as_bytes());
        found = named.find_map(|(_, value)| read(value));
        found.is_some()
    });
    found
}

/// The hash of a client's address.
pub fn source_key(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(address) => hash(address.octets().into_iter()),
        IpAddr::V6(address) => hash(address.octets().into_iter()),
    }
}

/// The hash of a text, as if it stood in a header.
pub fn text_key(text: &[u8]) -> u64 {
    hash(text.iter().copied())
}

/// The same on every machine and in every release, so that balancers agree: 64-bit FNV-1a
/// (Fowler, Noll, Vo), whose weak high bits the finisher of SplitMix64 mends.
fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in bytes {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;
    impl Request for Fixed {
        fn method(&self) -> &str {
            "GET"
        }
        fn host(&self) -> &str {
            "a"
        }
        fn path(&self) -> &str {
            "/p"
        }
        fn query(&self) -> &str {
            "x=1&u=a%20b"
        }
        fn header<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8]) -> bool) {
            match name {
                "x-user" => {
                    visit(b"a b");
                }
                "cookie" => {
                    let _ = visit(b"t=1") || visit(b"sid=\"a b\"");
                }
                _ => {}
            }
        }
    }

    #[test]
    fn the_first_cookie_that_can_be_read_is_found() {
        let number = |value: &[u8]| std::str::from_utf8(value).ok()?.parse::<u32>().ok();
        assert_eq!(find_cookie(&Fixed, "t", number), Some(1));
        assert_eq!(find_cookie(&Fixed, "sid", number), None);
        assert_eq!(find_cookie(&Fixed, "none", number), None);
    }

    #[test]
    fn one_value_has_one_key_wherever_it_stands() {
        let client = "10.0.0.1".parse().unwrap();
        let of = |text: &str| key(&text.parse().unwrap(), &Fixed, client);
        let expected = Some(hash(b"a b".iter().copied()));
        for text in ["header:X-User", "cookie:sid", "query:u"] {
            assert_eq!(of(text), expected, "{text}");
        }
        for text in ["header:x-none", "cookie:none", "query:none"] {
            assert_eq!(of(text), None, "{text}");
        }
        assert_eq!(of("path"), Some(hash(b"/p".iter().copied())));
        assert_eq!(of("source"), Some(source_key("::ffff:10.0.0.1".parse().unwrap())));
        assert_ne!(of("source"), of("path"));
    }
}
