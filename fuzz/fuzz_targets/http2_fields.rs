//! HPACK, the other way round: what the encoder makes of any fields, a decoder reads.
#![no_main]

#[path = "../../crates/http2/tests/contract/mod.rs"]
mod contract;

libfuzzer_sys::fuzz_target!(|data: &[u8]| contract::fields(data));
