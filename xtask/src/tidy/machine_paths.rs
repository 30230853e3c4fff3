//! A path that exists on one machine alone helps nobody else.

use super::Finding;
use crate::source::line_of;
use crate::tree::Tree;

// Put together so that this file does not name them itself.
const PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/tmp", "/ek"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        for path in PATHS {
            for (offset, _) in file.text.match_indices(path) {
                // `net/work/` and `$HOME/work/` are no such path; only one from the root is.
                let before = file.text[..offset].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || "_-.}*/".contains(c)) {
                    continue;
                }
                let message = format!("`{path}` is a path of one machine");
                findings.push(Finding::new(&file.path, line_of(&file.text, offset), message));
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
    fn paths_from_the_root_of_a_machine_are_found() {
        let text = format!("see {0}a\n. net{0}b\n'{1}/c'\n", PATHS[0], PATHS[1]);
        expect_findings(check, &[("a.md", &text)], &["a.md:1", "a.md:3"]);
    }
}
