//! The pairs of a query, `a=1&b=two+words`, decoded while they are compared.

use crate::path::octet;

/// Names and values as sent, in order. A pair without `=` has an empty value; empty pairs are
/// left out. (The URL Standard, section 5.1, `application/x-www-form-urlencoded` parsing.)
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (&[u8], &[u8])> {
    query.as_bytes().split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        match pair.iter().position(|&byte| byte == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &[][..]),
        }
    })
}

pub(crate) fn is_encoded(text: &[u8]) -> bool {
    text.iter().any(|&byte| byte == b'%' || byte == b'+')
}

/// The bytes that `text` stands for: `%41` is `A`, `+` is a space; a `%` that begins no octet is
/// itself.
pub(crate) fn decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (&byte, tail) = rest.split_first()?;
        rest = tail;
        Some(match byte {
            b'+' => b' ',
            b'%' => match octet(tail) {
                Some(octet) => {
                    rest = &tail[2..];
                    octet
                }
                None => b'%',
            },
            byte => byte,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_split_and_decoded() {
        let check = |query: &str, expected: &[(&str, &str)]| {
            let text = |bytes: &[u8]| String::from_utf8(decoded(bytes).collect()).expect("UTF-8");
            let found: Vec<_> = pairs(query).map(|(n, v)| (text(n), text(v))).collect();
            let expected: Vec<_> =
                expected.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
            assert_eq!(found, expected, "{query}");
        };
        check("", &[]);
        check("&&", &[]);
        check("a", &[("a", "")]);
        check("a=1&b=2", &[("a", "1"), ("b", "2")]);
        check("a=1=2", &[("a", "1=2")]);
        check("=x", &[("", "x")]);
        check("a+b=c%20d%2B", &[("a b", "c d+")]);
        check("n%61me=%C3%A9", &[("name", "\u{e9}")]);
        check("a=100%&b=%4", &[("a", "100%"), ("b", "%4")]);
        check("a=%26&a=2", &[("a", "&"), ("a", "2")]);
        check("a=1;b=2", &[("a", "1;b=2")]);
    }
}
