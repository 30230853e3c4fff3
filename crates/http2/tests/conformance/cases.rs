//! The list itself, by section of RFC 9113.

mod frame_definitions;
mod security;
mod semantics;
mod start;
mod streams;

use super::frames::{PREFACE, settings};
use super::{
    COMPRESSION_ERROR, Case, ENHANCE_YOUR_CALM, Expect, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR,
    PROTOCOL_ERROR, REFUSED_STREAM, STREAM_CLOSED,
};

const PROTOCOL: &[u32] = &[PROTOCOL_ERROR];
const SIZE: &[u32] = &[FRAME_SIZE_ERROR];
const FLOW: &[u32] = &[FLOW_CONTROL_ERROR];
const CLOSED: &[u32] = &[STREAM_CLOSED];
const COMPRESSION: &[u32] = &[COMPRESSION_ERROR];
const CALM: &[u32] = &[ENHANCE_YOUR_CALM];
const REFUSED: &[u32] = &[REFUSED_STREAM];
/// RFC 9113 section 5.4.1: "an endpoint MAY choose to treat a stream error as a connection error".
const ANY: &[u32] = &[PROTOCOL_ERROR, FRAME_SIZE_ERROR, STREAM_CLOSED];

/// All cases.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(start::connection_preface());
    cases.extend(start::frame_format());
    cases.extend(start::field_compression());
    cases.extend(streams::stream_states());
    cases.extend(streams::extensions());
    cases.extend(frame_definitions::data_and_headers());
    cases.extend(frame_definitions::small_frames());
    cases.extend(frame_definitions::settings_frames());
    cases.extend(frame_definitions::windows());
    cases.extend(frame_definitions::continuations());
    cases.extend(start::representations());
    cases.extend(semantics::well_formed());
    cases.extend(semantics::malformed());
    cases.extend(security::floods());
    cases
}

/// After a preface that is as it should be.
fn case(section: &'static str, name: &'static str, frames: &[Vec<u8>], expect: Expect) -> Case {
    let start = [PREFACE, &settings(&[])].concat();
    Case { section, name, send: [start, frames.concat()].concat(), expect }
}

fn raw(section: &'static str, name: &'static str, send: &[&[u8]], expect: Expect) -> Case {
    Case { section, name, send: send.concat(), expect }
}

fn repeated(count: u32, frame: impl Fn(u32) -> Vec<u8>) -> Vec<Vec<u8>> {
    (0..count).map(frame).collect()
}
