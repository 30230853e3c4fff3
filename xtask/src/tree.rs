//! What the checks look at: every file that git would commit, and what cargo says of the
//! workspace's packages. Read once; the checks themselves are pure functions of it, so that a
//! test can hand them a bad one.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::source::Source;

#[derive(Default)]
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
    pub(crate) packages: Vec<Package>,
}

pub(crate) struct File {
    /// From the root of the repository, with `/`.
    pub(crate) path: String,
    /// Lossy: a binary file is only ever searched for a word.
    pub(crate) text: String,
    /// Set for `.rs` files.
    pub(crate) rust: Option<Source>,
}

/// A package of the workspace.
pub(crate) struct Package {
    pub(crate) name: String,
    /// Its folder, from the root of the repository: `crates/model`.
    pub(crate) folder: String,
    pub(crate) dependencies: Vec<Dependency>,
}

pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Needed by its tests alone.
    pub(crate) dev: bool,
}

impl Tree {
    /// Everything below `root` that is tracked, or would be by `git add --all`.
    pub(crate) fn load(root: &Path) -> Result<Tree, String> {
        let listed = output(
            Command::new("git")
                .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
                .current_dir(root),
        )?;
        let mut files = Vec::new();
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            // A tracked file may be deleted in the work tree, or be a link to a folder.
            if let Ok(bytes) = std::fs::read(root.join(path)) {
                files.push(File::new(path, &String::from_utf8_lossy(&bytes)));
            }
        }
        let metadata = output(
            Command::new(env!("CARGO"))
                .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
                .current_dir(root),
        )?;
        let packages = packages(root, &metadata)?;
        Ok(Tree { files, packages })
    }

    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// All Rust files whose path passes `wanted`.
    pub(crate) fn rust<'a>(
        &'a self,
        wanted: impl Fn(&str) -> bool + 'a,
    ) -> impl Iterator<Item = (&'a str, &'a Source)> {
        self.files
            .iter()
            .filter(move |file| wanted(&file.path))
            .filter_map(|file| Some((file.path.as_str(), file.rust.as_ref()?)))
    }

    /// The files directly in `folder` with this extension: their path and stem.
    pub(crate) fn children<'a>(
        &'a self,
        folder: &'a str,
        extension: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files.iter().filter_map(move |file| {
            let name = file.path.strip_prefix(folder)?.strip_prefix('/')?;
            let stem = name.strip_suffix(extension)?.strip_suffix('.')?;
            (!name.contains('/')).then_some((file.path.as_str(), stem))
        })
    }
}

impl File {
    pub(crate) fn new(path: &str, text: &str) -> File {
        let rust = path.ends_with(".rs").then(|| Source::new(text));
        File { path: path.into(), text: text.into(), rust }
    }
}

fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn packages(root: &Path, metadata: &str) -> Result<Vec<Package>, String> {
    let metadata: Value =
        serde_json::from_str(metadata).map_err(|error| format!("cargo metadata: {error}"))?;
    let listed = metadata["packages"].as_array().ok_or("cargo metadata: no packages")?;
    Ok(listed.iter().map(|package| Package::read(root, package)).collect())
}

impl Package {
    fn read(root: &Path, package: &Value) -> Package {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let manifest = text(&package["manifest_path"]);
        let folder = Path::new(&manifest).parent().unwrap_or(Path::new(""));
        let folder = folder.strip_prefix(root).unwrap_or(folder).to_string_lossy().into_owned();
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        let dependencies = dependencies.map(|dependency| Dependency {
            name: text(&dependency["name"]),
            dev: dependency["kind"] == "dev",
        });
        Package { name: text(&package["name"]), folder, dependencies: dependencies.collect() }
    }
}

#[cfg(test)]
pub(crate) fn fixture(files: &[(&str, &str)]) -> Tree {
    let files = files.iter().map(|(path, text)| File::new(path, text)).collect();
    Tree { files, packages: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_files_directly_in_the_folder() {
        let tree = fixture(&[("a/b.rs", ""), ("a/c/d.rs", ""), ("a/e.md", ""), ("ab/f.rs", "")]);
        let children: Vec<_> = tree.children("a", "rs").collect();
        assert_eq!(children, [("a/b.rs", "b")]);
    }

    #[test]
    fn cargo_metadata_is_understood() {
        let metadata = r#"{"packages": [{
            "name": "service", "manifest_path": "/x/crates/service/Cargo.toml",
            "dependencies": [{"name": "model", "kind": null}, {"name": "proptest", "kind": "dev"}]
        }]}"#;
        let packages = packages(Path::new("/x"), metadata).unwrap();
        assert_eq!(packages[0].folder, "crates/service");
        let found: Vec<_> = packages[0].dependencies.iter().map(|d| (&*d.name, d.dev)).collect();
        assert_eq!(found, [("model", false), ("proptest", true)]);
    }
}
