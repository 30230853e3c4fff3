//! An end-to-end test waits for a condition with a bound; a test that sleeps is slow on a good
//! day and wrong on a bad one.

use super::Finding;
use crate::source::Source;
use crate::tree::Tree;

/// How the names of functions begin that poll a condition, in a loop with a bound.
static POLLERS: &[&str] = &["until", "wait", "eventually"];
/// A file of such functions and what they share.
const POLLERS_FILE: &str = "wait.rs";
/// How the names of functions begin that are slow because their test is about slowness.
static SLOW_ON_PURPOSE: &[&str] = &["slow", "trickle"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let wanted = |path: &str| {
        let is_test = path.starts_with("tests/") || path.contains("/tests/");
        is_test && path.rsplit('/').next() != Some(POLLERS_FILE)
    };
    let mut findings = Vec::new();
    for (path, source) in tree.rust(wanted) {
        for offset in source.words("sleep", "(") {
            if !may_sleep(source, offset) {
                let message = format!(
                    "sleeps: poll a condition, in a function called {POLLERS:?}, \
                     or be slow on purpose, in one called {SLOW_ON_PURPOSE:?}"
                );
                findings.push(Finding::new(path, source.line_of(offset), message));
            }
        }
    }
    findings
}

fn may_sleep(source: &Source, offset: usize) -> bool {
    let functions = source.functions();
    let Some(innermost) = functions.iter().rfind(|function| function.contains(offset)) else {
        return false;
    };
    let is_called = |names: &[&str]| names.iter().any(|name| innermost.name.starts_with(name));
    let loops = innermost.code.contains("while ") || innermost.code.contains("loop ");
    (is_called(POLLERS) && loops) || is_called(SLOW_ON_PURPOSE)
}

#[cfg(test)]
mod tests {
    use super::super::expect_findings;
    use super::*;

    #[test]
    fn sleeps_in_tests_are_found() {
        let sleepy = "use std::thread::sleep;\n\
            fn a() {\n\
            sleep(x);\n\
            thread::sleep(y);\n\
            }\n\
            async fn wait_until_ready() {\n\
            while !ready() { tokio::time::sleep(x).await; }\n\
            }\n\
            fn wait_a_second() { sleep(x); }\n\
            fn slow_client() { sleep(x); }\n";
        let files = [
            ("crates/a/tests/e2e/b.rs", sleepy),
            ("tests/e2e/wait.rs", sleepy),
            ("crates/a/src/lib.rs", sleepy),
        ];
        let expected = [3, 4, 9].map(|line| format!("crates/a/tests/e2e/b.rs:{line}"));
        expect_findings(check, &files, &expected.each_ref().map(String::as_str));
    }
}
