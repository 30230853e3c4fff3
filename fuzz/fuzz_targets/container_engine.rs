//! What a container engine answers: whatever it is, it is taken within bounds, told in one line, and
//! understood on the other side; and what labels say never breaks the picture.
#![no_main]

#[path = "../../crates/discovery/tests/contract/mod.rs"]
mod contract;

libfuzzer_sys::fuzz_target!(|data: &[u8]| contract::container_engine(data));
