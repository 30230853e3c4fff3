//! Notices that the configuration file changed.
//!
//! By looking four times a second instead of by inotify: editors and configuration management replace
//! files by rename, link them elsewhere, or mount them anew (Kubernetes ConfigMaps), and each of
//! these needs other watches; looking at the path is right for all of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tls::Fingerprint;
use tokio::sync::mpsc::Sender;
use tracing::warn;

use super::read_file;

const INTERVAL: Duration = Duration::from_millis(250);

/// Sends each new text of the file from now on, in a thread of its own: a file system may hang.
/// `text` is what was read before.
pub(super) fn start(path: PathBuf, text: Arc<str>, changed: Sender<Arc<str>>) {
    let mut watch = FileWatch::new(path, text);
    let thread = std::thread::Builder::new().name("file-watch".into()).spawn(move || {
        loop {
            std::thread::sleep(INTERVAL);
            if let Some(text) = watch.look()
                && changed.blocking_send(text).is_err()
            {
                return; // nobody listens any more
            }
        }
    });
    if let Err(error) = thread {
        warn!("the configuration file is not watched, only SIGHUP reads it again: {error}");
    }
}

struct FileWatch {
    path: PathBuf,
    /// Of the last text that was sent, or read at the start.
    text: Arc<str>,
    /// Whose text was compared; `None`: to be read.
    read: Option<Fingerprint>,
    /// Of the last look. A file is read once two looks find the same, so that a writer that is
    /// half-way is left to finish.
    seen: Option<Fingerprint>,
    warned: bool,
}

impl FileWatch {
    fn new(path: PathBuf, text: Arc<str>) -> Self {
        Self { path, text, read: None, seen: None, warned: false }
    }

    /// The text, if it is another one than before.
    fn look(&mut self) -> Option<Arc<str>> {
        let found = Fingerprint::of(&self.path);
        let settled = found == self.seen;
        self.seen = found;
        if found.is_none() {
            // Replaced by deleting and writing anew, perhaps. What was read stays in force.
            if settled && !self.warned {
                warn!("{} is gone; its last text stays in force", self.path.display());
                self.warned = true;
            }
            return None;
        }
        if !settled || found == self.read {
            return None;
        }
        let text = match read_file(&self.path) {
            // Emptied to be written anew: an empty file is no configuration anyway.
            Ok(text) if text.trim_ascii().is_empty() => return None,
            Ok(text) => text,
            Err(failure) => {
                if !self.warned {
                    warn!("{failure}; what was read before stays in force");
                    self.warned = true;
                }
                return None;
            }
        };
        self.warned = false;
        self.read = found;
        if *text == *self.text {
            return None;
        }
        self.text = text.into();
        Some(Arc::clone(&self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A directory that is gone when the test is over.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("evenkeel-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn edits_renames_and_gaps() {
        let scratch = Scratch::new("watch");
        let path = scratch.0.join("evenkeel.yaml");
        fs::write(&path, "a: 1").unwrap();
        let mut watch = FileWatch::new(path.clone(), "a: 1".into());
        let mut expect = |what: &str, expected: Option<&str>| {
            let found: Vec<Arc<str>> = (0..3).filter_map(|_| watch.look()).collect();
            assert_eq!(found, expected.into_iter().map(Arc::from).collect::<Vec<_>>(), "{what}");
        };
        expect("as it was read", None);
        fs::write(&path, "a: 2").unwrap();
        expect("written in place", Some("a: 2"));
        fs::write(scratch.0.join("new"), "a: 3").unwrap();
        fs::rename(scratch.0.join("new"), &path).unwrap();
        expect("replaced by rename", Some("a: 3"));
        fs::write(scratch.0.join("new"), "a: 3").unwrap();
        fs::rename(scratch.0.join("new"), &path).unwrap();
        expect("replaced by the same", None);
        fs::remove_file(&path).unwrap();
        expect("gone", None);
        fs::write(&path, "").unwrap();
        expect("emptied", None);
        fs::write(&path, "a: 4\nb: 5").unwrap();
        expect("there again", Some("a: 4\nb: 5"));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(scratch.0.join("real"), &path).unwrap();
        expect("a link to nothing", None);
        fs::write(scratch.0.join("real"), "a: 6").unwrap();
        expect("a link to a file", Some("a: 6"));
        fs::write(&path, [0xff, 0xfe]).unwrap();
        expect("no text", None);
        fs::write(&path, "a: 7").unwrap();
        expect("text again", Some("a: 7"));
    }

    #[test]
    fn a_file_that_grows_is_left_to_finish() {
        let scratch = Scratch::new("grow");
        let path = scratch.0.join("evenkeel.yaml");
        fs::write(&path, "a: 1").unwrap();
        let mut watch = FileWatch::new(path.clone(), "a: 1".into());
        for text in ["a", "a: 2\n", "a: 2\nb: 3"] {
            fs::write(&path, text).unwrap();
            assert_eq!(watch.look(), None);
        }
        assert_eq!(watch.look().as_deref(), Some("a: 2\nb: 3"));
    }
}
