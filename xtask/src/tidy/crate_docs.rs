//! A reader who opens a crate learns first what it is for, what it never does, where to start.

use super::Finding;
use crate::tree::Tree;

/// Lines of header below which a crate cannot have said all three.
const LINES_MIN: usize = 3;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let is_root = |path: &str| {
        let root = path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs");
        root && (path.starts_with("crates/") || path.starts_with("xtask/"))
    };
    let roots = tree.files.iter().filter(|file| is_root(&file.path));
    let bare = roots.filter(|file| {
        file.text.lines().take_while(|line| line.starts_with("//!")).count() < LINES_MIN
    });
    let message = "open with `//!`: what it is for, what it never does, where to start";
    bare.map(|file| Finding::new(&file.path, 1, message)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::expect_findings;
    use super::*;

    #[test]
    fn crates_without_a_header_are_found() {
        let files = [
            ("crates/a/src/lib.rs", "//! For: a.\n//! Never: b.\n//! Start with c.\n"),
            ("crates/b/src/main.rs", "//! B.\nfn main() {}\n"),
            ("crates/c/src/lib.rs", ""),
            ("crates/c/src/module.rs", ""),
        ];
        expect_findings(check, &files, &["crates/b/src/main.rs:1", "crates/c/src/lib.rs:1"]);
    }
}
