//! A Compose file: whatever it is, it is read within bounds, or refused with places; and what is
//! made of it for the engine and the balancer is made without a panic.
#![no_main]

#[path = "../../crates/compose/tests/contract/mod.rs"]
mod contract;

libfuzzer_sys::fuzz_target!(|data: &[u8]| contract::compose_file(data));
