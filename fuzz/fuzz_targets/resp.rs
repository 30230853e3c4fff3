//! Replies of a store of sessions: what is taken of one is the same however much follows.
#![no_main]

#[path = "../../crates/wire/tests/contract/mod.rs"]
mod contract;

libfuzzer_sys::fuzz_target!(|data: &[u8]| contract::resp(data));
