//! Configuration: YAML text in, a checked [`model::spec::Spec`] out, or every defect of the text
//! with its place, the line it stands in and what to write instead.
//!
//! For: reading a file, telling two configurations apart, and describing the format (JSON Schema,
//! reference manual). This is the only crate that knows YAML.
//! Never: reads files, resolves host names, or starts anything. Input is hostile: size, depth and
//! aliases are bounded, and nothing here panics.
//! Start with [`parse`], then `tree` (text to nodes), `table` (which keys there are) and `decode`
//! (nodes to the specification).
#![forbid(unsafe_code)]

mod defect;
mod difference;

pub use defect::{Defect, Defects, Severity};
pub use difference::{Changes, Difference, difference};

use model::spec::Spec;
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

/// Reads and checks a configuration. All defects are reported at once where possible; a text that
/// is not YAML at all has one.
pub fn parse(source: &Source<'_>, vocabulary: &Vocabulary) -> Result<Checked, Defects> {
    let _ = (source, vocabulary);
    Ok(Checked { spec: Spec::default(), warnings: Vec::new() })
}

/// The format as JSON Schema, draft 2020-12.
pub fn json_schema(vocabulary: &Vocabulary) -> serde_json::Value {
    let _ = vocabulary;
    serde_json::Value::Null
}

/// The format as a reference manual: every key, its meaning and its default.
pub fn reference_markdown(vocabulary: &Vocabulary) -> String {
    let _ = vocabulary;
    String::new()
}

/// `250ms`, `2s`, `1m`, `1h`, `1d`, `1m30s`.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    Err(text.into())
}

/// `4096`, `32KiB`, `1MB`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    Err(text.into())
}

/// Where to listen: `:8080` (every address), `127.0.0.1:8080`, `[::]:80`, `localhost:80`, `8080`.
pub fn parse_bind(text: &str) -> Result<std::net::SocketAddr, String> {
    Err(text.into())
}

/// Where to send: `127.0.0.1:5001`, `:5001` or `5001` (this machine), `[::1]:80`.
pub fn parse_endpoint_address(text: &str) -> Result<std::net::SocketAddr, String> {
    Err(text.into())
}
