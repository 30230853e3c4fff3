//! The path that the endpoint sees, where a route rewrites it.

use crate::{
    error::RouteDefect,
    matcher::compile,
    path::{decode_unreserved, remove_dot_segments},
    rule,
};
use model::spec::{PathPattern, PathRewrite, RouteSpec};
use regex::bytes::Regex;

/// What one route does to the path; prepared once.
#[derive(Clone, Debug)]
pub struct Rewriter {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Keep,
    /// The path is `prefix` or begins with `prefix` and a slash.
    Prefix {
        prefix: Box<[u8]>,
        replacement: Box<[u8]>,
    },
    Whole {
        replacement: Box<[u8]>,
    },
    Groups {
        regex: Regex,
        pieces: Vec<Piece>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<[u8]>),
    Group(usize),
}

impl Rewriter {
    pub fn new(route: &RouteSpec) -> Result<Self, RouteDefect> {
        let kind = match (&route.rewrite_path, &route.path) {
            (None, _) => Kind::Keep,
            (Some(PathRewrite::ReplacePrefix(_)), Some(PathPattern::Regex(_))) => {
                return Err(RouteDefect::PrefixOfRegex);
            }
            (Some(PathRewrite::ReplacePrefix(text)), Some(PathPattern::Prefix(prefix))) => {
                Kind::Prefix {
                    prefix: rule::pattern_prefix(prefix)?.into(),
                    replacement: checked(text)?.into(),
                }
            }
            (Some(PathRewrite::ReplacePrefix(text)), None) => {
                Kind::Prefix { prefix: Box::default(), replacement: checked(text)?.into() }
            }
            (Some(PathRewrite::Replace(text)), Some(PathPattern::Regex(pattern))) => {
                let regex = compile(pattern)?;
                Kind::Groups { pieces: pieces(checked(text)?, &regex)?, regex }
            }
            (Some(PathRewrite::ReplacePrefix(text) | PathRewrite::Replace(text)), _) => {
                let mut replacement = checked(text)?.to_vec();
                ensure_slash(&mut replacement);
                Kind::Whole { replacement: replacement.into() }
            }
        };
        Ok(Self { kind })
    }

    /// True: `out` was replaced by the new path, which begins with `/`. False: the path stays as
    /// it is. `path` is the one that the route matched; only groups of a regex allocate.
    ///
    /// A prefix is joined so that one slash stands between: with `/api/*` and `/`, `/api/v1`
    /// becomes `/v1` and `/api` becomes `/`; with `/v2` or `/v2/` it becomes `/v2/v1`.
    pub fn path(&self, path: &str, out: &mut Vec<u8>) -> bool {
        let path = if path.is_empty() { "/" } else { path };
        match &self.kind {
            Kind::Keep => return false,
            Kind::Prefix { prefix, replacement } => {
                let Some(rest) = rule::after_prefix(prefix, path.as_bytes()) else { return false };
                let replacement = match (&**replacement, rest) {
                    ([head @ .., b'/'], [b'/', ..]) => head,
                    (whole, _) => whole,
                };
                out.clear();
                out.extend_from_slice(replacement);
                out.extend_from_slice(rest);
                ensure_slash(out);
            }
            Kind::Whole { replacement } => {
                out.clear();
                out.extend_from_slice(replacement);
            }
            Kind::Groups { regex, pieces } => {
                let Some(groups) = regex.captures(path.as_bytes()) else { return false };
                let mut joined = Vec::with_capacity(path.len());
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => joined.extend_from_slice(text),
                        Piece::Group(group) => {
                            joined
                                .extend(groups.get(*group).map_or(&[][..], |text| text.as_bytes()));
                        }
                    }
                }
                ensure_slash(&mut joined);
                // A group may begin in the middle of a segment or of an octet: `^/x(.*)$` finds
                // `../etc` in `/x../etc`. What is joined must not climb where the path did not.
                out.clear();
                decode_unreserved(&joined, out);
                remove_dot_segments(out);
            }
        }
        true
    }
}

fn ensure_slash(path: &mut Vec<u8>) {
    if path.first() != Some(&b'/') {
        path.insert(0, b'/');
    }
}

/// Refuses what would end the path or the request line.
fn checked(text: &str) -> Result<&[u8], RouteDefect> {
    let is_bad = |byte: &u8| !byte.is_ascii_graphic() || matches!(byte, b'?' | b'#');
    match text.bytes().find(is_bad) {
        Some(byte) => Err(RouteDefect::RewriteByte { text: text.to_owned(), byte }),
        None => Ok(text.as_bytes()),
    }
}

/// `$1`, `$name` (as long as letters, digits and `_` go on), `${1}`, `${name}`, `$$`.
fn pieces(text: &[u8], regex: &Regex) -> Result<Vec<Piece>, RouteDefect> {
    let shown = || String::from_utf8_lossy(text).into_owned();
    let unclosed = || RouteDefect::RewriteGroupUnclosed { text: shown() };
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let (mut pieces, mut literal, mut rest) = (Vec::new(), Vec::new(), text);
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'$' {
            literal.push(byte);
            rest = tail;
            continue;
        }
        let name = match tail {
            [b'$', after @ ..] => {
                literal.push(b'$');
                rest = after;
                continue;
            }
            [b'{', inner @ ..] => {
                let close = inner.iter().position(|&byte| byte == b'}').ok_or_else(unclosed)?;
                rest = &inner[close + 1..];
                &inner[..close]
            }
            _ => {
                let length = tail.iter().position(|byte| !is_word(byte)).unwrap_or(tail.len());
                rest = &tail[length..];
                &tail[..length]
            }
        };
        if name.is_empty() {
            return Err(unclosed());
        }
        let name = String::from_utf8_lossy(name);
        let group = match name.parse::<usize>() {
            Ok(number) => Some(number).filter(|&number| number < regex.captures_len()),
            Err(_) => regex.capture_names().position(|group| group == Some(&*name)),
        };
        let Some(group) = group else {
            return Err(RouteDefect::RewriteGroupUnknown {
                text: shown(),
                group: name.into_owned(),
            });
        };
        if !literal.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut literal).into()));
        }
        pieces.push(Piece::Group(group));
    }
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal.into()));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::ServiceName;

    fn rewriter(
        path: Option<PathPattern>,
        rewrite: Option<PathRewrite>,
    ) -> Result<Rewriter, RouteDefect> {
        let service = ServiceName::from("web");
        let route = RouteSpec { path, rewrite_path: rewrite, ..RouteSpec::catch_all(service) };
        Rewriter::new(&route)
    }

    fn check(rewriter: &Rewriter, path: &str, expected: Option<&str>) {
        let mut out = b"left over".to_vec();
        let changed = rewriter.path(path, &mut out);
        let found = changed.then(|| String::from_utf8(out).expect("ASCII"));
        assert_eq!(found.as_deref(), expected, "{path}");
    }

    /// The table of the Gateway API (HTTPPathModifier) and then some.
    #[test]
    fn prefixes_are_joined_with_one_slash() {
        for (prefix, replacement, path, expected) in [
            ("/api", "/", "/api/v1", "/v1"),
            ("/api", "/", "/api/", "/"),
            ("/api", "/", "/api", "/"),
            ("/api", "", "/api/v1", "/v1"),
            ("/api", "", "/api", "/"),
            ("/foo", "/xyz", "/foo/bar", "/xyz/bar"),
            ("/foo", "/xyz/", "/foo/bar", "/xyz/bar"),
            ("/foo", "/xyz", "/foo/", "/xyz/"),
            ("/foo", "/xyz", "/foo", "/xyz"),
            ("/foo", "/xyz/", "/foo", "/xyz/"),
            ("/foo", "xyz", "/foo/bar", "/xyz/bar"),
            ("", "/v2", "/a/b", "/v2/a/b"),
            ("", "/v2", "/", "/v2/"),
            ("", "/v2", "", "/v2/"),
            ("", "/", "/a", "/a"),
        ] {
            let rewriter = rewriter(
                Some(PathPattern::Prefix(prefix.into())),
                Some(PathRewrite::ReplacePrefix(replacement.into())),
            );
            check(&rewriter.expect("a sound rewrite"), path, Some(expected));
        }
    }

    #[test]
    fn what_does_not_match_stays() {
        let with = |path, rewrite| rewriter(path, rewrite).expect("a sound rewrite");
        let api = Some(PathPattern::Prefix("/api".into()));
        let prefix = with(api.clone(), Some(PathRewrite::ReplacePrefix("/x".into())));
        check(&prefix, "/apix", None);
        check(&with(api, None), "/api", None);
        let regex = Some(PathPattern::Regex("^/a$".into()));
        check(&with(regex, Some(PathRewrite::Replace("/b".into()))), "/b", None);
    }

    #[test]
    fn whole_paths_are_replaced() {
        let with = |path, rewrite| rewriter(path, Some(rewrite)).expect("a sound rewrite");
        let exact = || Some(PathPattern::Exact("/old".into()));
        check(&with(exact(), PathRewrite::Replace("/new$1".into())), "/old", Some("/new$1"));
        check(&with(exact(), PathRewrite::ReplacePrefix("new".into())), "/old", Some("/new"));
        check(&with(None, PathRewrite::Replace("/new".into())), "/any", Some("/new"));
        check(&with(None, PathRewrite::ReplacePrefix("/v2/".into())), "/any", Some("/v2/any"));
    }

    #[test]
    fn groups_are_filled_in() {
        for (pattern, text, path, expected) in [
            ("^/users/([0-9]+)$", "/u/$1", "/users/7", "/u/7"),
            ("^/users/([0-9]+)", "/u/${1}x", "/users/7/rest", "/u/7x"),
            ("^/(?P<who>[a-z]+)/(.*)$", "/$2/${who}/$who", "/me/a/b", "/a/b/me/me"),
            ("^/a(/x)?", "/b$1", "/a", "/b"),
            ("^/(.*)$", "$1", "/a", "/a"),
            ("^/(.*)$", "/$$1/$0", "/a", "/$1//a"),
            // A group that begins inside a segment cannot climb.
            ("^/x(.*)$", "/files/$1", "/x../../etc", "/etc"),
            ("^/x(.*)$", "$1", "/x../../etc", "/etc"),
            ("^/(%2)(.*)$", "/${1}e${1}e/$2", "/%2F", "/F"),
        ] {
            let rewriter = rewriter(
                Some(PathPattern::Regex(pattern.into())),
                Some(PathRewrite::Replace(text.into())),
            );
            check(&rewriter.expect("a sound rewrite"), path, Some(expected));
        }
    }

    #[test]
    fn defects_are_told() {
        let regex = || Some(PathPattern::Regex("^/(a)$".into()));
        let replace = |text: &str| Some(PathRewrite::Replace(text.into()));
        let check = |path, rewrite, expected: &str| {
            let defect = rewriter(path, rewrite).expect_err(expected).to_string();
            assert!(defect.contains(expected), "{defect}");
        };
        check(regex(), replace("/$2"), "group `2`");
        check(regex(), replace("/$1x"), "group `1x`");
        check(regex(), replace("/${a"), "without its");
        check(regex(), replace("/$"), "without a group");
        check(regex(), replace("/${}"), "without a group");
        check(None, replace("/a?b=1"), "0x3f");
        check(None, replace("/a b"), "%20");
        check(None, replace("/a\r\n"), "0x0d");
        check(regex(), Some(PathRewrite::ReplacePrefix("/".into())), "no prefix");
    }
}
