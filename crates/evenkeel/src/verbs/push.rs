use super::Verb;
use crate::failure::Failure;
use crate::stack::{ComposeFile, block_on};

/// Push the images that a Compose file builds to their registries, building those that are missing
#[derive(clap::Args)]
pub(super) struct Push {
    #[command(flatten)]
    file: ComposeFile,
    /// Build them anew
    #[arg(long)]
    build: bool,
    /// Only these services
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Verb for Push {
    const NAME: &'static str = "push";

    fn run(self) -> Result<(), Failure> {
        let stack = self.file.open(&self.services)?;
        let images = stack.image_names(&self.services, |service| service.build.is_some())?;
        block_on(async {
            stack.build_all(&self.services, self.build).await?;
            for image in &images {
                stack.push(image).await?;
            }
            Ok(())
        })
    }
}
