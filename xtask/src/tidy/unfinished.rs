//! What is not done stands in an issue, not in the code.

use super::Finding;
use crate::source::line_of;
use crate::tree::Tree;

static MACROS: &[&str] = &["todo", "unimplemented"];

// Put together so that this file does not name them itself.
const MARKS: [&str; 2] = [concat!("FIX", "ME"), concat!("XX", "X:")];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        // In Rust a mark counts where it says something to the reader, so that a literal may
        // hold anything; everywhere else it counts.
        let text = file.rust.as_ref().map_or(file.text.as_str(), |source| source.comments());
        for mark in MARKS {
            for (offset, _) in text.match_indices(mark) {
                let message = format!("{mark} left behind: do it, or open an issue");
                findings.push(Finding::new(&file.path, line_of(text, offset), message));
            }
        }
        let Some(source) = &file.rust else { continue };
        for name in MACROS {
            for offset in source.words(name, "!") {
                let message = format!("`{name}!` left behind");
                findings.push(Finding::new(&file.path, source.line_of(offset), message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::expect_findings;
    use super::*;

    #[test]
    fn marks_and_macros_are_found() {
        let rust = format!("fn a() {{\n    todo!()\n}}\n// {}: b\nlet c = \"todo!()\";", MARKS[0]);
        let shell = format!("# {}\n", MARKS[0]);
        let files = [("a.rs", rust.as_str()), ("b.sh", &shell), ("c.md", "todo!()")];
        expect_findings(check, &files, &["a.rs:4", "a.rs:2", "b.sh:1"]);
    }
}
