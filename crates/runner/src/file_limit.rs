//! How many files the balancer may have open, each connection being one.

use std::io;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What replicas begin with: the limit that we were started with. A program that uses select(2)
/// fails beyond 1024 files, and some close every number up to the limit at start.
static INHERITED: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit to the hard one, for this process alone. Answers how many files may be
/// open; `None` means any number.
pub fn raise_file_limit() -> io::Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    let _ = INHERITED.set(limit);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.maximum)
}

/// What a child has to be given back before it becomes the replica; `None`: nothing was raised.
pub(crate) fn inherited() -> Option<Rlimit> {
    INHERITED.get().copied()
}
