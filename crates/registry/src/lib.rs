//! The registry of instances as a state machine: who serves what, because they say so themselves.
//!
//! For: registering, heartbeats, leaving, and what becomes of those whose heartbeats stop. Time is
//! an argument, so that hours of silence pass in a test within a millisecond.
//! Never: opens a socket, keeps a file, or judges whether an instance answers; it only knows what
//! it was told, and when.
//! Start with [`Registry`]; [`Instance`] is what is told, `preservation.rs` when silence is
//! believed.
#![forbid(unsafe_code)]

mod instance;
mod limits;
mod preservation;
mod registry;

pub use instance::{
    Check, Instance, METADATA_KEY_BYTES_MAX, METADATA_VALUE_BYTES_MAX, NAME_BYTES_MAX, Refusal,
    Registration, TTL_MAX, TTL_MIN, ZONE_BYTES_MAX, is_id, is_service_name,
};
pub use limits::Limits;
pub use preservation::{Preservation, PreservationRule};
pub use registry::{Change, Counts, Listed, REPLACED, Registered, Registry, State};
