use std::fmt;
use std::str::FromStr;

/// What a hash policy hashes of a request. Written as `source`, `path`, `header:NAME`,
/// `cookie:NAME` or `query:NAME`. Streams and flows have only their source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeySource {
    /// The client's address, without its port.
    Source,
    Path,
    /// In lower case.
    Header(String),
    Cookie(String),
    Query(String),
}

impl FromStr for KeySource {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        let parsed = match text.split_once(':') {
            None if text == "source" => Some(KeySource::Source),
            None if text == "path" => Some(KeySource::Path),
            Some(("header", name)) => named(&name.to_ascii_lowercase()).map(KeySource::Header),
            Some(("cookie", name)) => named(name).map(KeySource::Cookie),
            Some(("query", name)) => named(name).map(KeySource::Query),
            _ => None,
        };
        parsed.ok_or_else(|| {
            format!(
                "{text:?} is no key; write source, path, header:NAME, cookie:NAME or query:NAME"
            )
        })
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::Source => f.write_str("source"),
            KeySource::Path => f.write_str("path"),
            KeySource::Header(name) => write!(f, "header:{name}"),
            KeySource::Cookie(name) => write!(f, "cookie:{name}"),
            KeySource::Query(name) => write!(f, "query:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in ["source", "path", "header:x-user", "cookie:Sid", "query:q"] {
            assert_eq!(text.parse::<KeySource>().unwrap().to_string(), text);
        }
        assert_eq!("header:X-User".parse(), Ok(KeySource::Header("x-user".into())));
        for text in ["", "header", "header:", "Source", "body:x"] {
            assert!(text.parse::<KeySource>().is_err(), "{text}");
        }
    }
}
