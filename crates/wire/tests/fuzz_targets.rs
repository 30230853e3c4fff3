//! Every decoder has a fuzz target and a corpus, and the corpus passes without a fuzzer as well.

#![allow(clippy::disallowed_methods, reason = "reads the corpus")]

mod contract;

use std::fs;
use std::path::{Path, PathBuf};

struct Decoder {
    name: &'static str,
    target: &'static str,
    check: fn(&[u8]),
}

const DECODERS: &[Decoder] = &[
    Decoder { name: "agent_reply::decode", target: "agent_reply", check: contract::agent_reply },
    Decoder { name: "client_hello::decode", target: "client_hello", check: contract::client_hello },
    Decoder { name: "http1::RequestHead", target: "request_head", check: contract::request_head },
    Decoder {
        name: "http1::ResponseHead",
        target: "response_head",
        check: contract::response_head,
    },
    Decoder { name: "http1::ChunkedDecoder", target: "chunked", check: contract::chunked },
    Decoder {
        name: "proxy_protocol::decode",
        target: "proxy_protocol",
        check: contract::proxy_protocol,
    },
    Decoder { name: "dns::decode", target: "dns_message", check: contract::dns_message },
    Decoder { name: "lars::decode", target: "lars", check: contract::lars },
    Decoder { name: "grpc_health::decode", target: "grpc_health", check: contract::grpc_health },
    Decoder { name: "orca::decode", target: "orca", check: contract::orca },
    Decoder { name: "resp::decode", target: "resp", check: contract::resp },
];

/// What a public decoder looks like: each such line of the source stands for one in the table.
const SIGNATURES: &[&str] = &["    pub fn parse(", "    pub fn step(", "pub fn decode("];

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let listing = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut entries: Vec<_> = listing.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

#[test]
fn every_decoder_has_a_target() {
    // Other crates have targets of their own, and tests that look for them.
    let is_ours = |path: &PathBuf| fs::read_to_string(path).unwrap().contains("crates/wire/");
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let targets = entries(&folder("../../fuzz/fuzz_targets"));
    let found: Vec<_> = targets.iter().filter(|path| is_ours(path)).map(stem).collect();
    let mut listed: Vec<_> = DECODERS.iter().map(|decoder| decoder.target).collect();
    listed.sort_unstable();
    assert_eq!(found, listed, "fuzz/fuzz_targets and DECODERS differ");
}

#[test]
fn every_decoder_is_in_the_table() {
    let mut folders = vec![folder("src")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().filter(|line| SIGNATURES.iter().any(|s| line.starts_with(s)));
            found.extend(lines.map(|line| format!("{}: {line}", path.display())));
        }
    }
    let listed: Vec<_> = DECODERS.iter().map(|decoder| decoder.name).collect();
    assert_eq!(found.len(), listed.len(), "{found:#?} but the table has {listed:#?}");
}

#[test]
fn the_corpus_passes() {
    for decoder in DECODERS {
        let seeds = entries(&folder("../../fuzz/corpus").join(decoder.target));
        assert!(seeds.len() >= 10, "{} has {} seeds", decoder.target, seeds.len());
        for seed in seeds {
            let data = fs::read(&seed).unwrap();
            let result = std::panic::catch_unwind(|| (decoder.check)(&data));
            assert!(result.is_ok(), "{}", seed.display());
        }
    }
}
