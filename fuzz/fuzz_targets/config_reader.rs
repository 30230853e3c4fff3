//! A configuration and edits of it: each is read as if it were the first, whatever was read before.
#![no_main]

#[path = "../../crates/config/tests/contract/mod.rs"]
mod contract;

libfuzzer_sys::fuzz_target!(|data: &[u8]| contract::config_reader(data));
