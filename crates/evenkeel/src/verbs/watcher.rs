use std::path::PathBuf;
use std::process::ExitCode;

use super::Verb;
use crate::failure::Failure;

/// Holds the socket of a container engine; started by the balancer itself
#[derive(clap::Args)]
pub(super) struct Watcher {
    /// What it is: docker
    provider: String,
    /// Where it is
    socket: PathBuf,
    /// Between looks at what containers use, in milliseconds; 0: never
    #[arg(default_value_t = 0)]
    statistics: u64,
}

impl Verb for Watcher {
    const NAME: &'static str = discovery::watcher::VERB;
    const HIDDEN: bool = true;

    fn run(self) -> Result<(), Failure> {
        let status = discovery::watcher::run(&self.provider, self.socket, self.statistics);
        if status == ExitCode::SUCCESS { Ok(()) } else { Err(Failure::Said) }
    }
}
