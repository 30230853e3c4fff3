//! One text matcher of a route, ready to be used.

use crate::{error::RouteDefect, query};
use model::spec::TextMatch;
use regex::bytes::Regex;

#[derive(Clone, Debug)]
pub(crate) enum Matcher {
    Present,
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Regex(Regex),
}

impl Matcher {
    pub(crate) fn new(spec: &TextMatch) -> Result<Self, RouteDefect> {
        Ok(match spec {
            TextMatch::Present => Self::Present,
            TextMatch::Exact(text) => Self::Exact(text.as_bytes().into()),
            TextMatch::Prefix(text) => Self::Prefix(text.as_bytes().into()),
            TextMatch::Regex(pattern) => Self::Regex(compile(pattern)?),
        })
    }

    pub(crate) fn holds(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(text) => value == &**text,
            Self::Prefix(text) => value.starts_with(text),
            Self::Regex(regex) => regex.is_match(value),
        }
    }

    /// As [`holds`](Self::holds), for a value of a query as sent.
    pub(crate) fn holds_decoded(&self, value: &[u8]) -> bool {
        if !query::is_encoded(value) {
            return self.holds(value);
        }
        let mut decoded = query::decoded(value);
        match self {
            Self::Present => true,
            Self::Exact(text) => decoded.eq(text.iter().copied()),
            Self::Prefix(text) => text.iter().all(|&byte| decoded.next() == Some(byte)),
            Self::Regex(regex) => regex.is_match(&decoded.collect::<Vec<u8>>()),
        }
    }
}

pub(crate) fn compile(pattern: &str) -> Result<Regex, RouteDefect> {
    Regex::new(pattern).map_err(|error| RouteDefect::Regex {
        pattern: pattern.to_owned(),
        message: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_decoded_values_compare() {
        let check = |spec: TextMatch, value: &str, plain: bool, decoded: bool| {
            let matcher = Matcher::new(&spec).expect("a sound matcher");
            assert_eq!(matcher.holds(value.as_bytes()), plain, "{spec:?} {value}");
            assert_eq!(matcher.holds_decoded(value.as_bytes()), decoded, "{spec:?} {value}");
        };
        check(TextMatch::Present, "", true, true);
        check(TextMatch::Present, "%20", true, true);
        check(TextMatch::Exact("a b".into()), "a b", true, true);
        check(TextMatch::Exact("a b".into()), "a+b", false, true);
        check(TextMatch::Exact("a b".into()), "a%20b", false, true);
        check(TextMatch::Exact("a b".into()), "a%20bc", false, false);
        check(TextMatch::Exact("a b".into()), "a%20", false, false);
        check(TextMatch::Exact("A".into()), "a", false, false);
        check(TextMatch::Prefix("a ".into()), "a+b", false, true);
        check(TextMatch::Prefix("a ".into()), "a+", false, true);
        check(TextMatch::Prefix("a b".into()), "a+", false, false);
        check(TextMatch::Regex("^[0-9]+$".into()), "12", true, true);
        check(TextMatch::Regex("^[0-9]+$".into()), "%31%32", false, true);
        check(TextMatch::Regex("^[0-9]+$".into()), "1a", false, false);
    }

    #[test]
    fn a_bad_regex_is_refused() {
        let error = Matcher::new(&TextMatch::Regex("(".into())).expect_err("unclosed");
        assert!(matches!(error, RouteDefect::Regex { .. }), "{error}");
    }
}
