//! The fuzzer's corpus again, without a fuzzer.

#![allow(clippy::disallowed_methods, reason = "reads the corpus")]

use std::fs;
use std::path::Path;

mod contract;

#[test]
fn config_reader() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/config_reader");
    let mut count = 0;
    for file in fs::read_dir(folder).unwrap().flatten() {
        contract::config_reader(&fs::read(file.path()).unwrap());
        count += 1;
    }
    assert!(count >= 10, "{count} files");
}
