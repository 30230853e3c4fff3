//! When to look: what inotify tells of a path, and of the folder that it is in.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A file that was changed is taken to be still written until it is closed, at most for this long:
/// some writers never close it.
const WRITING_MAX: Duration = Duration::from_secs(2);

/// Files that are tracked as being written at once; others are read when two looks find the same.
const WRITING_FILES_MAX: usize = 1000;

/// Bytes of events that are taken at a time: some dozens.
const EVENTS_BYTES: usize = 4096;

pub(crate) struct Wake {
    path: PathBuf,
    inotify: Option<AsyncFd<OwnedFd>>,
    /// When each file was last changed that is not closed yet.
    writing: BTreeMap<OsString, Instant>,
}

impl Wake {
    /// In a runtime.
    pub(crate) fn new(path: PathBuf) -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok();
        #[allow(
            deprecated,
            reason = "what takes its place is unsafe, for types whose descriptor \
                                      may change; an OwnedFd's never does"
        )]
        let inotify = inotify.and_then(|fd| AsyncFd::with_interest(fd, Interest::READABLE).ok());
        let mut wake = Self { path, inotify, writing: BTreeMap::new() };
        wake.watch();
        wake
    }

    /// Watches what is not watched yet, or no longer (a folder that was replaced); whether
    /// changes will be told.
    pub(crate) fn watch(&mut self) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let flags = WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ONLYDIR;
        let around = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let around = around.unwrap_or(Path::new("."));
        // Adding one that is there already changes nothing. The path itself may be a file, which
        // is not watched apart from its folder.
        let _ = inotify::add_watch(inotify, &self.path, flags);
        inotify::add_watch(inotify, around, flags).is_ok()
    }

    /// Ends once something changed. Without inotify it never does.
    pub(crate) async fn changed(&mut self) {
        let Some(inotify) = &self.inotify else { return std::future::pending().await };
        match inotify.readable().await {
            // Before what there is to read is read, so that nothing that comes meanwhile is lost.
            Ok(mut ready) => ready.clear_ready(),
            Err(_) => std::future::pending().await,
        }
        self.drain();
    }

    /// Who has not finished writing, by name.
    pub(crate) fn writing(&mut self) -> BTreeSet<OsString> {
        self.drain();
        let now = Instant::now();
        self.writing.retain(|_, since| now.duration_since(*since) < WRITING_MAX);
        self.writing.keys().cloned().collect()
    }

    fn drain(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let now = Instant::now();
        let mut buffer = [MaybeUninit::uninit(); EVENTS_BYTES];
        let mut reader = inotify::Reader::new(inotify.get_ref(), &mut buffer);
        // That nothing is left to read ends it; so would an error, after which looking goes on.
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
            let Some(name) = name else { continue };
            if event.events().contains(ReadFlags::MODIFY) {
                if self.writing.len() < WRITING_FILES_MAX || self.writing.contains_key(name) {
                    self.writing.insert(name.to_owned(), now);
                }
            } else if !event.events().contains(ReadFlags::CREATE) {
                self.writing.remove(name);
            }
        }
    }
}
