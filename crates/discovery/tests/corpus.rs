//! The fuzzer's corpus again, without a fuzzer.

use std::fs;
use std::path::Path;

mod contract;

#[test]
fn container_engine() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/container_engine");
    let mut count = 0;
    for file in fs::read_dir(folder).unwrap().flatten() {
        contract::container_engine(&fs::read(file.path()).unwrap());
        count += 1;
    }
    assert!(count >= 5, "{count} files");
}

#[test]
fn dns_answer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut count = 0;
    for decoder in ["dns_answer", "dns_message"] {
        for file in fs::read_dir(folder.join(decoder)).unwrap().flatten() {
            contract::dns_answer(&fs::read(file.path()).unwrap());
            count += 1;
        }
    }
    assert!(count >= 20, "{count} files");
}
