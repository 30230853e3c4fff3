//! Configuration: YAML text in, a checked [`model::spec::Spec`] out, or every defect of the text
//! with its place, the line it stands in and what to write instead.
//!
//! For: reading a file, telling two configurations apart, and describing the format (JSON Schema,
//! reference manual). This is the only crate that knows YAML.
//! Never: reads files, resolves host names, or starts anything. Input is hostile: size, depth and
//! aliases are bounded, and nothing here panics.
//! Start with [`parse`], or [`Reader`] for one text after the other; then `tree` (text to nodes), `keys` (which keys there are) and `decode`
//! (nodes to the specification).
#![forbid(unsafe_code)]

mod address;
mod decode;
pub mod defect;
mod difference;
mod fields;
mod keys;
mod labels;
mod place;
mod reader;
mod redact;
mod reference;
mod schema;
pub mod suggest;
mod table;
pub mod tree;
mod units;

#[cfg(test)]
mod tests;

pub use address::{parse_bind, parse_endpoint_address};
pub use decode::route_matchers;
pub use defect::{Defect, Defects, Severity};
pub use difference::{Changes, Difference, difference};
pub use labels::{LABEL_PREFIX, LabelDefect, is_listener_protocol, is_service_key, read_labels};
pub use place::defect_at;
pub use reader::Reader;
pub use redact::redacted;
pub use reference::reference_markdown;
pub use schema::json_schema;
pub use units::{parse_bytes, parse_duration};

use model::Endpoint;
use model::spec::Spec;
use model::spec::scenario::Scenario;
use model::vocabulary::Vocabulary;

/// A text to read.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The file's name as messages show it.
    pub name: &'a str,
    pub text: &'a str,
}

/// A configuration without errors.
#[derive(Clone, Debug)]
pub struct Checked {
    pub spec: Spec,
    /// What is allowed and probably not meant, e.g. a service that nothing uses.
    pub warnings: Vec<Defect>,
}

/// Reads and checks a scenario for `evenkeel simulate`, and answers it with its warnings.
pub fn parse_scenario(
    source: &Source<'_>,
    vocabulary: &Vocabulary,
) -> Result<(Scenario, Vec<Defect>), Defects> {
    let report = defect::Report::new(*source);
    let root = tree::read(source.text, &report);
    let scenario = root.map(|root| decode::scenario(&root, &report, vocabulary));
    let warnings = report.finish()?;
    // As in `parse`, the default is never used.
    Ok((scenario.unwrap_or_else(|| Scenario::new(std::time::Duration::ZERO)), warnings))
}

/// Reads a list of endpoints, as `services.NAME.endpoints` has it, or a map of such lists by service,
/// of which that of `service` is taken. Every JSON text is such a text, too. An empty text is
/// none, and no list.
pub fn parse_endpoints(source: &Source<'_>, service: &str) -> Result<Vec<Endpoint>, Defects> {
    let report = defect::Report::new(*source);
    let mut endpoints = Vec::new();
    let says = |line: &str| !matches!(line.trim_ascii_start().bytes().next(), None | Some(b'#'));
    if !source.text.lines().any(says) {
        report.error_help(
            defect::Span::default(),
            "the text holds no list of endpoints",
            "write `[ 127.0.0.1:5001 ]`, or `[]` for no endpoints",
        );
    } else if let Some(root) = tree::read(source.text, &report) {
        endpoints = decode::endpoints(&root, service, &report);
    }
    report.finish()?;
    Ok(endpoints)
}

/// Reads and checks a configuration. All defects are reported at once where possible; a text that
/// is not YAML at all has one.
pub fn parse(source: &Source<'_>, vocabulary: &Vocabulary) -> Result<Checked, Defects> {
    let report = defect::Report::new(*source);
    let root = tree::read(source.text, &report);
    let spec = root.map(|root| decode::file(&root, &report, vocabulary).0);
    let warnings = report.finish()?;
    // Without a tree there was a defect, so the specification is there.
    Ok(Checked { spec: spec.unwrap_or_default(), warnings })
}
