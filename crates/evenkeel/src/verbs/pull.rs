use super::Verb;
use crate::failure::Failure;
use crate::stack::{ComposeFile, block_on};

/// Pull the images of a Compose file, those that it does not build
#[derive(clap::Args)]
pub(super) struct Pull {
    #[command(flatten)]
    file: ComposeFile,
    /// Only these services
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

impl Verb for Pull {
    const NAME: &'static str = "pull";

    fn run(self) -> Result<(), Failure> {
        let stack = self.file.open(&self.services)?;
        let images = stack.image_names(&self.services, |service| service.build.is_none())?;
        block_on(async {
            for image in &images {
                stack.pull(image).await?;
            }
            Ok(())
        })
    }
}
