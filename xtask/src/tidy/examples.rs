//! An example that no test runs is wrong within a month.

use std::collections::BTreeSet;

use super::Finding;
use crate::tree::Tree;

/// Whatever names `examples/NAME` here runs it.
const TESTS: &str = "tests/";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let folders = tree.files.iter().filter_map(|file| {
        let (folder, _) = file.path.strip_prefix("examples/")?.split_once('/')?;
        Some(format!("examples/{folder}"))
    });
    let folders: BTreeSet<_> = folders.collect();
    let tests = tree.files.iter().filter(|file| file.path.starts_with(TESTS));
    let tests: Vec<_> = tests.collect();
    let forgotten =
        folders.into_iter().filter(|folder| !tests.iter().any(|test| test.text.contains(folder)));
    forgotten.map(|f| Finding::new(f, 0, format!("no test below {TESTS} names it"))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::expect_findings;
    use super::*;

    #[test]
    fn an_example_that_no_test_names_is_found() {
        let files = [
            ("examples/README.md", ""),
            ("examples/good/evenkeel.yaml", ""),
            ("examples/bad/evenkeel.yaml", ""),
            ("tests/e2e/examples.rs", "run(\"examples/good/evenkeel.yaml\")"),
        ];
        expect_findings(check, &files, &["examples/bad:0"]);
    }
}
