//! How the format describes itself: sections, their keys, and what a key may hold.
//!
//! One table (`keys`) feeds the check for unknown keys, the bounds of numbers, the JSON Schema and
//! the manual, so that they cannot drift apart.
//! Never: reads a text; that is `fields` and `decode`.

use std::time::Duration;

/// A map with fixed keys.
#[derive(Debug)]
pub(crate) struct Section {
    /// In the schema and the manual; unique.
    pub(crate) name: &'static str,
    pub(crate) doc: &'static str,
    /// How it could be written, between braces; empty: its first key alone.
    pub(crate) example: &'static str,
    pub(crate) keys: &'static [Key],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// As it would be written, or what happens without it.
    pub(crate) default: Default,
    pub(crate) doc: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Default {
    /// The key must be there.
    Required,
    /// Writing this has the same effect as leaving the key out.
    Written(&'static str),
    /// What leaving it out means, where no value says the same.
    Means(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Bool,
    Integer {
        min: u64,
        max: u64,
    },
    Bytes {
        min: u64,
        max: u64,
    },
    Duration {
        min: Duration,
        max: Duration,
    },
    /// `20%` or `0.2`.
    Share,
    /// The one word, which must be text.
    Word(&'static str),
    Text(Text),
    Section(&'static Section),
    ListOf(&'static Kind),
    /// Free names (what the names are) with values of one kind.
    MapOf(&'static str, &'static Kind),
    AnyOf(&'static [Kind]),
    /// A policy's name, or a map from its name to its options.
    Policy,
    /// Known, and not available in this version.
    Later,
}

/// Text with a form of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text {
    /// What it is, with its article: `an address`.
    pub(crate) what: &'static str,
    /// An example, for messages, the schema and the manual.
    pub(crate) example: &'static str,
    /// Whether a bare number (or `true`) is such a text too.
    pub(crate) number: bool,
}

impl Section {
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The keys that this version has.
    pub(crate) fn available(&self) -> impl Iterator<Item = &'static Key> + Clone + use<> {
        self.keys.iter().filter(|key| !matches!(key.kind, Kind::Later))
    }
}

impl Kind {
    /// The kinds that a value may have: those of `AnyOf`, or itself.
    pub(crate) fn alternatives(&self) -> &[Kind] {
        match self {
            Kind::AnyOf(kinds) => kinds,
            kind => std::slice::from_ref(kind),
        }
    }

    /// The sections directly below.
    pub(crate) fn sections(&self) -> Vec<&'static Section> {
        match self {
            Kind::Section(section) => vec![section],
            Kind::ListOf(kind) | Kind::MapOf(_, kind) => kind.sections(),
            Kind::AnyOf(kinds) => kinds.iter().flat_map(Kind::sections).collect(),
            _ => Vec::new(),
        }
    }
}

impl Key {
    pub(crate) const fn new(
        name: &'static str,
        kind: Kind,
        default: Default,
        doc: &'static str,
    ) -> Key {
        Key { name, kind, default, doc }
    }

    pub(crate) const fn later(name: &'static str) -> Key {
        Key { name, kind: Kind::Later, default: Default::Means(""), doc: "" }
    }
}

/// All sections, each once: a section, then those below it.
pub(crate) fn sections(root: &'static Section) -> Vec<&'static Section> {
    fn visit(section: &'static Section, found: &mut Vec<&'static Section>) {
        if !found.iter().any(|known| known.name == section.name) {
            found.push(section);
            for key in section.keys {
                key.kind.sections().into_iter().for_each(|child| visit(child, found));
            }
        }
    }
    let mut found = Vec::new();
    visit(root, &mut found);
    found
}
