//! Instructions, counted by callgrind, so that figures do not depend on how busy the machine is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// Where cargo puts what it builds in release.
pub(crate) fn release(root: &Path) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target).join("release"),
        None => root.join("target/release"),
    }
}

/// What the command prints, if it succeeds.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `one` of each item, as many at a time as there are cores; the results in the items' order.
pub(crate) fn for_each<T: Sync, R: Send>(
    items: &[T],
    one: impl Fn(&T) -> Result<R, String> + Sync,
) -> Result<Vec<R>, String> {
    let threads = thread::available_parallelism().map_or(1, |count| count.get());
    let one = &one;
    thread::scope(|scope| {
        // Every so-manieth, as the dear ones stand together.
        let running: Vec<_> = (0..threads)
            .map(|first| {
                let mine = items.iter().enumerate().skip(first).step_by(threads);
                scope.spawn(move || mine.map(|(n, item)| (n, one(item))).collect::<Vec<_>>())
            })
            .collect();
        let mut results: Vec<_> =
            running.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect();
        results.sort_by_key(|(n, _)| *n);
        results.into_iter().map(|(_, result)| result).collect()
    })
}

/// What a file of callgrind's adds up to.
pub(crate) fn total(file: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    total
        .and_then(|total| total.trim().parse().ok())
        .ok_or_else(|| format!("{} has no totals", file.display()))
}
