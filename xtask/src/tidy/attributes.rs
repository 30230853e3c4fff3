//! A lint that is switched off, and a test that is left out, say why.

use super::Finding;
use crate::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, source) in tree.rust(|_| true) {
        for attribute in source.attributes() {
            if let Some(message) = missing_reason(attribute.text.trim()) {
                findings.push(Finding::new(path, attribute.line, message));
            }
        }
    }
    findings
}

fn missing_reason(attribute: &str) -> Option<&'static str> {
    // `cfg_attr(CONDITION, allow(..))` hides one inside.
    let switches = |lint: &str| {
        let inside = attribute.starts_with("cfg_attr") && attribute.contains(&format!(" {lint}("));
        attribute.starts_with(&format!("{lint}(")) || inside
    };
    if (switches("allow") || switches("expect")) && !attribute.contains("reason") {
        return Some("add `reason = \"..\"`");
    }
    let ignores = attribute == "ignore"
        || (attribute.starts_with("cfg_attr") && attribute.contains(" ignore)"));
    ignores.then_some("write `#[ignore = \"why\"]`")
}

#[cfg(test)]
mod tests {
    use super::super::expect_findings;
    use super::*;

    #[test]
    fn attributes_without_a_reason_are_found() {
        let text = "#![allow(a)]\n\
            #[allow(a, reason = \"b\")]\n\
            #[ignore]\n\
            #[ignore = \"b\"]\n\
            #[expect(a)]\n\
            #[cfg_attr(test, allow(a))]\n\
            #[cfg_attr(miri, ignore)]\n\
            // #[ignore]\n\
            #[derive(Debug)]\n\
            fn a() {}\n";
        let expected = ["a.rs:1", "a.rs:3", "a.rs:5", "a.rs:6", "a.rs:7"];
        expect_findings(check, &[("a.rs", text)], &expected);
    }
}
