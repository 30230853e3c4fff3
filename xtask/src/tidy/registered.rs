//! One feature is one file and one line in the table beside it: no file without its line.

use super::Finding;
use crate::tree::Tree;

struct Table {
    folder: &'static str,
    /// The file that holds the table.
    table: &'static str,
    /// What registers the file of this stem.
    line: fn(stem: &str) -> Line,
}

enum Line {
    /// `mod STEM;`, and beyond it a use of the module.
    Module,
    /// This text.
    Text(String),
}

#[rustfmt::skip]
static TABLES: &[Table] = &[
    Table { folder: "crates/balance/src/policies", table: "crates/balance/src/policies.rs", line: |_| Line::Module },
    Table { folder: "crates/discovery/src/providers", table: "crates/discovery/src/providers.rs", line: |_| Line::Module },
    Table { folder: "crates/discovery/src/sources", table: "crates/discovery/src/sources.rs", line: |_| Line::Module },
    Table { folder: "crates/evenkeel/src/verbs", table: "crates/evenkeel/src/verbs.rs", line: |_| Line::Module },
    Table { folder: "xtask/src/tidy", table: "xtask/src/tidy.rs", line: |_| Line::Module },
    Table { folder: "fuzz/fuzz_targets", table: "fuzz/Cargo.toml", line: |stem| Line::Text(format!("path = \"fuzz_targets/{stem}.rs\"")) },
];

/// Every fuzz target has a committed corpus here, in a folder of its name.
const CORPUS: &str = "fuzz/corpus";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings: Vec<_> = TABLES.iter().flat_map(|table| check_table(tree, table)).collect();
    for (path, stem) in tree.children("fuzz/fuzz_targets", "rs") {
        let folder = format!("{CORPUS}/{stem}/");
        if !tree.files.iter().any(|file| file.path.starts_with(&folder)) {
            findings.push(Finding::new(path, 0, format!("{folder} holds no committed corpus")));
        }
    }
    findings
}

fn check_table(tree: &Tree, table: &Table) -> Vec<Finding> {
    let file = tree.file(table.table);
    let mut findings = Vec::new();
    for (path, stem) in tree.children(table.folder, "rs") {
        let code = file.map_or("", |file| file.rust.as_ref().map_or(&file.text, |r| r.code()));
        let is_registered = match (table.line)(stem) {
            Line::Text(text) => code.contains(&text),
            // Tests of the table itself need no line.
            Line::Module if stem == "tests" => true,
            Line::Module => {
                code.contains(&format!("mod {stem};")) && code.contains(&format!("{stem}::"))
            }
        };
        if !is_registered {
            findings.push(Finding::new(path, 0, format!("has no line in {}", table.table)));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::expect_findings;
    use super::*;

    #[test]
    fn files_without_a_line_are_found() {
        let files = [
            ("crates/balance/src/policies.rs", "mod good;\nmod half;\nstatic T: X = good::ENTRY;"),
            ("crates/balance/src/policies/good.rs", ""),
            ("crates/balance/src/policies/half.rs", ""),
            ("crates/balance/src/policies/absent.rs", ""),
            ("crates/balance/src/policies/good/tests.rs", ""),
            ("crates/discovery/src/providers/tableless.rs", ""),
        ];
        let expected = [
            "crates/balance/src/policies/half.rs:0",
            "crates/balance/src/policies/absent.rs:0",
            "crates/discovery/src/providers/tableless.rs:0",
        ];
        expect_findings(check, &files, &expected);
    }

    #[test]
    fn fuzz_targets_need_a_line_and_a_corpus() {
        let files = [
            ("fuzz/Cargo.toml", "path = \"fuzz_targets/good.rs\"\npath = \"fuzz_targets/bare.rs\""),
            ("fuzz/fuzz_targets/good.rs", ""),
            ("fuzz/corpus/good/seed", ""),
            ("fuzz/fuzz_targets/bare.rs", ""),
            ("fuzz/fuzz_targets/absent.rs", ""),
            ("fuzz/corpus/absent/seed", ""),
        ];
        let expected = ["fuzz/fuzz_targets/absent.rs:0", "fuzz/fuzz_targets/bare.rs:0"];
        expect_findings(check, &files, &expected);
    }
}
