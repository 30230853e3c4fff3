//! YAML text to a tree of nodes that know where they stand.
//!
//! For: everything about YAML itself: syntax errors in words, duplicate keys, aliases, merge keys
//! (`<<`), and the bounds that keep a hostile text small.
//! Never: knows what a key means, or what type a scalar has; all scalars are text.
//! Start with [`read`].

use std::collections::{BTreeMap, BTreeSet};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError};

use crate::defect::{Report, Span};

/// Bytes of one configuration. 10,000 routes take about 1 MiB.
pub const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Maps and lists inside each other; the format itself needs 8.
const DEPTH_MAX: usize = 32;
/// Nodes of the tree with all aliases written out, so that a few nested aliases ("billion
/// laughs") cannot fill the memory. At about 100 bytes each.
pub(crate) const NODES_MAX: usize = 1_000_000;

#[derive(Clone, Debug)]
pub struct Node {
    pub span: Span,
    pub value: Value,
    /// Only in texts that may have one: see [`read_tagged`].
    pub tag: Option<Tag>,
}

/// What the Compose Specification ("Merge") lets a value say of what it is merged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// `!reset`: the key is as if nobody had written it.
    Reset,
    /// `!override`: it takes the place of what there is, as a whole.
    Override,
}

#[derive(Clone, Debug)]
pub enum Value {
    Scalar {
        text: Box<str>,
        /// Without quotes.
        plain: bool,
    },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: Box<str>,
    pub key_span: Span,
    pub value: Node,
}

impl Node {
    /// Written as nothing, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true }
            if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What it is, in a sentence: "..., not a list".
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Scalar { .. } if self.is_null() => "nothing".into(),
            Value::Scalar { text, .. } => quoted(text),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map of keys".into(),
        }
    }

    /// How many there are, itself and keys included.
    pub fn nodes(&self) -> usize {
        1 + match &self.value {
            Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(Node::nodes).sum(),
            Value::Map(entries) => entries.iter().map(|e| 1 + e.value.nodes()).sum(),
        }
    }
}

/// Text in a message: between backticks, cut if long, on one line.
pub fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let mut shown: String =
        text.chars().take(CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        shown.push_str("...");
    }
    format!("`{shown}`")
}

/// The tree of a text; `None` after a defect that leaves nothing to look at.
pub fn read(text: &str, report: &Report<'_>) -> Option<Node> {
    read_at(text, 0, report)
}

/// A tree, and what could make one part of its text depend on another.
pub(crate) struct Tree {
    pub(crate) root: Node,
    /// How many count towards [`NODES_MAX`].
    pub(crate) nodes: usize,
    /// No anchor, alias, merge (`<<`) or tag stands anywhere: each value means what it says where it
    /// stands.
    pub(crate) is_plain: bool,
}

/// As [`read`], with what else was seen.
pub(crate) fn read_whole(text: &str, report: &Report<'_>) -> Option<Tree> {
    read_with(text, 0, report, false)
}

/// The same of a text that the report holds beside its first: `base` is what
/// [`Report::include`] answered.
pub fn read_at(text: &str, base: u32, report: &Report<'_>) -> Option<Node> {
    read_with(text, base, report, false).map(|tree| tree.root)
}

/// The same of a text in which the tags `!reset` and `!override` mean something.
pub fn read_tagged(text: &str, base: u32, report: &Report<'_>) -> Option<Node> {
    read_with(text, base, report, true).map(|tree| tree.root)
}

fn read_with(text: &str, base: u32, report: &Report<'_>, tagged: bool) -> Option<Tree> {
    let whole = Span { start: base, end: base };
    if text.len() > TEXT_BYTES_MAX {
        let limit = TEXT_BYTES_MAX / (1024 * 1024);
        report.error(whole, format!("the text is longer than {limit} MiB"));
        return None;
    }
    let mut options = granit_parser::options! {
        disallow_directives: true,
        emit_unresolved_aliases: true,
        flow_nesting_limit: DEPTH_MAX,
        block_nesting_limit: DEPTH_MAX,
    };
    options.set_emit_comments(false);
    let mut builder = Builder {
        report,
        tagged,
        open: Vec::new(),
        root: None,
        anchors: BTreeMap::new(),
        nodes: 0,
        is_plain: true,
    };
    for event in Parser::new_from_str_with_options(text, options) {
        let step =
            event.map_err(|error| syntax(&error, text, base, report)).and_then(|(event, span)| {
                let offset =
                    |marker: granit_parser::Marker| base + marker.byte_offset().unwrap_or(0) as u32;
                let span = Span { start: offset(span.start), end: offset(span.end) };
                builder.take(event, span)
            });
        if step.is_err() {
            return None;
        }
    }
    if builder.root.is_none() {
        report.error_help(
            whole,
            "the text holds no configuration",
            "the least is `listeners: { web: { bind: :8080, service: web } }` and \
             `services: { web: { endpoints: [ :5001 ] } }`",
        );
    }
    let Builder { root, nodes, is_plain, .. } = builder;
    Some(Tree { root: root?, nodes, is_plain })
}

/// A defect was reported, and reading cannot go on.
struct Stop;

struct Builder<'a> {
    report: &'a Report<'a>,
    /// Tags are read.
    tagged: bool,
    open: Vec<Open>,
    root: Option<Node>,
    /// Finished nodes that an alias can name, by the parser's number.
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    is_plain: bool,
}

/// A list or map that has begun and not ended.
struct Open {
    span: Span,
    anchor: usize,
    tag: Option<Tag>,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, keys: BTreeSet<Box<str>>, key: Option<Node>, merges: Vec<Node> },
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        self.is_plain &= is_plain(&event);
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                self.report.error_help(
                    span,
                    "a second YAML document begins here",
                    "a configuration is one document: remove the `---`",
                );
                Err(Stop)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let tag = self.tag(tag.as_deref().map(|tag| tag.suffix()), span);
                let plain = style == ScalarStyle::Plain;
                let value = Value::Scalar { text: text.as_ref().into(), plain };
                self.put(Node { span, value, tag }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                let tag = self.tag(tag.as_deref().map(|tag| tag.suffix()), span);
                self.open.push(Open { span, anchor, tag, content: Content::List(Vec::new()) });
                Ok(())
            }
            Event::MappingStart(_, anchor, tag) => {
                let tag = self.tag(tag.as_deref().map(|tag| tag.suffix()), span);
                let content = Content::Map {
                    entries: Vec::new(),
                    keys: BTreeSet::new(),
                    key: None,
                    merges: Vec::new(),
                };
                self.open.push(Open { span, anchor, tag, content });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(id) => self.alias(id, span),
            Event::UnresolvedAlias(name) => {
                self.report.error_help(
                    span,
                    format!(
                        "`*{name}` is an alias in YAML, and no anchor `&{name}` stands before it"
                    ),
                    format!("if the text itself is meant, put it in quotes: \"*{name}\""),
                );
                let value = Value::Scalar { text: format!("*{name}").into(), plain: false };
                self.put(Node { span, value, tag: None }, 0)
            }
            _ => Ok(()),
        }
    }

    fn tag(&self, name: Option<&str>, span: Span) -> Option<Tag> {
        match (name?, self.tagged) {
            ("reset", true) => return Some(Tag::Reset),
            ("override", true) => return Some(Tag::Override),
            (_, true) => {
                let message = "of YAML tags only `!reset` and `!override` have a meaning here";
                self.report.error_help(span, message, "remove the `!...`");
            }
            (_, false) => {
                let message = "YAML tags have no meaning here";
                self.report.error_help(span, message, "remove the `!...`");
            }
        }
        None
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<(), Stop> {
        let Some(node) = self.anchors.get(&id) else {
            self.report.error(span, "this alias stands inside the very node that it names");
            return Err(Stop);
        };
        // The copy is counted before it is made.
        let nodes = node.nodes();
        self.count(nodes, span)?;
        let node = self.anchors[&id].clone();
        self.put(node, 0)
    }

    fn close(&mut self, end: Span) -> Result<(), Stop> {
        // The parser balances starts and ends; without an open node there is nothing to close.
        let Some(Open { span, anchor, tag, content }) = self.open.pop() else { return Ok(()) };
        let span = Span { start: span.start, end: end.end.max(span.end) };
        let value = match content {
            Content::List(items) => Value::List(items),
            Content::Map { mut entries, mut keys, merges, .. } => {
                self.is_plain &= merges.is_empty();
                for merge in merges {
                    self.merge(merge, &mut entries, &mut keys);
                }
                Value::Map(entries)
            }
        };
        self.put(Node { span, value, tag }, anchor)
    }

    /// `<<: *base` or `<<: [*a, *b]`: their keys are taken where the map has none of its own.
    fn merge(&self, merge: Node, entries: &mut Vec<Entry>, keys: &mut BTreeSet<Box<str>>) {
        match merge.value {
            Value::Map(merged) => {
                entries.extend(merged.into_iter().filter(|e| keys.insert(e.key.clone())));
            }
            Value::List(items) if items.iter().all(|i| matches!(i.value, Value::Map(_))) => {
                items.into_iter().for_each(|item| self.merge(item, entries, keys));
            }
            _ => self.report.error_help(
                merge.span,
                "`<<` merges the keys of another map",
                "write `<<: *NAME`, where a map above is marked with `&NAME`",
            ),
        }
    }

    fn count(&mut self, nodes: usize, span: Span) -> Result<(), Stop> {
        self.nodes += nodes;
        if self.nodes <= NODES_MAX {
            return Ok(());
        }
        let message = format!("more than {NODES_MAX} values, with aliases (`*name`) written out");
        self.report.error(span, message);
        Err(Stop)
    }

    /// A node is complete: it becomes a key, a value, an item or the root.
    fn put(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        self.count(1, node.span)?;
        if anchor != 0 {
            self.count(node.nodes(), node.span)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open { content: Content::List(items), .. }) => items.push(node),
            Some(Open { content: Content::Map { entries, keys, key, merges }, .. }) => {
                match key.take() {
                    None => *key = Some(node),
                    Some(name) => {
                        if let Some(entry) = entry(name, node, keys, merges, self.report) {
                            entries.push(entry);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Neither names something nor refers to it, and has no tag.
fn is_plain(event: &Event<'_>) -> bool {
    match event {
        Event::Scalar(_, _, anchor, tag)
        | Event::SequenceStart(_, anchor, tag)
        | Event::MappingStart(_, anchor, tag) => *anchor == 0 && tag.is_none(),
        Event::Alias(_) | Event::UnresolvedAlias(_) => false,
        _ => true,
    }
}

fn entry(
    name: Node,
    value: Node,
    keys: &mut BTreeSet<Box<str>>,
    merges: &mut Vec<Node>,
    report: &Report<'_>,
) -> Option<Entry> {
    let Value::Scalar { text: key, plain } = name.value else {
        report.error_help(
            name.span,
            "a key must be text, not a list or a map",
            "put it in quotes if it begins with `[` or `{`",
        );
        return None;
    };
    if plain && &*key == "<<" {
        merges.push(value);
        return None;
    }
    if !keys.insert(key.clone()) {
        report.error_help(
            name.span,
            format!("{} stands twice in this map", quoted(&key)),
            "keep one of the two",
        );
        return None;
    }
    Some(Entry { key, key_span: name.span, value })
}

/// A syntax error, in the words of the person who wrote the text.
fn syntax(error: &ScanError, text: &str, base: u32, report: &Report<'_>) -> Stop {
    use ErrorKind as E;
    let start = error.marker().byte_offset().unwrap_or(0).min(text.len());
    // An error at the very end is shown on the last line that has something on it.
    let start = if start == text.len() { text.trim_end().len() } else { start };
    let span = Span { start: base + start as u32, end: base + start as u32 };
    let quote = "put the text in quotes";
    match error.kind() {
        _ if text[..start].ends_with(']') && text[start..].starts_with(':') => {
            report.error_help(
                span,
                "a list ends at the `]`",
                "put text that begins with `[` in quotes, such as \"[::1]:80\"",
            );
        }
        E::TabInBlockIndentation
        | E::TabNotAllowed
        | E::TabInIndentation
        | E::TabAtBlockScalarStart
        | E::TabInPlainScalar => {
            report.error_help(span, "a tab cannot indent in YAML", "use spaces");
        }
        E::UnclosedQuotedScalar => {
            report.error_help(span, "this quote is never closed", "add the closing quote");
        }
        E::UnclosedFlowCollection { open } => {
            let close = if *open == '[' { ']' } else { '}' };
            let help = format!("add the `{close}`");
            report.error_help(span, format!("this `{open}` is never closed"), help);
        }
        E::UnexpectedEofFlowSequence
        | E::UnexpectedEofFlowMapping
        | E::UnexpectedEofImplicitFlowMapping => {
            report.error_help(span, "the text ends inside a `[` or `{`", "add the closing bracket");
        }
        E::ExpectedFlowMappingSeparator => {
            report.error_help(
                span,
                "a `,` or `}` is missing here",
                "keys between `{` and `}` are separated by commas; text that holds `: ` needs quotes",
            );
        }
        E::ExpectedFlowSequenceSeparator => {
            report.error_help(
                span,
                "a `,` or `]` is missing here",
                "items between `[` and `]` are separated by commas; text that begins with `[`, \
                 such as \"[::1]:80\", needs quotes",
            );
        }
        E::MissingAnchorOrAliasName => {
            report.error_help(
                span,
                "`*` and `&` begin an alias or an anchor in YAML",
                format!("{quote}, as in \"*\""),
            );
        }
        E::MappingValueNotAllowed | E::InvalidColonPlacement | E::InvalidMappingValueWhitespace => {
            report.error_help(
                span,
                "a key and its `:` cannot stand here",
                "put text that holds `: ` in quotes; if a new key is meant, indent it like its \
                 neighbours",
            );
        }
        E::ExpectedBlockMappingKey
        | E::InvalidIndentation
        | E::ExpectedBlockSequenceEntry
        | E::SimpleKeyExpected
        | E::InvalidSimpleKey => {
            report.error_help(
                span,
                "this line fits none of the lines above",
                "write `key: value`, and indent keys of one map alike",
            );
        }
        E::UnexpectedCharacter { character } => {
            let message = format!("no text can begin with `{}`", character.escape_default());
            report.error_help(span, message, quote);
        }
        E::RecursionLimitExceeded => {
            let message = format!("more than {DEPTH_MAX} maps or lists inside each other");
            report.error(span, message);
        }
        E::DirectiveDisallowed => {
            report.error_help(span, "YAML directives have no meaning here", "remove the line");
        }
        _ => report.error(span, format!("no valid YAML: {}", error.info())),
    }
    Stop
}
