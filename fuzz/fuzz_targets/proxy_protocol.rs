//! PROXY headers of both versions: what is taken is read back after encoding.
#![no_main]

#[path = "../../crates/wire/tests/contract/mod.rs"]
mod contract;

libfuzzer_sys::fuzz_target!(|data: &[u8]| contract::proxy_protocol(data));
