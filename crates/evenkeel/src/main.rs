//! The binary: reads arguments, wires the parts together, and handles signals.
//!
//! For: the verbs of the command line (`docs/command-line.md`), and the supervisor that keeps the
//! running system as the configuration says.
//! Never: balances, forwards or checks anything itself.
//! Start with `verbs.rs` (one line for each verb), then `control.rs` for `evenkeel run`.
#![forbid(unsafe_code)]

mod client;
mod control;
mod echo;
mod failure;
mod log;
mod output;
mod register;
mod stack;
mod table;
mod verbs;

use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = verbs::dispatch();
    log::flush();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
