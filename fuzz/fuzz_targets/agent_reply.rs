//! Replies of health agents: only the first line counts, and what is taken of it is bounded.
#![no_main]

#[path = "../../crates/wire/tests/contract/mod.rs"]
mod contract;

libfuzzer_sys::fuzz_target!(|data: &[u8]| contract::agent_reply(data));
