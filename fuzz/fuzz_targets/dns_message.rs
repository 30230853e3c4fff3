//! Messages of the Domain Name System, from servers that are asked and clients that ask.
#![no_main]

#[path = "../../crates/wire/tests/contract/mod.rs"]
mod contract;

libfuzzer_sys::fuzz_target!(|data: &[u8]| contract::dns_message(data));
