//! HTTP/2 connections of both roles: no panic, bounded memory, the same whatever the pieces.
#![no_main]

#[path = "../../crates/http2/tests/contract/mod.rs"]
mod contract;

libfuzzer_sys::fuzz_target!(|data: &[u8]| contract::connection(data));
