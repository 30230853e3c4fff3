//! Heads of requests: what is taken is well-formed, has one reading, and survives a copy.
#![no_main]

#[path = "../../crates/wire/tests/contract/mod.rs"]
mod contract;

libfuzzer_sys::fuzz_target!(|data: &[u8]| contract::request_head(data));
