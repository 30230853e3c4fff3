use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Notices that files changed, by looking at them: certificates are replaced by rename, by new
/// links (Kubernetes secrets), or in place, and looking at the path is right for all of them.
#[derive(Debug, Default)]
pub struct Watch {
    files: HashMap<PathBuf, Looks>,
}

#[derive(Debug, Default)]
struct Looks {
    /// As it was when it was last told of.
    told: Option<Fingerprint>,
    seen: Option<Fingerprint>,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    /// Also by what sets the time of modification back: `cp --preserve`, `rsync --times`.
    changed: (i64, i64),
}

impl Fingerprint {
    /// `None`: there is no such file.
    pub fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().as_ref().map(Self::of_metadata)
    }

    /// Of a file that was looked at already.
    pub fn of_metadata(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Watch {
    /// Looks at `files`, which are all that are of interest, each with what it was when it was read.
    /// Answers those that are another one by now, or changed since they were last answered, and
    /// did not change any more since the look before: a writer that is half-way is left to finish,
    /// and a certificate and its key are most often replaced between two looks. A file that is gone
    /// has not changed.
    pub fn look(&mut self, files: &[(PathBuf, Option<Fingerprint>)]) -> Vec<PathBuf> {
        self.files.retain(|path, _| files.iter().any(|(file, _)| file == path));
        let mut changed = Vec::new();
        for (path, read) in files {
            let found = Fingerprint::of(path);
            let Some(looks) = self.files.get_mut(path) else {
                self.files.insert(path.clone(), Looks { told: *read, seen: found });
                continue;
            };
            let settled = looks.seen == found;
            looks.seen = found;
            if settled && found.is_some() && found != looks.told {
                looks.told = found;
                changed.push(path.clone());
            }
        }
        changed
    }
}

/// Of each file before it is read.
pub(crate) fn fingerprints(files: Vec<PathBuf>) -> Vec<(PathBuf, Option<Fingerprint>)> {
    files.into_iter().map(|path| (path.clone(), Fingerprint::of(&path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_whose_time_was_set_back_is_another_one() {
        let file = std::env::temp_dir().join(format!("evenkeel-tls-time-{}", std::process::id()));
        fs::write(&file, "one").unwrap();
        let before = Fingerprint::of(&file);
        let written = fs::metadata(&file).unwrap().modified().unwrap();
        // The clock of files has a grain: until it has moved on, nothing could be told apart.
        let until_changed = |text: &str| {
            for _ in 0..100_000 {
                fs::write(&file, text).unwrap();
                fs::File::options().write(true).open(&file).unwrap().set_modified(written).unwrap();
                if Fingerprint::of(&file) != before {
                    return true;
                }
            }
            false
        };
        let is_other = until_changed("two");
        fs::remove_file(&file).unwrap();
        assert!(is_other && before.is_some());
    }

    #[test]
    fn changes_are_told_once_they_settled() {
        let folder =
            std::env::temp_dir().join(format!("evenkeel-tls-watch-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("cert.pem");
        fs::write(&file, "one").unwrap();
        let files = fingerprints(vec![file.clone()]);
        let changed = [file.clone()];
        let mut watch = Watch::default();
        assert!(watch.look(&files).is_empty() && watch.look(&files).is_empty());
        fs::write(&file, "other").unwrap();
        assert!(watch.look(&files).is_empty(), "it may still be written to");
        assert_eq!(watch.look(&files), changed);
        assert!(watch.look(&files).is_empty());
        fs::remove_file(&file).unwrap();
        assert!(watch.look(&files).is_empty() && watch.look(&files).is_empty());
        fs::write(&file, "a third").unwrap();
        assert!(watch.look(&files).is_empty());
        assert_eq!(watch.look(&files), changed);
        // Between the reading and the first look.
        fs::write(&file, "fourth, at once").unwrap();
        let mut watch = Watch::default();
        assert!(watch.look(&files).is_empty());
        assert_eq!(watch.look(&files), changed);
        assert!(watch.look(&files).is_empty());
        fs::remove_dir_all(&folder).unwrap();
    }
}
