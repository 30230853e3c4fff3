//! Frames of Lars: whatever is read of one is read again from its copy.
#![no_main]

#[path = "../../crates/wire/tests/contract/mod.rs"]
mod contract;

libfuzzer_sys::fuzz_target!(|data: &[u8]| contract::lars(data));
