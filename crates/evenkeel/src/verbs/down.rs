use super::Verb;
use crate::failure::Failure;
use crate::stack::{ComposeFile, block_on};

/// Stop and remove what `up` has made: containers, networks, the balancer
#[derive(clap::Args)]
pub(super) struct Down {
    #[command(flatten)]
    file: ComposeFile,
    /// Remove named volumes, too, with all that is in them
    #[arg(short, long)]
    volumes: bool,
    /// Remove containers of services that the file has no more
    #[arg(long)]
    remove_orphans: bool,
}

impl Verb for Down {
    const NAME: &'static str = "down";

    fn run(self) -> Result<(), Failure> {
        let stack = self.file.open(&[])?;
        block_on(stack.down(self.volumes, self.remove_orphans))
    }
}
