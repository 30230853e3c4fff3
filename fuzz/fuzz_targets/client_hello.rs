//! The first message of TLS clients: it is read the same however it is cut into records.
#![no_main]

#[path = "../../crates/wire/tests/contract/mod.rs"]
mod contract;

libfuzzer_sys::fuzz_target!(|data: &[u8]| contract::client_hello(data));
