use std::process::ExitCode;

use super::Verb;
use crate::echo;
use crate::failure::Failure;

/// A tiny HTTP, TCP and UDP service that names its replica, to try things out
#[derive(clap::Args)]
pub(super) struct Echo {
    #[command(flatten)]
    options: echo::Options,
}

impl Verb for Echo {
    const NAME: &'static str = "echo";

    fn run(self) -> Result<(), Failure> {
        if echo::run(self.options) == ExitCode::SUCCESS { Ok(()) } else { Err(Failure::Said) }
    }
}
