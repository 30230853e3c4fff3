//! Answers of the health protocol of gRPC: one message, whole, and unknown fields change nothing.
#![no_main]

#[path = "../../crates/wire/tests/contract/mod.rs"]
mod contract;

libfuzzer_sys::fuzz_target!(|data: &[u8]| contract::grpc_health(data));
