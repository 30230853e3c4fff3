//! Clippy reads the nearest `clippy.toml` alone, so each crate below the shell needs its own, and
//! they must not drift apart.

use super::{Finding, purity};
use crate::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut first: Option<&str> = None;
    for folder in purity::folders_below_the_shell() {
        let path = format!("{folder}/clippy.toml");
        match (tree.file(&path), first) {
            (None, _) => {
                let message = "is missing: copy that of crates/model";
                findings.push(Finding::new(path, 0, message));
            }
            (Some(file), None) => first = Some(&file.text),
            (Some(file), Some(text)) if file.text != text => {
                let message = "differs from that of crates/model";
                findings.push(Finding::new(path, 0, message));
            }
            (Some(_), Some(_)) => {}
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::expect_findings;
    use super::*;

    #[test]
    fn a_missing_and_a_differing_file_are_found() {
        let files = ["model", "config", "route", "balance", "health", "sim"].map(|name| {
            (format!("crates/{name}/clippy.toml"), if name == "route" { "b" } else { "a" })
        });
        let files = files.each_ref().map(|(path, text)| (path.as_str(), *text));
        let expected = [
            "crates/route/clippy.toml:0",
            "crates/service/clippy.toml:0",
            "crates/wire/clippy.toml:0",
            "crates/http2/clippy.toml:0",
            "crates/registry/clippy.toml:0",
        ];
        expect_findings(check, &files, &expected);
    }
}
