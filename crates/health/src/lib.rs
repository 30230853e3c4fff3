//! Whether an endpoint works: active checks as a state machine.
//!
//! For: when to check, and what results and evidence from traffic mean.
//! Never: sockets, clocks, timers; the shell runs the checks that [`Checker::handle_timeout`]
//! asks for and hands their results to [`Checker::handle_result`].
//! Start with [`Checker`].
#![forbid(unsafe_code)]

mod checker;
mod reason;

pub use checker::{Checker, StartCheck, State, Transition};
pub use reason::Reason;
