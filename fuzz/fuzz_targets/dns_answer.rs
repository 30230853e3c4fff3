//! What anybody sends to the name server.
#![no_main]

#[path = "../../crates/discovery/tests/contract/mod.rs"]
mod contract;

libfuzzer_sys::fuzz_target!(|data: &[u8]| contract::dns_answer(data));
