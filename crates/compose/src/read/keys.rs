//! Reads one map of the tree: which keys it may have, and of what kind their values are.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use config::defect::{Report, Span};
use config::suggest;
use config::tree::{Entry, Node, Value, quoted};
use serde_json::{Map, Value as Json};

/// A map whose keys are asked for one by one; [`Keys::finish`] reports those that nobody asked for.
pub(super) struct Keys<'a> {
    pub(super) report: &'a Report<'a>,
    /// In messages: "service `web`".
    pub(super) what: String,
    pub(super) span: Span,
    entries: &'a [Entry],
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Keys<'a> {
    pub(super) fn open(report: &'a Report<'a>, what: String, node: &'a Node) -> Self {
        let entries = map(report, &what, node);
        Self { report, what, span: node.span, entries, asked: RefCell::default() }
    }

    /// The value of a key, unless it is absent or empty.
    pub(super) fn get(&self, name: &'static str) -> Option<&'a Node> {
        self.asked.borrow_mut().push(name);
        let entry = self.entries.iter().find(|entry| &*entry.key == name)?;
        Some(&entry.value).filter(|value| !value.is_null())
    }

    /// Reports what was not asked for: `without_effect` are keys of the specification that change
    /// nothing here, `unsupported` those without which the service would not be what it is to be.
    pub(super) fn finish(self, without_effect: &[&'static str], unsupported: &[&'static str]) {
        let asked = self.asked.borrow();
        for entry in self.entries {
            let key = &*entry.key;
            if asked.contains(&key) || key.starts_with("x-") {
                continue;
            }
            if without_effect.contains(&key) {
                let message = format!("`{key}` of {} has no effect here", self.what);
                self.report.warning(entry.key_span, message, "it is passed over");
            } else if unsupported.contains(&key) {
                let message = format!("`{key}` of {} is not supported", self.what);
                self.report.error_help(entry.key_span, message, "remove it, or use docker compose");
            } else {
                let known = asked.iter().chain(without_effect).chain(unsupported).copied();
                let known: Vec<&str> = known.collect();
                let message = format!("unknown key {} in {}", quoted(key), self.what);
                let help = suggest::help(key, known.iter().copied(), "known keys");
                self.report.error_help(entry.key_span, message, help);
            }
        }
    }

    pub(super) fn text(&self, name: &'static str) -> Option<String> {
        let node = self.get(name)?;
        text(self.report, name, node)
    }

    pub(super) fn bool(&self, name: &'static str) -> Option<bool> {
        let node = self.get(name)?;
        match scalar(node) {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => self.wrong(node, name, "true or false"),
        }
    }

    pub(super) fn integer(&self, name: &'static str) -> Option<i64> {
        let node = self.get(name)?;
        match scalar(node).and_then(|text| text.parse().ok()) {
            Some(number) => Some(number),
            None => self.wrong(node, name, "a whole number"),
        }
    }

    pub(super) fn number(&self, name: &'static str) -> Option<f64> {
        let node = self.get(name)?;
        match scalar(node).and_then(|text| text.parse::<f64>().ok()) {
            Some(number) if number.is_finite() => Some(number),
            _ => self.wrong(node, name, "a number"),
        }
    }

    pub(super) fn bytes(&self, name: &'static str) -> Option<i64> {
        let node = self.get(name)?;
        match scalar(node).and_then(parse_bytes) {
            Some(bytes) => Some(bytes),
            None => self.wrong(node, name, "a number of bytes, such as 512m or 1gb"),
        }
    }

    pub(super) fn duration(&self, name: &'static str) -> Option<Duration> {
        let node = self.get(name)?;
        match scalar(node).and_then(parse_duration) {
            Some(duration) => Some(duration),
            None => self.wrong(node, name, "a duration, such as 30s or 1m30s"),
        }
    }

    /// A list of texts; one text counts as a list of one.
    pub(super) fn texts(&self, name: &'static str) -> Option<Vec<String>> {
        let node = self.get(name)?;
        match &node.value {
            Value::List(items) => {
                Some(items.iter().filter_map(|item| text(self.report, name, item)).collect())
            }
            Value::Scalar { text, .. } => Some(vec![text.to_string()]),
            Value::Map(_) => self.wrong(node, name, "a list"),
        }
    }

    /// The items of a list, whatever they are.
    pub(super) fn items(&self, name: &'static str) -> &'a [Node] {
        let Some(node) = self.get(name) else { return &[] };
        match &node.value {
            Value::List(items) => items,
            _ => {
                let _: Option<()> = self.wrong(node, name, "a list");
                &[]
            }
        }
    }

    /// A command: a list of words, or a line that is split as a shell does.
    pub(super) fn command(&self, name: &'static str) -> Option<Vec<String>> {
        let node = self.get(name)?;
        match &node.value {
            Value::List(_) => self.texts(name),
            Value::Scalar { text, .. } => match shlex::split(text) {
                Some(words) => Some(words),
                None => self.wrong(node, name, "a command whose quotes are closed"),
            },
            Value::Map(_) => self.wrong(node, name, "a command"),
        }
    }

    /// `NAME: VALUE`, or a list of `NAME=VALUE`. A name alone has no value.
    pub(super) fn pairs(&self, name: &'static str) -> BTreeMap<String, Option<String>> {
        let mut pairs = BTreeMap::new();
        let Some(node) = self.get(name) else { return pairs };
        match &node.value {
            Value::Map(entries) => {
                for entry in entries {
                    let value = if entry.value.is_null() {
                        None
                    } else {
                        match text(self.report, &entry.key, &entry.value) {
                            Some(value) => Some(value),
                            None => continue,
                        }
                    };
                    pairs.insert(entry.key.to_string(), value);
                }
            }
            Value::List(items) => {
                for item in items {
                    let Some(item) = text(self.report, name, item) else { continue };
                    match item.split_once('=') {
                        Some((name, value)) => pairs.insert(name.into(), Some(value.into())),
                        None => pairs.insert(item, None),
                    };
                }
            }
            Value::Scalar { .. } => {
                let _: Option<()> = self.wrong(node, name, "a map, or a list of NAME=VALUE");
            }
        }
        pairs
    }

    /// As [`Keys::pairs`], a missing value being an empty one.
    pub(super) fn labels(&self, name: &'static str) -> BTreeMap<String, String> {
        self.pairs(name).into_iter().map(|(k, v)| (k, v.unwrap_or_default())).collect()
    }

    /// The entries of a map with free names.
    pub(super) fn entries(&self, name: &'static str) -> &'a [Entry] {
        let Some(node) = self.get(name) else { return &[] };
        map(self.report, &format!("`{name}`"), node)
    }

    pub(super) fn section(&self, name: &'static str) -> Option<Keys<'a>> {
        let node = self.get(name)?;
        Some(Keys::open(self.report, format!("`{name}` of {}", self.what), node))
    }

    pub(super) fn wrong<T>(&self, node: &Node, name: &str, expected: &str) -> Option<T> {
        let message = format!("`{name}` must be {expected}, not {}", node.describe());
        self.report.error(node.span, message);
        None
    }
}

fn map<'a>(report: &Report<'_>, what: &str, node: &'a Node) -> &'a [Entry] {
    match &node.value {
        Value::Map(entries) => entries,
        _ if node.is_null() => &[],
        _ => {
            let message = format!("{what} must be a map of keys, not {}", node.describe());
            report.error(node.span, message);
            &[]
        }
    }
}

pub(super) fn scalar(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

pub(super) fn text(report: &Report<'_>, name: &str, node: &Node) -> Option<String> {
    match scalar(node) {
        Some(text) if !text.contains('\0') => Some(text.to_owned()),
        _ => {
            let message = format!("`{name}` must be text, not {}", node.describe());
            report.error(node.span, message);
            None
        }
    }
}

/// The specification's durations: `1h5m30s20ms`, in `us`, `ms`, `s`, `m` and `h`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 5] = [
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let mut rest = text.trim();
    let mut nanos = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == &rest[..unit])?;
        nanos += number * *factor as f64;
        rest = &rest[unit..];
    }
    // A hundred years, far from what a `Duration` or the engine's 64 bits can hold.
    (nanos < 3.2e18).then(|| Duration::from_nanos(nanos as u64))
}

/// The specification's numbers of bytes: `300`, `1024kb`, `512m`, `1.5gb`: powers of 1,024.
pub(crate) fn parse_bytes(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_lowercase();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..split].parse().ok()?;
    let factor = match text[split..].trim() {
        "" | "b" => 1_u64,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        "t" | "tb" => 1 << 40,
        _ => return None,
    };
    let bytes = number * factor as f64;
    (bytes < 9e18).then_some(bytes as i64)
}

/// The tree as JSON, plain scalars typed as YAML's core schema types them.
pub(crate) fn json(node: &Node) -> Json {
    match &node.value {
        Value::Scalar { .. } if node.is_null() => Json::Null,
        Value::Scalar { text, plain: true } => match &**text {
            "true" | "True" | "TRUE" => Json::Bool(true),
            "false" | "False" | "FALSE" => Json::Bool(false),
            text => {
                let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
                let number = digits.starts_with(|c: char| c.is_ascii_digit());
                let integer = number.then(|| text.parse::<i64>().ok()).flatten();
                let float = || {
                    let plain = number && digits.contains('.');
                    plain.then(|| text.parse::<f64>().ok()).flatten()
                };
                match integer {
                    Some(integer) => integer.into(),
                    None => float().map_or_else(|| text.into(), Json::from),
                }
            }
        },
        Value::Scalar { text, .. } => Json::from(&**text),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => {
            let entries = entries.iter().map(|e| (e.key.to_string(), json(&e.value)));
            Json::Object(entries.collect::<Map<String, Json>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_the_specification() {
        for (text, millis) in [
            ("10s", Some(10_000)),
            ("1m30s", Some(90_000)),
            ("1h5m30s20ms", Some(3_930_020)),
            ("1.5s", Some(1_500)),
            ("500us", Some(0)),
            ("", None),
            ("10", None),
            ("s", None),
            ("1d", None),
            ("999999999999h", None),
        ] {
            let found = parse_duration(text).map(|d| d.as_millis());
            assert_eq!(found, millis, "{text}");
        }
        for (text, bytes) in [
            ("300", Some(300)),
            ("1k", Some(1024)),
            ("64M", Some(64 << 20)),
            ("1.5gb", Some(3 << 29)),
            ("1 gb", Some(1 << 30)),
            ("x", None),
            ("1q", None),
            ("", None),
            ("99999999tb", None),
        ] {
            assert_eq!(parse_bytes(text), bytes, "{text}");
        }
    }
}
