//! One route, ready to be compared with requests, and its place among the others.

use crate::{
    Request, cookie,
    error::RouteDefect,
    host,
    matcher::{Matcher, compile},
    path, query,
};
use model::spec::{HostPattern, PathPattern, RouteSpec, TextMatch};
use regex::bytes::Regex;
use std::cmp::Reverse;

#[derive(Clone, Debug)]
pub(crate) struct Rule<R> {
    /// What its maker finds it by.
    pub(crate) route: R,
    pub(crate) order: Order,
    pub(crate) host: Host,
    pub(crate) path: Path,
    methods: Vec<String>,
    headers: Vec<(String, Matcher)>,
    query: Vec<(String, Matcher)>,
    cookies: Vec<(String, Matcher)>,
    alpn: Vec<String>,
}

/// Which of two that are equally specific comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Order {
    /// Among those that the table was built from.
    Built(usize),
    /// Among those that were added for their host.
    Added(usize),
    /// After all others.
    Last,
}

/// In lower case, without a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Exact(Vec<u8>),
    Suffix(Vec<u8>),
    Any,
}

/// Normalised.
#[derive(Clone, Debug)]
pub(crate) enum Path {
    Exact(Vec<u8>),
    Regex(Regex),
    /// Empty: every path.
    Prefix(Vec<u8>),
}

/// The first matcher that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Miss<'a> {
    Method,
    Header(&'a str),
    Query(&'a str),
    Cookie(&'a str),
    Alpn,
}

impl Host {
    pub(crate) fn new(pattern: Option<&HostPattern>) -> Result<Self, RouteDefect> {
        Ok(match pattern {
            Some(HostPattern::Exact(name)) => Host::Exact(pattern_host(name)?),
            Some(HostPattern::Suffix(name)) => Host::Suffix(pattern_host(name)?),
            None => Host::Any,
        })
    }

    /// Empty for any.
    pub(crate) fn name(&self) -> &[u8] {
        match self {
            Host::Exact(name) | Host::Suffix(name) => name,
            Host::Any => &[],
        }
    }
}

impl<R> Rule<R> {
    pub(crate) fn new(order: Order, spec: &RouteSpec, route: R) -> Result<Self, RouteDefect> {
        Ok(Self {
            route,
            order,
            host: Host::new(spec.host.as_ref())?,
            path: match &spec.path {
                Some(PathPattern::Exact(path)) => Path::Exact(pattern_path(path)?),
                Some(PathPattern::Prefix(path)) => Path::Prefix(pattern_prefix(path)?),
                Some(PathPattern::Regex(pattern)) => Path::Regex(compile(pattern)?),
                None => Path::Prefix(Vec::new()),
            },
            methods: spec.methods.clone(),
            headers: named_matchers(&spec.headers)?,
            query: named_matchers(&spec.query)?,
            cookies: named_matchers(&spec.cookies)?,
            alpn: spec.alpn.clone(),
        })
    }

    /// Sorted by this, rules stand from the most to the least specific, and those with the same
    /// host and the same exact path or prefix stand side by side. Texts of the same kind and
    /// length cannot match the same request, except for regexes; so only these leave theirs out.
    pub(crate) fn specificity(&self) -> impl Ord + use<'_, R> {
        let host = match &self.host {
            Host::Exact(name) => (0, Reverse(name.len()), &**name),
            Host::Suffix(name) => (1, Reverse(name.len()), &**name),
            Host::Any => (2, Reverse(0), &[][..]),
        };
        let path = match &self.path {
            Path::Exact(path) => (0, Reverse(path.len()), &**path),
            Path::Regex(regex) => (1, Reverse(regex.as_str().len()), &[][..]),
            Path::Prefix(path) => (2, Reverse(path.len()), &**path),
        };
        (
            host,
            path,
            self.methods.is_empty(),
            self.alpn.is_empty(),
            Reverse((self.headers.len(), self.query.len(), self.cookies.len())),
            self.order,
        )
    }

    /// Everything but the host and the path.
    pub(crate) fn miss(&self, request: &dyn Request) -> Option<Miss<'_>> {
        if !self.methods.is_empty() && !self.methods.iter().any(|m| m == request.method()) {
            return Some(Miss::Method);
        }
        if !self.alpn.is_empty() && !self.alpn.iter().any(|name| request.offers(name.as_bytes())) {
            return Some(Miss::Alpn);
        }
        let missed = self.headers.iter().find(|(name, m)| !header_holds(name, m, request));
        if let Some((name, _)) = missed {
            return Some(Miss::Header(name));
        }
        let missed = self.query.iter().find(|(name, m)| !query_holds(name, m, request));
        if let Some((name, _)) = missed {
            return Some(Miss::Query(name));
        }
        let missed = self.cookies.iter().find(|(name, m)| !cookie_holds(name, m, request));
        missed.map(|(name, _)| Miss::Cookie(name))
    }

    /// Why the rule does not match, for a person; nothing if it does. Looks at the rule alone,
    /// not at the table's look-up structures.
    pub(crate) fn explain(&self, request: &dyn Request) -> Option<String> {
        let mut buffer = [0; host::LEN_MAX];
        let name = host::normalise(request.host(), &mut buffer).unwrap_or_default();
        let path = path_of(request);
        match &self.host {
            Host::Exact(host) if name != host => {
                return Some(format!("the host is not `{}`", host.escape_ascii()));
            }
            Host::Suffix(host) if !host::suffixes(name).any(|suffix| suffix == host) => {
                return Some(format!("the host is not `*.{}`", host.escape_ascii()));
            }
            _ => {}
        }
        match &self.path {
            Path::Exact(exact) if path != exact => {
                return Some(format!("the path is not `{}`", exact.escape_ascii()));
            }
            Path::Regex(regex) if !regex.is_match(path) => {
                return Some(format!("the path does not match `{regex}`"));
            }
            Path::Prefix(prefix) if after_prefix(prefix, path).is_none() => {
                return Some(format!("the path is not `{}/*`", prefix.escape_ascii()));
            }
            _ => {}
        }
        self.miss(request).map(|miss| match miss {
            Miss::Method => format!("the method is not {}", self.methods.join(" or ")),
            Miss::Header(name) => format!("no header `{name}` has the wanted value"),
            Miss::Query(name) => format!("no query parameter `{name}` has the wanted value"),
            Miss::Alpn => format!("the client does not offer {}", self.alpn.join(" or ")),
            Miss::Cookie(name) => format!("no cookie `{name}` has the wanted value"),
        })
    }
}

/// An empty path means `/` (RFC 9110 section 4.2.3).
pub(crate) fn path_of(request: &dyn Request) -> &[u8] {
    match request.path().as_bytes() {
        b"" => b"/",
        path => path,
    }
}

/// What follows `prefix`, if `path` is it or goes on with a slash.
pub(crate) fn after_prefix<'a>(prefix: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(prefix)?;
    (prefix.is_empty() || rest.is_empty() || rest[0] == b'/').then_some(rest)
}

/// The path of a prefix pattern; empty for `/*`.
pub(crate) fn pattern_prefix(text: &str) -> Result<Vec<u8>, RouteDefect> {
    if text.is_empty() { Ok(Vec::new()) } else { pattern_path(text) }
}

/// A configured path, as requests come: octets normalised, no dot segments.
pub(crate) fn pattern_path(text: &str) -> Result<Vec<u8>, RouteDefect> {
    if !text.starts_with('/') {
        return Err(RouteDefect::PathWithoutSlash { path: text.to_owned() });
    }
    let mut decoded = Vec::with_capacity(text.len());
    path::decode_unreserved(text.as_bytes(), &mut decoded);
    if path::has_dot_segment(&decoded) {
        return Err(RouteDefect::PathWithDotSegment { path: text.to_owned() });
    }
    Ok(decoded)
}

fn pattern_host(text: &str) -> Result<Vec<u8>, RouteDefect> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.is_empty() {
        return Err(RouteDefect::HostEmpty);
    }
    if name.len() > host::LEN_MAX {
        return Err(RouteDefect::HostTooLong { host: name });
    }
    Ok(name.into_bytes())
}

fn named_matchers(specs: &[(String, TextMatch)]) -> Result<Vec<(String, Matcher)>, RouteDefect> {
    specs.iter().map(|(name, spec)| Ok((name.clone(), Matcher::new(spec)?))).collect()
}

/// One of several headers, parameters or cookies of the same name is enough.
fn header_holds(name: &str, matcher: &Matcher, request: &dyn Request) -> bool {
    let mut holds = false;
    request.header(name, &mut |value| {
        holds = matcher.holds(value);
        holds
    });
    holds
}

fn query_holds(name: &str, matcher: &Matcher, request: &dyn Request) -> bool {
    query::pairs(request.query())
        .any(|(key, value)| query::decoded(key).eq(name.bytes()) && matcher.holds_decoded(value))
}

fn cookie_holds(name: &str, matcher: &Matcher, request: &dyn Request) -> bool {
    let mut holds = false;
    request.header("cookie", &mut |line| {
        holds =
            cookie::pairs(line).any(|(key, value)| key == name.as_bytes() && matcher.holds(value));
        holds
    });
    holds
}
