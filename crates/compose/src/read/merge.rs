//! One tree on top of another, by the rules of the Compose Specification ("Merge"): several files,
//! and a service on top of the one that it extends. Pure.
//!
//! Maps are merged key by key, lists are appended, and one value takes the other's place; what
//! differs from that is in [`rule`]. A value with the tag `!reset` takes the key away, and one with
//! `!override` takes the place of what there was as a whole.

use std::collections::BTreeSet;

use config::defect::Report;
use config::tree::{Entry, Node, Tag, Value};

use super::keys::scalar;

/// How two values of one key become one.
enum Rule {
    /// As their kinds say.
    Kind,
    /// The later one counts alone.
    Replace,
    /// `NAME: VALUE`, or a list of them with one of these characters between: by name.
    Pairs(&'static [char]),
    /// A list of names, or a map of them: by name.
    Named,
    /// Text, or a map in which the text stands for this key.
    Short(&'static str),
    /// A list, or one item: what has the same key takes the other's place.
    Unique(fn(&Node) -> String),
}

/// `path`: from the top of the file.
fn rule(path: &[&str]) -> Rule {
    match path {
        ["services", _, key @ ..] => match key {
            ["command" | "entrypoint" | "extends"] | ["healthcheck", "test"] => Rule::Replace,
            ["environment" | "labels" | "annotations" | "sysctls"]
            | ["build", "args" | "labels"]
            | ["deploy", "labels"] => Rule::Pairs(&['=']),
            ["extra_hosts"] => Rule::Pairs(&['=', ':']),
            ["networks" | "depends_on"] => Rule::Named,
            ["build"] => Rule::Short("context"),
            ["ports"] => Rule::Unique(port),
            ["volumes"] => Rule::Unique(mounted),
            ["secrets" | "configs"] => Rule::Unique(given),
            [
                "expose" | "dns" | "dns_search" | "dns_opt" | "cap_add" | "cap_drop" | "tmpfs"
                | "env_file" | "devices" | "security_opt" | "group_add" | "profiles",
            ] => Rule::Unique(whole),
            _ => Rule::Kind,
        },
        ["networks" | "volumes", _, "labels" | "driver_opts"] => Rule::Pairs(&['=']),
        ["networks", _, "ipam", "config"] => Rule::Unique(subnet),
        _ => Rule::Kind,
    }
}

/// A whole file on top of another.
pub(super) fn files(base: &mut Node, over: Node) {
    merge(base, over, &mut Vec::new());
}

/// A service on top of another.
pub(super) fn services(base: &mut Node, over: Node) {
    merge(base, over, &mut vec!["services".into(), "".into()]);
}

/// Once nothing more is merged: what is to be reset is not there, and tags elsewhere are told.
pub(super) fn settle(node: &mut Node, report: &Report<'_>) {
    match &mut node.value {
        Value::Scalar { .. } => {}
        Value::List(items) => {
            for item in items {
                if item.tag.take().is_some() {
                    let message = "the tags `!reset` and `!override` have no meaning in a list";
                    report.error_help(item.span, message, "put it in front of the whole list");
                }
                settle(item, report);
            }
        }
        Value::Map(entries) => {
            entries.retain(|entry| entry.value.tag != Some(Tag::Reset));
            entries.iter_mut().for_each(|entry| settle(&mut entry.value, report));
        }
    }
}

/// Trees are not deep: their reader has a bound.
fn merge(base: &mut Node, over: Node, path: &mut Vec<Box<str>>) {
    let keys: Vec<&str> = path.iter().map(|key| &**key).collect();
    let rule = rule(&keys);
    let is_text = |node: &Node| scalar(node).is_some();
    match rule {
        Rule::Replace => *base = over,
        // Empty over something: nothing is said of it.
        _ if over.is_null() && !is_text(base) => {}
        Rule::Kind if another_driver(&keys, base, &over) => *base = over,
        Rule::Kind => by_kind(base, over, path),
        Rule::Pairs(between) => by_kind_as(base, over, path, |node| pairs(node, between)),
        Rule::Named => by_kind_as(base, over, path, |node| pairs(node, &[])),
        Rule::Short(key) => by_kind_as(base, over, path, |node| short(node, key)),
        Rule::Unique(key) => unique(base, over, key),
    }
}

fn by_kind(base: &mut Node, over: Node, path: &mut Vec<Box<str>>) {
    match (&mut base.value, over.value) {
        (Value::Map(there), Value::Map(entries)) => {
            for entry in entries {
                match entry.value.tag {
                    Some(Tag::Reset) => {
                        there.retain(|other| other.key != entry.key);
                        continue;
                    }
                    Some(Tag::Override) => there.retain(|other| other.key != entry.key),
                    None => {}
                }
                match there.iter_mut().find(|other| other.key == entry.key) {
                    Some(other) => {
                        path.push(entry.key);
                        merge(&mut other.value, entry.value, path);
                        path.pop();
                    }
                    None => there.push(entry),
                }
            }
        }
        (Value::List(there), Value::List(items)) => there.extend(items),
        (_, value) => *base = Node { value, ..over },
    }
}

/// Lists are appended as they are; where one of the two is a map, so becomes the other.
fn by_kind_as(
    base: &mut Node,
    mut over: Node,
    path: &mut Vec<Box<str>>,
    as_map: impl Fn(&mut Node),
) {
    as_map(base);
    as_map(&mut over);
    by_kind(base, over, path);
}

/// `[A=1, B]` as `{ A: 1, B: }`. What is no text stays, and is told of by whoever reads it.
fn pairs(node: &mut Node, between: &[char]) {
    let Value::List(items) = &node.value else { return };
    let mut entries: Vec<Entry> = Vec::new();
    for item in items {
        let Some(text) = scalar(item) else { return };
        let (key, value) = match text.split_once(between) {
            Some((key, value)) if !between.is_empty() => (key, Some(value)),
            _ => (text, None),
        };
        let value = Value::Scalar { text: value.unwrap_or("").into(), plain: value.is_none() };
        let value = Node { span: item.span, value, tag: None };
        match entries.iter_mut().find(|entry| &*entry.key == key) {
            Some(entry) => entry.value = value,
            None => entries.push(Entry { key: key.into(), key_span: item.span, value }),
        }
    }
    node.value = Value::Map(entries);
}

/// `.` as `{ context: . }`.
fn short(node: &mut Node, key: &str) {
    if node.is_null() || scalar(node).is_none() {
        return;
    }
    let entry = Entry { key: key.into(), key_span: node.span, value: node.clone() };
    node.value = Value::Map(vec![entry]);
}

fn unique(base: &mut Node, over: Node, key: fn(&Node) -> String) {
    let items = |node: Node| match node.value {
        Value::List(items) => items,
        _ => vec![node],
    };
    let span = over.span;
    let over = items(over);
    let replaced: BTreeSet<String> = over.iter().map(key).collect();
    let there = std::mem::replace(base, Node { span, value: Value::List(Vec::new()), tag: None });
    let there = items(there).into_iter().filter(|item| !replaced.contains(&key(item)));
    base.value = Value::List(there.chain(over).collect());
}

/// Options of one logging driver mean nothing to another.
fn another_driver(path: &[&str], base: &Node, over: &Node) -> bool {
    let driver = |node: &Node| child(node, "driver").map(str::to_owned);
    matches!(path, ["services", _, "logging"])
        && driver(over).is_some_and(|over| driver(base).is_some_and(|base| base != over))
}

fn child<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    let Value::Map(entries) = &node.value else { return None };
    scalar(&entries.iter().find(|entry| &*entry.key == key)?.value)
}

fn whole(node: &Node) -> String {
    scalar(node).or_else(|| child(node, "path")).unwrap_or_default().to_owned()
}

/// By address, both numbers and protocol.
fn port(node: &Node) -> String {
    if let Some(text) = scalar(node) {
        return if text.contains('/') { text.to_owned() } else { format!("{text}/tcp") };
    }
    let part = |key: &str| child(node, key).map(|text| format!("{text}:")).unwrap_or_default();
    let target = child(node, "target").unwrap_or_default();
    let protocol = child(node, "protocol").unwrap_or("tcp");
    format!("{}{}{target}/{protocol}", part("host_ip"), part("published"))
}

/// By the place in the container.
fn mounted(node: &Node) -> String {
    let place = match scalar(node) {
        Some(text) => text.split(':').nth(1).unwrap_or(text),
        None => child(node, "target").unwrap_or_default(),
    };
    place.trim_end_matches('/').to_owned()
}

fn given(node: &Node) -> String {
    let place = child(node, "target").or_else(|| child(node, "source"));
    scalar(node).or(place).unwrap_or_default().to_owned()
}

fn subnet(node: &Node) -> String {
    child(node, "subnet").unwrap_or_default().to_owned()
}
