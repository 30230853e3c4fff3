//! Reads one section of the tree against its table: unknown keys, wrong types and numbers out of
//! bounds are reported here, once, for every section alike.
//!
//! Start with [`Fields::open`]; each typed reader writes to its target only if the key is there
//! and right, so that the target's default stays otherwise.

use std::time::Duration;

use crate::defect::{Report, Span};
use crate::suggest;
use crate::table::{Default, Key, Kind, Section};
use crate::tree::{Entry, Node, Value, quoted};
use crate::units;

pub(crate) struct Fields<'a> {
    pub(crate) report: &'a Report<'a>,
    section: &'static Section,
    /// Where to point when something is missing.
    pub(crate) span: Span,
    entries: &'a [Entry],
    /// Which keys of the table were read, as bits: `decode` must read them all.
    #[cfg(test)]
    read: std::cell::Cell<u64>,
}

/// A value and where it stands.
pub(crate) type Spanned<T> = (T, Span);

impl<'a> Fields<'a> {
    /// `what` names the section in messages (service `web`); `span` is where the section's name
    /// stands.
    pub(crate) fn open(
        report: &'a Report<'a>,
        section: &'static Section,
        what: &str,
        node: &'a Node,
        span: Span,
    ) -> Self {
        let entries: &[Entry] = match &node.value {
            Value::Map(entries) => entries,
            _ => {
                let example = example(section);
                let message = format!("{what} must be a map of keys, not {}", node.describe());
                report.error_help(node.span, message, example);
                &[]
            }
        };
        for entry in entries {
            check_key(report, section, what, entry);
        }
        let is_map = matches!(node.value, Value::Map(_));
        for key in section.keys.iter().filter(|key| matches!(key.default, Default::Required)) {
            let given =
                |entry: &Entry| &*entry.key == key.name || misspelt(section, entry, key.name);
            if is_map && !entries.iter().any(given) {
                report.error_help(
                    span,
                    format!("{what} has no `{}`", key.name),
                    format!("add `{}: {}`", key.name, sample(&key.kind)),
                );
            }
        }
        Self {
            report,
            section,
            span,
            entries,
            #[cfg(test)]
            read: std::cell::Cell::new(0),
        }
    }

    /// The key as the table has it, and its value unless it is absent or empty.
    fn look_up(&self, name: &str) -> (Option<&'static Key>, Option<&'a Entry>) {
        let key = self.section.key(name);
        debug_assert!(key.is_some(), "`{name}` is not in the table of {}", self.section.name);
        #[cfg(test)]
        if let Some(at) = self.section.keys.iter().position(|key| key.name == name) {
            self.read.set(self.read.get() | 1 << at);
        }
        let entry = self.entries.iter().find(|entry| &*entry.key == name);
        (key, entry.filter(|entry| !entry.value.is_null()))
    }

    /// A key whose value the caller decodes.
    pub(crate) fn entry(&self, name: &str) -> Option<&'a Entry> {
        self.look_up(name).1
    }

    /// As [`Self::entry`], in the order of the text.
    pub(crate) fn entries(&self, names: &[&str]) -> impl Iterator<Item = &'a Entry> {
        for name in names {
            self.look_up(name);
        }
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let entries = self.entries.iter();
        entries.filter(move |e| !e.value.is_null() && names.iter().any(|name| **name == *e.key))
    }

    /// Whether the key, or an unknown one that was probably meant to be it, is there: saying that
    /// it is missing would only repeat what is said of that.
    pub(crate) fn has(&self, name: &str) -> bool {
        let has = |e: &Entry| &*e.key == name || misspelt(self.section, e, name);
        self.entries.iter().any(has)
    }

    /// Where the key stands, for messages about it.
    pub(crate) fn key_span(&self, name: &str) -> Span {
        let entry = self.entries.iter().find(|entry| &*entry.key == name);
        entry.map_or(self.span, |entry| entry.key_span)
    }

    /// Decodes a value with `read`; what it refuses is reported as not fitting the table's kind.
    fn value<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Kind, &str) -> Option<T>,
    ) -> Option<Spanned<T>> {
        let (Some(key), Some(entry)) = self.look_up(name) else { return None };
        let value = scalar(&entry.value).and_then(|text| read(&key.kind, text));
        if value.is_none() {
            wrong_kind(self.report, name, &key.kind, &entry.value);
        }
        Some((value?, entry.value.span))
    }

    pub(crate) fn bool(&self, name: &str, target: &mut bool) {
        let value = self.value(name, |_, text| match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        });
        set(target, value);
    }

    pub(crate) fn integer<T: TryFrom<u64>>(&self, name: &str, target: &mut T) {
        set(target, self.value(name, integer));
    }

    pub(crate) fn integer_or_off<T: TryFrom<u64>>(&self, name: &str, target: &mut Option<T>) {
        set(target, self.value(name, |kind, text| or_off(kind, text, integer)));
    }

    pub(crate) fn duration(&self, name: &str, target: &mut Duration) {
        set(target, self.value(name, duration));
    }

    pub(crate) fn duration_or_off(&self, name: &str, target: &mut Option<Duration>) {
        set(target, self.value(name, |kind, text| or_off(kind, text, duration)));
    }

    pub(crate) fn bytes<T: TryFrom<u64>>(&self, name: &str, target: &mut T) {
        set(target, self.value(name, bytes));
    }

    pub(crate) fn bytes_or_off<T: TryFrom<u64>>(&self, name: &str, target: &mut Option<T>) {
        set(target, self.value(name, |kind, text| or_off(kind, text, bytes)));
    }

    pub(crate) fn share(&self, name: &str, target: &mut f64) {
        set(target, self.value(name, |_, text| units::parse_share(text)));
    }

    pub(crate) fn share_or_off(&self, name: &str, target: &mut Option<f64>) {
        set(
            target,
            self.value(name, |kind, text| or_off(kind, text, |_, t| units::parse_share(t))),
        );
    }

    /// Any text; the empty one too.
    pub(crate) fn text(&self, name: &str) -> Option<Spanned<&'a str>> {
        let (Some(key), Some(entry)) = self.look_up(name) else { return None };
        let Some(text) = scalar(&entry.value) else {
            wrong_kind(self.report, name, &key.kind, &entry.value);
            return None;
        };
        Some((text, entry.value.span))
    }

    /// Text that `read` turns into a value or a message.
    pub(crate) fn parsed<T>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Spanned<T>> {
        let (text, span) = self.text(name)?;
        match read(text) {
            Ok(value) => Some((value, span)),
            Err(message) => {
                let (wrong, help) = message.split_once("; ").unwrap_or((&message, ""));
                self.report.error_help(span, format!("`{name}`: {wrong}"), help);
                None
            }
        }
    }

    /// One of the table's words.
    pub(crate) fn word(&self, name: &str) -> Option<Spanned<&'static str>> {
        self.value(name, |kind, text| {
            kind.alternatives().iter().find_map(|kind| match kind {
                Kind::Word(word) if *word == text => Some(*word),
                _ => None,
            })
        })
    }

    /// The items of a list; a single scalar counts as a list of one if the table says so.
    pub(crate) fn list(&self, name: &str) -> Option<&'a [Node]> {
        let (Some(key), Some(entry)) = self.look_up(name) else { return None };
        match &entry.value.value {
            Value::List(items) => Some(items),
            Value::Scalar { .. } if key.kind.alternatives().len() > 1 => {
                Some(std::slice::from_ref(&entry.value))
            }
            _ => {
                wrong_kind(self.report, name, &key.kind, &entry.value);
                None
            }
        }
    }

    /// The entries of a map with free names.
    pub(crate) fn map(&self, name: &str) -> &'a [Entry] {
        let (Some(key), Some(entry)) = self.look_up(name) else { return &[] };
        match &entry.value.value {
            Value::Map(entries) => entries,
            _ => {
                wrong_kind(self.report, name, &key.kind, &entry.value);
                &[]
            }
        }
    }

    /// A section below this one; its name in messages is the key's.
    pub(crate) fn section(&self, name: &str, section: &'static Section) -> Option<Fields<'a>> {
        let entry = self.entry(name)?;
        let what = format!("`{name}`");
        Some(Fields::open(self.report, section, &what, &entry.value, entry.key_span))
    }
}

#[cfg(test)]
impl Drop for Fields<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            for (at, key) in self.section.keys.iter().enumerate() {
                let read = self.read.get() & 1 << at != 0 || matches!(key.kind, Kind::Later);
                assert!(read, "`{}` of {} is never read", key.name, self.section.name);
            }
        }
    }
}

fn set<T>(target: &mut T, value: Option<Spanned<T>>) {
    if let Some((value, _)) = value {
        *target = value;
    }
}

pub(crate) fn scalar(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

fn or_off<T>(
    kind: &Kind,
    text: &str,
    read: impl Fn(&Kind, &str) -> Option<T>,
) -> Option<Option<T>> {
    if text == "off" { Some(None) } else { read(kind, text).map(Some) }
}

pub(crate) fn integer<T: TryFrom<u64>>(kind: &Kind, text: &str) -> Option<T> {
    let number = digits(text)?;
    let fits =
        |kind: &Kind| matches!(kind, Kind::Integer { min, max } if (*min..=*max).contains(&number));
    kind.alternatives().iter().any(fits).then(|| T::try_from(number).ok())?
}

/// A whole number; `_` may separate its digits.
fn digits(text: &str) -> Option<u64> {
    let digit_first = text.starts_with(|c: char| c.is_ascii_digit());
    let all = text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    if digit_first && all { text.replace('_', "").parse().ok() } else { None }
}

pub(crate) fn duration(kind: &Kind, text: &str) -> Option<Duration> {
    let value = units::parse_duration(text).ok()?;
    let fits =
        |kind: &Kind| matches!(kind, Kind::Duration { min, max } if (*min..=*max).contains(&value));
    kind.alternatives().iter().any(fits).then_some(value)
}

fn bytes<T: TryFrom<u64>>(kind: &Kind, text: &str) -> Option<T> {
    let value = units::parse_bytes(&text.replace('_', "")).ok()?;
    let fits =
        |kind: &Kind| matches!(kind, Kind::Bytes { min, max } if (*min..=*max).contains(&value));
    kind.alternatives().iter().any(fits).then(|| T::try_from(value).ok())?
}

fn check_key(report: &Report<'_>, section: &'static Section, what: &str, entry: &Entry) {
    match section.key(&entry.key) {
        Some(Key { kind: Kind::Later, name, .. }) => {
            let message = format!("`{name}` is not available in this version");
            report.error_help(entry.key_span, message, format!("remove `{name}`"));
        }
        Some(Key { name, kind, .. }) if entry.value.is_null() => {
            let message = format!("`{name}` has no value");
            let help = format!("write `{name}: {}`, or remove the key", sample(kind));
            report.error_help(entry.key_span, message, help);
        }
        Some(_) => {}
        None if report.is_full() => report.error(entry.key_span, String::new()),
        None => {
            let message = format!("unknown key {} in {what}", quoted(&entry.key));
            report.error_help(entry.key_span, message, help_for_key(section, &entry.key));
        }
    }
}

/// Whether an entry is unknown and nearest to the key `name`.
fn misspelt(section: &'static Section, entry: &Entry, name: &str) -> bool {
    let names = section.available().map(|key| key.name);
    section.key(&entry.key).is_none() && suggest::nearest(&entry.key, names) == Some(name)
}

/// The key meant: of this section, or of one directly below.
fn help_for_key(section: &'static Section, written: &str) -> String {
    let names = section.available().map(|key| key.name);
    if suggest::nearest(written, names.clone()).is_none() {
        for key in section.available() {
            let direct =
                key.kind.alternatives().iter().any(
                    |kind| matches!(kind, Kind::Section(child) if child.key(written).is_some()),
                );
            if direct {
                return format!("`{written}` belongs to `{}`", key.name);
            }
        }
    }
    suggest::help(written, names, "known keys")
}

/// Reports that a value does not fit its kind, as precisely as the kind allows.
pub(crate) fn wrong_kind(report: &Report<'_>, name: &str, kind: &Kind, node: &Node) {
    if let Some(text) = scalar(node) {
        if let Some(message) = out_of_bounds(name, kind, text) {
            return report.error(node.span, message);
        }
        let words = kind.alternatives().iter().filter_map(|kind| match kind {
            Kind::Word(word) => Some(*word),
            Kind::Bool => Some("true"),
            _ => None,
        });
        let message = format!("`{name}` must be {}, not {}", expected(kind), node.describe());
        return match (suggest::nearest(text, words), kind.alternatives()) {
            (Some(word), _) => {
                report.error_help(node.span, message, format!("did you mean `{word}`?"));
            }
            (None, [Kind::Duration { .. }, ..]) => {
                report.error_help(node.span, message, instead(units::parse_duration(text)));
            }
            (None, [Kind::Bytes { .. }, ..]) => {
                report.error_help(node.span, message, instead(units::parse_bytes(text)));
            }
            _ => report.error_help(node.span, message, format!("write `{name}: {}`", sample(kind))),
        };
    }
    let message = format!("`{name}` must be {}, not {}", expected(kind), node.describe());
    report.error_help(node.span, message, format!("write `{name}: {}`", sample(kind)));
}

/// The second half of a unit's message: what to write.
fn instead<T>(refused: Result<T, String>) -> String {
    let message = refused.err().unwrap_or_default();
    message.split_once("; ").map_or("", |(_, instead)| instead).into()
}

/// "`weight` is 70000, and can be 0 to 65,535", if that is what is wrong.
fn out_of_bounds(name: &str, kind: &Kind, text: &str) -> Option<String> {
    let bounded = kind.alternatives().iter().find(|kind| match kind {
        Kind::Integer { .. } => {
            let digits = text.strip_prefix('-').unwrap_or(text);
            !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
        }
        Kind::Duration { .. } => units::parse_duration(text).is_ok(),
        Kind::Bytes { .. } => units::parse_bytes(text).is_ok(),
        _ => false,
    })?;
    Some(format!("`{name}` is {}, and can be {}", quoted(text).replace('`', ""), bounds(bounded)))
}

fn bounds(kind: &Kind) -> String {
    match kind {
        Kind::Integer { min, max } => {
            format!("{} to {}", units::show_integer(*min), units::show_integer(*max))
        }
        Kind::Bytes { min, max } => {
            format!("{} to {}", units::show_bytes(*min), units::show_bytes(*max))
        }
        Kind::Duration { min, max } => {
            format!("{} to {}", units::show_duration(*min), units::show_duration(*max))
        }
        _ => String::new(),
    }
}

/// What a value of this kind is, with its article.
pub(crate) fn expected(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "`true` or `false`".into(),
        Kind::Integer { .. } => format!("a whole number, {}", bounds(kind)),
        Kind::Bytes { .. } => format!("a number of bytes, {}", bounds(kind)),
        Kind::Duration { .. } => format!("a duration, {}", bounds(kind)),
        Kind::Share => "a share such as `20%` or `0.2`, at most `100%`".into(),
        Kind::Word(word) => format!("`{word}`"),
        Kind::Text(text) => text.what.into(),
        Kind::Section(_) => "a map of keys".into(),
        Kind::ListOf(Kind::Section(section)) => format!("a list of {}s", section.name),
        Kind::ListOf(item) => format!("a list, each {}", expected(item)),
        Kind::MapOf(name, value) => format!("a map from {name} to {}", expected(value)),
        Kind::AnyOf(kinds) => {
            let all: Vec<String> = kinds.iter().map(expected).collect();
            match &*all {
                [one] => one.clone(),
                [first @ .., last] => format!("{} or {last}", first.join(", ")),
                [] => String::new(),
            }
        }
        Kind::Policy => "the name of a policy, or a map from its name to its options".into(),
        Kind::Later => "left out".into(),
    }
}

/// A value of this kind, as it could be written.
pub(crate) fn sample(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "true".into(),
        Kind::Integer { min, max } => (*min).max(1).min(*max).to_string(),
        Kind::Bytes { max, .. } => if *max < 1 << 20 { "8KiB" } else { "1MiB" }.into(),
        Kind::Duration { .. } => "10s".into(),
        Kind::Share => "20%".into(),
        Kind::Word(word) => (*word).into(),
        Kind::Text(text) => text.example.into(),
        Kind::Section(section) => match (section.example, section.keys.first()) {
            ("", Some(key)) => format!("{{ {}: {} }}", key.name, sample(&key.kind)),
            (example, _) => format!("{{ {example} }}"),
        },
        Kind::ListOf(item) => format!("[ {} ]", sample(item)),
        Kind::MapOf(name, value) => format!("{{ {name}: {} }}", sample(value)),
        // Whoever wrote something wanted something.
        Kind::AnyOf(kinds) => {
            let wanted = kinds.iter().find(|kind| !matches!(kind, Kind::Word("off")));
            wanted.or(kinds.first()).map(sample).unwrap_or_default()
        }
        Kind::Policy => "least_request".into(),
        Kind::Later => String::new(),
    }
}

fn example(section: &Section) -> String {
    let keys: Vec<String> =
        section.available().take(8).map(|key| format!("`{}`", key.name)).collect();
    format!("write `KEY: VALUE`; keys: {}", keys.join(", "))
}
