//! The files that an image is built of, as the archive that the engine takes.

mod ignore;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use ignore::Ignore;

use crate::project::Build;

/// Name in the archive of a Dockerfile that stands in the Compose file, or outside of the context.
const INLINE: &str = ".evenkeel.Dockerfile";

/// Writes the archive. Answers the name of the Dockerfile in it.
pub fn dockerfile_name(build: &Build) -> String {
    match (&build.inline, &build.dockerfile) {
        (Some(_), _) => INLINE.into(),
        (None, Some(path)) if is_outside(build, path) => INLINE.into(),
        (None, Some(path)) => path.clone(),
        (None, None) => "Dockerfile".into(),
    }
}

fn is_outside(build: &Build, path: &str) -> bool {
    Path::new(path).is_absolute() && !Path::new(path).starts_with(&build.context)
        || path.starts_with("../")
}

/// Writes all files of the context that `.dockerignore` does not leave out.
pub fn archive(build: &Build, to: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(to);
    archive.follow_symlinks(false);
    let text = match fs::read_to_string(build.context.join(".dockerignore")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let dockerfile = dockerfile_name(build);
    let ignore = Ignore::read(&text);
    folder(&mut archive, build, "", &ignore, &dockerfile)?;
    let given = match (&build.inline, &build.dockerfile) {
        (Some(text), _) => Some(text.clone()),
        (None, Some(path)) if is_outside(build, path) => {
            Some(fs::read_to_string(build.context.join(path))?)
        }
        _ => None,
    };
    if let Some(text) = given {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, INLINE, text.as_bytes())?;
    }
    archive.into_inner()?.flush()
}

fn folder(
    archive: &mut tar::Builder<impl Write>,
    build: &Build,
    below: &str,
    ignore: &Ignore,
    dockerfile: &str,
) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(build.context.join(below))?.collect::<Result<_, _>>()?;
    // The same files make the same archive, and so use the cache.
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            let message = format!("{}: the name is not UTF-8", entry.path().display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        };
        let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        let kind = entry.file_type()?;
        let left_out = ignore.leaves_out(&path) && path != dockerfile && path != ".dockerignore";
        if kind.is_dir() {
            if !left_out {
                archive.append_path_with_name(entry.path(), &path)?;
            }
            // An exception may bring back what is in a folder that is left out.
            if !left_out || ignore.has_exceptions() || dockerfile.starts_with(&format!("{path}/")) {
                folder(archive, build, &path, ignore, dockerfile)?;
            }
        } else if !left_out && (kind.is_file() || kind.is_symlink()) {
            archive.append_path_with_name(entry.path(), &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_archive_holds_what_is_not_ignored() {
        let folder = std::env::temp_dir().join(format!("evenkeel-context-{}", std::process::id()));
        for (path, text) in [
            ("Dockerfile", "FROM scratch"),
            (".dockerignore", "*.log\nnode_modules\n!keep.log\nDockerfile\n"),
            ("app.py", "x"),
            ("a.log", ""),
            ("keep.log", ""),
            ("src/b.log", ""),
            ("node_modules/x/y.js", ""),
        ] {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let build = Build { context: folder.clone(), ..Build::default() };
        let names = |build: &Build| -> BTreeSet<String> {
            let mut bytes = Vec::new();
            archive(build, &mut bytes).unwrap();
            let mut archive = tar::Archive::new(&bytes[..]);
            let entries = archive.entries().unwrap();
            entries.map(|e| e.unwrap().path().unwrap().display().to_string()).collect()
        };
        let expected = [".dockerignore", "Dockerfile", "app.py", "keep.log", "src", "src/b.log"];
        assert_eq!(names(&build), expected.map(str::to_owned).into());
        let inline = Build { inline: Some("FROM x".into()), ..build };
        assert!(names(&inline).contains(INLINE));
        fs::remove_dir_all(folder).unwrap();
    }
}
