//! A file tells one story and a function fits a screen. Both are tastes: they say where a second
//! story may hide, and never fail a run.

use super::Finding;
use crate::tree::Tree;

/// Lines of a file, tests included, past which a second story is likely.
const FILE_LINES_MAX: usize = 600;
/// Lines of a function that fit a screen.
const FUNCTION_LINES_MAX: usize = 70;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, source) in tree.rust(|_| true) {
        if source.lines() > FILE_LINES_MAX {
            let message = format!("{} lines: look for the second story", source.lines());
            findings.push(Finding::new(path, 0, message));
        }
        for function in source.functions() {
            if function.lines > FUNCTION_LINES_MAX {
                let message = format!("`{}` has {} lines", function.name, function.lines);
                findings.push(Finding::new(path, function.line, message));
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
    fn long_files_and_functions_are_reported() {
        let long_function = format!("fn a() {{{}}}\n", "\n".repeat(70));
        let long_file = "\n".repeat(601);
        let files = [("a.rs", long_function.as_str()), ("b.rs", &long_file)];
        expect_findings(check, &files, &["a.rs:1", "b.rs:0"]);
    }
}
