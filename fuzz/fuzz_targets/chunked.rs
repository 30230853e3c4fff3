//! Chunked bodies: any split gives the same payload, and what an encoder makes is read back.
#![no_main]

#[path = "../../crates/wire/tests/contract/mod.rs"]
mod contract;

libfuzzer_sys::fuzz_target!(|data: &[u8]| contract::chunked(data));
