use std::process::ExitCode;

use super::Verb;
use crate::failure::Failure;

/// Ends the replicas when the balancer dies; started by the balancer itself
#[derive(clap::Args)]
pub(super) struct Watchdog {}

impl Verb for Watchdog {
    const NAME: &'static str = runner::watchdog::VERB;
    const HIDDEN: bool = true;

    fn run(self) -> Result<(), Failure> {
        if runner::watchdog::run() == ExitCode::SUCCESS { Ok(()) } else { Err(Failure::Said) }
    }
}
