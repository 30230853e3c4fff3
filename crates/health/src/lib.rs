//! Whether an endpoint works: active checks, what its traffic says of it, and how it gets back to
//! its share, each as a state machine.
//!
//! For: when to check, and what results and evidence from traffic mean.
//! Never: sockets, clocks, timers; the shell runs the checks that [`Checker::handle_timeout`]
//! asks for and hands their results to [`Checker::handle_result`].
//! Start with [`Checker`], then [`Outlier`] and [`Ramp`]; none knows of other endpoints.
#![forbid(unsafe_code)]

mod checker;
mod outlier;
mod ramp;
mod reason;

pub use checker::{Checker, StartCheck, State, Transition};
pub use outlier::{Evidence, Outlier, Window};
pub use ramp::{Ramp, WINDOWS_MAX};
pub use reason::Reason;
