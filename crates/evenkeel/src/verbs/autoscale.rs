use std::time::Duration;

use super::Verb;
use crate::failure::Failure;
use crate::stack::{ComposeFile, block_on};

/// Let the number of a Compose file's containers follow their load, as `x-evenkeel` says
#[derive(clap::Args)]
pub(super) struct Autoscale {
    #[command(flatten)]
    file: ComposeFile,
    /// How often the load is looked at
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = config::parse_duration)]
    every: Duration,
}

impl Verb for Autoscale {
    const NAME: &'static str = "autoscale";

    fn run(self) -> Result<(), Failure> {
        let stack = self.file.open(&[])?;
        let every = self.every.max(Duration::from_millis(50));
        block_on(async {
            tokio::select! {
                ended = stack.autoscale(every) => ended,
                _ = tokio::signal::ctrl_c() => Ok(()),
            }
        })
    }
}
