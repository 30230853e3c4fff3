use super::Verb;
use crate::failure::Failure;
use crate::stack::{ComposeFile, block_on};

/// Stop the services of a Compose file, and the balancer; `up` starts them again
#[derive(clap::Args)]
pub(super) struct Stop {
    #[command(flatten)]
    file: ComposeFile,
    /// Only these services; the balancer goes on
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Verb for Stop {
    const NAME: &'static str = "stop";

    fn run(self) -> Result<(), Failure> {
        let stack = self.file.open(&self.services)?;
        for name in &self.services {
            stack.service(name)?;
        }
        block_on(async {
            let _turn = stack.claim("stop").await?;
            let mut containers = stack.containers().await?;
            if self.services.is_empty() {
                // Clients first: what is in flight is finished, and nothing new comes.
                stack.balancer.stop()?;
            } else {
                containers.retain(|container| self.services.contains(&container.service));
            }
            stack.stop_all(&containers, false).await
        })
    }
}
