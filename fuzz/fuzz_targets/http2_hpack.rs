//! HPACK field blocks: bounded, the same after an encoder, and with one reading in HTTP/1.1.
#![no_main]

#[path = "../../crates/http2/tests/contract/mod.rs"]
mod contract;

libfuzzer_sys::fuzz_target!(|data: &[u8]| contract::hpack(data));
