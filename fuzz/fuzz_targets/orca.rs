//! Load reports in all their forms: what is taken is a utilization, and says the same in each form.
#![no_main]

#[path = "../../crates/wire/tests/contract/mod.rs"]
mod contract;

libfuzzer_sys::fuzz_target!(|data: &[u8]| contract::orca(data));
