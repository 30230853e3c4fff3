use std::path::PathBuf;

use super::Verb;
use super::check::{check, directory};
use crate::control::{self, Origin, read_file};
use crate::failure::Failure;
use crate::log::{self, LogLevel};

/// Run the load balancer as a configuration file says, and follow the file's changes
#[derive(clap::Args)]
pub(super) struct Run {
    /// The configuration file
    #[arg(short, long = "config", value_name = "FILE")]
    config: PathBuf,
    /// What to log on standard error
    #[arg(long, value_enum, default_value_t = LogLevel::Info, value_name = "LEVEL")]
    log: LogLevel,
}

impl Verb for Run {
    const NAME: &'static str = "run";

    fn run(self) -> Result<(), Failure> {
        log::start(self.log);
        let text = read_file(&self.config)?.into();
        let (checked, reader) = check(&self.config, &text)?;
        for warning in &checked.warnings {
            tracing::warn!("{warning}");
        }
        let directory = directory(&self.config)?;
        control::run(Origin {
            name: self.config.to_string_lossy().into_owned(),
            file: Some(self.config),
            directory,
            text,
            spec: checked.spec,
            reader,
        })
    }
}
