//! Heads of responses, for each kind of request: the same promises as for requests.
#![no_main]

#[path = "../../crates/wire/tests/contract/mod.rs"]
mod contract;

libfuzzer_sys::fuzz_target!(|data: &[u8]| contract::response_head(data));
