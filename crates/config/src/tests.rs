//! Whole texts through [`crate::parse`]: what is read from them, and what is said of them.

mod defects;
mod edits;
mod endpoints;
mod hostile;
mod manual;
mod reading;
mod scenario;

use std::time::Duration;

use model::vocabulary::{OptionDefault, OptionInfo, OptionKind, PolicyInfo, Vocabulary};

use crate::{Checked, Defects, Source, parse};

/// A vocabulary with every kind of option.
pub(crate) const VOCABULARY: Vocabulary = Vocabulary {
    policies: &[
        PolicyInfo { name: "round_robin", summary: "in turn", options: &[] },
        PolicyInfo {
            name: "least_request",
            summary: "the fewest in flight",
            options: &[
                option(
                    "choices",
                    OptionKind::Integer { min: 2, max: 16 },
                    OptionDefault::Integer(2),
                ),
                option("full", OptionKind::Bool, OptionDefault::Bool(false)),
            ],
        },
        PolicyInfo {
            name: "maglev",
            summary: "the same key to the same endpoint",
            options: &[
                option("key", OptionKind::Key, OptionDefault::Text("source")),
                option(
                    "load",
                    OptionKind::Float { min: 1.0, max: 10.0 },
                    OptionDefault::Float(1.25),
                ),
                option(
                    "decay",
                    OptionKind::Duration,
                    OptionDefault::Duration(Duration::from_secs(10)),
                ),
                option("probe", OptionKind::Path, OptionDefault::Text("off")),
                option(
                    "fallback",
                    OptionKind::OneOf(&["next", "random"]),
                    OptionDefault::Text("next"),
                ),
            ],
        },
    ],
};

const fn option(name: &'static str, kind: OptionKind, default: OptionDefault) -> OptionInfo {
    OptionInfo { name, summary: "an option", kind, default }
}

pub(crate) fn read(text: &str) -> Result<Checked, Defects> {
    parse(&Source { name: "evenkeel.yaml", text }, &VOCABULARY)
}

/// Reads a text that has no defects.
pub(crate) fn good(text: &str) -> Checked {
    read(text).unwrap_or_else(|defects| panic!("{defects}\n---\n{text}"))
}
