//! The paths that a file names, with `use` trees written out.

/// A path such as `std::time::Instant`.
pub(crate) struct Named {
    pub(crate) path: String,
    pub(crate) offset: usize,
    /// Brought in by `use`, which may name a module whose items are then reachable.
    pub(crate) imported: bool,
}

impl Named {
    /// Is it `item`, something inside it, or an import of a module or glob that contains it?
    pub(crate) fn reaches(&self, item: &str) -> bool {
        within(&self.path, item) || (self.imported && within(item, &self.path))
    }
}

fn within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

pub(super) fn named(code: &str) -> Vec<Named> {
    let tokens = tokens(code);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = match tokens[at].text {
            "use" => use_tree(&tokens, at + 1, "", &mut found),
            _ if tokens[at].is_word() => written(&tokens, at, &mut found),
            _ => at + 1,
        };
    }
    found
}

#[derive(Clone, Copy)]
struct Token<'a> {
    text: &'a str,
    offset: usize,
}

impl Token<'_> {
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
    }
}

fn tokens(code: &str) -> Vec<Token<'_>> {
    let bytes = code.as_bytes();
    let is_word = |at: usize| bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_';
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        if is_word(at) {
            while at < bytes.len() && is_word(at) {
                at += 1;
            }
        } else if code[at..].starts_with("::") {
            at += 2;
        } else {
            at += 1;
        }
        if !bytes[start].is_ascii_whitespace() {
            tokens.push(Token { text: &code[start..at], offset: start });
        }
    }
    tokens
}

/// Reads `a::b::c` at `at`; answers where it ends.
fn written(tokens: &[Token<'_>], at: usize, found: &mut Vec<Named>) -> usize {
    let mut path = tokens[at].text.to_owned();
    let mut end = at + 1;
    while let [separator, next, ..] = tokens[end..] {
        if separator.text != "::" || !next.is_word() {
            break;
        }
        path.push_str("::");
        path.push_str(next.text);
        end += 2;
    }
    found.push(Named { path, offset: tokens[at].offset, imported: false });
    end
}

/// Reads one tree of a `use` declaration that hangs below `prefix`; answers where it ends.
fn use_tree(tokens: &[Token<'_>], start: usize, prefix: &str, found: &mut Vec<Named>) -> usize {
    let mut path = prefix.to_owned();
    let mut at = start;
    let mut grouped = false;
    while at < tokens.len() {
        match tokens[at].text {
            "::" | "*" => at += 1,
            "as" => at += 2,
            "self" if at > start || !prefix.is_empty() => at += 1,
            "{" => {
                grouped = true;
                at += 1;
                while at < tokens.len() && tokens[at].text != "}" {
                    at = use_tree(tokens, at, &path, found);
                    at += usize::from(tokens.get(at).is_some_and(|token| token.text == ","));
                }
                at += 1;
            }
            _ if tokens[at].is_word() => {
                if !path.is_empty() {
                    path.push_str("::");
                }
                path.push_str(tokens[at].text);
                at += 1;
            }
            _ => break,
        }
    }
    if !grouped && !path.is_empty() {
        let offset = tokens.get(start).map_or(0, |token| token.offset);
        found.push(Named { path, offset, imported: true });
    }
    at.max(start + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &str, expected: &[&str]) {
        let found: Vec<_> = named(code).into_iter().map(|named| named.path).collect();
        assert_eq!(found, expected, "{code}");
    }

    #[test]
    fn use_trees_are_written_out() {
        check("use std::time::Instant;", &["std::time::Instant"]);
        check(
            "use std::{fs, net::{SocketAddr, self, TcpStream as Stream}, io::*}; x",
            &["std::fs", "std::net::SocketAddr", "std::net", "std::net::TcpStream", "std::io", "x"],
        );
        check("a::b(c :: d)", &["a::b", "c::d"]);
        check("use", &[]);
        check("use a::{b", &["a::b"]);
        check("use a::{;", &["a"]);
    }

    #[test]
    fn imports_of_a_whole_module_reach_its_items() {
        let reaches = |code: &str| named(code).iter().any(|n| n.reaches("std::time::Instant"));
        assert!(reaches("use std::time;"));
        assert!(reaches("use std::time::*;"));
        assert!(reaches("std::time::Instant::now()"));
        assert!(!reaches("use std::time::Duration;"));
        assert!(!reaches("std::time::Duration::ZERO"));
        assert!(!reaches("use std::time::InstantLike;"));
    }
}
