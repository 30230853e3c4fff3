//! The target of a redirect.

use crate::{host, path::push_encoded};

/// Fills in `{scheme}`, `{host}` (without port), `{path}`, `{query}` (with its `?`; nothing when
/// empty) and `{uri}` (path and query); any other text in braces stays. `out` is replaced.
///
/// What comes out is safe in a header: control bytes are dropped, and spaces, quotes, angle
/// brackets, backslashes and bytes beyond ASCII are percent-encoded. A location that begins with
/// the request's path begins with one slash: `//other.example/` would name another host.
pub fn location(
    template: &str,
    scheme: &str,
    host: &str,
    path: &str,
    query: &str,
    out: &mut Vec<u8>,
) {
    out.clear();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        push(&rest[..open], out);
        rest = &rest[open..];
        let length = rest.find('}').map_or(rest.len(), |close| close + 1);
        let (name, tail) = rest.split_at(length);
        match name {
            "{scheme}" => push(scheme, out),
            "{host}" => push(host::without_port(host), out),
            "{path}" => push_path(path, out),
            "{query}" => push_query(query, out),
            "{uri}" => {
                push_path(path, out);
                push_query(query, out);
            }
            _ => {
                // Only the brace: a name may begin inside, as in `{{host}}`.
                push("{", out);
                rest = &rest[1..];
                continue;
            }
        }
        rest = tail;
    }
    push(rest, out);
}

fn push_path(path: &str, out: &mut Vec<u8>) {
    let begins_location = out.is_empty() || out == b"/";
    if begins_location && path.starts_with('/') {
        out.clear();
        out.push(b'/');
        push(path.trim_start_matches(['/', '\\']), out);
    } else {
        push(path, out);
    }
}

fn push_query(query: &str, out: &mut Vec<u8>) {
    if !query.is_empty() {
        out.push(b'?');
        push(query, out);
    }
}

fn push(text: &str, out: &mut Vec<u8>) {
    for &byte in text.as_bytes() {
        match byte {
            0..=0x1f | 0x7f => {}
            b' ' | b'"' | b'<' | b'>' | b'\\' | 0x80.. => push_encoded(byte, out),
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, path: &str, query: &str, expected: &str) {
        let mut out = b"left over".to_vec();
        location(template, "http", "Shop.example:8080", path, query, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), expected, "{template}");
    }

    #[test]
    fn templates_are_filled_in() {
        check("https://{host}{uri}", "/a", "b=1", "https://Shop.example/a?b=1");
        check("https://{host}{uri}", "/a", "", "https://Shop.example/a");
        check("{scheme}://new.example{path}", "/a", "b", "http://new.example/a");
        check("/login{query}", "/a", "b=1", "/login?b=1");
        check("/moved", "/a", "b=1", "/moved");
        check("{other}{", "/a", "", "{other}{");
        check("{{path}}", "/a", "", "{/a}");
        check("", "/a", "", "");
    }

    #[test]
    fn an_ipv6_host_keeps_its_brackets() {
        let mut out = Vec::new();
        location("https://{host}/", "http", "[::1]:80", "/", "", &mut out);
        assert_eq!(out, b"https://[::1]/");
    }

    #[test]
    fn nothing_can_be_injected() {
        check("{path}", "//evil.example/", "", "/evil.example/");
        check("/{path}", "/evil.example/", "", "/evil.example/");
        check("{uri}", "/\\evil.example", "", "/evil.example");
        check("https://{host}{path}", "//x", "", "https://Shop.example//x");
        check("{path}", "/a\r\nSet-Cookie: x=1\0", "", "/aSet-Cookie:%20x=1");
        check("/{query}", "/", "a=\r\n\"<\u{e9}>", "/?a=%22%3C%C3%A9%3E");
        check("/a\r\nb{path}", "/c", "", "/ab/c");
    }
}
