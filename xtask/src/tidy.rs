//! `cargo xtask tidy`: facts about the repository that must hold, and tastes that are only told.
//!
//! A check is a file in `tidy/` and its line in [`CHECKS`]. It is a pure function of the [`Tree`],
//! with a test that shows it fail.

mod attributes;
mod clippy_config;
mod crate_docs;
mod examples;
mod layers;
mod machine_paths;
mod purity;
mod registered;
mod size;
mod sleeps;
mod unfinished;

use std::path::Path;

use crate::tree::Tree;

struct Check {
    name: &'static str,
    /// What must hold, in one line.
    rule: &'static str,
    kind: Kind,
    run: fn(&Tree) -> Vec<Finding>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// A finding fails the run.
    Fact,
    /// A finding is printed, and that is all.
    Taste,
}

#[rustfmt::skip]
static CHECKS: &[Check] = &[
    Check { name: "layers", rule: "dependencies point down only, and leaves never see each other", kind: Kind::Fact, run: layers::check },
    Check { name: "registered", rule: "a file in a table's folder has its line in the table", kind: Kind::Fact, run: registered::check },
    Check { name: "purity", rule: "below the shell: no clock, chance, I/O, threads or logging", kind: Kind::Fact, run: purity::check },
    Check { name: "clippy-config", rule: "each crate below the shell has the same clippy.toml", kind: Kind::Fact, run: clippy_config::check },
    Check { name: "attributes", rule: "#[allow], #[expect] and #[ignore] carry a reason", kind: Kind::Fact, run: attributes::check },
    Check { name: "crate-docs", rule: "a crate opens with what it is for", kind: Kind::Fact, run: crate_docs::check },
    Check { name: "unfinished", rule: "nothing is left to be done later without an issue", kind: Kind::Fact, run: unfinished::check },
    Check { name: "machine-paths", rule: "no path of somebody's machine", kind: Kind::Fact, run: machine_paths::check },
    Check { name: "sleeps", rule: "end-to-end tests wait for a condition, never for a time", kind: Kind::Fact, run: sleeps::check },
    Check { name: "examples", rule: "each example is run by the tests", kind: Kind::Fact, run: examples::check },
    Check { name: "size", rule: "files of up to 600 lines, functions of up to 70", kind: Kind::Taste, run: size::check },
];

struct Finding {
    path: String,
    /// From 1; 0 when it is about the whole file.
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: impl Into<String>, line: usize, message: impl Into<String>) -> Finding {
        Finding { path: path.into(), line, message: message.into() }
    }
}

/// Checks the repository around this package. Answers whether all facts hold.
pub(crate) fn run() -> Result<bool, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no parent folder")?;
    let tree = Tree::load(root)?;
    let mut holds = true;
    for check in CHECKS {
        let findings = (check.run)(&tree);
        let verdict = match (findings.is_empty(), check.kind) {
            (true, _) => "ok",
            (false, Kind::Fact) => "FAILED",
            (false, Kind::Taste) => "to consider",
        };
        println!("{:<14} {verdict}: {}", check.name, check.rule);
        for finding in &findings {
            match finding.line {
                0 => println!("    {}: {}", finding.path, finding.message),
                line => println!("    {}:{line}: {}", finding.path, finding.message),
            }
        }
        holds &= findings.is_empty() || check.kind == Kind::Taste;
    }
    Ok(holds)
}

/// Asserts that `check` says of `files` exactly what stands at these places (`path:line`).
#[cfg(test)]
fn expect_findings(check: fn(&Tree) -> Vec<Finding>, files: &[(&str, &str)], expected: &[&str]) {
    let found = check(&crate::tree::fixture(files));
    let found: Vec<_> = found.iter().map(|f| format!("{}:{}", f.path, f.line)).collect();
    assert_eq!(found, expected);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        assert_eq!(run(), Ok(true), "run `cargo xtask tidy` to see what is not");
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CHECKS.len());
    }
}
