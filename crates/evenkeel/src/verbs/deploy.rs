use std::time::Duration;

use super::Verb;
use crate::failure::Failure;
use crate::output::say;
use crate::stack::{ComposeFile, Deployment, block_on};

/// Replace a service's containers by those of a new version, and go back if it is worse
#[derive(clap::Args)]
pub(super) struct Deploy {
    /// The service
    service: String,
    /// The new version's image; default: the file's, built again if it has a `build`
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    #[command(flatten)]
    file: ComposeFile,
    /// Pull the image though it is there
    #[arg(long)]
    pull: bool,
    /// Replace the containers though nothing has changed
    #[arg(long)]
    force: bool,
    /// How long a new container may take to be well
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = config::parse_duration)]
    timeout: Duration,
    /// How long the first new container is compared with the old ones
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = config::parse_duration)]
    watch: Duration,
}

impl Verb for Deploy {
    const NAME: &'static str = "deploy";

    fn run(self) -> Result<(), Failure> {
        let mut stack = self.file.open(std::slice::from_ref(&self.service))?;
        let how = Deployment {
            build: self.image.is_none(),
            image: self.image,
            pull: self.pull,
            force: self.force,
            within: self.timeout,
            watch: self.watch,
        };
        say(&block_on(stack.deploy(&self.service, &how))?)
    }
}
