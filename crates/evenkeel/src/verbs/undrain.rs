use super::Verb;
use super::drain::act;
use crate::client::AdminAddress;
use crate::failure::Failure;

/// Let a drained endpoint take part again
#[derive(clap::Args)]
pub(super) struct Undrain {
    #[arg(value_name = "SERVICE")]
    service: String,
    /// Its id, as `evenkeel status` shows it
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,
    #[command(flatten)]
    admin: AdminAddress,
}

impl Verb for Undrain {
    const NAME: &'static str = "undrain";

    fn run(self) -> Result<(), Failure> {
        act(&self.admin, &self.service, &self.endpoint, "undrain")
    }
}
