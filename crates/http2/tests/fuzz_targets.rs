//! Every decoder has a fuzz target and a corpus, and the corpus passes without a fuzzer as well.

#![allow(clippy::disallowed_methods, reason = "reads the corpus")]

mod contract;

use std::fs;
use std::path::{Path, PathBuf};

struct Target {
    name: &'static str,
    check: fn(&[u8]),
}

const TARGETS: &[Target] = &[
    Target { name: "http2_connection", check: contract::connection },
    Target { name: "http2_fields", check: contract::fields },
    Target { name: "http2_hpack", check: contract::hpack },
];

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(path)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let listing = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut entries: Vec<_> = listing.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

#[test]
fn every_target_is_there() {
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let found = entries(&folder("fuzz_targets")).into_iter().map(stem);
    let found: Vec<_> = found.filter(|name| name.starts_with("http2_")).collect();
    let listed: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(found, listed);
}

#[test]
fn the_corpus_passes() {
    for Target { name, check } in TARGETS {
        let seeds = entries(&folder("corpus").join(name));
        assert!(seeds.len() >= 10, "{name} has {} seeds", seeds.len());
        for seed in seeds {
            let data = fs::read(&seed).unwrap();
            let result = std::panic::catch_unwind(|| check(&data));
            assert!(result.is_ok(), "{}", seed.display());
        }
    }
}
