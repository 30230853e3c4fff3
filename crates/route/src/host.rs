//! Host names as routes compare them: lower case, no port, no trailing dot.

/// Bytes. A name has at most 253 in text form (RFC 1035 section 2.3.4: 255 on the wire); a longer
/// host matches no host pattern.
pub(crate) const LEN_MAX: usize = 253;

/// Without `:port`. The brackets of an IPv6 address stay.
pub(crate) fn without_port(host: &str) -> &str {
    if host.starts_with('[') {
        return host.find(']').map_or(host, |end| &host[..=end]);
    }
    host.find(':').map_or(host, |end| &host[..end])
}

/// `Shop.Example.com.:8080` as `shop.example.com`, in `buffer`. Nothing if no pattern can match.
pub(crate) fn normalise<'a>(host: &str, buffer: &'a mut [u8; LEN_MAX]) -> Option<&'a [u8]> {
    let host = without_port(host);
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || host.len() > LEN_MAX {
        return None;
    }
    let name = &mut buffer[..host.len()];
    name.copy_from_slice(host.as_bytes());
    name.make_ascii_lowercase();
    Some(name)
}

/// What follows each dot, longest first: `b.c` and `c` of `a.b.c`. At least one byte stands
/// before the dot, because `*.example.com` asks for a label more.
pub(crate) fn suffixes(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let dots = name.iter().enumerate().filter(|&(at, &byte)| byte == b'.' && at > 0);
    dots.map(|(at, _)| &name[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_case_and_trailing_dot_do_not_matter() {
        let check = |host: &str, expected: Option<&str>| {
            let mut buffer = [0; LEN_MAX];
            assert_eq!(normalise(host, &mut buffer), expected.map(str::as_bytes), "{host}");
        };
        check("shop.example.com", Some("shop.example.com"));
        check("Shop.EXAMPLE.com:8080", Some("shop.example.com"));
        check("shop.example.com.:80", Some("shop.example.com"));
        check("shop.example.com..", Some("shop.example.com."));
        check("[2001:DB8::1]:80", Some("[2001:db8::1]"));
        check("[::1]", Some("[::1]"));
        check("[::1", Some("[::1"));
        check("", None);
        check(":80", None);
        check(".", None);
        check(&"a".repeat(LEN_MAX), Some(&"a".repeat(LEN_MAX)));
        check(&"a".repeat(LEN_MAX + 1), None);
    }

    #[test]
    fn suffixes_leave_out_at_least_one_label() {
        let check = |name: &str, expected: &[&str]| {
            let found: Vec<_> =
                suffixes(name.as_bytes()).map(|s| std::str::from_utf8(s).expect("ASCII")).collect();
            assert_eq!(found, expected, "{name}");
        };
        check("a.b.c", &["b.c", "c"]);
        check("localhost", &[]);
        check(".c", &[]);
        check("a..c", &[".c", "c"]);
    }
}
