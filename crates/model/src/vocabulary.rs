//! What a table entry says of itself, so that one entry feeds the configuration's checks, the
//! schema, `evenkeel policies` and the manual, while `config` never sees the crates that own
//! the tables.

use std::fmt;
use std::time::Duration;

/// One balancing policy as its table describes it.
#[derive(Clone, Copy, Debug)]
pub struct PolicyInfo {
    /// As written in a configuration: `least_request`.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    pub options: &'static [OptionInfo],
}

/// One option of a policy.
#[derive(Clone, Copy, Debug)]
pub struct OptionInfo {
    pub name: &'static str,
    pub summary: &'static str,
    pub kind: OptionKind,
    /// What holds where nothing is written; of the same kind.
    pub default: OptionDefault,
}

/// The default of an option. Displayed as it would be written in a configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OptionDefault {
    Bool(bool),
    Integer(u64),
    Float(f64),
    Duration(Duration),
    Text(&'static str),
}

impl fmt::Display for OptionDefault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::Duration(value) => write!(f, "{value:?}"),
            Self::Text(value) => value.fmt(f),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OptionKind {
    Bool,
    /// A whole number within these bounds, both included.
    Integer {
        min: u64,
        max: u64,
    },
    /// A number within these bounds, both included.
    Float {
        min: f64,
        max: f64,
    },
    Duration,
    OneOf(&'static [&'static str]),
    /// What a hash is taken of: `source`, `header:NAME`, `cookie:NAME`, `query:NAME`, `path`.
    Key,
    /// The path of a request, such as `/load`, or `off`.
    Path,
    /// A text of graphic characters, such as the name of a zone; up to 255 of them.
    Text,
}

/// The value of an option, already checked against its [`OptionKind`].
#[derive(Clone, Debug, PartialEq)]
pub enum OptionValue {
    Bool(bool),
    Integer(u64),
    Float(f64),
    Duration(Duration),
    Text(String),
}

/// All that `config` needs to know of other crates' tables.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary {
    pub policies: &'static [PolicyInfo],
}
